//! Providers, their profiles, and the renewal of their credentials.

use tonic::Status;

use super::{V00, render};
use crate::state::{Meta, Page, Provider, State};
use shoreguard_proto::v0_0::openshell::datamodel::v1 as dm;
use shoreguard_proto::v0_0::openshell::v1 as pb;

type Answer<T> = Result<T, Status>;

/// Converts a provider of a request.
fn given(provider: dm::Provider) -> Provider {
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

fn answer(provider: &Provider) -> pb::ProviderResponse {
    pb::ProviderResponse { provider: Some(render::provider(provider)) }
}

pub(super) fn create(
    gateway: &V00,
    ask: pb::CreateProviderRequest,
) -> Answer<pb::ProviderResponse> {
    let new = ask.provider.map(given);
    gateway.core.with(|state| state.create_provider(&ask.workspace, new)).map(|one| answer(&one))
}

pub(super) fn get(gateway: &V00, ask: pb::GetProviderRequest) -> Answer<pb::ProviderResponse> {
    let at = (ask.workspace, ask.name);
    gateway.core.with(|state| state.provider(&at).map(|one| answer(&one.redacted())))
}

pub(super) fn list(
    gateway: &V00,
    ask: pb::ListProvidersRequest,
) -> Answer<pb::ListProvidersResponse> {
    let workspace = (!ask.all_workspaces).then_some(ask.workspace.as_str());
    let page = Page::at(ask.offset, ask.limit);
    let (found, _) = gateway.core.with(|state| state.list_providers(workspace, "", page))?;
    Ok(pb::ListProvidersResponse { providers: found.iter().map(render::provider).collect() })
}

pub(super) fn update(
    gateway: &V00,
    ask: pb::UpdateProviderRequest,
) -> Answer<pb::ProviderResponse> {
    let mut change = ask.provider.map(given);
    if let Some(change) = &mut change {
        change.expires_ms.extend(ask.credential_expires_at_ms);
    }
    gateway.core.with(|state| state.update_provider(&ask.workspace, change)).map(|one| answer(&one))
}

pub(super) fn delete(
    gateway: &V00,
    ask: pb::DeleteProviderRequest,
) -> Answer<pb::DeleteProviderResponse> {
    let at = (ask.workspace, ask.name);
    let deleted = gateway.core.with(|state| state.delete_provider(&at))?;
    Ok(pb::DeleteProviderResponse { deleted })
}

pub(super) fn list_profiles(
    gateway: &V00,
    ask: pb::ListProviderProfilesRequest,
) -> Answer<pb::ListProviderProfilesResponse> {
    let page = Page::at(ask.offset, ask.limit);
    let (profiles, _) = gateway.core.with(|state| state.list_profiles(&ask.workspace, page))?;
    Ok(pb::ListProviderProfilesResponse { profiles })
}

pub(super) fn get_profile(
    gateway: &V00,
    ask: pb::GetProviderProfileRequest,
) -> Answer<pb::ProviderProfileResponse> {
    let at = (ask.workspace, ask.id);
    let profile = gateway.core.with(|state| state.get_profile(&at))?;
    Ok(pb::ProviderProfileResponse { profile: Some(profile) })
}

pub(super) fn import_profiles(
    gateway: &V00,
    ask: pb::ImportProviderProfilesRequest,
) -> Answer<pb::ImportProviderProfilesResponse> {
    let (diagnostics, profiles) =
        gateway.core.with(|state| state.import_profiles(&ask.workspace, ask.profiles))?;
    let imported = diagnostics.is_empty();
    Ok(pb::ImportProviderProfilesResponse { diagnostics, profiles, imported })
}

pub(super) fn update_profile(
    gateway: &V00,
    ask: pb::UpdateProviderProfilesRequest,
) -> Answer<pb::UpdateProviderProfilesResponse> {
    let at = (ask.workspace, ask.id);
    let (diagnostics, profile) = gateway
        .core
        .with(|state| state.update_profile(&at, ask.profile, ask.expected_resource_version))?;
    let updated = profile.is_some();
    Ok(pb::UpdateProviderProfilesResponse { diagnostics, profile, updated })
}

pub(super) fn lint_profiles(
    _: &V00,
    ask: pb::LintProviderProfilesRequest,
) -> Answer<pb::LintProviderProfilesResponse> {
    let diagnostics = State::lint(&ask.profiles)?;
    Ok(pb::LintProviderProfilesResponse { valid: diagnostics.is_empty(), diagnostics })
}

pub(super) fn delete_profile(
    gateway: &V00,
    ask: pb::DeleteProviderProfileRequest,
) -> Answer<pb::DeleteProviderProfileResponse> {
    let at = (ask.workspace, ask.id);
    let deleted = gateway.core.with(|state| state.delete_profile(&at))?;
    Ok(pb::DeleteProviderProfileResponse { deleted })
}

pub(super) fn refreshes(
    gateway: &V00,
    ask: pb::GetProviderRefreshStatusRequest,
) -> Answer<pb::GetProviderRefreshStatusResponse> {
    let at = (ask.workspace, ask.provider);
    let found = gateway.core.with(|state| state.refreshes(&at, &ask.credential_key))?;
    let credentials = found.iter().map(render::refresh).collect();
    Ok(pb::GetProviderRefreshStatusResponse { credentials })
}

pub(super) fn configure(
    gateway: &V00,
    ask: pb::ConfigureProviderRefreshRequest,
) -> Answer<pb::ConfigureProviderRefreshResponse> {
    let at = (ask.workspace, ask.provider);
    let expires_ms = ask.expires_at_ms.unwrap_or_default();
    let done = gateway.core.with(|state| {
        state.configure_refresh(&at, &ask.credential_key, ask.strategy, expires_ms)
    })?;
    Ok(pb::ConfigureProviderRefreshResponse { status: Some(render::refresh(&done)) })
}

pub(super) fn rotate(
    gateway: &V00,
    ask: pb::RotateProviderCredentialRequest,
) -> Answer<pb::RotateProviderCredentialResponse> {
    let at = (ask.workspace, ask.provider);
    let done = gateway.core.with(|state| state.rotate(&at, &ask.credential_key))?;
    Ok(pb::RotateProviderCredentialResponse { status: Some(render::refresh(&done)) })
}

pub(super) fn delete_refresh(
    gateway: &V00,
    ask: pb::DeleteProviderRefreshRequest,
) -> Answer<pb::DeleteProviderRefreshResponse> {
    let at = (ask.workspace, ask.provider);
    let deleted = gateway.core.with(|state| state.delete_refresh(&at, &ask.credential_key))?;
    Ok(pb::DeleteProviderRefreshResponse { deleted })
}
