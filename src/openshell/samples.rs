//! A sandbox for unit tests.

use std::collections::BTreeMap;

use super::sandbox::{Phase, Sandbox};
use crate::db::types::SandboxName;

/// Returns a ready sandbox of the workspace `default`.
pub(crate) fn sandbox(name: &str) -> Sandbox {
    Sandbox {
        id: String::new(),
        full_name: SandboxName { workspace: "default".to_owned(), name: name.to_owned() },
        phase: Phase::Ready,
        created_at: None,
        image: String::new(),
        gpu: false,
        providers: Vec::new(),
        policy_version: 0,
        resource_version: 0,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        conditions: Vec::new(),
        exit_code: None,
    }
}
