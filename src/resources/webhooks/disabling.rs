//! The server disables a webhook whose receiver does not accept messages.
//!
//! Invariant: e11: pending messages are kept, and `stopped_sequence` is the last event that was queued. No event is
//! queued after it, since the position of the queue is locked meanwhile. It works also if the row of the webhook cannot
//! be read.

use serde_json::json;

use super::store::{self, Head};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::{Ending, Intent, Outcome};
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::types::WebhookId;
use crate::error::Error;
use crate::outbox::event_types;
use crate::status::code_and_reason;

/// Disables a webhook, with an event and an audit entry. Does nothing if it is not active, or does not have the given
/// version any more: the reason may be about another address.
///
/// # Errors
/// `Conflict` if the lease was lost.
pub(super) async fn disable(
    ctx: &Ctx,
    lease: &Lease,
    (id, version): (WebhookId, Option<i64>),
    reason: &str,
) -> Result<(), Error> {
    let found = {
        let mut conn = ctx.db().read().await?;
        store::head(&mut conn, id).await?
    };
    if !found.is_some_and(|found| is_meant(&found, version)) {
        return Ok(());
    }
    let about = AuditSubject::new(Action::WEBHOOK_DISABLE, id.to_string());
    let detail = json!({ "webhook_id": id.get(), "reason": reason });
    let intent = Intent { detail: Some(detail), ..ctx.new_intent(about) };
    let (audit, at) = (&ctx.app().audit, intent.at);
    let entry = audit.open(intent).await?;
    let disabled = set_inactive(ctx, lease, (id, version), reason).await;
    let now = ctx.now();
    let (ending, code) = match &disabled {
        Ok(_) => (Ending::Ok, 0),
        Err(error) => (Ending::Failed, code_and_reason(error).0 as i32),
    };
    let detail = matches!(disabled, Ok(false)).then(|| json!({ "outcome": "noop" }));
    let outcome = Outcome { took: now.since(at), detail, ..Outcome::new(now, ending, code) };
    audit.close(entry, outcome).await?;
    disabled.map(|_| ())
}

fn is_meant(found: &Head, version: Option<i64>) -> bool {
    found.is_active && version.is_none_or(|version| version == found.version)
}

async fn set_inactive(
    ctx: &Ctx,
    lease: &Lease,
    (id, version): (WebhookId, Option<i64>),
    reason: &str,
) -> Result<bool, Error> {
    ctx.transaction(async |tx| {
        leases::check_held(tx, lease).await?;
        let sequence = store::lock_cursor(tx).await?;
        let found = store::head(tx, id).await?.filter(|found| is_meant(found, version));
        let Some(webhook) = found else {
            return Ok(false);
        };
        let now = ctx.db().now(tx).await?;
        if !store::disable(tx, &webhook, now, reason, sequence).await? {
            return Ok(false);
        }
        let payload = json!({
            "webhook_id": id.get(),
            "channel": webhook.channel_type,
            "reason": reason,
            "stopped_sequence": sequence,
        });
        tx.emit(ctx.new_event(event_types::WEBHOOK_DISABLED, payload)).await?;
        Ok(true)
    })
    .await
}
