//! Rows of `events` and `event_head`.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};
use diesel_async::RunQueryDsl;

use crate::access::snapshot::VisibleGateways;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{event_head, events, webhook_cursor};
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::outbox::NUMBER_EVENTS;

/// A sequenced event.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct Event {
    /// Id of the row, in the order in which events were written.
    pub id: i64,
    /// Sequence number.
    pub sequence: i64,
    /// Name of the event type.
    pub name: String,
    /// Id of the gateway.
    pub gateway_id: Option<GatewayId>,
    /// Name of the gateway.
    pub gateway: Option<String>,
    /// Actor.
    pub actor: Option<String>,
    /// Payload, a JSON object.
    pub payload_json: String,
    /// When it occurred.
    pub occurred_at: Timestamp,
}

/// Range of readable sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable)]
pub struct SequenceRange {
    /// Last assigned sequence number.
    pub head: i64,
    /// First stored sequence number, or the next one to be assigned if no event is stored.
    pub oldest: i64,
}

/// Which events a reader can see.
#[derive(Debug, Clone)]
pub enum VisibleEvents {
    /// All events.
    All,
    /// Events for viewers, operators and admins, each on the gateways where the reader has that role.
    OfRoles([RoleVisibility; 3]),
}

/// Events visible to a role on its gateways.
#[derive(Debug, Clone)]
pub struct RoleVisibility {
    /// Names of the event types.
    pub names: Vec<&'static str>,
    /// Gateways on which the reader has the role.
    pub gateways: VisibleGateways,
}

impl RoleVisibility {
    /// Returns whether it applies to all gateways, and otherwise their ids.
    fn gateways(&self) -> (bool, &[GatewayId]) {
        match &self.gateways {
            VisibleGateways::All => (true, &[]),
            VisibleGateways::Only(ids) => (false, ids),
        }
    }
}

/// Query for events.
#[derive(Debug, Clone)]
pub struct EventQuery<'a> {
    /// Events that the reader can see.
    pub visible: &'a VisibleEvents,
    /// Only events of this gateway.
    pub gateway: Option<GatewayId>,
    /// Only events with these names; empty matches all.
    pub names: &'a [String],
}

/// Returns the range of readable sequence numbers.
pub async fn sequence_range(conn: &mut Conn) -> Result<SequenceRange, Error> {
    let row = event_head::table.select((event_head::sequence, event_head::oldest));
    Ok(on_conn!(conn, |c| row.first(c).await)?)
}

/// Like [`sequence_range`], and locks it: no other transaction can assign or delete sequence numbers until this one ends.
pub async fn lock_sequence_range(conn: &mut Conn) -> Result<SequenceRange, Error> {
    let row = event_head::table.select((event_head::sequence, event_head::oldest));
    Ok(match conn {
        Conn::Pg(c) => row.for_update().first(c).await?,
        // The transaction already holds the database's only write lock.
        Conn::Sqlite(c) => row.first(c).await?,
    })
}

/// Returns the wanted events with a sequence after `after` and up to `until`, at most `limit`, oldest first.
pub async fn list_between(
    conn: &mut Conn,
    wanted: &EventQuery<'_>,
    after: i64,
    until: i64,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let picked = |of: &RoleVisibility| {
        let (every, ids) = of.gateways();
        let on_one = events::gateway_id.eq_any(ids.to_vec());
        let on_every = events::gateway_id.is_not_null().and(every.into_sql::<Bool>());
        events::name.eq_any(of.names.clone()).and(on_one.or(on_every))
    };
    Ok(on_conn!(conn, |c| {
        let mut query = events::table
            .select((
                events::id,
                events::sequence.assume_not_null(),
                events::name,
                events::gateway_id,
                events::gateway_name,
                events::actor,
                events::payload_json,
                events::occurred_at,
            ))
            .filter(events::sequence.gt(after))
            .filter(events::sequence.le(until))
            .order(events::sequence)
            .limit(limit)
            .into_boxed();
        if let Some(gateway) = wanted.gateway {
            query = query.filter(events::gateway_id.eq(gateway));
        }
        if let VisibleEvents::OfRoles([viewers, operators, admins]) = wanted.visible {
            query = query.filter(picked(viewers).or(picked(operators)).or(picked(admins)));
        }
        if !wanted.names.is_empty() {
            query = query.filter(events::name.eq_any(wanted.names));
        }
        query.load(c).await
    })?)
}

/// Returns the id of the newest event, even if it has no sequence number yet; 0 without events.
pub async fn newest_id(conn: &mut Conn) -> Result<i64, Error> {
    let newest = events::table.select(diesel::dsl::max(events::id));
    let found: Option<i64> = on_conn!(conn, |c| newest.first(c).await)?;
    Ok(found.unwrap_or_default())
}

/// Returns whether there are events without a sequence number.
pub async fn has_unnumbered(conn: &mut Conn) -> Result<bool, Error> {
    let waiting = events::table.filter(events::sequence.is_null());
    Ok(on_conn!(conn, |c| diesel::select(diesel::dsl::exists(waiting)).get_result(c).await)?)
}

/// Assigns sequence numbers after `head` to up to `limit` events, in the order of their ids. Returns their number.
pub async fn assign_sequences(conn: &mut Conn, head: i64, limit: i64) -> Result<usize, Error> {
    let query = diesel::sql_query(NUMBER_EVENTS).bind::<BigInt, _>(head).bind::<BigInt, _>(limit);
    Ok(on_conn!(conn, |c| cached(query).execute(c).await)?)
}

/// Stores the range of readable sequence numbers.
pub async fn set_sequence_range(conn: &mut Conn, range: SequenceRange) -> Result<(), Error> {
    let to = (event_head::sequence.eq(range.head), event_head::oldest.eq(range.oldest));
    on_conn!(conn, |c| cached(diesel::update(event_head::table).set(to)).execute(c).await)?;
    Ok(())
}

/// Returns the last event that is queued for webhooks.
pub async fn queued_sequence(conn: &mut Conn) -> Result<i64, Error> {
    let row = webhook_cursor::table.select(webhook_cursor::sequence);
    Ok(on_conn!(conn, |c| row.first(c).await)?)
}

/// Returns sequence and time of the first stored events.
pub async fn first(
    conn: &mut Conn,
    oldest: i64,
    limit: i64,
) -> Result<Vec<(i64, Timestamp)>, Error> {
    Ok(on_conn!(conn, |c| events::table
        .filter(events::sequence.ge(oldest))
        .select((events::sequence.assume_not_null(), events::occurred_at))
        .order(events::sequence)
        .limit(limit)
        .load(c)
        .await)?)
}

/// Deletes the events up to a sequence.
pub async fn delete_up_to(conn: &mut Conn, sequence: i64) -> Result<usize, Error> {
    let old = events::table.filter(events::sequence.le(sequence));
    Ok(on_conn!(conn, |c| diesel::delete(old).execute(c).await)?)
}
