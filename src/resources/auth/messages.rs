//! The translation of a large service, beside its rpc.rs.

use super::oidc::LoginCompletion;
use crate::error::Error;
use crate::oidc::flow::LoginCallback;
use crate::pb::v1 as pb;
use crate::resources::device_codes::decide::{ApprovalRequest, GrantScope, UserDecision};
use crate::resources::device_codes::domain::{NewDeviceCode, POLL_INTERVAL};
use crate::resources::sessions::{SessionInfo, SessionKind};
use crate::rpc::wire;
use crate::secret::Secret;

/// Builds the request to complete a login; an empty issuer means that none was given.
pub(super) fn login_completion(
    login_token: String,
    code: String,
    state: String,
    issuer: String,
) -> LoginCompletion {
    let issuer = Some(issuer).filter(|issuer| !issuer.is_empty());
    let answer = LoginCallback { code: Secret::new(code), state, issuer };
    LoginCompletion { login_token: Secret::new(login_token), answer }
}

impl From<SessionInfo> for pb::Session {
    fn from(session: SessionInfo) -> Self {
        let kind = match session.kind {
            SessionKind::Password => pb::SessionKind::Password,
            SessionKind::Oidc => pb::SessionKind::Oidc,
            SessionKind::Device => pb::SessionKind::Device,
        };
        Self {
            id: session.id.get(),
            kind: kind.into(),
            gateway: session.gateway.unwrap_or_default(),
            client_ip: session.client_ip.unwrap_or_default(),
            authenticate_time: Some(wire::to_timestamp(session.authenticated_at)),
            refresh_time: Some(wire::to_timestamp(session.refreshed_at)),
            expire_time: Some(wire::to_timestamp(session.expires_at)),
            current: false,
        }
    }
}

impl From<NewDeviceCode> for pb::BeginDeviceLoginResponse {
    fn from(new: NewDeviceCode) -> Self {
        Self {
            device_code: new.device_code.expose().to_owned(),
            user_code: new.user_code.expose().to_owned(),
            expire_time: Some(wire::to_timestamp(new.expires_at)),
            poll_interval_seconds: u32::try_from(POLL_INTERVAL.as_secs()).unwrap_or(u32::MAX),
        }
    }
}

impl From<GrantScope> for pb::DeviceScope {
    fn from(scope: GrantScope) -> Self {
        match scope {
            GrantScope::Gateway => Self::Gateway,
            GrantScope::Session => Self::Session,
        }
    }
}

impl From<ApprovalRequest> for pb::ApproveDeviceResponse {
    fn from(request: ApprovalRequest) -> Self {
        Self {
            gateway: request.gateway.map(|name| name.to_string()).unwrap_or_default(),
            role: pb::Role::from(request.role).into(),
            client_ip: request.client_ip.unwrap_or_default(),
            request_time: Some(wire::to_timestamp(request.created_at)),
            expire_time: Some(wire::to_timestamp(request.expires_at)),
            scope: pb::DeviceScope::from(request.scope).into(),
            other_network: request.other_network,
        }
    }
}

/// Parses the decision; `None` if the request only validates the code. An approval without a scope is for one gateway:
/// a caller that does not know of sessions gives none.
pub(super) fn decision(request: &pb::ApproveDeviceRequest) -> Result<Option<UserDecision>, Error> {
    if request.validate_only {
        return Ok(None);
    }
    match pb::DeviceDecision::try_from(request.decision) {
        Ok(pb::DeviceDecision::Approve) => Ok(Some(UserDecision::Approve(granted_scope(request)?))),
        Ok(pb::DeviceDecision::Deny) => Ok(Some(UserDecision::Deny)),
        Ok(pb::DeviceDecision::Unspecified) | Err(_) => {
            let why = "must be DEVICE_DECISION_APPROVE or DEVICE_DECISION_DENY";
            Err(Error::invalid("decision", why))
        }
    }
}

fn granted_scope(request: &pb::ApproveDeviceRequest) -> Result<GrantScope, Error> {
    match pb::DeviceScope::try_from(request.scope) {
        Ok(pb::DeviceScope::Unspecified | pb::DeviceScope::Gateway) => Ok(GrantScope::Gateway),
        Ok(pb::DeviceScope::Session) => Ok(GrantScope::Session),
        Err(_) => Err(Error::invalid("scope", "is unknown to this server")),
    }
}
