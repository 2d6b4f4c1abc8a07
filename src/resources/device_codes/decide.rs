//! Deciding about a code, as the user who enters it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::domain::{CodeState, UserCode, network};
use super::store;
use crate::access::principal::{Caller, PrincipalId};
use crate::clock::Timestamp;
use crate::ctx::{Ctx, GatewayRef};
use crate::db::types::{DeviceCodeId, SessionId, UserId};
use crate::error::{Error, Reason, ResourceKind};
use crate::outbox::event_types;
use crate::role::Role;
use crate::words;

/// Maximum age of the login of the user who approves.
pub const LOGIN_AGE_MAX: Duration = Duration::from_mins(10);
/// Wrong codes that a user can enter per [`ATTEMPT_WINDOW`].
pub const ATTEMPTS_MAX: i64 = 5;
/// Window in which wrong codes are counted.
pub const ATTEMPT_WINDOW: Duration = Duration::from_mins(10);

words! {
    /// Access that a user gives to the client of a code.
    pub enum GrantScope {
        /// Tokens for one gateway.
        Gateway = "gateway",
        /// A session of Shoreguard's own API: everything that the user can do.
        Session = "session",
    }
}

/// A code without a decision.
#[derive(Debug)]
pub struct PendingCode {
    pub(super) id: DeviceCodeId,
    /// Name of the gateway, which need not exist; `None` for a session.
    pub(super) gateway: Option<String>,
    pub(super) client_ip: Option<String>,
    pub(super) network: String,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

impl PendingCode {
    fn scope(&self) -> GrantScope {
        if self.gateway.is_some() { GrantScope::Gateway } else { GrantScope::Session }
    }
}

/// Request that a user decides about, to be shown before the decision.
#[derive(Debug)]
pub struct ApprovalRequest {
    /// Access that the client requests.
    pub scope: GrantScope,
    /// Gateway that the client wants to access; `None` for a session.
    pub gateway: Option<Arc<str>>,
    /// Role that the client would have: that of the user, on the gateway or globally.
    pub role: Role,
    /// Client address of the request.
    pub client_ip: Option<String>,
    /// Whether the user calls from another network than the client, as the victim of a phisher does, or from an unknown
    /// one.
    pub other_network: bool,
    /// When the code was created.
    pub created_at: Timestamp,
    /// When the code expires.
    pub expires_at: Timestamp,
}

/// Decision of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserDecision {
    /// The client gets tokens of the user, if it has requested this.
    Approve(GrantScope),
    /// The client gets no tokens.
    Deny,
}

/// Decides about a code; with `None`, only returns the request. A wrong code counts as an attempt, independent of what
/// is wrong.
///
/// # Errors
/// `DEVICE_SCOPE_MISMATCH` if an approval is for less or for something else than the client asks for: nothing is
/// decided. `NOT_FOUND`, `NO_SESSION`, `LOGIN_STALE`, `RATE_LIMITED`.
pub async fn decide(
    ctx: &Ctx,
    code: &UserCode,
    decision: Option<UserDecision>,
) -> Result<ApprovalRequest, Error> {
    let (user, session) = approver(ctx)?;
    count_attempt(ctx, user).await?;
    let mut conn = ctx.db().read().await?;
    let pending = store::by_user_hash(&mut conn, &code.hash(ctx.app()), ctx.now()).await?;
    drop(conn);
    let pending = pending.ok_or_else(missing)?;
    let (gateway, role) = find_target(ctx, &pending).ok_or_else(missing)?;
    let scope = pending.scope();
    ctx.add_audit_detail("scope", scope.as_str());
    if let Some(gateway) = &gateway {
        ctx.add_audit_detail("gateway", &*gateway.name);
    }
    ctx.add_audit_detail("client_ip", pending.client_ip.clone());
    let mismatch = matches!(decision, Some(UserDecision::Approve(granted)) if granted != scope);
    let decision = decision.filter(|_| !mismatch);
    ctx.transaction(async |tx| {
        if let Some(decision) = decision {
            let (state, event) = match decision {
                UserDecision::Approve(_) => {
                    (CodeState::Approved, event_types::DEVICE_CODE_APPROVED)
                }
                UserDecision::Deny => (CodeState::Denied, event_types::DEVICE_CODE_DENIED),
            };
            let on = gateway.as_ref().map(|gateway| gateway.id);
            let by = store::NewDecision { state, gateway: on, user, session };
            if !store::decide(tx, pending.id, &by).await? {
                return Err(missing());
            }
            let payload = json!({
                "user": &*ctx.actor(), "client_ip": pending.client_ip, "scope": scope.as_str(),
            });
            let event = ctx.new_event(event, payload);
            let event = match &gateway {
                Some(gateway) => event.with_gateway(gateway.clone()),
                None => event,
            };
            tx.emit(event).await?;
        }
        store::refund_attempt(tx, user).await
    })
    .await?;
    if mismatch {
        return Err(scope_mismatch(scope));
    }
    let other_network = is_other_network(&pending.network, &network(ctx.client_ip()));
    let PendingCode { client_ip, created_at, expires_at, .. } = pending;
    let gateway = gateway.map(|gateway| gateway.name);
    Ok(ApprovalRequest { scope, gateway, role, client_ip, other_network, created_at, expires_at })
}

/// Returns whether two networks differ. An unknown one is empty, and differs from each: silence must not mean safety.
fn is_other_network(of_client: &str, of_user: &str) -> bool {
    of_client.is_empty() || of_client != of_user
}

fn missing() -> Error {
    Error::not_found(ResourceKind::DeviceCode, "typed")
}

/// Returns the gateway of a code, if it is for one, and the role that its client would have. `None` if the user cannot
/// give what the client asks for.
fn find_target(ctx: &Ctx, pending: &PendingCode) -> Option<(Option<GatewayRef>, Role)> {
    let principal = ctx.principal()?;
    let Some(gateway) = &pending.gateway else {
        let offered = ctx.app().config.auth.device_login;
        return offered.then(|| (None, global_role(ctx, principal)));
    };
    let seen = ctx.app().snapshot.find_gateway(principal, gateway);
    let (gateway, role) = seen.filter(|(_, role)| *role > Role::None)?;
    Some((Some(gateway), role))
}

fn global_role(ctx: &Ctx, principal: PrincipalId) -> Role {
    ctx.app().snapshot.global_role(principal)
}

fn scope_mismatch(asked: GrantScope) -> Error {
    let why = match asked {
        GrantScope::Session => {
            "the code asks for a session with all of your access, not for one gateway: if you have started this login \
             yourself, approve it with scope DEVICE_SCOPE_SESSION"
        }
        GrantScope::Gateway => {
            "the code asks for one gateway, not for a session: approve it with scope DEVICE_SCOPE_GATEWAY"
        }
    };
    Error::refused(Reason::DeviceScopeMismatch, why)
}

/// Returns the user and session of the call. Only a user with a session and a recent login can approve a device (T15).
fn approver(ctx: &Ctx) -> Result<(UserId, SessionId), Error> {
    let user = ctx.user()?;
    let no_session = || Error::refused(Reason::NoSession, "log in first: a session is required");
    let session = ctx.caller().and_then(Caller::session).ok_or_else(no_session)?;
    let fresh = ctx
        .caller()
        .and_then(Caller::authenticated_at)
        .is_some_and(|at| at > ctx.now().minus(LOGIN_AGE_MAX));
    if !fresh {
        let minutes = LOGIN_AGE_MAX.as_secs() / 60;
        let why = format!("log in again for this: the login is older than {minutes} minutes");
        return Err(Error::refused(Reason::LoginStale, why));
    }
    Ok((user, session))
}

/// Counts an attempt before the code is looked up, so that concurrent guesses are limited like sequential ones.
async fn count_attempt(ctx: &Ctx, user: UserId) -> Result<(), Error> {
    let now = ctx.now();
    let (taken, since) = ctx
        .db()
        .transaction(async |conn| {
            store::count_attempt(conn, user, now.minus(ATTEMPT_WINDOW), now).await
        })
        .await?;
    if taken <= ATTEMPTS_MAX {
        return Ok(());
    }
    let left = since.plus(ATTEMPT_WINDOW).unix_seconds() - now.unix_seconds();
    let retry_in = Duration::from_secs(u64::try_from(left).unwrap_or_default());
    Err(Error::Exhausted { reason: Reason::RateLimited, retry_in })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_network_is_another_one() {
        for (of_client, of_user, expected) in [
            ("192.0.2.1", "192.0.2.1", false),
            ("192.0.2.1", "192.0.2.2", true),
            ("192.0.2.1", "", true),
            ("", "192.0.2.1", true),
            ("", "", true),
        ] {
            assert_eq!(is_other_network(of_client, of_user), expected, "{of_client} {of_user}");
        }
    }
}
