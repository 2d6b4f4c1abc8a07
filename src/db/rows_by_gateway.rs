//! The queries that limit the rows of a table by their age, and by their number for each gateway: a gateway can send
//! any number of what is stored (T20).
//!
//! They are a value, which [`rows_by_gateway!`](crate::rows_by_gateway) makes for a table, so that a job does the same
//! with each of its tables.
//!
//! Invariant: no query reads more rows than the number that it gets, or than one gateway has.

use futures_util::future::BoxFuture;

use super::Conn;
use super::types::GatewayId;
use crate::clock::Timestamp;
use crate::error::Error;

/// Result of a query.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// The queries of one table. A row with a higher id was stored later.
#[derive(Debug, Clone, Copy)]
pub struct RowsByGateway {
    /// Returns whether the table has more rows than this number. Counts no rows if the ids show that it has not.
    pub has_more_than: for<'a> fn(&'a mut Conn, i64) -> Answer<'a, bool>,
    /// Returns the gateway that has rows and the lowest id above this number.
    pub next_gateway: for<'a> fn(&'a mut Conn, i64) -> Answer<'a, Option<GatewayId>>,
    /// Returns the id of the newest row of a gateway that is not among this number of its newest rows.
    pub newest_beyond: for<'a> fn(&'a mut Conn, GatewayId, i64) -> Answer<'a, Option<i64>>,
    /// Deletes rows of a gateway whose id is at most the first number, the oldest first, and at most the second number
    /// of them. Returns how many were deleted.
    pub delete_up_to: for<'a> fn(&'a mut Conn, GatewayId, i64, i64) -> Answer<'a, usize>,
    /// Deletes rows that are older than this time, at most this number. Returns how many were deleted.
    pub delete_old: for<'a> fn(&'a mut Conn, Timestamp, i64) -> Answer<'a, usize>,
}

/// Returns the [`RowsByGateway`](crate::db::rows_by_gateway::RowsByGateway) of a table with the columns `id` and
/// `gateway_id`. Rows that match the filter are older than its time, and are deleted in the given order.
#[macro_export]
macro_rules! rows_by_gateway {
    ($table:ident, |$before:ident| $is_old:expr, $order:expr) => {{
        async fn has_more_than(
            conn: &mut $crate::db::Conn,
            count: i64,
        ) -> Result<bool, $crate::error::Error> {
            let ids = || $table::table.select($table::id);
            let first = ids().order($table::id);
            let last = ids().order($table::id.desc());
            let first: Option<i64> = $crate::on_conn!(conn, |c| first.first(c).await.optional())?;
            let last: Option<i64> = $crate::on_conn!(conn, |c| last.first(c).await.optional())?;
            if first.zip(last).is_none_or(|(first, last)| last.saturating_sub(first) < count) {
                return Ok(false);
            }
            let next = ids().order($table::id).offset(count);
            let next: Option<i64> = $crate::on_conn!(conn, |c| next.first(c).await.optional())?;
            Ok(next.is_some())
        }

        async fn next_gateway(
            conn: &mut $crate::db::Conn,
            after: i64,
        ) -> Result<Option<$crate::db::types::GatewayId>, $crate::error::Error> {
            let next: Option<i64> = $crate::on_conn!(conn, |c| $table::table
                .filter($table::gateway_id.gt(after))
                .select($table::gateway_id)
                .order($table::gateway_id)
                .first(c)
                .await
                .optional())?;
            Ok(next.map($crate::db::types::GatewayId))
        }

        async fn newest_beyond(
            conn: &mut $crate::db::Conn,
            gateway: $crate::db::types::GatewayId,
            keep: i64,
        ) -> Result<Option<i64>, $crate::error::Error> {
            Ok($crate::on_conn!(conn, |c| $table::table
                .filter($table::gateway_id.eq(gateway.get()))
                .select($table::id)
                .order($table::id.desc())
                .offset(keep)
                .first(c)
                .await
                .optional())?)
        }

        async fn delete_up_to(
            conn: &mut $crate::db::Conn,
            gateway: $crate::db::types::GatewayId,
            last: i64,
            limit: i64,
        ) -> Result<usize, $crate::error::Error> {
            let found = $table::gateway_id.eq(gateway.get()).and($table::id.le(last));
            Ok($crate::delete_first!(conn, $table, found, $table::id, limit)?)
        }

        async fn delete_old(
            conn: &mut $crate::db::Conn,
            $before: $crate::clock::Timestamp,
            limit: i64,
        ) -> Result<usize, $crate::error::Error> {
            Ok($crate::delete_first!(conn, $table, $is_old, $order, limit)?)
        }

        $crate::db::rows_by_gateway::RowsByGateway {
            has_more_than: |conn, count| Box::pin(has_more_than(conn, count)),
            next_gateway: |conn, after| Box::pin(next_gateway(conn, after)),
            newest_beyond: |conn, gateway, keep| Box::pin(newest_beyond(conn, gateway, keep)),
            delete_up_to: |conn, gateway, last, limit| {
                Box::pin(delete_up_to(conn, gateway, last, limit))
            },
            delete_old: |conn, before, limit| Box::pin(delete_old(conn, before, limit)),
        }
    }};
}
