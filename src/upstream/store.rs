//! Reads gateways from the database. Secrets stay encrypted.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::future;

use super::row::{GatewayRow, GatewayStatus};
use crate::db::schema::gateways;
use crate::db::types::GatewayId;
use crate::db::{Conn, PgConn, SqliteConn, on_conn};
use crate::error::Error;

/// Which gateways are read.
#[derive(Debug, Clone, Copy)]
enum GatewayFilter<'a> {
    All,
    /// Not as a list of one: SQLite gets lists as texts of their length, which are prepared again at each execution.
    Id(GatewayId),
    Ids(&'a [GatewayId]),
    Name(&'a str),
}

/// The one query of all columns: each more costs seconds of every build.
macro_rules! rows {
    ($c:expr, $filter:expr) => {{
        let mut query = gateways::table.select(GatewayRow::as_select()).into_boxed();
        match $filter {
            GatewayFilter::All => {}
            GatewayFilter::Id(id) => query = query.filter(gateways::id.eq(id.get())),
            GatewayFilter::Ids(ids) => {
                let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
                query = query.filter(gateways::id.eq_any(ids));
            }
            GatewayFilter::Name(name) => query = query.filter(gateways::name.eq(name)),
        }
        query.load($c).await
    }};
}

async fn load_postgres(
    mut c: &PgConn,
    filter: GatewayFilter<'_>,
) -> Result<Vec<GatewayRow>, Error> {
    Ok(rows!(&mut c, filter)?)
}

async fn load_sqlite(
    c: &mut SqliteConn,
    filter: GatewayFilter<'_>,
) -> Result<Vec<GatewayRow>, Error> {
    Ok(rows!(c, filter)?)
}

/// Reads gateways.
async fn load(conn: &mut Conn, filter: GatewayFilter<'_>) -> Result<Vec<GatewayRow>, Error> {
    match conn {
        Conn::Pg(c) => load_postgres(c, filter).await,
        Conn::Sqlite(c) => load_sqlite(c, filter).await,
    }
}

/// Returns a gateway by id and locks its row: no other transaction can change or delete it until this one ends. On
/// PostgreSQL this is one round trip; on SQLite, the transaction already holds the database's only write lock.
pub async fn lock(conn: &mut Conn, id: GatewayId) -> Result<Option<GatewayRow>, Error> {
    match conn {
        Conn::Pg(c) => lock_postgres(c, id).await,
        Conn::Sqlite(c) => lock_sqlite(c, id).await,
    }
}

/// Does the same as [`lock`] on SQLite.
pub async fn lock_sqlite(c: &mut SqliteConn, id: GatewayId) -> Result<Option<GatewayRow>, Error> {
    Ok(load_sqlite(c, GatewayFilter::Id(id)).await?.pop())
}

/// Does the same as [`lock`] on PostgreSQL. Its statements can be sent with others.
pub async fn lock_postgres(c: &PgConn, id: GatewayId) -> Result<Option<GatewayRow>, Error> {
    let mut locking = c;
    let row = gateways::table.find(id.get()).select(gateways::id);
    // Not `FOR UPDATE`: rows that reference the gateway can be added while it is locked.
    let lock = row.for_no_key_update().load::<i64>(&mut locking);
    // The server executes the query after the lock is granted, in a snapshot of its own.
    let (locked, found) = future::join(lock, load_postgres(c, GatewayFilter::Id(id))).await;
    locked?;
    Ok(found?.pop())
}

/// Returns the gateways with these ids; missing ones are skipped.
pub async fn by_ids(conn: &mut Conn, ids: &[GatewayId]) -> Result<Vec<GatewayRow>, Error> {
    load(conn, GatewayFilter::Ids(ids)).await
}

/// Returns a gateway by id.
pub async fn by_id(conn: &mut Conn, id: GatewayId) -> Result<Option<GatewayRow>, Error> {
    Ok(load(conn, GatewayFilter::Id(id)).await?.pop())
}

/// Returns a gateway by name.
pub async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<GatewayRow>, Error> {
    Ok(load(conn, GatewayFilter::Name(name)).await?.pop())
}

/// Returns the gateways that did not answer their last probe.
pub async fn ids_unreachable(conn: &mut Conn) -> Result<HashSet<GatewayId>, Error> {
    let ids: Vec<i64> = on_conn!(conn, |c| gateways::table
        .filter(gateways::last_status.eq(GatewayStatus::Unreachable))
        .select(gateways::id)
        .load(c)
        .await)?;
    Ok(ids.into_iter().map(GatewayId).collect())
}

/// Returns all gateways.
pub async fn all(conn: &mut Conn) -> Result<Vec<GatewayRow>, Error> {
    load(conn, GatewayFilter::All).await
}
