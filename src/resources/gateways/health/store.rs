//! What gateways were found to be, as rows.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::schema::{gateway_probe_hours as hours, gateway_states as states};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::upstream::row::Status;

/// A state, from its beginning to that of the next.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = states)]
pub struct State {
    /// Id of the gateway.
    pub gateway_id: i64,
    /// When a probe found it first.
    pub began_at: Timestamp,
    /// How the gateway answered.
    pub status: Status,
    /// The version that it reported.
    pub gateway_version: Option<String>,
    /// Why the probe failed.
    pub error: Option<String>,
}

/// The probes of an hour.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = hours)]
pub struct Hour {
    /// Id of the gateway.
    pub gateway_id: i64,
    /// Its beginning.
    pub hour_at: Timestamp,
    /// How many probes.
    pub probes: i64,
    /// How many of them failed.
    pub failures: i64,
    /// Microseconds of each answer, four bytes each.
    pub latencies: Vec<u8>,
}

/// The states of a gateway, the newest first.
pub async fn states(conn: &mut Conn, gateway: i64, limit: i64) -> Result<Vec<State>, Error> {
    Ok(on_conn!(conn, |c| states::table
        .filter(states::gateway_id.eq(gateway))
        .select(State::as_select())
        .order(states::id.desc())
        .limit(limit)
        .load(c)
        .await)?)
}

/// Adds a state, and forgets what had ended before `cutoff` and all beyond the newest `most`.
pub async fn add(
    conn: &mut Conn,
    state: &State,
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
    // The last one that began before the cutoff may have gone on after it.
    let until = ended.map(|id| id - 1).max(beyond);
    if let Some(until) = until {
        let old = states::table.filter(of.and(states::id.le(until)));
        on_conn!(conn, |c| diesel::delete(old).execute(c).await)?;
    }
    Ok(())
}

/// The hours of a gateway from `since` on.
pub async fn hours(conn: &mut Conn, gateway: i64, since: Timestamp) -> Result<Vec<Hour>, Error> {
    Ok(on_conn!(conn, |c| hours::table
        .filter(hours::gateway_id.eq(gateway).and(hours::hour_at.ge(since)))
        .select(Hour::as_select())
        .order(hours::hour_at)
        .load(c)
        .await)?)
}

/// Puts an hour in the place of what was known of it, and forgets those before `cutoff`.
pub async fn put(conn: &mut Conn, hour: &Hour, cutoff: Timestamp) -> Result<(), Error> {
    let then = (
        hours::probes.eq(hour.probes),
        hours::failures.eq(hour.failures),
        hours::latencies.eq(&hour.latencies),
    );
    on_conn!(conn, |c| diesel::insert_into(hours::table)
        .values(hour)
        .on_conflict((hours::gateway_id, hours::hour_at))
        .do_update()
        .set(then)
        .execute(c)
        .await)?;
    if hour.probes == 1 {
        let of = hours::gateway_id.eq(hour.gateway_id);
        let old = hours::table.filter(of.and(hours::hour_at.lt(cutoff)));
        on_conn!(conn, |c| diesel::delete(old).execute(c).await)?;
    }
    Ok(())
}
