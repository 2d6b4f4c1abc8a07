//! The only task of a replica that writes the audit log. Entries that arrive while it waits for a connection are in its
//! batch, and those that arrive while it writes form the next one.
//!
//! Invariants
//! - the caller that waits for an entry gets a response when its batch is durable, or when it will not be stored;
//! - if the caller hung up before its entry was stored, this task writes the entry's outcome. If a commit got no
//!   response, the entry is written again with the same id and an outcome, so that it is stored once, whether the first
//!   write was stored, failed, or is still in progress;
//! - outcomes that could not be stored are retried separately, so that they do not delay newer ones;
//! - no caller waits for an outcome: it waits a short time for an entry, with which it is stored;
//! - a batch that the database rejects is halved until the rejected row is alone in its batch;
//! - after a failure, the log is tried again without a call: a replica that is not ready gets none.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::batch::{self, AuditRow, Batch, BatchError, IdPool, OutcomeUpdate};
use super::recorder::{NotWritten, Shared, StoreRequest, StoreResult};
use super::unclaimed::{self, EntryCloser, UnclaimedEntry};
use super::upsert::InDoubtEntry;
use super::{refusal_counts, repeats};
use crate::clock::Clock;
use crate::db::types::AuditId;
use crate::db::{Conn, Db};
use crate::error::Error;
use crate::telemetry::metrics::{AUDIT_BATCH, AUDIT_COMMIT, AUDIT_FAILED_BATCHES, AUDIT_QUEUE};

/// First delay before outcomes are retried; it doubles with each failure.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest delay before outcomes are retried.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Interval at which the counts of refusals are written.
const COUNTS_EVERY: Duration = Duration::from_mins(1);
/// Maximum number of counts that wait while the database is unavailable: all that one minute can produce.
const COUNTS_MAX: usize = refusal_counts::KEYS_MAX + 2 * repeats::KEYS_MAX;
/// How long an outcome waits for an entry, so that each cycle of a caller has one batch and not two.
const OUTCOME_DELAY: Duration = Duration::from_millis(5);
/// How long a stopping process tries to store pending entries.
const DRAIN_WAIT: Duration = Duration::from_secs(10);
/// An id that no entry has.
const NO_ENTRY: AuditId = AuditId(0);
/// gRPC's UNAVAILABLE: the caller got the response that nothing has happened.
const CODE_UNAVAILABLE: i32 = 14;

pub(super) struct Writer {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) owner: Arc<str>,
    pub(super) batch_max: usize,
    pub(super) entries: mpsc::Receiver<StoreRequest>,
    pub(super) closings: mpsc::UnboundedReceiver<OutcomeUpdate>,
    /// Closes unclaimed entries.
    pub(super) closer: EntryCloser,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) shared: Arc<Shared>,
    pub(super) ids: IdPool,
    pub(super) retry_queue: RetryQueue,
}

/// The rows to retry.
#[derive(Default)]
pub(super) struct RetryQueue {
    /// Outcomes that could not be stored.
    closings: Vec<OutcomeUpdate>,
    /// Entries without a waiting caller: counts of refusals.
    counts: Vec<AuditRow>,
    /// Entries that may be stored, since the response to their commit was lost.
    in_doubt: Vec<InDoubtEntry>,
    failures: u32,
    at: Option<Instant>,
}

/// Entries, the channels of their waiting callers in the same order, and outcomes. Entries without a channel are
/// counts.
struct WriteJob {
    batch: Batch,
    waiting: Vec<oneshot::Sender<StoreResult>>,
}

enum Wakeup {
    Entry,
    Outcome,
    Retry,
    WriteCounts,
    Stop,
}

impl RetryQueue {
    fn is_empty(&self) -> bool {
        self.closings.is_empty() && self.counts.is_empty() && self.in_doubt.is_empty()
    }

    /// Schedules a retry. The delay grows with each failure.
    fn schedule_retry(&mut self) {
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(6)).min(RETRY_MAX);
        self.failures += 1;
        self.at = Some(Instant::now() + wait);
    }
}

impl Writer {
    pub(super) async fn run(mut self) {
        let mut minute = tokio::time::interval_at(Instant::now() + COUNTS_EVERY, COUNTS_EVERY);
        loop {
            let mut job = WriteJob { batch: Batch::default(), waiting: Vec::new() };
            let is_written = self.shared.writable.load(Ordering::Relaxed);
            let retry_at =
                self.retry_queue.at.filter(|_| !is_written || !self.retry_queue.is_empty());
            let woken = tokio::select! {
                Some(request) = self.entries.recv() => { job.push(request); Wakeup::Entry }
                Some(closing) = self.closings.recv() => {
                    job.batch.closings.push(closing);
                    Wakeup::Outcome
                }
                () = sleep_until(retry_at) => Wakeup::Retry,
                _ = minute.tick() => Wakeup::WriteCounts,
                () = wait_for_stop(&mut self.stopping) => Wakeup::Stop,
            };
            match woken {
                Wakeup::Entry => {}
                Wakeup::Outcome => self.wait_for_entry(&mut job).await,
                Wakeup::Retry => self.retry().await,
                Wakeup::WriteCounts => self.collect_counts(),
                Wakeup::Stop => break,
            }
            self.fill(&mut job);
            if job.batch.len() == 0 {
                continue;
            }
            let conn = self.db.writer().await;
            // Without a connection, entries that have arrived meanwhile do not fail: they wait for one of their own.
            if conn.is_ok() {
                self.fill(&mut job);
            }
            self.write(job, Some(conn)).await;
        }
        self.drain().await;
    }

    /// Waits for an entry that is stored with the outcomes of a job, unless they fill a batch.
    async fn wait_for_entry(&mut self, job: &mut WriteJob) {
        if self.closings.len() >= self.batch_max {
            return;
        }
        let entry = tokio::time::timeout(OUTCOME_DELAY, self.entries.recv());
        if let Ok(Some(request)) = entry.await {
            job.push(request);
        }
    }

    /// Adds all rows that have arrived, up to the size of a batch.
    fn fill(&mut self, job: &mut WriteJob) {
        gauge!(AUDIT_QUEUE).set(to_f64(self.entries.len()));
        while job.batch.entries.len() < self.batch_max
            && let Ok(request) = self.entries.try_recv()
        {
            job.push(request);
        }
        while job.batch.closings.len() < self.batch_max
            && let Ok(closing) = self.closings.try_recv()
        {
            job.batch.closings.push(closing);
        }
    }

    /// Writes a job, on `conn` if it is given.
    async fn write(&mut self, job: WriteJob, mut conn: Option<Result<Conn, Error>>) {
        let mut todo = vec![job];
        while let Some(mut job) = todo.pop() {
            if job.batch.len() == 0 {
                continue;
            }
            histogram!(AUDIT_BATCH).record(to_f64(job.batch.len()));
            let conn = match conn.take() {
                Some(conn) => conn,
                None => self.db.writer().await,
            };
            let begun = Instant::now();
            let (batch, written) = batch::write(&self.db, conn, &mut self.ids, job.batch).await;
            job.batch = batch;
            match written {
                Ok(ids) => {
                    histogram!(AUDIT_COMMIT).record(begun.elapsed());
                    self.on_stored(job, &ids);
                }
                // The database rejects a row.
                Err(BatchError { error: Error::Internal(_) | Error::Invalid { .. }, .. })
                    if job.batch.len() > 1 =>
                {
                    let (first, second) = job.split_in_half();
                    todo.extend([second, first]);
                }
                Err(why) => self.on_failed(job, &why),
            }
        }
    }

    fn on_stored(&mut self, job: WriteJob, ids: &[AuditId]) {
        self.shared.writable.store(true, Ordering::Relaxed);
        self.settle_outcomes(job.batch.closings.len() + job.batch.in_doubt.len());
        for (answer, id) in job.waiting.into_iter().zip(ids) {
            // If the caller has hung up, only this task knows of an open entry. A closed entry stays as it is.
            if let Err(Ok(unclaimed)) = answer.send(Ok(UnclaimedEntry::new(*id, &self.closer))) {
                self.close_abandoned(unclaimed.claim());
            }
        }
    }

    /// Closes an entry whose caller has hung up.
    fn close_abandoned(&mut self, id: AuditId) {
        let end = unclaimed::caller_gone_outcome(&self.clock);
        self.shared.unstored.send_modify(|count| *count += 1);
        self.retry_queue.closings.push(OutcomeUpdate { id, end });
        self.retry_queue.at.get_or_insert_with(Instant::now);
    }

    fn on_failed(&mut self, job: WriteJob, why: &BatchError) {
        self.shared.writable.store(false, Ordering::Relaxed);
        counter!(AUDIT_FAILED_BATCHES).increment(1);
        let rows = job.batch.len();
        warn!(error = &why.error as &dyn std::error::Error, rows, "the audit log was not written");
        let Batch { mut entries, closings, in_doubt } = job.batch;
        self.retry_queue.closings.extend(closings);
        self.retry_queue.in_doubt.extend(in_doubt);
        if why.in_doubt.is_empty() {
            self.retry_queue.counts.extend(entries.split_off(job.waiting.len().min(entries.len())));
        } else {
            let away = "the audit log was unavailable";
            let end = unclaimed::nothing_happened_outcome(&self.clock, CODE_UNAVAILABLE, away);
            let in_doubt = why.in_doubt.iter().zip(entries.drain(..));
            let in_doubt: Vec<_> = in_doubt
                .map(|(id, entry)| InDoubtEntry {
                    id: *id,
                    entry: entry.close_if_open(|| end.clone()),
                })
                .collect();
            self.shared.unstored.send_modify(|count| *count += in_doubt.len());
            self.retry_queue.in_doubt.extend(in_doubt);
        }
        for answer in job.waiting {
            // Fails if the caller has hung up.
            let _ = answer.send(Err(NotWritten));
        }
        self.retry_queue.schedule_retry();
    }

    /// Retries all rows that could not be stored. Without any, checks whether rows can be stored.
    async fn retry(&mut self) {
        self.retry_queue.at = None;
        if self.retry_queue.is_empty() {
            self.check_writable().await;
            return;
        }
        let mut left = mem::take(&mut self.retry_queue.closings);
        let mut counts = mem::take(&mut self.retry_queue.counts);
        let mut doubts = mem::take(&mut self.retry_queue.in_doubt);
        let failures = self.retry_queue.failures;
        while !(left.is_empty() && counts.is_empty() && doubts.is_empty()) {
            let closings = left.split_off(left.len().saturating_sub(self.batch_max));
            let entries = counts.split_off(counts.len().saturating_sub(self.batch_max));
            let in_doubt = doubts.split_off(doubts.len().saturating_sub(self.batch_max));
            let batch = Batch { entries, closings, in_doubt };
            self.write(WriteJob { batch, waiting: Vec::new() }, None).await;
            if self.retry_queue.failures > failures {
                self.retry_queue.closings.append(&mut left);
                self.retry_queue.counts.append(&mut counts);
                self.retry_queue.in_doubt.append(&mut doubts);
                return;
            }
        }
        self.retry_queue.failures = 0;
    }

    /// Finds out whether entries can be stored again, by an outcome of no entry.
    async fn check_writable(&mut self) {
        let end = unclaimed::caller_gone_outcome(&self.clock);
        let closings = vec![OutcomeUpdate { id: NO_ENTRY, end }];
        let conn = self.db.writer().await;
        let batch = Batch { closings, ..Batch::default() };
        let (_, written) = batch::write(&self.db, conn, &mut self.ids, batch).await;
        if written.is_ok() {
            self.retry_queue.failures = 0;
            self.shared.writable.store(true, Ordering::Relaxed);
        } else {
            self.retry_queue.schedule_retry();
        }
    }

    fn collect_counts(&mut self) {
        let now = self.clock.now();
        let mut entries = refusal_counts::entries(self.shared.anonymous.take(), now, &self.owner);
        entries.extend(self.shared.repeats.take(now, &self.owner));
        if entries.is_empty() {
            return;
        }
        // Bounds the counts that wait while the database is unavailable.
        let room = COUNTS_MAX.saturating_sub(self.retry_queue.counts.len());
        self.retry_queue.counts.extend(entries.into_iter().take(room));
        self.retry_queue.at.get_or_insert_with(Instant::now);
    }

    async fn drain(&mut self) {
        self.entries.close();
        self.closings.close();
        let until = Instant::now() + DRAIN_WAIT;
        loop {
            let mut job = WriteJob { batch: Batch::default(), waiting: Vec::new() };
            self.fill(&mut job);
            if job.batch.len() == 0 {
                break;
            }
            self.write(job, None).await;
        }
        self.collect_counts();
        while !self.retry_queue.is_empty() && Instant::now() < until {
            sleep_until(self.retry_queue.at).await;
            self.retry().await;
        }
        let left = self.retry_queue.closings.len() + self.retry_queue.in_doubt.len();
        if left > 0 {
            warn!(left, "outcomes are not stored; another replica closes them as `unknown`");
        }
        info!("the audit log is written");
    }

    fn settle_outcomes(&self, stored: usize) {
        if stored > 0 {
            self.shared.unstored.send_modify(|count| *count = count.saturating_sub(stored));
        }
    }
}

impl WriteJob {
    fn push(&mut self, request: StoreRequest) {
        self.batch.entries.push(request.entry);
        self.waiting.push(request.answer);
    }

    fn split_in_half(mut self) -> (Self, Self) {
        let Batch { entries, closings, in_doubt } = &mut self.batch;
        if !in_doubt.is_empty() && entries.len() + closings.len() > 0 {
            // Puts the rows in doubt into a batch of their own.
            let in_doubt = mem::take(in_doubt);
            let batch = Batch { in_doubt, ..Batch::default() };
            return (Self { batch, waiting: Vec::new() }, self);
        }
        let in_doubt = in_doubt.split_off(in_doubt.len() / 2);
        let entries = entries.split_off(entries.len() / 2);
        let closings = closings.split_off(closings.len().div_ceil(2));
        let waiting = self.waiting.split_off(self.batch.entries.len().min(self.waiting.len()));
        (self, Self { batch: Batch { entries, closings, in_doubt }, waiting })
    }
}

/// Waits for the signal to stop, or until its sender is dropped.
async fn wait_for_stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count in a metric")]
fn to_f64(count: usize) -> f64 {
    count as f64
}
