//! The gateway itself, its callers, and workspaces.

use tonic::{Request, Status};

use super::{GatewayV0_0, render};
use crate::gateway::Caller;
use crate::state::Page;
use shoreguard_proto::release::Version;
use shoreguard_proto::v0_0::openshell::v1 as pb;

type RpcResult<T> = Result<T, Status>;

pub(super) fn health(gateway: &GatewayV0_0, _: pb::HealthRequest) -> RpcResult<pb::HealthResponse> {
    Ok(pb::HealthResponse {
        status: pb::ServiceStatus::Healthy.into(),
        version: gateway.info.version(),
    })
}

pub(super) fn info(
    gateway: &GatewayV0_0,
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
            }),
        }],
    })
}

/// The first release with `GetCurrentUser`.
const CURRENT_USER_SINCE: Version = Version(0, 0, 95);

pub(super) fn current_user(
    gateway: &GatewayV0_0,
    request: &Request<pb::GetCurrentUserRequest>,
) -> RpcResult<pb::GetCurrentUserResponse> {
    let version = Version::parse(&gateway.info.version());
    if version.is_some_and(|version| version < CURRENT_USER_SINCE) {
        return Err(Status::unimplemented(""));
    }
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
    gateway: &GatewayV0_0,
    request: pb::CreateWorkspaceRequest,
) -> RpcResult<pb::CreateWorkspaceResponse> {
    let new = gateway.core.with(|state| state.create_workspace(&request.name, request.labels))?;
    Ok(pb::CreateWorkspaceResponse { workspace: Some(render::workspace(&new)) })
}

pub(super) fn get(
    gateway: &GatewayV0_0,
    request: pb::GetWorkspaceRequest,
) -> RpcResult<pb::GetWorkspaceResponse> {
    let found = gateway.core.with(|state| state.get_workspace(&request.name).cloned())?;
    Ok(pb::GetWorkspaceResponse { workspace: Some(render::workspace(&found)) })
}

pub(super) fn list(
    gateway: &GatewayV0_0,
    request: pb::ListWorkspacesRequest,
) -> RpcResult<pb::ListWorkspacesResponse> {
    let page = Page::from_offset(request.offset, request.limit);
    let (found, _) =
        gateway.core.with(|state| state.list_workspaces(&request.label_selector, page))?;
    Ok(pb::ListWorkspacesResponse { workspaces: found.iter().map(render::workspace).collect() })
}

pub(super) fn delete(
    gateway: &GatewayV0_0,
    request: pb::DeleteWorkspaceRequest,
) -> RpcResult<pb::DeleteWorkspaceResponse> {
    let deleted = gateway.core.with(|state| state.delete_workspace(&request.name))?;
    Ok(pb::DeleteWorkspaceResponse { deleted })
}

pub(super) fn add_member(
    gateway: &GatewayV0_0,
    request: pb::AddWorkspaceMemberRequest,
) -> RpcResult<pb::AddWorkspaceMemberResponse> {
    let (workspace, subject) = (request.workspace, request.principal_subject);
    let member = gateway.core.with(|state| state.add_member(&workspace, &subject, request.role))?;
    Ok(pb::AddWorkspaceMemberResponse { member: Some(render::member(&member)) })
}

pub(super) fn remove_member(
    gateway: &GatewayV0_0,
    request: pb::RemoveWorkspaceMemberRequest,
) -> RpcResult<pb::RemoveWorkspaceMemberResponse> {
    gateway.core.with(|state| {
        let workspace = state.get_workspace(&request.workspace)?;
        let removed = workspace.members.remove(&request.principal_subject).is_some();
        Ok(pb::RemoveWorkspaceMemberResponse { removed })
    })
}

pub(super) fn list_members(
    gateway: &GatewayV0_0,
    request: pb::ListWorkspaceMembersRequest,
) -> RpcResult<pb::ListWorkspaceMembersResponse> {
    let page = Page::from_offset(request.offset, request.limit);
    gateway.core.with(|state| {
        let workspace = state.get_workspace(&request.workspace)?;
        let (members, _) = page.paginate(workspace.members.values().map(render::member));
        Ok(pb::ListWorkspaceMembersResponse { members })
    })
}
