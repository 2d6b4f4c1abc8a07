//! Writes the results of attempts: many in one transaction.
//!
//! Invariants
//! - e11: a result is stored only if the lease is held: another replica that sends the messages has not seen it;
//! - a webhook is to be disabled only for what its present version has received, since it may have a new address;
//! - a result can be written again: the state of a message is stored as a whole, and a failed attempt that may have been
//!   counted is not counted again.

use metrics::counter;

use super::recipient::Attempt;
use super::schedule::{self, FAILED_TOO_LONG, has_failed_too_long};
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::leases::{self, Lease};
use crate::db::types::WebhookId;
use crate::error::{Error, ResourceKind};
use crate::resources::webhooks::channels::{Outcome, Verdict};
use crate::resources::webhooks::deliveries::store::{
    self as deliveries, Delivery, Written, sql_time,
};
use crate::resources::webhooks::deliveries::{DeliveryStatus, earlier_attempts};
use crate::resources::webhooks::store::{self, Webhook};
use crate::telemetry::metrics::WEBHOOK_DELIVERIES;

/// A message whose attempt has ended.
pub(super) struct Ended {
    /// The message, as it was read.
    pub(super) delivery: Delivery,
    /// The attempt.
    pub(super) attempt: Attempt,
    /// Version of the webhook that it was sent for.
    pub(super) version: i64,
    /// Whether a write whose commit is in doubt may have counted it as failed.
    pub(super) may_be_counted: bool,
}

/// What written results mean for their webhook.
pub(super) struct Consequence {
    /// Version of the webhook.
    pub(super) version: i64,
    /// Why it is to be disabled.
    pub(super) disable: Option<&'static str>,
}

/// Whether the database may accept the same results later. They are then written again, even if the first write may have
/// been stored.
pub(super) fn may_pass(error: &Error) -> bool {
    error.is_in_doubt()
        || matches!(
            error,
            Error::Unavailable { .. }
                | Error::Exhausted { .. }
                | Error::DeadlineExceeded { .. }
                // A deadlock with a deletion or with messages that are to be sent again.
                | Error::Conflict { kind: ResourceKind::Row, .. }
        )
}

/// Writes results in one transaction.
///
/// # Errors
/// Those of the database; `Conflict` if the lease was lost.
pub(super) async fn write(
    ctx: &Ctx,
    lease: &Lease,
    id: WebhookId,
    results: &[Ended],
) -> Result<Consequence, Error> {
    let (statuses, version, failing) = ctx
        .db()
        .transaction(async |conn| {
            leases::check_held(conn, lease).await?;
            let now = ctx.db().now(conn).await?;
            let random = || ctx.app().new_id().as_bytes()[0];
            let mut rows: Vec<Written> = results
                .iter()
                .map(|ended| written(ended, now, random()))
                .collect::<Result<_, _>>()?;
            // The order in which they are usually locked, which makes deadlocks with other writers rare.
            rows.sort_unstable_by_key(|row| row.id);
            deliveries::write(conn, &rows).await?;
            let statuses: Vec<&'static str> = rows.iter().map(|row| row.status).collect();
            let Some(webhook) = store::by_id(conn, id).await? else {
                return Ok((statuses, 0, false));
            };
            let failing = count_failures(conn, &webhook, results, now).await?;
            Ok((statuses, webhook.version, failing))
        })
        .await?;
    for status in statuses {
        counter!(WEBHOOK_DELIVERIES, "status" => status).increment(1);
    }
    // What a receiver said before the webhook was changed may be about another address.
    let is_unwanted = |ended: &Ended| {
        ended.version == version && ended.attempt.outcome.verdict == Verdict::Unwanted
    };
    let disable = match (results.iter().any(is_unwanted), failing) {
        (true, _) => Some("the receiver responded with 410"),
        (false, true) => Some(FAILED_TOO_LONG),
        (false, false) => None,
    };
    Ok(Consequence { version, disable })
}

/// Returns the new state of a message.
fn written(ended: &Ended, now: Timestamp, random: u8) -> Result<Written, Error> {
    let (delivery, outcome) = (&ended.delivery, &ended.attempt.outcome);
    let attempt = delivery.attempt;
    let delay = schedule::delay(attempt, random, outcome.retry_after);
    let (status, attempt, next_at) = match (outcome.verdict, delay) {
        (Verdict::Delivered, _) => (DeliveryStatus::Success, attempt, None),
        (Verdict::Retry | Verdict::Unwanted, Some(delay)) => {
            (DeliveryStatus::Pending, attempt + 1, Some(sql_time(now.plus(delay))))
        }
        (Verdict::Retry | Verdict::Unwanted, None) | (Verdict::Failed, _) => {
            (DeliveryStatus::Failed, attempt, None)
        }
    };
    let Outcome { code, error, snippet, .. } = outcome.clone();
    Ok(Written {
        id: delivery.id.get(),
        status: status.as_str(),
        attempt,
        code: code.map(i32::from),
        error,
        delivered: (status == DeliveryStatus::Success).then(|| sql_time(now)),
        next_at,
        last_at: Some(sql_time(ended.attempt.started_at)),
        duration: Some(i32::try_from(ended.attempt.took.as_millis()).unwrap_or(i32::MAX)),
        snippet,
        attempts: earlier_attempts(delivery)?,
    })
}

/// Stores the failed attempts since the last success. Returns whether the receiver has failed for too long.
async fn count_failures(
    conn: &mut Conn,
    webhook: &Webhook,
    results: &[Ended],
    now: Timestamp,
) -> Result<bool, Error> {
    let present: Vec<Counted> = results
        .iter()
        .filter(|ended| ended.version == webhook.version)
        .map(|ended| Counted {
            is_success: ended.attempt.outcome.verdict == Verdict::Delivered,
            may_be_counted: ended.may_be_counted,
        })
        .collect();
    let before = (webhook.failures, webhook.failing_since);
    let (failures, since) = failures_after(before, &present, now);
    if (failures, since) != before {
        store::set_failures(conn, (webhook.id, webhook.version), since, failures).await?;
    }
    Ok(webhook.is_active && has_failed_too_long(since, failures, now))
}

/// What counts of an attempt.
struct Counted {
    is_success: bool,
    may_be_counted: bool,
}

/// Returns the failed attempts since the last success, and the time of the first of them.
fn failures_after(
    before: (i32, Option<Timestamp>),
    ended: &[Counted],
    now: Timestamp,
) -> (i32, Option<Timestamp>) {
    let last_success = ended.iter().rposition(|one| one.is_success);
    let ((count, since), failed) = if let Some(at) = last_success {
        ((0, None), ended.len() - at - 1)
    } else {
        (before, ended.iter().filter(|one| !one.may_be_counted).count())
    };
    let failures = count.saturating_add(i32::try_from(failed).unwrap_or(i32::MAX));
    (failures, since.or((failures > 0).then_some(now)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Reason;

    #[test]
    fn a_failed_attempt_is_counted_once_since_the_last_success() {
        let (then, now) = (Timestamp::from_unix_seconds(1), Timestamp::from_unix_seconds(2));
        let (success, failure, repeated) = ((true, false), (false, false), (false, true));
        let none = (0, None);
        for (before, ended, expected) in [
            (none, vec![], none),
            (none, vec![failure, failure], (2, Some(now))),
            ((3, Some(then)), vec![failure], (4, Some(then))),
            ((3, Some(then)), vec![success], none),
            ((3, Some(then)), vec![failure, success, failure], (1, Some(now))),
            ((3, Some(then)), vec![repeated, failure], (4, Some(then))),
            // A success sets the number, so that nothing is counted twice.
            ((3, Some(then)), vec![success, repeated], (1, Some(now))),
        ] {
            let count = |(is_success, may_be_counted)| Counted { is_success, may_be_counted };
            let shown = format!("{before:?} {ended:?}");
            let ended: Vec<Counted> = ended.into_iter().map(count).collect();
            assert_eq!(failures_after(before, &ended, now), expected, "{shown}");
        }
    }

    #[test]
    fn results_are_kept_while_the_database_may_accept_them_later() {
        let busy = Error::Exhausted { reason: Reason::Busy, retry_in: Duration::from_secs(1) };
        for error in [
            Error::unavailable(Reason::StorageUnavailable, "away"),
            busy,
            Error::DeadlineExceeded { why: "late".to_owned() },
            Error::conflict(ResourceKind::Row, "transaction"),
            Error::in_doubt("no answer".to_owned()),
        ] {
            assert!(may_pass(&error), "{error:?}");
        }
        for error in [Error::conflict(ResourceKind::Lease, "x"), Error::internal("broken")] {
            assert!(!may_pass(&error), "{error:?}");
        }
    }
}
