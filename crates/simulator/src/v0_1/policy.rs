//! Policies and settings.

use tonic::Status;

use super::V01;
use super::render::{self, recast};
use super::scope::one;
use crate::state::{ConfigUpdate, Merge, Page, Target};
use crate::v0_0::policy::{Setting, change, newest_active, pick};
use crate::v0_0::render as old;
use shoreguard_proto::v0_1::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_1::openshell::v1 as pb;
use shoreguard_proto::v0_1::openshell::v1::policy_merge_operation::Operation;

type Answer<T> = Result<T, Status>;

pub(super) fn config(
    gateway: &V01,
    ask: sb::GetSandboxConfigRequest,
) -> Answer<sb::GetSandboxConfigResponse> {
    let at = (one(ask.workspace_scope)?, ask.name);
    let (mut kept, settings_revision) = gateway.core.with(|state| {
        let sandbox = state.sandbox(&at)?;
        let (at, revision) = (sandbox.place(), sandbox.settings.revision);
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
    gateway: &V01,
    _: sb::GetGatewayConfigRequest,
) -> Answer<sb::GetGatewayConfigResponse> {
    gateway.core.with(|state| {
        let settings = state.settings.all();
        Ok(sb::GetGatewayConfigResponse {
            settings: settings.iter().map(|(key, value)| (key.clone(), recast(value))).collect(),
            settings_revision: state.settings.revision,
        })
    })
}

pub(super) fn update(
    gateway: &V01,
    ask: pb::UpdateConfigRequest,
) -> Answer<pb::UpdateConfigResponse> {
    let merges = ask.merge_operations.into_iter().map(merge).collect::<Result<Vec<_>, _>>()?;
    let setting = Setting {
        key: ask.setting_key,
        value: ask.setting_value.as_ref().map(recast),
        delete: ask.delete_setting,
    };
    let sandbox = if ask.global { None } else { Some((one(ask.workspace_scope)?, ask.sandbox)) };
    let update = ConfigUpdate {
        sandbox,
        change: change(ask.policy.map(render::policy_given), merges, setting)?,
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

fn target(target: Option<pb::L7RuleTarget>) -> Answer<Target> {
    let Some(target) = target else {
        return Err(Status::invalid_argument("target is required"));
    };
    Ok(Target {
        rule_name: target.rule_name,
        host: target.host,
        ports: target.ports,
        path: target.path,
    })
}

fn merge(operation: pb::PolicyMergeOperation) -> Answer<Merge> {
    Ok(match operation.operation {
        Some(Operation::AddRule(add)) => {
            Merge::AddRule(add.rule_name, render::rule_given(&add.rule.unwrap_or_default()))
        }
        Some(Operation::RemoveRule(remove)) => Merge::RemoveRule(remove.rule_name),
        Some(Operation::RemoveEndpoint(remove)) => {
            Merge::RemoveEndpoint(remove.rule_name, remove.host, remove.port)
        }
        Some(Operation::AddDenyRules(add)) => {
            Merge::AddDenyRules(target(add.target)?, add.deny_rules.iter().map(recast).collect())
        }
        Some(Operation::AddAllowRules(add)) => {
            Merge::AddAllowRules(target(add.target)?, add.rules.iter().map(recast).collect())
        }
        Some(Operation::RemoveBinary(remove)) => {
            Merge::RemoveBinary(remove.rule_name, remove.binary_path)
        }
        None => return Err(Status::invalid_argument("a merge operation is empty")),
    })
}

pub(super) fn status(
    gateway: &V01,
    ask: pb::GetSandboxPolicyStatusRequest,
) -> Answer<pb::GetSandboxPolicyStatusResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let all = gateway.core.with(|state| state.revisions((!ask.global).then_some(&at)))?;
    Ok(pb::GetSandboxPolicyStatusResponse {
        revision: Some(render::revision(pick(&all, ask.version)?)),
        active_version: newest_active(&all),
    })
}

pub(super) fn list(
    gateway: &V01,
    ask: pb::ListSandboxPoliciesRequest,
) -> Answer<pb::ListSandboxPoliciesResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let page = Page::of_token(&ask.page_token, ask.page_size)?;
    let all = gateway.core.with(|state| state.revisions((!ask.global).then_some(&at)))?;
    let (revisions, next_page_token) = page.cut(all.iter().map(render::revision));
    Ok(pb::ListSandboxPoliciesResponse { revisions, next_page_token })
}
