//! Rows of refused connections.

use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Text};
use diesel_async::RunQueryDsl;

use super::RefusedLine;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::rows_by_gateway::RowsByGateway;
use crate::db::schema::refused_connections as t;
use crate::db::types::GatewayId;
use crate::db::{Conn, PgConn, SqliteConn, on_conn};
use crate::error::Error;
use crate::rows_by_gateway;

/// The lines, which are old by the time at which they were read.
pub const LINES: RowsByGateway =
    rows_by_gateway!(t, |before| t::created_at.lt(before), t::created_at);

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

/// Inserts lines in the order of the arrays.
const INSERT_ALL: &str = "\
    INSERT INTO refused_connections \
    (gateway_id, sandbox_uid, at, \"binary\", host, line, line_hash, created_at) \
    SELECT $1, $2, given.line_at, given.program, given.host, given.line, given.line_hash, $3 \
    FROM unnest($4, $5, $6, $7, $8) AS given (line_at, program, host, line, line_hash) \
    ON CONFLICT DO NOTHING";

/// Stores lines that are not stored yet. Returns their number.
pub(super) async fn insert_all(
    conn: &mut Conn,
    gateway: GatewayId,
    uid: &str,
    lines: &[RefusedLine],
    now: Timestamp,
) -> Result<usize, Error> {
    match conn {
        Conn::Pg(c) => insert_pg(c, gateway, uid, lines, now).await,
        Conn::Sqlite(c) => insert_sqlite(c, gateway, uid, lines, now).await,
    }
}

/// Inserts all lines with one statement, since each statement is a network round trip.
async fn insert_pg(
    c: &mut PgConn,
    gateway: GatewayId,
    uid: &str,
    lines: &[RefusedLine],
    now: Timestamp,
) -> Result<usize, Error> {
    let texts = |of: fn(&RefusedLine) -> &str| lines.iter().map(of).collect::<Vec<&str>>();
    let times: Vec<Timestamp> = lines.iter().map(|line| line.at).collect();
    let insert = diesel::sql_query(INSERT_ALL)
        .bind::<BigInt, _>(gateway.get())
        .bind::<Text, _>(uid)
        .bind::<sql_types::Timestamp, _>(now)
        .bind::<Array<sql_types::Timestamp>, _>(times)
        .bind::<Array<Text>, _>(texts(|line| line.binary.as_str()))
        .bind::<Array<Text>, _>(texts(|line| line.host.as_str()))
        .bind::<Array<Text>, _>(texts(|line| line.line.as_str()))
        .bind::<Array<Text>, _>(texts(|line| line.line_hash.as_str()));
    Ok(cached(insert).execute(c).await?)
}

/// Inserts line by line with a prepared statement: without network round trips, one statement would not be faster.
async fn insert_sqlite(
    c: &mut SqliteConn,
    gateway: GatewayId,
    uid: &str,
    lines: &[RefusedLine],
    now: Timestamp,
) -> Result<usize, Error> {
    let mut stored = 0;
    for line in lines {
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
        let insert = diesel::insert_into(t::table).values(row).on_conflict_do_nothing();
        stored += cached(insert).execute(c).await?;
    }
    Ok(stored)
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

/// Returns ids and hosts of the newest lines of these programs of a sandbox, newest first, at most `limit`.
pub async fn newest_hosts(
    conn: &mut Conn,
    gateway: GatewayId,
    uid: &str,
    binaries: &[String],
    limit: i64,
) -> Result<Vec<(i64, String)>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway.get()).and(t::sandbox_uid.eq(uid)))
        .filter(t::binary.eq_any(binaries))
        .select((t::id, t::host))
        .order((t::at.desc(), t::id.desc()))
        .limit(limit)
        .load(c)
        .await)?)
}

/// Returns the lines with these ids, newest first.
pub async fn by_ids(conn: &mut Conn, ids: Vec<i64>) -> Result<Vec<RefusedConnection>, Error> {
    let rows = t::table.filter(t::id.eq_any(ids));
    Ok(on_conn!(conn, |c| rows
        .select(RefusedConnection::as_select())
        .order((t::at.desc(), t::id.desc()))
        .load(c)
        .await)?)
}
