//! The `shoreguard` binary: all code is in the library.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use shoreguard::cli;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(std::env::args_os())
}
