//! Measures what it costs to follow gateways on which nothing happens.

use std::time::Duration;

use crate::child::Child;
use crate::figure::{Figure, Target};
use crate::fleet::{self, Admin};
use crate::place::{self, ENGINES, ServerSetup};
use crate::roles::simulated_address;
use crate::{Bench, BoxError};

/// Number of gateways, half of them of each generation.
const GATEWAYS: u16 = 100;
const PERCENT_MAX: f64 = 2.0;
const ADDED_MB_MAX: f64 = 20.0;
/// Time in which processor time is measured: an interval of followers, so that each gateway is asked once.
const IDLE_TIME: Duration = Duration::from_secs(15);
/// Wait after a start, until the first pass over each gateway is over.
const SETTLE: Duration = Duration::from_secs(20);
/// Most rounds: each waits twice.
const ROUNDS_MAX: u32 = 3;

/// Measures both engines, without gateways and then with all of them.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    let gateways = Child::start("simulators", &[&GATEWAYS.to_string()])?;
    let rounds = bench.options.rounds.min(ROUNDS_MAX);
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        let key = setup.create_admin_key()?;
        let (_, without) = measure(bench, &setup, rounds)?;
        let (server, _) = fleet::start_server(bench, &setup)?;
        bench.runtime.block_on(async {
            let admin = Admin::connect(server.address, &key).await?;
            for number in 0..GATEWAYS {
                let address = simulated_address(number, gateways.address.port());
                admin.register(format!("fleet-{number:03}"), address).await?;
            }
            Ok::<_, BoxError>(())
        })?;
        drop(server);
        let (share, with) = measure(bench, &setup, rounds)?;
        let name = format!("{}, {GATEWAYS} idle gateways", place::engine_name(engine));
        share.print(&name, "% of a core", Target::AtMost(PERCENT_MAX))?;
        let name = format!("{name}, added memory");
        with.minus(&without).print(&name, "MB", Target::AtMost(ADDED_MB_MAX))?;
    }
    Ok(())
}

/// Starts the server once per round. Returns the share of a core that it uses, and its memory in megabytes.
fn measure(bench: &Bench, setup: &ServerSetup, rounds: u32) -> Result<(Figure, Figure), BoxError> {
    let (mut share, mut memory) = (Figure::default(), Figure::default());
    for _ in 0..rounds {
        let (server, _) = fleet::start_server(bench, setup)?;
        std::thread::sleep(SETTLE);
        let before = server.processor_time()?;
        std::thread::sleep(IDLE_TIME);
        let used = server.processor_time()?.saturating_sub(before);
        share.add(used.as_secs_f64() * 100.0 / IDLE_TIME.as_secs_f64());
        memory.add(server.resident_mb()?);
    }
    Ok((share, memory))
}
