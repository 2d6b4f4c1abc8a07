//! Sandboxes with their providers and services.

use tonic::Status;

use super::{V00, render};
use crate::state::{Key, NewSandbox, NewService, Page, Sandbox, Service};
use shoreguard_proto::v0_0::openshell::v1 as pb;

type Answer<T> = Result<T, Status>;

fn answer(sandbox: &Sandbox) -> pb::SandboxResponse {
    pb::SandboxResponse { sandbox: Some(render::sandbox(sandbox)) }
}

pub(super) fn create(gateway: &V00, ask: pb::CreateSandboxRequest) -> Answer<pb::SandboxResponse> {
    let new = NewSandbox {
        workspace: ask.workspace,
        name: ask.name,
        spec: ask.spec,
        labels: ask.labels,
        annotations: ask.annotations,
    };
    gateway.core.with(|state| state.create_sandbox(new)).map(|sandbox| answer(&sandbox))
}

pub(super) fn get(gateway: &V00, ask: pb::GetSandboxRequest) -> Answer<pb::SandboxResponse> {
    let at = (ask.workspace, ask.name);
    gateway.core.with(|state| state.sandbox(&at).map(|sandbox| answer(sandbox)))
}

pub(super) fn list(
    gateway: &V00,
    ask: pb::ListSandboxesRequest,
) -> Answer<pb::ListSandboxesResponse> {
    let workspace = (!ask.all_workspaces).then_some(ask.workspace.as_str());
    let page = Page::at(ask.offset, ask.limit);
    let (found, _) =
        gateway.core.with(|state| state.list_sandboxes(workspace, &ask.label_selector, page))?;
    Ok(pb::ListSandboxesResponse { sandboxes: found.iter().map(render::sandbox).collect() })
}

pub(super) fn delete(
    gateway: &V00,
    ask: pb::DeleteSandboxRequest,
) -> Answer<pb::DeleteSandboxResponse> {
    let at = (ask.workspace, ask.name);
    gateway.core.with(|state| state.delete_sandbox(&at))?;
    Ok(pb::DeleteSandboxResponse { deleted: true })
}

pub(super) fn stop(gateway: &V00, ask: pb::StopSandboxRequest) -> Answer<pb::SandboxResponse> {
    let at = (ask.workspace, ask.name);
    gateway.core.with(|state| state.stop_sandbox(&at)).map(|sandbox| answer(&sandbox))
}

pub(super) fn start(gateway: &V00, ask: pb::StartSandboxRequest) -> Answer<pb::SandboxResponse> {
    let at = (ask.workspace, ask.name);
    gateway.core.with(|state| state.start_sandbox(&at)).map(|sandbox| answer(&sandbox))
}

pub(super) fn providers(
    gateway: &V00,
    ask: pb::ListSandboxProvidersRequest,
) -> Answer<pb::ListSandboxProvidersResponse> {
    let at = (ask.workspace, ask.sandbox_name);
    let found = gateway.core.with(|state| state.sandbox_providers(&at))?;
    Ok(pb::ListSandboxProvidersResponse { providers: found.iter().map(render::provider).collect() })
}

pub(super) fn attach(
    gateway: &V00,
    ask: pb::AttachSandboxProviderRequest,
) -> Answer<pb::AttachSandboxProviderResponse> {
    let at = (ask.workspace, ask.sandbox_name);
    let (sandbox, attached) = gateway
        .core
        .with(|state| state.attach(&at, &ask.provider_name, ask.expected_resource_version, true))?;
    Ok(pb::AttachSandboxProviderResponse { sandbox: Some(render::sandbox(&sandbox)), attached })
}

pub(super) fn detach(
    gateway: &V00,
    ask: pb::DetachSandboxProviderRequest,
) -> Answer<pb::DetachSandboxProviderResponse> {
    let at = (ask.workspace, ask.sandbox_name);
    let (sandbox, detached) = gateway.core.with(|state| {
        state.attach(&at, &ask.provider_name, ask.expected_resource_version, false)
    })?;
    Ok(pb::DetachSandboxProviderResponse { sandbox: Some(render::sandbox(&sandbox)), detached })
}

fn endpoint(gateway: &V00, service: &Service) -> pb::ServiceEndpointResponse {
    pb::ServiceEndpointResponse {
        endpoint: Some(render::service(service)),
        url: service.url(gateway.about.scheme, gateway.about.port),
    }
}

pub(super) fn expose(
    gateway: &V00,
    ask: pb::ExposeServiceRequest,
) -> Answer<pb::ServiceEndpointResponse> {
    let at: Key = (ask.workspace, ask.sandbox);
    let new = NewService {
        at,
        name: ask.service,
        port: ask.target_port,
        domain: ask.domain,
        authorization: 0,
    };
    gateway.core.with(|state| state.expose(&new)).map(|service| endpoint(gateway, &service))
}

pub(super) fn get_service(
    gateway: &V00,
    ask: pb::GetServiceRequest,
) -> Answer<pb::ServiceEndpointResponse> {
    let at = (ask.workspace, ask.sandbox);
    let service = gateway.core.with(|state| state.get_service(&at, &ask.service))?;
    Ok(endpoint(gateway, &service))
}

pub(super) fn list_services(
    gateway: &V00,
    ask: pb::ListServicesRequest,
) -> Answer<pb::ListServicesResponse> {
    let workspace = (!ask.all_workspaces).then_some(ask.workspace.as_str());
    let page = Page::at(ask.offset, ask.limit);
    let (found, _) =
        gateway.core.with(|state| state.list_services(workspace, &ask.sandbox, page))?;
    let services = found.iter().map(|service| endpoint(gateway, service)).collect();
    Ok(pb::ListServicesResponse { services })
}

pub(super) fn delete_service(
    gateway: &V00,
    ask: pb::DeleteServiceRequest,
) -> Answer<pb::DeleteServiceResponse> {
    let at = (ask.workspace, ask.sandbox);
    let deleted = gateway.core.with(|state| state.delete_service(&at, &ask.service))?;
    Ok(pb::DeleteServiceResponse { deleted })
}
