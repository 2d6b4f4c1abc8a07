//! Health of gateways over the last day: status changes and latencies.
//!
//! Invariants
//! - reported data comes from probes only; if the last probe is stale, the status is unknown;
//! - one row per status change and one per hour: the stored data is bounded.

pub mod store;

use std::time::Duration;

use self::store::{HealthState, ProbeHour};
use super::store::ProbeResult;
use crate::clock::Timestamp;
use crate::config;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::error::Error;
use crate::upstream::row::{GatewayRow, GatewayStatus};

/// Retention of the history.
pub const HISTORY_RETENTION: Duration = Duration::from_hours(24);
/// Maximum number of states stored per gateway, so that one with frequent changes cannot fill the database.
pub const STATES_MAX: i64 = 1_000;
/// Maximum number of states returned.
pub const SHOWN_MAX: i64 = 200;
/// Maximum number of latencies stored per hour: one probe every four seconds.
const LATENCIES_MAX: usize = 900;
const HOUR_SECONDS: i64 = 3_600;

/// Health history of a gateway.
#[derive(Debug)]
pub struct GatewayHealth {
    /// The gateway as it is now.
    pub gateway: GatewayRow,
    /// States, newest first.
    pub states: Vec<HealthState>,
    /// Number of probes of the last day.
    pub probes: i64,
    /// Number of failed probes.
    pub failures: i64,
    /// Latencies in microseconds, ascending.
    pub latencies: Vec<u32>,
}

impl GatewayHealth {
    /// Returns the latency that this percentage of the probes did not exceed, in microseconds; `None` if no probe
    /// succeeded.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<i64> {
        percentile(&self.latencies, percent)
    }
}

/// Computes a percentile by nearest rank: the smallest latency that at least this percentage did not exceed.
fn percentile(sorted: &[u32], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|us| i64::from(*us))
}

/// Returns the time after which a probe is stale: three probes may be missed.
fn stale_after(config: &config::Gateways) -> Duration {
    config.probe_interval() * 3 + config.probe_timeout() * 2 + config.connect_timeout()
}

/// Reports the status `unknown` if the last probe is stale.
#[must_use]
pub fn mark_stale(mut row: GatewayRow, config: &config::Gateways, now: Timestamp) -> GatewayRow {
    if row.observed.probed_at.is_some_and(|at| at.plus(stale_after(config)) < now) {
        row.observed.last_status = GatewayStatus::Unknown;
        row.observed.last_error = Some("it was not probed for too long".to_owned());
    }
    row
}

/// Returns the health of the gateway over the last day.
pub async fn load(ctx: &Ctx, gateway: GatewayRow) -> Result<GatewayHealth, Error> {
    let since = hour_of(ctx.now().minus(HISTORY_RETENTION));
    let mut conn = ctx.db().read().await?;
    let states = store::states(&mut conn, gateway.id, SHOWN_MAX).await?;
    let hours = store::hours(&mut conn, gateway.id, since).await?;
    let mut latencies: Vec<u32> = hours.iter().flat_map(|hour| unpack(&hour.latencies)).collect();
    latencies.sort_unstable();
    Ok(GatewayHealth {
        gateway,
        states,
        probes: hours.iter().map(|hour| hour.probes).sum(),
        failures: hours.iter().map(|hour| hour.failures).sum(),
        latencies,
    })
}

/// Records a probe, in the transaction that stores it.
pub async fn record_probe(
    conn: &mut Conn,
    before: &GatewayRow,
    probed: &ProbeResult,
    error: Option<&str>,
) -> Result<(), Error> {
    let (id, now) = (before.id, probed.probed_at);
    let version =
        probed.gateway_version.clone().or_else(|| before.observed.gateway_version.clone());
    let state = HealthState {
        gateway_id: id,
        began_at: now,
        status: probed.last_status,
        gateway_version: version,
        error: error.map(str::to_owned),
    };
    record_state(conn, state).await?;
    let hour_at = hour_of(now);
    let known =
        store::hours(conn, id, hour_at).await?.into_iter().find(|hour| hour.hour_at == hour_at);
    let fresh =
        ProbeHour { gateway_id: id, hour_at, probes: 0, failures: 0, latencies: Vec::new() };
    let mut hour = known.unwrap_or(fresh);
    hour.probes += 1;
    match probed.latency_us {
        None => hour.failures += 1,
        Some(us) if hour.latencies.len() < 4 * LATENCIES_MAX => {
            hour.latencies.extend(u32::try_from(us).unwrap_or(u32::MAX).to_be_bytes());
        }
        Some(_) => {}
    }
    store::put(conn, &hour, hour_of(now.minus(HISTORY_RETENTION))).await
}

/// Adds a state if its status or version differs from the last one.
pub async fn record_state(conn: &mut Conn, state: HealthState) -> Result<(), Error> {
    let last = store::states(conn, state.gateway_id, 1).await?.pop();
    let same = last.is_some_and(|last| {
        last.status == state.status && last.gateway_version == state.gateway_version
    });
    if same {
        return Ok(());
    }
    store::add(conn, &state, state.began_at.minus(HISTORY_RETENTION), STATES_MAX).await
}

fn hour_of(at: Timestamp) -> Timestamp {
    let seconds = at.unix_seconds();
    Timestamp::from_unix_seconds(seconds - seconds.rem_euclid(HOUR_SECONDS))
}

fn unpack(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks().0.iter().map(|four| u32::from_be_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_stored_latencies() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 99), Some(7));
        let hundred: Vec<u32> = (1..=100).collect();
        let told = [50, 90, 99, 100].map(|percent| percentile(&hundred, percent));
        assert_eq!(told, [Some(50), Some(90), Some(99), Some(100)]);
    }
}
