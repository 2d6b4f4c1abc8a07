//! Providers, their profiles, and the renewal of their credentials.

use std::collections::BTreeMap;

use prost_types::Timestamp;
use tonic::Status;

use super::GatewayV0_1;
use super::render::{self, recast};
use super::scope::{deletion_outcome, list_workspace, single_workspace, to_millis};
use crate::state::{Meta, Page, Provider, State};
use shoreguard_proto::v0_1::openshell::datamodel::v1 as dm;
use shoreguard_proto::v0_1::openshell::v1 as pb;

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
        expires_ms: to_millis_map(provider.credential_expiration_times),
        profile_workspace: provider.profile_workspace,
        ..Provider::default()
    }
}

fn to_millis_map(times: BTreeMap<String, Timestamp>) -> BTreeMap<String, i64> {
    times.into_iter().map(|(key, time)| (key, to_millis(Some(time)))).collect()
}

fn response(provider: &Provider) -> pb::ProviderResponse {
    pb::ProviderResponse {
        provider: Some(render::provider(provider)),
        target_receipts: Vec::new(),
        mutation_id: String::new(),
    }
}

pub(super) fn create(
    gateway: &GatewayV0_1,
    request: pb::CreateProviderRequest,
) -> RpcResult<pb::ProviderResponse> {
    let workspace = single_workspace(request.workspace_scope)?;
    let new = request.provider.map(parse_provider);
    gateway.core.with(|state| state.create_provider(&workspace, new)).map(|one| response(&one))
}

pub(super) fn get(
    gateway: &GatewayV0_1,
    request: pb::GetProviderRequest,
) -> RpcResult<pb::ProviderResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.name);
    gateway.core.with(|state| state.provider(&at).map(|one| response(&one.redacted())))
}

pub(super) fn list(
    gateway: &GatewayV0_1,
    request: pb::ListProvidersRequest,
) -> RpcResult<pb::ListProvidersResponse> {
    let workspace = list_workspace(request.workspace_scope);
    let page = Page::from_token(&request.page_token, request.page_size)?;
    let (found, next_page_token) = gateway
        .core
        .with(|state| state.list_providers(workspace.as_deref(), &request.label_selector, page))?;
    let providers = found.iter().map(render::provider).collect();
    Ok(pb::ListProvidersResponse { providers, next_page_token })
}

pub(super) fn update(
    gateway: &GatewayV0_1,
    request: pb::UpdateProviderRequest,
) -> RpcResult<pb::ProviderResponse> {
    let mut change = request.provider.map(parse_provider);
    if let Some(change) = &mut change {
        change.expires_ms.extend(to_millis_map(request.credential_expiration_times));
        change
            .expires_ms
            .extend(request.clear_credential_expiration_keys.into_iter().map(|key| (key, 0)));
    }
    let workspace = single_workspace(request.workspace_scope)?;
    gateway.core.with(|state| state.update_provider(&workspace, change)).map(|one| response(&one))
}

pub(super) fn delete(
    gateway: &GatewayV0_1,
    request: pb::DeleteProviderRequest,
) -> RpcResult<pb::DeleteProviderResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.name);
    let deleted = gateway.core.with(|state| state.delete_provider(&at))?;
    Ok(pb::DeleteProviderResponse {
        outcome: deletion_outcome("provider", deleted, request.allow_missing)?,
    })
}

pub(super) fn list_profiles(
    gateway: &GatewayV0_1,
    request: pb::ListProviderProfilesRequest,
) -> RpcResult<pb::ListProviderProfilesResponse> {
    let page = Page::from_token(&request.page_token, request.page_size)?;
    let workspace = single_workspace(request.workspace_scope)?;
    let (found, next_page_token) =
        gateway.core.with(|state| state.list_profiles(&workspace, page))?;
    let profiles = found.iter().map(render::profile).collect();
    Ok(pb::ListProviderProfilesResponse { profiles, next_page_token })
}

pub(super) fn get_profile(
    gateway: &GatewayV0_1,
    request: pb::GetProviderProfileRequest,
) -> RpcResult<pb::ProviderProfileResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.id);
    let profile = gateway.core.with(|state| state.get_profile(&at))?;
    Ok(pb::ProviderProfileResponse { profile: Some(render::profile(&profile)) })
}

pub(super) fn import_profiles(
    gateway: &GatewayV0_1,
    request: pb::ImportProviderProfilesRequest,
) -> RpcResult<pb::ImportProviderProfilesResponse> {
    let workspace = single_workspace(request.workspace_scope)?;
    let items = render::parse_profiles(request.profiles)?;
    let (diagnostics, profiles) =
        gateway.core.with(|state| state.import_profiles(&workspace, items))?;
    let imported = diagnostics.is_empty();
    let diagnostics = diagnostics.iter().map(recast).collect();
    let profiles = profiles.iter().map(render::profile).collect();
    Ok(pb::ImportProviderProfilesResponse { diagnostics, profiles, imported })
}

pub(super) fn update_profile(
    gateway: &GatewayV0_1,
    request: pb::UpdateProviderProfilesRequest,
) -> RpcResult<pb::UpdateProviderProfilesResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.id);
    let item = request.profile.map(render::parse_profile).transpose()?;
    let (diagnostics, profile) = gateway
        .core
        .with(|state| state.update_profile(&at, item, request.expected_resource_version))?;
    let diagnostics = diagnostics.iter().map(recast).collect();
    let profile = profile.as_ref().map(render::profile);
    let updated = profile.is_some();
    Ok(pb::UpdateProviderProfilesResponse { diagnostics, profile, updated })
}

pub(super) fn lint_profiles(
    _: &GatewayV0_1,
    request: pb::LintProviderProfilesRequest,
) -> RpcResult<pb::LintProviderProfilesResponse> {
    let items = render::parse_profiles(request.profiles)?;
    let diagnostics = State::lint_profiles(&items)?;
    Ok(pb::LintProviderProfilesResponse {
        valid: diagnostics.is_empty(),
        diagnostics: diagnostics.iter().map(recast).collect(),
        supports_stable_placeholder: false,
    })
}

pub(super) fn delete_profile(
    gateway: &GatewayV0_1,
    request: pb::DeleteProviderProfileRequest,
) -> RpcResult<pb::DeleteProviderProfileResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.id);
    let deleted = gateway.core.with(|state| state.delete_profile(&at))?;
    Ok(pb::DeleteProviderProfileResponse {
        outcome: deletion_outcome("provider profile", deleted, request.allow_missing)?,
    })
}

pub(super) fn refreshes(
    gateway: &GatewayV0_1,
    request: pb::GetProviderRefreshStatusRequest,
) -> RpcResult<pb::GetProviderRefreshStatusResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.provider);
    let found = gateway.core.with(|state| state.refreshes(&at, &request.credential_key))?;
    let credentials = found.iter().map(render::refresh).collect();
    Ok(pb::GetProviderRefreshStatusResponse { credentials })
}

pub(super) fn configure(
    gateway: &GatewayV0_1,
    request: pb::ConfigureProviderRefreshRequest,
) -> RpcResult<pb::ConfigureProviderRefreshResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.provider);
    let expires_ms = to_millis(request.expiration_time);
    let done = gateway.core.with(|state| {
        state.configure_refresh(&at, &request.credential_key, request.strategy, expires_ms)
    })?;
    Ok(pb::ConfigureProviderRefreshResponse { status: Some(render::refresh(&done)) })
}

pub(super) fn rotate(
    gateway: &GatewayV0_1,
    request: pb::RotateProviderCredentialRequest,
) -> RpcResult<pb::RotateProviderCredentialResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.provider);
    let done = gateway.core.with(|state| state.rotate(&at, &request.credential_key))?;
    Ok(pb::RotateProviderCredentialResponse { status: Some(render::refresh(&done)) })
}

pub(super) fn delete_refresh(
    gateway: &GatewayV0_1,
    request: pb::DeleteProviderRefreshRequest,
) -> RpcResult<pb::DeleteProviderRefreshResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.provider);
    let deleted = gateway.core.with(|state| state.delete_refresh(&at, &request.credential_key))?;
    Ok(pb::DeleteProviderRefreshResponse {
        outcome: deletion_outcome("refresh", deleted, request.allow_missing)?,
    })
}
