//! The running work of an operation: progress, checkpoints, cancellation and end.
//!
//! Invariants
//! - work that is dropped, panics or ignores a request to stop has failed;
//! - a write of the work is durable once its call returns, and is rejected once another replica holds the lease.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::leases::{LeasedOperation, Slot, StopCause};
use super::right;
use super::state::Status;
use super::store::{self, Operation, ProgressUpdate};
use super::{Failure, FailureCode, INPUT_BYTES_MAX, STEP_CHARS_MAX, TEXT_CHARS_MAX};
use crate::access::principal::WorkCredential;
use crate::audit::OpenEntry;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::SandboxName;
use crate::error::{Error, ResourceKind};
use crate::resources::operations::leases::LocalOperations;
use crate::seal::Aad;
use crate::upstream::errors::sanitize;

/// Default time that work may take to stop.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// Longest name of a sandbox or workspace, in characters.
pub(super) const NAME_CHARS_MAX: usize = 253;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the associated data under which a column of an operation is sealed.
pub(super) fn aad<'a>(column: &'a str, id: &'a str) -> Aad<'a> {
    Aad { table: "operations", column, row: id, destination: "" }
}

/// Handle of an operation's work. Clones share the work; if the last clone is dropped before the work has ended, the
/// operation fails.
#[derive(Debug, Clone)]
pub struct RunningOperation {
    pub(super) work: Arc<Work>,
    // Dropping the last clone ends the operation. The drop handler keeps `work` alive until the end is stored.
    _last: Arc<LastHandle>,
}

/// State of one operation's work, shared by its handles.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) ctx: Ctx,
    pub(super) held: Arc<LeasedOperation>,
    pub(super) workspace: String,
    pub(super) sandbox: Mutex<String>,
    unnamed: bool,
    pub(super) started_at: Instant,
    credential: Option<WorkCredential>,
    pub(super) resumable: bool,
    pub(super) entry: Mutex<Option<OpenEntry>>,
    pub(super) ended: AtomicBool,
    /// Time that the work may take to stop after a cancellation, in milliseconds.
    grace_ms: AtomicU64,
}

#[derive(Debug)]
struct LastHandle(Arc<Work>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        if self.0.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        let work = Arc::clone(&self.0);
        let failure = match work.held.stop_cause() {
            None => Failure::new(FailureCode::Internal, "the work ended without a result"),
            Some(StopCause::Cancelled | StopCause::Draining | StopCause::LeaseLost) => {
                Failure::cancelled()
            }
        };
        let app = Arc::clone(work.ctx.app());
        app.spawn(async move {
            // The error was already logged.
            let _ = work.end(Err(failure)).await;
        });
    }
}

impl Work {
    pub(super) fn sandbox(&self) -> MutexGuard<'_, String> {
        self.sandbox.lock()
    }

    /// Returns the target of the audit entry.
    pub(super) fn target(&self) -> String {
        let (workspace, name) = (self.workspace.clone(), self.sandbox().clone());
        SandboxName { workspace, name }.to_string()
    }
}

impl RunningOperation {
    /// Creates the handle for a row whose lease this replica holds, and registers the lease for renewal.
    pub(super) fn new(
        ctx: Ctx,
        row: &Operation,
        written: Duration,
        slot: Slot,
        began: Option<WorkCredential>,
        resumable: bool,
    ) -> Self {
        let held = LeasedOperation::new(row.id.clone(), row.fence, written, slot);
        let held = Arc::new(match began {
            None => held,
            Some(began) => held.with_right(ctx.app(), right::required_right(row, began)),
        });
        let entry = ctx.defer_audit_entry();
        ctx.add_audit_detail("operation", row.id.clone());
        let work = Arc::new(Work {
            workspace: row.workspace.clone(),
            sandbox: Mutex::new(row.sandbox.clone()),
            unnamed: row.sandbox.is_empty(),
            started_at: Instant::now(),
            credential: began,
            resumable,
            entry: Mutex::new(entry),
            ended: AtomicBool::new(false),
            grace_ms: AtomicU64::new(millis(STOP_GRACE)),
            held,
            ctx,
        });
        let app = work.ctx.app();
        app.part::<LocalOperations>().register(app, &work.held);
        if row.status == Status::Cancelling {
            work.held.stop(StopCause::Cancelled);
        }
        Self { _last: Arc::new(LastHandle(Arc::clone(&work))), work }
    }

    /// Id of the operation.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.work.held.id
    }

    /// The context of the call: its caller and its gateway.
    #[must_use]
    pub fn ctx(&self) -> &Ctx {
        &self.work.ctx
    }

    /// Canceled when the work must stop; [`RunningOperation::stop_cause`] returns the reason. The work then has 30 seconds to return
    /// [`Failure::cancelled`], or its result if it was already done.
    #[must_use]
    pub fn cancel(&self) -> &CancellationToken {
        &self.work.held.token
    }

    /// Sets how long canceled work may take to undo what it has done, instead of 30 seconds. If the replica is
    /// shutting down or has lost its lease, nothing must be undone, and 30 seconds apply.
    pub fn set_undo_time(&self, grace: Duration) {
        self.work.grace_ms.store(millis(grace), Ordering::Relaxed);
    }

    fn grace(&self) -> Duration {
        match self.stop_cause() {
            Some(StopCause::Draining | StopCause::LeaseLost) => STOP_GRACE,
            Some(StopCause::Cancelled) | None => {
                Duration::from_millis(self.work.grace_ms.load(Ordering::Relaxed))
            }
        }
    }

    /// Returns why the work must stop, or `None` if it may continue. Only canceled work undoes what it has done.
    #[must_use]
    pub fn stop_cause(&self) -> Option<StopCause> {
        self.work.held.stop_cause()
    }

    /// Checks that the lease is still held as far as this replica knows. Call this right before sending a request that
    /// cannot be undone. [`RunningOperation::step`] checks the lease in the database.
    ///
    /// # Errors
    /// `Conflict` if another replica may hold the lease: the work must stop.
    pub fn check_lease(&self) -> Result<(), Error> {
        if self.work.held.is_held(self.ctx().app().clock.since_boot()) {
            return Ok(());
        }
        Err(Error::conflict(ResourceKind::Operation, self.id()))
    }

    /// Checks that the work may begin an action that it cannot undo: the lease is held, and nothing has stopped the
    /// work. Call this right before the action, after the last `await`.
    ///
    /// # Errors
    /// `Conflict` if another replica may hold the lease, `cancelled` if the work was stopped.
    pub fn check_can_begin(&self) -> Result<(), Failure> {
        self.check_lease()?;
        if self.cancel().is_cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
    }

    /// Stores the progress in percent, at most 100, with a message. Each call is one commit: use it for steps, not for
    /// bytes.
    ///
    /// # Errors
    /// `Conflict` if the lease was lost or the operation has ended.
    pub async fn progress(&self, percent: u8, message: &str) -> Result<(), Error> {
        let message = sanitize(message, TEXT_CHARS_MAX);
        let percent = Some(i32::from(percent.min(100)));
        self.update_progress(ProgressUpdate {
            progress_pct: percent,
            progress_msg: Some(&message),
            ..ProgressUpdate::default()
        })
        .await
    }

    /// Stores the current step for a takeover. Durable when this returns.
    ///
    /// # Errors
    /// `Conflict` if the lease was lost or the operation has ended: the work must stop.
    pub async fn step(&self, step: &str) -> Result<(), Error> {
        if step.chars().count() > STEP_CHARS_MAX {
            return Err(Error::internal("the name of a step is too long"));
        }
        self.update_progress(ProgressUpdate { step: Some(step), ..ProgressUpdate::default() }).await
    }

    /// Stores the current step, and the input with which a takeover resumes from it.
    ///
    /// # Errors
    /// `Conflict` if the lease was lost or the operation has ended.
    pub async fn step_with(&self, step: &str, input: &[u8]) -> Result<(), Error> {
        if input.len() > INPUT_BYTES_MAX {
            return Err(Error::internal("the input of an operation is too long"));
        }
        let sealed =
            right::seal(self.ctx().app(), self.id(), self.work.credential.as_ref(), input)?;
        self.update_progress(ProgressUpdate {
            step: Some(step),
            input: Some(&sealed),
            ..ProgressUpdate::default()
        })
        .await
    }

    /// Stores the current step in the transaction of the work itself. Without a step, only checks there that the lease
    /// is still held. Pass the returned version to [`RunningOperation::notify_committed`] after the commit.
    ///
    /// # Errors
    /// `Conflict` if the lease was lost or the operation has ended: the transaction must be rolled back.
    pub async fn step_in(&self, conn: &mut Conn, step: Option<&str>) -> Result<i64, Error> {
        if step.is_some_and(|step| step.chars().count() > STEP_CHARS_MAX) {
            return Err(Error::internal("the name of a step is too long"));
        }
        let (held, mark) = (&self.work.held, ProgressUpdate { step, ..ProgressUpdate::default() });
        let version =
            store::update_progress(conn, &held.id, held.fence, &mark, self.ctx().now()).await?;
        version.ok_or_else(|| Error::conflict(ResourceKind::Operation, self.id()))
    }

    /// Wakes calls that wait for the operation, after the transaction of [`RunningOperation::step_in`] was committed.
    pub fn notify_committed(&self, version: i64) {
        self.ctx().app().part::<LocalOperations>().feed.notify(self.id(), version);
    }

    /// Stores the sandbox name that the gateway has chosen. The operation, its events and its audit entry show it from
    /// now on.
    ///
    /// # Errors
    /// `Conflict` if the lease was lost or the operation has ended.
    pub async fn set_sandbox(&self, sandbox: &str) -> Result<(), Error> {
        let sandbox = sanitize(sandbox, NAME_CHARS_MAX);
        sandbox.clone_into(&mut self.work.sandbox());
        if self.work.unnamed {
            self.ctx().set_audit_target(self.work.target());
        }
        self.update_progress(ProgressUpdate {
            sandbox_name: Some(&sandbox),
            ..ProgressUpdate::default()
        })
        .await
    }

    async fn update_progress(&self, mark: ProgressUpdate<'_>) -> Result<(), Error> {
        let (ctx, held) = (self.ctx(), &self.work.held);
        let mut conn = ctx.db().write().await?;
        let version =
            store::update_progress(&mut conn, &held.id, held.fence, &mark, ctx.now()).await?;
        drop(conn);
        self.notify_moved(version)
    }

    /// Marks the operation as running.
    ///
    /// # Errors
    /// `Conflict` if it was canceled before it began, or the lease was lost.
    async fn run(&self) -> Result<(), Error> {
        let (ctx, held) = (self.ctx(), &self.work.held);
        let mut conn = ctx.db().write().await?;
        let version = store::mark_running(&mut conn, &held.id, held.fence, ctx.now()).await?;
        drop(conn);
        self.notify_moved(version)
    }

    fn notify_moved(&self, version: Option<i64>) -> Result<(), Error> {
        let lost = || Error::conflict(ResourceKind::Operation, self.id());
        self.ctx()
            .app()
            .part::<LocalOperations>()
            .feed
            .notify(self.id(), version.ok_or_else(lost)?);
        Ok(())
    }

    /// Ends the operation with a result or a failure.
    ///
    /// # Errors
    /// `Conflict` if the lease was lost or the operation has already ended.
    pub async fn finish(self, result: Result<Value, Failure>) -> Result<(), Error> {
        if self.work.ended.swap(true, Ordering::AcqRel) {
            return Err(Error::conflict(ResourceKind::Operation, self.id()));
        }
        self.work.end(result).await
    }

    /// Marks the operation as running, runs the work and ends the operation.
    pub(super) async fn run_to_end(self, work: impl Future<Output = Result<Value, Failure>>) {
        let result = match self.run().await {
            // Nothing was done yet, so nothing must be undone.
            Ok(()) if self.cancel().is_cancelled() => Err(Failure::cancelled()),
            Ok(()) => self.run_until_stopped(work).await,
            // It may have been canceled before it began.
            Err(Error::Conflict { .. }) => Err(Failure::cancelled()),
            Err(error) => Err(error.into()),
        };
        // The error was already logged.
        let _ = self.finish(result).await;
    }

    /// Runs the rest of the work after a takeover and ends the operation.
    pub(super) async fn resume_to_end(self, work: impl Future<Output = Result<Value, Failure>>) {
        let result = self.run_until_stopped(work).await;
        let _ = self.finish(result).await;
    }

    async fn run_until_stopped(
        &self,
        work: impl Future<Output = Result<Value, Failure>>,
    ) -> Result<Value, Failure> {
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::pin!(work);
        let panicked = |_| Err(Failure::new(FailureCode::Internal, "the work panicked"));
        tokio::select! {
            biased;
            result = &mut work => return result.unwrap_or_else(panicked),
            () = self.cancel().cancelled() => {}
        }
        let mut cause = self.stop_cause();
        loop {
            // The reason may change to a lost lease, which shortens the time to stop.
            match self.ctx().app().clock.timeout(self.grace(), &mut work).await {
                Some(result) => return result.unwrap_or_else(panicked),
                None if cause == self.stop_cause() => break,
                None => cause = self.stop_cause(),
            }
        }
        Err(Failure::new(FailureCode::Cancelled, "the operation did not stop by itself"))
    }
}
