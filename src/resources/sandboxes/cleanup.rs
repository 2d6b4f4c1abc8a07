//! Deletes what is stored under a sandbox's name together with the sandbox: a new sandbox of that name inherits
//! nothing.
//!
//! Votes and audit entries stay as a record; for pins and workflows, see T01.

use serde_json::{Value, json};

use super::positions::store as positions;
use super::store;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::resources::{boot_hooks, sboms};

/// Counts of the data that was deleted with a sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SandboxDependents {
    /// Whether a description or labels were deleted.
    pub metadata: bool,
    /// Number of boot hooks.
    pub boot_hooks: usize,
    /// Whether an SBOM was deleted.
    pub sbom: bool,
    /// Number of SSH sessions.
    pub ssh_sessions: usize,
}

impl SandboxDependents {
    /// Returns the counts for the audit log and the event.
    #[must_use]
    pub fn to_json(self) -> Value {
        json!({
            "metadata": self.metadata,
            "boot_hooks": self.boot_hooks,
            "sbom": self.sbom,
            "ssh_sessions": self.ssh_sessions,
        })
    }
}

/// Which hooks and SBOMs, which users write for a sandbox name, are deleted with a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteScope {
    /// All.
    All,
    /// Hooks and SBOMs written at or before this time. Later ones belong to the next sandbox of that name.
    WrittenBy(Timestamp),
    /// None.
    None,
}

/// Deletes what is stored under the name of a deleted sandbox. `hooks` and `sbom` select which of the hooks and the
/// SBOM are deleted.
pub async fn delete_dependents(
    conn: &mut Conn,
    gateway: &str,
    place: &SandboxName,
    hooks: DeleteScope,
    sbom: DeleteScope,
) -> Result<SandboxDependents, Error> {
    let metadata = store::lock(conn, gateway, place).await?.is_some_and(|meta| meta.version > 1);
    let sbom = match sbom {
        DeleteScope::All => sboms::store::delete_of_sandbox(conn, gateway, place, None).await? > 0,
        DeleteScope::WrittenBy(by) => {
            sboms::store::delete_of_sandbox(conn, gateway, place, Some(by)).await? > 0
        }
        DeleteScope::None => false,
    };
    let boot_hooks = match hooks {
        DeleteScope::All => {
            boot_hooks::store::delete_of_sandbox(conn, gateway, place, None).await?
        }
        DeleteScope::WrittenBy(by) => {
            boot_hooks::store::delete_of_sandbox(conn, gateway, place, Some(by)).await?
        }
        DeleteScope::None => 0,
    };
    let ssh_sessions = store::delete_ssh_of(conn, gateway, place).await?;
    store::delete(conn, gateway, place).await?;
    positions::delete(conn, gateway, place).await?;
    Ok(SandboxDependents { metadata, boot_hooks, sbom, ssh_sessions })
}

/// Returns what a deletion would delete.
pub async fn count_dependents(
    conn: &mut Conn,
    gateway: &str,
    place: &SandboxName,
) -> Result<SandboxDependents, Error> {
    let SandboxName { workspace, name } = place;
    let described = store::get(conn, gateway, place).await?.is_some_and(|meta| meta.version > 1);
    Ok(SandboxDependents {
        metadata: described,
        boot_hooks: boot_hooks::store::count_of_sandbox(conn, gateway, workspace, name).await?,
        sbom: sboms::store::count_of_sandbox(conn, gateway, workspace, name).await? > 0,
        ssh_sessions: store::count_ssh_of(conn, gateway, place).await?,
    })
}
