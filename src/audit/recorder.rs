//! Where calls are recorded: what a replica hands to its one writer.
//!
//! Invariants
//! - an intent is durable when [`Recorder::open`] answers; where it answers that it isn't, it is not left open;
//! - an outcome that was handed over is stored, once, as long as the process lives and the database comes back; the
//!   caller does not wait for it, because what it tells of has happened anyway;
//! - the queue is bounded, and so are the outcomes in it: nothing is opened while too many of them wait.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::anonymous::Anonymous;
use super::batch::{Closing, End, Entry};
use super::refused_writes::RefusedWrites;
use super::repeats::{First, Repeats};
use super::unclaimed::{Desk, Unclaimed};
use super::writer::Writer;
use super::{Intent, OpenEntry, Outcome};
use crate::clock::Clock;
use crate::config;
use crate::db::Db;
use crate::db::types::AuditId;
use crate::error::{Error, Reason};
use crate::telemetry::metrics::ANONYMOUS_REFUSALS;

/// Entries that wait to be written; beyond it calls are refused.
const QUEUE_ENTRIES_MAX: usize = 8_192;
/// Outcomes that wait to be written; beyond it no call is begun.
const CLOSINGS_MAX: usize = 65_536;

/// Records calls: intents before, outcomes after.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: mpsc::Sender<Asked>,
    closings: mpsc::UnboundedSender<Closing>,
    shared: Arc<Shared>,
    refused_writes: RefusedWrites,
    owner: Arc<str>,
    stopping: watch::Sender<bool>,
    tasks: TaskTracker,
}

/// What the writer and its callers both see.
#[derive(Debug)]
pub(super) struct Shared {
    /// Outcomes that were handed over and are not stored yet.
    pub(super) unstored: watch::Sender<usize>,
    /// Whether the last attempt to write was a success.
    pub(super) writable: AtomicBool,
    pub(super) anonymous: Anonymous,
    pub(super) repeats: Repeats,
}

/// An entry to store, and who waits for it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) entry: Entry,
    pub(super) answer: oneshot::Sender<Stored>,
}

/// What the writer answers.
pub(super) type Stored = Result<Unclaimed, NotWritten>;

/// The entry could not be stored; why is in the log.
#[derive(Debug)]
pub(super) struct NotWritten;

impl Recorder {
    /// Starts the writer of this replica. It is no task of the process's tracker, since those end before it: see
    /// [`Recorder::drain`].
    #[must_use]
    pub fn start(db: &Db, clock: &Clock, replica: &Arc<str>, config: &config::Audit) -> Self {
        let refused_writes = RefusedWrites::new(config.refused_writes_per_minute);
        let (entries, asked) = mpsc::channel(QUEUE_ENTRIES_MAX);
        let (closings, closed) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            unstored: watch::Sender::new(0),
            writable: AtomicBool::new(true),
            anonymous: Anonymous::default(),
            repeats: Repeats::default(),
        });
        let stopping = watch::Sender::new(false);
        let writer = Writer {
            db: db.clone(),
            clock: clock.clone(),
            owner: Arc::clone(replica),
            batch_max: config.batch_max as usize,
            entries: asked,
            closings: closed,
            desk: Desk {
                closings: closings.clone(),
                shared: Arc::clone(&shared),
                clock: clock.clone(),
            },
            stopping: stopping.subscribe(),
            shared: Arc::clone(&shared),
            ids: super::batch::Ids::default(),
            later: super::writer::Later::default(),
        };
        let tasks = TaskTracker::new();
        tasks.spawn(writer.run());
        tasks.close();
        let owner = Arc::clone(replica);
        let inner = Inner { entries, closings, shared, refused_writes, owner, stopping, tasks };
        Self { inner: Arc::new(inner) }
    }

    /// Stores an intent. Durable when it answers; else nothing may happen.
    ///
    /// # Errors
    /// `Unavailable` where it can't be stored; it is not stored later either.
    pub async fn open(&self, intent: Intent) -> Result<OpenEntry, Error> {
        let id = self.store(Entry::new(intent, None, &self.inner.owner)).await?;
        Ok(OpenEntry { id })
    }

    /// Stores a call that is over: a refused one, or a sensitive read. Durable when it answers.
    ///
    /// # Errors
    /// `Unavailable` where it can't be stored.
    pub async fn record(&self, intent: Intent, outcome: Outcome) -> Result<(), Error> {
        self.store(Entry::new(intent, Some(outcome), &self.inner.owner)).await?;
        Ok(())
    }

    /// Hands the outcome of an intent over, which the writer stores once, as often as it has to try. Not durable when
    /// it answers: a process that dies in between leaves an intent that is closed as `unknown`.
    ///
    /// # Errors
    /// `Unavailable` when the writer has stopped.
    #[expect(
        clippy::unused_async,
        reason = "whoever closes need not know that nothing is waited for"
    )]
    pub async fn close(&self, entry: OpenEntry, outcome: Outcome) -> Result<(), Error> {
        let shared = &self.inner.shared;
        shared.unstored.send_modify(|count| *count += 1);
        let closing = Closing { id: entry.id, end: End::from(outcome) };
        self.inner.closings.send(closing).map_err(|_| {
            shared.unstored.send_modify(|count| *count -= 1);
            unavailable()
        })
    }

    /// Counts a refused call of nobody (T16). Counts are stored once a minute.
    pub fn count_anonymous(&self, ip: Option<IpAddr>, method: &'static str, reason: &'static str) {
        metrics::counter!(ANONYMOUS_REFUSALS, "method" => method, "reason" => reason).increment(1);
        self.inner.shared.anonymous.count(ip, method, reason);
    }

    /// Counts a refused call of a known caller (T16). The first of its principal, method and reason within a minute is
    /// handed to the writer now, and returned to be waited for. Its repeats are stored at the end of the minute and when
    /// the process stops, as one entry with their count.
    #[must_use]
    pub fn refused(
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

    /// Whether the last attempt to write was a success.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.inner.shared.writable.load(Ordering::Relaxed)
    }

    /// Waits until every outcome that was handed over is stored.
    pub async fn settled(&self) {
        // The sender is ours, so it can't be gone.
        let _ = self.inner.shared.unstored.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Stores what is there and stops; gives up after a while. Everything that records must have ended before.
    pub async fn drain(&self) {
        self.inner.stopping.send_replace(true);
        self.inner.tasks.wait().await;
    }

    async fn store(&self, entry: Entry) -> Result<AuditId, Error> {
        let stored = self.enqueue(entry)?.await.map_err(|_| unavailable())?;
        stored.map(Unclaimed::claim).map_err(|NotWritten| unavailable())
    }

    fn enqueue(&self, entry: Entry) -> Result<oneshot::Receiver<Stored>, Error> {
        if *self.inner.shared.unstored.borrow() > CLOSINGS_MAX {
            return Err(unavailable());
        }
        let (answer, stored) = oneshot::channel();
        self.inner.entries.try_send(Asked { entry, answer }).map_err(|_| unavailable())?;
        Ok(stored)
    }
}

/// The first refusal of its kind within a minute, on its way to the log.
#[derive(Debug)]
pub struct FirstRefusal {
    stored: oneshot::Receiver<Stored>,
    first: First,
    shared: Arc<Shared>,
}

impl FirstRefusal {
    /// Waits until it is stored. If that fails it is counted with its repeats.
    pub async fn stored(self) {
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
