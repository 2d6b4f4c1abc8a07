//! `shoreguard hook-exec`: limits itself, then becomes the command. The server starts boot hooks by it, since a limit must
//! be set in the process that it is for.
//!
//! Invariants
//! - nothing is run where a limit could not be set;
//! - what is inherited is what the server gave: environment, standard streams, working directory.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

use super::Failure;

/// What the command may take, and the command.
#[derive(Debug, clap::Args)]
pub(super) struct HookExecArgs {
    #[arg(long)]
    cpu_seconds: u64,
    #[arg(long)]
    memory_bytes: u64,
    #[arg(long)]
    open_files: u64,
    #[arg(long)]
    processes: u64,
    #[arg(long)]
    file_bytes: u64,
    /// An absolute path, and what it is given.
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// Never comes back where it succeeds.
pub(super) fn run(args: &HookExecArgs) -> Result<(), Failure> {
    let limits = [
        (Resource::Cpu, args.cpu_seconds),
        (Resource::As, args.memory_bytes),
        (Resource::Nofile, args.open_files),
        (Resource::Nproc, args.processes),
        (Resource::Fsize, args.file_bytes),
        (Resource::Core, 0),
    ];
    let refused = |error| Failure::Io(format!("the hook could not be limited: {error}"));
    for (resource, most) in limits {
        limit(resource, most).map_err(refused)?;
    }
    // What it starts gains no privilege by a file's set-user-id bit.
    rustix::thread::set_no_new_privs(true).map_err(refused)?;
    umask(Mode::RWXG | Mode::RWXO);
    let (program, rest) =
        args.command.split_first().ok_or_else(|| Failure::Usage("no command".to_owned()))?;
    let error = Command::new(program).args(rest).exec();
    Err(Failure::Io(format!("the hook could not be run: {error}")))
}

/// A limit is never raised above the one that is in force.
fn limit(resource: Resource, most: u64) -> rustix::io::Result<()> {
    let most = getrlimit(resource).maximum.map_or(most, |present| present.min(most));
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}
