//! Policies of sandboxes: their revisions, and the policy in force.
//!
//! Invariants
//! - the revisions are read before the policy in force: some gateways write the first revision when the latter is read;
//! - a policy is returned as the gateway sent it: decoding it with all its fields is the task of `policy`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::gateway::CALL_TIME;
use super::sandbox::map_not_found;
use super::{Gateway, Generation, v0_0, v0_1};
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::error::{Error, GatewayRefusal, ResourceKind};
use crate::pb::wire::{FieldReader, FieldValue, MalformedMessage, bytes_field};

const GET: &str = "/openshell.v1.OpenShell/GetSandboxPolicyStatus";
const GET_SANDBOX: &str = "/openshell.v1.OpenShell/GetSandbox";
const LIST: &str = "/openshell.v1.OpenShell/ListSandboxPolicies";
const GET_EFFECTIVE: &str = "/openshell.v1.OpenShell/GetSandboxConfig";

/// Maximum number of revisions that are requested at once: with policies of the maximum size, they fit in a response.
pub const REVISIONS_MAX: u32 = 50;
/// Maximum length of a cursor, in bytes. It becomes part of a page token.
const CURSOR_BYTES_MAX: usize = 1_024;

/// Field of the revisions in a list, and of the revision and the policy in other responses. Both generations have it.
const FIRST_FIELD: u32 = 1;
/// Field of the policy in a revision.
const POLICY_FIELD: u32 = 7;
/// Fields that lead from the response of `GetSandbox` to the policy of the creation. Both generations have them.
const CREATION_POLICY: [u32; 3] = [FIRST_FIELD, 2, 7];

/// Status of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionStatus {
    /// Not reported by the gateway.
    Unspecified,
    /// Not loaded by the sandbox yet.
    Pending,
    /// Loaded by the sandbox.
    Loaded,
    /// The sandbox could not load it.
    Failed,
    /// A later revision was loaded.
    Superseded,
}

/// A revision of the policy of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Number of the revision, starting at 1.
    pub version: u32,
    /// Hash of the policy, which only the gateway can compute.
    pub policy_hash: String,
    /// Its status.
    pub status: RevisionStatus,
    /// Why the sandbox could not load it.
    pub load_error: String,
    /// When it was written.
    pub created_at: Option<Timestamp>,
    /// When the sandbox loaded it.
    pub loaded_at: Option<Timestamp>,
    /// Annotations of the request that wrote it.
    pub provenance: BTreeMap<String, String>,
    /// Its encoded policy, as the gateway sent it.
    pub policy: Option<Bytes>,
}

/// Where the policy in force comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicySource {
    /// Not reported by the gateway.
    Unspecified,
    /// From the sandbox.
    Sandbox,
    /// From the gateway, for all of its sandboxes.
    Gateway,
}

/// The policy in force: that of the sandbox with the rules of its providers, or that of the whole gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectivePolicy {
    /// Hash of the policy, which only the gateway can compute.
    pub policy_hash: String,
    /// Where it comes from.
    pub source: PolicySource,
    /// Version of the policy of the whole gateway; 0 if none is in force.
    pub gateway_version: u32,
    /// The encoded policy, as the gateway sent it.
    pub policy: Option<Bytes>,
}

/// A page of revisions, newest first, and the cursor of the next page.
pub type RevisionPage = (Vec<Revision>, Option<String>);

impl Gateway {
    /// Returns a revision of a sandbox's policy, and the version that the sandbox has loaded. Version 0 is the newest.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox or the revision does not exist.
    pub async fn policy_revision(
        &self,
        sandbox: &SandboxName,
        version: u32,
    ) -> Result<(Revision, u32), Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_get_revision(sandbox, version),
            Generation::V0_1 => v0_1::encode_get_revision(sandbox, version),
        };
        let answer = match self.unary(GET, &request, CALL_TIME).await {
            Err(Error::Gateway { refusal: GatewayRefusal::NotFound, .. }) => {
                return Err(self.missing_revision(sandbox, version).await);
            }
            answer => answer?,
        };
        let found = match self.generation() {
            Generation::V0_0 => v0_0::decode_revision_status(&answer),
            Generation::V0_1 => v0_1::decode_revision_status(&answer),
        };
        let found = found.map(|(revision, active)| {
            let sent = bytes_field(&answer, FIRST_FIELD).unwrap_or_default();
            (with_policy(revision, &answer, sent), active)
        });
        found
            .filter(|(revision, _)| version == 0 || revision.version == version)
            .ok_or_else(|| self.unreadable(GET))
    }

    /// Returns the encoded policy with which a sandbox was created, which gateways compare with changes; `None` if it
    /// had none. The first policy that is written then takes its place.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox does not exist.
    pub async fn creation_policy(&self, sandbox: &SandboxName) -> Result<Option<Bytes>, Error> {
        let answer = self.unary(GET_SANDBOX, &self.encode_name(sandbox), CALL_TIME).await;
        let answer = answer.map_err(map_not_found(sandbox))?;
        let mut fields = CREATION_POLICY.into_iter();
        let found = fields.try_fold(&answer[..], bytes_field);
        Ok(found.map(|policy| answer.slice_ref(policy)))
    }

    /// Returns the error for a revision that the gateway does not have: it does not say whether the sandbox exists.
    async fn missing_revision(&self, sandbox: &SandboxName, version: u32) -> Error {
        if let Err(error) = self.get_sandbox(sandbox).await {
            return error;
        }
        let version = if version == 0 { "newest".to_owned() } else { version.to_string() };
        Error::not_found(ResourceKind::PolicyRevision, format_args!("{sandbox}@{version}"))
    }

    /// Returns a page of the revisions of a sandbox's policy, newest first, with at most `limit` revisions. The cursor
    /// is that of the previous page, or empty.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox does not exist.
    pub async fn policy_revisions(
        &self,
        sandbox: &SandboxName,
        limit: u32,
        cursor: &str,
    ) -> Result<RevisionPage, Error> {
        let limit = limit.min(REVISIONS_MAX);
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_list_revisions(sandbox, limit, cursor),
            Generation::V0_1 => v0_1::encode_list_revisions(sandbox, limit, cursor),
        };
        let answer = self.unary(LIST, &request, CALL_TIME).await;
        let answer = answer.map_err(map_not_found(sandbox))?;
        let page = match self.generation() {
            Generation::V0_0 => v0_0::decode_revisions(&answer, limit, cursor),
            Generation::V0_1 => v0_1::decode_revisions(&answer),
        };
        let (revisions, next) = page.ok_or_else(|| self.unreadable(LIST))?;
        if next.as_ref().is_some_and(|next| next.len() > CURSOR_BYTES_MAX) {
            return Err(self.unreadable(LIST));
        }
        let sent = messages(&answer, FIRST_FIELD);
        let sent = sent.ok().filter(|sent| sent.len() == revisions.len());
        let sent = sent.ok_or_else(|| self.unreadable(LIST))?;
        let revisions = revisions.into_iter().zip(sent);
        let revisions = revisions.map(|(revision, sent)| with_policy(revision, &answer, sent));
        Ok((revisions.collect(), next))
    }

    /// Returns the policy in force for a sandbox. Reading that of a new sandbox makes some gateways write the first
    /// revision of its policy.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox does not exist.
    pub async fn effective_policy(&self, sandbox: &SandboxName) -> Result<EffectivePolicy, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_get_settings(&self.get_sandbox(sandbox).await?.id),
            Generation::V0_1 => v0_1::encode_get_settings(sandbox),
        };
        let answer = self.unary(GET_EFFECTIVE, &request, CALL_TIME).await;
        let answer = answer.map_err(map_not_found(sandbox))?;
        let found = match self.generation() {
            Generation::V0_0 => v0_0::decode_effective_policy(&answer),
            Generation::V0_1 => v0_1::decode_effective_policy(&answer),
        };
        let found = found.ok_or_else(|| self.unreadable(GET_EFFECTIVE))?;
        let policy = bytes_field(&answer, FIRST_FIELD).map(|policy| answer.slice_ref(policy));
        Ok(EffectivePolicy { policy, ..found })
    }
}

/// Adds the policy to a revision. `sent` is the part of `answer` that has the revision.
fn with_policy(revision: Revision, answer: &Bytes, sent: &[u8]) -> Revision {
    let policy = bytes_field(sent, POLICY_FIELD).map(|policy| answer.slice_ref(policy));
    Revision { policy, ..revision }
}

/// Returns every message of a repeated field.
///
/// # Errors
/// If any part of the answer is malformed: the rest of the messages is then not known.
pub(super) fn messages(answer: &[u8], number: u32) -> Result<Vec<&[u8]>, MalformedMessage> {
    let (mut fields, mut found) = (FieldReader::new(answer), Vec::new());
    while let Some((n, value)) = fields.next_field()? {
        if let (true, FieldValue::Bytes(bytes)) = (n == number, value) {
            found.push(bytes);
        }
    }
    Ok(found)
}
