//! SSH sessions into sandboxes.

use super::Generation;
use super::gateway::{CALL_TIME, Gateway};
use super::sandbox::map_not_found;
use super::{v0_0, v0_1};
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::error::{Error, GatewayRefusal};

const CREATE: &str = "/openshell.v1.OpenShell/CreateSshSession";
const REVOKE: &str = "/openshell.v1.OpenShell/RevokeSshSession";

/// Address and token of an SSH session.
#[derive(Clone, PartialEq, Eq)]
pub struct SshSession {
    /// The gateway's own id of the sandbox.
    pub sandbox_id: String,
    /// Token with which the connection is opened. Secret.
    pub token: String,
    /// Host, as returned by the gateway.
    pub host: String,
    /// Port, as returned by the gateway.
    pub port: u32,
    /// Scheme, as returned by the gateway.
    pub scheme: String,
    /// Fingerprint of the sandbox's host key; may be empty.
    pub host_key_fingerprint: String,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for SshSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshSession").field("sandbox_id", &self.sandbox_id).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Creates an SSH session. The request is sent only once.
    pub async fn create_ssh_session(&self, sandbox: &SandboxName) -> Result<SshSession, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_create_ssh(&self.get_sandbox(sandbox).await?.id),
            Generation::V0_1 => v0_1::encode_create_ssh(sandbox),
        };
        let answer =
            self.unary(CREATE, &request, CALL_TIME).await.map_err(map_not_found(sandbox))?;
        let session = match self.generation() {
            Generation::V0_0 => v0_0::decode_ssh_session(&answer),
            Generation::V0_1 => v0_1::decode_ssh_session(&answer),
        };
        session.ok_or_else(|| self.unreadable(CREATE))
    }

    /// Revokes an SSH session. Returns false if it did not exist.
    pub async fn revoke_ssh_session(&self, token: &str) -> Result<bool, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_revoke_ssh(token),
            Generation::V0_1 => v0_1::encode_revoke_ssh(token),
        };
        let answer = match self.unary(REVOKE, &request, CALL_TIME).await {
            Err(Error::Gateway { refusal: GatewayRefusal::NotFound, .. }) => return Ok(false),
            answer => answer?,
        };
        let revoked = match self.generation() {
            Generation::V0_0 => v0_0::decode_revoked(&answer),
            Generation::V0_1 => v0_1::decode_revoked(&answer),
        };
        revoked.ok_or_else(|| self.unreadable(REVOKE))
    }
}
