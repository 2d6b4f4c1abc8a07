//! Sandboxes with their providers and services.

use tonic::Status;

use super::{GatewayV0_0, render};
use crate::state::{NewSandbox, NewService, ObjectKey, Page, Sandbox, Service};
use shoreguard_proto::v0_0::openshell::v1 as pb;

type RpcResult<T> = Result<T, Status>;

fn response(sandbox: &Sandbox) -> pb::SandboxResponse {
    pb::SandboxResponse { sandbox: Some(render::sandbox(sandbox)) }
}

pub(super) fn create(
    gateway: &GatewayV0_0,
    request: pb::CreateSandboxRequest,
) -> RpcResult<pb::SandboxResponse> {
    let new = NewSandbox {
        workspace: request.workspace,
        name: request.name,
        spec: request.spec,
        image: String::new(),
        labels: request.labels,
        annotations: request.annotations,
    };
    gateway.core.with(|state| state.create_sandbox(new)).map(|sandbox| response(&sandbox))
}

pub(super) fn get(
    gateway: &GatewayV0_0,
    request: pb::GetSandboxRequest,
) -> RpcResult<pb::SandboxResponse> {
    let at = (request.workspace, request.name);
    gateway.core.with(|state| state.sandbox(&at).map(|sandbox| response(sandbox)))
}

pub(super) fn list(
    gateway: &GatewayV0_0,
    request: pb::ListSandboxesRequest,
) -> RpcResult<pb::ListSandboxesResponse> {
    let workspace = (!request.all_workspaces).then_some(request.workspace.as_str());
    let page = Page::from_offset(request.offset, request.limit);
    let (found, _) = gateway
        .core
        .with(|state| state.list_sandboxes(workspace, &request.label_selector, page))?;
    Ok(pb::ListSandboxesResponse { sandboxes: found.iter().map(render::sandbox).collect() })
}

pub(super) fn delete(
    gateway: &GatewayV0_0,
    request: pb::DeleteSandboxRequest,
) -> RpcResult<pb::DeleteSandboxResponse> {
    let at = (request.workspace, request.name);
    gateway.core.with(|state| state.delete_sandbox(&at))?;
    Ok(pb::DeleteSandboxResponse { deleted: true })
}

pub(super) fn stop(
    gateway: &GatewayV0_0,
    request: pb::StopSandboxRequest,
) -> RpcResult<pb::SandboxResponse> {
    let at = (request.workspace, request.name);
    gateway.core.with(|state| state.stop_sandbox(&at)).map(|sandbox| response(&sandbox))
}

pub(super) fn start(
    gateway: &GatewayV0_0,
    request: pb::StartSandboxRequest,
) -> RpcResult<pb::SandboxResponse> {
    let at = (request.workspace, request.name);
    gateway.core.with(|state| state.start_sandbox(&at)).map(|sandbox| response(&sandbox))
}

pub(super) fn providers(
    gateway: &GatewayV0_0,
    request: pb::ListSandboxProvidersRequest,
) -> RpcResult<pb::ListSandboxProvidersResponse> {
    let at = (request.workspace, request.sandbox_name);
    let found = gateway.core.with(|state| state.sandbox_providers(&at))?;
    Ok(pb::ListSandboxProvidersResponse { providers: found.iter().map(render::provider).collect() })
}

pub(super) fn attach(
    gateway: &GatewayV0_0,
    request: pb::AttachSandboxProviderRequest,
) -> RpcResult<pb::AttachSandboxProviderResponse> {
    let at = (request.workspace, request.sandbox_name);
    let (sandbox, attached) = gateway.core.with(|state| {
        state.set_attached(&at, &request.provider_name, request.expected_resource_version, true)
    })?;
    Ok(pb::AttachSandboxProviderResponse { sandbox: Some(render::sandbox(&sandbox)), attached })
}

pub(super) fn detach(
    gateway: &GatewayV0_0,
    request: pb::DetachSandboxProviderRequest,
) -> RpcResult<pb::DetachSandboxProviderResponse> {
    let at = (request.workspace, request.sandbox_name);
    let (sandbox, detached) = gateway.core.with(|state| {
        state.set_attached(&at, &request.provider_name, request.expected_resource_version, false)
    })?;
    Ok(pb::DetachSandboxProviderResponse { sandbox: Some(render::sandbox(&sandbox)), detached })
}

fn service_response(gateway: &GatewayV0_0, service: &Service) -> pb::ServiceEndpointResponse {
    pb::ServiceEndpointResponse {
        endpoint: Some(render::service(service)),
        url: service.url(gateway.info.scheme, gateway.info.port),
    }
}

pub(super) fn expose(
    gateway: &GatewayV0_0,
    request: pb::ExposeServiceRequest,
) -> RpcResult<pb::ServiceEndpointResponse> {
    let at: ObjectKey = (request.workspace, request.sandbox);
    let new = NewService {
        at,
        name: request.service,
        port: request.target_port,
        domain: request.domain,
        authorization: 0,
    };
    gateway.core.with(|state| state.expose(&new)).map(|service| service_response(gateway, &service))
}

pub(super) fn get_service(
    gateway: &GatewayV0_0,
    request: pb::GetServiceRequest,
) -> RpcResult<pb::ServiceEndpointResponse> {
    let at = (request.workspace, request.sandbox);
    let service = gateway.core.with(|state| state.get_service(&at, &request.service))?;
    Ok(service_response(gateway, &service))
}

pub(super) fn list_services(
    gateway: &GatewayV0_0,
    request: pb::ListServicesRequest,
) -> RpcResult<pb::ListServicesResponse> {
    let workspace = (!request.all_workspaces).then_some(request.workspace.as_str());
    let page = Page::from_offset(request.offset, request.limit);
    let (found, _) =
        gateway.core.with(|state| state.list_services(workspace, &request.sandbox, page))?;
    let services = found.iter().map(|service| service_response(gateway, service)).collect();
    Ok(pb::ListServicesResponse { services })
}

pub(super) fn delete_service(
    gateway: &GatewayV0_0,
    request: pb::DeleteServiceRequest,
) -> RpcResult<pb::DeleteServiceResponse> {
    let at = (request.workspace, request.sandbox);
    let deleted = gateway.core.with(|state| state.delete_service(&at, &request.service))?;
    Ok(pb::DeleteServiceResponse { deleted })
}
