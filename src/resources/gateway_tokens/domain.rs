//! Exchanges a key, a device code or a refresh token for a token for one gateway.

use std::sync::Arc;
use std::time::Duration;

use crate::access::action::Action;
use crate::access::authn::token::Grant;
use crate::access::policy::About;
use crate::access::principal::PrincipalId;
use crate::access::standing::{Place, Standing};
use crate::app::App;
use crate::audit::{Ending, Intent, Outcome};
use crate::clock::Timestamp;
use crate::ctx::{Call, Ctx, GatewayRef, Proved, record_refusal};
use crate::db::types::NamedGateway;
use crate::error::{Error, Kind, Reason};
use crate::resources::device_codes::domain::{self as device_codes, Approved, NoGrant, Polled};
use crate::resources::sessions::{
    self, Family, Live, NewSession, RefreshToken, Session, SessionKind,
};
use crate::role::Role;
use crate::secret::Secret;

/// Audit action of each exchange.
pub const ACTION: Action = Action::GATEWAY_TOKEN_ISSUE;

const HOUR: i64 = 60 * 60;
/// Maximum lifetime of a token (T14), in hours.
const LIFE_HOURS_MAX: i64 = 24;
/// gRPC status code `NOT_FOUND`, for the audit log.
const CODE_NOT_FOUND: i32 = 5;

/// A new token.
#[derive(Debug)]
pub struct Issued {
    /// Token that the client sends with each call.
    pub token: Secret,
    /// Remaining lifetime.
    pub lives: Duration,
    /// Refresh token; `None` for a key, which is used again to get the next token.
    pub refresh_token: Option<Secret>,
}

/// Returns the error for an invalid credential; the same for every reason.
fn invalid() -> Error {
    Error::Unauthenticated { reason: Reason::CredentialInvalid }
}

/// Returns the error for a valid caller without access; the same as for a gateway that does not exist.
fn hidden(gateway: &str) -> Error {
    Error::missing(Kind::Gateway, gateway)
}

/// Issues a token for an API key.
///
/// # Errors
/// `Unauthenticated` if the key is invalid, `Missing` if its service principal has no role on this gateway.
pub async fn by_key(
    app: &Arc<App>,
    call: &Call,
    gateway: &str,
    key: &Secret,
) -> Result<Issued, Error> {
    app.snapshot.check_fresh()?;
    let caller = app.authn.key(key.expose(), &app.snapshot).ok_or_else(invalid)?;
    let (principal, actor) = (caller.principal(), Arc::clone(caller.actor()));
    let Some((on, role)) = seen(app, principal, gateway) else {
        refused(app, call, principal, actor, gateway);
        return Err(hidden(gateway));
    };
    app.credential_limit.admit(principal)?;
    let now = app.clock.now();
    let (issued_at, expires_at) = life(now, app.config.token_service.token_hours);
    let expires_at = caller.expires_at().map_or(expires_at, |end| end.min(expires_at));
    let ctx = prove(app, call, principal, actor, on.clone(), role).await?;
    // Checked again, since storing the audit entry took time.
    let standing = Standing::new(caller.clone(), Place::On(on.id), Role::Viewer);
    if let Err(ended) = standing.check(&app.snapshot) {
        return Err(ended.into());
    }
    ctx.detail("grant", "client_credentials");
    ctx.detail("expires_at", expires_at.unix_seconds());
    let token = app.authn.tokens.issue(&Grant {
        principal,
        version: caller.version(),
        session: None,
        gateway: Some(on.id),
        authenticated_at: None,
        issued_at,
        expires_at,
    })?;
    let lives = whole_seconds(now, expires_at);
    Ok(Issued { token: Secret::new(token), lives, refresh_token: None })
}

/// Returns the beginning and the end of the validity of a token for a key. The beginning is truncated to the hour, so
/// that all requests in an hour get the same token. The lifetime is the configured one plus up to one hour, but never
/// longer than a day.
fn life(now: Timestamp, hours: u64) -> (Timestamp, Timestamp) {
    let hours =
        i64::try_from(hours).unwrap_or(LIFE_HOURS_MAX).saturating_add(1).min(LIFE_HOURS_MAX);
    let begin = now.unix_seconds().div_euclid(HOUR) * HOUR;
    (Timestamp::from_unix_seconds(begin), Timestamp::from_unix_seconds(begin + hours * HOUR))
}

fn whole_seconds(now: Timestamp, end: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(end.unix_seconds() - now.unix_seconds()).unwrap_or_default())
}

/// Returns the gateway of a name and the principal's role on it; `None` if it has no role there.
fn seen(app: &App, principal: PrincipalId, gateway: &str) -> Option<(GatewayRef, Role)> {
    app.snapshot.gateway(principal, gateway).filter(|(_, role)| *role > Role::None)
}

async fn prove(
    app: &Arc<App>,
    call: &Call,
    principal: PrincipalId,
    actor: Arc<str>,
    gateway: GatewayRef,
    role: Role,
) -> Result<Ctx, Error> {
    let proved = Proved { actor, principal, role, gateway, action: ACTION };
    Ctx::proved(app, call.clone(), proved).await
}

/// Records that a valid caller was rejected. The response does not wait for it, since nothing was changed.
fn refused(app: &Arc<App>, call: &Call, principal: PrincipalId, actor: Arc<str>, gateway: &str) {
    let about = About::new(ACTION, gateway);
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
pub enum ByCode {
    /// The code was approved; it cannot be exchanged again.
    Issued(Issued),
    /// No tokens, with the reason.
    Not(NoGrant),
}

/// Issues tokens for an approved device code. They belong to a session of the user who approved.
pub async fn by_code(
    app: &Arc<App>,
    call: &Call,
    gateway: &str,
    code: &Secret,
) -> Result<ByCode, Error> {
    app.snapshot.check_fresh()?;
    let approved = match device_codes::poll(app, gateway, code).await? {
        Polled::Not(why) => return Ok(ByCode::Not(why)),
        Polled::Approved(approved) => approved,
    };
    let Some((live, on, role)) = still_approved(app, &approved, gateway).await? else {
        return Ok(ByCode::Not(NoGrant::Denied));
    };
    app.disk.admit(role)?;
    let principal = PrincipalId::User(approved.user);
    let actor = live.email.as_str().into();
    let ctx = prove(app, call, principal, actor, on.clone(), role).await?;
    ctx.detail("grant", "device_code");
    if still_approved(app, &approved, gateway).await?.is_none() {
        return Err(invalid());
    }
    if !device_codes::consume(&ctx, &approved).await? {
        // A concurrent poll has consumed the code.
        return Err(invalid());
    }
    let new = NewSession {
        user: approved.user,
        password_version: live.password_version,
        kind: SessionKind::Device,
        gateway: Some(on.id),
        authenticated_at: live.authenticated_at,
    };
    sessions::begin(&ctx, &new).await.map(|session| ByCode::Issued(issued(app, session)))
}

/// Returns the session that approved the code, the gateway and the user's role; `None` if the session has ended or the
/// user has no role on the gateway any more.
async fn still_approved(
    app: &App,
    approved: &Approved,
    gateway: &str,
) -> Result<Option<(Live, GatewayRef, Role)>, Error> {
    let live = sessions::live(app, approved.user, approved.session).await?;
    let seen = seen(app, PrincipalId::User(approved.user), gateway);
    let seen = seen.filter(|(on, _)| on.id == approved.gateway);
    Ok(live.zip(seen).map(|(live, (on, role))| (live, on, role)))
}

/// Issues a token for a refresh token of a session that was started with a device code.
///
/// # Errors
/// `Unauthenticated` for any other token, for a token of another gateway, and for a token that was used before.
pub async fn by_refresh_token(
    app: &Arc<App>,
    call: &Call,
    gateway: &str,
    given: &Secret,
) -> Result<Issued, Error> {
    app.snapshot.check_fresh()?;
    let token = RefreshToken::parse(given.expose()).ok_or_else(invalid)?;
    let family = sessions::family(app, &token).await?.ok_or_else(invalid)?;
    let principal = PrincipalId::User(family.user());
    let seen = seen(app, principal, gateway);
    let (on, role) = seen.filter(|(on, _)| of_gateway(&family, on)).ok_or_else(invalid)?;
    app.disk.admit(role)?;
    let ctx = prove(app, call, principal, family.email().into(), on, role).await?;
    ctx.detail("grant", "refresh_token");
    Ok(issued(app, sessions::rotate(&ctx, &family, &token).await?))
}

fn of_gateway(family: &Family, on: &GatewayRef) -> bool {
    family.gateway() == Some(on.id)
}

fn issued(app: &App, session: Session) -> Issued {
    let lives = whole_seconds(app.clock.now(), session.expires_at);
    Issued { token: session.token, lives, refresh_token: Some(session.refresh_token) }
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
            assert_eq!(life(at(now), hours), (at(begin), at(end)), "{now} {hours}");
        }
    }
}
