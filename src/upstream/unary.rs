//! Shoreguard's own unary calls on an open connection, and the check of its credential.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::budget::BudgetClass;
use super::capability::Capability;
use super::connection::Connection;
use super::credential::{CredentialCheck, CurrentUser};
use super::probe::{CURRENT_USER, GATEWAY_INFO};
use super::unreachable::front_end_sentence;
use super::{headers, message};
use crate::pb::v0_1::openshell::v1::{GetCurrentUserResponse, GetGatewayInfoResponse};

/// Maximum size of a response to Shoreguard's own calls, in bytes: a page of sandboxes with their policies.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Reason why one of Shoreguard's own calls has no response.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Status from the gateway.
    Status(Code, String),
    /// HTTP status other than 200, from a front end.
    FrontEnd(StatusCode),
    /// Any other failure. The text is for the log.
    Broken(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code, message) => write!(f, "gRPC status {code:?}: {message}"),
            Self::FrontEnd(status) => f.write_str(&front_end_sentence(*status)),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl CallError {
    /// Converts it to the result of a check of the credential. `from_status` judges a gRPC status; a front end that
    /// answers with 401 or 403 has checked the credential, as if the gateway had.
    fn into_check(
        self,
        method: &str,
        from_status: impl FnOnce(Code, &str) -> CredentialCheck,
    ) -> CredentialCheck {
        match self {
            Self::Status(code, message) => from_status(code, &message),
            Self::FrontEnd(StatusCode::UNAUTHORIZED) => {
                let why = front_end_sentence(StatusCode::UNAUTHORIZED);
                CredentialCheck::from_error(method, Code::Unauthenticated, &why)
            }
            Self::FrontEnd(StatusCode::FORBIDDEN) => {
                let why = front_end_sentence(StatusCode::FORBIDDEN);
                CredentialCheck::from_error(method, Code::PermissionDenied, &why)
            }
            Self::FrontEnd(status) => CredentialCheck::unknown(method, &front_end_sentence(status)),
            Self::Broken(why) => CredentialCheck::unknown(method, &why),
        }
    }
}

fn broken(why: impl fmt::Display) -> CallError {
    CallError::Broken(why.to_string())
}

/// Returns the name of a method, for messages.
fn method_name(path: &'static str) -> &'static str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Connection {
    /// Checks whether the gateway accepts Shoreguard's credential, by calls that require one.
    pub(crate) async fn check_credential(&self, within: Duration) -> CredentialCheck {
        let late = |_| CredentialCheck::unknown(method_name(CURRENT_USER), "no answer in time");
        timeout(within, self.probe_credential()).await.unwrap_or_else(late)
    }

    async fn probe_credential(&self) -> CredentialCheck {
        let probe = self.probe();
        // Nothing else is sent to a gateway of an unsupported generation.
        if let Err(error) = probe.supported_generation(self.gateway()) {
            return CredentialCheck::Unknown(error.to_string());
        }
        // An expired token is fetched again; the check never runs without one.
        if let Err(error) = self.ensure_credential().await {
            return CredentialCheck::Unknown(error.to_string());
        }
        let user = match self.current_user().await {
            Ok(Some(user)) if user.is_proof() => return CredentialCheck::Usable,
            Ok(user) => user,
            Err(check) => return check,
        };
        let method = method_name(GATEWAY_INFO);
        let info = self.call_unary(GATEWAY_INFO, &[]).await;
        match (info.map(GetGatewayInfoResponse::decode), user) {
            // A gateway that returns an empty message for every call proves nothing.
            (Ok(Ok(info)), _) if !info.gateway_version.is_empty() => CredentialCheck::Usable,
            (Ok(_), _) => CredentialCheck::unknown(method, "the answer is not valid"),
            (Err(error), user) => error.into_check(method, |code, message| match &user {
                Some(user) => user.check_info_error(method, code, message),
                None => CredentialCheck::from_error(method, code, message),
            }),
        }
    }

    /// Returns what the gateway reports about Shoreguard's credential, or `None` if its release does not have the
    /// method.
    async fn current_user(&self) -> Result<Option<CurrentUser>, CredentialCheck> {
        let (probe, method) = (self.probe(), method_name(CURRENT_USER));
        let has_method = |known| Capability::CurrentUser.is_supported(known, &probe.version);
        if !probe.generation.known().is_some_and(has_method) {
            return Ok(None);
        }
        match self.call_unary(CURRENT_USER, &[]).await {
            Ok(answer) => match GetCurrentUserResponse::decode(answer) {
                Ok(user) => Ok(Some(user.into())),
                Err(_) => Err(CredentialCheck::unknown(method, "the answer is not valid")),
            },
            Err(CallError::Status(Code::Unimplemented, _)) => Ok(None),
            Err(error) => Err(error.into_check(method, |code, message| {
                CredentialCheck::from_error(method, code, message)
            })),
        }
    }

    /// Makes one unary call on this connection and no other, so that the response comes from the gateway that was
    /// probed. Calls that may use any connection of the gateway are in `openshell`.
    pub(crate) async fn call_unary(
        &self,
        path: &'static str,
        request: &[u8],
    ) -> Result<Bytes, CallError> {
        let headers = headers::for_own_call(self.authorization());
        let (response, mut sending) = self.start(path, headers, false).map_err(broken)?;
        // A gateway may reject the call before it has read the message, which closes the stream. Its response counts.
        let _ = sending.send_data(message::encode_frame(request), true);
        let (parts, mut body) = response.await.map_err(broken)?.into_parts();
        if parts.status != StatusCode::OK {
            return Err(CallError::FrontEnd(parts.status));
        }
        let mut answer = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(broken)?;
            body.flow_control().release_capacity(data.len()).map_err(broken)?;
            // Only counted here: probes are never rejected (`budget`), and other callers check the budget before the
            // call.
            let _ = self.budget().spend(data.len(), 0, BudgetClass::Single);
            if answer.len() + data.len() > ANSWER_BYTES_MAX {
                return Err(broken("its answer is too long"));
            }
            answer.extend_from_slice(&data);
        }
        let blocks = [Some(parts.headers), body.trailers().await.map_err(broken)?];
        if headers::status_code(blocks.iter().flatten()).is_none() {
            return Err(broken("its response has no status, or an invalid one"));
        }
        let end = blocks.iter().flatten().find(|part| headers::has_status(part));
        let Some(status) = end.and_then(Status::from_header_map) else {
            return Err(broken("its answer has no status"));
        };
        if status.code() != Code::Ok {
            return Err(CallError::Status(status.code(), status.message().to_owned()));
        }
        message::decode_single(answer.freeze()).ok_or_else(|| broken("its response is not valid"))
    }
}
