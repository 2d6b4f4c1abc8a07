//! Deletes the sandbox of a canceled creation.
//!
//! Invariants
//! - the deletion passes the gate, as every deletion does: a sandbox with a pin or a workflow of its own stays (T01);
//! - only the sandbox that this creation made is deleted, identified by its id: another sandbox of its name stays;
//! - hooks and an SBOM that were written for the name stay for the next sandbox of that name;
//! - a replica that is shutting down or has lost its lease undoes nothing: another replica resumes the operation.

use std::time::Duration;

use crate::access::action::Action;
use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::resources::approvals::gate::{self, Asked, GateCall};
use crate::resources::operations::leases::StopCause;
use crate::resources::operations::retry::is_final;
use crate::resources::operations::{Failure, FailureCode, RunningOperation};

/// Most attempts to delete the sandbox.
const TRIES_MAX: u32 = 100;
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(1_500);

/// Result of undoing a creation.
#[derive(Debug)]
#[must_use = "the creation ends if it was canceled"]
pub(super) enum Undo {
    /// The operation was not canceled.
    NotCanceled,
    /// The operation was canceled, and the sandbox was deleted.
    Deleted,
    /// The operation was canceled, and a rule keeps the sandbox.
    Kept(Failure),
}

impl Undo {
    /// Returns the failure of a canceled creation.
    pub(super) fn check(self) -> Result<(), Failure> {
        match self {
            Self::NotCanceled => Ok(()),
            Self::Deleted => Err(Failure::cancelled()),
            Self::Kept(failure) => Err(failure),
        }
    }
}

/// Deletes the sandbox if the operation was canceled. Fails if this replica is shutting down or has lost its lease, or
/// if the gateway refuses.
pub(super) async fn undo(
    running: &RunningOperation,
    gateway: &Gateway,
    sandbox: &Sandbox,
) -> Result<Undo, Failure> {
    match running.stop_cause() {
        None => return Ok(Undo::NotCanceled),
        Some(StopCause::Draining | StopCause::LeaseLost) => return Err(Failure::cancelled()),
        Some(StopCause::Cancelled) => {}
    }
    let mut tries = 1;
    loop {
        match delete_created(running, gateway, sandbox).await {
            Ok(()) => return Ok(Undo::Deleted),
            Err(Error::Explained { why, .. }) => {
                let why = format!("the creation was canceled, but the sandbox stays: {why}");
                return Ok(Undo::Kept(Failure::new(FailureCode::Refused, why)));
            }
            Err(error) if tries >= TRIES_MAX || is_final(&error) => return Err(error.into()),
            // The sandbox must not stay because its gateway is unavailable for a moment.
            Err(_) => tries += 1,
        }
        running.ctx().app().clock.sleep(PAUSE).await;
        running.check_lease()?;
    }
}

/// Deletes this sandbox, but not another one of its name.
async fn delete_created(
    running: &RunningOperation,
    gateway: &Gateway,
    sandbox: &Sandbox,
) -> Result<(), Error> {
    match gateway.get_sandbox(&sandbox.full_name).await {
        Ok(found) if found.id != sandbox.id => return Ok(()),
        Ok(_) => {}
        Err(Error::NotFound { .. }) => {
            return super::domain::record_undo(running.ctx(), &sandbox.full_name).await;
        }
        Err(error) => return Err(error),
    }
    let ctx = running.ctx();
    let call = GateCall::new(Asked::Delete(sandbox.full_name.clone()), Action::SANDBOX_DELETE);
    let passed = gate::pass(ctx, gateway, &call).await?;
    let deleted = gateway.delete_sandbox(&sandbox.full_name, passed.until).await;
    gate::finish(ctx, passed).await;
    deleted?;
    super::domain::record_undo(ctx, &sandbox.full_name).await
}
