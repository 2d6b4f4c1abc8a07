//! Measures the memory of a server with many connections that no call uses.

use std::net::Ipv4Addr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shoreguard::db::Engine;
use tokio::task::JoinSet;

use crate::figure::{Figure, Target};
use crate::fleet::{self, Fleet};
use crate::{Bench, BoxError, load, report};

/// Number of connections.
const CONNECTIONS: u32 = 8_000;
const EACH_KB_MAX: f64 = 16.0;
/// Addresses that connect: one address can have at most half of the connections for which the host has descriptors.
const SOURCES: [Ipv4Addr; 4] = [
    Ipv4Addr::LOCALHOST,
    Ipv4Addr::new(127, 0, 0, 2),
    Ipv4Addr::new(127, 0, 0, 3),
    Ipv4Addr::new(127, 0, 0, 4),
];
/// File descriptors for everything else.
const SPARE_DESCRIPTORS: u64 = 500;
/// Wait before memory is measured, after a start, or after connections were opened or closed.
const SETTLE: Duration = Duration::from_secs(2);
/// Most rounds: one opens all connections again, to a server that was started again.
const ROUNDS_MAX: u32 = 5;

/// Starts the server once per round, and opens the connections.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    if let Err(reason) = raise_limit() {
        return report::note(format!("not measured: {reason}"));
    }
    let fleet =
        Fleet::start(bench, Engine::Sqlite)?.ok_or("a server on SQLite cannot be started")?;
    let Fleet { setup, server, .. } = fleet;
    drop(server);
    let [mut idle, mut total, mut each, mut returned] = [(); 4].map(|()| Figure::default());
    for _ in 0..bench.options.rounds.min(ROUNDS_MAX) {
        let (server, _) = fleet::start_server(bench, &setup)?;
        std::thread::sleep(SETTLE);
        let before = server.resident_mb()?;
        let mut tasks = JoinSet::new();
        let held = bench.runtime.block_on(async {
            let mut held = Vec::new();
            for number in 0..CONNECTIONS {
                let source = SOURCES[number as usize % SOURCES.len()];
                held.push(load::connect_from(source, server.address, &mut tasks).await?);
            }
            Ok::<_, BoxError>(held)
        })?;
        std::thread::sleep(SETTLE);
        let after = server.resident_mb()?;
        if let Some(ended) = tasks.try_join_next() {
            return Err(format!("a connection was closed: {ended:?}").into());
        }
        idle.add(before);
        total.add(after);
        each.add((after - before) * 1e3 / f64::from(CONNECTIONS));
        drop(held);
        bench.runtime.block_on(tasks.shutdown());
        std::thread::sleep(SETTLE);
        returned.add(server.resident_mb()?);
    }
    idle.print("memory without connections", "MB", Target::None)?;
    total.print(&format!("memory with {CONNECTIONS} idle connections"), "MB", Target::None)?;
    returned.print("memory after they were closed", "MB", Target::None)?;
    each.print("memory of an idle connection", "KB", Target::AtMost(EACH_KB_MAX))
}

/// Raises the number of file descriptors of this process, which its children inherit, to what the host permits.
fn raise_limit() -> Result<(), String> {
    let needed = u64::from(CONNECTIONS) + SPARE_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        return Err(format!("a process of this host can have at most {:?} files", limit.maximum));
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|error| error.to_string())
}
