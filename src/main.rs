//! The `shoreguard` binary: all code is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use shoreguard::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
