//! Login on a device without a browser: it shows a code, a logged-in user approves it, and the device gets a session of
//! that user (RFC 8628).
//!
//! Invariants
//! - it is off unless `auth.device_login` is set (T15);
//! - the session begins only while the session in which the user has approved is live, which the transaction that starts
//!   it checks; then it ends like any other;
//! - the response names the account, so that a device on which another user has logged in is noticed;
//! - a login by a code never counts as a recent login (`sessions`): an attacker who gets such a session from a deceived
//!   user can neither approve a further device nor link an identity with it (T11, T15);
//! - requests over the limits of `device_codes` are refused before their audit entry is stored (T16).

use std::sync::Arc;

use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::ctx::AnonymousCtx;
use crate::error::{Error, Reason};
use crate::resources::device_codes::domain::{
    self as device_codes, CodeScope, NewDeviceCode, NoGrantReason, POLL_INTERVAL, PollResult,
};
use crate::resources::sessions::{self, NewSession, Session, SessionKind, SessionStart};
use crate::role::Role;
use crate::secret::Secret;

/// Begins a login: creates a code for a session.
///
/// # Errors
/// `FEATURE_DISABLED`, `RATE_LIMITED`, `DISK_LOW`.
pub async fn begin(anonymous: AnonymousCtx) -> Result<NewDeviceCode, Error> {
    let (app, ip) = (Arc::clone(anonymous.app()), anonymous.client_ip());
    check_enabled(&app)?;
    device_codes::check_room(&app, CodeScope::Session, ip).await?;
    anonymous.identify("anonymous".into(), None, Role::None).await?;
    device_codes::request_code(&app, CodeScope::Session, ip).await
}

/// A new session, and whose it is.
#[derive(Debug)]
pub struct DeviceSession {
    /// The session.
    pub session: Session,
    /// E-mail address of the user who has approved the code.
    pub email: String,
}

/// Completes a login: starts a session if the code was approved. Works once.
///
/// # Errors
/// `DEVICE_LOGIN_PENDING`, `DEVICE_LOGIN_DENIED`, `RATE_LIMITED` if the client polls too often, `CREDENTIAL_INVALID` if
/// the code is unknown, expired or used, `FEATURE_DISABLED`.
pub async fn complete(anonymous: AnonymousCtx, code: &Secret) -> Result<DeviceSession, Error> {
    let app = Arc::clone(anonymous.app());
    check_enabled(&app)?;
    app.snapshot.check_fresh()?;
    let approval = match device_codes::poll(&app, CodeScope::Session, code).await? {
        PollResult::Approved(approval) => approval,
        PollResult::NotGranted(why) => return Err(not_granted(why)),
    };
    let live = sessions::find_live(&app, approval.user, approval.session).await?;
    let live = live.ok_or_else(denied)?;
    let principal = PrincipalId::User(approval.user);
    let role = app.snapshot.global_role(principal);
    let ctx = anonymous.identify(live.email.as_str().into(), Some(principal), role).await?;
    ctx.add_audit_detail("grant", "device_code");
    // Checked again, since storing the audit entry took time.
    if sessions::find_live(&app, approval.user, approval.session).await?.is_none() {
        return Err(denied());
    }
    let new = NewSession {
        user: approval.user,
        password_version: live.password_version,
        kind: SessionKind::Device,
        gateway: None,
        authenticated_at: live.authenticated_at,
    };
    let start = SessionStart::new(&ctx, new)?;
    // One transaction: a session that cannot be stored leaves the code valid.
    let stored = ctx
        .record_change(async |tx| {
            if !device_codes::consume(tx, &approval).await? {
                return Ok(None);
            }
            // It may have ended since it was checked: a user who notices a fraud ends all sessions.
            if !sessions::hold_live(tx, approval.session, &new, ctx.now()).await? {
                return Err(denied());
            }
            start.store(&ctx, tx).await.map(Some)
        })
        .await?;
    // If there is no session, a concurrent call has consumed the code.
    let id = stored.ok_or_else(|| not_granted(NoGrantReason::Used))?;
    Ok(DeviceSession { session: start.issue(&ctx, id)?, email: live.email })
}

fn check_enabled(app: &App) -> Result<(), Error> {
    if app.config.auth.device_login {
        return Ok(());
    }
    Err(Error::refused(
        Reason::FeatureDisabled,
        "login by a code is disabled: see `auth.device_login`",
    ))
}

fn denied() -> Error {
    let why = "the login was denied, or the user who has approved it has logged out since";
    Error::refused(Reason::DeviceLoginDenied, why)
}

fn not_granted(why: NoGrantReason) -> Error {
    match why {
        NoGrantReason::Pending => {
            Error::refused(Reason::DeviceLoginPending, "no user has approved the code yet")
        }
        NoGrantReason::TooFast => {
            Error::Exhausted { reason: Reason::RateLimited, retry_in: POLL_INTERVAL }
        }
        NoGrantReason::Denied => denied(),
        NoGrantReason::Expired | NoGrantReason::Used | NoGrantReason::Unknown => {
            Error::Unauthenticated { reason: Reason::CredentialInvalid }
        }
    }
}
