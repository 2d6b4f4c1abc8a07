//! Measures the time from the last vote to the moment at which its write arrives at the gateway.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use shoreguard_simulator::{Hold, Script, Times};
use tokio::time::timeout;

use super::scene::{Scene, percentile};
use crate::figure::{Figure, Target};
use crate::fleet::{self, Admin};
use crate::place::{self, ENGINES, ServerSetup};
use crate::{Bench, BoxError};

const SENT_P99_MS_MAX: f64 = 100.0;
/// Votes per round, and the time after which a round has no further ones.
const VOTES: (usize, Duration) = (100, Duration::from_secs(4));
/// Time for a write to arrive.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Measures both engines.
pub(in crate::cases) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        let key = setup.create_admin_key()?;
        let (server, _) = fleet::start_server(bench, &setup)?;
        let (p50, p99) = bench.runtime.block_on(measure(bench, server.address, &key))?;
        let name = place::engine_name(engine);
        p50.print(&format!("{name}, last vote to write sent, p50"), "ms", Target::None)?;
        let target = Target::AtMost(SENT_P99_MS_MAX);
        p99.print(&format!("{name}, last vote to write sent, p99"), "ms", target)?;
    }
    Ok(())
}

async fn measure(
    bench: &Bench,
    address: SocketAddr,
    key: &str,
) -> Result<(Figure, Figure), BoxError> {
    let admin = Admin::connect(address, key).await?;
    let mut scene = Scene::start(&admin, address).await?;
    let (mut p50, mut p99) = (Figure::default(), Figure::default());
    for _ in 0..bench.options.rounds {
        let (begun, mut took_ms) = (Instant::now(), Vec::new());
        while took_ms.len() < VOTES.0 && begun.elapsed() < VOTES.1 {
            let (id, digest) = scene.propose_next().await?;
            took_ms.push(time_write(&scene, id, digest).await?);
        }
        took_ms.sort_by(f64::total_cmp);
        p50.add(percentile(&took_ms, 50));
        p99.add(percentile(&took_ms, 99));
    }
    scene.simulator.stop().await;
    Ok((p50, p99))
}

/// Votes, and returns the time in milliseconds until the write arrived. Then waits until it is in force.
async fn time_write(scene: &Scene, id: i64, digest: String) -> Result<f64, BoxError> {
    let hold = Hold::default();
    scene.simulator.script("UpdateConfig", Script::HoldBefore(hold.clone()), Times::Next(1));
    let begun = Instant::now();
    scene.vote(id, digest).await?;
    timeout(WRITE_TIMEOUT, hold.wait_reached(1)).await.map_err(|_| "nothing was written")?;
    let took_ms = begun.elapsed().as_secs_f64() * 1e3;
    hold.release();
    scene.wait_applied(id).await?;
    Ok(took_ms)
}
