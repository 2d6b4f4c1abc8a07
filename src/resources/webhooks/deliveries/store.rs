//! Rows of messages. Only pending ones have `next_attempt_at`, which the indexes use. A pending message that is being
//! sent looks like any other pending one: that state is only in the memory of the replica that sends it.

use diesel::SqliteConnection;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Text};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};

use super::DeliveryStatus;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{webhook_deliveries as t, webhooks};
use crate::db::types::{Json, WebhookDeliveryId, WebhookId};
use crate::db::{Conn, Engine, PgConn, on_conn};
use crate::delete_first;
use crate::error::Error;

/// What [`write`] sets, from the columns of `r`.
const SET: &str = "status = r.status, attempt = r.attempt, response_code = r.code, error_message = r.error, \
    delivered_at = r.delivered, next_attempt_at = r.next_at, last_attempt_at = r.last_at, \
    duration_ms = r.duration, response_snippet = r.snippet, attempts_json = r.attempts";
/// The columns of `r`: the members of [`Written`].
const READ: [&str; 11] = [
    "id",
    "status",
    "attempt",
    "code",
    "error",
    "delivered",
    "next_at",
    "last_at",
    "duration",
    "snippet",
    "attempts",
];
/// Inserts messages on PostgreSQL. Ids are assigned after the rows are sorted.
const INSERT_PG: &str = "INSERT INTO webhook_deliveries \
    (webhook_id, event_type, payload_json, created_at, message_id, event_sequence, next_attempt_at) \
    SELECT r.webhook, e.name, e.payload, $7, r.message, e.sequence, $7 \
    FROM unnest($4, $5, $6) AS r(event, webhook, message) \
    JOIN unnest($1, $2, $3) AS e(sequence, name, payload) ON e.sequence = r.event \
    ORDER BY e.sequence, r.webhook";

/// A message, without its payload.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct Delivery {
    /// Permanent id.
    pub id: WebhookDeliveryId,
    /// Its webhook.
    pub webhook_id: WebhookId,
    /// Name of the event.
    pub event_type: String,
    /// State.
    pub status: DeliveryStatus,
    /// Code of the last response.
    pub response_code: Option<i32>,
    /// Why the last attempt failed.
    pub error_message: Option<String>,
    /// Number of the current attempt, from 1.
    pub attempt: i32,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When the receiver accepted it.
    pub delivered_at: Option<Timestamp>,
    /// Id of the message.
    pub message_id: String,
    /// Sequence of the event.
    pub event_sequence: i64,
    /// When it is due; `None` if it is finished.
    pub next_attempt_at: Option<Timestamp>,
    /// When the last attempt began.
    pub last_attempt_at: Option<Timestamp>,
    /// Duration of the last attempt, in milliseconds.
    pub duration_ms: Option<i32>,
    /// Beginning of the last response.
    pub response_snippet: Option<String>,
    /// The attempts before the last one.
    pub attempts_json: Json<Vec<PastAttempt>>,
}

/// An attempt before the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAttempt {
    /// When it began, in microseconds since 1970.
    pub at_us: i64,
    /// Duration, in milliseconds.
    pub duration_ms: i32,
    /// Code of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Beginning of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

/// An event, and the new messages about it. They share its payload.
#[derive(Debug, Clone)]
pub struct NewMessages {
    /// Name of the event.
    pub event_type: String,
    /// Sequence of the event.
    pub event_sequence: i64,
    /// Body of channel generic.
    pub payload_json: String,
    /// The webhooks, by id, and the ids of their messages.
    pub recipients: Vec<(WebhookId, String)>,
}

/// A new message, as SQLite stores it.
#[derive(Insertable)]
#[diesel(table_name = t)]
struct NewRow<'a> {
    webhook_id: WebhookId,
    event_type: &'a str,
    payload_json: &'a str,
    created_at: Timestamp,
    message_id: &'a str,
    event_sequence: i64,
    next_attempt_at: Timestamp,
}

/// The state of a message after an attempt, or when it is sent again. In the form in which the statement reads it.
#[derive(Debug, Clone, Serialize)]
pub struct Written {
    /// Its id.
    pub id: i64,
    /// New state.
    pub status: &'static str,
    /// Number of the current attempt.
    pub attempt: i32,
    /// Code of the last response.
    pub code: Option<i32>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When the receiver accepted it: see [`sql_time`].
    pub delivered: Option<String>,
    /// When it is due: see [`sql_time`].
    pub next_at: Option<String>,
    /// When the last attempt began: see [`sql_time`].
    pub last_at: Option<String>,
    /// Duration of the last attempt, in milliseconds.
    pub duration: Option<i32>,
    /// Beginning of the last response.
    pub snippet: Option<String>,
    /// The attempts before the last one, as JSON.
    pub attempts: String,
}

/// Returns a time in the form in which both engines read it from text.
#[must_use]
pub fn sql_time(at: Timestamp) -> String {
    at.to_string().replace('T', " ").trim_end_matches('Z').to_owned()
}

/// Stores new messages, due at `now`. Their ids are in the order of the events, and then of the webhooks.
pub async fn insert(
    conn: &mut Conn,
    events: Vec<NewMessages>,
    now: Timestamp,
) -> Result<(), Error> {
    match conn {
        Conn::Pg(c) => insert_pg(c, &events, now).await,
        Conn::Sqlite(c) => {
            c.spawn_blocking(move |c| insert_sqlite(c, &events, now)).await?;
            Ok(())
        }
    }
}

/// Inserts all messages with one prepared statement, which has each payload once.
async fn insert_pg(c: &mut PgConn, events: &[NewMessages], now: Timestamp) -> Result<(), Error> {
    let sequences: Vec<i64> = events.iter().map(|event| event.event_sequence).collect();
    let names: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    let payloads: Vec<&str> = events.iter().map(|event| event.payload_json.as_str()).collect();
    let (mut of, mut webhooks, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for event in events {
        for (webhook, id) in &event.recipients {
            of.push(event.event_sequence);
            webhooks.push(webhook.get());
            ids.push(id.as_str());
        }
    }
    let insert = diesel::sql_query(INSERT_PG)
        .bind::<Array<BigInt>, _>(sequences)
        .bind::<Array<Text>, _>(names)
        .bind::<Array<Text>, _>(payloads)
        .bind::<Array<BigInt>, _>(of)
        .bind::<Array<BigInt>, _>(webhooks)
        .bind::<Array<Text>, _>(ids)
        .bind::<sql_types::Timestamp, _>(now);
    cached(insert).execute(c).await?;
    Ok(())
}

/// Inserts row by row with a prepared statement: without network round trips, batches would not be faster.
fn insert_sqlite(
    c: &mut SqliteConnection,
    events: &[NewMessages],
    now: Timestamp,
) -> QueryResult<()> {
    for event in events {
        for (webhook, id) in &event.recipients {
            let row = NewRow {
                webhook_id: *webhook,
                event_type: &event.event_type,
                payload_json: &event.payload_json,
                created_at: now,
                message_id: id,
                event_sequence: event.event_sequence,
                next_attempt_at: now,
            };
            diesel::RunQueryDsl::execute(diesel::insert_into(t::table).values(row), c)?;
        }
    }
    Ok(())
}

/// Returns the pending messages of a webhook that are due, except those with the ids `held`, with their payloads, in the
/// order in which they are due.
pub async fn due(
    conn: &mut Conn,
    webhook: WebhookId,
    now: Timestamp,
    held: &[i64],
    limit: i64,
) -> Result<Vec<(Delivery, String)>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::webhook_id.eq(webhook.get()))
        .filter(t::next_attempt_at.le(now))
        .filter(t::id.ne_all(held))
        .select((Delivery::as_select(), t::payload_json))
        .order((t::next_attempt_at, t::id))
        .limit(limit)
        .load(c)
        .await)?)
}

/// Returns the active webhooks that have messages that are due by `until`.
pub async fn webhooks_with_due(conn: &mut Conn, until: Timestamp) -> Result<Vec<WebhookId>, Error> {
    Ok(on_conn!(conn, |c| {
        let due =
            t::table.filter(t::webhook_id.eq(webhooks::id)).filter(t::next_attempt_at.le(until));
        webhooks::table
            .filter(webhooks::is_active.eq(true))
            .filter(diesel::dsl::exists(due))
            .select(webhooks::id)
            .load(c)
            .await
    })?)
}

/// Returns the number of active webhooks.
pub async fn active_webhooks(conn: &mut Conn) -> Result<i64, Error> {
    let active = webhooks::table.filter(webhooks::is_active.eq(true));
    Ok(on_conn!(conn, |c| active.count().get_result(c).await)?)
}

/// Returns whether a webhook has at least `count` pending messages of events after a sequence; `None` counts all.
pub async fn has_pending(
    conn: &mut Conn,
    webhook: WebhookId,
    after: Option<i64>,
    count: i64,
) -> Result<bool, Error> {
    let found: Option<i64> = on_conn!(conn, |c| {
        let mut query = t::table
            .filter(t::webhook_id.eq(webhook.get()))
            .filter(t::next_attempt_at.is_not_null())
            .select(t::id)
            .order((t::next_attempt_at, t::id))
            .offset(count.saturating_sub(1))
            .into_boxed();
        if let Some(after) = after {
            query = query.filter(t::event_sequence.gt(after));
        }
        query.first(c).await.optional()
    })?;
    Ok(found.is_some())
}

/// Stores the new states of messages, with one statement. Messages that were deleted meanwhile are skipped.
pub async fn write(conn: &mut Conn, rows: &[Written]) -> Result<(), Error> {
    let json = serde_json::to_string(rows).map_err(Error::internal)?;
    let text = match conn.engine() {
        Engine::Postgres => format!(
            "UPDATE webhook_deliveries SET {SET} FROM json_to_recordset($1::json) AS r(id bigint, status text, \
             attempt integer, code integer, error text, delivered timestamp, next_at timestamp, last_at timestamp, \
             duration integer, snippet text, attempts text) WHERE webhook_deliveries.id = r.id"
        ),
        Engine::Sqlite => {
            let read: Vec<String> = READ
                .iter()
                .map(|column| format!("json_extract(value, '$.{column}') AS {column}"))
                .collect();
            format!(
                "UPDATE webhook_deliveries SET {SET} FROM (SELECT {} FROM json_each($1)) AS r \
                 WHERE webhook_deliveries.id = r.id",
                read.join(", ")
            )
        }
    };
    let update = diesel::sql_query(text).bind::<Text, _>(json);
    on_conn!(conn, |c| cached(update).execute(c).await)?;
    Ok(())
}

/// Returns messages of a webhook, newest first, after an id.
pub async fn page(
    conn: &mut Conn,
    webhook: WebhookId,
    status: Option<DeliveryStatus>,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Delivery>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = t::table
            .filter(t::webhook_id.eq(webhook.get()))
            .filter(t::id.lt(after.unwrap_or(i64::MAX)))
            .select(Delivery::as_select())
            .order(t::id.desc())
            .limit(limit)
            .into_boxed();
        if let Some(status) = status {
            query = query.filter(t::status.eq(status.as_str()));
        }
        query.load(c).await
    })?)
}

/// Returns the messages of a webhook with these ids.
pub async fn by_ids(
    conn: &mut Conn,
    webhook: WebhookId,
    ids: &[i64],
) -> Result<Vec<Delivery>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::webhook_id.eq(webhook.get()))
        .filter(t::id.eq_any(ids))
        .select(Delivery::as_select())
        .load(c)
        .await)?)
}

/// Returns finished messages of a webhook that were queued in a span, by id, after an id.
pub async fn finished_between(
    conn: &mut Conn,
    webhook: WebhookId,
    (from, until): (Timestamp, Timestamp),
    only_failed: bool,
    after: i64,
    limit: i64,
) -> Result<Vec<Delivery>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = t::table
            .filter(t::webhook_id.eq(webhook.get()))
            .filter(t::id.gt(after))
            .filter(t::created_at.ge(from).and(t::created_at.lt(until)))
            .filter(t::next_attempt_at.is_null())
            .select(Delivery::as_select())
            .order(t::id)
            .limit(limit)
            .into_boxed();
        if only_failed {
            query = query.filter(t::status.eq("failed"));
        }
        query.load(c).await
    })?)
}

/// Deletes up to `limit` messages whose last attempt was before `cutoff` and that are finished. Returns their number.
pub async fn delete_finished(
    conn: &mut Conn,
    cutoff: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    let old = t::next_attempt_at.is_null().and(t::last_attempt_at.lt(cutoff));
    Ok(delete_first!(conn, t, old, t::last_attempt_at, limit)?)
}

/// Deletes up to `limit` messages of a webhook in a state, the oldest first. Returns their number.
pub async fn delete_in_state(
    conn: &mut Conn,
    webhook: WebhookId,
    status: DeliveryStatus,
    limit: i64,
) -> Result<usize, Error> {
    let rows = t::webhook_id.eq(webhook.get()).and(t::status.eq(status.as_str()));
    Ok(delete_first!(conn, t, rows, t::id, limit)?)
}
