//! The next reminders of rounds. They are not part of [`Round`](super::Round), since nothing else depends on them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::approval_rounds as t;
use crate::db::types::ApprovalRoundId;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Returns the next reminder of a round.
pub async fn remind_at(conn: &mut Conn, id: ApprovalRoundId) -> Result<Option<Timestamp>, Error> {
    let row = t::table.find(id.get()).select(t::remind_at);
    Ok(on_conn!(conn, |c| row.first(c).await)?)
}

/// Stores the next reminder of a round.
pub async fn set(conn: &mut Conn, id: ApprovalRoundId, at: Option<Timestamp>) -> Result<(), Error> {
    let (row, set) = (t::table.find(id.get()), t::remind_at.eq(at));
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}
