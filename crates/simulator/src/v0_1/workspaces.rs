//! The gateway itself, its callers, and workspaces.

use tonic::{Request, Status};

use super::scope::{deletion_outcome, single_workspace};
use super::{GatewayV0_1, render};
use crate::gateway::Caller;
use crate::state::Page;
use shoreguard_proto::v0_1::openshell::v1 as pb;

type RpcResult<T> = Result<T, Status>;

pub(super) fn health(gateway: &GatewayV0_1, _: pb::HealthRequest) -> RpcResult<pb::HealthResponse> {
    Ok(pb::HealthResponse {
        status: pb::ServiceStatus::Healthy.into(),
        version: gateway.info.version(),
    })
}

pub(super) fn info(
    gateway: &GatewayV0_1,
    _: pb::GetGatewayInfoRequest,
) -> RpcResult<pb::GetGatewayInfoResponse> {
    let version = gateway.info.version();
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
    _: &GatewayV0_1,
    request: &Request<pb::GetCurrentUserRequest>,
) -> RpcResult<pb::GetCurrentUserResponse> {
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Unidentified);
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
    gateway: &GatewayV0_1,
    request: pb::CreateWorkspaceRequest,
) -> RpcResult<pb::CreateWorkspaceResponse> {
    let new = gateway.core.with(|state| state.create_workspace(&request.name, request.labels))?;
    Ok(pb::CreateWorkspaceResponse { workspace: Some(render::workspace(&new)) })
}

pub(super) fn get(
    gateway: &GatewayV0_1,
    request: pb::GetWorkspaceRequest,
) -> RpcResult<pb::GetWorkspaceResponse> {
    let found = gateway.core.with(|state| state.get_workspace(&request.name).cloned())?;
    Ok(pb::GetWorkspaceResponse { workspace: Some(render::workspace(&found)) })
}

pub(super) fn list(
    gateway: &GatewayV0_1,
    request: pb::ListWorkspacesRequest,
) -> RpcResult<pb::ListWorkspacesResponse> {
    let page = Page::from_token(&request.page_token, request.page_size)?;
    let (found, next_page_token) =
        gateway.core.with(|state| state.list_workspaces(&request.label_selector, page))?;
    let workspaces = found.iter().map(render::workspace).collect();
    Ok(pb::ListWorkspacesResponse { workspaces, next_page_token })
}

pub(super) fn delete(
    gateway: &GatewayV0_1,
    request: pb::DeleteWorkspaceRequest,
) -> RpcResult<pb::DeleteWorkspaceResponse> {
    let deleted = gateway.core.with(|state| state.delete_workspace(&request.name))?;
    Ok(pb::DeleteWorkspaceResponse {
        outcome: deletion_outcome("workspace", deleted, request.allow_missing)?,
    })
}

pub(super) fn add_member(
    gateway: &GatewayV0_1,
    request: pb::AddWorkspaceMemberRequest,
) -> RpcResult<pb::AddWorkspaceMemberResponse> {
    let (workspace, subject) =
        (single_workspace(request.workspace_scope)?, request.principal_subject);
    let member = gateway.core.with(|state| state.add_member(&workspace, &subject, request.role))?;
    Ok(pb::AddWorkspaceMemberResponse { member: Some(render::member(&member)) })
}

pub(super) fn remove_member(
    gateway: &GatewayV0_1,
    request: pb::RemoveWorkspaceMemberRequest,
) -> RpcResult<pb::RemoveWorkspaceMemberResponse> {
    let workspace = single_workspace(request.workspace_scope)?;
    gateway.core.with(|state| {
        let workspace = state.get_workspace(&workspace)?;
        let removed = workspace.members.remove(&request.principal_subject).is_some();
        let outcome = deletion_outcome("member", removed, request.allow_missing)?;
        Ok(pb::RemoveWorkspaceMemberResponse { outcome })
    })
}

pub(super) fn list_members(
    gateway: &GatewayV0_1,
    request: pb::ListWorkspaceMembersRequest,
) -> RpcResult<pb::ListWorkspaceMembersResponse> {
    let page = Page::from_token(&request.page_token, request.page_size)?;
    let workspace = single_workspace(request.workspace_scope)?;
    gateway.core.with(|state| {
        let workspace = state.get_workspace(&workspace)?;
        let (members, next_page_token) =
            page.paginate(workspace.members.values().map(render::member));
        Ok(pb::ListWorkspaceMembersResponse { members, next_page_token })
    })
}
