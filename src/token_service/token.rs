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

use super::answer::{self, OAuthError};
use super::form::{Credential, Form, credential};
use super::issuer;
use crate::app::App;
use crate::ctx::Call;
use crate::error::{Error, Reason};
use crate::resources::device_codes::domain::NoGrantReason;
use crate::resources::gateway_tokens::domain::{self, DeviceCodeResult, IssuedToken};
use crate::rpc::call::close_audit_entry;
use crate::secret::Secret;

/// The device code grant of RFC 8628.
pub(super) const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The description of an `invalid_grant` error.
const UNKNOWN_GRANT: &str = "the device code or refresh token is unknown, expired or already used";

/// The credential that a token is issued for.
enum GrantCredential {
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
) -> Result<Response, OAuthError> {
    if let Err(status) = issuer(&app, &name) {
        return Ok(status.into_response());
    }
    let given = parse_grant(&app, &headers, &Form::parse(&uri, &headers, &body)?)?;
    let task_app = Arc::clone(&app);
    let issuing = app.spawn(async move { issue(&task_app, &call, &name, given).await });
    let issued = issuing.await.map_err(|_| OAuthError::server_error())??;
    let mut shown = json!({
        "access_token": issued.token.expose(),
        "token_type": "Bearer",
        "expires_in": issued.expires_in.as_secs(),
    });
    if let Some(next) = issued.refresh_token {
        shown["refresh_token"] = next.expose().into();
    }
    Ok(answer::json(StatusCode::OK, &shown))
}

fn parse_grant(app: &App, headers: &HeaderMap, form: &Form) -> Result<GrantCredential, OAuthError> {
    let credential = credential(headers, form)?;
    let people = app.config.token_service.device_flow;
    let secret = |name| form.require(name).map(Secret::new);
    let given = match form.require("grant_type")? {
        "client_credentials" => {
            return match credential {
                Credential::None => Err(OAuthError::invalid_client(false)),
                Credential::Form(key) => Ok(GrantCredential::Key { key, in_header: false }),
                Credential::Basic(key) => Ok(GrantCredential::Key { key, in_header: true }),
            };
        }
        DEVICE_CODE if people => GrantCredential::DeviceCode(secret("device_code")?),
        "refresh_token" if people => GrantCredential::RefreshToken(secret("refresh_token")?),
        _ => return Err(OAuthError::unsupported_grant_type()),
    };
    match credential {
        Credential::None => Ok(given),
        Credential::Form(_) | Credential::Basic(_) => {
            Err(OAuthError::invalid_request("send no client secret with this `grant_type`"))
        }
    }
}

async fn issue(
    app: &Arc<App>,
    call: &Call,
    gateway: &str,
    given: GrantCredential,
) -> Result<IssuedToken, OAuthError> {
    let unauthenticated = match &given {
        GrantCredential::Key { in_header, .. } => OAuthError::invalid_client(*in_header),
        GrantCredential::DeviceCode(_) | GrantCredential::RefreshToken(_) => {
            OAuthError::invalid_grant(UNKNOWN_GRANT)
        }
    };
    let issuing = AssertUnwindSafe(exchange(app, call, gateway, &given)).catch_unwind();
    // A panic must not leave an audit entry open.
    let issued = issuing.await.unwrap_or_else(|_| Err(Error::internal("a panic while issuing")));
    let invalid = Error::Unauthenticated { reason: Reason::CredentialInvalid };
    let failure = match &issued {
        Ok(DeviceCodeResult::NotGranted(NoGrantReason::Used)) => Some(&invalid),
        // For the other reasons, no entry was opened.
        Ok(DeviceCodeResult::Issued(_) | DeviceCodeResult::NotGranted(_)) => None,
        Err(error) => Some(error),
    };
    close_audit_entry(app, call, failure).await;
    if let Some(Error::Unauthenticated { reason }) = failure
        && call.note.lock().entry.is_none()
    {
        // A wrong guess of an anonymous caller: it is counted and does not get its own entry (T16).
        app.audit.count_anonymous(call.client_ip, call.method, reason.as_str());
    }
    match issued {
        Ok(DeviceCodeResult::Issued(issued)) => Ok(issued),
        Ok(DeviceCodeResult::NotGranted(why)) => Err(no_grant_error(why)),
        Err(error) => Err(OAuthError::from_error(error, unauthenticated)),
    }
}

async fn exchange(
    app: &Arc<App>,
    call: &Call,
    gateway: &str,
    given: &GrantCredential,
) -> Result<DeviceCodeResult, Error> {
    match given {
        GrantCredential::Key { key, .. } => {
            domain::issue_for_key(app, call, gateway, key).await.map(DeviceCodeResult::Issued)
        }
        GrantCredential::DeviceCode(code) => {
            let answer = domain::issue_for_device_code(app, call, gateway, code).await?;
            if matches!(answer, DeviceCodeResult::NotGranted(NoGrantReason::Unknown)) {
                return Err(Error::Unauthenticated { reason: Reason::CredentialInvalid });
            }
            Ok(answer)
        }
        GrantCredential::RefreshToken(token) => {
            domain::issue_for_refresh_token(app, call, gateway, token)
                .await
                .map(DeviceCodeResult::Issued)
        }
    }
}

fn no_grant_error(why: NoGrantReason) -> OAuthError {
    let (error, text) = match why {
        NoGrantReason::Pending => ("authorization_pending", "the request is still pending"),
        NoGrantReason::TooFast => ("slow_down", "poll less often"),
        NoGrantReason::Denied => ("access_denied", "it was denied"),
        NoGrantReason::Expired => ("expired_token", "the code has ended"),
        NoGrantReason::Used => {
            ("invalid_grant", "the device code was already used: request a new one")
        }
        NoGrantReason::Unknown => ("invalid_grant", UNKNOWN_GRANT),
    };
    OAuthError::new(StatusCode::BAD_REQUEST, error, text)
}
