//! Random runs against a reference model: rules, pins, people, proposals, votes, faults of the gateway and time, in any
//! order. After each step, the model decides what may have happened.
//!
//! A run is determined by its seed, which is printed with the steps if it fails: `GOVERNANCE_SEED` sets it. What must
//! hold does not depend on how fast the server is. The dispatcher and the other jobs run as steps.

mod cast;
mod checks;
mod reference;
mod scene;
mod steps;

use shoreguard_simulator::Generation;

use self::scene::Scene;
use crate::policies::GATEWAYS;
use crate::support::server::TestServer;

/// Runs of both generations together, and steps of a run.
const LENGTH: (u64, u64) = (2, 40);
/// The same with `just soak`.
const LENGTH_SOAK: (u64, u64) = (60, 120);
/// Seed of the first run.
const SEED: u64 = 1;

each_generation! {
    server_tests_without_jobs, GATEWAYS;
    g01_to_g06_and_g09_hold_in_random_runs,
}

/// A small generator of numbers, so that a run can be repeated.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `most`.
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % most as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// The steps of a run. They are printed if it fails.
struct Trace {
    seed: u64,
    steps: Vec<String>,
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("GOVERNANCE_SEED={} fails after:\n{}", self.seed, self.steps.join("\n"));
        }
    }
}

async fn g01_to_g06_and_g09_hold_in_random_runs(
    sg: TestServer,
    (_, generation): (&'static str, Generation),
) {
    let is_soak = std::env::var_os("SOAK").is_some();
    let (runs, steps) = if is_soak { LENGTH_SOAK } else { LENGTH };
    let given = std::env::var_os("GOVERNANCE_SEED");
    let given = given.map(|seed| seed.to_str().unwrap().parse().expect("a seed is a number"));
    let first: u64 = given.unwrap_or(SEED);
    scene::hire(&sg).await;
    let mut simulators = Vec::new();
    // Of the runs of a test, each second one has a gateway of its generation.
    let is_own = |seed: &u64| seed.is_multiple_of(2) == (generation == Generation::V0_0);
    for seed in (first..first + runs).filter(is_own) {
        let name = format!("run-{seed}");
        let mut scene = Box::pin(Scene::open(&sg, &name, generation, seed)).await;
        for _ in 0..steps {
            Box::pin(scene.step()).await;
        }
        simulators.push(Box::pin(scene.close()).await);
    }
    sg.finish().await;
    for simulator in simulators {
        simulator.stop().await;
    }
}
