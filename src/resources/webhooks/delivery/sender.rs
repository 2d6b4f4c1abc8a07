//! The task of one webhook: reads due messages, sends several at once, and writes the results in batches. Reads and
//! writes happen while messages are sent.
//!
//! Invariants
//! - a message is sent once at a time: it is held from its read until its result is written, and a read skips the
//!   messages that are held when it begins;
//! - a message leaves the queue when it has a turn (`turns`), so that waiting for a connection is no failed attempt;
//! - one read and one write are in progress at most, so that results are written in the order in which attempts ended;
//! - the messages that were sent and whose results are not stored are bounded: while the database fails, no more are
//!   sent (`queue::may_start`). Their results are kept until the database accepts them, and written before the task ends.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::DeliveryState;
use super::queue::{QUEUE_BYTES_MAX, RESULTS_MAX, Waiting, bytes_of, may_start, size_of, within};
use super::reading::{Read, read};
use super::recipient::Recipient;
use super::results::{self, Consequence, Ended, may_pass};
use super::schedule::{FAILED_TOO_LONG, has_failed_too_long};
use super::turns::Turns;
use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::db::types::{WebhookDeliveryId, WebhookId};
use crate::error::{Error, ResourceKind};
use crate::net::spawn_owned;
use crate::resources::webhooks::connections::SlotHolder;
use crate::resources::webhooks::disabling::{self, Condition};
use crate::resources::webhooks::outbound::Outbound;
use crate::workers::keyed::KeyedTask;

/// Due messages that are read at once.
const READ_MAX: usize = 500;
/// Due messages that are read at once if they are large.
const READ_MIN: usize = 20;
/// Messages that are left in the queue when others are read.
const QUEUE_LOW: usize = 100;
/// Longest time that a result waits for others.
const RESULTS_WAIT: Duration = Duration::from_millis(50);
/// How long a task that ends waits for the messages in flight, so that they are not sent again. Less than the time that
/// it has to end.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// Delay after results could not be written.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// Interval of looking for messages that another replica has queued, and for those that are due again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Results, and the outcome of their write.
type WriteDone = (Vec<Ended>, Result<Consequence, Error>);

struct Sender {
    ctx: Ctx,
    lease: Arc<Lease>,
    cancel: CancellationToken,
    id: WebhookId,
    recipient: Option<Arc<Recipient>>,
    turns: Turns,
    /// As in [`Read`].
    ahead_us: i64,
    queue: VecDeque<Waiting>,
    in_flight: FuturesUnordered<BoxFuture<'static, Ended>>,
    results: Vec<Ended>,
    writing: Option<BoxFuture<'static, WriteDone>>,
    reading: Option<BoxFuture<'static, Result<Read, Error>>>,
    /// Messages in the queue, in flight, and with results that are not yet written: still pending in the database.
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

/// Reason for which a sender wakes.
enum Wake {
    Canceled,
    Ended(Box<Ended>),
    Written(WriteDone),
    Read(Box<Result<Read, Error>>),
    Queued,
    /// The time of something has come.
    Time,
}

/// Sends the messages of a webhook until it is deleted or inactive, or the task is canceled.
pub(super) async fn run(task: KeyedTask) {
    let Ok(id) = task.key.parse().map(WebhookId) else { return };
    let now = Instant::now();
    let connections = task.ctx.app().part::<Outbound>().connections();
    let turns = Turns::new(connections, SlotHolder::Webhook(id));
    let mut sender = Sender {
        ctx: task.ctx,
        lease: task.lease,
        cancel: task.cancel,
        id,
        recipient: None,
        turns,
        ahead_us: 0,
        queue: VecDeque::new(),
        in_flight: FuturesUnordered::new(),
        results: Vec::new(),
        writing: None,
        reading: None,
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

/// Starts a task that uses the database and ends with its sender. SQLite blocks the task that uses it, and the sender
/// must not stop meanwhile.
fn start_task<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(spawn_owned(work))
}

/// Waits for a future, and removes it. Never ends without a future.
async fn finished<T>(running: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = running else { return std::future::pending().await };
    let done = future.await;
    *running = None;
    done
}

impl Sender {
    async fn run(&mut self) -> Result<(), Error> {
        let app = Arc::clone(self.ctx.app());
        let mut queued = app.part::<DeliveryState>().subscribe(self.id);
        let cancel = self.cancel.clone();
        loop {
            self.begin_read();
            self.start();
            self.begin_write();
            let can_write = self.writing.is_none() && !self.results.is_empty();
            let can_start = self.can_start() && !self.turns.is_waiting();
            let can_look = self.reading.is_none();
            let look_in = self.look_at.saturating_sub(app.clock.since_boot());
            let wake = tokio::select! {
                biased;
                () = cancel.cancelled() => Wake::Canceled,
                done = finished(&mut self.writing) => Wake::Written(done),
                read = finished(&mut self.reading) => Wake::Read(Box::new(read)),
                Some(ended) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    Wake::Ended(Box::new(ended))
                }
                () = tokio::time::sleep_until(self.write_at), if can_write => Wake::Time,
                () = tokio::time::sleep_until(self.start_at), if can_start => Wake::Time,
                () = self.turns.granted() => Wake::Time,
                // Cannot fail: the sender lives as long as its receivers.
                _ = queued.changed() => Wake::Queued,
                () = app.clock.sleep(look_in), if can_look => Wake::Time,
            };
            match wake {
                Wake::Time => {}
                Wake::Queued => self.more = true,
                Wake::Ended(ended) => self.add_result(*ended),
                Wake::Written(done) => {
                    self.finish_write(done).await?;
                }
                Wake::Read(read) => match self.finish_read(*read).await {
                    Ok(true) => {}
                    Ok(false) => {
                        let finished = self.finish().await;
                        app.part::<DeliveryState>().forget(self.id);
                        return finished;
                    }
                    Err(error) => {
                        // Only the webhook cannot be read: what was sent is stored nevertheless.
                        self.finish().await?;
                        return Err(error);
                    }
                },
                Wake::Canceled => return self.finish().await,
            }
        }
    }

    /// Begins to read the present state of the webhook, and due messages if few are left in the queue.
    fn begin_read(&mut self) {
        let now = self.ctx.app().clock.since_boot();
        let is_due = now >= self.look_at;
        if self.reading.is_some() || !(is_due || self.more) {
            return;
        }
        let is_low = self.queue.len() <= QUEUE_LOW && bytes_of(&self.queue) <= QUEUE_BYTES_MAX / 4;
        if !is_due && !is_low {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let limit = if is_low { self.read_max } else { 0 };
        let held: Vec<i64> = self.held.iter().copied().map(WebhookDeliveryId::get).collect();
        // Messages that are queued while it reads set it again.
        self.more &= !is_low;
        let (ctx, id) = (self.ctx.clone(), self.id);
        let read = start_task(async move { read(&ctx, id, &held, limit).await });
        self.reading = Some(Box::pin(async move { read.await.map_err(Error::internal)? }));
    }

    /// Adds what was read. Disables the webhook if its receiver has failed for too long: no attempt may be due that
    /// decides it. Returns `false` if the webhook sends no messages.
    async fn finish_read(&mut self, read: Result<Read, Error>) -> Result<bool, Error> {
        let read = match read {
            Ok(read) => read,
            Err(error) if may_pass(&error) => {
                warn!(error = &error as &dyn std::error::Error, "messages are read later");
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let Some(webhook) = read.webhook.filter(|webhook| webhook.is_active) else {
            return Ok(false);
        };
        let has_failed = has_failed_too_long(webhook.failing_since, webhook.failures, read.now);
        // An attempt that is open, or whose result is not stored, may be a success.
        if has_failed && self.is_settled() {
            self.disable(Condition::Failing(read.now), FAILED_TOO_LONG).await?;
            return Ok(true);
        }
        let is_current = |known: &Arc<Recipient>| known.version == webhook.version;
        if !self.recipient.as_ref().is_some_and(is_current) {
            self.recipient = Some(Arc::new(Recipient::open(self.ctx.app(), &webhook)?));
        }
        self.ahead_us = read.ahead_us;
        if read.limit > 0 {
            self.more |= read.rows.len() == read.limit;
            self.enqueue(read.rows);
        }
        Ok(true)
    }

    /// Whether the results of all attempts are stored.
    fn is_settled(&self) -> bool {
        self.in_flight.is_empty() && self.results.is_empty() && self.writing.is_none()
    }

    /// Adds messages to the queue, until it is full. None of them is held: only a read adds messages.
    fn enqueue(&mut self, rows: Vec<Waiting>) {
        let room = QUEUE_BYTES_MAX.saturating_sub(bytes_of(&self.queue));
        let (kept, is_full) = within(rows.into_iter(), room, size_of);
        self.read_max = if is_full { kept.len() } else { self.read_max * 2 };
        self.read_max = self.read_max.clamp(READ_MIN, READ_MAX);
        self.more |= is_full;
        self.held.extend(kept.iter().map(|(row, _)| row.id));
        self.queue.extend(kept);
    }

    /// Whether a message waits only for `rate_per_second` and its turn.
    fn can_start(&self) -> bool {
        let most = self.recipient.as_ref().map_or(0, |recipient| recipient.max_in_flight);
        self.in_flight.len() < most.min(self.turns.share())
            && may_start(self.queue.len(), self.held.len())
    }

    /// Starts as many messages as the limits allow.
    fn start(&mut self) {
        while self.can_start() && self.start_at <= Instant::now() {
            let Some(recipient) = self.recipient.clone() else { return };
            let Some(turn) = self.turns.take(&recipient) else { return };
            let Some((delivery, payload)) = self.queue.pop_front() else { return };
            if let Some(rate) = recipient.rate_per_second {
                self.start_at = Instant::now() + Duration::from_secs(1) / rate.unsigned_abs();
            }
            let ahead_us = self.ahead_us;
            self.in_flight.push(Box::pin(async move {
                let id = &delivery.message_id;
                let attempt = recipient.attempt(turn, id, payload, ahead_us).await;
                Ended { delivery, attempt, version: recipient.version, may_be_counted: false }
            }));
        }
        self.turns.give_up();
    }

    fn add_result(&mut self, ended: Ended) {
        if self.results.is_empty() {
            self.write_at = Instant::now() + RESULTS_WAIT;
        }
        self.results.push(ended);
        if self.results.len() == RESULTS_MAX {
            self.write_at = Instant::now();
        }
    }

    /// Begins to write the results if they have waited long enough.
    fn begin_write(&mut self) {
        let is_due = !self.results.is_empty() && self.write_at <= Instant::now();
        if self.writing.is_some() || !is_due {
            return;
        }
        let count = self.results.len().min(RESULTS_MAX);
        let results: Vec<Ended> = self.results.drain(..count).collect();
        let (ctx, lease, id) = (self.ctx.clone(), Arc::clone(&self.lease), self.id);
        let write = start_task(async move {
            let written = results::write(&ctx, &lease, id, &results).await;
            (results, written)
        });
        self.writing = Some(Box::pin(async move {
            write.await.unwrap_or_else(|error| (Vec::new(), Err(Error::internal(error))))
        }));
    }

    /// Forgets results that were written, and keeps them if the database has failed. Disables the webhook if its
    /// receiver wants no messages or has failed for too long. Returns whether they were written.
    async fn finish_write(&mut self, (mut results, written): WriteDone) -> Result<bool, Error> {
        let consequence = match written {
            Ok(consequence) => consequence,
            Err(error) if may_pass(&error) => {
                warn!(error = &error as &dyn std::error::Error, "results are written later");
                for ended in &mut results {
                    ended.may_be_counted |= error.is_in_doubt();
                }
                let later = std::mem::replace(&mut self.results, results);
                self.results.extend(later);
                self.write_at = Instant::now() + WRITE_AGAIN;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        for ended in results {
            self.held.remove(&ended.delivery.id);
        }
        let Consequence { version, disable } = consequence;
        if let Some(reason) = disable {
            self.disable(Condition::Version(version), reason).await?;
        }
        Ok(true)
    }

    async fn disable(&mut self, condition: Condition, reason: &str) -> Result<(), Error> {
        match disabling::disable(&self.ctx, &self.lease, (self.id, condition), reason).await {
            // Reads that it is inactive.
            Ok(()) => self.look_at = Duration::ZERO,
            Err(error @ Error::Conflict { kind: ResourceKind::Lease, .. }) => return Err(error),
            // The next failed attempt, or the next read, decides again.
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "a webhook is not disabled yet");
            }
        }
        Ok(())
    }

    /// Waits a moment for the messages in flight, and writes the results that are left.
    async fn finish(&mut self) -> Result<(), Error> {
        self.turns.give_up();
        let until = Instant::now() + LAST_WAIT;
        while let Ok(Some(ended)) = timeout_at(until, self.in_flight.next()).await {
            self.add_result(ended);
        }
        loop {
            self.write_at = Instant::now();
            self.begin_write();
            if self.writing.is_none() {
                return Ok(());
            }
            let done = finished(&mut self.writing).await;
            if !self.finish_write(done).await? {
                return Ok(());
            }
        }
    }
}
