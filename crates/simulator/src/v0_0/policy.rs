//! Policies and settings.

use tonic::Status;

use super::{GatewayV0_0, render};
use crate::state::{
    ConfigChange, ConfigUpdate, MergeOperation, ObjectKey, Page, Revision, RuleTarget,
    active_version,
};
use shoreguard_proto::v0_0::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_0::openshell::v1 as pb;
use shoreguard_proto::v0_0::openshell::v1::policy_merge_operation::Operation;

type RpcResult<T> = Result<T, Status>;

pub(super) fn config(
    gateway: &GatewayV0_0,
    request: sb::GetSandboxConfigRequest,
) -> RpcResult<sb::GetSandboxConfigResponse> {
    gateway.core.with(|state| {
        let at = state.sandbox_key(&request.sandbox_id)?;
        Ok(render::config(state.config(&at)?, &at.0))
    })
}

pub(super) fn gateway_config(
    gateway: &GatewayV0_0,
    _: sb::GetGatewayConfigRequest,
) -> RpcResult<sb::GetGatewayConfigResponse> {
    gateway.core.with(|state| {
        Ok(sb::GetGatewayConfigResponse {
            settings: state.settings.all(),
            settings_revision: state.settings.revision,
        })
    })
}

pub(super) fn update(
    gateway: &GatewayV0_0,
    request: pb::UpdateConfigRequest,
) -> RpcResult<pb::UpdateConfigResponse> {
    let merges =
        request.merge_operations.into_iter().map(merge_operation).collect::<Result<Vec<_>, _>>()?;
    let setting = SettingChange {
        key: request.setting_key,
        value: request.setting_value,
        delete: request.delete_setting,
    };
    let update = ConfigUpdate {
        sandbox: (!request.global).then_some((request.workspace, request.name)),
        change: config_change(request.policy, merges, setting)?,
        expected_version: request.expected_resource_version,
        annotations: request.annotations,
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
pub(crate) struct SettingChange {
    /// Empty if the request does not change a setting.
    pub(crate) key: String,
    /// The new value.
    pub(crate) value: Option<sb::SettingValue>,
    /// Deletes the setting instead.
    pub(crate) delete: bool,
}

/// Returns the change of a request, which must be exactly one.
pub(crate) fn config_change(
    policy: Option<sb::SandboxPolicy>,
    merges: Vec<MergeOperation>,
    setting: SettingChange,
) -> RpcResult<ConfigChange> {
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

fn merge_operation(operation: pb::PolicyMergeOperation) -> RpcResult<MergeOperation> {
    let target = |host, port| RuleTarget { host, ports: vec![port], ..RuleTarget::default() };
    Ok(match operation.operation {
        Some(Operation::AddRule(add)) => {
            MergeOperation::AddRule(add.rule_name, add.rule.unwrap_or_default())
        }
        Some(Operation::RemoveRule(remove)) => MergeOperation::RemoveRule(remove.rule_name),
        Some(Operation::RemoveEndpoint(remove)) => {
            MergeOperation::RemoveEndpoint(remove.rule_name, remove.host, remove.port)
        }
        Some(Operation::AddDenyRules(add)) => {
            MergeOperation::AddDenyRules(target(add.host, add.port), add.deny_rules)
        }
        Some(Operation::AddAllowRules(add)) => {
            MergeOperation::AddAllowRules(target(add.host, add.port), add.rules)
        }
        Some(Operation::RemoveBinary(remove)) => {
            MergeOperation::RemoveBinary(remove.rule_name, remove.binary_path)
        }
        None => return Err(Status::invalid_argument("a merge operation is empty")),
    })
}

pub(super) fn status(
    gateway: &GatewayV0_0,
    request: pb::GetSandboxPolicyStatusRequest,
) -> RpcResult<pb::GetSandboxPolicyStatusResponse> {
    let at: ObjectKey = (request.workspace, request.name);
    let all = gateway.core.with(|state| state.revisions((!request.global).then_some(&at)))?;
    let found = find_revision(&all, request.version)?;
    Ok(pb::GetSandboxPolicyStatusResponse {
        revision: Some(render::revision(found)),
        active_version: newest_active_version(&all),
    })
}

/// Returns the revision with a version, or the newest for version 0. `all` must be sorted, newest first.
pub(crate) fn find_revision(all: &[Revision], version: u32) -> RpcResult<&Revision> {
    all.iter()
        .find(|revision| version == 0 || revision.version == version)
        .ok_or_else(|| Status::not_found("policy revision not found"))
}

/// Returns the version that was loaded last. `all` must be sorted, newest first.
pub(crate) fn newest_active_version(all: &[Revision]) -> u32 {
    all.iter()
        .map(|revision| active_version(std::slice::from_ref(revision)))
        .find(|at| *at != 0)
        .unwrap_or(0)
}

pub(super) fn list(
    gateway: &GatewayV0_0,
    request: pb::ListSandboxPoliciesRequest,
) -> RpcResult<pb::ListSandboxPoliciesResponse> {
    let at: ObjectKey = (request.workspace, request.name);
    let all = gateway.core.with(|state| state.revisions((!request.global).then_some(&at)))?;
    let (page, _) =
        Page::from_offset(request.offset, request.limit).paginate(all.iter().map(render::revision));
    Ok(pb::ListSandboxPoliciesResponse { revisions: page })
}
