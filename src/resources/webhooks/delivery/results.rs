//! Writes the results of attempts: many in one transaction.
//!
//! Invariants
//! - e11: a result is stored only if the lease is held: another replica that sends the messages has not seen it;
//! - a webhook is to be disabled only for what its present version has received.

use metrics::counter;

use super::recipient::Attempt;
use super::schedule::{self, has_failed_too_long};
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::leases::{self, Lease};
use crate::db::types::WebhookId;
use crate::error::Error;
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
}

/// What written results mean for their webhook.
pub(super) struct Consequence {
    /// Version of the webhook.
    pub(super) version: i64,
    /// Why it is to be disabled.
    pub(super) disable: Option<&'static str>,
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
            let rows: Vec<Written> = results
                .iter()
                .map(|ended| written(ended, now, random()))
                .collect::<Result<_, _>>()?;
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
        (false, true) => Some("no success for 5 days, and at least 10 failed attempts"),
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
    let is_success = |ended: &&Ended| ended.attempt.outcome.verdict == Verdict::Delivered;
    let failed = results.iter().rev().take_while(|ended| !is_success(ended)).count();
    let (before, since) =
        if failed < results.len() { (0, None) } else { (webhook.failures, webhook.failing_since) };
    let failures = before.saturating_add(i32::try_from(failed).unwrap_or(i32::MAX));
    let since = since.or((failures > 0).then_some(now));
    if (failures, since) != (webhook.failures, webhook.failing_since) {
        store::set_failures(conn, webhook.id, since, failures).await?;
    }
    Ok(webhook.is_active && has_failed_too_long(since, failures, now))
}
