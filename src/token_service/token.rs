//! The token endpoint: issues a token of one gateway for an API key, a device code or a refresh token.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::json;

use super::answer::{self, Refusal};
use super::form::{Credential, Form, credential};
use super::issuer;
use crate::app::App;
use crate::ctx::Call;
use crate::error::{Error, Reason};
use crate::resources::device_codes::domain::NoGrant;
use crate::resources::gateway_tokens::domain::{self, ByCode, Issued};
use crate::rpc::call::close;
use crate::secret::Secret;

/// The device code grant of RFC 8628.
pub(super) const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The description of an `invalid_grant` error.
const UNKNOWN_GRANT: &str = "the device code or refresh token is unknown, expired or already used";

/// The credential that a token is issued for.
enum Given {
    Key { key: Secret, in_header: bool },
    DeviceCode(Secret),
    RefreshToken(Secret),
}

/// Handles a token request. Once the request is read, it runs to completion even if the client hangs up.
pub(super) async fn token(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Extension(call): Extension<Call>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    if let Err(status) = issuer(&app, &name) {
        return Ok(status.into_response());
    }
    if uri.query().is_some() {
        return Err(Refusal::request("parameters belong in the body, not in the URL"));
    }
    let given = given(&app, &headers, &Form::parse(&headers, &body)?)?;
    let task_app = Arc::clone(&app);
    let issuing = app.spawn(async move { issue(&task_app, &call, &name, given).await });
    let issued = issuing.await.map_err(|_| Refusal::fault())??;
    let mut shown = json!({
        "access_token": issued.token.expose(),
        "token_type": "Bearer",
        "expires_in": issued.lives.as_secs(),
    });
    if let Some(next) = issued.refresh_token {
        shown["refresh_token"] = next.expose().into();
    }
    Ok(answer::json(StatusCode::OK, &shown))
}

fn given(app: &App, headers: &HeaderMap, form: &Form) -> Result<Given, Refusal> {
    let credential = credential(headers, form)?;
    let people = app.config.token_service.device_flow;
    let secret = |name| form.need(name).map(Secret::new);
    let given = match form.need("grant_type")? {
        "client_credentials" => {
            return match credential {
                Credential::None => Err(Refusal::client(false)),
                Credential::Form(key) => Ok(Given::Key { key, in_header: false }),
                Credential::Basic(key) => Ok(Given::Key { key, in_header: true }),
            };
        }
        DEVICE_CODE if people => Given::DeviceCode(secret("device_code")?),
        "refresh_token" if people => Given::RefreshToken(secret("refresh_token")?),
        _ => return Err(Refusal::grant_type()),
    };
    match credential {
        Credential::None => Ok(given),
        Credential::Form(_) | Credential::Basic(_) => {
            Err(Refusal::request("send no client secret with this `grant_type`"))
        }
    }
}

async fn issue(
    app: &Arc<App>,
    call: &Call,
    gateway: &str,
    given: Given,
) -> Result<Issued, Refusal> {
    let unauthenticated = match &given {
        Given::Key { in_header, .. } => Refusal::client(*in_header),
        Given::DeviceCode(_) | Given::RefreshToken(_) => Refusal::grant(UNKNOWN_GRANT),
    };
    let issuing = AssertUnwindSafe(grant(app, call, gateway, &given)).catch_unwind();
    // A panic must not leave an audit entry open.
    let issued = issuing.await.unwrap_or_else(|_| Err(Error::internal("a panic while issuing")));
    close(app, call, issued.as_ref().err()).await;
    match issued {
        Ok(ByCode::Issued(issued)) => Ok(issued),
        Ok(ByCode::Not(why)) => Err(no_grant(why)),
        Err(error) => {
            if let Error::Unauthenticated { reason } = &error
                && call.note.lock().entry.is_none()
            {
                // A wrong guess of an anonymous caller: it is counted and does not get its own entry (T16).
                app.audit.count_anonymous(call.client_ip, call.method, reason.as_str());
            }
            Err(Refusal::of(error, unauthenticated))
        }
    }
}

async fn grant(app: &Arc<App>, call: &Call, gateway: &str, given: &Given) -> Result<ByCode, Error> {
    match given {
        Given::Key { key, .. } => domain::by_key(app, call, gateway, key).await.map(ByCode::Issued),
        Given::DeviceCode(code) => {
            let answer = domain::by_code(app, call, gateway, code).await?;
            if matches!(answer, ByCode::Not(NoGrant::Unknown)) {
                return Err(Error::Unauthenticated { reason: Reason::CredentialInvalid });
            }
            Ok(answer)
        }
        Given::RefreshToken(token) => {
            domain::by_refresh_token(app, call, gateway, token).await.map(ByCode::Issued)
        }
    }
}

fn no_grant(why: NoGrant) -> Refusal {
    let (error, text) = match why {
        NoGrant::Pending => ("authorization_pending", "the request is still pending"),
        NoGrant::TooFast => ("slow_down", "poll less often"),
        NoGrant::Denied => ("access_denied", "it was denied"),
        NoGrant::Expired => ("expired_token", "the code has ended"),
        NoGrant::Unknown => ("invalid_grant", UNKNOWN_GRANT),
    };
    Refusal::new(StatusCode::BAD_REQUEST, error, text)
}
