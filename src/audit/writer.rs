//! The only task of a replica that writes the audit log. Entries that arrive while it writes form the next batch.
//!
//! Invariants
//! - the caller that waits for an entry gets a response when its batch is durable, or when it will not be stored;
//! - if the caller hung up before its entry was stored, this task writes the entry's outcome. If a commit got no
//!   response, the entry is written again with the same id and an outcome, so that it is stored once, whether the first
//!   write was stored, failed, or is still in progress;
//! - outcomes that could not be stored are retried separately, so that they do not delay newer ones;
//! - a batch that the database rejects is halved until the rejected row is alone in its batch.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::batch::{self, Batch, Closing, Entry, Ids, NotStored};
use super::recorder::{Asked, NotWritten, Shared, Stored};
use super::unclaimed::{self, Desk, Unclaimed};
use super::upsert::Doubtful;
use super::{refusal_counts, repeats};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::types::AuditId;
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
/// How long a stopping process tries to store pending entries.
const DRAIN_WAIT: Duration = Duration::from_secs(10);
/// gRPC's UNAVAILABLE: the caller got the response that nothing has happened.
const CODE_UNAVAILABLE: i32 = 14;

pub(super) struct Writer {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) owner: Arc<str>,
    pub(super) batch_max: usize,
    pub(super) entries: mpsc::Receiver<Asked>,
    pub(super) closings: mpsc::UnboundedReceiver<Closing>,
    /// Closes unclaimed entries.
    pub(super) desk: Desk,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) shared: Arc<Shared>,
    pub(super) ids: Ids,
    pub(super) later: Later,
}

/// The rows to retry.
#[derive(Default)]
pub(super) struct Later {
    /// Outcomes that could not be stored.
    closings: Vec<Closing>,
    /// Entries without a waiting caller: counts of refusals.
    counts: Vec<Entry>,
    /// Entries that may be stored, since the response to their commit was lost.
    doubtful: Vec<Doubtful>,
    failures: u32,
    at: Option<Instant>,
}

/// Entries, the channels of their waiting callers in the same order, and outcomes. Entries without a channel are
/// counts.
struct Work {
    batch: Batch,
    waiting: Vec<oneshot::Sender<Stored>>,
}

enum Woken {
    ByWork,
    ToRetry,
    ToCount,
    ToStop,
}

impl Later {
    fn is_empty(&self) -> bool {
        self.closings.is_empty() && self.counts.is_empty() && self.doubtful.is_empty()
    }

    /// Schedules a retry. The delay grows with each failure.
    fn failed(&mut self) {
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(6)).min(RETRY_MAX);
        self.failures += 1;
        self.at = Some(Instant::now() + wait);
    }
}

impl Writer {
    pub(super) async fn run(mut self) {
        let mut minute = tokio::time::interval_at(Instant::now() + COUNTS_EVERY, COUNTS_EVERY);
        loop {
            let mut work = Work { batch: Batch::default(), waiting: Vec::new() };
            let retry_at = self.later.at.filter(|_| !self.later.is_empty());
            let woken = tokio::select! {
                Some(asked) = self.entries.recv() => { work.ask(asked); Woken::ByWork }
                Some(closing) = self.closings.recv() => {
                    work.batch.closings.push(closing);
                    Woken::ByWork
                }
                () = at(retry_at) => Woken::ToRetry,
                _ = minute.tick() => Woken::ToCount,
                () = stopped(&mut self.stopping) => Woken::ToStop,
            };
            match woken {
                Woken::ByWork => {}
                Woken::ToRetry => self.retry().await,
                Woken::ToCount => self.keep_counts(),
                Woken::ToStop => break,
            }
            self.fill(&mut work);
            self.write(work).await;
        }
        self.drain().await;
    }

    /// Adds all rows that have arrived, up to the size of a batch.
    fn fill(&mut self, work: &mut Work) {
        gauge!(AUDIT_QUEUE).set(to_f64(self.entries.len()));
        while work.batch.entries.len() < self.batch_max
            && let Ok(asked) = self.entries.try_recv()
        {
            work.ask(asked);
        }
        while work.batch.closings.len() < self.batch_max
            && let Ok(closing) = self.closings.try_recv()
        {
            work.batch.closings.push(closing);
        }
    }

    async fn write(&mut self, work: Work) {
        let mut todo = vec![work];
        while let Some(mut work) = todo.pop() {
            if work.batch.len() == 0 {
                continue;
            }
            histogram!(AUDIT_BATCH).record(to_f64(work.batch.len()));
            let begun = Instant::now();
            let (batch, written) = batch::write(&self.db, &mut self.ids, work.batch).await;
            work.batch = batch;
            match written {
                Ok(ids) => {
                    histogram!(AUDIT_COMMIT).record(begun.elapsed());
                    self.stored(work, &ids);
                }
                // The database rejects a row.
                Err(NotStored { error: Error::Internal(_) | Error::Invalid { .. }, .. })
                    if work.batch.len() > 1 =>
                {
                    let (first, second) = work.halves();
                    todo.extend([second, first]);
                }
                Err(why) => self.not_stored(work, &why),
            }
        }
    }

    fn stored(&mut self, work: Work, ids: &[AuditId]) {
        self.shared.writable.store(true, Ordering::Relaxed);
        self.settle(work.batch.closings.len() + work.batch.doubtful.len());
        for (answer, id) in work.waiting.into_iter().zip(ids) {
            // If the caller has hung up, only this task knows of an open entry. A closed entry stays as it is.
            if let Err(Ok(unclaimed)) = answer.send(Ok(Unclaimed::new(*id, &self.desk))) {
                self.abandon(unclaimed.claim());
            }
        }
    }

    /// Closes an entry whose caller has hung up.
    fn abandon(&mut self, id: AuditId) {
        let end = unclaimed::caller_gone(&self.clock);
        self.shared.unstored.send_modify(|count| *count += 1);
        self.later.closings.push(Closing { id, end });
        self.later.at.get_or_insert_with(Instant::now);
    }

    fn not_stored(&mut self, work: Work, why: &NotStored) {
        self.shared.writable.store(false, Ordering::Relaxed);
        counter!(AUDIT_FAILED_BATCHES).increment(1);
        let rows = work.batch.len();
        warn!(error = &why.error as &dyn std::error::Error, rows, "the audit log was not written");
        let Batch { mut entries, closings, doubtful } = work.batch;
        self.later.closings.extend(closings);
        self.later.doubtful.extend(doubtful);
        if why.in_doubt.is_empty() {
            self.later.counts.extend(entries.split_off(work.waiting.len().min(entries.len())));
        } else {
            let away = "the audit log was away";
            let end = unclaimed::nothing_happened(&self.clock, CODE_UNAVAILABLE, away);
            let doubtful = why.in_doubt.iter().zip(entries.drain(..));
            let doubtful: Vec<_> = doubtful
                .map(|(id, entry)| Doubtful { id: *id, entry: entry.closed(|| end.clone()) })
                .collect();
            self.shared.unstored.send_modify(|count| *count += doubtful.len());
            self.later.doubtful.extend(doubtful);
        }
        for answer in work.waiting {
            // Fails if the caller has hung up.
            let _ = answer.send(Err(NotWritten));
        }
        self.later.failed();
    }

    /// Retries all rows that could not be stored.
    async fn retry(&mut self) {
        self.later.at = None;
        let mut left = mem::take(&mut self.later.closings);
        let mut counts = mem::take(&mut self.later.counts);
        let mut doubts = mem::take(&mut self.later.doubtful);
        let failures = self.later.failures;
        while !(left.is_empty() && counts.is_empty() && doubts.is_empty()) {
            let closings = left.split_off(left.len().saturating_sub(self.batch_max));
            let entries = counts.split_off(counts.len().saturating_sub(self.batch_max));
            let doubtful = doubts.split_off(doubts.len().saturating_sub(self.batch_max));
            let batch = Batch { entries, closings, doubtful };
            self.write(Work { batch, waiting: Vec::new() }).await;
            if self.later.failures > failures {
                self.later.closings.append(&mut left);
                self.later.counts.append(&mut counts);
                self.later.doubtful.append(&mut doubts);
                return;
            }
        }
        self.later.failures = 0;
    }

    fn keep_counts(&mut self) {
        let now = self.clock.now();
        let mut entries = refusal_counts::entries(self.shared.anonymous.take(), now, &self.owner);
        entries.extend(self.shared.repeats.take(now, &self.owner));
        if entries.is_empty() {
            return;
        }
        // Bounds the counts that wait while the database is unavailable.
        let room = COUNTS_MAX.saturating_sub(self.later.counts.len());
        self.later.counts.extend(entries.into_iter().take(room));
        self.later.at.get_or_insert_with(Instant::now);
    }

    async fn drain(&mut self) {
        self.entries.close();
        self.closings.close();
        let until = Instant::now() + DRAIN_WAIT;
        loop {
            let mut work = Work { batch: Batch::default(), waiting: Vec::new() };
            self.fill(&mut work);
            if work.batch.len() == 0 {
                break;
            }
            self.write(work).await;
        }
        self.keep_counts();
        while !self.later.is_empty() && Instant::now() < until {
            at(self.later.at).await;
            self.retry().await;
        }
        let left = self.later.closings.len() + self.later.doubtful.len();
        if left > 0 {
            warn!(left, "outcomes are not stored; another replica closes them as `unknown`");
        }
        info!("the audit log is written");
    }

    fn settle(&self, stored: usize) {
        if stored > 0 {
            self.shared.unstored.send_modify(|count| *count = count.saturating_sub(stored));
        }
    }
}

impl Work {
    fn ask(&mut self, asked: Asked) {
        self.batch.entries.push(asked.entry);
        self.waiting.push(asked.answer);
    }

    fn halves(mut self) -> (Self, Self) {
        let Batch { entries, closings, doubtful } = &mut self.batch;
        if !doubtful.is_empty() && entries.len() + closings.len() > 0 {
            // Puts the rows in doubt into a batch of their own.
            let doubtful = mem::take(doubtful);
            let batch = Batch { doubtful, ..Batch::default() };
            return (Self { batch, waiting: Vec::new() }, self);
        }
        let doubtful = doubtful.split_off(doubtful.len() / 2);
        let entries = entries.split_off(entries.len() / 2);
        let closings = closings.split_off(closings.len().div_ceil(2));
        let waiting = self.waiting.split_off(self.batch.entries.len().min(self.waiting.len()));
        (self, Self { batch: Batch { entries, closings, doubtful }, waiting })
    }
}

/// Waits for the signal to stop, or until its sender is dropped.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count in a metric")]
fn to_f64(count: usize) -> f64 {
    count as f64
}
