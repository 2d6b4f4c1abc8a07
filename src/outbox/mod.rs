//! Records written in the transaction of a change: an event, and an entry in the access change log.
//!
//! Invariants
//! - both are written in the transaction of the change, so they exist if and only if the change does;
//! - on SQLite, the commit of an event also assigns its sequence number, unless that fails. The sequencer assigns all
//!   others: those of PostgreSQL, where transactions that follow each other commit in any order;
//! - transactions that log changes do not wait for each other: `feed` reads them in any order of commits;
//! - this module does not read for callers: that is the task of `resources/events` and `feed`.

pub mod event_types;
pub mod feed;
mod store;

use futures_util::future::BoxFuture;
use std::sync::Arc;

use diesel::pg::Pg;
use diesel::query_builder::{QueryFragment, QueryId};
use serde_json::Value;
use tracing::warn;

use crate::clock::Timestamp;
use crate::db::types::{GatewayId, GatewayRef, GroupId, ServicePrincipalId, UserId};
use crate::db::{Conn, Engine};
use crate::error::Error;

pub use self::event_types::EventType;
use self::store::NewEventRow;
pub use self::store::{NUMBER_EVENTS, log_change};

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

/// The events and access changes of one transaction. On PostgreSQL they are collected, and written at its end by one
/// statement. On SQLite, which has no round trips, they are written at once, by [`enqueue`] and [`log_change`].
#[derive(Debug, Default)]
pub struct OutboxRows {
    events: Vec<NewEventRow>,
    changes: Vec<AccessSubject>,
}

impl OutboxRows {
    /// Adds an event to the transaction of a connection.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn add_event(&mut self, conn: &mut Conn, event: NewEvent) -> Result<(), Error> {
        match conn.engine() {
            Engine::Sqlite => enqueue(conn, event).await?,
            Engine::Postgres => self.events.push(to_row(event)),
        }
        Ok(())
    }

    /// Adds a change of a subject's access at a time. PostgreSQL gets the time with [`Self::take_statement`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn add_change(
        &mut self,
        conn: &mut Conn,
        subject: AccessSubject,
        at: Timestamp,
    ) -> Result<(), Error> {
        match conn.engine() {
            Engine::Sqlite => log_change(conn, subject, at).await?,
            Engine::Postgres => self.changes.push(subject),
        }
        Ok(())
    }

    /// Returns the statement that writes the collected rows, and removes them; `None` if there are none. `changed_at` is
    /// the time of the access changes.
    #[must_use]
    pub fn take_statement(
        &mut self,
        changed_at: Timestamp,
    ) -> Option<impl QueryFragment<Pg> + QueryId + Send + use<>> {
        let Self { events, changes } = std::mem::take(self);
        let empty = events.is_empty() && changes.is_empty();
        (!empty).then(|| store::insert_all(events, &changes, changed_at))
    }
}

/// Writes an event in the transaction of its change. After the commit, [`feed::EventFeed::notify_committed`] wakes the
/// sequencer.
pub fn enqueue(conn: &mut Conn, event: NewEvent) -> BoxFuture<'_, Result<(), Error>> {
    Box::pin(async move { store::insert(conn, &to_row(event)).await })
}

fn to_row(event: NewEvent) -> NewEventRow {
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
    let (gateway_id, gateway_name) =
        event.gateway.map(|gateway| (gateway.id, gateway.name.to_string())).unzip();
    NewEventRow {
        name: event.event_type.name(),
        gateway_id,
        gateway_name,
        actor: event.actor.chars().take(ACTOR_CHARS_MAX).collect(),
        payload_json: payload,
        occurred_at: event.at,
    }
}
