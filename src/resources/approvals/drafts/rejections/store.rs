//! Rejections that a gateway does not know yet, and what they have removed.

use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;
use tracing::warn;

use crate::db::cached::cached;
use crate::db::schema::{approval_round_outcomes as o, draft_rejections as r};
use crate::db::types::{ApprovalRoundId, GatewayId, SandboxName, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::resources::approvals::rounds::Round;

/// SQL condition of a rejection that can be compared with its chunk: the chunks of its sandbox are not too large.
const IS_READABLE: &str = "NOT EXISTS (SELECT 1 FROM draft_states \
                           WHERE draft_states.gateway_id = draft_rejections.gateway_id \
                           AND draft_states.workspace = draft_rejections.workspace \
                           AND draft_states.sandbox_name = draft_rejections.sandbox_name \
                           AND draft_states.overflowing)";

/// A rejection that the gateway does not know yet.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = r)]
pub struct Rejection {
    /// The round that has ended.
    pub round_id: ApprovalRoundId,
    /// Workspace of the sandbox.
    pub workspace: String,
    /// Name of the sandbox.
    pub sandbox_name: String,
    /// The gateway's id of the sandbox.
    pub sandbox_id: Option<String>,
    /// The gateway's id of the chunk.
    pub chunk_id: String,
    /// Why, for people.
    pub reason: String,
    /// The newest version of the policy before the rejection was sent first; `None` if it was not sent yet.
    pub sent_version: Option<i64>,
}

/// Stores that the gateway does not know yet that a round has rejected its chunk.
pub async fn insert(conn: &mut Conn, round: &Round, reason: &str) -> Result<(), Error> {
    let row = (
        r::round_id.eq(round.id.get()),
        r::gateway_id.eq(round.place.gateway.id.get()),
        r::workspace.eq(round.place.workspace()),
        r::sandbox_name.eq(round.place.sandbox()),
        r::sandbox_id.eq(&round.sandbox_id),
        r::chunk_id.eq(&round.chunk_id),
        r::reason.eq(reason),
    );
    on_conn!(conn, |c| diesel::insert_into(r::table).values(row).execute(c).await)?;
    Ok(())
}

/// Returns rejections that a gateway does not know yet, oldest first, at most `limit`. Those of sandboxes whose chunks
/// are too large to be read are left out: they cannot be sent, and must not take the places of others.
pub async fn list(
    conn: &mut Conn,
    gateway: GatewayId,
    limit: i64,
) -> Result<Vec<Rejection>, Error> {
    Ok(on_conn!(conn, |c| {
        let query = r::table
            .filter(r::gateway_id.eq(gateway.get()))
            .filter(diesel::dsl::sql::<Bool>(IS_READABLE))
            .select(Rejection::as_select())
            .order(r::round_id)
            .limit(limit);
        cached(query).load(c).await
    })?)
}

/// Returns the rejection of a chunk that its gateway does not know yet.
pub async fn of_chunk(
    conn: &mut Conn,
    place: &SandboxRef,
    chunk_id: &str,
) -> Result<Option<Rejection>, Error> {
    Ok(on_conn!(conn, |c| r::table
        .filter(r::gateway_id.eq(place.gateway.id.get()))
        .filter(r::workspace.eq(place.workspace()))
        .filter(r::sandbox_name.eq(place.sandbox()))
        .filter(r::chunk_id.eq(chunk_id))
        .select(Rejection::as_select())
        .order(r::round_id.desc())
        .first(c)
        .await
        .optional())?)
}

/// Stores the newest version of the policy before a rejection is sent. A rejection that was sent before keeps its version.
pub async fn set_sent(conn: &mut Conn, round: ApprovalRoundId, version: i64) -> Result<(), Error> {
    let row = r::table.filter(r::round_id.eq(round.get())).filter(r::sent_version.is_null());
    let set = r::sent_version.eq(version);
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Stores that the gateway knows the rejection of a round, or needs not to know it. Returns false if that was stored
/// before.
pub async fn set_told(conn: &mut Conn, round: ApprovalRoundId) -> Result<bool, Error> {
    let row = r::table.find(round.get());
    let deleted = on_conn!(conn, |c| diesel::delete(row).execute(c).await)?;
    let (row, set) = (o::table.find(round.get()), o::gateway_told.eq(true));
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(deleted > 0)
}

/// Stores the version of the policy without the rule that the rejection of a round has removed.
pub async fn set_removed(
    conn: &mut Conn,
    round: ApprovalRoundId,
    version: i64,
) -> Result<(), Error> {
    let (row, set) = (o::table.find(round.get()), o::removed_version.eq(version));
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Deletes the rejections of these rounds.
pub async fn delete(conn: &mut Conn, rounds: &[i64]) -> Result<(), Error> {
    let rows = r::table.filter(r::round_id.eq_any(rounds));
    on_conn!(conn, |c| diesel::delete(rows).execute(c).await)?;
    Ok(())
}

impl Rejection {
    /// Returns the name of the sandbox.
    #[must_use]
    pub fn sandbox(&self) -> SandboxName {
        SandboxName { workspace: self.workspace.clone(), name: self.sandbox_name.clone() }
    }

    /// Returns whether it is about a sandbox with this id of the gateway.
    #[must_use]
    pub fn is_of(&self, sandbox_id: &str) -> bool {
        let Some(rejected) = &self.sandbox_id else {
            // Only of an import: it could be about another sandbox of that name.
            warn!(
                round = self.round_id.get(),
                "a rejection without the id of its sandbox is not sent"
            );
            return false;
        };
        rejected == sandbox_id
    }
}
