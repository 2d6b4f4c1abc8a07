//! Policies in generation 0.0: lists are paged by offset.

use prost::Message;

use super::from_millis;
use crate::db::types::SandboxName;
use crate::openshell::policies::{
    EffectivePolicy, PolicySource, Revision, RevisionPage, RevisionStatus,
};
use crate::openshell::policy_writes::{POLICY_FIELD, PolicyWrite, WrittenRevision};
use crate::openshell::sandbox::{sanitize_cause, sanitize_map, sanitize_text};
use crate::pb::v0_0::openshell::sandbox::v1::{GetSandboxConfigResponse, PolicySource as Source};
use crate::pb::v0_0::openshell::v1 as pb;
use crate::pb::wire;

pub(in crate::openshell) fn encode_get_revision(sandbox: &SandboxName, version: u32) -> Vec<u8> {
    let request = pb::GetSandboxPolicyStatusRequest {
        name: sandbox.name.clone(),
        version,
        global: false,
        workspace: sandbox.workspace.clone(),
    };
    request.encode_to_vec()
}

/// Returns the revision, without its policy, and the version that the sandbox has loaded.
pub(in crate::openshell) fn decode_revision_status(answer: &[u8]) -> Option<(Revision, u32)> {
    let answer = pb::GetSandboxPolicyStatusResponse::decode(answer).ok()?;
    Some((revision_from_wire(&answer.revision?), answer.active_version))
}

pub(in crate::openshell) fn encode_list_revisions(
    sandbox: &SandboxName,
    limit: u32,
    cursor: &str,
) -> Vec<u8> {
    let request = pb::ListSandboxPoliciesRequest {
        name: sandbox.name.clone(),
        limit,
        offset: cursor.parse().unwrap_or_default(),
        global: false,
        workspace: sandbox.workspace.clone(),
    };
    request.encode_to_vec()
}

/// Returns the revisions, without their policies. A page with fewer revisions than requested is the last.
pub(in crate::openshell) fn decode_revisions(
    answer: &[u8],
    limit: u32,
    cursor: &str,
) -> Option<RevisionPage> {
    let found = pb::ListSandboxPoliciesResponse::decode(answer).ok()?.revisions;
    let count = u32::try_from(found.len()).ok()?;
    let offset = cursor.parse::<u32>().unwrap_or_default().saturating_add(count);
    let next = (count >= limit).then(|| offset.to_string());
    Some((found.iter().map(revision_from_wire).collect(), next))
}

fn revision_from_wire(found: &pb::SandboxPolicyRevision) -> Revision {
    Revision {
        version: found.version,
        policy_hash: sanitize_text(&found.policy_hash),
        status: status_from_wire(found.status()),
        load_error: sanitize_cause(&found.load_error),
        created_at: from_millis(found.created_at_ms),
        loaded_at: from_millis(found.loaded_at_ms),
        provenance: sanitize_map(&found.provenance),
        policy: None,
    }
}

fn status_from_wire(status: pb::PolicyStatus) -> RevisionStatus {
    match status {
        pb::PolicyStatus::Unspecified => RevisionStatus::Unspecified,
        pb::PolicyStatus::Pending => RevisionStatus::Pending,
        pb::PolicyStatus::Loaded => RevisionStatus::Loaded,
        pb::PolicyStatus::Failed => RevisionStatus::Failed,
        pb::PolicyStatus::Superseded => RevisionStatus::Superseded,
    }
}

/// Returns the policy in force, without its content.
pub(in crate::openshell) fn decode_effective_policy(answer: &[u8]) -> Option<EffectivePolicy> {
    let answer = GetSandboxConfigResponse::decode(answer).ok()?;
    let source = match answer.policy_source() {
        Source::Unspecified => PolicySource::Unspecified,
        Source::Sandbox => PolicySource::Sandbox,
        Source::Global => PolicySource::Gateway,
    };
    Some(EffectivePolicy {
        policy_hash: sanitize_text(&answer.policy_hash),
        source,
        gateway_version: answer.global_policy_version,
        policy: None,
    })
}

pub(in crate::openshell) fn encode_policy_write(write: &PolicyWrite<'_>) -> Vec<u8> {
    let annotations = write.annotations.iter();
    let request = pb::UpdateConfigRequest {
        name: write.sandbox.name.clone(),
        workspace: write.sandbox.workspace.clone(),
        expected_resource_version: write.expected_resource_version,
        annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
        ..Default::default()
    };
    let mut request = request.encode_to_vec();
    wire::put_bytes(&mut request, POLICY_FIELD, write.policy);
    request
}

pub(in crate::openshell) fn decode_policy_written(answer: &[u8]) -> Option<WrittenRevision> {
    let answer = pb::UpdateConfigResponse::decode(answer).ok()?;
    let policy_hash = sanitize_text(&answer.policy_hash);
    Some(WrittenRevision { version: answer.version, policy_hash })
}
