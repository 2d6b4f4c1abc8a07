//! Rows of the health history of gateways.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{gateway_probe_hours as hours, gateway_states as states};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::upstream::row::GatewayStatus;

/// A state, which lasts until the next one begins.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = states)]
pub struct HealthState {
    /// Id of the gateway.
    pub gateway_id: i64,
    /// When a probe first found it.
    pub began_at: Timestamp,
    /// Status.
    pub status: GatewayStatus,
    /// The version that it reported.
    pub gateway_version: Option<String>,
    /// Why the probe failed.
    pub error: Option<String>,
}

/// The probes of an hour.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = hours)]
pub struct ProbeHour {
    /// Id of the gateway.
    pub gateway_id: i64,
    /// Beginning of the hour.
    pub hour_at: Timestamp,
    /// Number of probes.
    pub probes: i64,
    /// Number of failed probes.
    pub failures: i64,
    /// Latencies in microseconds, four big-endian bytes each.
    pub latencies: Vec<u8>,
}

/// Returns the states of a gateway, newest first.
pub async fn states(conn: &mut Conn, gateway: i64, limit: i64) -> Result<Vec<HealthState>, Error> {
    Ok(on_conn!(conn, |c| states::table
        .filter(states::gateway_id.eq(gateway))
        .select(HealthState::as_select())
        .order(states::id.desc())
        .limit(limit)
        .load(c)
        .await)?)
}

/// Adds a state. Deletes those that ended before `cutoff` and all but the newest `most`.
pub async fn add(
    conn: &mut Conn,
    state: &HealthState,
    cutoff: Timestamp,
    most: i64,
) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::insert_into(states::table).values(state).execute(c).await)?;
    let of = states::gateway_id.eq(state.gateway_id);
    let ended: Option<i64> = on_conn!(conn, |c| states::table
        .filter(of.and(states::began_at.lt(cutoff)))
        .select(diesel::dsl::max(states::id))
        .first(c)
        .await)?;
    let beyond: Option<i64> = on_conn!(conn, |c| states::table
        .filter(of)
        .select(states::id)
        .order(states::id.desc())
        .offset(most)
        .first(c)
        .await
        .optional())?;
    // The last state that began before the cutoff may have ended after it.
    let until = ended.map(|id| id - 1).max(beyond);
    if let Some(until) = until {
        let old = states::table.filter(of.and(states::id.le(until)));
        on_conn!(conn, |c| diesel::delete(old).execute(c).await)?;
    }
    Ok(())
}

/// Returns the hours of a gateway since `since`.
pub async fn hours(
    conn: &mut Conn,
    gateway: i64,
    since: Timestamp,
) -> Result<Vec<ProbeHour>, Error> {
    Ok(on_conn!(conn, |c| hours::table
        .filter(hours::gateway_id.eq(gateway).and(hours::hour_at.ge(since)))
        .select(ProbeHour::as_select())
        .order(hours::hour_at)
        .load(c)
        .await)?)
}

/// Inserts or replaces an hour. Deletes hours before `cutoff` when a new hour begins.
pub async fn put(conn: &mut Conn, hour: &ProbeHour, cutoff: Timestamp) -> Result<(), Error> {
    let then = (
        hours::probes.eq(hour.probes),
        hours::failures.eq(hour.failures),
        hours::latencies.eq(&hour.latencies),
    );
    let upsert = diesel::insert_into(hours::table)
        .values(hour)
        .on_conflict((hours::gateway_id, hours::hour_at))
        .do_update()
        .set(then);
    on_conn!(conn, |c| cached(upsert).execute(c).await)?;
    if hour.probes == 1 {
        let of = hours::gateway_id.eq(hour.gateway_id);
        let old = hours::table.filter(of.and(hours::hour_at.lt(cutoff)));
        on_conn!(conn, |c| diesel::delete(old).execute(c).await)?;
    }
    Ok(())
}
