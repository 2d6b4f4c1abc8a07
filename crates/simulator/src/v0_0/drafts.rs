//! Proposals and decisions about them.

use tonic::Status;

use super::{GatewayV0_0, render};
use crate::state::{Approvals, Chunk, Sandbox, draft_version};
use shoreguard_proto::v0_0::openshell::v1 as pb;

type RpcResult<T> = Result<T, Status>;

pub(super) fn get(
    gateway: &GatewayV0_0,
    request: pb::GetDraftPolicyRequest,
) -> RpcResult<pb::GetDraftPolicyResponse> {
    let at = (request.workspace, request.name);
    gateway.core.with(|state| {
        let sandbox: &Sandbox = state.sandbox(&at)?;
        let shown = || chunks_with_status(sandbox, &request.status_filter);
        Ok(pb::GetDraftPolicyResponse {
            chunks: shown().map(render::chunk).collect(),
            rolling_summary: String::new(),
            draft_version: draft_version(&sandbox.chunks),
            last_analyzed_at_ms: shown().map(|chunk| chunk.created_ms).max().unwrap_or_default(),
        })
    })
}

/// Returns the proposals with a status; all if `status` is empty.
pub(crate) fn chunks_with_status<'a>(
    sandbox: &'a Sandbox,
    status: &'a str,
) -> impl Iterator<Item = &'a Chunk> {
    sandbox.chunks.iter().filter(move |chunk| status.is_empty() || chunk.status == status)
}

pub(super) fn approve(
    gateway: &GatewayV0_0,
    request: pb::ApproveDraftChunkRequest,
) -> RpcResult<pb::ApproveDraftChunkResponse> {
    let at = (request.workspace, request.name);
    let done =
        gateway.core.with(|state| state.approve(&at, &request.chunk_id, &request.review_token))?;
    Ok(pb::ApproveDraftChunkResponse { policy_version: done.version, policy_hash: done.hash })
}

pub(super) fn reject(
    gateway: &GatewayV0_0,
    request: pb::RejectDraftChunkRequest,
) -> RpcResult<pb::RejectDraftChunkResponse> {
    let at = (request.workspace, request.name);
    gateway.core.with(|state| state.reject(&at, &request.chunk_id, &request.reason))?;
    Ok(pb::RejectDraftChunkResponse {})
}

pub(super) fn approve_all(
    gateway: &GatewayV0_0,
    request: pb::ApproveAllDraftChunksRequest,
) -> RpcResult<pb::ApproveAllDraftChunksResponse> {
    let at = (request.workspace, request.name);
    let exact = request.approvals.into_iter().map(|one| (one.chunk_id, one.review_token)).collect();
    let approvals = Approvals { exact, include_flagged: request.include_security_flagged };
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
    gateway: &GatewayV0_0,
    request: pb::EditDraftChunkRequest,
) -> RpcResult<pb::EditDraftChunkResponse> {
    let at = (request.workspace, request.name);
    gateway.core.with(|state| state.edit(&at, &request.chunk_id, request.proposed_rule))?;
    Ok(pb::EditDraftChunkResponse {})
}

pub(super) fn undo(
    gateway: &GatewayV0_0,
    request: pb::UndoDraftChunkRequest,
) -> RpcResult<pb::UndoDraftChunkResponse> {
    let at = (request.workspace, request.name);
    let done = gateway.core.with(|state| state.undo(&at, &request.chunk_id))?;
    Ok(pb::UndoDraftChunkResponse { policy_version: done.version, policy_hash: done.hash })
}

pub(super) fn clear(
    gateway: &GatewayV0_0,
    request: pb::ClearDraftChunksRequest,
) -> RpcResult<pb::ClearDraftChunksResponse> {
    let at = (request.workspace, request.name);
    let chunks_cleared = gateway.core.with(|state| state.clear(&at))?;
    Ok(pb::ClearDraftChunksResponse { chunks_cleared })
}

pub(super) fn history(
    gateway: &GatewayV0_0,
    request: pb::GetDraftHistoryRequest,
) -> RpcResult<pb::GetDraftHistoryResponse> {
    let at = (request.workspace, request.name);
    let entries =
        gateway.core.with(|state| state.sandbox(&at).map(|sandbox| history_entries(sandbox)))?;
    Ok(pb::GetDraftHistoryResponse { entries })
}

/// Builds the history from the current state of the proposals: there is no log of past events.
pub(crate) fn history_entries(sandbox: &Sandbox) -> Vec<pb::DraftHistoryEntry> {
    let mut entries = Vec::new();
    for chunk in &sandbox.chunks {
        let mut add = |timestamp_ms, event: &str, what: &str| {
            entries.push(pb::DraftHistoryEntry {
                timestamp_ms,
                event_type: event.to_owned(),
                description: format!("Rule '{}' {what}", chunk.rule_name),
                chunk_id: chunk.id.clone(),
            });
        };
        add(chunk.created_ms, "proposed", "proposed (confidence: 80%)");
        if chunk.decided_ms != 0 {
            add(chunk.decided_ms, chunk.status, chunk.status);
        }
    }
    entries.sort_by_key(|entry| entry.timestamp_ms);
    entries
}
