//! Measures the time from the vote that decides to the moment at which a webhook's message arrives at its receiver.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::scene::{Scene, percentile};
use crate::cases::deliveries::create_webhook;
use crate::figure::{Figure, Target};
use crate::fleet::{self, Admin};
use crate::place::{self, ENGINES, ServerSetup};
use crate::receiver::Receiver;
use crate::{Bench, BoxError};

const POST_P99_MS_MAX: f64 = 500.0;
/// Votes per round, and the time after which a round has no further ones.
const VOTES: (usize, Duration) = (100, Duration::from_secs(8));
/// Time for a message to arrive.
const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// The event of a decision.
const DECIDED: &str = "approval.quorum_met";

/// Measures both engines.
pub(in crate::cases) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        let key = setup.create_admin_key()?;
        let (server, _) = fleet::start_server(bench, &setup)?;
        let (p50, p99) = bench.runtime.block_on(measure(bench, server.address, &key))?;
        let name = place::engine_name(engine);
        p50.print(&format!("{name}, decision to POST, p50"), "ms", Target::None)?;
        let target = Target::AtMost(POST_P99_MS_MAX);
        p99.print(&format!("{name}, decision to POST, p99"), "ms", target)?;
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
    let receiver = Receiver::start().await?;
    create_webhook(&admin, &receiver, DECIDED).await?;
    let (mut p50, mut p99) = (Figure::default(), Figure::default());
    for _ in 0..bench.options.rounds {
        let (begun, mut took_ms) = (Instant::now(), Vec::new());
        while took_ms.len() < VOTES.0 && begun.elapsed() < VOTES.1 {
            let (id, digest) = scene.propose_next().await?;
            receiver.reset();
            let voted = Instant::now();
            scene.vote(id, digest).await?;
            receiver.wait_for(1, POST_TIMEOUT).await?;
            took_ms.push(receiver.last().saturating_duration_since(voted).as_secs_f64() * 1e3);
            scene.wait_applied(id).await?;
        }
        took_ms.sort_by(f64::total_cmp);
        p50.add(percentile(&took_ms, 50));
        p99.add(percentile(&took_ms, 99));
    }
    scene.simulator.stop().await;
    Ok((p50, p99))
}
