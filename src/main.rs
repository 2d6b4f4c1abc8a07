//! The `shoreguard` binary: all code is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;
use shoreguard::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
