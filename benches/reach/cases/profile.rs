//! Recordings of the hot paths with perf: where a server spends its processor time under load.
//!
//! `scripts/profile` builds with frame pointers, runs these cases, and draws flame graphs from the recordings.

use std::process::{Command, Stdio};

use shoreguard::db::Engine;

use super::{proxied, writes};
use crate::fleet::Fleet;
use crate::load::{self, Call, GRACE, MANY_CONNECTIONS};
use crate::{Bench, BoxError, child, report, tools};

/// Samples per second: not a divisor of the frequencies of timers.
const SAMPLES_PER_SECOND: &str = "997";

/// Records proxied reads.
pub(super) fn proxied_read(bench: &Bench) -> Result<(), BoxError> {
    let calls = |fleet: &Fleet| Ok::<_, BoxError>(vec![proxied::unparsed_call(fleet)?]);
    record(bench, "proxied-read", Engine::Sqlite, calls)
}

/// Records proxied audited writes.
pub(super) fn proxied_write(bench: &Bench) -> Result<(), BoxError> {
    record(bench, "proxied-write", Engine::Sqlite, writes::proxied_calls)
}

/// Records own writes on SQLite.
pub(super) fn own_write_sqlite(bench: &Bench) -> Result<(), BoxError> {
    record(bench, "own-write-sqlite", Engine::Sqlite, writes::own_calls)
}

/// Records own writes on PostgreSQL.
pub(super) fn own_write_postgres(bench: &Bench) -> Result<(), BoxError> {
    record(bench, "own-write-postgres", Engine::Postgres, writes::own_calls)
}

/// Sends a load and records the server meanwhile.
fn record(
    bench: &Bench,
    name: &str,
    engine: Engine,
    calls: impl Fn(&Fleet) -> Result<Vec<Call>, BoxError>,
) -> Result<(), BoxError> {
    let Ok(perf) = tools::find("perf") else {
        return report::note("`perf` is not on PATH: nothing is recorded".to_owned());
    };
    let Some(fleet) = Fleet::start(bench, engine)? else { return Ok(()) };
    let (calls, time) = (calls(&fleet)?, bench.options.load_duration());
    let file = report::folder()?.join(format!("{name}.perf"));
    let mut recorder = Command::new(perf);
    recorder.args(["record", "--quiet", "--call-graph", "fp", "--freq", SAMPLES_PER_SECOND]);
    recorder.arg("--pid").arg(fleet.server.id.to_string()).arg("--output").arg(&file);
    // perf records as long as the command that it starts runs. The load begins and ends with a warm-up.
    recorder.arg("--").arg("sleep").arg(time.as_secs_f64().to_string());
    let recorder = recorder.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let sent = load::run(fleet.server.address, &calls, MANY_CONNECTIONS, time);
    child::wait_for(recorder, "perf", time + GRACE)?;
    let per_second = sent?.per_second;
    report::note(format!("{}: {per_second:.0} calls/s while it was recorded", file.display()))
}
