//! Sandboxes with their providers and services.

use std::collections::BTreeMap;

use tonic::{Code, Status};

use super::scope::{deletion_outcome, list_workspace, single_workspace};
use super::{GatewayV0_1, render};
use crate::state::{NewSandbox, NewService, Page, Sandbox, Service};
use shoreguard_proto::v0_1::openshell::v1 as pb;

type RpcResult<T> = Result<T, Status>;

fn response(sandbox: &Sandbox) -> pb::SandboxResponse {
    pb::SandboxResponse { sandbox: Some(render::sandbox(sandbox)), service_urls: BTreeMap::new() }
}

pub(super) fn create(
    gateway: &GatewayV0_1,
    request: pb::CreateSandboxRequest,
) -> RpcResult<pb::SandboxResponse> {
    let workspace = single_workspace(request.workspace_scope)?;
    let mut new = NewSandbox {
        workspace: workspace.clone(),
        name: request.name,
        spec: request.spec.map(render::parse_spec).transpose()?,
        image: String::new(),
        labels: request.labels,
        annotations: request.annotations,
    };
    let (sandbox, template, services) = gateway.core.with(|state| {
        let template = match request.workload_template.as_str() {
            "" => None,
            name => Some(state.get_template(&(workspace, name.to_owned()))?),
        };
        let workload = template.as_ref().and_then(|template| template.spec.workload.as_ref());
        new.image = workload.map(|workload| workload.image.clone()).unwrap_or_default();
        let sandbox = state.create_sandbox(new)?;
        let mut services = Vec::new();
        for exposure in request.service_exposures {
            services.push(state.expose(&NewService {
                at: sandbox.key(),
                name: exposure.service,
                port: exposure.target_port,
                domain: true,
                authorization: exposure.authorization_mode,
            })?);
        }
        Ok((sandbox, template, services))
    })?;
    let mut response = response(&sandbox);
    response.service_urls = services
        .into_iter()
        .map(|service| {
            let url = service.url(gateway.info.scheme, gateway.info.port);
            (service.meta.name, url)
        })
        .collect();
    if let (Some(sandbox), Some(template)) = (&mut response.sandbox, template) {
        sandbox.created_from_workload_template = Some(pb::SandboxWorkloadTemplateProvenance {
            name: template.meta.name,
            resource_version: template.meta.resource_version.to_string(),
        });
    }
    Ok(response)
}

pub(super) fn get(
    gateway: &GatewayV0_1,
    request: pb::GetSandboxRequest,
) -> RpcResult<pb::SandboxResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.name);
    gateway.core.with(|state| state.sandbox(&at).map(|sandbox| response(sandbox)))
}

pub(super) fn list(
    gateway: &GatewayV0_1,
    request: pb::ListSandboxesRequest,
) -> RpcResult<pb::ListSandboxesResponse> {
    let workspace = list_workspace(request.workspace_scope);
    let page = Page::from_token(&request.page_token, request.page_size)?;
    let (found, next_page_token) = gateway
        .core
        .with(|state| state.list_sandboxes(workspace.as_deref(), &request.label_selector, page))?;
    let sandboxes = found.iter().map(render::sandbox).collect();
    Ok(pb::ListSandboxesResponse { sandboxes, next_page_token })
}

pub(super) fn delete(
    gateway: &GatewayV0_1,
    request: pb::DeleteSandboxRequest,
) -> RpcResult<pb::DeleteSandboxResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.name);
    match gateway.core.with(|state| state.delete_sandbox(&at)) {
        Ok(sandbox_id) => {
            let outcome = pb::DeletionOutcome::Accepted.into();
            Ok(pb::DeleteSandboxResponse { outcome, sandbox_id })
        }
        Err(status) if status.code() == Code::NotFound && request.allow_missing => {
            let outcome = pb::DeletionOutcome::AlreadyAbsent.into();
            Ok(pb::DeleteSandboxResponse { outcome, sandbox_id: String::new() })
        }
        Err(status) => Err(status),
    }
}

pub(super) fn stop(
    gateway: &GatewayV0_1,
    request: pb::StopSandboxRequest,
) -> RpcResult<pb::SandboxResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.name);
    gateway.core.with(|state| state.stop_sandbox(&at)).map(|sandbox| response(&sandbox))
}

pub(super) fn start(
    gateway: &GatewayV0_1,
    request: pb::StartSandboxRequest,
) -> RpcResult<pb::SandboxResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.name);
    gateway.core.with(|state| state.start_sandbox(&at)).map(|sandbox| response(&sandbox))
}

pub(super) fn providers(
    gateway: &GatewayV0_1,
    request: pb::ListSandboxProvidersRequest,
) -> RpcResult<pb::ListSandboxProvidersResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let page = Page::from_token(&request.page_token, request.page_size)?;
    let found = gateway.core.with(|state| state.sandbox_providers(&at))?;
    let (providers, next_page_token) = page.paginate(found.iter().map(render::provider));
    Ok(pb::ListSandboxProvidersResponse { providers, next_page_token })
}

pub(super) fn attach(
    gateway: &GatewayV0_1,
    request: pb::AttachSandboxProviderRequest,
) -> RpcResult<pb::AttachSandboxProviderResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let (sandbox, attached) = gateway.core.with(|state| {
        state.set_attached(&at, &request.provider, request.expected_resource_version, true)
    })?;
    let sandbox = Some(render::sandbox(&sandbox));
    Ok(pb::AttachSandboxProviderResponse { sandbox, attached, receipt: None })
}

pub(super) fn detach(
    gateway: &GatewayV0_1,
    request: pb::DetachSandboxProviderRequest,
) -> RpcResult<pb::DetachSandboxProviderResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let (sandbox, detached) = gateway.core.with(|state| {
        state.set_attached(&at, &request.provider, request.expected_resource_version, false)
    })?;
    let sandbox = Some(render::sandbox(&sandbox));
    Ok(pb::DetachSandboxProviderResponse { sandbox, detached, receipt: None })
}

/// Reports an attached provider as ready if its sandbox is ready.
pub(super) fn provider_status(
    gateway: &GatewayV0_1,
    request: pb::GetSandboxProviderStatusRequest,
) -> RpcResult<pb::GetSandboxProviderStatusResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let sandbox = gateway.core.with(|state| state.sandbox(&at).cloned())?;
    if !sandbox.spec.providers.contains(&request.provider) {
        return Err(Status::not_found(format!("provider '{}' is not attached", request.provider)));
    }
    let (state, reason) = match sandbox.check_running() {
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

fn service_response(gateway: &GatewayV0_1, service: &Service) -> pb::ServiceEndpointResponse {
    pb::ServiceEndpointResponse {
        endpoint: Some(render::service(service)),
        url: service.url(gateway.info.scheme, gateway.info.port),
    }
}

pub(super) fn expose(
    gateway: &GatewayV0_1,
    request: pb::ExposeServiceRequest,
) -> RpcResult<pb::ServiceEndpointResponse> {
    let new = NewService {
        at: (single_workspace(request.workspace_scope)?, request.sandbox),
        name: request.name,
        port: request.target_port,
        domain: request.domain,
        authorization: request.authorization_mode,
    };
    gateway.core.with(|state| state.expose(&new)).map(|service| service_response(gateway, &service))
}

pub(super) fn get_service(
    gateway: &GatewayV0_1,
    request: pb::GetServiceRequest,
) -> RpcResult<pb::ServiceEndpointResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let service = gateway.core.with(|state| state.get_service(&at, &request.name))?;
    Ok(service_response(gateway, &service))
}

pub(super) fn list_services(
    gateway: &GatewayV0_1,
    request: pb::ListServicesRequest,
) -> RpcResult<pb::ListServicesResponse> {
    let workspace = list_workspace(request.workspace_scope);
    let page = Page::from_token(&request.page_token, request.page_size)?;
    let (found, next_page_token) = gateway
        .core
        .with(|state| state.list_services(workspace.as_deref(), &request.sandbox, page))?;
    let services = found.iter().map(|service| service_response(gateway, service)).collect();
    Ok(pb::ListServicesResponse { services, next_page_token })
}

pub(super) fn delete_service(
    gateway: &GatewayV0_1,
    request: pb::DeleteServiceRequest,
) -> RpcResult<pb::DeleteServiceResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let deleted = gateway.core.with(|state| state.delete_service(&at, &request.name))?;
    Ok(pb::DeleteServiceResponse {
        outcome: deletion_outcome("service", deleted, request.allow_missing)?,
    })
}
