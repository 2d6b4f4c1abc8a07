//! Measures how long one caller takes to list the sandboxes of a thousand gateways, page by page.

use std::time::Instant;

use shoreguard::db::Engine;

use crate::child::Child;
use crate::figure::{Figure, Target};
use crate::fleet::{self, Admin};
use crate::place::{self, ENGINES, ServerSetup};
use crate::roles::simulated_address;
use crate::{Bench, BoxError};

/// Number of gateways, half of them of each generation.
const GATEWAYS: u16 = 1_000;
/// Sandboxes per gateway: the seed data of a simulated gateway.
const SANDBOXES: usize = 4;
/// The required limit.
const LIST_MS_MAX: f64 = 200.0;

/// Measures both engines, first with connections that must be opened and then with open connections.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    let gateways = Child::start("simulators", &[&GATEWAYS.to_string()])?;
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        run_engine(bench, engine, &setup, gateways.address.port())?;
    }
    Ok(())
}

fn run_engine(
    bench: &Bench,
    engine: Engine,
    setup: &ServerSetup,
    port: u16,
) -> Result<(), BoxError> {
    let key = setup.create_admin_key()?;
    let (server, _) = fleet::start_server(bench, setup)?;
    bench.runtime.block_on(async {
        let admin = Admin::connect(server.address, &key).await?;
        for number in 0..GATEWAYS {
            admin.register(format!("fleet-{number:04}"), simulated_address(number, port)).await?;
        }
        let (mut first, mut again) = (Figure::default(), Figure::default());
        for round in 0..=bench.options.rounds {
            let begun = Instant::now();
            let (listed, unreachable) = admin.list_fleet().await?;
            let took_ms = begun.elapsed().as_secs_f64() * 1e3;
            if (listed, unreachable) != (usize::from(GATEWAYS) * SANDBOXES, 0) {
                let why = format!("{listed} sandboxes were listed, {unreachable} gateways not");
                return Err(why.into());
            }
            if round == 0 { first.add(took_ms) } else { again.add(took_ms) }
        }
        let name = place::engine_name(engine);
        let target = Target::AtMost(LIST_MS_MAX);
        first.print(&format!("{name}, {GATEWAYS} gateways listed, first"), "ms", target)?;
        again.print(&format!("{name}, {GATEWAYS} gateways listed, again"), "ms", target)
    })
}
