//! The gateway itself, its callers, and workspaces.

use tonic::{Request, Status};

use super::{V00, render};
use crate::gateway::Caller;
use crate::state::Page;
use shoreguard_proto::release::Version;
use shoreguard_proto::v0_0::openshell::v1 as pb;

type Answer<T> = Result<T, Status>;

pub(super) fn health(gateway: &V00, _: pb::HealthRequest) -> Answer<pb::HealthResponse> {
    Ok(pb::HealthResponse {
        status: pb::ServiceStatus::Healthy.into(),
        version: gateway.about.version(),
    })
}

pub(super) fn info(
    gateway: &V00,
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
            }),
        }],
    })
}

/// The first release with `GetCurrentUser`.
const CURRENT_USER_SINCE: Version = Version(0, 0, 95);

pub(super) fn current_user(
    gateway: &V00,
    ask: &Request<pb::GetCurrentUserRequest>,
) -> Answer<pb::GetCurrentUserResponse> {
    let version = Version::parse(&gateway.about.version());
    if version.is_some_and(|version| version < CURRENT_USER_SINCE) {
        return Err(Status::unimplemented(""));
    }
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
    gateway: &V00,
    ask: pb::CreateWorkspaceRequest,
) -> Answer<pb::CreateWorkspaceResponse> {
    let new = gateway.core.with(|state| state.create_workspace(&ask.name, ask.labels))?;
    Ok(pb::CreateWorkspaceResponse { workspace: Some(render::workspace(&new)) })
}

pub(super) fn get(gateway: &V00, ask: pb::GetWorkspaceRequest) -> Answer<pb::GetWorkspaceResponse> {
    let found = gateway.core.with(|state| state.get_workspace(&ask.name).cloned())?;
    Ok(pb::GetWorkspaceResponse { workspace: Some(render::workspace(&found)) })
}

pub(super) fn list(
    gateway: &V00,
    ask: pb::ListWorkspacesRequest,
) -> Answer<pb::ListWorkspacesResponse> {
    let page = Page::at(ask.offset, ask.limit);
    let (found, _) = gateway.core.with(|state| state.list_workspaces(&ask.label_selector, page))?;
    Ok(pb::ListWorkspacesResponse { workspaces: found.iter().map(render::workspace).collect() })
}

pub(super) fn delete(
    gateway: &V00,
    ask: pb::DeleteWorkspaceRequest,
) -> Answer<pb::DeleteWorkspaceResponse> {
    let deleted = gateway.core.with(|state| state.delete_workspace(&ask.name))?;
    Ok(pb::DeleteWorkspaceResponse { deleted })
}

pub(super) fn add_member(
    gateway: &V00,
    ask: pb::AddWorkspaceMemberRequest,
) -> Answer<pb::AddWorkspaceMemberResponse> {
    let (workspace, subject) = (ask.workspace, ask.principal_subject);
    let member = gateway.core.with(|state| state.add_member(&workspace, &subject, ask.role))?;
    Ok(pb::AddWorkspaceMemberResponse { member: Some(render::member(&member)) })
}

pub(super) fn remove_member(
    gateway: &V00,
    ask: pb::RemoveWorkspaceMemberRequest,
) -> Answer<pb::RemoveWorkspaceMemberResponse> {
    gateway.core.with(|state| {
        let workspace = state.get_workspace(&ask.workspace)?;
        let removed = workspace.members.remove(&ask.principal_subject).is_some();
        Ok(pb::RemoveWorkspaceMemberResponse { removed })
    })
}

pub(super) fn list_members(
    gateway: &V00,
    ask: pb::ListWorkspaceMembersRequest,
) -> Answer<pb::ListWorkspaceMembersResponse> {
    let page = Page::at(ask.offset, ask.limit);
    gateway.core.with(|state| {
        let workspace = state.get_workspace(&ask.workspace)?;
        let (members, _) = page.cut(workspace.members.values().map(render::member));
        Ok(pb::ListWorkspaceMembersResponse { members })
    })
}
