//! Sessions: what a login starts, a refresh token keeps going, and a revocation ends.
//!
//! Invariants
//! - a refresh token is good once; who shows an older one of a family ends the family;
//! - a family lives 30 days from the login, whatever its use (T14), and dies with the password that made it;
//! - refresh tokens are stored as SHA-256 only;
//! - a user has a bounded number: one more ends the one that was refreshed least lately; how many a user may start or
//!   refresh a minute is bounded too.

pub mod budget;
pub mod store;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::access::authn::token::Grant;
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, List, Tx};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::{GatewayId, SessionId, UserId};
use crate::error::{Error, Kind, Reason};
use crate::outbox::Subject;
use crate::outbox::event_types;
use crate::role::Role;
use crate::seal::{fill_random, hex};
use crate::secret::Secret;
use crate::words;

/// How long a family of refresh tokens lives.
pub const FAMILY: Duration = Duration::from_hours(30 * 24);
/// Live sessions of one user.
pub const SESSIONS_MAX: i64 = 32;

const PREFIX: &str = "sgr_";
const FAMILY_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;

words! {
    /// How a session was started.
    pub enum SessionKind {
        /// With a password.
        Password = "password",
        /// At an OIDC provider.
        Oidc = "oidc",
        /// On a device that the user approved, for one gateway.
        Device = "device",
    }
}

/// A session to start.
#[derive(Debug, Clone, Copy)]
pub struct NewSession {
    /// Whose.
    pub user: UserId,
    /// Version of the password that it dies with.
    pub password_version: i64,
    /// How it is started.
    pub kind: SessionKind,
    /// The one gateway that it is good for.
    pub gateway: Option<GatewayId>,
    /// When the user proved who it is.
    pub authenticated_at: Timestamp,
}

/// A session that goes on, and its tokens, which are shown once.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The session token.
    pub token: Secret,
    /// When that ends.
    pub expires_at: Timestamp,
    /// What gets the next one.
    pub refresh_token: Secret,
    /// When that ends.
    pub refresh_expires_at: Timestamp,
    /// The user's global role.
    pub role: Role,
}

/// A session as its owner sees it.
#[derive(Debug)]
pub struct Shown {
    /// Its id.
    pub id: SessionId,
    /// How it was started.
    pub kind: SessionKind,
    /// Name of the one gateway that it is good for.
    pub gateway: Option<String>,
    /// Where it was started from.
    pub client_ip: Option<String>,
    /// When the user proved who it is.
    pub authenticated_at: Timestamp,
    /// When it was last refreshed.
    pub refreshed_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A refresh token, taken apart into what is stored of it, and what the next one of its family begins with.
pub struct RefreshToken {
    family: [u8; FAMILY_BYTES],
    family_hash: String,
    refresh_hash: String,
}

impl RefreshToken {
    /// From what a caller sent; none where it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (family, secret) = bytes.split_first_chunk()?;
        Some(Self::of(*family, secret.try_into().ok()?))
    }

    fn of(family: [u8; FAMILY_BYTES], secret: [u8; SECRET_BYTES]) -> Self {
        let hash = |part: &[u8]| hex(&Sha256::digest(part));
        Self { family, family_hash: hash(&family), refresh_hash: hash(&secret) }
    }
}

/// The family that a refresh token belongs to, as long as it is alive.
pub struct Family {
    pub(super) id: SessionId,
    pub(super) new: NewSession,
    pub(super) expires_at: Timestamp,
    pub(super) email: String,
}

impl Family {
    /// Whose it is.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.new.user
    }

    /// The user's e-mail address.
    #[must_use]
    pub fn email(&self) -> &str {
        &self.email
    }

    /// The one gateway that its tokens are good for.
    #[must_use]
    pub fn gateway(&self) -> Option<GatewayId> {
        self.new.gateway
    }
}

/// Starts a session. Over the bound, the one that was refreshed least lately ends.
pub async fn begin(ctx: &Ctx, new: &NewSession) -> Result<Session, Error> {
    ctx.app().credential_limit.admit(PrincipalId::User(new.user))?;
    let now = ctx.now();
    let (mut family, mut secret) = ([0; FAMILY_BYTES], [0; SECRET_BYTES]);
    fill_random(&mut family)?;
    fill_random(&mut secret)?;
    let stored = RefreshToken::of(family, secret);
    let expires_at = now.plus(FAMILY);
    let client_ip = ctx.client_ip().map(|ip| ip.to_string());
    let id = ctx
        // The account is checked under its row. A changed password has ended the session of this very call.
        .record(async |tx| {
            may_log_in(tx, new).await?;
            let row = store::New {
                session: new,
                family_hash: &stored.family_hash,
                refresh_hash: &stored.refresh_hash,
                client_ip: client_ip.as_deref(),
                now,
                expires_at,
            };
            let id = store::insert(tx, &row).await?;
            let ended = store::end_beyond(tx, new.user, SESSIONS_MAX, now).await?;
            let payload =
                json!({ "session": id.get(), "kind": new.kind.as_str(), "user": &*ctx.actor() });
            tx.emit(ctx.event(event_types::SESSION_STARTED, payload)).await?;
            if ended > 0 {
                tx.access_changed(Subject::User(new.user)).await?;
            }
            Ok(id)
        })
        .await?;
    ctx.detail("session", id.get());
    tokens(ctx.app(), id, new, expires_at, &family, &secret)
}

/// The family of a refresh token; none where there is none, it has ended, or its user may not log in any more.
pub async fn family(app: &App, token: &RefreshToken) -> Result<Option<Family>, Error> {
    let mut conn = app.db.read().await?;
    store::family(&mut conn, &token.family_hash, app.clock.now()).await
}

/// A session that has not ended, for what is made from it.
pub struct Live {
    /// The user's e-mail address.
    pub email: String,
    /// Version of the password that it dies with.
    pub password_version: i64,
    /// When the user proved who it is.
    pub authenticated_at: Timestamp,
}

/// One session of a user, as long as it is alive.
pub async fn live(app: &App, user: UserId, id: SessionId) -> Result<Option<Live>, Error> {
    let mut conn = app.db.read().await?;
    store::live(&mut conn, user, id, app.clock.now()).await
}

/// Changes a refresh token for the next one and a session token.
///
/// # Errors
/// `CREDENTIAL_INVALID` where it was used before: then somebody else has a copy, and the whole family ends.
pub async fn rotate(ctx: &Ctx, found: &Family, before: &RefreshToken) -> Result<Session, Error> {
    ctx.app().credential_limit.admit(PrincipalId::User(found.new.user))?;
    let now = ctx.now();
    let mut secret = [0; SECRET_BYTES];
    fill_random(&mut secret)?;
    let after = RefreshToken::of(before.family, secret);
    let fresh = ctx
        .transaction(async |tx| {
            may_log_in(tx, &found.new).await?;
            let (before, after) = (&before.refresh_hash, &after.refresh_hash);
            if store::swap(tx, found.id, before, after, now).await? {
                return Ok(true);
            }
            let payload = json!({ "session": found.id.get(), "user": found.email });
            tx.emit(ctx.event(event_types::SESSION_REUSED, payload)).await?;
            end(tx, found.new.user, found.id, now).await?;
            Ok(false)
        })
        .await?;
    ctx.detail("session", found.id.get());
    if !fresh {
        ctx.detail("reused", true);
        return Err(Error::Unauthenticated { reason: Reason::CredentialInvalid });
    }
    tokens(ctx.app(), found.id, &found.new, found.expires_at, &before.family, &secret)
}

/// Checks once more, in the transaction of a session, that its user may log in: the password or token was checked before
/// the intent was stored.
async fn may_log_in(conn: &mut Conn, new: &NewSession) -> Result<(), Error> {
    if store::hold_user(conn, new.user, new.password_version).await? {
        return Ok(());
    }
    Err(Error::Unauthenticated { reason: Reason::CredentialInvalid })
}

async fn end(tx: &mut Tx<'_>, user: UserId, id: SessionId, now: Timestamp) -> Result<bool, Error> {
    let ended = store::end(tx, user, id, now).await?;
    if ended {
        tx.access_changed(Subject::User(user)).await?;
    }
    Ok(ended)
}

fn tokens(
    app: &App,
    id: SessionId,
    new: &NewSession,
    family_ends: Timestamp,
    family: &[u8],
    secret: &[u8],
) -> Result<Session, Error> {
    let principal = PrincipalId::User(new.user);
    let now = app.clock.now();
    // Whole seconds: what the token itself can say.
    let ends = now.plus(app.config.auth.session()).min(family_ends);
    let expires_at = Timestamp::from_unix_seconds(ends.unix_seconds());
    let token = app.authn.tokens.issue(&Grant {
        principal,
        version: new.password_version,
        session: Some(id),
        gateway: new.gateway,
        authenticated_at: Some(new.authenticated_at),
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
        if !end(tx, user, id, now).await? {
            return Err(Error::missing(Kind::Session, id));
        }
        let payload = json!({ "session": id.get(), "user": user.get() });
        tx.emit(ctx.event(event_types::SESSION_REVOKED, payload)).await
    })
    .await?;
    Ok(())
}

/// Ends one session of a user, within a transaction that logs the user's change; answers whether there was one.
pub async fn end_one(
    conn: &mut Conn,
    user: UserId,
    id: SessionId,
    now: Timestamp,
) -> Result<bool, Error> {
    store::end(conn, user, id, now).await
}

/// Ends every session of a user, within a transaction that logs the user's change; answers how many.
pub async fn end_all(conn: &mut Conn, user: UserId, now: Timestamp) -> Result<usize, Error> {
    store::end_all(conn, user, now).await
}

/// A page of a user's live sessions, the newest first.
pub async fn list(
    ctx: &Ctx,
    user: UserId,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Shown>, String), Error> {
    let filter = user.get().to_string();
    let list = List { method: "ListSessions", filter: filter.as_bytes(), order: "id desc" };
    let page = ctx.page::<i64>(list, size, token)?;
    let after = page.after().copied().map(SessionId);
    let mut conn = ctx.db().read().await?;
    let found = store::page(&mut conn, user, after, ctx.now(), page.limit()).await?;
    let rows = found;
    page.finish(rows, |last| last.id.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_is_read_whole_or_not_at_all() {
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
