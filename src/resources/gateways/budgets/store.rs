//! Rows of exceeded budgets of gateways.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::gateway_budgets as t;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// The last excess of a gateway.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct ExcessRow {
    /// Id of the gateway.
    pub gateway_id: i64,
    /// Kind of data that exceeded the budget.
    pub sent: String,
    /// Limit.
    pub most: i64,
    /// When the excess ends.
    pub until_at: Timestamp,
}

/// Returns the last excess of a gateway.
pub async fn last(conn: &mut Conn, gateway: i64) -> Result<Option<ExcessRow>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway))
        .select(ExcessRow::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Stores an excess, and returns whether it is a new one. If several replicas store one at the same time, only one of
/// them gets `true`.
pub async fn put(conn: &mut Conn, row: &ExcessRow, now: Timestamp) -> Result<bool, Error> {
    let to = (t::sent.eq(&row.sent), t::most.eq(row.most), t::until_at.eq(row.until_at));
    let new = (t::gateway_id.eq(row.gateway_id), to);
    let first = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(new)
        .on_conflict(t::gateway_id)
        .do_nothing()
        .execute(c)
        .await)?;
    if first == 1 {
        return Ok(true);
    }
    let at = t::table.filter(t::gateway_id.eq(row.gateway_id));
    let over = at.filter(t::until_at.le(now));
    if on_conn!(conn, |c| cached(diesel::update(over).set(to)).execute(c).await)? == 1 {
        return Ok(true);
    }
    on_conn!(conn, |c| cached(diesel::update(at).set(to)).execute(c).await)?;
    Ok(false)
}
