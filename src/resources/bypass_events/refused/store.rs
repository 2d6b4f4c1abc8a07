//! Rows of refused connections.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::RefusedLine;
use crate::clock::Timestamp;
use crate::db::schema::refused_connections as t;
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::delete_first;
use crate::error::Error;

/// Maximum number of rows that are deleted at once. One read of a log adds fewer.
const DELETED_MAX: i64 = 100;

/// A stored line.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct RefusedConnection {
    /// Time of the line.
    pub at: Timestamp,
    /// Absolute path of the program.
    pub binary: String,
    /// Host of the destination, in lower case.
    pub host: String,
    /// The line.
    pub line: String,
}

/// Stores a line. Returns false if it is stored already.
pub(super) async fn insert(
    conn: &mut Conn,
    gateway: GatewayId,
    uid: &str,
    line: &RefusedLine,
    now: Timestamp,
) -> Result<bool, Error> {
    let row = (
        t::gateway_id.eq(gateway.get()),
        t::sandbox_uid.eq(uid),
        t::at.eq(line.at),
        t::binary.eq(&line.binary),
        t::host.eq(&line.host),
        t::line.eq(&line.line),
        t::line_hash.eq(&line.line_hash),
        t::created_at.eq(now),
    );
    let stored = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    Ok(stored == 1)
}

/// Deletes all lines of a connection, a program and a host, but the newest `keep`.
pub(super) async fn delete_older(
    conn: &mut Conn,
    gateway: GatewayId,
    uid: &str,
    (binary, host): (&str, &str),
    keep: i64,
) -> Result<(), Error> {
    let ids: Vec<i64> = on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway.get()).and(t::sandbox_uid.eq(uid)))
        .filter(t::binary.eq(binary).and(t::host.eq(host)))
        .select(t::id)
        .order((t::at.desc(), t::id.desc()))
        .offset(keep)
        .limit(DELETED_MAX)
        .load(c)
        .await)?;
    delete(conn, ids).await
}

/// Deletes all lines of a sandbox but the newest `keep`.
pub(super) async fn delete_beyond(
    conn: &mut Conn,
    gateway: GatewayId,
    uid: &str,
    keep: i64,
) -> Result<(), Error> {
    let ids: Vec<i64> = on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway.get()).and(t::sandbox_uid.eq(uid)))
        .select(t::id)
        .order((t::at.desc(), t::id.desc()))
        .offset(keep)
        .limit(DELETED_MAX)
        .load(c)
        .await)?;
    delete(conn, ids).await
}

async fn delete(conn: &mut Conn, ids: Vec<i64>) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let rows = t::table.filter(t::id.eq_any(ids));
    on_conn!(conn, |c| diesel::delete(rows).execute(c).await)?;
    Ok(())
}

/// Returns the newest lines of these programs of a sandbox, newest first, at most `limit`.
pub async fn newest(
    conn: &mut Conn,
    gateway: GatewayId,
    uid: &str,
    binaries: &[String],
    limit: i64,
) -> Result<Vec<RefusedConnection>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway.get()).and(t::sandbox_uid.eq(uid)))
        .filter(t::binary.eq_any(binaries))
        .select(RefusedConnection::as_select())
        .order((t::at.desc(), t::id.desc()))
        .limit(limit)
        .load(c)
        .await)?)
}

/// Deletes up to `limit` lines that were read before a time. Returns how many were deleted.
pub async fn delete_old(conn: &mut Conn, before: Timestamp, limit: i64) -> Result<usize, Error> {
    Ok(delete_first!(conn, t, t::created_at.lt(before), t::created_at, limit)?)
}
