//! gRPC implementation of `PolicyService`.

use std::sync::Arc;

use tonic::Request;

use super::{domain, messages};
use crate::app::App;
use crate::db::page::PageSize;
use crate::pb::v1 as pb;
use crate::pb::v1::policy_service_server::{PolicyService, PolicyServiceServer};
use crate::rpc::call::{Reply, handle_read};

/// The service.
#[derive(Debug)]
pub struct Policies(Arc<App>);

/// Creates the service for the gRPC router.
pub fn service(app: &Arc<App>) -> PolicyServiceServer<Policies> {
    let limit = app.config.server.message_bytes_max();
    PolicyServiceServer::new(Policies(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl PolicyService for Policies {
    async fn get_policy(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Reply<pb::GetPolicyResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let sandbox = messages::sandbox(req.workspace, req.sandbox)?;
            let selection = messages::selection(req.view, req.version)?;
            let found = domain::get(ctx, &sandbox, selection).await?;
            Ok(pb::GetPolicyResponse { policy: Some(found.into()) })
        })
        .await
    }

    async fn list_policy_revisions(
        &self,
        request: Request<pb::ListPolicyRevisionsRequest>,
    ) -> Reply<pb::ListPolicyRevisionsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let sandbox = messages::sandbox(req.workspace, req.sandbox)?;
            let (page, next_page_token) =
                domain::list_revisions(ctx, &sandbox, size, &req.page_token).await?;
            let policy_revisions = page.into_iter().map(Into::into).collect();
            Ok(pb::ListPolicyRevisionsResponse { policy_revisions, next_page_token })
        })
        .await
    }

    async fn diff_policies(
        &self,
        request: Request<pb::DiffPoliciesRequest>,
    ) -> Reply<pb::DiffPoliciesResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let sandbox = messages::sandbox(req.workspace, req.sandbox)?;
            let from = messages::operand("from", req.from)?;
            let to = messages::operand("to", req.to)?;
            Ok(domain::compare(ctx, &sandbox, &from, &to).await?.into())
        })
        .await
    }

    async fn export_policy(
        &self,
        request: Request<pb::ExportPolicyRequest>,
    ) -> Reply<pb::ExportPolicyResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let sandbox = messages::sandbox(req.workspace, req.sandbox)?;
            Ok(domain::export(ctx, &sandbox, req.version).await?.into())
        })
        .await
    }

    async fn list_policy_presets(
        &self,
        request: Request<pb::ListPolicyPresetsRequest>,
    ) -> Reply<pb::ListPolicyPresetsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) = domain::list_presets(ctx, size, &req.page_token)?;
            let policy_presets = page.into_iter().map(messages::listed_preset).collect();
            Ok(pb::ListPolicyPresetsResponse { policy_presets, next_page_token })
        })
        .await
    }

    async fn get_policy_preset(
        &self,
        request: Request<pb::GetPolicyPresetRequest>,
    ) -> Reply<pb::GetPolicyPresetResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let found = domain::get_preset(ctx, &req.policy_preset)?;
            Ok(pb::GetPolicyPresetResponse { policy_preset: Some(messages::preset(found)) })
        })
        .await
    }
}
