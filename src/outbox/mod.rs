//! Records written in the transaction of a change: an event, and an entry in the access change log.
//!
//! Invariants
//! - both are written in the transaction of the change, so they exist if and only if the change does;
//! - this module does not read for callers: that is the task of `resources/events` and `feed`.

pub mod event_types;
pub mod feed;
mod store;

use std::sync::Arc;

use serde_json::Value;
use tracing::warn;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::{GatewayId, GatewayRef, GroupId, ServicePrincipalId, UserId};
use crate::error::Error;

pub use self::event_types::EventType;
pub use self::store::log_change;

/// Longer payloads are replaced by their length.
pub const PAYLOAD_BYTES_MAX: usize = 262_144;
const ACTOR_CHARS_MAX: usize = 254;

/// A subject that the snapshot holds facts about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessSubject {
    /// A user.
    User(UserId),
    /// A service principal.
    ServicePrincipal(ServicePrincipalId),
    /// A group.
    Group(GroupId),
    /// A gateway.
    Gateway(GatewayId),
}

/// An event to write.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Type of the event.
    pub event_type: EventType,
    /// The gateway of the event. The type defines which role on it may read the event; without a gateway only global
    /// admins may.
    pub gateway: Option<GatewayRef>,
    /// Who made the change.
    pub actor: Arc<str>,
    /// A JSON object, without secrets.
    pub payload: Value,
    /// Time of the event.
    pub at: Timestamp,
}

impl NewEvent {
    /// Sets the gateway, if it is not the scope of the call.
    #[must_use]
    pub fn with_gateway(mut self, gateway: GatewayRef) -> Self {
        self.gateway = Some(gateway);
        self
    }
}

/// Writes an event in the transaction of its change. After the commit, [`feed::EventFeed::notify_committed`] wakes the
/// sequencer.
pub async fn enqueue(conn: &mut Conn, event: NewEvent) -> Result<(), Error> {
    let mut payload = event.payload.to_string();
    if payload.len() > PAYLOAD_BYTES_MAX {
        // The change itself must not fail because of a long payload.
        warn!(
            event = event.event_type.name(),
            bytes = payload.len(),
            "the payload of an event is too long"
        );
        payload = serde_json::json!({ "left_out_bytes": payload.len() }).to_string();
    }
    let actor: String = event.actor.chars().take(ACTOR_CHARS_MAX).collect();
    let row = store::NewEventRow {
        name: event.event_type.name(),
        gateway_id: event.gateway.as_ref().map(|gateway| gateway.id),
        gateway_name: event.gateway.as_ref().map(|gateway| &*gateway.name),
        actor: &actor,
        payload_json: &payload,
        occurred_at: event.at,
    };
    store::insert(conn, &row).await
}
