//! Measures the targets of the design: all subjects side by side, in interleaved rounds of one run.
//!
//! ```text
//! cargo bench --bench reach -- --rounds 5 --seconds 3 --only proxied,own
//! ```
//!
//! Invariants
//! - The bench starts the measured processes itself, on loopback: this program again, with a role. They exit when this
//!   process exits or crashes.
//! - The server is the released one: the same command line, configuration and database.
//! - Subjects that are compared are measured in turn in each round, so that load on the host affects both. A ratio is
//!   computed within its round.
//! - A target is `met` or `missed` if every round agrees; otherwise the result is `level`, and more rounds may decide
//!   it.
//! - Every wait is bounded.
//! - Growth is measured only on request (`--only growth`), and so are recordings of hot paths (`scripts/profile`).
//! - The figures are also written to `target/bench/reach.json`, and into `docs/performance.md` with `--write-docs`.

#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

mod cases;
mod child;
mod docs;
mod figure;
mod fleet;
mod h2load;
mod load;
mod machine;
mod open_load;
mod options;
mod peers;
mod place;
mod receiver;
mod report;
mod roles;
mod svg;
mod tools;

#[path = "../../tests/it/support/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "the tests', which use more of it")]
mod postgres;

/// No settings of PostgreSQL beyond its defaults, so that commits are durable.
const POSTGRES_SETTINGS: &str = "";

/// Returns the folder of databases: on disk, for the same reason.
fn database_folder() -> &'static std::path::Path {
    std::path::Path::new("/tmp")
}

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;

use cases::Case;
use machine::Machine;
use options::Options;

/// As in the released binary.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Reason why a figure could not be measured.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Context of every case.
struct Bench {
    options: Options,
    /// Runtime for work that is not measured: preparing databases, registering gateways.
    runtime: tokio::runtime::Runtime,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(child::ROLE) {
        return roles::run(args.collect());
    }
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "reach: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), BoxError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    figure::print_line(&format!(
        "{} rounds of {} s; {} cores; load before: {}",
        options.rounds,
        options.seconds,
        std::thread::available_parallelism()?,
        child::load_average()?
    ))?;
    let machine = Machine::describe();
    let bench = Bench { options, runtime };
    let measured = run_cases(&bench);
    // The cases before a failure are reported too.
    let report = report::write_json(&machine, &bench.options)?;
    figure::print_line(&format!("report: {}", report.display()))?;
    measured?;
    if bench.options.write_docs {
        let document = docs::write(&machine, &bench.options)?;
        figure::print_line(&format!("figures: {}", document.display()))?;
    }
    Ok(())
}

fn run_cases(bench: &Bench) -> Result<(), BoxError> {
    let is_selected = |case: &&Case| bench.options.is_selected(case.name, case.by_default);
    for case in cases::CASES.iter().filter(is_selected) {
        figure::print_line(&format!("\n{}: {}", case.name, case.description))?;
        report::begin_case(case.name, case.description);
        (case.run)(bench)?;
    }
    figure::print_line(&format!("\nload after: {}", child::load_average()?))?;
    Ok(())
}
