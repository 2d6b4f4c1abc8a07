//! Writes a batch of the recorder: new entries and outcomes of earlier entries, in one transaction.
//!
//! Invariants
//! - a batch is stored whole or not at all;
//! - an outcome is written once: a closed entry is never changed;
//! - texts are cut to the length of their columns before, so that one entry cannot make the others fail.

use std::collections::VecDeque;
use std::sync::Arc;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Text};
use diesel::{QueryResult, RunQueryDsl as Blocking, SqliteConnection};
use serde::Serialize;

use super::upsert::{self, InDoubtEntry};
use super::{Ending, Intent, Outcome, json};
use crate::clock::Timestamp;
use crate::db::cached::execute_cached;
use crate::db::schema::audit_log;
use crate::db::types::{AuditId, GatewayId};
use crate::db::{Conn, Db, PgConn};
use crate::error::{Error, Reason};

const ACTOR_CHARS_MAX: usize = 254;
const NAME_CHARS_MAX: usize = 253;
const ACTION_CHARS_MAX: usize = 100;
const RESOURCE_TYPE_CHARS_MAX: usize = 50;
const METHOD_CHARS_MAX: usize = 255;
const OWNER_CHARS_MAX: usize = 100;
const KEY_ID_CHARS_MAX: usize = 64;
/// Longer details are replaced by their length, since truncated JSON is invalid.
const DETAIL_BYTES_MAX: usize = 65_536;
/// Number of ids to reserve from PostgreSQL at once. Ids that are left when the process ends are never used.
const ID_BLOCK: usize = 512;

/// A row of the audit log.
#[derive(Debug, Insertable, Serialize)]
#[diesel(table_name = audit_log, treat_none_as_default_value = false)]
pub(super) struct AuditRow {
    #[serde(serialize_with = "json::time")]
    timestamp: Timestamp,
    actor: String,
    actor_role: &'static str,
    action: String,
    resource_type: String,
    resource_id: String,
    gateway_name: Option<String>,
    gateway_id: Option<i64>,
    detail: Option<String>,
    client_ip: Option<String>,
    principal: Option<String>,
    request_id: String,
    method: String,
    #[serde(serialize_with = "json::hex")]
    digest: Option<Vec<u8>>,
    digest_key_id: Option<String>,
    owner: String,
    #[diesel(embed)]
    #[serde(flatten)]
    pub(super) end: OutcomeColumns,
}

/// The outcome columns of an entry. All are `None` while the entry is open.
#[derive(Debug, Default, Clone, Insertable, AsChangeset, Serialize)]
#[diesel(table_name = audit_log, treat_none_as_default_value = false, treat_none_as_null = true)]
pub(super) struct OutcomeColumns {
    #[serde(serialize_with = "json::maybe_time")]
    closed_at: Option<Timestamp>,
    #[serde(serialize_with = "json::maybe_word")]
    outcome: Option<Ending>,
    code: Option<i32>,
    outcome_detail: Option<String>,
    duration_us: Option<i64>,
    bytes_in: Option<i64>,
    bytes_out: Option<i64>,
    outcome_target: Option<String>,
}

/// The outcome of an open entry.
#[derive(Debug, Serialize)]
pub(super) struct OutcomeUpdate {
    #[serde(serialize_with = "json::id")]
    pub(super) id: AuditId,
    #[serde(flatten)]
    pub(super) end: OutcomeColumns,
}

/// The rows of one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<AuditRow>,
    pub(super) closings: Vec<OutcomeUpdate>,
    /// Closed entries of earlier batches whose commit got no response: they may or may not be stored.
    pub(super) in_doubt: Vec<InDoubtEntry>,
}

impl AuditRow {
    /// Builds an entry from an intent, and its outcome if the call has already ended.
    pub(super) fn new(intent: Intent, outcome: Option<Outcome>, owner: &str) -> Self {
        let (gateway_id, gateway_name) = intent.gateway.map(|of| (of.id, of.name)).unzip();
        let (digest_key_id, digest) = intent.digest.map(|of| (of.key_id, of.bytes)).unzip();
        Self {
            timestamp: intent.at,
            actor: truncate(&intent.actor, ACTOR_CHARS_MAX),
            actor_role: intent.role.as_str(),
            action: truncate(intent.action.as_str(), ACTION_CHARS_MAX),
            resource_type: truncate(intent.action.resource_type(), RESOURCE_TYPE_CHARS_MAX),
            resource_id: truncate(&intent.resource_id, NAME_CHARS_MAX),
            gateway_name: gateway_name.map(|name| truncate(&name, NAME_CHARS_MAX)),
            gateway_id: gateway_id.flatten().map(GatewayId::get),
            detail: intent.detail.as_ref().and_then(detail_text),
            client_ip: intent.client_ip.map(|ip| ip.to_canonical().to_string()),
            principal: intent.principal.map(|principal| principal.to_string()),
            request_id: intent.request_id.to_string(),
            method: truncate(&intent.method, METHOD_CHARS_MAX),
            digest,
            digest_key_id: digest_key_id.map(|id| truncate(&id, KEY_ID_CHARS_MAX)),
            owner: truncate(owner, OWNER_CHARS_MAX),
            end: outcome.map(OutcomeColumns::from).unwrap_or_default(),
        }
    }

    /// Closes the entry with `end` if it is open.
    pub(super) fn close_if_open(mut self, end: impl FnOnce() -> OutcomeColumns) -> Self {
        if self.end.closed_at.is_none() {
            self.end = end();
        }
        self
    }
}

impl From<Outcome> for OutcomeColumns {
    fn from(outcome: Outcome) -> Self {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Self {
            closed_at: Some(outcome.at),
            outcome: Some(outcome.ending),
            code: Some(outcome.code),
            outcome_detail: outcome.detail.as_ref().and_then(detail_text),
            duration_us: Some(i64::try_from(outcome.took.as_micros()).unwrap_or(i64::MAX)),
            bytes_in: outcome.bytes.map(|(from, _)| signed(from)),
            bytes_out: outcome.bytes.map(|(_, to)| signed(to)),
            outcome_target: outcome.target.map(|target| truncate(&target, NAME_CHARS_MAX)),
        }
    }
}

/// Cuts a name to the length of its column.
pub(super) fn truncate_name(text: &str) -> String {
    truncate(text, NAME_CHARS_MAX)
}

/// Cuts a text to `chars_max` and replaces NUL, which PostgreSQL does not accept in text.
fn truncate(text: &str, chars_max: usize) -> String {
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(at, _)| at);
    text[..end].replace('\0', "\u{fffd}")
}

fn detail_text(value: &serde_json::Value) -> Option<String> {
    let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    if empty {
        return None;
    }
    let text = value.to_string();
    if text.len() <= DETAIL_BYTES_MAX {
        return Some(text);
    }
    Some(serde_json::json!({ "left_out_bytes": text.len() }).to_string())
}

impl Batch {
    /// Number of rows in the batch.
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.closings.len() + self.in_doubt.len()
    }
}

/// A batch that was not stored.
#[derive(Debug)]
pub(super) struct BatchError {
    pub(super) error: Error,
    /// Ids of the entries that may be stored nevertheless, since the response to the commit was lost.
    pub(super) in_doubt: Vec<AuditId>,
}

impl From<Error> for BatchError {
    fn from(error: Error) -> Self {
        Self { error, in_doubt: Vec::new() }
    }
}

/// Unused ids from the database. They are known before the entries are sent, so an entry in doubt can be closed.
#[derive(Debug, Default)]
pub(super) struct IdPool(VecDeque<AuditId>);

impl IdPool {
    async fn take(&mut self, conn: &mut PgConn, count: usize) -> Result<Vec<AuditId>, Error> {
        if self.0.len() < count {
            let block = i64::try_from(count.max(ID_BLOCK)).unwrap_or(i64::MAX);
            let ids: Vec<AuditId> = diesel_async::RunQueryDsl::load(NextIds(block), conn).await?;
            self.0.extend(ids);
        }
        Ok(self.0.drain(..count).collect())
    }
}

/// Stores a batch on a connection of [`Db::writer`]. Returns it, with the ids of its entries in their order.
pub(super) async fn write(
    db: &Db,
    conn: Result<Conn, Error>,
    ids: &mut IdPool,
    batch: Batch,
) -> (Batch, Result<Vec<AuditId>, BatchError>) {
    match conn {
        Ok(Conn::Pg(mut conn)) => {
            let written = write_pg(&mut conn, ids, &batch).await;
            (batch, written)
        }
        Ok(conn @ Conn::Sqlite(_)) => {
            let batch = Arc::new(batch);
            let written = write_sqlite(db, conn, Arc::clone(&batch)).await;
            // The clone of the `Arc` has been dropped.
            (Arc::into_inner(batch).unwrap_or_default(), written)
        }
        Err(error) => (batch, Err(error.into())),
    }
}

/// Writes a batch in one commit with the transactions that ended before it. Their callers and those of the entries wait
/// for the disk once.
async fn write_sqlite(db: &Db, conn: Conn, batch: Arc<Batch>) -> Result<Vec<AuditId>, BatchError> {
    let written = db.transaction_at_once_on(conn, async move |conn| match conn {
        Conn::Pg(_) => Err(other_engine()),
        Conn::Sqlite(c) => Ok(c.spawn_blocking(move |c| write_rows(c, &batch)).await?),
    });
    match written.await {
        Ok(ids) => Ok(ids),
        // SQLite reports the result of every commit: nothing is stored.
        Err(error) if error.is_in_doubt() => {
            let why = format!("the commit failed: {error}");
            Err(Error::unavailable(Reason::StorageUnavailable, why).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn other_engine() -> Error {
    Error::internal("a connection of another engine")
}

/// Runs one prepared statement per row, which is fast enough since the database runs in this process.
fn write_rows(conn: &mut SqliteConnection, batch: &Batch) -> QueryResult<Vec<AuditId>> {
    for in_doubt in &batch.in_doubt {
        upsert::sqlite(conn, in_doubt)?;
    }
    for closing in &batch.closings {
        let open = audit_log::table
            .filter(audit_log::id.eq(closing.id))
            .filter(audit_log::closed_at.is_null());
        execute_cached(diesel::update(open).set(&closing.end), conn)?;
    }
    let mut ids = Vec::with_capacity(batch.entries.len());
    for entry in &batch.entries {
        let insert = diesel::insert_into(audit_log::table).values(entry).returning(audit_log::id);
        ids.push(Blocking::get_result(insert, conn)?);
    }
    Ok(ids)
}

async fn write_pg(
    conn: &mut PgConn,
    ids: &mut IdPool,
    batch: &Batch,
) -> Result<Vec<AuditId>, BatchError> {
    if !batch.in_doubt.is_empty() {
        upsert::postgres(conn, &batch.in_doubt).await?;
    }
    let ids = ids.take(conn, batch.entries.len()).await?;
    let entries: Vec<_> =
        ids.iter().zip(&batch.entries).map(|(id, entry)| NumberedRow { id: *id, entry }).collect();
    let statement = WriteQuery {
        entries: serde_json::to_string(&entries).map_err(Error::internal)?,
        closings: serde_json::to_string(&batch.closings).map_err(Error::internal)?,
        closed: batch.closings.iter().map(|closing| closing.id).collect(),
    };
    match diesel_async::RunQueryDsl::execute(statement, conn).await.map_err(Error::from) {
        Ok(_) => Ok(ids),
        // One statement that commits by itself: without a response it may have been committed.
        Err(error @ (Error::Unavailable { .. } | Error::DeadlineExceeded { .. })) => {
            Err(BatchError { error, in_doubt: ids })
        }
        Err(error) => Err(error.into()),
    }
}

/// Reserves ids from the sequence of the table.
#[derive(QueryId)]
struct NextIds(i64);

impl Query for NextIds {
    type SqlType = BigInt;
}

impl QueryFragment<Pg> for NextIds {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT nextval('audit_log_id_seq') FROM generate_series(1, ");
        out.push_bind_param::<BigInt, _>(&self.0)?;
        out.push_sql(")");
        Ok(())
    }
}

/// An entry with the id that it is stored under.
#[derive(Serialize)]
struct NumberedRow<'a> {
    #[serde(serialize_with = "json::id")]
    id: AuditId,
    #[serde(flatten)]
    entry: &'a AuditRow,
}

/// The whole batch as one statement, which is prepared once for any number of rows.
struct WriteQuery {
    entries: String,
    closings: String,
    closed: Vec<AuditId>,
}

impl QueryId for WriteQuery {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

/// Inserts the rows of a JSON text, which follows this fragment.
pub(super) const INSERT: &str = "\
    INSERT INTO audit_log (\
      id, \"timestamp\", actor, actor_role, action, resource_type, resource_id, gateway_name, gateway_id, detail, \
      client_ip, principal, request_id, method, digest, digest_key_id, owner, closed_at, outcome, code, \
      outcome_detail, duration_us, bytes_in, bytes_out, outcome_target) \
    SELECT * FROM json_to_recordset(";
/// Follows the JSON text of [`INSERT`].
pub(super) const ROWS: &str = "::json) AS given (\
      id bigint, \"timestamp\" timestamp, actor text, actor_role text, action text, resource_type text, \
      resource_id text, gateway_name text, gateway_id bigint, detail text, client_ip text, principal text, \
      request_id text, method text, digest bytea, digest_key_id text, owner text, closed_at timestamp, outcome text, \
      code integer, outcome_detail text, duration_us bigint, bytes_in bigint, bytes_out bigint, \
      outcome_target text)";
const UPDATE: &str = "\
  ) \
  UPDATE audit_log SET \
    closed_at = given.closed_at, outcome = given.outcome, code = given.code, outcome_detail = given.outcome_detail, \
    duration_us = given.duration_us, bytes_in = given.bytes_in, bytes_out = given.bytes_out, \
    outcome_target = given.outcome_target \
  FROM json_to_recordset(";
// The ids again, as an array: PostgreSQL plans this statement once, perhaps while the table is empty. The plan must
// look up each id in an index even after the table has grown.
const WHERE: &str = "::json) AS given (\
    id bigint, closed_at timestamp, outcome text, code integer, outcome_detail text, duration_us bigint, \
    bytes_in bigint, bytes_out bigint, outcome_target text) \
  WHERE audit_log.id = given.id AND audit_log.closed_at IS NULL AND audit_log.id = ANY(";

impl QueryFragment<Pg> for WriteQuery {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH stored AS (");
        out.push_sql(INSERT);
        out.push_bind_param::<Text, _>(&self.entries)?;
        out.push_sql(ROWS);
        out.push_sql(UPDATE);
        out.push_bind_param::<Text, _>(&self.closings)?;
        out.push_sql(WHERE);
        out.push_bind_param::<Array<BigInt>, _>(&self.closed)?;
        out.push_sql(")");
        Ok(())
    }
}
