//! Measures the memory of a server, idle and with open streams, and its startup time.

use std::time::Duration;

use shoreguard::pb::v1 as pb;

use crate::figure::{Figure, Target};
use crate::fleet::{self, Fleet};
use crate::load::{self, Call};
use crate::place::{self, ENGINES};
use crate::{Bench, BoxError};

const IDLE_MB_MAX: f64 = 40.0;
const STREAMS_MB_MAX: f64 = 150.0;
const START_MS_MAX: f64 = 100.0;
/// Connections, and streams per connection.
const STREAMS: (usize, usize) = (10, 100);
/// Wait before memory is measured, after a start or after streams were opened.
const SETTLE: Duration = Duration::from_secs(2);

/// Starts the server once per round, on the same database.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(Fleet { setup, server, upstream, caller_key, .. }) = Fleet::start(bench, engine)?
        else {
            continue;
        };
        drop(server);
        let request = pb::WatchEventsRequest { after_sequence: -1, ..Default::default() };
        let path = "/shoreguard.v1.EventService/WatchEvents";
        let call = Call::new(path, &request, Some(&caller_key))?;
        let [mut start, mut idle, mut streams] = [(); 3].map(|()| Figure::default());
        for _ in 0..bench.options.rounds {
            let (server, took) = fleet::start_server(bench, &setup)?;
            start.add(took.as_secs_f64() * 1e3);
            std::thread::sleep(SETTLE);
            idle.add(server.resident_mb()?);
            let held =
                bench.runtime.block_on(load::open_streams(server.address, &call, STREAMS))?;
            std::thread::sleep(SETTLE);
            streams.add(server.resident_mb()?);
            drop(held);
        }
        let named = |what: &str| format!("{what}, {}", place::engine_name(engine));
        start.print(&named("start to serving"), "ms", Target::AtMost(START_MS_MAX))?;
        idle.print(&named("idle memory"), "MB", Target::AtMost(IDLE_MB_MAX))?;
        let watching = named("memory with 1000 watch streams");
        streams.print(&watching, "MB", Target::AtMost(STREAMS_MB_MAX))?;
        drop(upstream);
    }
    Ok(())
}
