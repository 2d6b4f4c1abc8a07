//! Policies in generation 0.1: lists have page tokens.

use prost::Message;

use super::{time_from_wire, workspace_selector};
use crate::db::types::SandboxName;
use crate::openshell::policies::{
    EffectivePolicy, PolicySource, Revision, RevisionPage, RevisionStatus,
};
use crate::openshell::policy_writes::{POLICY_FIELD, PolicyWrite, WrittenRevision};
use crate::openshell::sandbox::{sanitize_cause, sanitize_map, sanitize_text};
use crate::pb::v0_1::openshell::sandbox::v1::{GetSandboxConfigResponse, PolicySource as Source};
use crate::pb::v0_1::openshell::v1 as pb;
use crate::pb::wire;

pub(in crate::openshell) fn encode_get_revision(sandbox: &SandboxName, version: u32) -> Vec<u8> {
    let request = pb::GetSandboxPolicyStatusRequest {
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        version,
        global: false,
        sandbox: sandbox.name.clone(),
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
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        page_size: i32::try_from(limit).unwrap_or(i32::MAX),
        page_token: cursor.to_owned(),
        global: false,
        sandbox: sandbox.name.clone(),
    };
    request.encode_to_vec()
}

/// Returns the revisions, without their policies. An empty page is the last, with any token.
pub(in crate::openshell) fn decode_revisions(answer: &[u8]) -> Option<RevisionPage> {
    let answer = pb::ListSandboxPoliciesResponse::decode(answer).ok()?;
    let is_last = answer.next_page_token.is_empty() || answer.revisions.is_empty();
    let next = (!is_last).then_some(answer.next_page_token);
    Some((answer.revisions.iter().map(revision_from_wire).collect(), next))
}

fn revision_from_wire(found: &pb::SandboxPolicyRevision) -> Revision {
    Revision {
        version: found.version,
        policy_hash: sanitize_text(&found.policy_hash),
        status: status_from_wire(found.status()),
        load_error: sanitize_cause(&found.load_error),
        created_at: time_from_wire(found.created_time),
        loaded_at: time_from_wire(found.loaded_time),
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
        sandbox: write.sandbox.name.clone(),
        workspace_scope: Some(workspace_selector(&write.sandbox.workspace)),
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
