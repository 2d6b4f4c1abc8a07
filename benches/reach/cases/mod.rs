//! The cases to measure, one file per subject.

mod access;
mod access_load;
mod audit_list;
mod fleet_list;
mod footprint;
mod own;
mod proxied;
mod sboms;
mod writes;

use crate::child::Child;
use crate::figure::{Figure, Target};
use crate::load::{self, Call, LoadResult, LoadShape};
use crate::{Bench, BoxError};

/// A set of figures that are measured together.
pub(crate) struct Case {
    /// Name for `--only` and `--skip`.
    pub(crate) name: &'static str,
    /// Description that is printed.
    pub(crate) description: &'static str,
    /// Measures and prints the figures.
    pub(crate) run: fn(&Bench) -> Result<(), BoxError>,
}

/// All cases, in the order of the design.
pub(crate) const CASES: &[Case] = &[
    Case { name: "proxied", description: "proxied unary reads, 64 callers", run: proxied::busy },
    Case {
        name: "unloaded",
        description: "proxied unary reads, one caller",
        run: proxied::unloaded,
    },
    Case { name: "own", description: "own unary reads, 64 callers", run: own::run },
    Case {
        name: "proxied-write",
        description: "proxied audited writes, 64 callers",
        run: writes::proxied,
    },
    Case { name: "own-write", description: "own audited writes, 64 callers", run: writes::own },
    Case { name: "access", description: "access checks, in memory", run: access::run },
    Case { name: "access-load", description: "the access data at a start", run: access_load::run },
    Case {
        name: "audit-list",
        description: "pages of a long audit log, one caller",
        run: audit_list::run,
    },
    Case {
        name: "sboms",
        description: "a large SBOM taken, and searched by one caller",
        run: sboms::run,
    },
    Case {
        name: "fleet-list",
        description: "the sandboxes of 1000 gateways, one caller",
        run: fleet_list::run,
    },
    Case { name: "footprint", description: "memory, and time to serve", run: footprint::run },
];

/// One of the subjects that are measured in turn.
struct Subject<'a> {
    name: String,
    /// The process that is called and whose processor time is measured.
    process: &'a Child,
    calls: Vec<Call>,
    per_second: Figure,
    p50: Figure,
    p99: Figure,
    /// Processor time of the process per call, in microseconds.
    cost: Figure,
}

impl<'a> Subject<'a> {
    fn new(name: impl Into<String>, process: &'a Child, calls: Vec<Call>) -> Self {
        let none = Figure::default;
        let name = name.into();
        Self { name, process, calls, per_second: none(), p50: none(), p99: none(), cost: none() }
    }

    /// Measures one turn of this subject.
    fn measure_round(&mut self, bench: &Bench, shape: LoadShape) -> Result<(), BoxError> {
        let before = self.process.processor_time()?;
        let time = bench.options.load_duration();
        let outcome = load::run(self.process.address, &self.calls, shape, time)
            .map_err(|fault| format!("{}: {fault}", self.name))?;
        let used = self.process.processor_time()?.saturating_sub(before);
        self.record(&outcome, used.as_secs_f64() * 1e6 / 1.1);
        Ok(())
    }

    /// Adds the figures of one turn. `used_us` is the processor time of the counted calls, without those of the
    /// warm-up.
    fn record(&mut self, outcome: &LoadResult, used_us: f64) {
        self.per_second.add(outcome.per_second);
        self.p50.add(outcome.percentile(50));
        self.p99.add(outcome.percentile(99));
        self.cost.add(used_us / outcome.calls as f64);
    }

    /// Prints the calls per second and the figures that explain them.
    fn print(&self, shape: LoadShape, target: Target) -> Result<(), BoxError> {
        let name = format!("{}, {shape}", self.name);
        self.per_second.print(&name, "calls/s", target)?;
        self.p50.print(&format!("{name}, p50"), "us", Target::None)?;
        self.p99.print(&format!("{name}, p99"), "us", Target::None)?;
        self.cost.print(&format!("{name}, processor time a call"), "us", Target::None)
    }
}

/// Runs all rounds of one shape. Every subject is measured once per round.
fn run_rounds(
    bench: &Bench,
    subjects: &mut [Subject<'_>],
    shape: LoadShape,
) -> Result<(), BoxError> {
    for _ in 0..bench.options.rounds {
        for subject in &mut *subjects {
            subject.measure_round(bench, shape)?;
        }
    }
    Ok(())
}
