//! Draft chunks in generation 0.0.

use prost::Message;

use super::from_millis;
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::openshell::drafts::{ChunkTime, DraftStatus};
use crate::openshell::policy_writes::WrittenRevision;
use crate::openshell::sandbox::sanitize_text;
use crate::pb::v0_0::openshell::v1 as pb;
use crate::pb::wire::FieldValue;

pub(in crate::openshell) fn encode_get_drafts(
    sandbox: &SandboxName,
    status: DraftStatus,
) -> Vec<u8> {
    let request = pb::GetDraftPolicyRequest {
        name: sandbox.name.clone(),
        status_filter: status.word().to_owned(),
        workspace: sandbox.workspace.clone(),
    };
    request.encode_to_vec()
}

/// Returns the time that a field of a chunk contains; `None` for other fields.
pub(in crate::openshell) fn chunk_time(
    number: u32,
    value: FieldValue<'_>,
) -> Option<(ChunkTime, Option<Timestamp>)> {
    let time = match number {
        9 => ChunkTime::Created,
        10 => ChunkTime::Decided,
        14 => ChunkTime::FirstSeen,
        15 => ChunkTime::LastSeen,
        _ => return None,
    };
    let FieldValue::Varint(millis) = value else { return None };
    Some((time, i64::try_from(millis).ok().and_then(from_millis)))
}

pub(in crate::openshell) fn encode_approve_draft(
    sandbox: &SandboxName,
    chunk: &str,
    review_token: &str,
) -> Vec<u8> {
    let request = pb::ApproveDraftChunkRequest {
        name: sandbox.name.clone(),
        chunk_id: chunk.to_owned(),
        workspace: sandbox.workspace.clone(),
        review_token: review_token.to_owned(),
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
        name: sandbox.name.clone(),
        chunk_id: chunk.to_owned(),
        reason: reason.to_owned(),
        workspace: sandbox.workspace.clone(),
    };
    request.encode_to_vec()
}

/// Encodes the edit without its rule.
pub(in crate::openshell) fn encode_edit_draft(sandbox: &SandboxName, chunk: &str) -> Vec<u8> {
    let request = pb::EditDraftChunkRequest {
        name: sandbox.name.clone(),
        chunk_id: chunk.to_owned(),
        proposed_rule: None,
        workspace: sandbox.workspace.clone(),
    };
    request.encode_to_vec()
}

pub(in crate::openshell) fn encode_undo_draft(sandbox: &SandboxName, chunk: &str) -> Vec<u8> {
    let request = pb::UndoDraftChunkRequest {
        name: sandbox.name.clone(),
        chunk_id: chunk.to_owned(),
        workspace: sandbox.workspace.clone(),
    };
    request.encode_to_vec()
}

pub(in crate::openshell) fn decode_draft_undone(answer: &[u8]) -> Option<WrittenRevision> {
    let answer = pb::UndoDraftChunkResponse::decode(answer).ok()?;
    let policy_hash = sanitize_text(&answer.policy_hash);
    Some(WrittenRevision { version: answer.policy_version, policy_hash })
}

pub(in crate::openshell) fn encode_clear_drafts(sandbox: &SandboxName) -> Vec<u8> {
    let (name, workspace) = (sandbox.name.clone(), sandbox.workspace.clone());
    pb::ClearDraftChunksRequest { name, workspace }.encode_to_vec()
}

pub(in crate::openshell) fn decode_drafts_cleared(answer: &[u8]) -> Option<u32> {
    Some(pb::ClearDraftChunksResponse::decode(answer).ok()?.chunks_cleared)
}
