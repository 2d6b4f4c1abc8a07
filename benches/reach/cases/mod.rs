//! The cases to measure, one file per subject.

mod access;
mod access_load;
mod approvals;
mod audit_list;
mod connections;
mod deliveries;
mod fleet_list;
mod footprint;
mod growth;
mod idle_gateways;
mod lineup;
mod own;
mod profile;
mod proxied;
mod rows;
mod sboms;
mod slow_receiver;
mod stream;
mod watches;
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
    /// Whether the case runs without being named.
    pub(crate) by_default: bool,
    /// Measures and prints the figures.
    pub(crate) run: fn(&Bench) -> Result<(), BoxError>,
}

impl Case {
    /// Creates a case that runs without being named.
    const fn new(
        name: &'static str,
        description: &'static str,
        run: fn(&Bench) -> Result<(), BoxError>,
    ) -> Self {
        Self { name, description, by_default: true, run }
    }

    /// Makes it a case that runs only if it is named.
    const fn on_request(mut self) -> Self {
        self.by_default = false;
        self
    }
}

/// All cases, in the order of the design.
pub(crate) const CASES: &[Case] = &[
    Case::new("proxied", "proxied unary reads beside other proxies", proxied::busy),
    Case::new("proxied-open", "proxied unary reads, 3,000 per second", proxied::open),
    Case::new("proxied-named", "proxied unary reads that name a sandbox", proxied::named),
    Case::new("unloaded", "proxied unary reads, one caller", proxied::unloaded),
    Case::new("stream", "one proxied server stream of large messages", stream::run),
    Case::new("own", "own unary reads, 64 callers", own::run),
    Case::new("proxied-write", "proxied audited writes, 64 callers", writes::proxied),
    Case::new("own-write", "own audited writes, 64 callers", writes::own),
    Case::new("access", "access checks, in memory", access::run),
    Case::new("access-load", "the access data at a start", access_load::run),
    Case::new("audit-list", "pages of a long audit log, one caller", audit_list::run),
    Case::new("sboms", "a large SBOM taken, and searched by one caller", sboms::run),
    Case::new("fleet-list", "the sandboxes of 1000 gateways, one caller", fleet_list::run),
    Case::new("footprint", "memory, and time to serve", footprint::run),
    Case::new("connections", "memory of 8,000 idle connections", connections::run),
    Case::new("watches", "one event for 1,000 watchers", watches::run),
    Case::new("rows", "reads beside 100,000 audit entries and events", rows::run),
    Case::new("tally", "votes counted, in memory", approvals::count_votes),
    Case::new("approval-write", "from the last vote to the write", approvals::time_writes),
    Case::new("approval-inbox", "the inbox of 10,000 open reviews", approvals::first_page),
    Case::new("approval-idle", "1,000 open reviews on 100 idle gateways", approvals::idle),
    Case::new("deliveries", "20,000 events sent to a fast receiver", deliveries::run),
    Case::new("slow-receiver", "events sent beside a slow receiver", slow_receiver::run),
    Case::new("decision-post", "from the deciding vote to a POST", approvals::time_posts),
    Case::new("idle-gateways", "100 idle gateways followed", idle_gateways::run),
    Case::new("growth", "cost per unit as the total grows", growth::run).on_request(),
    Case::new("profile-proxied-read", "recorded with perf", profile::proxied_read).on_request(),
    Case::new("profile-proxied-write", "recorded with perf", profile::proxied_write).on_request(),
    Case::new("profile-own-write-sqlite", "recorded with perf", profile::own_write_sqlite)
        .on_request(),
    Case::new("profile-own-write-postgres", "recorded with perf", profile::own_write_postgres)
        .on_request(),
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
    /// Resident memory of the process after the load, in megabytes.
    memory: Figure,
    /// Whether the other subjects are still measured if this one fails.
    may_fail: bool,
    /// Why it failed. It is not measured again.
    fault: Option<String>,
}

/// Sends the load of one turn to a subject.
type SendLoad<'f> = &'f dyn Fn(&Subject<'_>) -> Result<LoadResult, BoxError>;

impl<'a> Subject<'a> {
    fn new(name: impl Into<String>, process: &'a Child, calls: Vec<Call>) -> Self {
        let [per_second, p50, p99, cost, memory] = [(); 5].map(|()| Figure::default());
        let (name, may_fail, fault) = (name.into(), false, None);
        Self { name, process, calls, per_second, p50, p99, cost, memory, may_fail, fault }
    }

    /// Lets the other subjects be measured if this one fails.
    fn that_may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// Measures one turn of this subject.
    fn measure_round(&mut self, send: SendLoad<'_>) -> Result<(), BoxError> {
        let before = self.process.processor_time()?;
        let outcome = send(self).map_err(|fault| format!("{}: {fault}", self.name))?;
        let used = self.process.processor_time()?.saturating_sub(before);
        self.record(&outcome, used.as_secs_f64() * 1e6 / 1.1);
        self.memory.add(self.process.resident_mb()?);
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
    let time = bench.options.load_duration();
    run_rounds_with(bench, subjects, &|subject| {
        load::run(subject.process.address, &subject.calls, shape, time)
    })
}

/// Runs all rounds with another load. Every subject is measured once per round.
fn run_rounds_with(
    bench: &Bench,
    subjects: &mut [Subject<'_>],
    send: SendLoad<'_>,
) -> Result<(), BoxError> {
    for _ in 0..bench.options.rounds {
        for subject in subjects.iter_mut().filter(|subject| subject.fault.is_none()) {
            match subject.measure_round(send) {
                Err(fault) if subject.may_fail => subject.fault = Some(fault.to_string()),
                measured => measured?,
            }
        }
    }
    Ok(())
}
