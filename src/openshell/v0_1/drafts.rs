//! Draft chunks in generation 0.1.

use prost::Message;

use super::{time_from_wire, workspace_selector};
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::openshell::drafts::{ChunkTime, DraftStatus};
use crate::openshell::policy_writes::WrittenRevision;
use crate::openshell::sandbox::sanitize_text;
use crate::pb::v0_1::openshell::v1 as pb;
use crate::pb::wire::FieldValue;

pub(in crate::openshell) fn encode_get_drafts(
    sandbox: &SandboxName,
    status: DraftStatus,
) -> Vec<u8> {
    let request = pb::GetDraftPolicyRequest {
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        status_filter: status.word().to_owned(),
        sandbox: sandbox.name.clone(),
    };
    request.encode_to_vec()
}

/// Returns the time that a field of a chunk contains; `None` for other fields.
pub(in crate::openshell) fn chunk_time(
    number: u32,
    value: FieldValue<'_>,
) -> Option<(ChunkTime, Option<Timestamp>)> {
    let time = match number {
        109 => ChunkTime::Created,
        110 => ChunkTime::Decided,
        114 => ChunkTime::FirstSeen,
        115 => ChunkTime::LastSeen,
        _ => return None,
    };
    let FieldValue::Bytes(encoded) = value else { return None };
    Some((time, time_from_wire(prost_types::Timestamp::decode(encoded).ok())))
}

pub(in crate::openshell) fn encode_approve_draft(
    sandbox: &SandboxName,
    chunk: &str,
    review_token: &str,
) -> Vec<u8> {
    let request = pb::ApproveDraftChunkRequest {
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        chunk_id: chunk.to_owned(),
        review_token: review_token.to_owned(),
        sandbox: sandbox.name.clone(),
        request_id: String::new(),
    };
    request.encode_to_vec()
}

pub(in crate::openshell) fn decode_draft_approved(answer: &[u8]) -> Option<WrittenRevision> {
    let answer = pb::ApproveDraftChunkResponse::decode(answer).ok()?;
    let policy_hash = sanitize_text(&answer.policy_hash);
    Some(WrittenRevision { version: answer.policy_version, policy_hash })
}

pub(in crate::openshell) fn encode_reject_draft(
    sandbox: &SandboxName,
    chunk: &str,
    reason: &str,
) -> Vec<u8> {
    let request = pb::RejectDraftChunkRequest {
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        chunk_id: chunk.to_owned(),
        reason: reason.to_owned(),
        sandbox: sandbox.name.clone(),
        request_id: String::new(),
    };
    request.encode_to_vec()
}

/// Encodes the edit without its rule.
pub(in crate::openshell) fn encode_edit_draft(sandbox: &SandboxName, chunk: &str) -> Vec<u8> {
    let request = pb::EditDraftChunkRequest {
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        chunk_id: chunk.to_owned(),
        proposed_rule: None,
        sandbox: sandbox.name.clone(),
        request_id: String::new(),
    };
    request.encode_to_vec()
}

pub(in crate::openshell) fn encode_undo_draft(sandbox: &SandboxName, chunk: &str) -> Vec<u8> {
    let request = pb::UndoDraftChunkRequest {
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        chunk_id: chunk.to_owned(),
        sandbox: sandbox.name.clone(),
        request_id: String::new(),
    };
    request.encode_to_vec()
}

pub(in crate::openshell) fn decode_draft_undone(answer: &[u8]) -> Option<WrittenRevision> {
    let answer = pb::UndoDraftChunkResponse::decode(answer).ok()?;
    let policy_hash = sanitize_text(&answer.policy_hash);
    Some(WrittenRevision { version: answer.policy_version, policy_hash })
}

pub(in crate::openshell) fn encode_clear_drafts(sandbox: &SandboxName) -> Vec<u8> {
    let request = pb::ClearDraftChunksRequest {
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        sandbox: sandbox.name.clone(),
        request_id: String::new(),
    };
    request.encode_to_vec()
}

pub(in crate::openshell) fn decode_drafts_cleared(answer: &[u8]) -> Option<u32> {
    Some(pb::ClearDraftChunksResponse::decode(answer).ok()?.chunks_cleared)
}
