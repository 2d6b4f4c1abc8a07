//! Generation 0.0 of the API.
//!
//! A sandbox is identified by name and workspace, or by id in requests about its processes.

pub(super) mod drafts;
mod inference;
pub(super) mod policy;
mod providers;
pub(super) mod render;
mod sandboxes;
mod sessions;
mod workspaces;

use tonic::Streaming;
use tonic::service::Routes;

use super::gateway::{Gateway, MESSAGE_BYTES_MAX, methods};
use shoreguard_proto::v0_0::openshell::inference::v1 as inf;
use shoreguard_proto::v0_0::openshell::inference::v1::inference_server::{
    Inference, InferenceServer,
};
use shoreguard_proto::v0_0::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_0::openshell::v1 as pb;
use shoreguard_proto::v0_0::openshell::v1::open_shell_server::{OpenShell, OpenShellServer};

/// The gateway with the API of generation 0.0.
#[derive(Debug, Clone)]
pub(super) struct GatewayV0_0(Gateway);

impl std::ops::Deref for GatewayV0_0 {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.0
    }
}

/// Returns the services of a gateway.
pub(super) fn routes(gateway: Gateway) -> Routes {
    let gateway = GatewayV0_0(gateway);
    let shell = OpenShellServer::new(gateway.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let inference = InferenceServer::new(gateway).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Routes::new(shell).add_service(inference)
}

methods! {
    OpenShell, GatewayV0_0,
    plain {
        health(pb::HealthRequest) -> pb::HealthResponse = workspaces::health;
        get_gateway_info(pb::GetGatewayInfoRequest) -> pb::GetGatewayInfoResponse = workspaces::info;
        create_sandbox(pb::CreateSandboxRequest) -> pb::SandboxResponse = sandboxes::create;
        get_sandbox(pb::GetSandboxRequest) -> pb::SandboxResponse = sandboxes::get;
        list_sandboxes(pb::ListSandboxesRequest) -> pb::ListSandboxesResponse = sandboxes::list;
        list_sandbox_providers(pb::ListSandboxProvidersRequest) -> pb::ListSandboxProvidersResponse = sandboxes::providers;
        attach_sandbox_provider(pb::AttachSandboxProviderRequest) -> pb::AttachSandboxProviderResponse = sandboxes::attach;
        detach_sandbox_provider(pb::DetachSandboxProviderRequest) -> pb::DetachSandboxProviderResponse = sandboxes::detach;
        delete_sandbox(pb::DeleteSandboxRequest) -> pb::DeleteSandboxResponse = sandboxes::delete;
        stop_sandbox(pb::StopSandboxRequest) -> pb::SandboxResponse = sandboxes::stop;
        start_sandbox(pb::StartSandboxRequest) -> pb::SandboxResponse = sandboxes::start;
        create_ssh_session(pb::CreateSshSessionRequest) -> pb::CreateSshSessionResponse = sessions::create_ssh;
        revoke_ssh_session(pb::RevokeSshSessionRequest) -> pb::RevokeSshSessionResponse = sessions::revoke_ssh;
        expose_service(pb::ExposeServiceRequest) -> pb::ServiceEndpointResponse = sandboxes::expose;
        get_service(pb::GetServiceRequest) -> pb::ServiceEndpointResponse = sandboxes::get_service;
        list_services(pb::ListServicesRequest) -> pb::ListServicesResponse = sandboxes::list_services;
        delete_service(pb::DeleteServiceRequest) -> pb::DeleteServiceResponse = sandboxes::delete_service;
        create_provider(pb::CreateProviderRequest) -> pb::ProviderResponse = providers::create;
        get_provider(pb::GetProviderRequest) -> pb::ProviderResponse = providers::get;
        list_providers(pb::ListProvidersRequest) -> pb::ListProvidersResponse = providers::list;
        update_provider(pb::UpdateProviderRequest) -> pb::ProviderResponse = providers::update;
        delete_provider(pb::DeleteProviderRequest) -> pb::DeleteProviderResponse = providers::delete;
        list_provider_profiles(pb::ListProviderProfilesRequest) -> pb::ListProviderProfilesResponse = providers::list_profiles;
        get_provider_profile(pb::GetProviderProfileRequest) -> pb::ProviderProfileResponse = providers::get_profile;
        import_provider_profiles(pb::ImportProviderProfilesRequest) -> pb::ImportProviderProfilesResponse = providers::import_profiles;
        update_provider_profiles(pb::UpdateProviderProfilesRequest) -> pb::UpdateProviderProfilesResponse = providers::update_profile;
        lint_provider_profiles(pb::LintProviderProfilesRequest) -> pb::LintProviderProfilesResponse = providers::lint_profiles;
        delete_provider_profile(pb::DeleteProviderProfileRequest) -> pb::DeleteProviderProfileResponse = providers::delete_profile;
        get_provider_refresh_status(pb::GetProviderRefreshStatusRequest) -> pb::GetProviderRefreshStatusResponse = providers::refreshes;
        configure_provider_refresh(pb::ConfigureProviderRefreshRequest) -> pb::ConfigureProviderRefreshResponse = providers::configure;
        rotate_provider_credential(pb::RotateProviderCredentialRequest) -> pb::RotateProviderCredentialResponse = providers::rotate;
        delete_provider_refresh(pb::DeleteProviderRefreshRequest) -> pb::DeleteProviderRefreshResponse = providers::delete_refresh;
        get_sandbox_config(sb::GetSandboxConfigRequest) -> sb::GetSandboxConfigResponse = policy::config;
        get_gateway_config(sb::GetGatewayConfigRequest) -> sb::GetGatewayConfigResponse = policy::gateway_config;
        update_config(pb::UpdateConfigRequest) -> pb::UpdateConfigResponse = policy::update;
        get_sandbox_policy_status(pb::GetSandboxPolicyStatusRequest) -> pb::GetSandboxPolicyStatusResponse = policy::status;
        list_sandbox_policies(pb::ListSandboxPoliciesRequest) -> pb::ListSandboxPoliciesResponse = policy::list;
        get_sandbox_logs(pb::GetSandboxLogsRequest) -> pb::GetSandboxLogsResponse = sessions::logs;
        get_draft_policy(pb::GetDraftPolicyRequest) -> pb::GetDraftPolicyResponse = drafts::get;
        approve_draft_chunk(pb::ApproveDraftChunkRequest) -> pb::ApproveDraftChunkResponse = drafts::approve;
        reject_draft_chunk(pb::RejectDraftChunkRequest) -> pb::RejectDraftChunkResponse = drafts::reject;
        approve_all_draft_chunks(pb::ApproveAllDraftChunksRequest) -> pb::ApproveAllDraftChunksResponse = drafts::approve_all;
        edit_draft_chunk(pb::EditDraftChunkRequest) -> pb::EditDraftChunkResponse = drafts::edit;
        undo_draft_chunk(pb::UndoDraftChunkRequest) -> pb::UndoDraftChunkResponse = drafts::undo;
        clear_draft_chunks(pb::ClearDraftChunksRequest) -> pb::ClearDraftChunksResponse = drafts::clear;
        get_draft_history(pb::GetDraftHistoryRequest) -> pb::GetDraftHistoryResponse = drafts::history;
        create_workspace(pb::CreateWorkspaceRequest) -> pb::CreateWorkspaceResponse = workspaces::create;
        get_workspace(pb::GetWorkspaceRequest) -> pb::GetWorkspaceResponse = workspaces::get;
        list_workspaces(pb::ListWorkspacesRequest) -> pb::ListWorkspacesResponse = workspaces::list;
        delete_workspace(pb::DeleteWorkspaceRequest) -> pb::DeleteWorkspaceResponse = workspaces::delete;
        add_workspace_member(pb::AddWorkspaceMemberRequest) -> pb::AddWorkspaceMemberResponse = workspaces::add_member;
        remove_workspace_member(pb::RemoveWorkspaceMemberRequest) -> pb::RemoveWorkspaceMemberResponse = workspaces::remove_member;
        list_workspace_members(pb::ListWorkspaceMembersRequest) -> pb::ListWorkspaceMembersResponse = workspaces::list_members;
    }
    once {}
    with_metadata {
        get_current_user(pb::GetCurrentUserRequest) -> pb::GetCurrentUserResponse = workspaces::current_user;
    }
    streams {
        exec_sandbox(pb::ExecSandboxRequest) -> pb::ExecSandboxEvent = sessions::exec;
        watch_sandbox(pb::WatchSandboxRequest) -> pb::SandboxStreamEvent = sessions::watch;
    }
    duplex {
        forward_tcp(Streaming<pb::TcpForwardFrame>) -> pb::TcpForwardFrame = sessions::forward;
        exec_sandbox_interactive(Streaming<pb::ExecSandboxInput>) -> pb::ExecSandboxEvent = sessions::interact;
    }
}

methods! {
    Inference, GatewayV0_0,
    plain {
        set_inference_route(inf::SetInferenceRouteRequest) -> inf::SetInferenceRouteResponse = inference::set;
        get_inference_route(inf::GetInferenceRouteRequest) -> inf::GetInferenceRouteResponse = inference::get;
        delete_inference_route(inf::DeleteInferenceRouteRequest) -> inf::DeleteInferenceRouteResponse = inference::delete;
    }
    once {}
    with_metadata {}
    streams {}
    duplex {}
}
