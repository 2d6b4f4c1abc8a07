//! gRPC implementation of `WebhookService`.

use std::sync::Arc;

use tonic::Request;

use super::deliveries::redelivery::{self, Chosen};
use super::sealed::SigningSecret;
use super::{deliveries, delivery, domain, input, messages};
use crate::app::App;
use crate::db::page::PageSize;
use crate::db::types::WebhookId;
use crate::pb::v1 as pb;
use crate::pb::v1::webhook_service_server::{WebhookService, WebhookServiceServer};
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::wire;

/// The `WebhookService` implementation.
#[derive(Debug)]
pub struct Webhooks(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> WebhookServiceServer<Webhooks> {
    let limit = app.config.server.message_bytes_max();
    WebhookServiceServer::new(Webhooks(Arc::clone(app))).max_decoding_message_size(limit)
}

/// Returns both spellings of a new secret, which are empty for `None`.
fn spellings(secret: Option<SigningSecret>) -> (String, String) {
    secret.map_or_else(Default::default, |secret| (secret.standard(), secret.legacy().to_owned()))
}

#[tonic::async_trait]
impl WebhookService for Webhooks {
    async fn create_webhook(
        &self,
        request: Request<pb::CreateWebhookRequest>,
    ) -> Reply<pb::CreateWebhookResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let (created, secret) = domain::create(&ctx, req.try_into()?).await?;
            let (secret, legacy_secret) = spellings(secret);
            let webhook = Some(created.into());
            Ok(pb::CreateWebhookResponse { webhook, secret, legacy_secret })
        })
        .await
    }

    async fn get_webhook(
        &self,
        request: Request<pb::GetWebhookRequest>,
    ) -> Reply<pb::GetWebhookResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let found = domain::get(ctx, WebhookId(req.webhook_id)).await?;
            Ok(pb::GetWebhookResponse { webhook: Some(found.into()) })
        })
        .await
    }

    async fn list_webhooks(
        &self,
        request: Request<pb::ListWebhooksRequest>,
    ) -> Reply<pb::ListWebhooksResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) = domain::list(ctx, size, &req.page_token).await?;
            let webhooks = page.into_iter().map(Into::into).collect();
            Ok(pb::ListWebhooksResponse { webhooks, next_page_token })
        })
        .await
    }

    async fn update_webhook(
        &self,
        request: Request<pb::UpdateWebhookRequest>,
    ) -> Reply<pb::UpdateWebhookResponse> {
        handle_write(&self.0, request, async move |ctx, mut req| {
            let (id, etag) = (WebhookId(req.webhook_id), std::mem::take(&mut req.etag));
            let (updated, secret) = domain::update(&ctx, id, req.try_into()?, &etag).await?;
            let (secret, legacy_secret) = spellings(secret);
            let webhook = Some(updated.into());
            Ok(pb::UpdateWebhookResponse { webhook, secret, legacy_secret })
        })
        .await
    }

    async fn delete_webhook(
        &self,
        request: Request<pb::DeleteWebhookRequest>,
    ) -> Reply<pb::DeleteWebhookResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            domain::delete(&ctx, WebhookId(req.webhook_id), &req.etag).await?;
            Ok(pb::DeleteWebhookResponse {})
        })
        .await
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<pb::RotateWebhookSecretRequest>,
    ) -> Reply<pb::RotateWebhookSecretResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let overlap =
                req.overlap.map(|span| wire::parse_duration("overlap", span)).transpose()?;
            let (id, overlap) = (WebhookId(req.webhook_id), input::overlap(overlap)?);
            let (rotated, secret) = domain::rotate_secret(&ctx, id, overlap, &req.etag).await?;
            let (secret, legacy_secret) = spellings(secret);
            let webhook = Some(rotated.into());
            Ok(pb::RotateWebhookSecretResponse { webhook, secret, legacy_secret })
        })
        .await
    }

    async fn test_webhook(
        &self,
        request: Request<pb::TestWebhookRequest>,
    ) -> Reply<pb::TestWebhookResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            Ok(delivery::test(&ctx, WebhookId(req.webhook_id)).await?.into())
        })
        .await
    }

    async fn redeliver_webhook(
        &self,
        request: Request<pb::RedeliverWebhookRequest>,
    ) -> Reply<pb::RedeliverWebhookResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let start = req.start_time.map(|at| wire::parse_timestamp("start_time", at));
            let end = req.end_time.map(|at| wire::parse_timestamp("end_time", at));
            let (start, end) = (start.transpose()?, end.transpose()?);
            let part = (req.after_delivery_id, req.max_deliveries);
            let chosen = Chosen::parse(req.delivery_ids, (start, end), part)?;
            let id = WebhookId(req.webhook_id);
            let again = redelivery::redeliver(&ctx, id, &chosen, req.only_failed).await?;
            Ok(again.into())
        })
        .await
    }

    async fn list_webhook_deliveries(
        &self,
        request: Request<pb::ListWebhookDeliveriesRequest>,
    ) -> Reply<pb::ListWebhookDeliveriesResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let (id, status) = (WebhookId(req.webhook_id), messages::parse_status(req.status)?);
            let (page, next_page_token) =
                deliveries::list(ctx, id, status, size, &req.page_token).await?;
            let webhook_deliveries = page.into_iter().map(Into::into).collect();
            Ok(pb::ListWebhookDeliveriesResponse { webhook_deliveries, next_page_token })
        })
        .await
    }
}
