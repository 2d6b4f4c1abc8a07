//! Writes entries of which nobody knows whether they are stored.
//!
//! A commit whose answer was lost may be done, refused, or still on its way while this runs. Each entry is therefore
//! written under the id that it had, and closed: PostgreSQL lets the second write of an id wait for the first one. An
//! UPDATE alone would find no row while the first one is on its way, and leave the entry open.
//!
//! Invariants
//! - an entry is there once and closed when this has been answered;
//! - an outcome that is stored is not changed.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl as Blocking, SqliteConnection};
use serde::Serialize;

use super::batch::{self, Entry, INSERT, ROWS};
use crate::db::PgConn;
use crate::db::schema::audit_log;
use crate::db::types::AuditId;
use crate::error::Error;

/// A closed entry that is perhaps stored already, perhaps open.
#[derive(Debug, Serialize)]
pub(super) struct Doubtful {
    #[serde(serialize_with = "batch::id")]
    pub(super) id: AuditId,
    #[serde(flatten)]
    pub(super) entry: Entry,
}

/// Follows the rows: closes what is stored and open.
const CLOSE: &str = " \
  ON CONFLICT (id) DO UPDATE SET \
    closed_at = excluded.closed_at, outcome = excluded.outcome, code = excluded.code, \
    outcome_detail = excluded.outcome_detail, duration_us = excluded.duration_us, bytes_in = excluded.bytes_in, \
    bytes_out = excluded.bytes_out, outcome_target = excluded.outcome_target \
  WHERE audit_log.closed_at IS NULL";

/// All of them in one statement, which may be repeated.
pub(super) async fn postgres(conn: &mut PgConn, doubtful: &[Doubtful]) -> Result<(), Error> {
    let rows = serde_json::to_string(doubtful).map_err(Error::internal)?;
    diesel_async::RunQueryDsl::execute(Upsert { rows }, conn).await?;
    Ok(())
}

/// One of them. SQLite answers every commit, so that this is for completeness: both statements may be repeated.
pub(super) fn sqlite(conn: &mut SqliteConnection, doubtful: &Doubtful) -> QueryResult<()> {
    let Doubtful { id, entry } = doubtful;
    let open =
        audit_log::table.filter(audit_log::id.eq(*id)).filter(audit_log::closed_at.is_null());
    Blocking::execute(diesel::update(open).set(&entry.end), conn)?;
    let insert = diesel::insert_or_ignore_into(audit_log::table);
    Blocking::execute(insert.values((audit_log::id.eq(*id), entry)), conn)?;
    Ok(())
}

struct Upsert {
    rows: String,
}

impl QueryId for Upsert {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl QueryFragment<Pg> for Upsert {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(INSERT);
        out.push_bind_param::<Text, _>(&self.rows)?;
        out.push_sql(ROWS);
        out.push_sql(CLOSE);
        Ok(())
    }
}
