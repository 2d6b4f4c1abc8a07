//! Policies and settings.

use tonic::Status;

use super::{V00, render};
use crate::state::{ConfigChange, ConfigUpdate, Key, Merge, Page, Revision, Target, active};
use shoreguard_proto::v0_0::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_0::openshell::v1 as pb;
use shoreguard_proto::v0_0::openshell::v1::policy_merge_operation::Operation;

type Answer<T> = Result<T, Status>;

pub(super) fn config(
    gateway: &V00,
    ask: sb::GetSandboxConfigRequest,
) -> Answer<sb::GetSandboxConfigResponse> {
    gateway.core.with(|state| {
        let at = state.place(&ask.sandbox_id)?;
        Ok(render::config(state.config(&at)?, &at.0))
    })
}

pub(super) fn gateway_config(
    gateway: &V00,
    _: sb::GetGatewayConfigRequest,
) -> Answer<sb::GetGatewayConfigResponse> {
    gateway.core.with(|state| {
        Ok(sb::GetGatewayConfigResponse {
            settings: state.settings.all(),
            settings_revision: state.settings.revision,
        })
    })
}

pub(super) fn update(
    gateway: &V00,
    ask: pb::UpdateConfigRequest,
) -> Answer<pb::UpdateConfigResponse> {
    let merges = ask.merge_operations.into_iter().map(merge).collect::<Result<Vec<_>, _>>()?;
    let setting =
        Setting { key: ask.setting_key, value: ask.setting_value, delete: ask.delete_setting };
    let update = ConfigUpdate {
        sandbox: (!ask.global).then_some((ask.workspace, ask.name)),
        change: change(ask.policy, merges, setting)?,
        expected: ask.expected_resource_version,
        annotations: ask.annotations,
    };
    let done = gateway.core.with(|state| state.update_config(update))?;
    Ok(pb::UpdateConfigResponse {
        version: done.version,
        policy_hash: done.hash,
        settings_revision: done.settings_revision,
        deleted: done.deleted,
        annotations: done.annotations,
    })
}

/// The part of a request that changes a setting.
pub(crate) struct Setting {
    /// Empty if the request does not change a setting.
    pub(crate) key: String,
    /// The new value.
    pub(crate) value: Option<sb::SettingValue>,
    /// Deletes the setting instead.
    pub(crate) delete: bool,
}

/// Returns the change of a request, which must be exactly one.
pub(crate) fn change(
    policy: Option<sb::SandboxPolicy>,
    merges: Vec<Merge>,
    setting: Setting,
) -> Answer<ConfigChange> {
    match (policy, merges.is_empty(), setting.key.as_str()) {
        (Some(policy), true, "") => Ok(ConfigChange::Policy(policy)),
        (None, false, "") => Ok(ConfigChange::Merge(merges)),
        (None, true, key) if !key.is_empty() => match (setting.value, setting.delete) {
            (None, true) => Ok(ConfigChange::Setting(setting.key, None)),
            (Some(value), false) => Ok(ConfigChange::Setting(setting.key, Some(value))),
            (_, _) => {
                Err(Status::invalid_argument("a setting needs setting_value or delete_setting"))
            }
        },
        (_, _, _) => Err(Status::invalid_argument(
            "exactly one of policy, merge_operations and setting_key is required",
        )),
    }
}

fn merge(operation: pb::PolicyMergeOperation) -> Answer<Merge> {
    let target = |host, port| Target { host, ports: vec![port], ..Target::default() };
    Ok(match operation.operation {
        Some(Operation::AddRule(add)) => {
            Merge::AddRule(add.rule_name, add.rule.unwrap_or_default())
        }
        Some(Operation::RemoveRule(remove)) => Merge::RemoveRule(remove.rule_name),
        Some(Operation::RemoveEndpoint(remove)) => {
            Merge::RemoveEndpoint(remove.rule_name, remove.host, remove.port)
        }
        Some(Operation::AddDenyRules(add)) => {
            Merge::AddDenyRules(target(add.host, add.port), add.deny_rules)
        }
        Some(Operation::AddAllowRules(add)) => {
            Merge::AddAllowRules(target(add.host, add.port), add.rules)
        }
        Some(Operation::RemoveBinary(remove)) => {
            Merge::RemoveBinary(remove.rule_name, remove.binary_path)
        }
        None => return Err(Status::invalid_argument("a merge operation is empty")),
    })
}

pub(super) fn status(
    gateway: &V00,
    ask: pb::GetSandboxPolicyStatusRequest,
) -> Answer<pb::GetSandboxPolicyStatusResponse> {
    let at: Key = (ask.workspace, ask.name);
    let all = gateway.core.with(|state| state.revisions((!ask.global).then_some(&at)))?;
    let found = pick(&all, ask.version)?;
    Ok(pb::GetSandboxPolicyStatusResponse {
        revision: Some(render::revision(found)),
        active_version: newest_active(&all),
    })
}

/// Returns the revision with a version, or the newest for version 0. `all` must be sorted, newest first.
pub(crate) fn pick(all: &[Revision], version: u32) -> Answer<&Revision> {
    all.iter()
        .find(|revision| version == 0 || revision.version == version)
        .ok_or_else(|| Status::not_found("policy revision not found"))
}

/// Returns the version that was loaded last. `all` must be sorted, newest first.
pub(crate) fn newest_active(all: &[Revision]) -> u32 {
    all.iter()
        .map(|revision| active(std::slice::from_ref(revision)))
        .find(|at| *at != 0)
        .unwrap_or(0)
}

pub(super) fn list(
    gateway: &V00,
    ask: pb::ListSandboxPoliciesRequest,
) -> Answer<pb::ListSandboxPoliciesResponse> {
    let at: Key = (ask.workspace, ask.name);
    let all = gateway.core.with(|state| state.revisions((!ask.global).then_some(&at)))?;
    let (page, _) = Page::at(ask.offset, ask.limit).cut(all.iter().map(render::revision));
    Ok(pb::ListSandboxPoliciesResponse { revisions: page })
}
