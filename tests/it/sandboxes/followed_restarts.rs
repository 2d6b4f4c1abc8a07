//! A gateway that restarts and repeats its log, followed by two processes in turn: everything is reported once.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use shoreguard::app::App;
use shoreguard::db::Engine;
use shoreguard::resources::followers::follow_once;
use shoreguard::resources::followers::memory::Memory;

use super::followed::{Followed, reported};
use super::*;
use crate::approvals::events;
use crate::support::CONDITION_TIME_MAX;
use crate::support::server::build;

server_tests_without_jobs! {
    e17_a_restarted_gateway_of_0_0_that_repeats_its_log_is_reported_once,
    e17_a_restarted_gateway_of_0_1_that_repeats_its_log_is_reported_once,
}

pub(super) const FIRST: &str = "PROC:LAUNCH [HIGH] DENIED /usr/bin/nsenter(58) -t 1 [rule:-]";
const SECOND: &str = "PROC:LAUNCH [LOW] DENIED /usr/bin/unshare(59) [rule:-]";

/// A process of Shoreguard, and what its follower remembers.
struct Process {
    app: Arc<App>,
    memory: Memory,
}

impl Process {
    fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app), memory: Memory::new(&app.config.gateways) }
    }

    /// Starts again: what it remembered is lost.
    fn forget(&mut self) {
        self.memory = Memory::new(&self.app.config.gateways);
    }

    /// Runs a pass until one succeeds: after a restart of the gateway, the first call may find that its connection has
    /// ended.
    async fn follow(&mut self) {
        let begun = Instant::now();
        loop {
            let mut targets = self.app.fleet.targets.all().into_iter();
            let edge = targets.find(|target| &*target.name == "edge").unwrap().gateway();
            let followed = follow_once(&self.app, edge, &mut self.memory).await;
            if matches!(followed, Ok(true)) {
                return;
            }
            assert!(begun.elapsed() < CONDITION_TIME_MAX, "never followed: {followed:?}");
            pause().await;
        }
    }
}

/// Two processes that follow the gateway `edge` in turn. On SQLite, the second one is a successor of the first.
pub(super) struct Pair([Process; 2]);

impl Pair {
    /// Starts the second process.
    pub(super) async fn start(sg: &TestServer) -> Self {
        let second = match sg.engine {
            Engine::Sqlite => Arc::clone(&sg.app),
            Engine::Postgres => build(sg.config(|_| {})).await,
        };
        Self([Process::new(&sg.app), Process::new(&second)])
    }

    /// Lets the processes follow the gateway in turn, twice.
    pub(super) async fn follow(&mut self) {
        for _ in 0..2 {
            for process in &mut self.0 {
                process.follow().await;
            }
        }
    }

    /// Starts both again: what they remembered is lost.
    pub(super) fn forget(&mut self) {
        self.0.iter_mut().for_each(Process::forget);
    }

    /// Returns the running processes.
    pub(super) fn apps(&self) -> Vec<Arc<App>> {
        let [first, second] = &self.0;
        let mut apps = vec![Arc::clone(&first.app)];
        if !Arc::ptr_eq(&first.app, &second.app) {
            apps.push(Arc::clone(&second.app));
        }
        apps
    }

    /// Stops the second process.
    pub(super) async fn stop(self, sg: &TestServer) {
        let [first, Process { app: second, .. }] = self.0;
        drop(first);
        if sg.engine == Engine::Postgres {
            second.stop.cancel();
            second.drain().await;
        }
    }
}

/// Returns an address on which no other test listens: the port is still free when the gateway starts again. `test` is
/// the number of the test.
pub(super) fn own_address(sg: &TestServer, generation: Generation, test: u8) -> Ipv4Addr {
    let of_engine = match sg.engine {
        Engine::Sqlite => 0,
        Engine::Postgres => 1,
    };
    let of_generation = match generation {
        Generation::V0_0 => 0,
        Generation::V0_1 => 1,
    };
    Ipv4Addr::new(127, 17, test, 10 + 2 * of_engine + of_generation)
}

async fn restarted(sg: TestServer, generation: Generation) {
    let on = own_address(&sg, generation, 12);
    let mut edge = Followed::start_on(&sg, generation, on).await;
    let mut pair = Pair::start(&sg).await;
    let bypasses = async || events(&sg, "sandbox.bypass_detected").await;
    pair.follow().await;
    edge.create(&sg, "box").await;
    pair.follow().await;
    assert_eq!(reported(&sg).await, (1, 0, 0));
    let at = sg.app.clock.now().unix_micros() / 1_000 - 10_000;
    edge.simulator.log_with_time("default", "box", at, FIRST).unwrap();
    pair.follow().await;
    assert_eq!(bypasses().await, 1);

    edge = edge.restart().await;
    for _ in 0..2 {
        edge.simulator.log_with_time("default", "box", at, FIRST).unwrap();
        pair.follow().await;
        assert_eq!((reported(&sg).await, bypasses().await), ((1, 0, 0), 1));
        pair.forget();
    }
    wait_until("the gateway answers", || async {
        get_sandbox(&sg.admin(), "edge", "box").await.is_ok()
    })
    .await;
    edge.simulator.log("default", "box", "OCSF", SECOND).unwrap();
    edge.stop(&sg, "box").await;
    pair.follow().await;
    assert_eq!((reported(&sg).await, bypasses().await), ((1, 0, 1), 2));
    assert_eq!(events(&sg, "sandbox.log_gap").await, 0);

    pair.stop(&sg).await;
    sg.finish().await;
}

async fn e17_a_restarted_gateway_of_0_0_that_repeats_its_log_is_reported_once(sg: TestServer) {
    restarted(sg, Generation::V0_0).await;
}

async fn e17_a_restarted_gateway_of_0_1_that_repeats_its_log_is_reported_once(sg: TestServer) {
    restarted(sg, Generation::V0_1).await;
}
