//! SSH sessions: tokens that give access to one sandbox for a limited time.

use tonic::Status;

use super::meta::{self, now_ms, random_hex};
use super::{ObjectKey, State};

/// Maximum number of sessions in the gateway.
const SESSIONS_MAX: usize = 10_000;

/// Lifetime of a token.
const SESSION_MS: i64 = 60 * 60 * 1_000;

/// A session.
#[derive(Debug, Clone)]
pub(crate) struct SshSession {
    /// The sandbox that the session gives access to.
    pub(crate) sandbox_id: String,
    /// Token of the session.
    pub(crate) token: String,
    /// Milliseconds since 1970.
    pub(crate) expires_ms: i64,
}

impl State {
    /// Creates a session for a running sandbox.
    pub(crate) fn create_ssh_session(&mut self, at: &ObjectKey) -> Result<SshSession, Status> {
        let sandbox = self.sandbox(at)?;
        sandbox.check_running()?;
        let sandbox_id = sandbox.meta.id.clone();
        let now = now_ms();
        self.ssh.retain(|_, session| session.expires_ms > now);
        meta::check_capacity("ssh sessions", self.ssh.len(), SESSIONS_MAX)?;
        let session = SshSession { sandbox_id, token: random_hex(), expires_ms: now + SESSION_MS };
        self.ssh.insert(session.token.clone(), session.clone());
        Ok(session)
    }

    /// Revokes a session. Returns whether it existed.
    pub(crate) fn revoke_ssh_session(&mut self, token: &str) -> Result<bool, Status> {
        if token.is_empty() {
            return Err(Status::invalid_argument("token is required"));
        }
        Ok(self.ssh.remove(token).is_some())
    }

    /// Refuses a token that is not valid for the sandbox.
    pub(crate) fn check_ssh_token(&self, sandbox_id: &str, token: &str) -> Result<(), Status> {
        let token = token.trim();
        if token.is_empty() {
            let why = "authorization_token is required for ForwardTcp";
            return Err(Status::unauthenticated(why));
        }
        let opens = |session: &SshSession| {
            session.sandbox_id == sandbox_id && session.expires_ms > now_ms()
        };
        if self.ssh.get(token).is_some_and(opens) {
            return Ok(());
        }
        Err(Status::unauthenticated("invalid or expired ssh session token"))
    }
}

/// Fingerprint of the sandbox's host key.
pub(crate) const HOST_KEY: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
