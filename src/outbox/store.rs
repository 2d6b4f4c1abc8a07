//! Inserts rows into `events` and `access_changes`.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{QueryFragment, QueryId};
use diesel::sql_types::{self, Array, BigInt, Nullable, Text};
use diesel::{QueryResult, SqliteConnection};
use diesel_async::RunQueryDsl;

use super::AccessSubject;
use crate::clock::Timestamp;
use crate::db::cached::{cached, execute_cached};
use crate::db::schema::{access_changes, event_head, events};
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// A row for a new event.
#[derive(Debug, Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
pub(super) struct NewEventRow {
    /// Type of the event.
    pub(super) name: &'static str,
    /// The gateway of the event.
    pub(super) gateway_id: Option<GatewayId>,
    /// The gateway's name at that time.
    pub(super) gateway_name: Option<String>,
    /// Who made the change.
    pub(super) actor: String,
    /// A JSON object.
    pub(super) payload_json: String,
    /// Time of the event.
    pub(super) occurred_at: Timestamp,
}

/// Number of events that one commit on SQLite numbers. The sequencer numbers the others.
const NUMBERED_MAX: i64 = 500;

/// Assigns the sequence numbers after `$1` to up to `$2` events, in the order of their ids. The same SQL for both
/// engines; diesel does not support UPDATE ... FROM.
pub const NUMBER_EVENTS: &str = "UPDATE events SET sequence = given.place FROM (\
    SELECT id, ROW_NUMBER() OVER (ORDER BY id) + $1 AS place FROM (\
    SELECT id FROM events WHERE sequence IS NULL ORDER BY id LIMIT $2) AS waiting) AS given \
    WHERE events.id = given.id";

/// Moves the head by the number of events that the statement before it has numbered. Only for SQLite.
const MOVE_HEAD: &str = "UPDATE event_head SET sequence = sequence + changes() WHERE changes() > 0";

/// Writes an event. Its transaction assigns a sequence number on SQLite only, at its commit.
pub(super) async fn insert(conn: &mut Conn, row: &NewEventRow) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::insert_into(events::table).values(row).execute(c).await)?;
    conn.add_before_commit(number);
    Ok(())
}

/// Assigns sequence numbers before a commit. SQLite has one writer, so that the events of one commit follow those of the
/// commit before it.
fn number(conn: &mut SqliteConnection) -> QueryResult<()> {
    let head: i64 =
        diesel::RunQueryDsl::first(event_head::table.select(event_head::sequence), conn)?;
    let query = diesel::sql_query(NUMBER_EVENTS);
    let query = query.bind::<BigInt, _>(head).bind::<BigInt, _>(NUMBERED_MAX);
    execute_cached(query, conn)?;
    execute_cached(diesel::sql_query(MOVE_HEAD), conn)
}

/// Returns the stored words of a subject.
fn columns(subject: AccessSubject) -> (&'static str, i64) {
    match subject {
        AccessSubject::User(id) => ("user", id.get()),
        AccessSubject::ServicePrincipal(id) => ("service_principal", id.get()),
        AccessSubject::Group(id) => ("group", id.get()),
        AccessSubject::Gateway(id) => ("gateway", id.get()),
    }
}

/// Logs that a subject's access has changed.
pub async fn log_change(
    conn: &mut Conn,
    subject: AccessSubject,
    at: Timestamp,
) -> Result<(), Error> {
    let (kind, id) = columns(subject);
    let row = (
        access_changes::subject_kind.eq(kind),
        access_changes::subject_id.eq(id),
        access_changes::changed_at.eq(at),
    );
    on_conn!(conn, |c| diesel::insert_into(access_changes::table).values(row).execute(c).await)?;
    Ok(())
}

/// Inserts events in the order of the arrays, which is the order of their ids, and access changes.
const INSERT_ALL: &str = "\
    WITH written AS (\
      INSERT INTO events (name, gateway_id, gateway_name, actor, payload_json, occurred_at) \
      SELECT * FROM unnest($1, $2, $3, $4, $5, $6)\
    ) \
    INSERT INTO access_changes (subject_kind, subject_id, changed_at) \
    SELECT kind, id, $9 FROM unnest($7, $8) AS given (kind, id)";

/// Returns the statement of PostgreSQL that inserts any number of events and access changes.
pub(super) fn insert_all(
    events: Vec<NewEventRow>,
    changes: &[AccessSubject],
    changed_at: Timestamp,
) -> impl QueryFragment<Pg> + QueryId + Send + use<> {
    let (mut names, mut gateway_ids, mut gateway_names) = (Vec::new(), Vec::new(), Vec::new());
    let (mut actors, mut payloads, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for event in events {
        names.push(event.name);
        gateway_ids.push(event.gateway_id.map(GatewayId::get));
        gateway_names.push(event.gateway_name);
        actors.push(event.actor);
        payloads.push(event.payload_json);
        times.push(event.occurred_at);
    }
    let (kinds, ids): (Vec<&str>, Vec<i64>) = changes.iter().copied().map(columns).unzip();
    cached(
        diesel::sql_query(INSERT_ALL)
            .bind::<Array<Text>, _>(names)
            .bind::<Array<Nullable<BigInt>>, _>(gateway_ids)
            .bind::<Array<Nullable<Text>>, _>(gateway_names)
            .bind::<Array<Text>, _>(actors)
            .bind::<Array<Text>, _>(payloads)
            .bind::<Array<sql_types::Timestamp>, _>(times)
            .bind::<Array<Text>, _>(kinds)
            .bind::<Array<BigInt>, _>(ids)
            .bind::<sql_types::Timestamp, _>(changed_at),
    )
}
