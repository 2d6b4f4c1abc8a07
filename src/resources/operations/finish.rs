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

use super::begin::emit_event;
use super::leases::{StopCause, store as leases};
use super::result::fit_to_limit;
use super::run::{Work, aad};
use super::state::Status;
use super::store::{self, Operation, OperationEnd};
use super::{Failure, FailureCode, TEXT_CHARS_MAX};
use crate::audit::Ending;
use crate::ctx::{Ctx, Tx};
use crate::error::{Error, ResourceKind};
use crate::outbox::event_types;
use crate::resources::operations::leases::LocalOperations;
use crate::telemetry::metrics::{OPERATION_DURATION, OPERATIONS};
use crate::upstream::errors::sanitize;

/// Attempts to store an end. After the last one the lease expires, and another replica ends the operation.
const TRIES_MAX: u32 = 60;
/// Wait before the first retry; it doubles with each retry.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two retries.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// gRPC code of UNKNOWN.
const CODE_UNKNOWN: i32 = 2;

/// Outcome of an operation, ready to be stored.
pub(super) enum FinalState {
    /// Success, with the sealed result.
    Succeeded(Vec<u8>),
    /// Failure, with the sealed result of the parts that were done, if any.
    Failed(Failure, Option<Vec<u8>>),
}

impl Work {
    /// Ends the operation and its audit entry. Callers make sure that this runs once.
    ///
    /// # Errors
    /// `Conflict` if the lease was lost; the storage error if the end could not be stored.
    pub(super) async fn end(&self, result: Result<Value, Failure>) -> Result<(), Error> {
        let ended = self.hand_over(&result).await;
        let ended = match ended {
            Ok(true) => Ok(()),
            Ok(false) => self.store_result(result).await,
            Err(error) => Err(error),
        };
        self.ctx.app().part::<LocalOperations>().remove(self.ctx.app(), &self.held);
        if let Err(error) = &ended {
            warn!(
                operation = self.held.id,
                error = error as &dyn std::error::Error,
                "not ended here"
            );
            self.ctx.add_audit_detail("ended_elsewhere", true);
            self.close(Ending::Unknown, CODE_UNKNOWN).await;
        }
        ended
    }

    /// Releases the lease of resumable work that stopped because the process is shutting down, so that another replica
    /// resumes it. Returns `false` if the work ends here instead.
    async fn hand_over(&self, result: &Result<Value, Failure>) -> Result<bool, Error> {
        let stopped = matches!(result, Err(Failure { code: FailureCode::Cancelled, .. }));
        if !(stopped && self.resumable && self.held.stop_cause() == Some(StopCause::Draining)) {
            return Ok(false);
        }
        let db = self.ctx.db();
        let mut conn = db.write().await?;
        let now = db.now(&mut conn).await?;
        if !leases::release(&mut conn, &self.held.id, self.held.fence, now).await? {
            return Err(self.lease_lost_error());
        }
        drop(conn);
        info!(operation = self.held.id, "handed over");
        self.ctx.add_audit_detail("handed_over", true);
        self.close(Ending::Unknown, CODE_UNKNOWN).await;
        Ok(true)
    }

    async fn store_result(&self, result: Result<Value, Failure>) -> Result<(), Error> {
        let ended = self.final_state(result);
        let (mut tries, mut wait) = (1, RETRY_MIN);
        let row = loop {
            match store_end(&self.ctx, &self.held.id, self.held.fence, &ended).await {
                Ok(Some(row)) => break row,
                // The previous attempt may have stored the end although its response was lost.
                Ok(None) if tries > 1 => break self.load_own_end().await?,
                Ok(None) => return Err(self.lease_lost_error()),
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
        record_metrics(&row, self.started_at.elapsed());
        let (ending, code) = match &ended {
            FinalState::Succeeded(_) => (Ending::Ok, 0),
            FinalState::Failed(Failure { code, message, .. }, _) => {
                self.ctx.add_audit_detail("error_code", code.as_str());
                self.ctx.add_audit_detail("error", sanitize(message, TEXT_CHARS_MAX));
                (Ending::Failed, code.grpc())
            }
        };
        self.close(ending, code).await;
        Ok(())
    }

    /// Converts a result into what is stored. Canceled work fails with the reason of the cancellation.
    fn final_state(&self, result: Result<Value, Failure>) -> FinalState {
        let mut failure = match result {
            Ok(value) => match self.seal_result(value) {
                Ok(sealed) => return FinalState::Succeeded(sealed),
                Err(error) => error.into(),
            },
            Err(failure) => failure,
        };
        let orphaned =
            match self.held.stop_cause().filter(|_| failure.code == FailureCode::Cancelled) {
                Some(StopCause::Draining) => Some("the server was stopped"),
                Some(StopCause::LeaseLost) => {
                    Some("the replica lost its lease on the operation, so it stopped the work")
                }
                Some(StopCause::Cancelled) | None => None,
            };
        if let Some(why) = orphaned {
            failure.code = FailureCode::Orphaned;
            why.clone_into(&mut failure.message);
        }
        if let (FailureCode::Cancelled, Some(lost)) = (failure.code, self.held.right_loss()) {
            failure.message = format!("the operation was canceled: {}", lost.as_str());
        }
        let by_then = failure.result.take().and_then(|value| {
            let sealed = self.seal_result(value).inspect_err(|error| {
                let operation = &self.held.id;
                warn!(operation, error = error as &dyn std::error::Error, "its result is not kept");
            });
            sealed.ok()
        });
        FinalState::Failed(failure, by_then)
    }

    fn seal_result(&self, value: Value) -> Result<Vec<u8>, Error> {
        let kept = serde_json::to_vec(&fit_to_limit(value)).map_err(Error::internal)?;
        self.ctx.app().master.seal(&aad("result_json", &self.held.id), &kept)
    }

    async fn load_own_end(&self) -> Result<Operation, Error> {
        let mut conn = self.ctx.db().read().await?;
        let found = store::by_id(&mut conn, &self.held.id).await?;
        let own = |row: &Operation| row.status.is_terminal() && row.fence == self.held.fence;
        found.filter(own).ok_or_else(|| self.lease_lost_error())
    }

    fn lease_lost_error(&self) -> Error {
        Error::conflict(ResourceKind::Operation, &self.held.id)
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
async fn store_end(
    ctx: &Ctx,
    id: &str,
    fence: i64,
    ended: &FinalState,
) -> Result<Option<Operation>, Error> {
    let write = async |tx: &mut Tx<'_>| store_end_in(tx, ctx, id, fence, ended).await;
    let written = ctx.transaction(write).await?;
    if let Some(row) = &written {
        wake(ctx, row);
    }
    Ok(written)
}

/// Wakes calls that wait for the operation. Called after the commit.
pub(super) fn wake(ctx: &Ctx, row: &Operation) {
    ctx.app().part::<LocalOperations>().feed.notify(&row.id, row.version);
}

/// As `store_end`, inside a transaction. Call [`wake`] after the commit.
pub(super) async fn store_end_in(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    id: &str,
    fence: i64,
    ended: &FinalState,
) -> Result<Option<Operation>, Error> {
    let now = ctx.now();
    let (status, event, result, failure) = match ended {
        FinalState::Succeeded(result) => {
            (Status::Succeeded, event_types::OPERATION_SUCCEEDED, Some(result.as_slice()), None)
        }
        FinalState::Failed(failure, result) => {
            (Status::Failed, event_types::OPERATION_FAILED, result.as_deref(), Some(failure))
        }
    };
    let message = failure.map(|failure| sanitize(&failure.message, TEXT_CHARS_MAX));
    let code = failure.map(|failure| failure.code);
    let end = OperationEnd { status, result, code, message: message.as_deref(), at: now };
    let Some(row) = store::end(tx, id, fence, &end).await? else { return Ok(None) };
    emit_event(tx, ctx, event, &row).await?;
    Ok(Some(row))
}

/// Updates the metrics for an operation that has ended.
pub(super) fn record_metrics(row: &Operation, took: Duration) {
    let outcome = row.error_code.map_or("succeeded", FailureCode::as_str);
    counter!(OPERATIONS, "type" => row.kind.as_str(), "outcome" => outcome).increment(1);
    histogram!(OPERATION_DURATION, "type" => row.kind.as_str()).record(took);
}
