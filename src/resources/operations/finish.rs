//! Ends operations: row, event, audit entry and metrics.
//!
//! Invariants
//! - the row and the event are written in one transaction that is filtered on the fence: a replica that lost its lease
//!   writes nothing;
//! - storing the end is retried while the lease is held, and the lease is renewed until the end is stored or the
//!   retries are used up.

use std::time::Duration;

use metrics::{counter, histogram};
use serde_json::Value;
use tracing::{info, warn};

use super::begin::tell;
use super::leases::{Stop, store as leases};
use super::result::fitted;
use super::run::{Work, aad};
use super::state::Status;
use super::store::{self, End, Operation};
use super::{Code, Failure, TEXT_CHARS_MAX};
use crate::audit::Ending;
use crate::ctx::{Ctx, Tx};
use crate::error::{Error, Kind};
use crate::outbox::event_types;
use crate::resources::operations::leases::Operations;
use crate::telemetry::metrics::{OPERATION_DURATION, OPERATIONS};
use crate::upstream::errors::harmless;

/// Attempts to store an end. After the last one the lease expires, and another replica ends the operation.
const TRIES_MAX: u32 = 60;
/// Wait before the first retry; it doubles with each retry.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two retries.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// gRPC code of UNKNOWN.
const CODE_UNKNOWN: i32 = 2;

/// Outcome of an operation, ready to be stored.
pub(super) enum Ended {
    /// Success, with the sealed result.
    Done(Vec<u8>),
    /// Failure, with the sealed result of the parts that were done, if any.
    Failed(Failure, Option<Vec<u8>>),
}

impl Work {
    /// Ends the operation and its audit entry. Callers make sure that this runs once.
    ///
    /// # Errors
    /// `Conflict` if the lease was lost; the storage error if the end could not be stored.
    pub(super) async fn end(&self, result: Result<Value, Failure>) -> Result<(), Error> {
        let ended = self.handed_over(&result).await;
        let ended = match ended {
            Ok(true) => Ok(()),
            Ok(false) => self.written(result).await,
            Err(error) => Err(error),
        };
        self.ctx.app().part::<Operations>().leave(self.ctx.app(), &self.held);
        if let Err(error) = &ended {
            warn!(
                operation = self.held.id,
                error = error as &dyn std::error::Error,
                "not ended here"
            );
            self.ctx.detail("ended_elsewhere", true);
            self.close(Ending::Unknown, CODE_UNKNOWN).await;
        }
        ended
    }

    /// Releases the lease of resumable work that stopped because the process is shutting down, so that another replica
    /// resumes it. Returns `false` if the work ends here instead.
    async fn handed_over(&self, result: &Result<Value, Failure>) -> Result<bool, Error> {
        let stopped = matches!(result, Err(Failure { code: Code::Cancelled, .. }));
        if !(stopped && self.resumable && self.held.why() == Some(Stop::Draining)) {
            return Ok(false);
        }
        let db = self.ctx.db();
        let mut conn = db.write().await?;
        let now = db.now(&mut conn).await?;
        if !leases::release(&mut conn, &self.held.id, self.held.fence, now).await? {
            return Err(self.lost());
        }
        drop(conn);
        info!(operation = self.held.id, "handed over");
        self.ctx.detail("handed_over", true);
        self.close(Ending::Unknown, CODE_UNKNOWN).await;
        Ok(true)
    }

    async fn written(&self, result: Result<Value, Failure>) -> Result<(), Error> {
        let ended = self.ended(result);
        let (mut tries, mut wait) = (1, RETRY_MIN);
        let row = loop {
            match write(&self.ctx, &self.held.id, self.held.fence, &ended).await {
                Ok(Some(row)) => break row,
                // The previous attempt may have stored the end although its response was lost.
                Ok(None) if tries > 1 => break self.own_end().await?,
                Ok(None) => return Err(self.lost()),
                Err(error) if tries >= TRIES_MAX => return Err(error),
                Err(error) => {
                    let operation = &self.held.id;
                    warn!(
                        operation,
                        error = &error as &dyn std::error::Error,
                        tries,
                        "not stored yet"
                    );
                }
            }
            tokio::time::sleep(wait).await;
            (tries, wait) = (tries + 1, (wait * 2).min(RETRY_MAX));
        };
        counted(&row, self.begun.elapsed());
        let (ending, code) = match &ended {
            Ended::Done(_) => (Ending::Ok, 0),
            Ended::Failed(Failure { code, message, .. }, _) => {
                self.ctx.detail("error_code", code.as_str());
                self.ctx.detail("error", harmless(message, TEXT_CHARS_MAX));
                (Ending::Failed, code.grpc())
            }
        };
        self.close(ending, code).await;
        Ok(())
    }

    /// Converts a result into what is stored. Canceled work fails with the reason of the cancellation.
    fn ended(&self, result: Result<Value, Failure>) -> Ended {
        let mut failure = match result {
            Ok(value) => match self.sealed(value) {
                Ok(sealed) => return Ended::Done(sealed),
                Err(error) => error.into(),
            },
            Err(failure) => failure,
        };
        let orphaned = match self.held.why().filter(|_| failure.code == Code::Cancelled) {
            Some(Stop::Draining) => Some("the server was stopped"),
            Some(Stop::LeaseLost) => {
                Some("the replica lost its lease on the operation, so it stopped the work")
            }
            Some(Stop::Cancelled) | None => None,
        };
        if let Some(why) = orphaned {
            failure.code = Code::Orphaned;
            why.clone_into(&mut failure.message);
        }
        if let (Code::Cancelled, Some(lost)) = (failure.code, self.held.lost()) {
            failure.message = format!("the operation was cancelled: {}", lost.as_str());
        }
        let by_then = failure.result.take().and_then(|value| {
            let sealed = self.sealed(value).inspect_err(|error| {
                let operation = &self.held.id;
                warn!(operation, error = error as &dyn std::error::Error, "its result is not kept");
            });
            sealed.ok()
        });
        Ended::Failed(failure, by_then)
    }

    fn sealed(&self, value: Value) -> Result<Vec<u8>, Error> {
        let kept = serde_json::to_vec(&fitted(value)).map_err(Error::internal)?;
        self.ctx.app().master.seal(&aad("result_json", &self.held.id), &kept)
    }

    async fn own_end(&self) -> Result<Operation, Error> {
        let mut conn = self.ctx.db().read().await?;
        let found = store::by_id(&mut conn, &self.held.id).await?;
        let own = |row: &Operation| row.status.is_terminal() && row.fence == self.held.fence;
        found.filter(own).ok_or_else(|| self.lost())
    }

    fn lost(&self) -> Error {
        Error::conflict(Kind::Operation, &self.held.id)
    }

    /// Closes the audit entry of the call that began the operation, if it had one.
    async fn close(&self, ending: Ending, code: i32) {
        let entry = self.entry.lock().take();
        let Some(entry) = entry else { return };
        let outcome = self.ctx.deferred_outcome(ending, code);
        if let Err(error) = self.ctx.app().audit.close(entry, outcome).await {
            warn!(error = &error as &dyn std::error::Error, "an outcome was not stored yet");
        }
    }
}

/// Stores the end of an operation with its event. Returns `None` if the lease was lost or the operation has already
/// ended.
async fn write(ctx: &Ctx, id: &str, fence: i64, ended: &Ended) -> Result<Option<Operation>, Error> {
    let write = async |tx: &mut Tx<'_>| write_in(tx, ctx, id, fence, ended).await;
    let written = ctx.transaction(write).await?;
    if let Some(row) = &written {
        wake(ctx, row);
    }
    Ok(written)
}

/// Wakes calls that wait for the operation. Called after the commit.
pub(super) fn wake(ctx: &Ctx, row: &Operation) {
    ctx.app().part::<Operations>().feed.moved(&row.id, row.version);
}

/// As `write`, inside a transaction. Call [`wake`] after the commit.
pub(super) async fn write_in(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    id: &str,
    fence: i64,
    ended: &Ended,
) -> Result<Option<Operation>, Error> {
    let now = ctx.now();
    let (status, event, result, failure) = match ended {
        Ended::Done(result) => {
            (Status::Succeeded, event_types::OPERATION_SUCCEEDED, Some(result.as_slice()), None)
        }
        Ended::Failed(failure, result) => {
            (Status::Failed, event_types::OPERATION_FAILED, result.as_deref(), Some(failure))
        }
    };
    let message = failure.map(|failure| harmless(&failure.message, TEXT_CHARS_MAX));
    let code = failure.map(|failure| failure.code);
    let end = End { status, result, code, message: message.as_deref(), at: now };
    let Some(row) = store::end(tx, id, fence, &end).await? else { return Ok(None) };
    tell(tx, ctx, event, &row).await?;
    Ok(Some(row))
}

/// Updates the metrics for an operation that has ended.
pub(super) fn counted(row: &Operation, took: Duration) {
    let outcome = row.error_code.map_or("succeeded", Code::as_str);
    counter!(OPERATIONS, "type" => row.kind.as_str(), "outcome" => outcome).increment(1);
    histogram!(OPERATION_DURATION, "type" => row.kind.as_str()).record(took);
}
