//! The next reminders of rounds. They are not part of [`Round`](super::Round), since nothing else depends on them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::schema::approval_rounds as t;
use crate::db::types::{ApprovalRoundId, GatewayId};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::resources::approvals::rounds::RoundState;

/// Returns the open rounds with a reminder that is due, the longest due first, at most `limit`, each with its gateway.
pub async fn due(
    conn: &mut Conn,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<(ApprovalRoundId, GatewayId)>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::closed_at.is_null().and(t::remind_at.le(now)))
        .filter(t::state.eq(RoundState::Open))
        .select((t::id, t::gateway_id))
        .order(t::remind_at)
        .limit(limit)
        .load(c)
        .await)?)
}

/// Returns the next reminder of a round.
pub async fn remind_at(conn: &mut Conn, id: ApprovalRoundId) -> Result<Option<Timestamp>, Error> {
    let row = t::table.find(id.get()).select(t::remind_at);
    Ok(on_conn!(conn, |c| row.first(c).await)?)
}

/// Stores the next reminder of a round.
pub async fn set(conn: &mut Conn, id: ApprovalRoundId, at: Option<Timestamp>) -> Result<(), Error> {
    let (row, set) = (t::table.find(id.get()), t::remind_at.eq(at));
    on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)?;
    Ok(())
}
