//! Sandboxes with their providers and services.

use std::collections::BTreeMap;

use tonic::{Code, Status};

use super::scope::{one, outcome, some};
use super::{V01, render};
use crate::state::{NewSandbox, NewService, Page, Sandbox, Service};
use shoreguard_proto::v0_1::openshell::v1 as pb;

type Answer<T> = Result<T, Status>;

fn answer(sandbox: &Sandbox) -> pb::SandboxResponse {
    pb::SandboxResponse { sandbox: Some(render::sandbox(sandbox)), service_urls: BTreeMap::new() }
}

pub(super) fn create(gateway: &V01, ask: pb::CreateSandboxRequest) -> Answer<pb::SandboxResponse> {
    let workspace = one(ask.workspace_scope)?;
    let new = NewSandbox {
        workspace: workspace.clone(),
        name: ask.name,
        spec: ask.spec.map(render::spec_given),
        labels: ask.labels,
        annotations: ask.annotations,
    };
    let (sandbox, template, services) = gateway.core.with(|state| {
        let template = match ask.workload_template.as_str() {
            "" => None,
            name => Some(state.get_template(&(workspace, name.to_owned()))?),
        };
        let sandbox = state.create_sandbox(new)?;
        let mut services = Vec::new();
        for exposure in ask.service_exposures {
            services.push(state.expose(&NewService {
                at: sandbox.place(),
                name: exposure.service,
                port: exposure.target_port,
                domain: true,
                authorization: exposure.authorization_mode,
            })?);
        }
        Ok((sandbox, template, services))
    })?;
    let mut answer = answer(&sandbox);
    answer.service_urls = services
        .into_iter()
        .map(|service| {
            let url = service.url(gateway.about.scheme, gateway.about.port);
            (service.meta.name, url)
        })
        .collect();
    if let (Some(sandbox), Some(template)) = (&mut answer.sandbox, template) {
        sandbox.created_from_workload_template = Some(pb::SandboxWorkloadTemplateProvenance {
            name: template.meta.name,
            resource_version: template.meta.resource_version.to_string(),
        });
    }
    Ok(answer)
}

pub(super) fn get(gateway: &V01, ask: pb::GetSandboxRequest) -> Answer<pb::SandboxResponse> {
    let at = (one(ask.workspace_scope)?, ask.name);
    gateway.core.with(|state| state.sandbox(&at).map(|sandbox| answer(sandbox)))
}

pub(super) fn list(
    gateway: &V01,
    ask: pb::ListSandboxesRequest,
) -> Answer<pb::ListSandboxesResponse> {
    let workspace = some(ask.workspace_scope);
    let page = Page::of_token(&ask.page_token, ask.page_size)?;
    let (found, next_page_token) = gateway
        .core
        .with(|state| state.list_sandboxes(workspace.as_deref(), &ask.label_selector, page))?;
    let sandboxes = found.iter().map(render::sandbox).collect();
    Ok(pb::ListSandboxesResponse { sandboxes, next_page_token })
}

pub(super) fn delete(
    gateway: &V01,
    ask: pb::DeleteSandboxRequest,
) -> Answer<pb::DeleteSandboxResponse> {
    let at = (one(ask.workspace_scope)?, ask.name);
    match gateway.core.with(|state| state.delete_sandbox(&at)) {
        Ok(sandbox_id) => {
            let outcome = pb::DeletionOutcome::Accepted.into();
            Ok(pb::DeleteSandboxResponse { outcome, sandbox_id })
        }
        Err(status) if status.code() == Code::NotFound && ask.allow_missing => {
            let outcome = pb::DeletionOutcome::AlreadyAbsent.into();
            Ok(pb::DeleteSandboxResponse { outcome, sandbox_id: String::new() })
        }
        Err(status) => Err(status),
    }
}

pub(super) fn stop(gateway: &V01, ask: pb::StopSandboxRequest) -> Answer<pb::SandboxResponse> {
    let at = (one(ask.workspace_scope)?, ask.name);
    gateway.core.with(|state| state.stop_sandbox(&at)).map(|sandbox| answer(&sandbox))
}

pub(super) fn start(gateway: &V01, ask: pb::StartSandboxRequest) -> Answer<pb::SandboxResponse> {
    let at = (one(ask.workspace_scope)?, ask.name);
    gateway.core.with(|state| state.start_sandbox(&at)).map(|sandbox| answer(&sandbox))
}

pub(super) fn providers(
    gateway: &V01,
    ask: pb::ListSandboxProvidersRequest,
) -> Answer<pb::ListSandboxProvidersResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let page = Page::of_token(&ask.page_token, ask.page_size)?;
    let found = gateway.core.with(|state| state.sandbox_providers(&at))?;
    let (providers, next_page_token) = page.cut(found.iter().map(render::provider));
    Ok(pb::ListSandboxProvidersResponse { providers, next_page_token })
}

pub(super) fn attach(
    gateway: &V01,
    ask: pb::AttachSandboxProviderRequest,
) -> Answer<pb::AttachSandboxProviderResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let (sandbox, attached) = gateway
        .core
        .with(|state| state.attach(&at, &ask.provider, ask.expected_resource_version, true))?;
    let sandbox = Some(render::sandbox(&sandbox));
    Ok(pb::AttachSandboxProviderResponse { sandbox, attached, receipt: None })
}

pub(super) fn detach(
    gateway: &V01,
    ask: pb::DetachSandboxProviderRequest,
) -> Answer<pb::DetachSandboxProviderResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let (sandbox, detached) = gateway
        .core
        .with(|state| state.attach(&at, &ask.provider, ask.expected_resource_version, false))?;
    let sandbox = Some(render::sandbox(&sandbox));
    Ok(pb::DetachSandboxProviderResponse { sandbox, detached, receipt: None })
}

/// Reports an attached provider as ready if its sandbox is ready.
pub(super) fn provider_status(
    gateway: &V01,
    ask: pb::GetSandboxProviderStatusRequest,
) -> Answer<pb::GetSandboxProviderStatusResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let sandbox = gateway.core.with(|state| state.sandbox(&at).cloned())?;
    if !sandbox.spec.providers.contains(&ask.provider) {
        return Err(Status::not_found(format!("provider '{}' is not attached", ask.provider)));
    }
    let (state, reason) = match sandbox.running() {
        Ok(()) => (pb::ProviderReadinessState::Ready, pb::ProviderReadinessReason::Unspecified),
        Err(_) => {
            (pb::ProviderReadinessState::Pending, pb::ProviderReadinessReason::WaitingForSupervisor)
        }
    };
    let status = pb::ProviderReadinessStatus {
        state: state.into(),
        reason: reason.into(),
        ..pb::ProviderReadinessStatus::default()
    };
    Ok(pb::GetSandboxProviderStatusResponse { status: Some(status) })
}

fn endpoint(gateway: &V01, service: &Service) -> pb::ServiceEndpointResponse {
    pb::ServiceEndpointResponse {
        endpoint: Some(render::service(service)),
        url: service.url(gateway.about.scheme, gateway.about.port),
    }
}

pub(super) fn expose(
    gateway: &V01,
    ask: pb::ExposeServiceRequest,
) -> Answer<pb::ServiceEndpointResponse> {
    let new = NewService {
        at: (one(ask.workspace_scope)?, ask.sandbox),
        name: ask.name,
        port: ask.target_port,
        domain: ask.domain,
        authorization: ask.authorization_mode,
    };
    gateway.core.with(|state| state.expose(&new)).map(|service| endpoint(gateway, &service))
}

pub(super) fn get_service(
    gateway: &V01,
    ask: pb::GetServiceRequest,
) -> Answer<pb::ServiceEndpointResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let service = gateway.core.with(|state| state.get_service(&at, &ask.name))?;
    Ok(endpoint(gateway, &service))
}

pub(super) fn list_services(
    gateway: &V01,
    ask: pb::ListServicesRequest,
) -> Answer<pb::ListServicesResponse> {
    let workspace = some(ask.workspace_scope);
    let page = Page::of_token(&ask.page_token, ask.page_size)?;
    let (found, next_page_token) =
        gateway.core.with(|state| state.list_services(workspace.as_deref(), &ask.sandbox, page))?;
    let services = found.iter().map(|service| endpoint(gateway, service)).collect();
    Ok(pb::ListServicesResponse { services, next_page_token })
}

pub(super) fn delete_service(
    gateway: &V01,
    ask: pb::DeleteServiceRequest,
) -> Answer<pb::DeleteServiceResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let deleted = gateway.core.with(|state| state.delete_service(&at, &ask.name))?;
    Ok(pb::DeleteServiceResponse { outcome: outcome("service", deleted, ask.allow_missing)? })
}
