//! Measures the last vote of a review: until its answer, and until its write arrives at the gateway.

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
        let [sent, voted] = bench.runtime.block_on(measure(bench, server.address, &key))?;
        let name = place::engine_name(engine);
        sent.p50.print(&format!("{name}, last vote to write sent, p50"), "ms", Target::None)?;
        let target = Target::AtMost(SENT_P99_MS_MAX);
        sent.p99.print(&format!("{name}, last vote to write sent, p99"), "ms", target)?;
        voted.p50.print(&format!("{name}, last vote to its answer, p50"), "ms", Target::None)?;
        voted.p99.print(&format!("{name}, last vote to its answer, p99"), "ms", Target::None)?;
    }
    Ok(())
}

/// Percentiles of a time.
#[derive(Default)]
struct Percentiles {
    p50: Figure,
    p99: Figure,
}

impl Percentiles {
    fn add(&mut self, mut took_ms: Vec<f64>) {
        took_ms.sort_by(f64::total_cmp);
        self.p50.add(percentile(&took_ms, 50));
        self.p99.add(percentile(&took_ms, 99));
    }
}

/// Returns the times until the write is sent, and until the vote is answered.
async fn measure(
    bench: &Bench,
    address: SocketAddr,
    key: &str,
) -> Result<[Percentiles; 2], BoxError> {
    let admin = Admin::connect(address, key).await?;
    let mut scene = Scene::start(&admin, address).await?;
    let (mut sent, mut voted) = (Percentiles::default(), Percentiles::default());
    for _ in 0..bench.options.rounds {
        let (begun, mut sent_ms, mut voted_ms) = (Instant::now(), Vec::new(), Vec::new());
        while sent_ms.len() < VOTES.0 && begun.elapsed() < VOTES.1 {
            let (id, digest) = scene.propose_next().await?;
            let (until_sent, until_voted) = time_write(&scene, id, digest).await?;
            sent_ms.push(until_sent);
            voted_ms.push(until_voted);
        }
        sent.add(sent_ms);
        voted.add(voted_ms);
    }
    scene.simulator.stop().await;
    Ok([sent, voted])
}

/// Votes, and returns the times in milliseconds until the write arrived and until the vote was answered. Then waits until
/// the policy is in force.
async fn time_write(scene: &Scene, id: i64, digest: String) -> Result<(f64, f64), BoxError> {
    let hold = Hold::default();
    scene.simulator.script("UpdateConfig", Script::HoldBefore(hold.clone()), Times::Next(1));
    let begun = Instant::now();
    scene.vote(id, digest).await?;
    let voted_ms = begun.elapsed().as_secs_f64() * 1e3;
    timeout(WRITE_TIMEOUT, hold.wait_reached(1)).await.map_err(|_| "nothing was written")?;
    let sent_ms = begun.elapsed().as_secs_f64() * 1e3;
    hold.release();
    scene.wait_applied(id).await?;
    Ok((sent_ms, voted_ms))
}
