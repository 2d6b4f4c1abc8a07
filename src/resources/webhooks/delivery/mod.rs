//! Sends the messages of webhooks: one task for each webhook with work, on the replica that holds its lease.
//!
//! Invariants
//! - e11: what is being sent is only in memory. After a crash the rows are still pending, and are sent again;
//! - e13: each webhook has its own task, connections and limits, and its own share of all connections, so a slow
//!   receiver delays no other one;
//! - results are written in batches, in a transaction that proves the lease, while other messages are sent. A task that
//!   ends waits a moment for the messages in flight;
//! - a webhook gets a task even if its receiver has failed for too long, so that the task disables it when the time has
//!   passed, and not only at the next attempt;
//! - at most `max_in_flight` messages are being sent, and `rate_per_second` are started, for each webhook.

mod connection;
mod post;
mod queue;
mod reading;
pub mod recipient;
mod results;
pub mod schedule;
mod sender;
mod sign;
mod turns;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::connection::Turn;
use self::post::ATTEMPT_TIME;
use self::recipient::{Attempt, Recipient};
use self::schedule::{FAILING_MAX, FAILURES_MAX};
use super::channels::{Message, Outcome, Verdict, generic};
use super::connections::SlotHolder;
use super::deliveries::store as deliveries;
use super::outbound::Outbound;
use super::subscriptions::TEST_EVENT;
use super::{disabling, domain, fanout};
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::WebhookId;
use crate::error::Error;
use crate::workers::keyed::Keyed;

/// Time before a message is due in which its webhook gets a task.
const SOON: Duration = Duration::from_secs(2);
/// Time for which a webhook keeps its task, and with it its connections, after it last needed one.
const LINGER: Duration = Duration::from_mins(1);
/// Text of the message that tests a webhook.
const TEST_TEXT: &str = "This is a test of a webhook of Shoreguard.";
/// Error of a test that has waited for as long as an attempt may take.
const NO_CONNECTION: &str = "all connections for tests of webhooks were in use for 15 s";

/// The tasks that send messages. Its keys are the ids of webhooks.
pub const DELIVERY: Keyed = Keyed {
    kind: "webhook",
    look_every: Duration::from_millis(250),
    wake: Some(|app| &app.part::<DeliveryState>().wakeup),
    keys: |ctx| Box::pin(keys(ctx)),
    run: |task| Box::pin(sender::run(task)),
    end_within: Duration::from_secs(1),
};

/// State that the tasks of this process share.
#[derive(Debug, Default)]
pub struct DeliveryState {
    /// Each changes when this process queues messages of its webhook: others need not look.
    queued: Mutex<HashMap<WebhookId, watch::Sender<u64>>>,
    /// When a webhook last needed a task.
    last_wanted: Mutex<HashMap<WebhookId, Instant>>,
    /// Reports messages of a webhook without a task here.
    wakeup: Notify,
}

impl DeliveryState {
    /// Reports that messages of these webhooks were queued: to their tasks, and if one has no task here, to
    /// [`DELIVERY`], which starts tasks.
    pub(super) fn notify_queued(&self, webhooks: impl IntoIterator<Item = WebhookId>) {
        let queued = self.queued.lock();
        for webhook in webhooks {
            match queued.get(&webhook).filter(|sender| sender.receiver_count() > 0) {
                Some(sender) => sender.send_modify(|count| *count = count.wrapping_add(1)),
                // Its task is on another replica, or is started again soon.
                None if self.last_wanted.lock().contains_key(&webhook) => {}
                None => self.wakeup.notify_one(),
            }
        }
    }

    /// Reports that the task of a webhook has ended by itself: it needs another one only when a message is due. A key
    /// that it kept would start that task at the next renewal only.
    fn forget(&self, webhook: WebhookId) {
        self.last_wanted.lock().remove(&webhook);
    }

    /// Returns a receiver that changes when messages of a webhook are queued.
    fn subscribe(&self, webhook: WebhookId) -> watch::Receiver<u64> {
        let mut queued = self.queued.lock();
        queued.retain(|_, sender| sender.receiver_count() > 0);
        queued.entry(webhook).or_default().subscribe()
    }

    /// Adds those webhooks that needed a task a short time ago.
    fn with_recent(&self, wanted: Vec<WebhookId>, now: Instant) -> BTreeSet<String> {
        let mut last_wanted = self.last_wanted.lock();
        last_wanted.extend(wanted.into_iter().map(|webhook| (webhook, now)));
        last_wanted.retain(|_, at| now.saturating_duration_since(*at) < LINGER);
        last_wanted.keys().map(ToString::to_string).collect()
    }
}

/// Returns the webhooks that need a task. Sets the number of those that share the connections, whether or not they have
/// messages: a share must be free when the first message is due.
async fn keys(ctx: &Ctx) -> Result<BTreeSet<String>, Error> {
    let (wanted, active) = {
        let mut conn = ctx.db().read().await?;
        let now = ctx.db().now(&mut conn).await?;
        let mut wanted = deliveries::webhooks_with_due(&mut conn, now.plus(SOON)).await?;
        let since = now.minus(FAILING_MAX);
        wanted.extend(disabling::store::failing(&mut conn, since, FAILURES_MAX).await?);
        (wanted, deliveries::active_webhooks(&mut conn).await?)
    };
    let active = usize::try_from(active).unwrap_or_default();
    ctx.app().part::<Outbound>().connections().set_webhooks(active);
    Ok(ctx.app().part::<DeliveryState>().with_recent(wanted, Instant::now()))
}

/// Returns the time of the database, and by how much it is ahead of this replica's, in microseconds.
async fn now_and_ahead(ctx: &Ctx, conn: &mut Conn) -> Result<(Timestamp, i64), Error> {
    let now = ctx.db().now(conn).await?;
    let own = ctx.app().clock.now();
    Ok((now, now.unix_micros().saturating_sub(own.unix_micros())))
}

/// Sends one test message, outside of the subscription, and returns the result.
///
/// # Errors
/// `WEBHOOK_INACTIVE`, `WEBHOOK_UNREADABLE`.
pub async fn test(ctx: &Ctx, id: WebhookId) -> Result<Attempt, Error> {
    ctx.set_audit_target(id.to_string());
    // First, so that nothing that is read of the webhook changes while the test waits.
    let connections = ctx.app().part::<Outbound>().connections();
    let slot = ctx.app().clock.timeout(ATTEMPT_TIME, connections.acquire(SlotHolder::Tests)).await;
    let webhook = domain::find_active(ctx, id).await?;
    let recipient = Recipient::open(ctx.app(), &webhook)?;
    let (now, ahead_us) = {
        let mut conn = ctx.db().read().await?;
        now_and_ahead(ctx, &mut conn).await?
    };
    let data = json!({ "webhook_id": id.get(), "message": TEST_TEXT });
    let message = Message {
        id: fanout::new_message_id(ctx.app()),
        event: TEST_EVENT.to_owned(),
        time: now,
        sequence: 0,
        data: data.as_object().cloned().unwrap_or_default(),
        link: None,
    };
    let payload = String::from_utf8_lossy(&generic::body(&message).bytes).into_owned();
    // Access may have changed while the webhook was read.
    ctx.recheck()?;
    let attempt = match slot {
        Some(slot) => recipient.attempt(Turn::new(slot), &message.id, payload, ahead_us).await,
        None => Attempt {
            started_at: now,
            took: ATTEMPT_TIME,
            outcome: Outcome::not_delivered(Verdict::Retry, None, NO_CONNECTION),
        },
    };
    ctx.add_audit_detail("delivered", attempt.outcome.verdict == Verdict::Delivered);
    ctx.add_audit_detail("response_code", attempt.outcome.code);
    Ok(attempt)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_the_webhooks_of_queued_messages_are_woken() {
        let state = DeliveryState::default();
        let [one, two, gone] = [1, 2, 3].map(|id| state.subscribe(WebhookId(id)));
        drop(gone);
        let is_woken = || state.wakeup.notified().now_or_never().is_some();
        state.notify_queued([WebhookId(1)]);
        assert!(!is_woken(), "it has a task");
        state.notify_queued([WebhookId(3), WebhookId(4)]);
        assert!(is_woken() && !is_woken(), "they need a task");
        assert!(one.has_changed().unwrap() && !two.has_changed().unwrap());
        let again = state.subscribe(WebhookId(1));
        assert!(!again.has_changed().unwrap() && one.has_changed().unwrap());
        assert_eq!(state.queued.lock().len(), 2, "those without a receiver are forgotten");
    }

    #[test]
    fn a_webhook_keeps_its_task_for_a_minute_after_its_last_message_was_due() {
        let (state, start) = (DeliveryState::default(), Instant::now());
        let keys = |due: &[i64], after: Duration| {
            let due = due.iter().copied().map(WebhookId).collect();
            state.with_recent(due, start + after).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(keys(&[1, 2], Duration::ZERO), ["1", "2"]);
        assert_eq!(keys(&[2], Duration::from_secs(30)), ["1", "2"]);
        assert_eq!(keys(&[], Duration::from_mins(1)), ["2"]);
        assert_eq!(keys(&[], Duration::from_secs(90)), Vec::<String>::new());
        assert_eq!(keys(&[3, 4], Duration::from_secs(90)), ["3", "4"]);
        state.forget(WebhookId(3));
        assert_eq!(keys(&[], Duration::from_secs(90)), ["4"]);
    }
}
