//! gRPC implementation of `ApprovalService`.

use std::sync::Arc;

use tonic::Request;

use super::drafts::own;
use super::inbox::watch::Watcher;
use super::{domain, inbox, messages};
use crate::access::standing::RoleScope;
use crate::app::App;
use crate::db::page::PageSize;
use crate::db::types::{SandboxName, SandboxRef};
use crate::pb::v1 as pb;
use crate::pb::v1::approval_service_server::{ApprovalService, ApprovalServiceServer};
use crate::role::Role;
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::streams::{ResponseStream, handle_stream};

/// The service.
#[derive(Debug)]
pub struct ApprovalsRpc(Arc<App>);

/// Creates the service for the gRPC router.
pub fn service(app: &Arc<App>) -> ApprovalServiceServer<ApprovalsRpc> {
    let limit = app.config.server.message_bytes_max();
    ApprovalServiceServer::new(ApprovalsRpc(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl ApprovalService for ApprovalsRpc {
    async fn list_approvals(
        &self,
        request: Request<pb::ListApprovalsRequest>,
    ) -> Reply<pb::ListApprovalsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let filter = messages::filter(req.filter)?;
            let (page, next_page_token) = inbox::list(ctx, &filter, size, &req.page_token).await?;
            let approvals = page.into_iter().map(Into::into).collect();
            let is_first = req.page_token.is_empty();
            let waiting =
                if is_first { inbox::waiting::list(ctx, &filter).await? } else { Vec::new() };
            let waiting_drafts = waiting.into_iter().map(Into::into).collect();
            Ok(pb::ListApprovalsResponse { approvals, next_page_token, waiting_drafts })
        })
        .await
    }

    type WatchApprovalsStream = ResponseStream<pb::WatchApprovalsResponse>;

    async fn watch_approvals(
        &self,
        request: Request<pb::WatchApprovalsRequest>,
    ) -> Reply<Self::WatchApprovalsStream> {
        let prepare = async move |ctx, req: pb::WatchApprovalsRequest| {
            let filter = messages::filter(req.filter)?;
            let watcher = Watcher::start(&ctx, filter, req.cursor).await?;
            Ok((ctx, watcher))
        };
        handle_stream(&self.0, request, prepare, async move |(ctx, mut watcher), sink| {
            loop {
                let update = watcher.next(&ctx).await?;
                for item in update.items {
                    let gateway = RoleScope::MaybeRemovedGateway(item.round.place.gateway.id);
                    let approval = Some(item.into());
                    let sent = pb::WatchApprovalsResponse { approval, cursor: 0 };
                    sink.send_if_allowed(Some((gateway, Role::Viewer)), sent).await?;
                }
                if let Some(cursor) = update.cursor {
                    sink.send(pb::WatchApprovalsResponse { approval: None, cursor }).await?;
                }
            }
        })
        .await
    }

    async fn get_approval(
        &self,
        request: Request<pb::GetApprovalRequest>,
    ) -> Reply<pb::GetApprovalResponse> {
        handle_read(&self.0, request, async |pending, req| {
            let id = messages::approval_id("approval_id", req.approval_id)?;
            let found = inbox::messages::detail(domain::get(pending, id).await?)?;
            Ok(pb::GetApprovalResponse { approval_detail: Some(found) })
        })
        .await
    }

    async fn list_approval_decisions(
        &self,
        request: Request<pb::ListApprovalDecisionsRequest>,
    ) -> Reply<pb::ListApprovalDecisionsResponse> {
        handle_read(&self.0, request, async |pending, req| {
            let size = PageSize::parse(req.page_size)?;
            let id = messages::approval_id("approval_id", req.approval_id)?;
            let (page, next_page_token) =
                domain::list_votes(pending, id, size, &req.page_token).await?;
            let approval_decisions = page.into_iter().map(Into::into).collect();
            Ok(pb::ListApprovalDecisionsResponse { approval_decisions, next_page_token })
        })
        .await
    }

    async fn get_approval_history(
        &self,
        request: Request<pb::GetApprovalHistoryRequest>,
    ) -> Reply<pb::GetApprovalHistoryResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let name = SandboxName::parse("", req.workspace, req.sandbox)?;
            let place = SandboxRef { gateway: ctx.required_gateway()?.clone(), name };
            let (page, next_page_token) =
                inbox::history(ctx, &place, size, &req.page_token).await?;
            let approvals = page.into_iter().map(Into::into).collect();
            Ok(pb::GetApprovalHistoryResponse { approvals, next_page_token })
        })
        .await
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Reply<pb::VoteResponse> {
        handle_write(&self.0, request, async move |pending, req| {
            let voted = domain::vote(&pending, messages::vote(req)?).await?;
            Ok(pb::VoteResponse { approval: Some(voted.into()) })
        })
        .await
    }

    async fn vote_many(
        &self,
        request: Request<pb::VoteManyRequest>,
    ) -> Reply<pb::VoteManyResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let ballots = messages::ballots(req.ballots)?;
            let voted = domain::vote_many(&ctx, &ballots).await?;
            let approvals = voted.into_iter().map(Into::into).collect();
            Ok(pb::VoteManyResponse { approvals })
        })
        .await
    }

    async fn edit_chunk(
        &self,
        request: Request<pb::EditChunkRequest>,
    ) -> Reply<pb::EditChunkResponse> {
        handle_write(&self.0, request, async move |pending, req| {
            let id = messages::approval_id("approval_id", req.approval_id)?;
            let edited = domain::edit_chunk(&pending, id, &req.rule, &req.etag).await?;
            Ok(pb::EditChunkResponse { approval: Some(edited.into()) })
        })
        .await
    }

    async fn undo_chunk(
        &self,
        request: Request<pb::UndoChunkRequest>,
    ) -> Reply<pb::UndoChunkResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let name = SandboxName::parse("", req.workspace, req.sandbox)?;
            let place = SandboxRef { gateway: ctx.required_gateway()?.clone(), name };
            let chunk = own::parse_chunk_id("chunk_id", req.chunk_id)?;
            let comment = messages::comment("comment", req.comment)?;
            let (item, operation) =
                domain::undo_chunk(&ctx, &place, &chunk, comment.as_deref()).await?;
            let operation = operation.unwrap_or_default();
            Ok(pb::UndoChunkResponse { approval: Some(item.into()), operation })
        })
        .await
    }

    async fn clear_chunks(
        &self,
        request: Request<pb::ClearChunksRequest>,
    ) -> Reply<pb::ClearChunksResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let name = SandboxName::parse("", req.workspace, req.sandbox)?;
            let place = SandboxRef { gateway: ctx.required_gateway()?.clone(), name };
            let (cleared, superseded) = domain::clear_chunks(&ctx, &place).await?;
            Ok(pb::ClearChunksResponse { cleared, superseded })
        })
        .await
    }

    async fn withdraw_proposal(
        &self,
        request: Request<pb::WithdrawProposalRequest>,
    ) -> Reply<pb::WithdrawProposalResponse> {
        handle_write(&self.0, request, async move |pending, req| {
            let id = messages::approval_id("approval_id", req.approval_id)?;
            let comment = messages::comment("comment", req.comment)?;
            let withdrawn = domain::withdraw(&pending, id, comment.as_deref()).await?;
            Ok(pb::WithdrawProposalResponse { approval: Some(withdrawn.into()) })
        })
        .await
    }
}
