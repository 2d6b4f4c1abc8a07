//! Measures what the design promises: everything side by side, in interleaved rounds of one run.
//!
//! ```text
//! cargo bench --bench reach -- --rounds 5 --seconds 3 --only proxied,own
//! ```
//!
//! Invariants
//! - it starts what it measures itself, on loopback, in processes of their own: this program again, with a role. They
//!   end with this process, however that ends;
//! - the server is the shipped one: the same command line, configuration and database;
//! - what is compared takes turns in each round, so that a busy host slows both; a ratio is taken within its round;
//! - a target is met or missed where every round says so; else the figure is `level`, and more rounds may tell;
//! - every wait is bounded.

#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

mod cases;
mod child;
mod figure;
mod fleet;
mod load;
mod options;
mod place;
mod roles;

#[path = "../../tests/it/support/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "the tests', which use more of it")]
mod postgres;

/// Settings of PostgreSQL beyond its defaults: none, so that what is committed is durable.
const POSTGRES_SETTINGS: &str = "";

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use options::Options;

/// Why something could not be measured.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What every case gets.
struct Bench {
    options: Options,
    /// For what is not measured: preparing databases, registering gateways.
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

fn run(options: Options) -> Result<(), Fault> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    figure::say(&format!(
        "{} rounds of {} s; {} cores; load before: {}",
        options.rounds,
        options.seconds,
        std::thread::available_parallelism()?,
        child::load_average()?
    ))?;
    let bench = Bench { options, runtime };
    for case in cases::CASES.iter().filter(|case| bench.options.wants(case.name)) {
        figure::say(&format!("\n{}: {}", case.name, case.what))?;
        (case.run)(&bench)?;
    }
    figure::say(&format!("\nload after: {}", child::load_average()?))?;
    Ok(())
}
