//! The task of one webhook: reads due messages, sends several at once, and writes the results in batches.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use metrics::counter;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::DeliveryState;
use super::recipient::{Attempt, Recipient};
use super::schedule::{self, has_failed_too_long};
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::leases::{self, Lease};
use crate::db::types::{WebhookDeliveryId, WebhookId};
use crate::error::{Error, ResourceKind};
use crate::resources::webhooks::channels::{Outcome, Verdict};
use crate::resources::webhooks::deliveries::store::{
    self as deliveries, Delivery, Written, sql_time,
};
use crate::resources::webhooks::deliveries::{DeliveryStatus, attempt_bytes, earlier_attempts};
use crate::resources::webhooks::disabling;
use crate::resources::webhooks::store::{self, Webhook};
use crate::telemetry::metrics::WEBHOOK_DELIVERIES;
use crate::workers::keyed::KeyedTask;

/// Due messages that are read at once.
const READ_MAX: usize = 500;
/// Due messages that are read at once if they are large.
const READ_MIN: usize = 20;
/// Bytes of messages that wait in the memory of one webhook. There can be 200 webhooks.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Results in one transaction.
const RESULTS_MAX: usize = 200;
/// Longest time that a result waits for others.
const RESULTS_WAIT: Duration = Duration::from_millis(50);
/// Delay after results could not be written.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// Interval of looking for messages that another replica has queued, and for those that are due again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A message whose attempt has ended.
struct Ended {
    delivery: Delivery,
    attempt: Attempt,
    /// Version of the webhook that it was sent for.
    version: i64,
}

struct Sender {
    ctx: Ctx,
    lease: Arc<Lease>,
    id: WebhookId,
    recipient: Option<Arc<Recipient>>,
    queue: VecDeque<(Delivery, String)>,
    in_flight: FuturesUnordered<BoxFuture<'static, Ended>>,
    results: Vec<Ended>,
    /// Messages in the three above, which are still pending in the database.
    held: HashSet<WebhookDeliveryId>,
    /// Whether the last read may have left due messages.
    more: bool,
    /// Messages of the next read: fewer if those of the last one were large.
    read_max: usize,
    /// When the webhook is read again, on the clock that tests advance.
    look_at: Duration,
    /// When the next message may be started.
    start_at: Instant,
    /// When the results are written at the latest.
    write_at: Instant,
}

/// What a sender waits for.
enum Wake {
    Ended(Box<Ended>),
    Start,
    Write,
    Look,
}

/// Sends the messages of a webhook until it is deleted or inactive, or the task is canceled.
pub(super) async fn run(task: KeyedTask) {
    let Ok(id) = task.key.parse() else { return };
    let now = Instant::now();
    let mut sender = Sender {
        ctx: task.ctx,
        lease: task.lease,
        id: WebhookId(id),
        recipient: None,
        queue: VecDeque::new(),
        in_flight: FuturesUnordered::new(),
        results: Vec::new(),
        held: HashSet::new(),
        more: true,
        read_max: READ_MIN,
        look_at: Duration::ZERO,
        start_at: now,
        write_at: now,
    };
    match sender.run().await {
        Ok(()) => {}
        Err(error @ Error::Conflict { kind: ResourceKind::Lease, .. }) => {
            debug!(error = &error as &dyn std::error::Error, "another replica sends the messages");
        }
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "messages of a webhook are not sent");
        }
    }
}

impl Sender {
    async fn run(&mut self) -> Result<(), Error> {
        let app = Arc::clone(self.ctx.app());
        let mut queued = app.part::<DeliveryState>().subscribe(self.id);
        loop {
            queued.borrow_and_update();
            let look = app.clock.since_boot() >= self.look_at;
            if (look || (self.more && self.queue.is_empty())) && !self.try_read().await? {
                return self.write().await;
            }
            self.start();
            let has_room = self.queue.is_empty() && self.results.len() < RESULTS_MAX;
            let wake = tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.write_at), if !self.results.is_empty() => {
                    Wake::Write
                }
                Some(ended) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    Wake::Ended(Box::new(ended))
                }
                () = tokio::time::sleep_until(self.start_at), if self.can_start() => Wake::Start,
                // Cannot fail: the sender lives as long as its receivers.
                _ = queued.changed(), if has_room => Wake::Look,
                () = app.clock.sleep(self.look_at.saturating_sub(app.clock.since_boot())) => {
                    Wake::Look
                }
            };
            match wake {
                Wake::Start => {}
                Wake::Look => self.more = true,
                Wake::Write => self.try_write().await?,
                Wake::Ended(ended) => self.add_result(*ended).await?,
            }
        }
    }

    /// Reads as [`Self::read`] does, and later if the database fails.
    async fn try_read(&mut self) -> Result<bool, Error> {
        match self.read().await {
            Err(error @ (Error::Unavailable { .. } | Error::Exhausted { .. })) => {
                warn!(error = &error as &dyn std::error::Error, "messages are read later");
                self.more = false;
                Ok(true)
            }
            other => other,
        }
    }

    /// Reads the present state of the webhook, and due messages if none is left in the queue. Returns `false` if it
    /// sends no messages.
    async fn read(&mut self) -> Result<bool, Error> {
        self.look_at = self.ctx.app().clock.since_boot() + LOOK_EVERY;
        let limit = if self.queue.is_empty() { self.read_max + self.held.len() } else { 0 };
        let (webhook, rows) = {
            let mut conn = self.ctx.db().read().await?;
            let now = self.ctx.db().now(&mut conn).await?;
            let webhook = store::by_id(&mut conn, self.id).await?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = if limit == 0 {
                Vec::new()
            } else {
                deliveries::due(&mut conn, self.id, now, limit).await?
            };
            (webhook, rows)
        };
        let Some(webhook) = webhook.filter(|webhook| webhook.is_active) else { return Ok(false) };
        let is_current = |known: &Arc<Recipient>| known.version == webhook.version;
        if !self.recipient.as_ref().is_some_and(is_current) {
            self.recipient = Some(Arc::new(Recipient::open(self.ctx.app(), &webhook)?));
        }
        if limit == 0 {
            return Ok(true);
        }
        self.more = rows.len() == limit;
        self.enqueue(rows);
        Ok(true)
    }

    /// Adds messages to the queue that are not held yet, until it is full.
    fn enqueue(&mut self, rows: Vec<(Delivery, String)>) {
        let new = rows.into_iter().filter(|(row, _)| !self.held.contains(&row.id));
        let (kept, is_full) =
            within(new, QUEUE_BYTES_MAX, |(row, payload)| attempt_bytes(row) + payload.len());
        self.read_max = if is_full { kept.len() } else { self.read_max * 2 };
        self.read_max = self.read_max.clamp(READ_MIN, READ_MAX);
        self.more |= is_full;
        self.held.extend(kept.iter().map(|(row, _)| row.id));
        self.queue.extend(kept);
    }

    /// Whether a message waits only for its turn by `rate_per_second`.
    fn can_start(&self) -> bool {
        let most = self.recipient.as_ref().map_or(0, |recipient| recipient.max_in_flight);
        !self.queue.is_empty() && self.in_flight.len() < most && self.results.len() < RESULTS_MAX
    }

    /// Starts as many messages as the limits allow.
    fn start(&mut self) {
        while self.can_start() && self.start_at <= Instant::now() {
            let (Some(recipient), Some((delivery, payload))) =
                (self.recipient.clone(), self.queue.pop_front())
            else {
                return;
            };
            if let Some(rate) = recipient.rate_per_second {
                self.start_at = Instant::now() + Duration::from_secs(1) / rate.unsigned_abs();
            }
            self.in_flight.push(Box::pin(async move {
                let attempt = recipient.attempt(&delivery.message_id, &payload).await;
                Ended { delivery, attempt, version: recipient.version }
            }));
        }
    }

    async fn add_result(&mut self, ended: Ended) -> Result<(), Error> {
        if self.results.is_empty() {
            self.write_at = Instant::now() + RESULTS_WAIT;
        }
        self.results.push(ended);
        if self.results.len() >= RESULTS_MAX { self.try_write().await } else { Ok(()) }
    }

    /// Writes the results, and later if the database fails.
    async fn try_write(&mut self) -> Result<(), Error> {
        match self.write().await {
            Err(error @ (Error::Unavailable { .. } | Error::Exhausted { .. })) => {
                warn!(error = &error as &dyn std::error::Error, "results are written later");
                self.write_at = Instant::now() + WRITE_AGAIN;
                Ok(())
            }
            other => other,
        }
    }

    /// Writes the results in one transaction. Disables the webhook if its receiver wants no messages or has failed for
    /// too long.
    async fn write(&mut self) -> Result<(), Error> {
        if self.results.is_empty() {
            return Ok(());
        }
        let (ctx, id, results) = (&self.ctx, self.id, &self.results);
        let (statuses, version, failing) = ctx
            .db()
            .transaction(async |conn| {
                leases::check_held(conn, &self.lease).await?;
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
        let unwanted = results.iter().any(is_unwanted);
        for ended in self.results.drain(..) {
            self.held.remove(&ended.delivery.id);
        }
        let reason = match (unwanted, failing) {
            (true, _) => "the receiver responded with 410",
            (false, true) => "no success for 5 days, and at least 10 failed attempts",
            (false, false) => return Ok(()),
        };
        disabling::disable(&self.ctx, &self.lease, (self.id, Some(version)), reason).await?;
        self.more = true;
        Ok(())
    }
}

/// Takes items until their sizes reach a limit. Returns them, and whether others may be left.
fn within<T>(
    items: impl Iterator<Item = T>,
    bytes_max: usize,
    size: impl Fn(&T) -> usize,
) -> (Vec<T>, bool) {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for item in items {
        bytes += size(&item);
        kept.push(item);
        if bytes >= bytes_max {
            return (kept, true);
        }
    }
    (kept, false)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_in_memory_is_limited_in_bytes() {
        let take = |sizes: &[usize]| {
            let (kept, is_full) = within(sizes.iter().copied(), 10, |size| *size);
            (kept.len(), is_full)
        };
        assert_eq!(take(&[]), (0, false));
        assert_eq!(take(&[1, 2, 3]), (3, false));
        assert_eq!(take(&[5, 5, 5]), (2, true));
        assert_eq!(take(&[50, 1]), (1, true), "a large message is sent, too");
    }
}
