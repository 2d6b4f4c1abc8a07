//! Rows of the operations of one gateway.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::schema::operations;
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::resources::operations::state::{Status, Transition, active};
use crate::resources::operations::store::Operation;

/// Counts the active operations of a gateway.
pub(super) async fn count_open(conn: &mut Conn, gateway: GatewayId) -> Result<i64, Error> {
    let open = operations::gateway_id.eq(gateway).and(operations::status.eq_any(active()));
    Ok(on_conn!(conn, |c| operations::table.filter(open).count().get_result(c).await)?)
}

/// Marks all pending and running operations of a gateway as `cancelling` and returns them.
pub(super) async fn mark_cancelling(
    conn: &mut Conn,
    gateway: GatewayId,
    now: Timestamp,
) -> Result<Vec<Operation>, Error> {
    use operations as t;
    let rows = t::table
        .filter(t::gateway_id.eq(gateway))
        .filter(t::status.eq_any(Transition::Cancel.from()));
    let set =
        (t::status.eq(Status::Cancelling), t::updated_at.eq(now), t::version.eq(t::version + 1));
    Ok(on_conn!(conn, |c| diesel::update(rows)
        .set(set)
        .returning(Operation::as_returning())
        .get_results(c)
        .await)?)
}
