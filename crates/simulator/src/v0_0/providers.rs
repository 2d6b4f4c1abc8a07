//! Providers, their profiles, and the renewal of their credentials.

use tonic::Status;

use super::{GatewayV0_0, render};
use crate::state::{Meta, Page, Provider, State};
use shoreguard_proto::v0_0::openshell::datamodel::v1 as dm;
use shoreguard_proto::v0_0::openshell::v1 as pb;

type RpcResult<T> = Result<T, Status>;

/// Converts a provider of a request.
fn parse_provider(provider: dm::Provider) -> Provider {
    let meta = provider.metadata.unwrap_or_default();
    Provider {
        meta: Meta {
            name: meta.name,
            labels: meta.labels,
            resource_version: meta.resource_version,
            ..Meta::default()
        },
        kind: provider.r#type,
        credentials: provider.credentials,
        config: provider.config,
        expires_ms: provider.credential_expires_at_ms,
        profile_workspace: provider.profile_workspace,
        ..Provider::default()
    }
}

fn response(provider: &Provider) -> pb::ProviderResponse {
    pb::ProviderResponse { provider: Some(render::provider(provider)) }
}

pub(super) fn create(
    gateway: &GatewayV0_0,
    request: pb::CreateProviderRequest,
) -> RpcResult<pb::ProviderResponse> {
    let new = request.provider.map(parse_provider);
    gateway
        .core
        .with(|state| state.create_provider(&request.workspace, new))
        .map(|one| response(&one))
}

pub(super) fn get(
    gateway: &GatewayV0_0,
    request: pb::GetProviderRequest,
) -> RpcResult<pb::ProviderResponse> {
    let at = (request.workspace, request.name);
    gateway.core.with(|state| state.provider(&at).map(|one| response(&one.redacted())))
}

pub(super) fn list(
    gateway: &GatewayV0_0,
    request: pb::ListProvidersRequest,
) -> RpcResult<pb::ListProvidersResponse> {
    let workspace = (!request.all_workspaces).then_some(request.workspace.as_str());
    let page = Page::from_offset(request.offset, request.limit);
    let (found, _) = gateway.core.with(|state| state.list_providers(workspace, "", page))?;
    Ok(pb::ListProvidersResponse { providers: found.iter().map(render::provider).collect() })
}

pub(super) fn update(
    gateway: &GatewayV0_0,
    request: pb::UpdateProviderRequest,
) -> RpcResult<pb::ProviderResponse> {
    let mut change = request.provider.map(parse_provider);
    if let Some(change) = &mut change {
        change.expires_ms.extend(request.credential_expires_at_ms);
    }
    gateway
        .core
        .with(|state| state.update_provider(&request.workspace, change))
        .map(|one| response(&one))
}

pub(super) fn delete(
    gateway: &GatewayV0_0,
    request: pb::DeleteProviderRequest,
) -> RpcResult<pb::DeleteProviderResponse> {
    let at = (request.workspace, request.name);
    let deleted = gateway.core.with(|state| state.delete_provider(&at))?;
    Ok(pb::DeleteProviderResponse { deleted })
}

pub(super) fn list_profiles(
    gateway: &GatewayV0_0,
    request: pb::ListProviderProfilesRequest,
) -> RpcResult<pb::ListProviderProfilesResponse> {
    let page = Page::from_offset(request.offset, request.limit);
    let (profiles, _) = gateway.core.with(|state| state.list_profiles(&request.workspace, page))?;
    Ok(pb::ListProviderProfilesResponse { profiles })
}

pub(super) fn get_profile(
    gateway: &GatewayV0_0,
    request: pb::GetProviderProfileRequest,
) -> RpcResult<pb::ProviderProfileResponse> {
    let at = (request.workspace, request.id);
    let profile = gateway.core.with(|state| state.get_profile(&at))?;
    Ok(pb::ProviderProfileResponse { profile: Some(profile) })
}

pub(super) fn import_profiles(
    gateway: &GatewayV0_0,
    request: pb::ImportProviderProfilesRequest,
) -> RpcResult<pb::ImportProviderProfilesResponse> {
    let (diagnostics, profiles) =
        gateway.core.with(|state| state.import_profiles(&request.workspace, request.profiles))?;
    let imported = diagnostics.is_empty();
    Ok(pb::ImportProviderProfilesResponse { diagnostics, profiles, imported })
}

pub(super) fn update_profile(
    gateway: &GatewayV0_0,
    request: pb::UpdateProviderProfilesRequest,
) -> RpcResult<pb::UpdateProviderProfilesResponse> {
    let at = (request.workspace, request.id);
    let (diagnostics, profile) = gateway.core.with(|state| {
        state.update_profile(&at, request.profile, request.expected_resource_version)
    })?;
    let updated = profile.is_some();
    Ok(pb::UpdateProviderProfilesResponse { diagnostics, profile, updated })
}

pub(super) fn lint_profiles(
    _: &GatewayV0_0,
    request: pb::LintProviderProfilesRequest,
) -> RpcResult<pb::LintProviderProfilesResponse> {
    let diagnostics = State::lint_profiles(&request.profiles)?;
    Ok(pb::LintProviderProfilesResponse { valid: diagnostics.is_empty(), diagnostics })
}

pub(super) fn delete_profile(
    gateway: &GatewayV0_0,
    request: pb::DeleteProviderProfileRequest,
) -> RpcResult<pb::DeleteProviderProfileResponse> {
    let at = (request.workspace, request.id);
    let deleted = gateway.core.with(|state| state.delete_profile(&at))?;
    Ok(pb::DeleteProviderProfileResponse { deleted })
}

pub(super) fn refreshes(
    gateway: &GatewayV0_0,
    request: pb::GetProviderRefreshStatusRequest,
) -> RpcResult<pb::GetProviderRefreshStatusResponse> {
    let at = (request.workspace, request.provider);
    let found = gateway.core.with(|state| state.refreshes(&at, &request.credential_key))?;
    let credentials = found.iter().map(render::refresh).collect();
    Ok(pb::GetProviderRefreshStatusResponse { credentials })
}

pub(super) fn configure(
    gateway: &GatewayV0_0,
    request: pb::ConfigureProviderRefreshRequest,
) -> RpcResult<pb::ConfigureProviderRefreshResponse> {
    let at = (request.workspace, request.provider);
    let expires_ms = request.expires_at_ms.unwrap_or_default();
    let done = gateway.core.with(|state| {
        state.configure_refresh(&at, &request.credential_key, request.strategy, expires_ms)
    })?;
    Ok(pb::ConfigureProviderRefreshResponse { status: Some(render::refresh(&done)) })
}

pub(super) fn rotate(
    gateway: &GatewayV0_0,
    request: pb::RotateProviderCredentialRequest,
) -> RpcResult<pb::RotateProviderCredentialResponse> {
    let at = (request.workspace, request.provider);
    let done = gateway.core.with(|state| state.rotate(&at, &request.credential_key))?;
    Ok(pb::RotateProviderCredentialResponse { status: Some(render::refresh(&done)) })
}

pub(super) fn delete_refresh(
    gateway: &GatewayV0_0,
    request: pb::DeleteProviderRefreshRequest,
) -> RpcResult<pb::DeleteProviderRefreshResponse> {
    let at = (request.workspace, request.provider);
    let deleted = gateway.core.with(|state| state.delete_refresh(&at, &request.credential_key))?;
    Ok(pb::DeleteProviderRefreshResponse { deleted })
}
