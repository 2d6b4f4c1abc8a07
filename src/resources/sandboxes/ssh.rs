//! SSH sessions into sandboxes.
//!
//! Invariants
//! - only the SHA-256 of a token is stored, with the sandbox that it is for;
//! - the values that a caller gets are safe in a command line: a gateway response with unsafe values is rejected;
//! - a session can only be revoked through its own sandbox, and success is reported only if it was revoked.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tracing::warn;

use super::domain::{connect_for_change, event_payload};
use super::store;
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::{Error, GatewayRefusal, ResourceKind};
use crate::net::public_address::PublicAddress;
use crate::openshell::Gateway;
use crate::openshell::ssh::SshSession;
use crate::outbox::event_types;
use crate::seal::hex;

/// How long a session is stored if the gateway does not report its expiry.
const KEEP_FOR: Duration = Duration::from_hours(24);
/// Longest token of a session, in characters.
pub const TOKEN_CHARACTERS_MAX: usize = 4_096;
/// Longest id of a sandbox, in characters.
const ID_CHARACTERS_MAX: usize = 128;
/// Longest fingerprint, in characters.
const FINGERPRINT_CHARACTERS_MAX: usize = 256;

fn hash_token(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// Opens a session. The address in it is this server's, as in proxied responses.
pub async fn create(ctx: &Ctx, place: &SandboxName) -> Result<SshSession, Error> {
    let gateway = &ctx.required_gateway()?.name;
    ctx.add_audit_detail("workspace", place.workspace.as_str());
    let reached = connect_for_change(ctx).await?;
    let session = reached.create_ssh_session(place).await?;
    // What follows on the gateway revokes a session that the caller does not get, even if it has lost its access.
    let reached = reached.on_own_behalf();
    if !is_safe(&session) {
        // The caller does not get it, so it must not stay open.
        if !revoke_undelivered(&reached, &session.token).await {
            ctx.unanswered().set();
        }
        return Err(Error::Gateway {
            gateway: gateway.to_string(),
            refusal: GatewayRefusal::Refused,
            why: "an SSH session whose values are not safe in a command line".to_owned(),
        });
    }
    let now = ctx.now();
    let ends = session.expires_at.unwrap_or_else(|| now.plus(KEEP_FOR));
    let token_hash = hash_token(&session.token);
    let remembered = ctx
        .transaction(async |tx| {
            store::insert_ssh(tx, gateway, place, &token_hash, now, ends).await?;
            let payload = event_payload(place, serde_json::json!({}));
            tx.emit(ctx.new_event(event_types::SSH_SESSION_CREATED, payload)).await
        })
        .await;
    if let Err(error) = remembered {
        // Without a row the session could not be revoked here, and the caller does not get it.
        revoke_undelivered(&reached, &session.token).await;
        return Err(error);
    }
    let PublicAddress { host, port, scheme } =
        PublicAddress::parse(&ctx.app().config.server.public_url())?;
    Ok(SshSession { host, port: u32::from(port), scheme, ..session })
}

/// Revokes a session that the caller does not get. Returns whether the gateway has confirmed it.
async fn revoke_undelivered(reached: &Gateway, token: &str) -> bool {
    let revoked = reached.revoke_ssh_session(token).await;
    if let Err(error) = &revoked {
        let (gateway, error) = (reached.name(), error as &dyn std::error::Error);
        warn!(%gateway, error, "an SSH session stays open on its gateway");
    }
    revoked.is_ok()
}

/// Returns whether all values of a session are safe: they become part of a shell command.
fn is_safe(session: &SshSession) -> bool {
    let made_of = |text: &str, max: usize, more: &str| {
        text.chars().count() <= max
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    !session.sandbox_id.is_empty()
        && made_of(&session.sandbox_id, ID_CHARACTERS_MAX, "._-")
        && !session.token.is_empty()
        && made_of(&session.token, TOKEN_CHARACTERS_MAX, "._~+/=-")
        && made_of(&session.host_key_fingerprint, FINGERPRINT_CHARACTERS_MAX, ":+/=-")
}

/// Revokes a session of this sandbox that was opened through Shoreguard.
pub async fn revoke(ctx: &Ctx, place: &SandboxName, token: &str) -> Result<(), Error> {
    let gateway = &ctx.required_gateway()?.name;
    let token_hash = hash_token(token);
    ctx.add_audit_detail("workspace", place.workspace.as_str());
    let missing = || Error::not_found(ResourceKind::Session, "of this sandbox");
    let mut conn = ctx.db().read().await?;
    if !store::has_ssh(&mut conn, gateway, place, &token_hash).await? {
        return Err(missing());
    }
    drop(conn);
    let revoked = connect_for_change(ctx).await?.revoke_ssh_session(token).await?;
    ctx.record_change(async |tx| {
        store::delete_ssh(tx, gateway, &token_hash).await?;
        if revoked {
            let payload = event_payload(place, serde_json::json!({}));
            let event = ctx.new_event(event_types::SSH_SESSION_REVOKED, payload);
            tx.emit(event).await?;
        }
        Ok(())
    })
    .await?;
    if revoked { Ok(()) } else { Err(missing()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SshSession {
        SshSession {
            sandbox_id: "sb-1".to_owned(),
            token: "abc.DEF_~+/=-".to_owned(),
            host: String::new(),
            port: 0,
            scheme: String::new(),
            host_key_fingerprint: "SHA256:abc+/=".to_owned(),
            expires_at: None,
        }
    }

    #[test]
    fn t20_a_session_with_shell_metacharacters_is_refused() {
        assert!(is_safe(&session()));
        let bad = |change: fn(&mut SshSession)| {
            let mut session = session();
            change(&mut session);
            !is_safe(&session)
        };
        assert!(bad(|s| s.sandbox_id = "a;b".to_owned()));
        assert!(bad(|s| s.sandbox_id = String::new()));
        assert!(bad(|s| s.sandbox_id = "a".repeat(ID_CHARACTERS_MAX + 1)));
        assert!(bad(|s| s.token = "a b".to_owned()));
        assert!(bad(|s| s.token = "$(x)".to_owned()));
        assert!(bad(|s| s.token = String::new()));
        assert!(bad(|s| s.host_key_fingerprint = "`x`".to_owned()));
    }
}
