//! OIDC discovery, built only from the configuration and the gateway's name.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::token::DEVICE_CODE;
use super::{answer, issuer};
use crate::app::App;

/// Returns the discovery document. It performs no lookups, so that it does not reveal which gateways exist (T15).
pub(super) async fn document(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    let issuer = match issuer(&app, &name) {
        Ok(issuer) => issuer,
        Err(status) => return status.into_response(),
    };
    let mut grants = vec!["client_credentials"];
    let device_flow = app.config.token_service.device_flow;
    if device_flow {
        grants.extend([DEVICE_CODE, "refresh_token"]);
    }
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks.json"),
        "grant_types_supported": grants,
        "token_endpoint_auth_methods_supported":
            ["client_secret_post", "client_secret_basic", "none"],
        "scopes_supported": ["openid"],
        // Required of every issuer, although no ID tokens are issued.
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    if device_flow {
        let endpoint = format!("{issuer}/device_authorization");
        document["device_authorization_endpoint"] = endpoint.into();
    }
    answer::json(StatusCode::OK, &document)
}

/// Returns an empty key set: only Shoreguard itself verifies tokens that are bound to a gateway (T03).
pub(super) async fn keys(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    match issuer(&app, &name) {
        Ok(_) => answer::json(StatusCode::OK, &json!({ "keys": [] })),
        Err(status) => status.into_response(),
    }
}

/// Responds to a browser login, which is not supported.
pub(super) async fn authorize(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    match issuer(&app, &name) {
        Ok(_) => {
            let page = "Login by browser is not supported. Set OPENSHELL_OIDC_CLIENT_SECRET to an API key and add the \
                        gateway again.\n";
            (StatusCode::NOT_IMPLEMENTED, page).into_response()
        }
        Err(status) => status.into_response(),
    }
}
