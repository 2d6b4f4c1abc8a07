//! gRPC implementation of `PolicyService`.

use std::sync::Arc;

use tonic::Request;

use super::changes::make::make;
use super::changes::messages as changes;
use super::{domain, messages};
use crate::app::App;
use crate::db::page::PageSize;
use crate::pb::v1 as pb;
use crate::pb::v1::policy_service_server::{PolicyService, PolicyServiceServer};
use crate::resources::policy_pins::domain as pins;
use crate::rpc::call::{Reply, handle_read, handle_write};

/// The service.
#[derive(Debug)]
pub struct Policies(Arc<App>);

/// Creates the service for the gRPC router.
pub fn service(app: &Arc<App>) -> PolicyServiceServer<Policies> {
    let limit = app.config.server.message_bytes_max();
    PolicyServiceServer::new(Policies(Arc::clone(app))).max_decoding_message_size(limit)
}

/// Makes the change that a request asks for. The requests of changes have the same fields, besides the change itself.
macro_rules! make_change {
    ($ctx:expr, $req:expr, $change:expr) => {{
        let has_duration = $req.grant_duration.is_some();
        let options = changes::options($req.etag, $req.validate_only, &$req.comment, has_duration)?;
        let place = messages::place(&$ctx, $req.workspace, $req.sandbox)?;
        let change = $change?;
        make(&$ctx, &place, &change, &options).await?
    }};
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

    async fn apply_policy(
        &self,
        request: Request<pb::ApplyPolicyRequest>,
    ) -> Reply<pb::ApplyPolicyResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let changed = make_change!(ctx, req, changes::document(req.mode, req.yaml));
            Ok(pb::ApplyPolicyResponse { policy_change: Some(changed.into()) })
        })
        .await
    }

    async fn edit_policy(
        &self,
        request: Request<pb::EditPolicyRequest>,
    ) -> Reply<pb::EditPolicyResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let changed = make_change!(ctx, req, changes::edits(req.policy_edits));
            Ok(pb::EditPolicyResponse { policy_change: Some(changed.into()) })
        })
        .await
    }

    async fn apply_policy_preset(
        &self,
        request: Request<pb::ApplyPolicyPresetRequest>,
    ) -> Reply<pb::ApplyPolicyPresetResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let changed = make_change!(ctx, req, changes::preset(req.policy_preset));
            Ok(pb::ApplyPolicyPresetResponse { policy_change: Some(changed.into()) })
        })
        .await
    }

    async fn revert_policy(
        &self,
        request: Request<pb::RevertPolicyRequest>,
    ) -> Reply<pb::RevertPolicyResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let changed = make_change!(ctx, req, changes::version(req.version));
            Ok(pb::RevertPolicyResponse { policy_change: Some(changed.into()) })
        })
        .await
    }

    async fn pin_policy(
        &self,
        request: Request<pb::PinPolicyRequest>,
    ) -> Reply<pb::PinPolicyResponse> {
        handle_write(&self.0, request, async move |ctx, mut req| {
            let (workspace, sandbox) =
                (std::mem::take(&mut req.workspace), std::mem::take(&mut req.sandbox));
            let place = messages::place(&ctx, workspace, sandbox)?;
            let settings = pins::PinSettings::try_from(req)?;
            Ok(pins::pin(&ctx, &place, &settings).await?.into())
        })
        .await
    }

    async fn unpin_policy(
        &self,
        request: Request<pb::UnpinPolicyRequest>,
    ) -> Reply<pb::UnpinPolicyResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = messages::place(&ctx, req.workspace, req.sandbox)?;
            pins::unpin(&ctx, &place, &req.etag).await?;
            Ok(pb::UnpinPolicyResponse {})
        })
        .await
    }

    async fn get_policy_pin(
        &self,
        request: Request<pb::GetPolicyPinRequest>,
    ) -> Reply<pb::GetPolicyPinResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let place = messages::place(ctx, req.workspace, req.sandbox)?;
            let found = pins::get(ctx, &place).await?;
            Ok(pb::GetPolicyPinResponse { policy_pin: Some(found.into()) })
        })
        .await
    }

    async fn list_policy_pins(
        &self,
        request: Request<pb::ListPolicyPinsRequest>,
    ) -> Reply<pb::ListPolicyPinsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let filter = messages::pin_filter(req.gateway, req.workspace)?;
            let (page, next_page_token) = pins::list(ctx, &filter, size, &req.page_token).await?;
            let policy_pins = page.into_iter().map(Into::into).collect();
            Ok(pb::ListPolicyPinsResponse { policy_pins, next_page_token })
        })
        .await
    }
}
