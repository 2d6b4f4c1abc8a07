//! What a change leaves in its own transaction for others to find: an event, and a line in the change log of access.
//!
//! Invariants
//! - both are written in the transaction of the change, so they are there if and only if the change is;
//! - nothing here reads what a caller may see: that is for `resources/events` and `feed`.

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

/// Longer payloads are replaced by how long they were.
pub const PAYLOAD_BYTES_MAX: usize = 262_144;
const ACTOR_CHARS_MAX: usize = 254;

/// A kind of subject whose facts the snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A user.
    User(UserId),
    /// A service principal.
    ServicePrincipal(ServicePrincipalId),
    /// A group.
    Group(GroupId),
    /// A gateway.
    Gateway(GatewayId),
}

/// A change to tell of.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// What happened.
    pub event_type: EventType,
    /// The gateway concerned. Its type states who there may read it; without a gateway it is for global admins.
    pub gateway: Option<GatewayRef>,
    /// Who did it.
    pub actor: Arc<str>,
    /// A JSON object, without secrets.
    pub payload: Value,
    /// When.
    pub at: Timestamp,
}

impl NewEvent {
    /// About a gateway that is not the scope of the call.
    #[must_use]
    pub fn on(mut self, gateway: GatewayRef) -> Self {
        self.gateway = Some(gateway);
        self
    }
}

/// Writes an event in the transaction of the change that it tells of. After the commit, [`feed::Feed::written`] wakes the
/// sequencer.
pub async fn enqueue(conn: &mut Conn, event: NewEvent) -> Result<(), Error> {
    let mut payload = event.payload.to_string();
    if payload.len() > PAYLOAD_BYTES_MAX {
        // The change itself must not fail for it.
        warn!(
            event = event.event_type.name(),
            bytes = payload.len(),
            "the payload of an event is too long"
        );
        payload = serde_json::json!({ "left_out_bytes": payload.len() }).to_string();
    }
    let actor: String = event.actor.chars().take(ACTOR_CHARS_MAX).collect();
    let row = store::NewRow {
        name: event.event_type.name(),
        gateway_id: event.gateway.as_ref().map(|gateway| gateway.id),
        gateway_name: event.gateway.as_ref().map(|gateway| &*gateway.name),
        actor: &actor,
        payload_json: &payload,
        occurred_at: event.at,
    };
    store::insert(conn, &row).await
}
