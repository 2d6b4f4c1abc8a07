//! Messages of webhooks: their states and lists. `redelivery` sends them again.
//!
//! Invariants
//! - e11: a message is pending until its receiver has accepted it or it has failed;
//! - the earlier attempts are kept, at most 10.

pub mod redelivery;
pub mod store;

use crate::ctx::{Ctx, ListKey};
use crate::db::page::PageSize;
use crate::db::types::WebhookId;
use crate::error::Error;
use crate::words;

use self::store::{Delivery, PastAttempt};
use super::domain;

/// Messages per transaction.
const BATCH: usize = 1_000;
/// Maximum size of the attempts of a page, in bytes: clients accept 4 MiB by default.
const PAGE_BYTES_MAX: usize = 2 << 20;
/// Earlier attempts that are kept.
const EARLIER_MAX: usize = 10;

words! {
    /// State of a message.
    pub enum DeliveryStatus {
        /// It will be sent, or sent again.
        Pending = "pending",
        /// The receiver has accepted it.
        Success = "success",
        /// It is not sent again.
        Failed = "failed",
    }
}

/// Returns a page of the messages of a webhook, newest first. It has fewer than requested if their attempts are long.
pub async fn list(
    ctx: &Ctx,
    webhook: WebhookId,
    status: Option<DeliveryStatus>,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Delivery>, String), Error> {
    domain::check_exists(ctx, webhook).await?;
    let filter = format!("{webhook} {}", status.map_or("", DeliveryStatus::as_str));
    let list =
        ListKey { method: "ListWebhookDeliveries", filter: filter.as_bytes(), order: "id desc" };
    let page = ctx.page_request::<i64>(list, size, token)?;
    let mut conn = ctx.db().read().await?;
    let after = page.after().copied();
    let rows = store::page(&mut conn, webhook, status, after, page.limit()).await?;
    let (mut rows, more) = size.truncate(rows);
    let fits = fitting(rows.iter().map(attempt_bytes));
    let is_cut = fits < rows.len();
    rows.truncate(fits);
    page.finish_truncated((rows, more || is_cut), |last| last.id.get())
}

/// Returns how many rows of these sizes fit a page: at least one, since the list would not get past it.
fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let mut total = 0;
    let fits = sizes.take_while(|size| {
        total += size;
        total <= PAGE_BYTES_MAX
    });
    fits.count().max(1)
}

/// Returns about how many bytes the attempts of a message have.
#[must_use]
pub(super) fn attempt_bytes(row: &Delivery) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let earlier = row.attempts_json.0.iter().map(|one| text(&one.error) + text(&one.snippet));
    earlier.sum::<usize>() + text(&row.error_message) + text(&row.response_snippet)
}

/// Deletes the finished messages of a webhook that is deleted next, in batches: there can be millions of them, and
/// deleting all at once would block other writers or take too long. Pending ones, whose number is limited, are deleted
/// with the webhook: if that fails, none is lost (e11).
///
/// # Errors
/// Those of the database.
pub(super) async fn delete_finished_of(ctx: &Ctx, webhook: WebhookId) -> Result<(), Error> {
    for status in [DeliveryStatus::Success, DeliveryStatus::Failed] {
        while delete_some(ctx, webhook, status).await? >= BATCH {}
    }
    Ok(())
}

async fn delete_some(
    ctx: &Ctx,
    webhook: WebhookId,
    status: DeliveryStatus,
) -> Result<usize, Error> {
    ctx.long_transaction(async |tx| {
        store::delete_in_state(tx, webhook, status, batch_limit()).await
    })
    .await
}

fn batch_limit() -> i64 {
    i64::try_from(BATCH).unwrap_or(i64::MAX)
}

/// Returns the last attempt of a message; `None` before its first one.
#[must_use]
pub fn last_attempt(row: &Delivery) -> Option<PastAttempt> {
    let at = row.last_attempt_at?;
    Some(PastAttempt {
        at_us: at.unix_micros(),
        duration_ms: row.duration_ms.unwrap_or_default(),
        code: row.response_code,
        error: row.error_message.clone(),
        snippet: row.response_snippet.clone(),
    })
}

/// Returns the attempts before the present one as JSON: the earlier ones of the row, and its last one.
pub(super) fn earlier_attempts(row: &Delivery) -> Result<String, Error> {
    let mut attempts = row.attempts_json.0.clone();
    attempts.extend(last_attempt(row));
    earlier_as_json(attempts)
}

fn earlier_as_json(mut attempts: Vec<PastAttempt>) -> Result<String, Error> {
    let surplus = attempts.len().saturating_sub(EARLIER_MAX);
    attempts.drain(..surplus);
    serde_json::to_string(&attempts).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_with_long_attempts_is_cut() {
        assert_eq!(fitting([PAGE_BYTES_MAX / 2; 3].into_iter()), 2);
        assert_eq!(fitting([PAGE_BYTES_MAX + 1, 1].into_iter()), 1);
        assert_eq!(fitting([0; 1_000].into_iter()), 1_000);
    }

    #[test]
    fn at_most_10_earlier_attempts_are_kept() {
        let of =
            |at_us| PastAttempt { at_us, duration_ms: 1, code: None, error: None, snippet: None };
        let json = earlier_as_json((0..15).map(of).collect()).unwrap();
        let kept: Vec<PastAttempt> = serde_json::from_str(&json).unwrap();
        assert_eq!(
            kept.iter().map(|one| one.at_us).collect::<Vec<_>>(),
            (5..15).collect::<Vec<_>>()
        );
    }
}
