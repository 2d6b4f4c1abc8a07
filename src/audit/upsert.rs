//! Writes entries outside of a batch: those of another transaction, and those in doubt, which may or may not be stored.
//!
//! A commit whose response was lost may be done, refused, or still in progress while this runs. Each entry is therefore
//! written with its known id, and closed: PostgreSQL makes the second write of an id wait for the first one. An UPDATE
//! alone would find no row while the first write is in progress, and leave the entry open.
//!
//! Invariants
//! - each entry in doubt is stored once and closed when this returns `Ok`;
//! - a stored outcome is not changed.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl as Blocking, SqliteConnection};
use serde::Serialize;

use super::batch::{AuditRow, INSERT, ROWS};
use super::json;
use crate::db::cached::execute_cached;
use crate::db::schema::audit_log;
use crate::db::types::AuditId;
use crate::db::{Conn, PgConn, on_conn};
use crate::error::Error;

/// Stores an entry in the transaction of what it is about.
pub(super) async fn insert(conn: &mut Conn, entry: &AuditRow) -> Result<(), Error> {
    on_conn!(conn, |c| {
        let insert = diesel::insert_into(audit_log::table).values(entry);
        diesel_async::RunQueryDsl::execute(insert, c).await
    })?;
    Ok(())
}

/// A closed entry that may already be stored, possibly as open.
#[derive(Debug, Serialize)]
pub(super) struct InDoubtEntry {
    #[serde(serialize_with = "json::id")]
    pub(super) id: AuditId,
    #[serde(flatten)]
    pub(super) entry: AuditRow,
}

/// Follows the rows: closes entries that are stored and open.
const CLOSE: &str = " \
  ON CONFLICT (id) DO UPDATE SET \
    closed_at = excluded.closed_at, outcome = excluded.outcome, code = excluded.code, \
    outcome_detail = excluded.outcome_detail, duration_us = excluded.duration_us, bytes_in = excluded.bytes_in, \
    bytes_out = excluded.bytes_out, outcome_target = excluded.outcome_target \
  WHERE audit_log.closed_at IS NULL";

/// Writes all entries in one statement, which may be repeated.
pub(super) async fn postgres(conn: &mut PgConn, in_doubt: &[InDoubtEntry]) -> Result<(), Error> {
    let rows = serde_json::to_string(in_doubt).map_err(Error::internal)?;
    diesel_async::RunQueryDsl::execute(UpsertQuery { rows }, conn).await?;
    Ok(())
}

/// Writes one entry. SQLite reports the result of every commit, so this exists for completeness. Both statements may be
/// repeated.
pub(super) fn sqlite(conn: &mut SqliteConnection, in_doubt: &InDoubtEntry) -> QueryResult<()> {
    let InDoubtEntry { id, entry } = in_doubt;
    let open =
        audit_log::table.filter(audit_log::id.eq(*id)).filter(audit_log::closed_at.is_null());
    execute_cached(diesel::update(open).set(&entry.end), conn)?;
    let insert = diesel::insert_or_ignore_into(audit_log::table);
    Blocking::execute(insert.values((audit_log::id.eq(*id), entry)), conn)?;
    Ok(())
}

struct UpsertQuery {
    rows: String,
}

impl QueryId for UpsertQuery {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl QueryFragment<Pg> for UpsertQuery {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(INSERT);
        out.push_bind_param::<Text, _>(&self.rows)?;
        out.push_sql(ROWS);
        out.push_sql(CLOSE);
        Ok(())
    }
}
