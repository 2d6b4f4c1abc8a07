//! Proposals and decisions about them.

use tonic::Status;

use super::{V00, render};
use crate::state::{Approvals, Chunk, Sandbox, draft_version};
use shoreguard_proto::v0_0::openshell::v1 as pb;

type Answer<T> = Result<T, Status>;

pub(super) fn get(
    gateway: &V00,
    ask: pb::GetDraftPolicyRequest,
) -> Answer<pb::GetDraftPolicyResponse> {
    let at = (ask.workspace, ask.name);
    gateway.core.with(|state| {
        let sandbox = state.sandbox(&at)?;
        Ok(pb::GetDraftPolicyResponse {
            chunks: wanted(sandbox, &ask.status_filter).map(render::chunk).collect(),
            rolling_summary: String::new(),
            draft_version: draft_version(&sandbox.chunks),
            last_analyzed_at_ms: sandbox.analyzed_ms,
        })
    })
}

/// Returns the proposals with a status; all if `status` is empty.
pub(crate) fn wanted<'a>(sandbox: &'a Sandbox, status: &'a str) -> impl Iterator<Item = &'a Chunk> {
    sandbox.chunks.iter().filter(move |chunk| status.is_empty() || chunk.status == status)
}

pub(super) fn approve(
    gateway: &V00,
    ask: pb::ApproveDraftChunkRequest,
) -> Answer<pb::ApproveDraftChunkResponse> {
    let at = (ask.workspace, ask.name);
    let done = gateway.core.with(|state| state.approve(&at, &ask.chunk_id, &ask.review_token))?;
    Ok(pb::ApproveDraftChunkResponse { policy_version: done.version, policy_hash: done.hash })
}

pub(super) fn reject(
    gateway: &V00,
    ask: pb::RejectDraftChunkRequest,
) -> Answer<pb::RejectDraftChunkResponse> {
    let at = (ask.workspace, ask.name);
    gateway.core.with(|state| state.reject(&at, &ask.chunk_id, &ask.reason))?;
    Ok(pb::RejectDraftChunkResponse {})
}

pub(super) fn approve_all(
    gateway: &V00,
    ask: pb::ApproveAllDraftChunksRequest,
) -> Answer<pb::ApproveAllDraftChunksResponse> {
    let at = (ask.workspace, ask.name);
    let exact = ask.approvals.into_iter().map(|one| (one.chunk_id, one.review_token)).collect();
    let approvals = Approvals { exact, include_flagged: ask.include_security_flagged };
    let (done, approved, skipped) =
        gateway.core.with(|state| state.approve_all(&at, &approvals))?;
    Ok(pb::ApproveAllDraftChunksResponse {
        policy_version: done.version,
        policy_hash: done.hash,
        chunks_approved: approved,
        chunks_skipped: skipped,
    })
}

pub(super) fn edit(
    gateway: &V00,
    ask: pb::EditDraftChunkRequest,
) -> Answer<pb::EditDraftChunkResponse> {
    let at = (ask.workspace, ask.name);
    gateway.core.with(|state| state.edit(&at, &ask.chunk_id, ask.proposed_rule))?;
    Ok(pb::EditDraftChunkResponse {})
}

pub(super) fn undo(
    gateway: &V00,
    ask: pb::UndoDraftChunkRequest,
) -> Answer<pb::UndoDraftChunkResponse> {
    let at = (ask.workspace, ask.name);
    let done = gateway.core.with(|state| state.undo(&at, &ask.chunk_id))?;
    Ok(pb::UndoDraftChunkResponse { policy_version: done.version, policy_hash: done.hash })
}

pub(super) fn clear(
    gateway: &V00,
    ask: pb::ClearDraftChunksRequest,
) -> Answer<pb::ClearDraftChunksResponse> {
    let at = (ask.workspace, ask.name);
    let chunks_cleared = gateway.core.with(|state| state.clear(&at))?;
    Ok(pb::ClearDraftChunksResponse { chunks_cleared })
}

pub(super) fn history(
    gateway: &V00,
    ask: pb::GetDraftHistoryRequest,
) -> Answer<pb::GetDraftHistoryResponse> {
    let at = (ask.workspace, ask.name);
    let entries = gateway.core.with(|state| state.sandbox(&at).map(|sandbox| entries(sandbox)))?;
    Ok(pb::GetDraftHistoryResponse { entries })
}

/// Builds the history from the current state of the proposals: there is no log of past events.
pub(crate) fn entries(sandbox: &Sandbox) -> Vec<pb::DraftHistoryEntry> {
    let mut entries = Vec::new();
    for chunk in &sandbox.chunks {
        let mut add = |timestamp_ms, event: &str| {
            entries.push(pb::DraftHistoryEntry {
                timestamp_ms,
                event_type: event.to_owned(),
                description: format!("{event} rule '{}'", chunk.rule_name),
                chunk_id: chunk.id.clone(),
            });
        };
        add(chunk.created_ms, "proposed");
        if chunk.decided_ms != 0 {
            add(chunk.decided_ms, chunk.status);
        }
    }
    entries.sort_by_key(|entry| entry.timestamp_ms);
    entries
}
