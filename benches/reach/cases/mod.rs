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
use crate::load::{self, Call, Outcome, Shape};
use crate::{Bench, Fault};

/// A set of figures that are measured together.
pub(crate) struct Case {
    /// Name for `--only` and `--skip`.
    pub(crate) name: &'static str,
    /// Description that is printed.
    pub(crate) what: &'static str,
    /// Measures and prints the figures.
    pub(crate) run: fn(&Bench) -> Result<(), Fault>,
}

/// All cases, in the order of the design.
pub(crate) const CASES: &[Case] = &[
    Case { name: "proxied", what: "proxied unary reads, 64 callers", run: proxied::busy },
    Case { name: "unloaded", what: "proxied unary reads, one caller", run: proxied::unloaded },
    Case { name: "own", what: "own unary reads, 64 callers", run: own::run },
    Case {
        name: "proxied-write",
        what: "proxied audited writes, 64 callers",
        run: writes::proxied,
    },
    Case { name: "own-write", what: "own audited writes, 64 callers", run: writes::own },
    Case { name: "access", what: "access checks, in memory", run: access::run },
    Case { name: "access-load", what: "the access data at a start", run: access_load::run },
    Case {
        name: "audit-list",
        what: "pages of a long audit log, one caller",
        run: audit_list::run,
    },
    Case { name: "sboms", what: "a large SBOM taken, and searched by one caller", run: sboms::run },
    Case {
        name: "fleet-list",
        what: "the sandboxes of 1000 gateways, one caller",
        run: fleet_list::run,
    },
    Case { name: "footprint", what: "memory, and time to serve", run: footprint::run },
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
    fn turn(&mut self, bench: &Bench, shape: Shape) -> Result<(), Fault> {
        let before = self.process.processor()?;
        let time = bench.options.time();
        let outcome = load::run(self.process.address, &self.calls, shape, time)
            .map_err(|fault| format!("{}: {fault}", self.name))?;
        let used = self.process.processor()?.saturating_sub(before);
        self.note(&outcome, used.as_secs_f64() * 1e6 / 1.1);
        Ok(())
    }

    /// Adds the figures of one turn. `used_us` is the processor time of the counted calls, without those of the
    /// warm-up.
    fn note(&mut self, outcome: &Outcome, used_us: f64) {
        self.per_second.add(outcome.per_second);
        self.p50.add(outcome.percentile(50));
        self.p99.add(outcome.percentile(99));
        self.cost.add(used_us / outcome.calls as f64);
    }

    /// Prints the calls per second and the figures that explain them.
    fn show(&self, shape: Shape, target: Target) -> Result<(), Fault> {
        let name = format!("{}, {shape}", self.name);
        self.per_second.show(&name, "calls/s", target)?;
        self.p50.show(&format!("{name}, p50"), "us", Target::None)?;
        self.p99.show(&format!("{name}, p99"), "us", Target::None)?;
        self.cost.show(&format!("{name}, processor time a call"), "us", Target::None)
    }
}

/// Runs all rounds of one shape. Every subject is measured once per round.
fn rounds(bench: &Bench, subjects: &mut [Subject<'_>], shape: Shape) -> Result<(), Fault> {
    for _ in 0..bench.options.rounds {
        for subject in &mut *subjects {
            subject.turn(bench, shape)?;
        }
    }
    Ok(())
}
