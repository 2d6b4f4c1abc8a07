//! Deletes the sandbox of a canceled creation.
//!
//! Invariants
//! - only the sandbox that this creation made is deleted, identified by its id: another sandbox of its name stays;
//! - hooks and an SBOM that were written for the name stay for the next sandbox of that name;
//! - a replica that is shutting down or has lost its lease undoes nothing: another replica resumes the operation.

use std::time::Duration;

use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::resources::operations::leases::StopCause;
use crate::resources::operations::retry::is_final;
use crate::resources::operations::{Failure, RunningOperation};

/// Most attempts to delete the sandbox.
const TRIES_MAX: u32 = 100;
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(1_500);

/// Deletes the sandbox if the operation was canceled. Returns whether it was deleted. Fails if this replica is shutting
/// down or has lost its lease.
pub(super) async fn undo(
    running: &RunningOperation,
    gateway: &Gateway,
    sandbox: &Sandbox,
) -> Result<bool, Failure> {
    match running.stop_cause() {
        None => return Ok(false),
        Some(StopCause::Draining | StopCause::LeaseLost) => return Err(Failure::cancelled()),
        Some(StopCause::Cancelled) => {}
    }
    let mut tries = 1;
    loop {
        match delete_created(running, gateway, sandbox).await {
            Ok(()) => return Ok(true),
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
    gateway.delete_sandbox(&sandbox.full_name).await?;
    super::domain::record_undo(running.ctx(), &sandbox.full_name).await
}
