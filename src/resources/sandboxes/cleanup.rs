//! What hangs on a sandbox's name goes with the sandbox (WP33): a new one of that name inherits none of it.
//!
//! Votes and the audit log stay, for the record; pins and workflows stay as T01 has it.

use serde_json::{Value, json};

use super::store;
use crate::db::Conn;
use crate::db::types::Timestamp;
use crate::error::Error;
use crate::openshell::sandbox::Place;
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

/// Forgets all that hangs on the name of a sandbox which is gone; of its hooks, where a time is given, those that were
/// written by then.
pub async fn forget(
    conn: &mut Conn,
    gateway: &str,
    place: &Place,
    written_by: Option<Timestamp>,
) -> Result<Gone, Error> {
    let gone = forget_but_hooks(conn, gateway, place).await?;
    let Place { workspace, name } = place;
    let boot_hooks =
        boot_hooks::store::delete_of(conn, gateway, (workspace, name), written_by).await?;
    Ok(Gone { boot_hooks, ..gone })
}

/// The same, where the name is in use again and its hooks may have been written for the new one.
pub async fn forget_but_hooks(
    conn: &mut Conn,
    gateway: &str,
    place: &Place,
) -> Result<Gone, Error> {
    let Place { workspace, name } = place;
    let metadata = store::lock(conn, gateway, place).await?.is_some_and(|meta| meta.version > 1);
    let sbom = sboms::store::delete_of(conn, gateway, workspace, name).await? > 0;
    let ssh_sessions = store::delete_ssh_of(conn, gateway, place).await?;
    store::forget(conn, gateway, place).await?;
    Ok(Gone { metadata, boot_hooks: 0, sbom, ssh_sessions })
}

/// What would go.
pub async fn look(conn: &mut Conn, gateway: &str, place: &Place) -> Result<Gone, Error> {
    let Place { workspace, name } = place;
    let described = store::get(conn, gateway, place).await?.is_some_and(|meta| meta.version > 1);
    Ok(Gone {
        metadata: described,
        boot_hooks: boot_hooks::store::count_of(conn, gateway, workspace, name).await?,
        sbom: sboms::store::count_of(conn, gateway, workspace, name).await? > 0,
        ssh_sessions: store::count_ssh_of(conn, gateway, place).await?,
    })
}
