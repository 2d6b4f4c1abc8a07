//! What hangs on a sandbox's name goes with the sandbox (WP33): a new one of that name inherits none of it.
//!
//! Votes and the audit log stay, for the record; pins and workflows stay as T01 has it.

use serde_json::{Value, json};

use super::store;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::resources::{boot_hooks, sboms};

/// What went with a sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gone {
    /// Whether description or labels did.
    pub metadata: bool,
    /// How many boot hooks did.
    pub boot_hooks: usize,
    /// Whether an SBOM did.
    pub sbom: bool,
    /// How many SSH sessions did.
    pub ssh_sessions: usize,
}

impl Gone {
    /// For the audit log and the event.
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

/// Which of what people have written for a name goes with a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// What was written by then: what came later is for the next one.
    By(Timestamp),
    /// None.
    None,
}

/// Forgets what hangs on the name of a sandbox which is gone; of its hooks and its SBOM, which were written for a name, so
/// much.
pub async fn forget(
    conn: &mut Conn,
    gateway: &str,
    place: &SandboxName,
    hooks: Which,
    sbom: Which,
) -> Result<Gone, Error> {
    let metadata = store::lock(conn, gateway, place).await?.is_some_and(|meta| meta.version > 1);
    let sbom = match sbom {
        Which::All => sboms::store::delete_of(conn, gateway, place, None).await? > 0,
        Which::By(by) => sboms::store::delete_of(conn, gateway, place, Some(by)).await? > 0,
        Which::None => false,
    };
    let boot_hooks = match hooks {
        Which::All => boot_hooks::store::delete_of(conn, gateway, place, None).await?,
        Which::By(by) => boot_hooks::store::delete_of(conn, gateway, place, Some(by)).await?,
        Which::None => 0,
    };
    let ssh_sessions = store::delete_ssh_of(conn, gateway, place).await?;
    store::forget(conn, gateway, place).await?;
    Ok(Gone { metadata, boot_hooks, sbom, ssh_sessions })
}

/// What would go.
pub async fn look(conn: &mut Conn, gateway: &str, place: &SandboxName) -> Result<Gone, Error> {
    let SandboxName { workspace, name } = place;
    let described = store::get(conn, gateway, place).await?.is_some_and(|meta| meta.version > 1);
    Ok(Gone {
        metadata: described,
        boot_hooks: boot_hooks::store::count_of(conn, gateway, workspace, name).await?,
        sbom: sboms::store::count_of(conn, gateway, workspace, name).await? > 0,
        ssh_sessions: store::count_ssh_of(conn, gateway, place).await?,
    })
}
