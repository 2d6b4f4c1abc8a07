//! Providers, their profiles, and the renewal of their credentials.

use std::collections::BTreeMap;

use prost_types::Timestamp;
use tonic::Status;

use super::V01;
use super::render::{self, recast};
use super::scope::{millis, one, outcome, some};
use crate::state::{Meta, Page, Provider, State};
use shoreguard_proto::v0_1::openshell::datamodel::v1 as dm;
use shoreguard_proto::v0_1::openshell::v1 as pb;

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
        expires_ms: times(provider.credential_expiration_times),
        profile_workspace: provider.profile_workspace,
        ..Provider::default()
    }
}

fn times(times: BTreeMap<String, Timestamp>) -> BTreeMap<String, i64> {
    times.into_iter().map(|(key, time)| (key, millis(Some(time)))).collect()
}

fn answer(provider: &Provider) -> pb::ProviderResponse {
    pb::ProviderResponse {
        provider: Some(render::provider(provider)),
        target_receipts: Vec::new(),
        mutation_id: String::new(),
    }
}

pub(super) fn create(
    gateway: &V01,
    ask: pb::CreateProviderRequest,
) -> Answer<pb::ProviderResponse> {
    let workspace = one(ask.workspace_scope)?;
    let new = ask.provider.map(given);
    gateway.core.with(|state| state.create_provider(&workspace, new)).map(|one| answer(&one))
}

pub(super) fn get(gateway: &V01, ask: pb::GetProviderRequest) -> Answer<pb::ProviderResponse> {
    let at = (one(ask.workspace_scope)?, ask.name);
    gateway.core.with(|state| state.provider(&at).map(|one| answer(&one.redacted())))
}

pub(super) fn list(
    gateway: &V01,
    ask: pb::ListProvidersRequest,
) -> Answer<pb::ListProvidersResponse> {
    let workspace = some(ask.workspace_scope);
    let page = Page::of_token(&ask.page_token, ask.page_size)?;
    let (found, next_page_token) = gateway
        .core
        .with(|state| state.list_providers(workspace.as_deref(), &ask.label_selector, page))?;
    let providers = found.iter().map(render::provider).collect();
    Ok(pb::ListProvidersResponse { providers, next_page_token })
}

pub(super) fn update(
    gateway: &V01,
    ask: pb::UpdateProviderRequest,
) -> Answer<pb::ProviderResponse> {
    let mut change = ask.provider.map(given);
    if let Some(change) = &mut change {
        change.expires_ms.extend(times(ask.credential_expiration_times));
        change
            .expires_ms
            .extend(ask.clear_credential_expiration_keys.into_iter().map(|key| (key, 0)));
    }
    let workspace = one(ask.workspace_scope)?;
    gateway.core.with(|state| state.update_provider(&workspace, change)).map(|one| answer(&one))
}

pub(super) fn delete(
    gateway: &V01,
    ask: pb::DeleteProviderRequest,
) -> Answer<pb::DeleteProviderResponse> {
    let at = (one(ask.workspace_scope)?, ask.name);
    let deleted = gateway.core.with(|state| state.delete_provider(&at))?;
    Ok(pb::DeleteProviderResponse { outcome: outcome("provider", deleted, ask.allow_missing)? })
}

pub(super) fn list_profiles(
    gateway: &V01,
    ask: pb::ListProviderProfilesRequest,
) -> Answer<pb::ListProviderProfilesResponse> {
    let page = Page::of_token(&ask.page_token, ask.page_size)?;
    let workspace = one(ask.workspace_scope)?;
    let (found, next_page_token) =
        gateway.core.with(|state| state.list_profiles(&workspace, page))?;
    let profiles = found.iter().map(render::profile).collect();
    Ok(pb::ListProviderProfilesResponse { profiles, next_page_token })
}

pub(super) fn get_profile(
    gateway: &V01,
    ask: pb::GetProviderProfileRequest,
) -> Answer<pb::ProviderProfileResponse> {
    let at = (one(ask.workspace_scope)?, ask.id);
    let profile = gateway.core.with(|state| state.get_profile(&at))?;
    Ok(pb::ProviderProfileResponse { profile: Some(render::profile(&profile)) })
}

pub(super) fn import_profiles(
    gateway: &V01,
    ask: pb::ImportProviderProfilesRequest,
) -> Answer<pb::ImportProviderProfilesResponse> {
    let workspace = one(ask.workspace_scope)?;
    let items = ask.profiles.into_iter().map(render::profile_given).collect();
    let (diagnostics, profiles) =
        gateway.core.with(|state| state.import_profiles(&workspace, items))?;
    let imported = diagnostics.is_empty();
    let diagnostics = diagnostics.iter().map(recast).collect();
    let profiles = profiles.iter().map(render::profile).collect();
    Ok(pb::ImportProviderProfilesResponse { diagnostics, profiles, imported })
}

pub(super) fn update_profile(
    gateway: &V01,
    ask: pb::UpdateProviderProfilesRequest,
) -> Answer<pb::UpdateProviderProfilesResponse> {
    let at = (one(ask.workspace_scope)?, ask.id);
    let item = ask.profile.map(render::profile_given);
    let (diagnostics, profile) = gateway
        .core
        .with(|state| state.update_profile(&at, item, ask.expected_resource_version))?;
    let diagnostics = diagnostics.iter().map(recast).collect();
    let profile = profile.as_ref().map(render::profile);
    let updated = profile.is_some();
    Ok(pb::UpdateProviderProfilesResponse { diagnostics, profile, updated })
}

pub(super) fn lint_profiles(
    _: &V01,
    ask: pb::LintProviderProfilesRequest,
) -> Answer<pb::LintProviderProfilesResponse> {
    let items: Vec<_> = ask.profiles.into_iter().map(render::profile_given).collect();
    let diagnostics = State::lint(&items)?;
    Ok(pb::LintProviderProfilesResponse {
        valid: diagnostics.is_empty(),
        diagnostics: diagnostics.iter().map(recast).collect(),
        supports_stable_placeholder: false,
    })
}

pub(super) fn delete_profile(
    gateway: &V01,
    ask: pb::DeleteProviderProfileRequest,
) -> Answer<pb::DeleteProviderProfileResponse> {
    let at = (one(ask.workspace_scope)?, ask.id);
    let deleted = gateway.core.with(|state| state.delete_profile(&at))?;
    Ok(pb::DeleteProviderProfileResponse {
        outcome: outcome("provider profile", deleted, ask.allow_missing)?,
    })
}

pub(super) fn refreshes(
    gateway: &V01,
    ask: pb::GetProviderRefreshStatusRequest,
) -> Answer<pb::GetProviderRefreshStatusResponse> {
    let at = (one(ask.workspace_scope)?, ask.provider);
    let found = gateway.core.with(|state| state.refreshes(&at, &ask.credential_key))?;
    let credentials = found.iter().map(render::refresh).collect();
    Ok(pb::GetProviderRefreshStatusResponse { credentials })
}

pub(super) fn configure(
    gateway: &V01,
    ask: pb::ConfigureProviderRefreshRequest,
) -> Answer<pb::ConfigureProviderRefreshResponse> {
    let at = (one(ask.workspace_scope)?, ask.provider);
    let expires_ms = millis(ask.expiration_time);
    let done = gateway.core.with(|state| {
        state.configure_refresh(&at, &ask.credential_key, ask.strategy, expires_ms)
    })?;
    Ok(pb::ConfigureProviderRefreshResponse { status: Some(render::refresh(&done)) })
}

pub(super) fn rotate(
    gateway: &V01,
    ask: pb::RotateProviderCredentialRequest,
) -> Answer<pb::RotateProviderCredentialResponse> {
    let at = (one(ask.workspace_scope)?, ask.provider);
    let done = gateway.core.with(|state| state.rotate(&at, &ask.credential_key))?;
    Ok(pb::RotateProviderCredentialResponse { status: Some(render::refresh(&done)) })
}

pub(super) fn delete_refresh(
    gateway: &V01,
    ask: pb::DeleteProviderRefreshRequest,
) -> Answer<pb::DeleteProviderRefreshResponse> {
    let at = (one(ask.workspace_scope)?, ask.provider);
    let deleted = gateway.core.with(|state| state.delete_refresh(&at, &ask.credential_key))?;
    Ok(pb::DeleteProviderRefreshResponse {
        outcome: outcome("refresh", deleted, ask.allow_missing)?,
    })
}
