//! Operations of a gateway that is being removed.

mod store;

use super::begin::emit_event;
use super::store::Operation;
use crate::app::App;
use crate::ctx::{Ctx, Tx};
use crate::db::Conn;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::outbox::event_types;
use crate::resources::operations::leases::LocalOperations;

/// Counts the active operations of a gateway.
pub async fn count_open(conn: &mut Conn, gateway: GatewayId) -> Result<i64, Error> {
    store::count_open(conn, gateway).await
}

/// Marks all active operations of a gateway as `cancelling`, in the transaction that removes the gateway. Call [`stop`]
/// after the commit.
pub async fn mark_cancelling(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: GatewayId,
) -> Result<Vec<Operation>, Error> {
    let asked = store::mark_cancelling(tx, gateway, ctx.now()).await?;
    for row in &asked {
        emit_event(tx, ctx, event_types::OPERATION_CANCELLING, row).await?;
    }
    Ok(asked)
}

/// Stops the work of those that run in this process. Other replicas notice the cancellation within a second.
pub fn stop(app: &App, asked: &[Operation]) {
    for row in asked {
        app.part::<LocalOperations>().feed.notify(&row.id, row.version);
        app.part::<LocalOperations>().cancel(&row.id);
    }
}
