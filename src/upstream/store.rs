//! Reads gateways from the database. Secrets stay encrypted.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::row::Row;
use crate::db::schema::gateways;
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Returns the gateways with these ids; missing ones are skipped.
pub async fn by_ids(conn: &mut Conn, ids: &[GatewayId]) -> Result<Vec<Row>, Error> {
    let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    Ok(on_conn!(conn, |c| gateways::table
        .filter(gateways::id.eq_any(ids))
        .select(Row::as_select())
        .load(c)
        .await)?)
}

/// Returns all gateways.
pub async fn all(conn: &mut Conn) -> Result<Vec<Row>, Error> {
    Ok(on_conn!(conn, |c| gateways::table.select(Row::as_select()).load(c).await)?)
}
