//! Sessions: started by a login, extended by refresh tokens, ended by a revocation.
//!
//! Invariants
//! - a refresh token is valid once; presenting an older one of the same family ends the family;
//! - a family ends 30 days after the login, even if it is in use (T14), and when the password version changes;
//! - refresh tokens are stored as SHA-256 only;
//! - a session of a device never counts as a recent login, which its user has made on another one (T15);
//! - the number of sessions per user is bounded: one more ends the least recently refreshed one; the number of starts
//!   and refreshes of a user per minute is bounded, too.

pub mod budget;
mod live;
pub mod store;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};

pub use self::live::{LiveSession, find_live, hold_live};
use crate::access::authn::token::TokenGrant;
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, ListKey, Tx};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::{GatewayId, SessionId, UserId};
use crate::error::{Error, Reason, ResourceKind};
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::role::Role;
use crate::seal::{fill_random, hex};
use crate::secret::Secret;
use crate::words;

/// Lifetime of a family of refresh tokens.
pub const FAMILY_LIFETIME: Duration = Duration::from_hours(30 * 24);
/// Maximum number of live sessions per user.
pub const SESSIONS_MAX: i64 = 32;

const PREFIX: &str = "sgr_";
const FAMILY_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;

words! {
    /// How a session was started.
    pub enum SessionKind {
        /// With a password.
        Password = "password",
        /// With an OIDC provider.
        Oidc = "oidc",
        /// On a device that the user approved, for one gateway or for Shoreguard's own API.
        Device = "device",
    }
}

/// A session to start.
#[derive(Debug, Clone, Copy)]
pub struct NewSession {
    /// User.
    pub user: UserId,
    /// Version of the password that the session depends on.
    pub password_version: i64,
    /// How it is started.
    pub kind: SessionKind,
    /// The only gateway that it is valid for; `None` for all.
    pub gateway: Option<GatewayId>,
    /// When the user authenticated.
    pub authenticated_at: Timestamp,
}

/// A started or refreshed session and its tokens, which are shown once.
#[derive(Debug)]
pub struct Session {
    /// Id.
    pub id: SessionId,
    /// Session token.
    pub token: Secret,
    /// When the session token expires.
    pub expires_at: Timestamp,
    /// Refresh token.
    pub refresh_token: Secret,
    /// When the refresh token expires.
    pub refresh_expires_at: Timestamp,
    /// Global role of the user.
    pub role: Role,
}

/// A session as shown to its owner.
#[derive(Debug)]
pub struct SessionInfo {
    /// Id.
    pub id: SessionId,
    /// How it was started.
    pub kind: SessionKind,
    /// Name of the only gateway that it is valid for; `None` for all.
    pub gateway: Option<String>,
    /// Client address at the start.
    pub client_ip: Option<String>,
    /// When the user authenticated.
    pub authenticated_at: Timestamp,
    /// When it was last refreshed.
    pub refreshed_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A parsed refresh token: the hashes to compare with the stored ones, and the family part of the next token.
pub struct RefreshToken {
    family: [u8; FAMILY_BYTES],
    family_hash: String,
    refresh_hash: String,
}

impl RefreshToken {
    /// Parses a refresh token; `None` if the text is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (family, secret) = bytes.split_first_chunk()?;
        Some(Self::from_parts(*family, secret.try_into().ok()?))
    }

    fn from_parts(family: [u8; FAMILY_BYTES], secret: [u8; SECRET_BYTES]) -> Self {
        let hash = |part: &[u8]| hex(&Sha256::digest(part));
        Self { family, family_hash: hash(&family), refresh_hash: hash(&secret) }
    }
}

/// The live family of a refresh token.
pub struct TokenFamily {
    pub(super) id: SessionId,
    pub(super) session: NewSession,
    pub(super) expires_at: Timestamp,
    pub(super) email: String,
}

impl TokenFamily {
    /// Returns the user.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.session.user
    }

    /// Returns the e-mail address of the user.
    #[must_use]
    pub fn email(&self) -> &str {
        &self.email
    }

    /// Returns the only gateway that its tokens are valid for; `None` for all.
    #[must_use]
    pub fn gateway(&self) -> Option<GatewayId> {
        self.session.gateway
    }
}

/// Starts a session. If the user then has too many, the least recently refreshed one ends.
pub async fn begin(ctx: &Ctx, new: &NewSession) -> Result<Session, Error> {
    let start = SessionStart::new(ctx, *new)?;
    // Uses `record_change`: after a change of the password, the session of this very call has ended. The account is
    // checked under its row lock.
    let id = ctx.record_change(async |tx| start.store(ctx, tx).await).await?;
    start.issue(ctx, id)
}

/// A session with its secrets, to be stored in a transaction together with what allows it.
pub struct SessionStart {
    session: NewSession,
    family: [u8; FAMILY_BYTES],
    secret: [u8; SECRET_BYTES],
    now: Timestamp,
    expires_at: Timestamp,
}

impl SessionStart {
    /// Generates the secrets of a session.
    ///
    /// # Errors
    /// `RATE_LIMITED` if the user has made too many credentials.
    pub fn new(ctx: &Ctx, session: NewSession) -> Result<Self, Error> {
        ctx.app().credential_limit.admit(PrincipalId::User(session.user))?;
        let (mut family, mut secret) = ([0; FAMILY_BYTES], [0; SECRET_BYTES]);
        fill_random(&mut family)?;
        fill_random(&mut secret)?;
        let now = ctx.now();
        Ok(Self { session, family, secret, now, expires_at: now.plus(FAMILY_LIFETIME) })
    }

    /// Stores the session. If the user then has too many, the least recently refreshed one ends. Must be the last step
    /// of the transaction, since it may log a change of access.
    ///
    /// # Errors
    /// `CREDENTIAL_INVALID` if the user can no longer log in.
    pub async fn store(&self, ctx: &Ctx, tx: &mut Tx<'_>) -> Result<SessionId, Error> {
        let new = &self.session;
        check_can_log_in(tx, new).await?;
        let hashes = RefreshToken::from_parts(self.family, self.secret);
        let client_ip = ctx.client_ip().map(|ip| ip.to_string());
        let row = store::NewSessionRow {
            session: new,
            family_hash: &hashes.family_hash,
            refresh_hash: &hashes.refresh_hash,
            client_ip: client_ip.as_deref(),
            now: self.now,
            expires_at: self.expires_at,
        };
        let id = store::insert(tx, &row).await?;
        let ended = store::end_oldest(tx, new.user, SESSIONS_MAX, self.now).await?;
        let payload =
            json!({ "session": id.get(), "kind": new.kind.as_str(), "user": &*ctx.actor() });
        tx.emit(ctx.new_event(event_types::SESSION_STARTED, payload)).await?;
        if ended > 0 {
            tx.log_access_change(AccessSubject::User(new.user)).await?;
        }
        Ok(id)
    }

    /// Returns the tokens, after the commit.
    ///
    /// # Errors
    /// `Internal` if a token cannot be signed.
    pub fn issue(&self, ctx: &Ctx, id: SessionId) -> Result<Session, Error> {
        ctx.add_audit_detail("session", id.get());
        issue_tokens(ctx.app(), id, &self.session, self.expires_at, &self.family, &self.secret)
    }
}

/// Returns the family of a refresh token; `None` if it does not exist or has ended, or if its user can no longer log
/// in.
pub async fn find_family(app: &App, token: &RefreshToken) -> Result<Option<TokenFamily>, Error> {
    let mut conn = app.db.read().await?;
    store::find_family(&mut conn, &token.family_hash, app.clock.now()).await
}

/// Exchanges a refresh token for the next one and a session token.
///
/// # Errors
/// `CREDENTIAL_INVALID` if the token was used before: then there is a copy of it, and the whole family ends.
pub async fn rotate(
    ctx: &Ctx,
    found: &TokenFamily,
    before: &RefreshToken,
) -> Result<Session, Error> {
    ctx.app().credential_limit.admit(PrincipalId::User(found.session.user))?;
    let now = ctx.now();
    let mut secret = [0; SECRET_BYTES];
    fill_random(&mut secret)?;
    let after = RefreshToken::from_parts(before.family, secret);
    let fresh = ctx
        .transaction(async |tx| {
            check_can_log_in(tx, &found.session).await?;
            let (before, after) = (&before.refresh_hash, &after.refresh_hash);
            if store::replace_refresh_token(tx, found.id, before, after, now).await? {
                return Ok(true);
            }
            let payload = json!({ "session": found.id.get(), "user": found.email });
            tx.emit(ctx.new_event(event_types::SESSION_REUSED, payload)).await?;
            if store::end(tx, found.session.user, found.id, now).await? {
                tx.log_access_change(AccessSubject::User(found.session.user)).await?;
            }
            Ok(false)
        })
        .await?;
    ctx.add_audit_detail("session", found.id.get());
    if !fresh {
        ctx.add_audit_detail("reused", true);
        return Err(Error::Unauthenticated { reason: Reason::CredentialInvalid });
    }
    issue_tokens(ctx.app(), found.id, &found.session, found.expires_at, &before.family, &secret)
}

/// Checks again, in the transaction of a session, that its user can log in: the password or token was checked before
/// the audit entry was stored.
async fn check_can_log_in(conn: &mut Conn, new: &NewSession) -> Result<(), Error> {
    if store::lock_user(conn, new.user, new.password_version).await? {
        return Ok(());
    }
    Err(Error::Unauthenticated { reason: Reason::CredentialInvalid })
}

fn issue_tokens(
    app: &App,
    id: SessionId,
    new: &NewSession,
    family_ends: Timestamp,
    family: &[u8],
    secret: &[u8],
) -> Result<Session, Error> {
    let principal = PrincipalId::User(new.user);
    let now = app.clock.now();
    // Truncated to whole seconds, the resolution of the token.
    let ends = now.plus(app.config.auth.session()).min(family_ends);
    let expires_at = Timestamp::from_unix_seconds(ends.unix_seconds());
    let token = app.authn.tokens.issue(&TokenGrant {
        principal,
        version: new.password_version,
        session: Some(id),
        gateway: new.gateway,
        authenticated_at: (new.kind != SessionKind::Device).then_some(new.authenticated_at),
        issued_at: now,
        expires_at,
    })?;
    let refresh_token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([family, secret].concat()));
    Ok(Session {
        id,
        token: Secret::new(token),
        expires_at,
        refresh_token: Secret::new(refresh_token),
        refresh_expires_at: family_ends,
        role: app.snapshot.global_role(principal),
    })
}

/// Ends one session of a user.
pub async fn revoke(ctx: &Ctx, user: UserId, id: SessionId) -> Result<(), Error> {
    let now = ctx.now();
    ctx.transaction(async |tx| {
        if !store::end(tx, user, id, now).await? {
            return Err(Error::not_found(ResourceKind::Session, id));
        }
        let payload = json!({ "session": id.get(), "user": user.get() });
        tx.emit(ctx.new_event(event_types::SESSION_REVOKED, payload)).await?;
        tx.log_access_change(AccessSubject::User(user)).await
    })
    .await?;
    Ok(())
}

/// Ends one session of a user, in a transaction that logs the change of the user. Returns `false` if it does not exist
/// or has been revoked already.
pub async fn end_one(
    conn: &mut Conn,
    user: UserId,
    id: SessionId,
    now: Timestamp,
) -> Result<bool, Error> {
    store::end(conn, user, id, now).await
}

/// Ends all sessions of a user, in a transaction that logs the change of the user. Returns their number.
pub async fn end_all(conn: &mut Conn, user: UserId, now: Timestamp) -> Result<usize, Error> {
    store::end_all(conn, user, now).await
}

/// Returns a page of a user's live sessions, newest first.
pub async fn list(
    ctx: &Ctx,
    user: UserId,
    size: PageSize,
    token: &str,
) -> Result<(Vec<SessionInfo>, String), Error> {
    let filter = user.get().to_string();
    let list = ListKey { method: "ListSessions", filter: filter.as_bytes(), order: "id desc" };
    let page = ctx.page_request::<i64>(list, size, token)?;
    let after = page.after().copied().map(SessionId);
    let mut conn = ctx.db().read().await?;
    let rows = store::page(&mut conn, user, after, ctx.now(), page.limit()).await?;
    page.finish(rows, |last| last.id.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_refresh_token_is_parsed() {
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([7; FAMILY_BYTES + SECRET_BYTES]));
        assert_eq!(text.len(), 68);
        let read = RefreshToken::parse(&text).unwrap();
        assert_eq!((read.family_hash.len(), read.refresh_hash.len()), (64, 64));
        assert_ne!(read.family_hash, read.refresh_hash);
        let bad =
            ["", "sgr_", &text[1..], &text[..67], &format!("{text}AA"), "sg_AAAA", "sgr_!!!!"];
        for bad in bad {
            assert!(RefreshToken::parse(bad).is_none(), "{bad:?}");
        }
    }
}
