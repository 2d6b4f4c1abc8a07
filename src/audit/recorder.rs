//! Accepts audit entries and outcomes, and passes them to the only writer of the replica.
//!
//! Invariants
//! - an intent is durable when [`Recorder::open`] returns `Ok`; an entry for which it returned an error does not stay
//!   open;
//! - an outcome that was handed over is stored, once, provided that the process keeps running and the database becomes
//!   available again; the caller does not wait for it, because the action has already happened;
//! - the queues of entries and outcomes are bounded: no entry is opened while too many outcomes wait.

use futures_util::future::BoxFuture;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::batch::{AuditRow, OutcomeColumns, OutcomeUpdate};
use super::refusal_counts::AnonymousRefusals;
use super::refused_writes::RefusedWrites;
use super::repeats::{NewRefusal, RepeatedRefusals};
use super::unclaimed::{EntryCloser, UnclaimedEntry};
use super::writer::Writer;
use super::{Intent, OpenEntry, Outcome, upsert};
use crate::clock::Clock;
use crate::config;
use crate::db::types::AuditId;
use crate::db::{Conn, Db};
use crate::error::{Error, Reason};
use crate::telemetry::metrics::ANONYMOUS_REFUSALS;

/// Maximum number of entries that wait to be written. Calls beyond it are refused.
const QUEUE_ENTRIES_MAX: usize = 8_192;
/// Maximum number of outcomes that wait to be written. No call is started beyond it.
const CLOSINGS_MAX: usize = 65_536;

/// Records calls: intents before, outcomes after.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: mpsc::Sender<StoreRequest>,
    closings: mpsc::UnboundedSender<OutcomeUpdate>,
    shared: Arc<Shared>,
    refused_writes: RefusedWrites,
    owner: Arc<str>,
    stopping: watch::Sender<bool>,
    tasks: TaskTracker,
}

/// State that the writer shares with its callers.
#[derive(Debug)]
pub(super) struct Shared {
    /// Number of outcomes that were handed over and are not stored yet.
    pub(super) unstored: watch::Sender<usize>,
    /// Whether the last attempt to write succeeded.
    pub(super) writable: AtomicBool,
    pub(super) anonymous: AnonymousRefusals,
    pub(super) repeats: RepeatedRefusals,
}

/// An entry to store, and the channel for its result.
#[derive(Debug)]
pub(super) struct StoreRequest {
    pub(super) entry: AuditRow,
    pub(super) answer: oneshot::Sender<StoreResult>,
}

/// The result of storing an entry.
pub(super) type StoreResult = Result<UnclaimedEntry, NotWritten>;

/// The entry could not be stored; the log has the reason.
#[derive(Debug)]
pub(super) struct NotWritten;

impl Recorder {
    /// Starts the writer of this replica. It is not tracked by the task tracker of the process, since those tasks end
    /// before it: see [`Recorder::drain`].
    #[must_use]
    pub fn start(db: &Db, clock: &Clock, replica: &Arc<str>, config: &config::Audit) -> Self {
        let refused_writes = RefusedWrites::new(config.refused_writes_per_minute);
        let (entries, entry_receiver) = mpsc::channel(QUEUE_ENTRIES_MAX);
        let (closings, closing_receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            unstored: watch::Sender::new(0),
            writable: AtomicBool::new(true),
            anonymous: AnonymousRefusals::default(),
            repeats: RepeatedRefusals::default(),
        });
        let stopping = watch::Sender::new(false);
        let writer = Writer {
            db: db.clone(),
            clock: clock.clone(),
            owner: Arc::clone(replica),
            batch_max: config.batch_max as usize,
            entries: entry_receiver,
            closings: closing_receiver,
            closer: EntryCloser {
                closings: closings.clone(),
                shared: Arc::clone(&shared),
                clock: clock.clone(),
            },
            stopping: stopping.subscribe(),
            shared: Arc::clone(&shared),
            ids: super::batch::IdPool::default(),
            retry_queue: super::writer::RetryQueue::default(),
        };
        let tasks = TaskTracker::new();
        tasks.spawn(writer.run());
        tasks.close();
        let owner = Arc::clone(replica);
        let inner = Inner { entries, closings, shared, refused_writes, owner, stopping, tasks };
        Self { inner: Arc::new(inner) }
    }

    /// Stores an intent, which is durable when this returns `Ok`. After an error the action must not happen.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be stored; it is not stored later either.
    #[must_use]
    pub fn open(&self, intent: Intent) -> BoxFuture<'_, Result<OpenEntry, Error>> {
        Box::pin(async move {
            let id = self.store(AuditRow::new(intent, None, &self.inner.owner)).await?;
            Ok(OpenEntry { id })
        })
    }

    /// Stores an entry of a call that has ended: a refused one, or a sensitive read. Durable when this returns `Ok`.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be stored.
    #[must_use]
    pub fn record(&self, intent: Intent, outcome: Outcome) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.store(AuditRow::new(intent, Some(outcome), &self.inner.owner)).await?;
            Ok(())
        })
    }

    /// Stores an entry of something that a transaction does besides the change of its call, in that transaction: both
    /// are stored, or neither is.
    ///
    /// # Errors
    /// Those of the database. The transaction must fail then.
    pub fn record_in<'a>(
        &'a self,
        conn: &'a mut Conn,
        intent: Intent,
        outcome: Outcome,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let entry = AuditRow::new(intent, Some(outcome), &self.inner.owner);
            upsert::insert(conn, &entry).await
        })
    }

    /// Hands over the outcome of an intent, which the writer stores once, with as many retries as needed. The outcome
    /// is not durable when this returns: if the process crashes before it is stored, the entry is closed as `unknown`.
    ///
    /// # Errors
    /// `Unavailable` if the writer has stopped.
    #[expect(clippy::unused_async, reason = "the caller does not wait for the result")]
    pub async fn close(&self, entry: OpenEntry, outcome: Outcome) -> Result<(), Error> {
        let shared = &self.inner.shared;
        shared.unstored.send_modify(|count| *count += 1);
        let closing = OutcomeUpdate { id: entry.id, end: OutcomeColumns::from(outcome) };
        self.inner.closings.send(closing).map_err(|_| {
            shared.unstored.send_modify(|count| *count -= 1);
            unavailable()
        })
    }

    /// Counts a refused anonymous call (T16). Counts are stored once a minute.
    pub fn count_anonymous(&self, ip: Option<IpAddr>, method: &'static str, reason: &'static str) {
        metrics::counter!(ANONYMOUS_REFUSALS, "method" => method, "reason" => reason).increment(1);
        self.inner.shared.anonymous.count(ip, method, reason);
    }

    /// Counts a refused call of a known caller (T16). The first refusal with the same principal, method and reason
    /// within a minute is handed to the writer now, and returned so that the caller can wait for it. Its repeats are
    /// stored at the end of the minute and when the process stops, as one entry with their count.
    #[must_use]
    pub fn count_refusal(
        &self,
        reason: &'static str,
        intent: Intent,
        outcome: Outcome,
    ) -> Option<FirstRefusal> {
        let repeats = &self.inner.shared.repeats;
        let first = repeats.count(reason, intent, outcome)?;
        let entry = first.entry(&self.inner.owner);
        if let Ok(stored) = self.enqueue(entry) {
            let shared = Arc::clone(&self.inner.shared);
            return Some(FirstRefusal { stored, first, shared });
        }
        repeats.count_unwritten(first);
        None
    }

    /// Bounds the refused writes of each caller.
    #[must_use]
    pub fn refused_writes(&self) -> &RefusedWrites {
        &self.inner.refused_writes
    }

    /// Whether the last attempt to write succeeded.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.inner.shared.writable.load(Ordering::Relaxed)
    }

    /// Waits until every outcome that was handed over is stored.
    pub async fn wait_settled(&self) {
        // Cannot fail: `self` owns the sender.
        let _ = self.inner.shared.unstored.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Stores all pending entries and stops, with a time limit. Everything that records must have ended before.
    pub async fn drain(&self) {
        self.inner.stopping.send_replace(true);
        self.inner.tasks.wait().await;
    }

    async fn store(&self, entry: AuditRow) -> Result<AuditId, Error> {
        let stored = self.enqueue(entry)?.await.map_err(|_| unavailable())?;
        stored.map(UnclaimedEntry::claim).map_err(|NotWritten| unavailable())
    }

    fn enqueue(&self, entry: AuditRow) -> Result<oneshot::Receiver<StoreResult>, Error> {
        if *self.inner.shared.unstored.borrow() > CLOSINGS_MAX {
            return Err(unavailable());
        }
        let (answer, stored) = oneshot::channel();
        self.inner.entries.try_send(StoreRequest { entry, answer }).map_err(|_| unavailable())?;
        Ok(stored)
    }
}

/// The first refusal with its key within a minute, while it is being stored.
#[derive(Debug)]
pub struct FirstRefusal {
    stored: oneshot::Receiver<StoreResult>,
    first: NewRefusal,
    shared: Arc<Shared>,
}

impl FirstRefusal {
    /// Waits until it is stored. If that fails, it is counted with its repeats.
    pub async fn wait_stored(self) {
        if let Ok(Ok(unclaimed)) = self.stored.await {
            unclaimed.claim();
            return;
        }
        warn!("a refusal was not recorded and is counted instead");
        self.shared.repeats.count_unwritten(self.first);
    }
}

fn unavailable() -> Error {
    Error::unavailable(Reason::AuditUnavailable, "the audit log cannot be written")
}
