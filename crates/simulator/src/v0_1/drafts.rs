//! Proposals and decisions about them.

use tonic::Status;

use super::V01;
use super::render::{self, recast};
use super::scope::{one, time};
use crate::state::{Approvals, draft_version};
use crate::v0_0::drafts::{entries, wanted};
use shoreguard_proto::v0_1::openshell::v1 as pb;

type Answer<T> = Result<T, Status>;

pub(super) fn get(
    gateway: &V01,
    ask: pb::GetDraftPolicyRequest,
) -> Answer<pb::GetDraftPolicyResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    gateway.core.with(|state| {
        let sandbox = state.sandbox(&at)?;
        Ok(pb::GetDraftPolicyResponse {
            chunks: wanted(sandbox, &ask.status_filter).map(render::chunk).collect(),
            rolling_summary: String::new(),
            draft_version: draft_version(&sandbox.chunks),
            last_analyzed_time: time(sandbox.analyzed_ms),
        })
    })
}

pub(super) fn approve(
    gateway: &V01,
    ask: pb::ApproveDraftChunkRequest,
) -> Answer<pb::ApproveDraftChunkResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let done = gateway.core.with(|state| state.approve(&at, &ask.chunk_id, &ask.review_token))?;
    Ok(pb::ApproveDraftChunkResponse { policy_version: done.version, policy_hash: done.hash })
}

pub(super) fn reject(
    gateway: &V01,
    ask: pb::RejectDraftChunkRequest,
) -> Answer<pb::RejectDraftChunkResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    gateway.core.with(|state| state.reject(&at, &ask.chunk_id, &ask.reason))?;
    Ok(pb::RejectDraftChunkResponse {})
}

pub(super) fn approve_all(
    gateway: &V01,
    ask: pb::ApproveAllDraftChunksRequest,
) -> Answer<pb::ApproveAllDraftChunksResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
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
    gateway: &V01,
    ask: pb::EditDraftChunkRequest,
) -> Answer<pb::EditDraftChunkResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let rule = ask.proposed_rule.as_ref().map(render::rule_given);
    gateway.core.with(|state| state.edit(&at, &ask.chunk_id, rule))?;
    Ok(pb::EditDraftChunkResponse {})
}

pub(super) fn undo(
    gateway: &V01,
    ask: pb::UndoDraftChunkRequest,
) -> Answer<pb::UndoDraftChunkResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let done = gateway.core.with(|state| state.undo(&at, &ask.chunk_id))?;
    Ok(pb::UndoDraftChunkResponse { policy_version: done.version, policy_hash: done.hash })
}

pub(super) fn clear(
    gateway: &V01,
    ask: pb::ClearDraftChunksRequest,
) -> Answer<pb::ClearDraftChunksResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let chunks_cleared = gateway.core.with(|state| state.clear(&at))?;
    Ok(pb::ClearDraftChunksResponse { chunks_cleared })
}

pub(super) fn history(
    gateway: &V01,
    ask: pb::GetDraftHistoryRequest,
) -> Answer<pb::GetDraftHistoryResponse> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let entries = gateway.core.with(|state| state.sandbox(&at).map(|sandbox| entries(sandbox)))?;
    let entries = entries
        .iter()
        .map(|entry| pb::DraftHistoryEntry {
            event_time: time(entry.timestamp_ms),
            ..recast(entry)
        })
        .collect();
    Ok(pb::GetDraftHistoryResponse { entries })
}
