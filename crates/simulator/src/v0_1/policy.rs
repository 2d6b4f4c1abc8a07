//! Policies and settings.

use prost::Message as _;
use tonic::Status;

use super::GatewayV0_1;
use super::render::{self, recast};
use super::scope::{sandbox_or_global, single_workspace};
use crate::state::{ConfigUpdate, ExactTarget, MergeOperation, Page, RuleTarget, apply_permitted};
use crate::v0_0::policy::{
    SettingChange, check_single_change, config_change, malformed, missing_operation,
};
use crate::v0_0::render as old;
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_1::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_1::openshell::v1 as pb;
use shoreguard_proto::v0_1::openshell::v1::policy_merge_operation::Operation;

type RpcResult<T> = Result<T, Status>;

pub(super) fn config(
    gateway: &GatewayV0_1,
    request: sb::GetSandboxConfigRequest,
) -> RpcResult<sb::GetSandboxConfigResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.name);
    let (mut kept, settings_revision) = gateway.core.with(|state| {
        let sandbox = state.sandbox(&at)?;
        let (at, revision) = (sandbox.key(), sandbox.settings.revision);
        Ok((old::config(state.config(&at)?, &at.0), revision + state.settings.revision))
    })?;
    let policy = kept.policy.take();
    Ok(sb::GetSandboxConfigResponse {
        policy: policy.as_ref().map(render::policy),
        configuration_admitted: true,
        settings_revision,
        ..recast(&kept)
    })
}

pub(super) fn gateway_config(
    gateway: &GatewayV0_1,
    _: sb::GetGatewayConfigRequest,
) -> RpcResult<sb::GetGatewayConfigResponse> {
    gateway.core.with(|state| {
        let settings = state.settings.all();
        Ok(sb::GetGatewayConfigResponse {
            settings: settings.iter().map(|(key, value)| (key.clone(), recast(value))).collect(),
            settings_revision: state.settings.revision,
        })
    })
}

pub(super) fn update(
    gateway: &GatewayV0_1,
    request: pb::UpdateConfigRequest,
) -> RpcResult<pb::UpdateConfigResponse> {
    let setting = SettingChange {
        key: request.setting_key,
        value: request.setting_value.as_ref().map(recast),
        delete: request.delete_setting,
    };
    let sandbox = sandbox_or_global(request.global, request.workspace_scope, request.sandbox)?;
    let count = request.merge_operations.len();
    check_single_change(request.policy.is_some(), count, &setting, request.global)?;
    let merges = request.merge_operations.into_iter().enumerate();
    let merges = merges.map(|(index, one)| merge_operation(index, one));
    let merges = merges.collect::<RpcResult<Vec<_>>>()?;
    let policy = request.policy.map(render::parse_policy).transpose()?;
    let update = ConfigUpdate {
        sandbox,
        change: config_change(policy, merges, setting)?,
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

fn rule_target(index: usize, target: Option<pb::L7RuleTarget>) -> RpcResult<RuleTarget> {
    let refuse = |why: &str| Status::invalid_argument(format!("merge_operations[{index}]{why}"));
    let target = target.ok_or_else(|| refuse(" requires an L7 target"))?;
    let paths: Vec<_> = target.binaries.into_iter().map(|binary| binary.path).collect();
    let binaries = match (target.any_binary, paths.is_empty()) {
        (true, true) => None,
        (false, false) => Some(paths),
        (_, _) => {
            let why = ".target requires exactly one of any_binary=true or nonempty binaries";
            return Err(refuse(why));
        }
    };
    Ok(RuleTarget::Exact(ExactTarget {
        rule_name: target.rule_name,
        host: target.host,
        ports: target.ports,
        path: target.path,
        binaries,
    }))
}

fn merge_operation(index: usize, operation: pb::PolicyMergeOperation) -> RpcResult<MergeOperation> {
    let operation = match operation.operation {
        Some(Operation::AddRule(add)) => MergeOperation::AddRule(
            add.rule_name,
            render::parse_rule(&add.rule.unwrap_or_default())?,
        ),
        Some(Operation::RemoveRule(remove)) => MergeOperation::RemoveRule(remove.rule_name),
        Some(Operation::RemoveEndpoint(remove)) => {
            MergeOperation::RemoveEndpoint(Some(remove.rule_name), remove.host, remove.port)
        }
        Some(Operation::AddDenyRules(add)) => MergeOperation::AddDenyRules(
            rule_target(index, add.target)?,
            add.deny_rules.iter().map(recast).collect(),
        ),
        Some(Operation::AddAllowRules(add)) => MergeOperation::AddAllowRules(
            rule_target(index, add.target)?,
            add.rules.iter().map(recast).collect(),
        ),
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
    let policy = render::parse_policy(policy)?;
    let mut merges = Vec::with_capacity(operations.len());
    for (index, encoded) in operations.iter().enumerate() {
        let one = pb::PolicyMergeOperation::decode(encoded.as_slice()).map_err(malformed)?;
        merges.push(merge_operation(index, one)?);
    }
    let result = apply_permitted(&policy, &merges, Generation::V0_1)?;
    Ok(render::policy(&result).encode_to_vec())
}

pub(super) fn status(
    gateway: &GatewayV0_1,
    request: pb::GetSandboxPolicyStatusRequest,
) -> RpcResult<pb::GetSandboxPolicyStatusResponse> {
    let at = sandbox_or_global(request.global, request.workspace_scope, request.sandbox)?;
    let (revision, active_version) =
        gateway.core.with(|state| state.policy_status(at.as_ref(), request.version))?;
    let policy = Some(render::policy(&revision.policy));
    Ok(pb::GetSandboxPolicyStatusResponse {
        revision: Some(pb::SandboxPolicyRevision { policy, ..render::revision(&revision) }),
        active_version,
    })
}

/// Lists revisions, without their policies.
pub(super) fn list(
    gateway: &GatewayV0_1,
    request: pb::ListSandboxPoliciesRequest,
) -> RpcResult<pb::ListSandboxPoliciesResponse> {
    let at = sandbox_or_global(request.global, request.workspace_scope, request.sandbox)?;
    let page = Page::from_token(&request.page_token, request.page_size)?;
    let all = gateway.core.with(|state| state.revisions(at.as_ref()))?;
    let (revisions, next_page_token) = page.paginate(all.iter().map(render::revision));
    Ok(pb::ListSandboxPoliciesResponse { revisions, next_page_token })
}
