//! Inference routes.

use tonic::Status;

use super::V00;
use shoreguard_proto::v0_0::openshell::inference::v1 as inf;

type Answer<T> = Result<T, Status>;

pub(super) fn set(
    gateway: &V00,
    ask: inf::SetInferenceRouteRequest,
) -> Answer<inf::SetInferenceRouteResponse> {
    let at = (ask.workspace, ask.route_name);
    let route = gateway
        .core
        .with(|state| state.set_route(&at, &ask.provider_name, &ask.model_id, ask.timeout_secs))?;
    Ok(inf::SetInferenceRouteResponse {
        provider_name: route.provider,
        model_id: route.model,
        version: route.version,
        route_name: route.meta.name,
        validation_performed: false,
        validated_endpoints: Vec::new(),
        timeout_secs: route.timeout_secs,
        workspace: route.meta.workspace,
    })
}

pub(super) fn get(
    gateway: &V00,
    ask: inf::GetInferenceRouteRequest,
) -> Answer<inf::GetInferenceRouteResponse> {
    let at = (ask.workspace, ask.route_name);
    let route = gateway.core.with(|state| state.get_route(&at))?;
    Ok(inf::GetInferenceRouteResponse {
        provider_name: route.provider,
        model_id: route.model,
        version: route.version,
        route_name: route.meta.name,
        timeout_secs: route.timeout_secs,
        workspace: route.meta.workspace,
    })
}

pub(super) fn delete(
    gateway: &V00,
    ask: inf::DeleteInferenceRouteRequest,
) -> Answer<inf::DeleteInferenceRouteResponse> {
    let at = (ask.workspace, ask.route_name);
    let deleted = gateway.core.with(|state| state.delete_route(&at))?;
    Ok(inf::DeleteInferenceRouteResponse { deleted })
}
