//! The gateway itself, its callers, and workspaces.

use tonic::{Request, Status};

use super::scope::{one, outcome};
use super::{V01, render};
use crate::gateway::Caller;
use crate::state::Page;
use shoreguard_proto::v0_1::openshell::v1 as pb;

type Answer<T> = Result<T, Status>;

pub(super) fn health(gateway: &V01, _: pb::HealthRequest) -> Answer<pb::HealthResponse> {
    Ok(pb::HealthResponse {
        status: pb::ServiceStatus::Healthy.into(),
        version: gateway.about.version(),
    })
}

pub(super) fn info(
    gateway: &V01,
    _: pb::GetGatewayInfoRequest,
) -> Answer<pb::GetGatewayInfoResponse> {
    let version = gateway.about.version();
    Ok(pb::GetGatewayInfoResponse {
        status: pb::ServiceStatus::Healthy.into(),
        gateway_version: version.clone(),
        compute_drivers: vec![pb::ComputeDriverInfo {
            name: "simulator".to_owned(),
            capabilities: Some(pb::ComputeDriverCapabilities {
                driver_name: "simulator".to_owned(),
                driver_version: version,
                resource_capabilities: None,
            }),
        }],
        extensions: Vec::new(),
    })
}

pub(super) fn current_user(
    _: &V01,
    ask: &Request<pb::GetCurrentUserRequest>,
) -> Answer<pb::GetCurrentUserResponse> {
    let caller = ask.extensions().get::<Caller>().cloned().unwrap_or(Caller::Nobody);
    let (subject, provider) = caller.identity();
    Ok(pb::GetCurrentUserResponse {
        display_name: subject.clone(),
        subject,
        roles: caller.roles(),
        scopes: Vec::new(),
        identity_provider: provider.to_owned(),
    })
}

pub(super) fn create(
    gateway: &V01,
    ask: pb::CreateWorkspaceRequest,
) -> Answer<pb::CreateWorkspaceResponse> {
    let new = gateway.core.with(|state| state.create_workspace(&ask.name, ask.labels))?;
    Ok(pb::CreateWorkspaceResponse { workspace: Some(render::workspace(&new)) })
}

pub(super) fn get(gateway: &V01, ask: pb::GetWorkspaceRequest) -> Answer<pb::GetWorkspaceResponse> {
    let found = gateway.core.with(|state| state.get_workspace(&ask.name).cloned())?;
    Ok(pb::GetWorkspaceResponse { workspace: Some(render::workspace(&found)) })
}

pub(super) fn list(
    gateway: &V01,
    ask: pb::ListWorkspacesRequest,
) -> Answer<pb::ListWorkspacesResponse> {
    let page = Page::of_token(&ask.page_token, ask.page_size)?;
    let (found, next_page_token) =
        gateway.core.with(|state| state.list_workspaces(&ask.label_selector, page))?;
    let workspaces = found.iter().map(render::workspace).collect();
    Ok(pb::ListWorkspacesResponse { workspaces, next_page_token })
}

pub(super) fn delete(
    gateway: &V01,
    ask: pb::DeleteWorkspaceRequest,
) -> Answer<pb::DeleteWorkspaceResponse> {
    let deleted = gateway.core.with(|state| state.delete_workspace(&ask.name))?;
    Ok(pb::DeleteWorkspaceResponse { outcome: outcome("workspace", deleted, ask.allow_missing)? })
}

pub(super) fn add_member(
    gateway: &V01,
    ask: pb::AddWorkspaceMemberRequest,
) -> Answer<pb::AddWorkspaceMemberResponse> {
    let (workspace, subject) = (one(ask.workspace_scope)?, ask.principal_subject);
    let member = gateway.core.with(|state| state.add_member(&workspace, &subject, ask.role))?;
    Ok(pb::AddWorkspaceMemberResponse { member: Some(render::member(&member)) })
}

pub(super) fn remove_member(
    gateway: &V01,
    ask: pb::RemoveWorkspaceMemberRequest,
) -> Answer<pb::RemoveWorkspaceMemberResponse> {
    let workspace = one(ask.workspace_scope)?;
    gateway.core.with(|state| {
        let workspace = state.get_workspace(&workspace)?;
        let removed = workspace.members.remove(&ask.principal_subject).is_some();
        let outcome = outcome("member", removed, ask.allow_missing)?;
        Ok(pb::RemoveWorkspaceMemberResponse { outcome })
    })
}

pub(super) fn list_members(
    gateway: &V01,
    ask: pb::ListWorkspaceMembersRequest,
) -> Answer<pb::ListWorkspaceMembersResponse> {
    let page = Page::of_token(&ask.page_token, ask.page_size)?;
    let workspace = one(ask.workspace_scope)?;
    gateway.core.with(|state| {
        let workspace = state.get_workspace(&workspace)?;
        let (members, next_page_token) = page.cut(workspace.members.values().map(render::member));
        Ok(pb::ListWorkspaceMembersResponse { members, next_page_token })
    })
}
