//! Taking back a sandbox whose creation was cancelled (WP65).
//!
//! Invariants
//! - what is deleted is the very sandbox that was made, by its id: another of its name stays;
//! - hooks and an SBOM that were written for the name stay for the next one of it;
//! - a replica that stops, or has lost its lease, takes nothing back: another goes on.

use std::time::Duration;

use tokio::time::sleep;

use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::resources::operations::keeper::Stop;
use crate::resources::operations::patience::is_final;
use crate::resources::operations::{Failure, Running};

/// How often a deletion is tried.
const TRIES_MAX: u32 = 100;
/// How long it rests in between.
const REST: Duration = Duration::from_millis(1_500);

/// Whether the sandbox was taken back, because the operation was cancelled. A replica that stops, or has lost its lease,
/// takes nothing back: another goes on.
pub(super) async fn undo(
    running: &Running,
    gateway: &Gateway,
    sandbox: &Sandbox,
) -> Result<bool, Failure> {
    match running.why() {
        None => return Ok(false),
        Some(Stop::Draining | Stop::LeaseLost) => return Err(Failure::cancelled()),
        Some(Stop::Cancelled) => {}
    }
    let mut tries = 1;
    loop {
        match undone(running, gateway, sandbox).await {
            Ok(()) => return Ok(true),
            Err(error) if tries >= TRIES_MAX || is_final(&error) => return Err(error.into()),
            // A gateway that is away for a moment must not keep what nobody wants.
            Err(_) => tries += 1,
        }
        sleep(REST).await;
        running.still_mine()?;
    }
}

/// Deletes this very sandbox; another of its name stays.
async fn undone(running: &Running, gateway: &Gateway, sandbox: &Sandbox) -> Result<(), Error> {
    match gateway.get_sandbox(&sandbox.place).await {
        Ok(found) if found.id != sandbox.id => return Ok(()),
        Ok(_) => {}
        Err(Error::Missing { .. }) => {
            return super::domain::taken_back(running.ctx(), &sandbox.place).await;
        }
        Err(error) => return Err(error),
    }
    gateway.delete_sandbox(&sandbox.place).await?;
    super::domain::taken_back(running.ctx(), &sandbox.place).await
}
