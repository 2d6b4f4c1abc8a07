//! Exchanges a key, a device code or a refresh token for a token for one gateway.

use std::sync::Arc;
use std::time::Duration;

use crate::access::action::Action;
use crate::access::authn::token::TokenGrant;
use crate::access::policy::AuditSubject;
use crate::access::principal::PrincipalId;
use crate::access::standing::{AccessCheck, RoleScope};
use crate::app::App;
use crate::audit::{Ending, Intent, Outcome};
use crate::clock::Timestamp;
use crate::ctx::{Call, Ctx, GatewayRef, VerifiedSender, record_refusal};
use crate::db::types::NamedGateway;
use crate::error::{Error, Reason, ResourceKind};
use crate::resources::device_codes::domain::{
    self as device_codes, Approval, CodeScope, NoGrantReason, PollResult,
};
use crate::resources::sessions::{
    self, LiveSession, NewSession, RefreshToken, Session, SessionKind, SessionStart, TokenFamily,
};
use crate::role::Role;
use crate::secret::Secret;

/// Audit action of each exchange.
pub const ACTION: Action = Action::GATEWAY_TOKEN_ISSUE;

const HOUR: i64 = 60 * 60;
/// Maximum lifetime of a token (T14), in hours.
const LIFETIME_HOURS_MAX: i64 = 24;
/// gRPC status code `NOT_FOUND`, for the audit log.
const CODE_NOT_FOUND: i32 = 5;

/// A new token.
#[derive(Debug)]
pub struct IssuedToken {
    /// Token that the client sends with each call.
    pub token: Secret,
    /// Remaining lifetime.
    pub expires_in: Duration,
    /// Refresh token; `None` for a key, which is used again to get the next token.
    pub refresh_token: Option<Secret>,
}

/// Returns the error for an invalid credential; the same for every reason.
fn invalid_credential() -> Error {
    Error::Unauthenticated { reason: Reason::CredentialInvalid }
}

/// Returns the error for a valid caller without access; the same as for a gateway that does not exist.
fn missing_gateway(gateway: &str) -> Error {
    Error::not_found(ResourceKind::Gateway, gateway)
}

/// Issues a token for an API key.
///
/// # Errors
/// `Unauthenticated` if the key is invalid, `Missing` if its service principal has no role on this gateway.
pub async fn issue_for_key(
    app: &Arc<App>,
    call: &Call,
    gateway: &str,
    key: &Secret,
) -> Result<IssuedToken, Error> {
    app.snapshot.check_fresh()?;
    let caller =
        app.authn.verify_api_key(key.expose(), &app.snapshot).ok_or_else(invalid_credential)?;
    let (principal, actor) = (caller.principal(), Arc::clone(caller.actor()));
    let Some((on, role)) = visible_gateway(app, principal, gateway) else {
        audit_refusal(app, call, principal, actor, gateway);
        return Err(missing_gateway(gateway));
    };
    app.credential_limit.admit(principal)?;
    let now = app.clock.now();
    let (issued_at, expires_at) = validity(now, app.config.token_service.token_hours);
    let expires_at = caller.expires_at().map_or(expires_at, |end| end.min(expires_at));
    let ctx = authenticated_ctx(app, call, principal, actor, on.clone(), role).await?;
    // Checked again, since storing the audit entry took time.
    let access_check = AccessCheck::new(caller.clone(), RoleScope::Gateway(on.id), Role::Viewer);
    if let Err(ended) = access_check.check(&app.snapshot) {
        return Err(ended.into());
    }
    ctx.add_audit_detail("grant", "client_credentials");
    ctx.add_audit_detail("expires_at", expires_at.unix_seconds());
    let token = app.authn.tokens.issue(&TokenGrant {
        principal,
        version: caller.version(),
        session: None,
        gateway: Some(on.id),
        authenticated_at: None,
        issued_at,
        expires_at,
    })?;
    let lives = remaining(now, expires_at);
    Ok(IssuedToken { token: Secret::new(token), expires_in: lives, refresh_token: None })
}

/// Returns the beginning and the end of the validity of a token for a key. The beginning is truncated to the hour, so
/// that all requests in an hour get the same token. The lifetime is the configured one plus up to one hour, but never
/// longer than a day.
fn validity(now: Timestamp, hours: u64) -> (Timestamp, Timestamp) {
    let hours = i64::try_from(hours)
        .unwrap_or(LIFETIME_HOURS_MAX)
        .saturating_add(1)
        .min(LIFETIME_HOURS_MAX);
    let begin = now.unix_seconds().div_euclid(HOUR) * HOUR;
    (Timestamp::from_unix_seconds(begin), Timestamp::from_unix_seconds(begin + hours * HOUR))
}

fn remaining(now: Timestamp, end: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(end.unix_seconds() - now.unix_seconds()).unwrap_or_default())
}

/// Returns the gateway of a name and the principal's role on it; `None` if it has no role there.
fn visible_gateway(app: &App, principal: PrincipalId, gateway: &str) -> Option<(GatewayRef, Role)> {
    app.snapshot.find_gateway(principal, gateway).filter(|(_, role)| *role > Role::None)
}

async fn authenticated_ctx(
    app: &Arc<App>,
    call: &Call,
    principal: PrincipalId,
    actor: Arc<str>,
    gateway: GatewayRef,
    role: Role,
) -> Result<Ctx, Error> {
    let proved = VerifiedSender { actor, principal, role, gateway, action: ACTION };
    Ctx::from_verified_sender(app, call.clone(), proved).await
}

/// Records that a valid caller was rejected. The response does not wait for it, since nothing was changed.
fn audit_refusal(
    app: &Arc<App>,
    call: &Call,
    principal: PrincipalId,
    actor: Arc<str>,
    gateway: &str,
) {
    let about = AuditSubject::new(ACTION, gateway);
    let intent = Intent {
        actor,
        principal: Some(principal),
        gateway: Some(NamedGateway { id: None, name: gateway.into() }),
        client_ip: call.client_ip,
        request_id: call.request_id,
        method: call.method.into(),
        ..Intent::new(call.at, about)
    };
    let outcome = Outcome {
        took: call.started.elapsed(),
        ..Outcome::new(app.clock.now(), Ending::Denied, CODE_NOT_FOUND)
    };
    record_refusal(app, Reason::NotFound, intent, outcome);
}

/// Result of an exchange of a device code.
#[derive(Debug)]
pub enum DeviceCodeResult {
    /// The code was approved; it cannot be exchanged again.
    Issued(IssuedToken),
    /// No tokens, with the reason.
    NotGranted(NoGrantReason),
}

/// Issues tokens for an approved device code. They belong to a session of the user who approved.
pub async fn issue_for_device_code(
    app: &Arc<App>,
    call: &Call,
    gateway: &str,
    code: &Secret,
) -> Result<DeviceCodeResult, Error> {
    app.snapshot.check_fresh()?;
    let approved = match device_codes::poll(app, CodeScope::Gateway(gateway), code).await? {
        PollResult::NotGranted(why) => return Ok(DeviceCodeResult::NotGranted(why)),
        PollResult::Approved(approved) => approved,
    };
    let Some((live, on, role)) = find_approving_session(app, &approved, gateway).await? else {
        return Ok(DeviceCodeResult::NotGranted(NoGrantReason::Denied));
    };
    app.disk.admit(role)?;
    let principal = PrincipalId::User(approved.user);
    let actor = live.email.as_str().into();
    let ctx = authenticated_ctx(app, call, principal, actor, on.clone(), role).await?;
    ctx.add_audit_detail("grant", "device_code");
    if find_approving_session(app, &approved, gateway).await?.is_none() {
        return Err(invalid_credential());
    }
    let new = NewSession {
        user: approved.user,
        password_version: live.password_version,
        kind: SessionKind::Device,
        gateway: Some(on.id),
        authenticated_at: live.authenticated_at,
    };
    let start = SessionStart::new(&ctx, new)?;
    // One transaction: a session that cannot be stored leaves the code valid.
    let stored = ctx
        .record_change(async |tx| {
            if !device_codes::consume(tx, &approved).await? {
                return Ok(None);
            }
            // It may have ended since it was checked: a user who notices a fraud ends all sessions.
            if !sessions::hold_live(tx, approved.session, &new, ctx.now()).await? {
                return Err(invalid_credential());
            }
            start.store(&ctx, tx).await.map(Some)
        })
        .await?;
    // A concurrent poll has consumed the code.
    let Some(id) = stored else { return Ok(DeviceCodeResult::NotGranted(NoGrantReason::Used)) };
    Ok(DeviceCodeResult::Issued(to_issued_token(app, start.issue(&ctx, id)?)))
}

/// Returns the session that approved the code, the gateway and the user's role; `None` if the session has ended or the
/// user has no role on the gateway any more.
async fn find_approving_session(
    app: &App,
    approved: &Approval,
    gateway: &str,
) -> Result<Option<(LiveSession, GatewayRef, Role)>, Error> {
    let live = sessions::find_live(app, approved.user, approved.session).await?;
    let seen = visible_gateway(app, PrincipalId::User(approved.user), gateway);
    let seen = seen.filter(|(on, _)| Some(on.id) == approved.gateway);
    Ok(live.zip(seen).map(|(live, (on, role))| (live, on, role)))
}

/// Issues a token for a refresh token of a session that was started with a device code.
///
/// # Errors
/// `Unauthenticated` for any other token, for a token of another gateway, and for a token that was used before.
pub async fn issue_for_refresh_token(
    app: &Arc<App>,
    call: &Call,
    gateway: &str,
    given: &Secret,
) -> Result<IssuedToken, Error> {
    app.snapshot.check_fresh()?;
    let token = RefreshToken::parse(given.expose()).ok_or_else(invalid_credential)?;
    let family = sessions::find_family(app, &token).await?.ok_or_else(invalid_credential)?;
    let principal = PrincipalId::User(family.user());
    let seen = visible_gateway(app, principal, gateway);
    let (on, role) =
        seen.filter(|(on, _)| is_for_gateway(&family, on)).ok_or_else(invalid_credential)?;
    app.disk.admit(role)?;
    let ctx = authenticated_ctx(app, call, principal, family.email().into(), on, role).await?;
    ctx.add_audit_detail("grant", "refresh_token");
    Ok(to_issued_token(app, sessions::rotate(&ctx, &family, &token).await?))
}

fn is_for_gateway(family: &TokenFamily, on: &GatewayRef) -> bool {
    family.gateway() == Some(on.id)
}

fn to_issued_token(app: &App, session: Session) -> IssuedToken {
    let lives = remaining(app.clock.now(), session.expires_at);
    IssuedToken {
        token: session.token,
        expires_in: lives,
        refresh_token: Some(session.refresh_token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_times_are_rounded_to_hours_and_no_token_is_valid_over_a_day() {
        let at = Timestamp::from_unix_seconds;
        for (now, hours, begin, end) in [
            (0, 24, 0, 24 * HOUR),
            (HOUR - 1, 24, 0, 24 * HOUR),
            (HOUR, 24, HOUR, 25 * HOUR),
            (HOUR + 1, 1, HOUR, 3 * HOUR),
            (2 * HOUR - 1, 1, HOUR, 3 * HOUR),
            (5, 23, 0, 24 * HOUR),
        ] {
            assert_eq!(validity(at(now), hours), (at(begin), at(end)), "{now} {hours}");
        }
    }
}
