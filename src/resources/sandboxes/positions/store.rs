//! Rows of positions, and gateways that were compared once.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{follow_positions as t, followed_gateways as g, gateways};
use crate::db::types::{GatewayId, SandboxName};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::openshell::sandbox::{Phase, Sandbox};

/// Last reported state of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct Position {
    /// Workspace on the gateway.
    pub workspace: String,
    /// Name on the gateway.
    pub sandbox_name: String,
    /// The gateway's id of the sandbox.
    pub sandbox_uid: String,
    /// Its phase.
    pub phase: Phase,
    /// Time of the newest line of its log that was read.
    pub log_time: Option<Timestamp>,
    /// Number of reads that have missed lines.
    pub log_gaps: i64,
    /// Number of bypass events that are not stored.
    pub bypass_dropped: i64,
}

impl Position {
    /// Returns the name of the sandbox.
    #[must_use]
    pub fn full_name(&self) -> SandboxName {
        SandboxName { workspace: self.workspace.clone(), name: self.sandbox_name.clone() }
    }
}

/// Selects the row of one sandbox with an id.
macro_rules! position_of {
    ($gateway:expr, $place:expr, $uid:expr) => {
        t::table
            .filter(t::gateway_id.eq($gateway.get()))
            .filter(t::workspace.eq(&$place.workspace))
            .filter(t::sandbox_name.eq(&$place.name))
            .filter(t::sandbox_uid.eq($uid))
    };
}

/// Returns all positions of a gateway.
pub async fn of_gateway(conn: &mut Conn, gateway: GatewayId) -> Result<Vec<Position>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway.get()))
        .select(Position::as_select())
        .load(c)
        .await)?)
}

/// Returns the position of a sandbox.
pub async fn get(
    conn: &mut Conn,
    gateway: GatewayId,
    place: &SandboxName,
) -> Result<Option<Position>, Error> {
    let key = (gateway.get(), &place.workspace, &place.name);
    Ok(on_conn!(conn, |c| t::table
        .find(key)
        .select(Position::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Stores the position of a sandbox, in place of one of a former sandbox of its name. Returns false if the sandbox has
/// one already. `log_time` is `None` for a sandbox with lines that are older than the position. An unregistered gateway
/// has no positions.
pub async fn insert(
    conn: &mut Conn,
    gateway: GatewayId,
    sandbox: &Sandbox,
    log_time: Option<Timestamp>,
) -> Result<bool, Error> {
    let registered = gateways::table.find(gateway.get()).select(gateways::id);
    let registered: Option<i64> = on_conn!(conn, |c| registered.first(c).await.optional())?;
    if registered.is_none() {
        return Ok(true);
    }
    let place = &sandbox.full_name;
    let former = t::table
        .filter(t::gateway_id.eq(gateway.get()))
        .filter(t::workspace.eq(&place.workspace))
        .filter(t::sandbox_name.eq(&place.name))
        .filter(t::sandbox_uid.ne(&sandbox.id));
    on_conn!(conn, |c| diesel::delete(former).execute(c).await)?;
    let row = (
        t::gateway_id.eq(gateway.get()),
        t::workspace.eq(&place.workspace),
        t::sandbox_name.eq(&place.name),
        t::sandbox_uid.eq(&sandbox.id),
        t::phase.eq(sandbox.phase),
        t::log_time.eq(log_time),
        t::log_gaps.eq(0_i64),
        t::bypass_dropped.eq(0_i64),
    );
    let stored = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    Ok(stored == 1)
}

/// Stores the phase of a sandbox. Returns false if the same was stored already, or the sandbox has no position any more.
pub async fn set_phase(
    conn: &mut Conn,
    gateway: GatewayId,
    sandbox: &Sandbox,
) -> Result<bool, Error> {
    let place = &sandbox.full_name;
    let row = position_of!(gateway, place, &sandbox.id).filter(t::phase.ne(sandbox.phase));
    let set = t::phase.eq(sandbox.phase);
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Position up to which the log of a sandbox was read.
#[derive(Debug, Clone, Copy)]
pub struct LogRead<'a> {
    /// Name of the sandbox.
    pub place: &'a SandboxName,
    /// The gateway's id of the sandbox.
    pub uid: &'a str,
    /// Time of the newest line, but not later than when it was read.
    pub log_time: Option<Timestamp>,
    /// Whether lines were missed.
    pub has_gap: bool,
    /// Number of bypass events that are not stored.
    pub dropped: i64,
}

/// Stores what was read of the log of a sandbox. Returns false if the sandbox has no position any more.
pub async fn set_log(
    conn: &mut Conn,
    gateway: GatewayId,
    read: LogRead<'_>,
) -> Result<bool, Error> {
    let row = position_of!(gateway, read.place, read.uid);
    let set = (
        t::log_time.eq(read.log_time),
        t::log_gaps.eq(t::log_gaps + i64::from(read.has_gap)),
        t::bypass_dropped.eq(t::bypass_dropped + read.dropped),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Deletes the position of a sandbox.
pub async fn delete(conn: &mut Conn, gateway: &str, place: &SandboxName) -> Result<(), Error> {
    let id: Option<i64> = on_conn!(conn, |c| gateways::table
        .filter(gateways::name.eq(gateway))
        .select(gateways::id)
        .first(c)
        .await
        .optional())?;
    let Some(id) = id else { return Ok(()) };
    let row = t::table.find((id, &place.workspace, &place.name));
    on_conn!(conn, |c| diesel::delete(row).execute(c).await)?;
    Ok(())
}

/// Stores that the sandboxes of a gateway were compared once.
pub async fn set_followed(
    conn: &mut Conn,
    gateway: GatewayId,
    now: Timestamp,
) -> Result<(), Error> {
    let row = (g::gateway_id.eq(gateway.get()), g::since.eq(now));
    on_conn!(conn, |c| diesel::insert_into(g::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    Ok(())
}
