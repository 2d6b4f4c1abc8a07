//! Policies and settings.

use prost::Message as _;
use tonic::Status;

use super::{GatewayV0_0, render};
use crate::state::{
    ConfigChange, ConfigUpdate, MergeOperation, ObjectKey, Page, RuleTarget, apply_permitted,
};
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_0::openshell::v1 as pb;
use shoreguard_proto::v0_0::openshell::v1::policy_merge_operation::Operation;

type RpcResult<T> = Result<T, Status>;

/// Number of revisions in a list without a limit.
const REVISIONS_SHOWN: u32 = 50;

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
    let setting = SettingChange {
        key: request.setting_key,
        value: request.setting_value,
        delete: request.delete_setting,
    };
    let count = request.merge_operations.len();
    check_single_change(request.policy.is_some(), count, &setting, request.global)?;
    let merges = request.merge_operations.into_iter().enumerate();
    let merges = merges.map(|(index, one)| merge_operation(index, one));
    let merges = merges.collect::<RpcResult<Vec<_>>>()?;
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

/// Refuses a request with no change or with several.
pub(crate) fn check_single_change(
    has_policy: bool,
    merges: usize,
    setting: &SettingChange,
    global: bool,
) -> RpcResult<()> {
    let parts = [has_policy, merges > 0, !setting.key.trim().is_empty()];
    let why = match parts.iter().filter(|part| **part).count() {
        0 => "one of policy, setting_key, or merge_operations must be provided",
        1 if global && has_policy && setting.delete => {
            "delete_setting cannot be combined with policy payload"
        }
        1 => return Ok(()),
        _ => "policy, setting_key, and merge_operations are mutually exclusive",
    };
    Err(Status::invalid_argument(why))
}

/// Returns the change of a request, which has exactly one.
pub(crate) fn config_change(
    policy: Option<sb::SandboxPolicy>,
    merges: Vec<MergeOperation>,
    setting: SettingChange,
) -> RpcResult<ConfigChange> {
    if let Some(policy) = policy {
        return Ok(ConfigChange::Policy(policy));
    }
    if !merges.is_empty() {
        return Ok(ConfigChange::Merge(merges));
    }
    let key = setting.key.trim().to_owned();
    match (setting.delete, setting.value) {
        (true, _) => Ok(ConfigChange::Setting(key, None)),
        (false, Some(value)) => Ok(ConfigChange::Setting(key, Some(value))),
        (false, None) => Err(Status::invalid_argument("setting_value is required")),
    }
}

/// Returns the refusal of an operation without content.
pub(crate) fn missing_operation(index: usize) -> Status {
    Status::invalid_argument(format!("merge_operations[{index}] is missing an operation"))
}

fn merge_operation(index: usize, operation: pb::PolicyMergeOperation) -> RpcResult<MergeOperation> {
    let operation = match operation.operation {
        Some(Operation::AddRule(add)) => {
            MergeOperation::AddRule(add.rule_name, add.rule.unwrap_or_default())
        }
        Some(Operation::RemoveRule(remove)) => MergeOperation::RemoveRule(remove.rule_name),
        Some(Operation::RemoveEndpoint(remove)) => {
            MergeOperation::RemoveEndpoint(Some(remove.rule_name), remove.host, remove.port)
        }
        Some(Operation::AddDenyRules(add)) => {
            MergeOperation::AddDenyRules(RuleTarget::First(add.host, add.port), add.deny_rules)
        }
        Some(Operation::AddAllowRules(add)) => {
            MergeOperation::AddAllowRules(RuleTarget::First(add.host, add.port), add.rules)
        }
        Some(Operation::RemoveBinary(remove)) => {
            MergeOperation::RemoveBinary(remove.rule_name, remove.binary_path)
        }
        None => return Err(missing_operation(index)),
    };
    operation.parse(index)
}

/// Returns what merge operations make of a policy; all of them are encoded.
pub(crate) fn merged(policy: &[u8], operations: &[Vec<u8>]) -> RpcResult<Vec<u8>> {
    let policy = sb::SandboxPolicy::decode(policy).map_err(malformed)?;
    let mut merges = Vec::with_capacity(operations.len());
    for (index, encoded) in operations.iter().enumerate() {
        let one = pb::PolicyMergeOperation::decode(encoded.as_slice()).map_err(malformed)?;
        merges.push(merge_operation(index, one)?);
    }
    Ok(apply_permitted(&policy, &merges, Generation::V0_0)?.encode_to_vec())
}

/// Returns the refusal of a message that cannot be decoded.
pub(crate) fn malformed(error: prost::DecodeError) -> Status {
    Status::invalid_argument(error.to_string())
}

pub(super) fn status(
    gateway: &GatewayV0_0,
    request: pb::GetSandboxPolicyStatusRequest,
) -> RpcResult<pb::GetSandboxPolicyStatusResponse> {
    let at: ObjectKey = (request.workspace, request.name);
    let at = (!request.global).then_some(&at);
    let (revision, active_version) =
        gateway.core.with(|state| state.policy_status(at, request.version))?;
    let policy = Some(revision.policy.clone());
    Ok(pb::GetSandboxPolicyStatusResponse {
        revision: Some(pb::SandboxPolicyRevision { policy, ..render::revision(&revision) }),
        active_version,
    })
}

/// Lists revisions, without their policies.
pub(super) fn list(
    gateway: &GatewayV0_0,
    request: pb::ListSandboxPoliciesRequest,
) -> RpcResult<pb::ListSandboxPoliciesResponse> {
    let at: ObjectKey = (request.workspace, request.name);
    let all = gateway.core.with(|state| state.revisions((!request.global).then_some(&at)))?;
    let limit = if request.limit == 0 { REVISIONS_SHOWN } else { request.limit };
    let (page, _) =
        Page::from_offset(request.offset, limit).paginate(all.iter().map(render::revision));
    Ok(pb::ListSandboxPoliciesResponse { revisions: page })
}
