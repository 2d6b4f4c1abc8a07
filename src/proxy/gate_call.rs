//! Reads from a checked request what it would change, for the gate.
//!
//! Invariants
//! - every method with an effect on policies is read here, by the change that its row states (T10);
//! - a request that changes more than one thing is read as the change that needs more, and is unclear: it is refused as
//!   soon as a rule applies (T09).

use super::update_config::{ConfigChange, field};
use crate::access::policy::{PolicyChange, UpstreamMethod, UpstreamPolicy};
use crate::db::types::{SandboxName, workspace_or_default};
use crate::error::Error;
use crate::governance::{Action, Indirect, WideKind};
use crate::openshell::draft_requests;
use crate::pb::strict::{Schema, UnknownFields};
use crate::pb::wire;
use crate::resources::approvals::gate::{Asked, CredentialWrite, GateCall, Place};
use crate::upstream::generation::Generation;

/// Fields of `CreateSandboxRequest`, the same in both generations.
const SPEC: u32 = 1;
const SPEC_POLICY: u32 = 7;
const SPEC_PROVIDERS: u32 = 8;
/// Field of the text in `SettingValue`, the same in both generations.
const TEXT_VALUE: u32 = 1;
/// Field of `UpdateProviderProfilesRequest` with the new profile, and the id in it, the same in both generations.
const UPDATED_PROFILE_ID: [u32; 3] = [1, 1, 1];
/// Member of `WorkspaceSelector` that selects all workspaces.
const ALL_WORKSPACES: u32 = 2;

/// A request, and the row of its method.
#[derive(Clone, Copy)]
pub(super) struct CheckedRequest<'a> {
    pub(super) row: &'static UpstreamMethod,
    pub(super) guard: &'static UpstreamPolicy,
    pub(super) generation: Generation,
    /// The message, which was parsed strictly.
    pub(super) message: &'a [u8],
}

/// Returns the call for the gate.
///
/// # Errors
/// `Internal` for a method without an effect on policies.
pub(super) fn to_gate_call(request: CheckedRequest<'_>) -> Result<GateCall, Error> {
    let CheckedRequest { row, guard, generation, message } = request;
    let change = guard.change.ok_or_else(|| Error::internal("a method that changes nothing"))?;
    let action = ConfigChange::parse(guard, message).action.unwrap_or(guard.action);
    let mut call = GateCall::new(request.asked(change), action);
    let schema = Schema::for_generation(generation);
    if selects_all_workspaces(guard, generation, message) {
        call.asked = Asked::Wide(WideKind::Providers, None);
        call.unclear = Some("`workspace_scope` must select one workspace".to_owned());
    } else if !matches!(schema.check(row.request, message, UnknownFields::Reject), Ok(0)) {
        let why = "the message has a field that this server does not know, and a rule applies";
        call.unclear = Some(why.to_owned());
    } else if change == PolicyChange::Config && changed_parts(message) > 1 {
        let why = "the message must change one thing only: a policy, merge operations or a setting";
        call.unclear = Some(why.to_owned());
    }
    Ok(call)
}

/// Whether the selector of the workspace selects all of them. Generation 0.0 has no selectors.
fn selects_all_workspaces(guard: &UpstreamPolicy, generation: Generation, message: &[u8]) -> bool {
    let Some((_, selector)) = guard.workspace_path.split_last() else { return false };
    let mut at = message;
    for number in selector {
        match wire::bytes_field(at, *number) {
            Some(bytes) => at = bytes,
            None => return false,
        }
    }
    generation == Generation::V0_1 && !selector.is_empty() && wire::has_field(at, ALL_WORKSPACES)
}

/// Returns how many of policy, merge operations and setting an `UpdateConfigRequest` changes.
fn changed_parts(message: &[u8]) -> usize {
    let has = |number| wire::has_field(message, number);
    let setting = has(field::SETTING_KEY)
        || has(field::SETTING_VALUE)
        || wire::is_flag_set(message, field::DELETE_SETTING);
    [has(field::POLICY), has(field::MERGE_OPERATIONS), setting]
        .into_iter()
        .filter(|changes| *changes)
        .count()
}

impl CheckedRequest<'_> {
    fn text(&self, path: &[u32]) -> &str {
        wire::text_at(self.message, path).unwrap_or_default()
    }

    fn workspace(&self) -> String {
        workspace_or_default(self.text(self.guard.workspace_path)).to_owned()
    }

    fn sandbox(&self) -> SandboxName {
        let name = self.text(self.guard.sandbox_path).to_owned();
        SandboxName { workspace: self.workspace(), name }
    }

    fn asked(&self, change: PolicyChange) -> Asked {
        match change {
            PolicyChange::Create => {
                let spec = wire::bytes_field(self.message, SPEC).unwrap_or_default();
                let brings_policy =
                    wire::has_field(spec, SPEC_POLICY) || wire::has_field(spec, SPEC_PROVIDERS);
                Asked::Create { place: self.sandbox(), brings_policy }
            }
            PolicyChange::Delete => Asked::Delete(self.sandbox()),
            PolicyChange::Config => self.config(),
            PolicyChange::Attachment => Asked::Indirect(self.sandbox(), Indirect::Providers),
            PolicyChange::Approve => Asked::Write(self.sandbox(), Action::DraftApprove),
            PolicyChange::ApproveAll => self.approve_all(),
            PolicyChange::Reject => {
                let chunk = self.text(self.guard.target_path).to_owned();
                Asked::Reject { sandbox: self.sandbox(), chunk }
            }
            PolicyChange::Undo => Asked::Write(self.sandbox(), Action::DraftUndo),
            PolicyChange::Edit => Asked::Harmless(Place::Sandbox(self.sandbox())),
            PolicyChange::Provider => self.provider(None),
            PolicyChange::Credentials => self.provider(Some(CredentialWrite {
                generation: self.generation,
                message: self.row.request,
                encoded: self.message.to_vec(),
            })),
            PolicyChange::Profile => self.profiles(),
            PolicyChange::Workspace => Asked::Wide(WideKind::Providers, Some(self.workspace())),
        }
    }

    fn provider(&self, credentials: Option<CredentialWrite>) -> Asked {
        let name = self.text(self.guard.target_path).to_owned();
        Asked::Provider { workspace: self.workspace(), name, credentials }
    }

    /// Profiles without a workspace are those of the whole gateway.
    fn profiles(&self) -> Asked {
        let workspace = self.text(self.guard.workspace_path);
        let mut ids = wire::texts_at(self.message, self.guard.target_path);
        ids.extend(wire::text_at(self.message, &UPDATED_PROFILE_ID));
        Asked::Profiles {
            workspace: (!workspace.is_empty()).then(|| workspace.to_owned()),
            ids: ids.into_iter().map(str::to_owned).collect(),
        }
    }

    fn approve_all(&self) -> Asked {
        if wire::has_field(self.message, draft_requests::list_field(self.generation)) {
            Asked::Write(self.sandbox(), Action::DraftApprove)
        } else {
            Asked::Indirect(self.sandbox(), Indirect::UnlistedDrafts)
        }
    }

    fn config(&self) -> Asked {
        let has = |number| wire::has_field(self.message, number);
        let is_global = wire::is_flag_set(self.message, field::GLOBAL);
        let key = self.text(&[field::SETTING_KEY]);
        let has_policy = has(field::POLICY) || has(field::MERGE_OPERATIONS);
        let is_policy = has_policy || key.is_empty() || key == super::update_config::GLOBAL_POLICY;
        match (is_policy, is_global) {
            (true, true) => Asked::Wide(WideKind::GlobalPolicy, None),
            (true, false) => Asked::Write(self.sandbox(), Action::PolicyApply),
            (false, _) => self.setting(key, is_global),
        }
    }

    fn setting(&self, key: &str, is_global: bool) -> Asked {
        let value = self.text(&[field::SETTING_VALUE, TEXT_VALUE]);
        let is_deleted = wire::is_flag_set(self.message, field::DELETE_SETTING);
        let sandbox = (!is_global).then(|| self.sandbox());
        Asked::setting(sandbox, key, (!is_deleted).then_some(value))
    }
}
