//! Generation 0.1 of the API.
//!
//! A sandbox is always identified by name and workspace; lists have page tokens, writes have request ids, and deletions
//! have outcomes.

mod drafts;
pub(super) mod policy;
mod providers;
mod render;
mod sandboxes;
mod scope;
mod sessions;
mod templates;
mod workspaces;

use tonic::Streaming;
use tonic::service::Routes;

use super::gateway::{Gateway, MESSAGE_BYTES_MAX, methods};
use shoreguard_proto::v0_1::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_1::openshell::v1 as pb;
use shoreguard_proto::v0_1::openshell::v1::open_shell_server::{OpenShell, OpenShellServer};

/// The gateway with the API of generation 0.1.
#[derive(Debug, Clone)]
pub(super) struct GatewayV0_1(Gateway);

impl std::ops::Deref for GatewayV0_1 {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.0
    }
}

impl GatewayV0_1 {
    /// Stores the response of a write for its request id.
    fn execute_once<Q: prost::Message, A: prost::Message + Default>(
        &self,
        method: &'static str,
        id: impl Fn(&Q) -> &str,
        request: tonic::Request<Q>,
        act: impl FnOnce(&Self, Q) -> Result<A, tonic::Status>,
    ) -> Result<tonic::Response<A>, tonic::Status> {
        self.0.execute_once(method, id, request, |_, message| act(self, message))
    }
}

/// Returns the services of a gateway.
pub(super) fn routes(gateway: Gateway) -> Routes {
    let shell =
        OpenShellServer::new(GatewayV0_1(gateway)).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Routes::new(shell)
}

methods! {
    OpenShell, GatewayV0_1,
    plain {
        health(pb::HealthRequest) -> pb::HealthResponse = workspaces::health;
        get_gateway_info(pb::GetGatewayInfoRequest) -> pb::GetGatewayInfoResponse = workspaces::info;
        begin_rootfs_tar_staging(pb::BeginRootfsTarStagingRequest) -> pb::BeginRootfsTarStagingResponse = templates::begin_staging;
        get_sandbox(pb::GetSandboxRequest) -> pb::SandboxResponse = sandboxes::get;
        list_sandboxes(pb::ListSandboxesRequest) -> pb::ListSandboxesResponse = sandboxes::list;
        get_sandbox_template(pb::GetSandboxTemplateRequest) -> pb::SandboxTemplateResponse = templates::get;
        list_sandbox_templates(pb::ListSandboxTemplatesRequest) -> pb::ListSandboxTemplatesResponse = templates::list;
        list_sandbox_providers(pb::ListSandboxProvidersRequest) -> pb::ListSandboxProvidersResponse = sandboxes::providers;
        get_sandbox_provider_status(pb::GetSandboxProviderStatusRequest) -> pb::GetSandboxProviderStatusResponse = sandboxes::provider_status;
        create_ssh_session(pb::CreateSshSessionRequest) -> pb::CreateSshSessionResponse = sessions::create_ssh;
        revoke_ssh_session(pb::RevokeSshSessionRequest) -> pb::RevokeSshSessionResponse = sessions::revoke_ssh;
        get_service(pb::GetServiceRequest) -> pb::ServiceEndpointResponse = sandboxes::get_service;
        list_services(pb::ListServicesRequest) -> pb::ListServicesResponse = sandboxes::list_services;
        get_provider(pb::GetProviderRequest) -> pb::ProviderResponse = providers::get;
        list_providers(pb::ListProvidersRequest) -> pb::ListProvidersResponse = providers::list;
        list_provider_profiles(pb::ListProviderProfilesRequest) -> pb::ListProviderProfilesResponse = providers::list_profiles;
        get_provider_profile(pb::GetProviderProfileRequest) -> pb::ProviderProfileResponse = providers::get_profile;
        lint_provider_profiles(pb::LintProviderProfilesRequest) -> pb::LintProviderProfilesResponse = providers::lint_profiles;
        get_provider_refresh_status(pb::GetProviderRefreshStatusRequest) -> pb::GetProviderRefreshStatusResponse = providers::refreshes;
        get_sandbox_config(sb::GetSandboxConfigRequest) -> sb::GetSandboxConfigResponse = policy::config;
        get_gateway_config(sb::GetGatewayConfigRequest) -> sb::GetGatewayConfigResponse = policy::gateway_config;
        get_sandbox_policy_status(pb::GetSandboxPolicyStatusRequest) -> pb::GetSandboxPolicyStatusResponse = policy::status;
        list_sandbox_policies(pb::ListSandboxPoliciesRequest) -> pb::ListSandboxPoliciesResponse = policy::list;
        get_sandbox_logs(pb::GetSandboxLogsRequest) -> pb::GetSandboxLogsResponse = sessions::logs;
        get_draft_policy(pb::GetDraftPolicyRequest) -> pb::GetDraftPolicyResponse = drafts::get;
        get_draft_history(pb::GetDraftHistoryRequest) -> pb::GetDraftHistoryResponse = drafts::history;
        get_workspace(pb::GetWorkspaceRequest) -> pb::GetWorkspaceResponse = workspaces::get;
        list_workspaces(pb::ListWorkspacesRequest) -> pb::ListWorkspacesResponse = workspaces::list;
        list_workspace_members(pb::ListWorkspaceMembersRequest) -> pb::ListWorkspaceMembersResponse = workspaces::list_members;
    }
    once {
        create_sandbox(pb::CreateSandboxRequest) -> pb::SandboxResponse = sandboxes::create;
        create_sandbox_template(pb::CreateSandboxTemplateRequest) -> pb::SandboxTemplateResponse = templates::create;
        delete_sandbox_template(pb::DeleteSandboxTemplateRequest) -> pb::DeleteSandboxTemplateResponse = templates::delete;
        attach_sandbox_provider(pb::AttachSandboxProviderRequest) -> pb::AttachSandboxProviderResponse = sandboxes::attach;
        detach_sandbox_provider(pb::DetachSandboxProviderRequest) -> pb::DetachSandboxProviderResponse = sandboxes::detach;
        delete_sandbox(pb::DeleteSandboxRequest) -> pb::DeleteSandboxResponse = sandboxes::delete;
        stop_sandbox(pb::StopSandboxRequest) -> pb::SandboxResponse = sandboxes::stop;
        start_sandbox(pb::StartSandboxRequest) -> pb::SandboxResponse = sandboxes::start;
        expose_service(pb::ExposeServiceRequest) -> pb::ServiceEndpointResponse = sandboxes::expose;
        delete_service(pb::DeleteServiceRequest) -> pb::DeleteServiceResponse = sandboxes::delete_service;
        create_provider(pb::CreateProviderRequest) -> pb::ProviderResponse = providers::create;
        update_provider(pb::UpdateProviderRequest) -> pb::ProviderResponse = providers::update;
        delete_provider(pb::DeleteProviderRequest) -> pb::DeleteProviderResponse = providers::delete;
        import_provider_profiles(pb::ImportProviderProfilesRequest) -> pb::ImportProviderProfilesResponse = providers::import_profiles;
        update_provider_profiles(pb::UpdateProviderProfilesRequest) -> pb::UpdateProviderProfilesResponse = providers::update_profile;
        delete_provider_profile(pb::DeleteProviderProfileRequest) -> pb::DeleteProviderProfileResponse = providers::delete_profile;
        configure_provider_refresh(pb::ConfigureProviderRefreshRequest) -> pb::ConfigureProviderRefreshResponse = providers::configure;
        rotate_provider_credential(pb::RotateProviderCredentialRequest) -> pb::RotateProviderCredentialResponse = providers::rotate;
        delete_provider_refresh(pb::DeleteProviderRefreshRequest) -> pb::DeleteProviderRefreshResponse = providers::delete_refresh;
        update_config(pb::UpdateConfigRequest) -> pb::UpdateConfigResponse = policy::update;
        approve_draft_chunk(pb::ApproveDraftChunkRequest) -> pb::ApproveDraftChunkResponse = drafts::approve;
        reject_draft_chunk(pb::RejectDraftChunkRequest) -> pb::RejectDraftChunkResponse = drafts::reject;
        approve_all_draft_chunks(pb::ApproveAllDraftChunksRequest) -> pb::ApproveAllDraftChunksResponse = drafts::approve_all;
        edit_draft_chunk(pb::EditDraftChunkRequest) -> pb::EditDraftChunkResponse = drafts::edit;
        undo_draft_chunk(pb::UndoDraftChunkRequest) -> pb::UndoDraftChunkResponse = drafts::undo;
        clear_draft_chunks(pb::ClearDraftChunksRequest) -> pb::ClearDraftChunksResponse = drafts::clear;
        create_workspace(pb::CreateWorkspaceRequest) -> pb::CreateWorkspaceResponse = workspaces::create;
        delete_workspace(pb::DeleteWorkspaceRequest) -> pb::DeleteWorkspaceResponse = workspaces::delete;
        add_workspace_member(pb::AddWorkspaceMemberRequest) -> pb::AddWorkspaceMemberResponse = workspaces::add_member;
        remove_workspace_member(pb::RemoveWorkspaceMemberRequest) -> pb::RemoveWorkspaceMemberResponse = workspaces::remove_member;
    }
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
