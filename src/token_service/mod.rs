//! Issues tokens to stock OpenShell clients: OIDC discovery and an OAuth token endpoint, over plain HTTP requests.
//!
//! Each gateway is a separate issuer, `<public url>/gateways/<name>`, and a token is valid for that gateway only.
//!
//! Invariants
//! - it exists only if `server.public_url` is set, since the issuer is built from it and not from values of a caller;
//! - every well-formed gateway name gets the same response until the caller is authenticated (T15);
//! - secrets are accepted in the body or in `authorization`, never in the URL;
//! - access is decided by the domain, not in this module.

mod answer;
mod device;
mod discovery;
mod form;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use http::StatusCode;

use crate::app::App;
use crate::resources::gateways::input;

pub(crate) use answer::OAuthError;

const DISCOVERY: &str = "/gateways/{name}/.well-known/openid-configuration";
const KEYS: &str = "/gateways/{name}/jwks.json";
const AUTHORIZE: &str = "/gateways/{name}/authorize";
const TOKEN: &str = "/gateways/{name}/token";
const DEVICE_AUTHORIZATION: &str = "/gateways/{name}/device_authorization";
const DEVICE: &str = "/gateways/{name}/device";

/// All paths, for metrics: a caller cannot create new series.
const PATHS: [&str; 6] = [DISCOVERY, KEYS, AUTHORIZE, TOKEN, DEVICE_AUTHORIZATION, DEVICE];

/// Returns the path template that a request's path matches, or `None` if no route matches.
#[must_use]
pub(crate) fn match_path(of: &str) -> Option<&'static str> {
    let (_, rest) = of.strip_prefix("/gateways/")?.split_once('/')?;
    PATHS.into_iter().find(|path| path.strip_prefix("/gateways/{name}/") == Some(rest))
}

/// Builds the routes. Returns `None` if no public URL is configured, which the issuer needs.
#[must_use]
pub(crate) fn router(app: &Arc<App>) -> Option<Router> {
    app.config.server.public_url.as_ref()?;
    let mut router = Router::new()
        .route(DISCOVERY, get(discovery::document))
        .route(KEYS, get(discovery::keys))
        .route(AUTHORIZE, get(discovery::authorize))
        .route(TOKEN, post(token::token));
    if app.config.token_service.device_flow {
        router = router
            .route(DEVICE_AUTHORIZATION, post(device::authorize_device))
            .route(DEVICE, get(device::page));
    }
    Some(router.with_state(Arc::clone(app)))
}

/// Returns the issuer of a gateway's tokens. Fails if the gateway name is invalid.
fn issuer(app: &App, gateway: &str) -> Result<String, StatusCode> {
    input::name("gateway", gateway).map_err(|_| StatusCode::NOT_FOUND)?;
    let public = app.config.server.public_url.as_ref().ok_or(StatusCode::NOT_FOUND)?;
    Ok(format!("{public}/gateways/{gateway}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_matches_the_table_for_any_gateway_name() {
        assert_eq!(match_path("/gateways/edge/.well-known/openid-configuration"), Some(DISCOVERY));
        assert_eq!(match_path("/gateways/%00/jwks.json"), Some(KEYS));
        for none in
            ["", "/", "/gateways", "/gateways/edge", "/gateways/a/b/jwks.json", "/x/edge/jwks.json"]
        {
            assert_eq!(match_path(none), None, "{none}");
        }
    }
}
