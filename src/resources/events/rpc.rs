//! gRPC implementation of `EventService`.

use std::sync::Arc;

use tonic::Request;

use super::domain::{self, Filter, Follower, StartPosition};
use super::store::Event;
use crate::access::standing::RoleScope;
use crate::app::App;
use crate::db::page::PageSize;
use crate::db::types::GatewayId;
use crate::outbox::event_types::{self, Audience, EventType};
use crate::pb::v1 as pb;
use crate::pb::v1::event_service_server::{EventService, EventServiceServer};
use crate::role::Role;
use crate::rpc::call::{Reply, handle_read};
use crate::rpc::streams::{ResponseStream, handle_stream};
use crate::rpc::wire;

/// The `EventService` implementation.
#[derive(Debug)]
pub struct Events(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> EventServiceServer<Events> {
    let limit = app.config.server.message_bytes_max();
    EventServiceServer::new(Events(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl EventService for Events {
    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Reply<pb::ListEventsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let filter = Filter::parse(req.gateway, req.names)?;
            let start = StartPosition::parse(req.after_sequence, false)?;
            let size = PageSize::parse(req.page_size)?;
            let page = domain::list(ctx, &filter, start, size).await?;
            Ok(pb::ListEventsResponse {
                events: page.events.into_iter().map(Into::into).collect(),
                next_after_sequence: page.next_after,
                more: page.more,
            })
        })
        .await
    }

    async fn list_event_types(
        &self,
        request: Request<pb::ListEventTypesRequest>,
    ) -> Reply<pb::ListEventTypesResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) = domain::list_types(ctx, size, &req.page_token)?;
            let event_types = page.into_iter().map(to_type).collect();
            Ok(pb::ListEventTypesResponse { event_types, next_page_token })
        })
        .await
    }

    type WatchEventsStream = ResponseStream<pb::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<pb::WatchEventsRequest>,
    ) -> Reply<Self::WatchEventsStream> {
        let prepare = async move |ctx, req: pb::WatchEventsRequest| {
            let filter = Filter::parse(req.gateway, req.names)?;
            let start = StartPosition::parse(req.after_sequence, true)?;
            let follower = Follower::start(&ctx, filter, start).await?;
            Ok((ctx, follower))
        };
        handle_stream(&self.0, request, prepare, async move |(ctx, mut follower), sink| {
            loop {
                let page = follower.next(&ctx).await?;
                let last = page.events.last().map(|event| event.sequence);
                for event in page.events {
                    let sequence = event.sequence;
                    let needs = required_access(event.gateway_id, &event.name);
                    let event = pb::WatchEventsResponse { event: Some(event.into()), sequence };
                    sink.send_if_allowed(Some(needs), event).await?;
                }
                if last.is_none() {
                    let sequence = page.next_after;
                    sink.send(pb::WatchEventsResponse { event: None, sequence }).await?;
                }
            }
        })
        .await
    }
}

/// Returns the role that a reader needs to see an event, and where it must be held. As in [`domain::list`], events
/// without a gateway are for global admins, and so are those of a gateway that was removed.
fn required_access(gateway: Option<GatewayId>, name: &str) -> (RoleScope, Role) {
    match (gateway, event_types::audience(name)) {
        (Some(gateway), Audience::Gateway(role)) => (RoleScope::MaybeRemovedGateway(gateway), role),
        (None, Audience::Gateway(_)) | (_, Audience::GlobalAdmins) => {
            (RoleScope::Global, Role::Admin)
        }
    }
}

fn to_type((event_type, what): (EventType, &str)) -> pb::EventType {
    let (role, global_admins_only) = match event_type.audience() {
        Audience::Gateway(role) => (role, false),
        Audience::GlobalAdmins => (Role::Admin, true),
    };
    pb::EventType {
        name: event_type.name().to_owned(),
        description: what.to_owned(),
        role: pb::Role::from(role).into(),
        global_admins_only,
    }
}

impl From<Event> for pb::Event {
    fn from(event: Event) -> Self {
        Self {
            sequence: event.sequence,
            name: event.name,
            gateway: event.gateway.unwrap_or_default(),
            actor: event.actor.unwrap_or_default(),
            event_time: Some(wire::to_timestamp(event.occurred_at)),
            payload_json: event.payload_json,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_requires_the_role_of_its_type_on_its_gateway_or_the_global_role_admin() {
        let gateway = GatewayId(7);
        let on_gateway = RoleScope::MaybeRemovedGateway(gateway);
        let global = (RoleScope::Global, Role::Admin);
        for (gateway, event_type, needs) in [
            (Some(gateway), event_types::SANDBOX_STARTED, (on_gateway, Role::Viewer)),
            (Some(gateway), event_types::DEVICE_CODE_APPROVED, global),
            (None, event_types::SANDBOX_STARTED, global),
            (None, event_types::DEVICE_CODE_APPROVED, global),
        ] {
            assert_eq!(required_access(gateway, event_type.name()), needs, "{event_type:?}");
        }
        assert_eq!(required_access(Some(gateway), "of.a.later.release"), global);
    }
}
