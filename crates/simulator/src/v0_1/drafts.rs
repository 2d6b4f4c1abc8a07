//! Proposals and decisions about them.

use tonic::Status;

use super::GatewayV0_1;
use super::render::{self, recast};
use super::scope::{single_workspace, to_timestamp};
use crate::state::{Approvals, Sandbox, draft_version};
use crate::v0_0::drafts::{chunks_with_status, history_entries};
use shoreguard_proto::v0_1::openshell::v1 as pb;

type RpcResult<T> = Result<T, Status>;

pub(super) fn get(
    gateway: &GatewayV0_1,
    request: pb::GetDraftPolicyRequest,
) -> RpcResult<pb::GetDraftPolicyResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    gateway.core.with(|state| {
        let sandbox: &Sandbox = state.sandbox(&at)?;
        let shown = || chunks_with_status(sandbox, &request.status_filter);
        let newest = shown().map(|chunk| chunk.created_ms).max();
        Ok(pb::GetDraftPolicyResponse {
            chunks: shown().map(render::chunk).collect(),
            rolling_summary: String::new(),
            draft_version: draft_version(&sandbox.chunks),
            last_analyzed_time: to_timestamp(newest.unwrap_or_default()),
        })
    })
}

pub(super) fn approve(
    gateway: &GatewayV0_1,
    request: pb::ApproveDraftChunkRequest,
) -> RpcResult<pb::ApproveDraftChunkResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let done =
        gateway.core.with(|state| state.approve(&at, &request.chunk_id, &request.review_token))?;
    Ok(pb::ApproveDraftChunkResponse { policy_version: done.version, policy_hash: done.hash })
}

pub(super) fn reject(
    gateway: &GatewayV0_1,
    request: pb::RejectDraftChunkRequest,
) -> RpcResult<pb::RejectDraftChunkResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    gateway.core.with(|state| state.reject(&at, &request.chunk_id, &request.reason))?;
    Ok(pb::RejectDraftChunkResponse {})
}

pub(super) fn approve_all(
    gateway: &GatewayV0_1,
    request: pb::ApproveAllDraftChunksRequest,
) -> RpcResult<pb::ApproveAllDraftChunksResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
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
    gateway: &GatewayV0_1,
    request: pb::EditDraftChunkRequest,
) -> RpcResult<pb::EditDraftChunkResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let rule = request.proposed_rule.as_ref().map(render::parse_rule).transpose()?;
    gateway.core.with(|state| state.edit(&at, &request.chunk_id, rule))?;
    Ok(pb::EditDraftChunkResponse {})
}

pub(super) fn undo(
    gateway: &GatewayV0_1,
    request: pb::UndoDraftChunkRequest,
) -> RpcResult<pb::UndoDraftChunkResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let done = gateway.core.with(|state| state.undo(&at, &request.chunk_id))?;
    Ok(pb::UndoDraftChunkResponse { policy_version: done.version, policy_hash: done.hash })
}

pub(super) fn clear(
    gateway: &GatewayV0_1,
    request: pb::ClearDraftChunksRequest,
) -> RpcResult<pb::ClearDraftChunksResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let chunks_cleared = gateway.core.with(|state| state.clear(&at))?;
    Ok(pb::ClearDraftChunksResponse { chunks_cleared })
}

pub(super) fn history(
    gateway: &GatewayV0_1,
    request: pb::GetDraftHistoryRequest,
) -> RpcResult<pb::GetDraftHistoryResponse> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let entries =
        gateway.core.with(|state| state.sandbox(&at).map(|sandbox| history_entries(sandbox)))?;
    let entries = entries
        .iter()
        .map(|entry| pb::DraftHistoryEntry {
            event_time: to_timestamp(entry.timestamp_ms),
            ..recast(entry)
        })
        .collect();
    Ok(pb::GetDraftHistoryResponse { entries })
}
