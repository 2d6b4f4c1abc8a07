//! Measures how long one event takes to reach all of many watchers.

use super::growth::streams::Watchers;
use crate::figure::Target;
use crate::fleet::Fleet;
use crate::place::{self, ENGINES};
use crate::{Bench, BoxError};

/// Number of streams.
const WATCHERS: u32 = 1_000;

/// Measures both engines: from the call that makes the event until the last watcher has it.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(fleet) = Fleet::start(bench, engine)? else { continue };
        let mut watchers = Watchers::default();
        bench.runtime.block_on(watchers.open(&fleet, WATCHERS))?;
        let delivered = bench.runtime.block_on(watchers.deliver(&fleet, bench.options.rounds))?;
        let all_ms = delivered.scaled(f64::from(WATCHERS) / 1e3);
        let name = place::engine_name(engine);
        let title = format!("{name}, an event delivered to {WATCHERS} watchers");
        all_ms.print(&title, "ms", Target::None)?;
    }
    Ok(())
}
