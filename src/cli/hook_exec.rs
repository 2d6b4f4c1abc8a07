//! `shoreguard hook-exec`: sets limits for its own process and then executes the command. The server starts boot hooks
//! with it, since limits must be set in the process that they apply to.
//!
//! Invariants
//! - the command is not run if a limit could not be set;
//! - the command inherits environment, standard streams and working directory from the server, and no other file
//!   descriptor: not even those that the server inherited itself.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

use super::CliError;

/// First file descriptor after the standard streams.
const FIRST_FD: i32 = 3;

/// The limits and the command.
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
    /// An absolute path, followed by its arguments.
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// Does not return if it succeeds.
pub(super) fn run(args: &HookExecArgs) -> Result<(), CliError> {
    close_fds::set_fds_cloexec_threadsafe(FIRST_FD, &[]);
    let limits = [
        (Resource::Cpu, args.cpu_seconds),
        (Resource::As, args.memory_bytes),
        (Resource::Nofile, args.open_files),
        (Resource::Nproc, args.processes),
        (Resource::Fsize, args.file_bytes),
        (Resource::Core, 0),
    ];
    let refused = |error| CliError::Io(format!("the hook could not be limited: {error}"));
    for (resource, most) in limits {
        set_limit(resource, most).map_err(refused)?;
    }
    // The command cannot gain privileges through set-user-id files.
    rustix::thread::set_no_new_privs(true).map_err(refused)?;
    umask(Mode::RWXG | Mode::RWXO);
    let (program, rest) =
        args.command.split_first().ok_or_else(|| CliError::Usage("no command".to_owned()))?;
    let error = Command::new(program).args(rest).exec();
    Err(CliError::Io(format!("the hook could not be run: {error}")))
}

/// Sets a limit. It is never raised above the current one.
fn set_limit(resource: Resource, most: u64) -> rustix::io::Result<()> {
    let most = getrlimit(resource).maximum.map_or(most, |present| present.min(most));
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}
