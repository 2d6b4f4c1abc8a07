//! The server disables a webhook whose receiver does not accept messages.
//!
//! Whether a receiver has failed for too long is decided by the task that sends the messages: after a failed attempt,
//! and when the time has passed, even if no attempt is due.
//!
//! Invariant: e11: pending messages are kept, and `stopped_sequence` is the last event that was queued. No event is
//! queued after it, since the position of the queue is locked meanwhile. It works even if the row of the webhook cannot
//! be read.

pub(in crate::resources::webhooks) mod store;

use serde_json::json;

use super::delivery::schedule::has_failed_too_long;
use super::store as webhooks;
use super::store::Head;
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::{Ending, Intent, Outcome};
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::types::WebhookId;
use crate::error::Error;
use crate::outbox::event_types;
use crate::status::code_and_reason;

/// What must still hold of a webhook that is to be disabled, besides that it is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing else.
    Active,
    /// It has this version: the reason may be about another address.
    Version(i64),
    /// It had failed for too long by this time: an attempt may have succeeded meanwhile.
    Failing(Timestamp),
}

impl Condition {
    fn holds(self, found: &Head) -> bool {
        found.is_active
            && match self {
                Self::Active => true,
                Self::Version(version) => version == found.version,
                Self::Failing(now) => has_failed_too_long(found.failing_since, found.failures, now),
            }
    }
}

/// Disables a webhook, with an event and an audit entry. Does nothing if the condition does not hold any more.
///
/// # Errors
/// `Conflict` if the lease was lost.
pub(super) async fn disable(
    ctx: &Ctx,
    lease: &Lease,
    (id, condition): (WebhookId, Condition),
    reason: &str,
) -> Result<(), Error> {
    let found = {
        let mut conn = ctx.db().read().await?;
        webhooks::head(&mut conn, id).await?
    };
    if !found.is_some_and(|found| condition.holds(&found)) {
        return Ok(());
    }
    let about = AuditSubject::new(Action::WEBHOOK_DISABLE, id.to_string());
    let detail = json!({ "webhook_id": id.get(), "reason": reason });
    let intent = Intent { detail: Some(detail), ..ctx.new_intent(about) };
    let (audit, at) = (&ctx.app().audit, intent.at);
    let entry = audit.open(intent).await?;
    let disabled = set_inactive(ctx, lease, (id, condition), reason).await;
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

async fn set_inactive(
    ctx: &Ctx,
    lease: &Lease,
    (id, condition): (WebhookId, Condition),
    reason: &str,
) -> Result<bool, Error> {
    ctx.transaction(async |tx| {
        leases::check_held(tx, lease).await?;
        let sequence = webhooks::lock_cursor(tx).await?;
        let found = webhooks::head(tx, id).await?.filter(|found| condition.holds(found));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::webhooks::delivery::schedule::{FAILING_MAX, FAILURES_MAX};

    #[test]
    fn a_webhook_is_disabled_only_while_the_condition_holds() {
        let since = Timestamp::from_unix_seconds(0);
        let now = since.plus(FAILING_MAX);
        let failing = Head {
            id: WebhookId(1),
            is_active: true,
            channel_type: "generic".to_owned(),
            failing_since: Some(since),
            failures: FAILURES_MAX,
            version: 7,
        };
        let inactive = Head { is_active: false, ..failing.clone() };
        for condition in [Condition::Active, Condition::Version(7), Condition::Failing(now)] {
            assert!(condition.holds(&failing) && !condition.holds(&inactive), "{condition:?}");
        }
        assert!(!Condition::Version(6).holds(&failing));
        let recovered = Head { failing_since: None, failures: 0, ..failing };
        assert!(!Condition::Failing(now).holds(&recovered));
    }
}
