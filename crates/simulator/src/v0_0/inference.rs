//! Inference routes.

use tonic::Status;

use super::GatewayV0_0;
use shoreguard_proto::v0_0::openshell::inference::v1 as inf;

type RpcResult<T> = Result<T, Status>;

pub(super) fn set(
    gateway: &GatewayV0_0,
    request: inf::SetInferenceRouteRequest,
) -> RpcResult<inf::SetInferenceRouteResponse> {
    let at = (request.workspace, request.route_name);
    let route = gateway.core.with(|state| {
        state.set_route(&at, &request.provider_name, &request.model_id, request.timeout_secs)
    })?;
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
    gateway: &GatewayV0_0,
    request: inf::GetInferenceRouteRequest,
) -> RpcResult<inf::GetInferenceRouteResponse> {
    let at = (request.workspace, request.route_name);
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
    gateway: &GatewayV0_0,
    request: inf::DeleteInferenceRouteRequest,
) -> RpcResult<inf::DeleteInferenceRouteResponse> {
    let at = (request.workspace, request.route_name);
    let deleted = gateway.core.with(|state| state.delete_route(&at))?;
    Ok(inf::DeleteInferenceRouteResponse { deleted })
}
