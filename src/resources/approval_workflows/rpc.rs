//! gRPC implementation of `ApprovalWorkflowService`.

use std::sync::Arc;

use tonic::Request;

use super::domain;
use crate::app::App;
use crate::db::page::PageSize;
use crate::db::types::SandboxName;
use crate::pb::v1 as pb;
use crate::pb::v1::approval_workflow_service_server::{
    ApprovalWorkflowService, ApprovalWorkflowServiceServer,
};
use crate::rpc::call::{Reply, handle_read, handle_write};

/// The `ApprovalWorkflowService` implementation.
#[derive(Debug)]
pub struct ApprovalWorkflows(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> ApprovalWorkflowServiceServer<ApprovalWorkflows> {
    let limit = app.config.server.message_bytes_max();
    ApprovalWorkflowServiceServer::new(ApprovalWorkflows(Arc::clone(app)))
        .max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl ApprovalWorkflowService for ApprovalWorkflows {
    async fn set_workflow(
        &self,
        request: Request<pb::SetWorkflowRequest>,
    ) -> Reply<pb::SetWorkflowResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            Ok(domain::set(&ctx, req.try_into()?).await?.into())
        })
        .await
    }

    async fn get_workflow(
        &self,
        request: Request<pb::GetWorkflowRequest>,
    ) -> Reply<pb::GetWorkflowResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let scope = domain::scope(req.workspace, req.sandbox, &req.selector)?;
            let approval_workflow = Some(domain::get(ctx, &scope).await?.into());
            Ok(pb::GetWorkflowResponse { approval_workflow })
        })
        .await
    }

    async fn list_workflows(
        &self,
        request: Request<pb::ListWorkflowsRequest>,
    ) -> Reply<pb::ListWorkflowsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) =
                domain::list(ctx, &req.gateway, size, &req.page_token).await?;
            let approval_workflows = page.into_iter().map(Into::into).collect();
            Ok(pb::ListWorkflowsResponse { approval_workflows, next_page_token })
        })
        .await
    }

    async fn delete_workflow(
        &self,
        request: Request<pb::DeleteWorkflowRequest>,
    ) -> Reply<pb::DeleteWorkflowResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let scope = domain::scope(req.workspace, req.sandbox, &req.selector)?;
            domain::delete(&ctx, &scope, &req.etag).await?;
            Ok(pb::DeleteWorkflowResponse {})
        })
        .await
    }

    async fn explain_workflow(
        &self,
        request: Request<pb::ExplainWorkflowRequest>,
    ) -> Reply<pb::ExplainWorkflowResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let sandbox = SandboxName::parse("", req.workspace, req.sandbox)?;
            Ok(domain::explain(ctx, &sandbox).await?.into())
        })
        .await
    }
}
