//! Reads of a webhook and its due messages.

use super::now_and_ahead;
use super::queue::Waiting;
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::types::WebhookId;
use crate::error::Error;
use crate::resources::webhooks::deliveries::store as deliveries;
use crate::resources::webhooks::store::{self, Webhook};

/// Result of reading a webhook.
pub(super) struct Read {
    /// The row; `None` if it was deleted.
    pub(super) webhook: Option<Webhook>,
    /// Due messages.
    pub(super) rows: Vec<Waiting>,
    /// The database's time.
    pub(super) now: Timestamp,
    /// By how much the database's clock is ahead of this replica's, in microseconds.
    pub(super) ahead_us: i64,
    /// Maximum number of rows; 0 if only the webhook was read.
    pub(super) limit: usize,
}

/// Reads the present state of a webhook, and its due messages that are not held.
pub(super) async fn read(
    ctx: &Ctx,
    id: WebhookId,
    held: &[i64],
    limit: usize,
) -> Result<Read, Error> {
    let mut conn = ctx.db().read().await?;
    let (now, ahead_us) = now_and_ahead(ctx, &mut conn).await?;
    let webhook = store::by_id(&mut conn, id).await?;
    let rows = if limit == 0 {
        Vec::new()
    } else {
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        deliveries::due(&mut conn, id, now, held, most).await?
    };
    Ok(Read { webhook, rows, now, ahead_us, limit })
}
