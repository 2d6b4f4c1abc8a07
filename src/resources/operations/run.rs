//! The work of an operation, and what it can do.
//!
//! Invariants
//! - work that is dropped, panics or does not stop when told has failed;
//! - what it writes is durable when that answers, and refused once its lease is another's.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::keeper::{Held, Seat, Stop};
use super::right;
use super::state::Status;
use super::store::{self, Mark, Operation};
use super::{Code, Failure, INPUT_BYTES_MAX, STEP_CHARS_MAX, TEXT_CHARS_MAX};
use crate::access::principal::Began;
use crate::audit::OpenEntry;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::SandboxName;
use crate::error::{Error, Kind};
use crate::resources::operations::keeper::Operations;
use crate::seal::Aad;
use crate::upstream::said::harmless;

/// How long work that was told to stop may take to do so, where it asks for no more.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// Longest name of a sandbox or workspace, in characters.
pub(super) const NAME_CHARS_MAX: usize = 253;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Where an operation's sealed columns belong.
pub(super) fn aad<'a>(column: &'a str, id: &'a str) -> Aad<'a> {
    Aad { table: "operations", column, row: id, destination: "" }
}

/// The work of an operation, as it is handed to whoever does it. Clones are of the same work; when the last is dropped
/// without an end, it has failed.
#[derive(Debug, Clone)]
pub struct Running {
    pub(super) work: Arc<Work>,
    // The last of these ends the work, while the work itself goes on to be written.
    _last: Arc<Last>,
}

/// What belongs to one piece of work.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) ctx: Ctx,
    pub(super) held: Arc<Held>,
    pub(super) workspace: String,
    pub(super) sandbox: Mutex<String>,
    unnamed: bool,
    pub(super) begun: Instant,
    began: Option<Began>,
    pub(super) resumable: bool,
    pub(super) entry: Mutex<Option<OpenEntry>>,
    pub(super) ended: AtomicBool,
    /// How long it may take to stop once it was cancelled, in milliseconds.
    grace_ms: AtomicU64,
}

#[derive(Debug)]
struct Last(Arc<Work>);

impl Drop for Last {
    fn drop(&mut self) {
        if self.0.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        let work = Arc::clone(&self.0);
        let failure = match work.held.why() {
            None => Failure::new(Code::Internal, "the work ended without a result"),
            Some(Stop::Cancelled | Stop::Draining | Stop::LeaseLost) => Failure::cancelled(),
        };
        let app = Arc::clone(work.ctx.app());
        app.spawn(async move {
            // What stands in the way was told where it was met.
            let _ = work.end(Err(failure)).await;
        });
    }
}

impl Work {
    pub(super) fn sandbox(&self) -> MutexGuard<'_, String> {
        self.sandbox.lock()
    }

    /// As the audit log names what it is about.
    pub(super) fn target(&self) -> String {
        let (workspace, name) = (self.workspace.clone(), self.sandbox().clone());
        SandboxName { workspace, name }.to_string()
    }
}

impl Running {
    /// From a row that this replica holds.
    pub(super) fn of(
        ctx: Ctx,
        row: &Operation,
        written: Duration,
        seat: Seat,
        began: Option<Began>,
        resumable: bool,
    ) -> Self {
        let held = Held::new(row.id.clone(), row.fence, written, seat);
        let held = Arc::new(match began {
            None => held,
            Some(began) => held.needing(ctx.app(), right::right(row, began)),
        });
        let entry = ctx.defer();
        ctx.detail("operation", row.id.clone());
        let work = Arc::new(Work {
            workspace: row.workspace.clone(),
            sandbox: Mutex::new(row.sandbox.clone()),
            unnamed: row.sandbox.is_empty(),
            begun: Instant::now(),
            began,
            resumable,
            entry: Mutex::new(entry),
            ended: AtomicBool::new(false),
            grace_ms: AtomicU64::new(millis(STOP_GRACE)),
            held,
            ctx,
        });
        let app = work.ctx.app();
        app.part::<Operations>().keep(app, &work.held);
        if row.status == Status::Cancelling {
            work.held.stop(Stop::Cancelled);
        }
        Self { _last: Arc::new(Last(Arc::clone(&work))), work }
    }

    /// Id of the operation.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.work.held.id
    }

    /// In whose name the work is done, and on which gateway.
    #[must_use]
    pub fn ctx(&self) -> &Ctx {
        &self.work.ctx
    }

    /// Cancelled when the work is to stop; [`Running::why`] tells why. It has half a minute to do so, and answers
    /// [`Failure::cancelled`], or its result where it was done by then.
    #[must_use]
    pub fn cancel(&self) -> &CancellationToken {
        &self.work.held.token
    }

    /// What was cancelled may take so long to undo what it has done, instead of half a minute. Where the replica stops or
    /// has lost its lease nothing is to be undone, and it stays half a minute.
    pub fn may_undo_for(&self, grace: Duration) {
        self.work.grace_ms.store(millis(grace), Ordering::Relaxed);
    }

    fn grace(&self) -> Duration {
        match self.why() {
            Some(Stop::Draining | Stop::LeaseLost) => STOP_GRACE,
            Some(Stop::Cancelled) | None => {
                Duration::from_millis(self.work.grace_ms.load(Ordering::Relaxed))
            }
        }
    }

    /// Why the work is to stop, once it is: only what was cancelled is to be undone.
    #[must_use]
    pub fn why(&self) -> Option<Stop> {
        self.work.held.why()
    }

    /// Whether the lease is still held, for all that is known here: what to ask right before something is sent that can't
    /// be taken back. [`Running::step`] asks the database.
    ///
    /// # Errors
    /// `Conflict` where it may be another's: the work must stop.
    pub fn still_mine(&self) -> Result<(), Error> {
        if self.work.held.is_held(self.ctx().app().clock.since_boot()) {
            return Ok(());
        }
        Err(Error::conflict(Kind::Operation, self.id()))
    }

    /// Whether the work may do what it has not done yet and cannot take back: the lease is held, and nothing has stopped
    /// the work. Asked right before the act, after the last wait.
    ///
    /// # Errors
    /// `Conflict` if the lease may be another's, `cancelled` if the work was stopped.
    pub fn may_begin(&self) -> Result<(), Failure> {
        self.still_mine()?;
        if self.cancel().is_cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
    }

    /// Tells how far the work is, in per cent; there are no more than 100. One commit each: for steps, not for
    /// bytes.
    ///
    /// # Errors
    /// `Conflict` where the lease was lost or the operation has ended.
    pub async fn progress(&self, percent: u8, message: &str) -> Result<(), Error> {
        let message = harmless(message, TEXT_CHARS_MAX);
        let percent = Some(i32::from(percent.min(100)));
        self.mark(Mark { progress_pct: percent, progress_msg: Some(&message), ..Mark::default() })
            .await
    }

    /// Keeps where the work is, for a takeover. Durable when it answers.
    ///
    /// # Errors
    /// `Conflict` where the lease was lost or the operation has ended: the work must stop.
    pub async fn step(&self, step: &str) -> Result<(), Error> {
        if step.chars().count() > STEP_CHARS_MAX {
            return Err(Error::internal("the name of a step is too long"));
        }
        self.mark(Mark { step: Some(step), ..Mark::default() }).await
    }

    /// Keeps where the work is, and with what a takeover goes on from there.
    ///
    /// # Errors
    /// `Conflict` where the lease was lost or the operation has ended.
    pub async fn step_with(&self, step: &str, input: &[u8]) -> Result<(), Error> {
        if input.len() > INPUT_BYTES_MAX {
            return Err(Error::internal("the input of an operation is too long"));
        }
        let sealed = right::seal(self.ctx().app(), self.id(), self.work.began.as_ref(), input)?;
        self.mark(Mark { step: Some(step), input: Some(&sealed), ..Mark::default() }).await
    }

    /// Keeps where the work is in the transaction of what it has done, or only proves there that the lease is still held.
    /// After the commit the version goes to [`Running::committed`].
    ///
    /// # Errors
    /// `Conflict` where the lease was lost or the operation has ended: nothing of the transaction may stay.
    pub async fn step_in(&self, conn: &mut Conn, step: Option<&str>) -> Result<i64, Error> {
        if step.is_some_and(|step| step.chars().count() > STEP_CHARS_MAX) {
            return Err(Error::internal("the name of a step is too long"));
        }
        let (held, mark) = (&self.work.held, Mark { step, ..Mark::default() });
        let version = store::mark(conn, &held.id, held.fence, &mark, self.ctx().now()).await?;
        version.ok_or_else(|| Error::conflict(Kind::Operation, self.id()))
    }

    /// What was kept in a transaction is there: whoever watches is told.
    pub fn committed(&self, version: i64) {
        self.ctx().app().part::<Operations>().feed.moved(self.id(), version);
    }

    /// The gateway has named the sandbox: the operation, its events and the audit log name it from here on.
    ///
    /// # Errors
    /// `Conflict` where the lease was lost or the operation has ended.
    pub async fn named(&self, sandbox: &str) -> Result<(), Error> {
        let sandbox = harmless(sandbox, NAME_CHARS_MAX);
        sandbox.clone_into(&mut self.work.sandbox());
        if self.work.unnamed {
            self.ctx().named(self.work.target());
        }
        self.mark(Mark { sandbox_name: Some(&sandbox), ..Mark::default() }).await
    }

    async fn mark(&self, mark: Mark<'_>) -> Result<(), Error> {
        let (ctx, held) = (self.ctx(), &self.work.held);
        let mut conn = ctx.db().write().await?;
        let version = store::mark(&mut conn, &held.id, held.fence, &mark, ctx.now()).await?;
        drop(conn);
        self.moved(version)
    }

    /// The work begins.
    ///
    /// # Errors
    /// `Conflict` where it is to stop before it has begun, or the lease was lost.
    async fn run(&self) -> Result<(), Error> {
        let (ctx, held) = (self.ctx(), &self.work.held);
        let mut conn = ctx.db().write().await?;
        let version = store::run(&mut conn, &held.id, held.fence, ctx.now()).await?;
        drop(conn);
        self.moved(version)
    }

    fn moved(&self, version: Option<i64>) -> Result<(), Error> {
        let lost = || Error::conflict(Kind::Operation, self.id());
        self.ctx().app().part::<Operations>().feed.moved(self.id(), version.ok_or_else(lost)?);
        Ok(())
    }

    /// Ends the operation with its result, or with why there is none.
    ///
    /// # Errors
    /// `Conflict` where the lease was lost, or it has ended before.
    pub async fn finish(self, result: Result<Value, Failure>) -> Result<(), Error> {
        if self.work.ended.swap(true, Ordering::AcqRel) {
            return Err(Error::conflict(Kind::Operation, self.id()));
        }
        self.work.end(result).await
    }

    /// Does the work to its end, whatever that is.
    pub(super) async fn through(self, work: impl Future<Output = Result<Value, Failure>>) {
        let result = match self.run().await {
            // Nothing was done yet, so that nothing is to be undone.
            Ok(()) if self.cancel().is_cancelled() => Err(Failure::cancelled()),
            Ok(()) => self.bounded(work).await,
            // It may have been cancelled before it began.
            Err(Error::Conflict { .. }) => Err(Failure::cancelled()),
            Err(error) => Err(error.into()),
        };
        // What stands in the way was told where it was met.
        let _ = self.finish(result).await;
    }

    /// Work that was taken over goes on where it was.
    pub(super) async fn onwards(self, work: impl Future<Output = Result<Value, Failure>>) {
        let result = self.bounded(work).await;
        let _ = self.finish(result).await;
    }

    async fn bounded(
        &self,
        work: impl Future<Output = Result<Value, Failure>>,
    ) -> Result<Value, Failure> {
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::pin!(work);
        let panicked = |_| Err(Failure::new(Code::Internal, "the work panicked"));
        tokio::select! {
            biased;
            result = &mut work => return result.unwrap_or_else(panicked),
            () = self.cancel().cancelled() => {}
        }
        let mut told = self.why();
        loop {
            // That a lease was lost meanwhile ends the patience with what is undone.
            match tokio::time::timeout(self.grace(), &mut work).await {
                Ok(result) => return result.unwrap_or_else(panicked),
                Err(_) if told == self.why() => break,
                Err(_) => told = self.why(),
            }
        }
        Err(Failure::new(Code::Cancelled, "the operation did not stop by itself"))
    }
}
