//! Conversions that only generation 0.1 needs: workspaces, times, outcomes.

use prost_types::Timestamp;
use tonic::Status;

use crate::state::ObjectKey;
use shoreguard_proto::v0_1::openshell::datamodel::v1::WorkspaceSelector;
use shoreguard_proto::v0_1::openshell::datamodel::v1::workspace_selector::Selection;
use shoreguard_proto::v0_1::openshell::v1::DeletionOutcome;

/// Returns the workspace of a request; empty for the default. Refuses a request for all workspaces.
pub(super) fn single_workspace(scope: Option<WorkspaceSelector>) -> Result<String, Status> {
    list_workspace(scope)
        .ok_or_else(|| Status::invalid_argument("all_workspaces is not supported by this request"))
}

/// Returns the sandbox of a request; `None` for a global request, which must have no workspace.
pub(super) fn sandbox_or_global(
    global: bool,
    scope: Option<WorkspaceSelector>,
    sandbox: String,
) -> Result<Option<ObjectKey>, Status> {
    match (global, scope) {
        (true, None) => Ok(None),
        (true, Some(_)) => {
            Err(Status::invalid_argument("workspace_scope must be omitted when global is true"))
        }
        (false, scope) => Ok(Some((single_workspace(scope)?, sandbox))),
    }
}

/// Returns the workspace of a list; `None` for all workspaces.
pub(super) fn list_workspace(scope: Option<WorkspaceSelector>) -> Option<String> {
    match scope.and_then(|scope| scope.selection) {
        Some(Selection::Workspace(name)) => Some(name),
        Some(Selection::AllWorkspaces(_)) => None,
        None => Some(String::new()),
    }
}

/// Returns the outcome of a deletion that completes at once.
pub(super) fn deletion_outcome(
    kind: &str,
    deleted: bool,
    allow_missing: bool,
) -> Result<i32, Status> {
    match (deleted, allow_missing) {
        (true, _) => Ok(DeletionOutcome::Completed.into()),
        (false, true) => Ok(DeletionOutcome::AlreadyAbsent.into()),
        (false, false) => Err(Status::not_found(format!("{kind} not found"))),
    }
}

/// Converts milliseconds since 1970; `None` for 0.
pub(super) fn to_timestamp(ms: i64) -> Option<Timestamp> {
    let nanos = i32::try_from(ms.rem_euclid(1_000)).unwrap_or_default() * 1_000_000;
    (ms != 0).then_some(Timestamp { seconds: ms.div_euclid(1_000), nanos })
}

/// Converts to milliseconds since 1970; 0 for `None`.
pub(super) fn to_millis(time: Option<Timestamp>) -> i64 {
    time.map_or(0, |time| {
        time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos) / 1_000_000)
    })
}
