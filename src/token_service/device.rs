//! The device flow: a client requests a code, and a page explains how its user approves it. Disabled by default (T15).

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::json;

use super::answer::{self, OAuthError};
use super::form::Form;
use super::issuer;
use crate::app::App;
use crate::ctx::Call;
use crate::resources::device_codes::domain::{self, CodeScope, LIFETIME, POLL_INTERVAL};

/// Issues a code to a client. The response is the same for every well-formed name. It contains no link with the code
/// (`verification_uri_complete`): with such a link, a victim would approve an attacker's request with one click.
pub(super) async fn authorize_device(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Extension(call): Extension<Call>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, OAuthError> {
    let issuer = match issuer(&app, &name) {
        Ok(issuer) => issuer,
        Err(status) => return Ok(status.into_response()),
    };
    // The parameters are not needed: any client may request a code, and there is only one scope.
    Form::parse(&uri, &headers, &body)?;
    let task_app = Arc::clone(&app);
    let asking = app.spawn(async move {
        let (scope, ip) = (CodeScope::Gateway(&name), call.client_ip);
        domain::check_room(&task_app, scope, ip).await?;
        domain::request_code(&task_app, scope, ip).await
    });
    let asked = asking.await.map_err(|_| OAuthError::server_error())?;
    let asked = asked.map_err(|error| OAuthError::from_error(error, OAuthError::server_error()))?;
    let shown = json!({
        "device_code": asked.device_code.expose(),
        "user_code": asked.user_code.expose(),
        "verification_uri": format!("{issuer}/device"),
        "expires_in": LIFETIME.as_secs(),
        "interval": POLL_INTERVAL.as_secs(),
    });
    Ok(answer::json(StatusCode::OK, &shown))
}

/// Explains how to approve a code. Plain text, which does not depend on the gateway except for its name.
pub(super) async fn page(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    if let Err(status) = issuer(&app, &name) {
        return status.into_response();
    }
    let page = format!(
        "A client asks to reach gateway {name} as you.\n\n\
         Approve only a code that you see on a device of your own, and that you requested just now.\n\
         Log in with `shoreguard call Login`, set SHOREGUARD_KEY to the session token, and look at what asks:\n\n\
         shoreguard call ApproveDevice '{{\"user_code\": \"CODE\", \"validate_only\": true}}'\n\n\
         It shows the gateway, the role and the address that asked. If they are what you expect:\n\n\
         shoreguard call ApproveDevice '{{\"user_code\": \"CODE\", \"decision\": \"DEVICE_DECISION_APPROVE\"}}'\n"
    );
    page.into_response()
}
