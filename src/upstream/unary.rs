//! What is asked of a gateway on our own account, on a connection that stands: how it is, and whether it accepts our
//! credential.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::budget::Draw;
use super::capability::Capability;
use super::connection::Connection;
use super::credential::{CredentialCheck, CurrentUser};
use super::probe::{CURRENT_USER, GATEWAY_INFO};
use super::{headers, message};
use crate::pb::v0_1::openshell::v1::{GetCurrentUserResponse, GetGatewayInfoResponse};

/// The largest answer that we read on our own account: a page of sandboxes with their policies.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why a call on our own account has no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The gateway's status, or that of a front end before it.
    Status(Code, String),
    /// Anything else. The text is for the log.
    Broken(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code, said) => write!(f, "gRPC status {code:?}: {said}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

fn broken(why: impl fmt::Display) -> Unanswered {
    Unanswered::Broken(why.to_string())
}

/// The name of a method, for messages.
fn name(path: &'static str) -> &'static str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Connection {
    /// Checks by calls that require a credential whether the gateway accepts ours.
    pub(crate) async fn check_credential(&self, within: Duration) -> CredentialCheck {
        let late = |_| CredentialCheck::unknown(name(CURRENT_USER), "no answer in time");
        timeout(within, self.credential()).await.unwrap_or_else(late)
    }

    async fn credential(&self) -> CredentialCheck {
        let probe = self.probe();
        // Nothing else is sent to a gateway whose wire we do not speak.
        if let Err(error) = probe.spoken(self.gateway()) {
            return CredentialCheck::Unknown(error.to_string());
        }
        // A token that has expired since is fetched anew, and never left out.
        if let Err(error) = self.ready().await {
            return CredentialCheck::Unknown(error.to_string());
        }
        let user = match self.current_user().await {
            Ok(Some(user)) if user.is_proof() => return CredentialCheck::Usable,
            Ok(user) => user,
            Err(check) => return check,
        };
        let method = name(GATEWAY_INFO);
        let info = self.ask(GATEWAY_INFO, &[]).await;
        match (info.map(GetGatewayInfoResponse::decode), user) {
            // A gateway that answers everything with an empty message proves nothing.
            (Ok(Ok(info)), _) if !info.gateway_version.is_empty() => CredentialCheck::Usable,
            (Ok(_), _) => CredentialCheck::unknown(method, "the answer is not valid"),
            (Err(Unanswered::Status(code, said)), Some(user)) => {
                user.without_info(method, code, &said)
            }
            (Err(Unanswered::Status(code, said)), None) => {
                CredentialCheck::refused(method, code, &said)
            }
            (Err(Unanswered::Broken(why)), _) => CredentialCheck::unknown(method, &why),
        }
    }

    /// What the gateway reports about us; `None` if its release does not have the method.
    async fn current_user(&self) -> Result<Option<CurrentUser>, CredentialCheck> {
        let (probe, method) = (self.probe(), name(CURRENT_USER));
        let has_method = |known| Capability::CurrentUser.is_held(known, &probe.version);
        if !probe.generation.known().is_some_and(has_method) {
            return Ok(None);
        }
        match self.ask(CURRENT_USER, &[]).await {
            Ok(answer) => match GetCurrentUserResponse::decode(answer) {
                Ok(user) => Ok(Some(user.into())),
                Err(_) => Err(CredentialCheck::unknown(method, "the answer is not valid")),
            },
            Err(Unanswered::Status(Code::Unimplemented, _)) => Ok(None),
            Err(Unanswered::Status(code, said)) => {
                Err(CredentialCheck::refused(method, code, &said))
            }
            Err(Unanswered::Broken(why)) => Err(CredentialCheck::unknown(method, &why)),
        }
    }

    /// One unary call on our own account, on this connection and no other: what answers is what was probed. Calls that may
    /// go to another connection of the gateway are those of `openshell`.
    pub(crate) async fn ask(
        &self,
        path: &'static str,
        request: &[u8],
    ) -> Result<Bytes, Unanswered> {
        let headers = headers::own(self.authorization());
        let (response, mut sending) = self.start(path, headers, false).map_err(broken)?;
        // A gateway may refuse before it has read the message, which closes the stream: what it answered counts.
        let _ = sending.send_data(message::framed(request), true);
        let (parts, mut body) = response.await.map_err(broken)?.into_parts();
        match parts.status {
            StatusCode::OK => {}
            // As gRPC maps them: a front end has checked the credential.
            StatusCode::UNAUTHORIZED => {
                return Err(Unanswered::Status(Code::Unauthenticated, "HTTP 401".to_owned()));
            }
            StatusCode::FORBIDDEN => {
                return Err(Unanswered::Status(Code::PermissionDenied, "HTTP 403".to_owned()));
            }
            other => return Err(broken(format_args!("HTTP {other}"))),
        }
        let mut answer = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(broken)?;
            body.flow_control().release_capacity(data.len()).map_err(broken)?;
            // Counted, and refused where more than a probe is asked: see the callers.
            let _ = self.budget().spend(data.len(), 0, Draw::Single);
            if answer.len() + data.len() > ANSWER_BYTES_MAX {
                return Err(broken("its answer is too long"));
            }
            answer.extend_from_slice(&data);
        }
        let said = [Some(parts.headers), body.trailers().await.map_err(broken)?];
        if headers::verdict(said.iter().flatten()).is_none() {
            return Err(broken("its answer has no status, or none that is one"));
        }
        let end = said.iter().flatten().find(|part| headers::has_status(part));
        let Some(status) = end.and_then(Status::from_header_map) else {
            return Err(broken("its answer has no status"));
        };
        if status.code() != Code::Ok {
            return Err(Unanswered::Status(status.code(), status.message().to_owned()));
        }
        message::single(answer.freeze()).ok_or_else(|| broken("its answer is none"))
    }
}
