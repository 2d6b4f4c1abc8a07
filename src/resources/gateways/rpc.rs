//! gRPC implementation of `GatewayService`.

use std::sync::Arc;

use tonic::Request;

use super::messages;
use super::settings::{self, SettingTarget};
use super::watch::Watcher;
use super::{change, discovery, domain, health, rotate, unregister};
use crate::access::standing::RoleScope;
use crate::app::App;
use crate::db::page::PageSize;
use crate::openshell::settings::SettingKey;
use crate::pb::v1 as pb;
use crate::pb::v1::gateway_service_server::{GatewayService, GatewayServiceServer};
use crate::role::Role;
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::streams::{ResponseStream, handle_stream};
use crate::rpc::wire;

/// The `GatewayService` implementation.
#[derive(Debug)]
pub struct Gateways(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> GatewayServiceServer<Gateways> {
    let limit = app.config.server.message_bytes_max();
    GatewayServiceServer::new(Gateways(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl GatewayService for Gateways {
    async fn register_gateway(
        &self,
        request: Request<pb::RegisterGatewayRequest>,
    ) -> Reply<pb::RegisterGatewayResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let stored = domain::register(&ctx, req.try_into()?).await?;
            Ok(pb::RegisterGatewayResponse { gateway: Some(stored.into()) })
        })
        .await
    }

    async fn get_gateway(
        &self,
        request: Request<pb::GetGatewayRequest>,
    ) -> Reply<pb::GetGatewayResponse> {
        handle_read(&self.0, request, async |ctx, _| {
            Ok(pb::GetGatewayResponse { gateway: Some(domain::get(ctx).await?.into()) })
        })
        .await
    }

    async fn list_gateways(
        &self,
        request: Request<pb::ListGatewaysRequest>,
    ) -> Reply<pb::ListGatewaysResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) =
                domain::list(ctx, &req.label_selector, size, &req.page_token).await?;
            let gateways = page.into_iter().map(Into::into).collect();
            Ok(pb::ListGatewaysResponse { gateways, next_page_token })
        })
        .await
    }

    type WatchGatewaysStream = ResponseStream<pb::WatchGatewaysResponse>;

    async fn watch_gateways(
        &self,
        request: Request<pb::WatchGatewaysRequest>,
    ) -> Reply<Self::WatchGatewaysStream> {
        let prepare = async move |ctx, req: pb::WatchGatewaysRequest| {
            let watcher = Watcher::start(&ctx, req.after_sequence).await?;
            Ok((ctx, watcher, req.after_sequence))
        };
        handle_stream(
            &self.0,
            request,
            prepare,
            async move |(ctx, mut watcher, mut before), sink| {
                loop {
                    let (told, sequence) = watcher.next(&ctx).await?;
                    for told in told {
                        // Only the message after the last change advances the cursor: a client that disconnects earlier
                        // receives the changes again.
                        // Global admins may receive a gateway before the access data of this replica has it.
                        let on = told.gateway().map(RoleScope::MaybeRemovedGateway);
                        let needs = on.map(|on| (on, Role::Viewer));
                        let change = Some(told.into());
                        let change = pb::WatchGatewaysResponse { change, sequence: before };
                        sink.send_if_allowed(needs, change).await?;
                    }
                    before = sequence;
                    sink.send(pb::WatchGatewaysResponse { change: None, sequence }).await?;
                }
            },
        )
        .await
    }

    async fn get_gateway_health(
        &self,
        request: Request<pb::GetGatewayHealthRequest>,
    ) -> Reply<pb::GetGatewayHealthResponse> {
        handle_read(&self.0, request, async |ctx, _| {
            Ok(health::load(ctx, domain::get(ctx).await?).await?.into())
        })
        .await
    }

    async fn update_gateway(
        &self,
        request: Request<pb::UpdateGatewayRequest>,
    ) -> Reply<pb::UpdateGatewayResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let given_etag = req.etag.clone();
            let updated = change::update(&ctx, req.try_into()?, &given_etag).await?;
            Ok(pb::UpdateGatewayResponse { gateway: Some(updated.into()) })
        })
        .await
    }

    async fn rotate_gateway_credentials(
        &self,
        request: Request<pb::RotateGatewayCredentialsRequest>,
    ) -> Reply<pb::RotateGatewayCredentialsResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let given_etag = req.etag.clone();
            let (row, rotated) = rotate::rotate(&ctx, &req.try_into()?, &given_etag).await?;
            let gateway = Some(row.into());
            Ok(pb::RotateGatewayCredentialsResponse { gateway, rotated })
        })
        .await
    }

    async fn unregister_gateway(
        &self,
        request: Request<pb::UnregisterGatewayRequest>,
    ) -> Reply<pb::UnregisterGatewayResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let gone = unregister::unregister(&ctx, &req.gateway, &req.etag, req.force).await?;
            Ok(gone.into())
        })
        .await
    }

    async fn list_gateway_settings(
        &self,
        request: Request<pb::ListGatewaySettingsRequest>,
    ) -> Reply<pb::ListGatewaySettingsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let of = SettingTarget::parse(&req.workspace, &req.sandbox)?;
            let (settings, settings_revision) = settings::list(ctx, &of).await?;
            let settings =
                settings.into_iter().map(|one| messages::to_pb_setting(one, &of)).collect();
            Ok(pb::ListGatewaySettingsResponse { gateway_settings: settings, settings_revision })
        })
        .await
    }

    async fn update_gateway_setting(
        &self,
        request: Request<pb::UpdateGatewaySettingRequest>,
    ) -> Reply<pb::UpdateGatewaySettingResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let of = SettingTarget::parse(&req.workspace, &req.sandbox)?;
            let (key, value) = messages::parse_setting(&req.key, req.value)?;
            let (setting, changed) = settings::update(&ctx, &of, key, value).await?;
            let setting = Some(messages::to_pb_setting(setting, &of));
            Ok(pb::UpdateGatewaySettingResponse {
                gateway_setting: setting,
                settings_revision: changed.revision,
            })
        })
        .await
    }

    async fn delete_gateway_setting(
        &self,
        request: Request<pb::DeleteGatewaySettingRequest>,
    ) -> Reply<pb::DeleteGatewaySettingResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let of = SettingTarget::parse(&req.workspace, &req.sandbox)?;
            let changed = settings::delete(&ctx, &of, SettingKey::parse("key", &req.key)?).await?;
            let settings_revision = changed.revision;
            Ok(pb::DeleteGatewaySettingResponse { deleted: changed.deleted, settings_revision })
        })
        .await
    }

    async fn test_gateway(
        &self,
        request: Request<pb::TestGatewayRequest>,
    ) -> Reply<pb::TestGatewayResponse> {
        handle_write(&self.0, request, async move |ctx, _| {
            let (found, row) = domain::test(&ctx).await?;
            let latency =
                found.as_ref().ok().and_then(|p| i64::try_from(p.latency.as_micros()).ok());
            Ok(pb::TestGatewayResponse {
                reachable: found.is_ok(),
                status: pb::GatewayStatus::from(row.observed.last_status).into(),
                version: found.as_ref().map(|probe| probe.version.clone()).unwrap_or_default(),
                wire_generation: found
                    .as_ref()
                    .map_or(pb::WireGeneration::Unknown, |p| p.reported_generation().into())
                    .into(),
                latency: latency.map(wire::to_duration),
                usable: found.as_ref().is_ok_and(|probe| probe.credential_problem().is_none()),
                error: match found {
                    Ok(probe) => probe.credential_problem().unwrap_or_default().to_owned(),
                    Err(why) => why,
                },
            })
        })
        .await
    }

    async fn discover_gateways(
        &self,
        request: Request<pb::DiscoverGatewaysRequest>,
    ) -> Reply<pb::DiscoverGatewaysResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            Ok(discovery::run::discover(&ctx, &req.domains).await?.into())
        })
        .await
    }

    async fn get_gateway_discovery_status(
        &self,
        request: Request<pb::GetGatewayDiscoveryStatusRequest>,
    ) -> Reply<pb::GetGatewayDiscoveryStatusResponse> {
        handle_read(&self.0, request, async |ctx, _| {
            Ok(discovery::messages::status(ctx, discovery::last_run(ctx).await?))
        })
        .await
    }
}
