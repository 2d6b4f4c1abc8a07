//! A process on Shoreguard's host with all its children: limited, killed as a group, and waited for.
//!
//! Invariants
//! - nothing of its process group survives the end of a run: after a limit, after an exit that left children behind,
//!   and after the future of the run was dropped;
//! - the group is signaled only while its id cannot have been reused: its leader is not reaped before;
//! - the output is read up to a bound, and the process inherits nothing but what is specified here.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, test_kill_process_group,
    waitid, waitpgid,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::output::Output;
use crate::config::BootHooks;
use crate::error::Error;

/// Time to read the remaining output after the group has ended: a process that left the group may hold the pipe open.
const DRAIN: Duration = Duration::from_secs(1);
/// Number of checks whether the group has ended, and their interval.
const GROUP_CHECKS_MAX: u32 = 200;
const GROUP_CHECK_EVERY: Duration = Duration::from_millis(5);
/// Bytes per read.
const READ_BYTES: usize = 8 * 1024;
const MIB: u64 = 1024 * 1024;

/// A process to run.
pub(super) struct Job {
    /// Program; its path was verified.
    pub(super) program: PathBuf,
    /// Arguments.
    pub(super) arguments: Vec<String>,
    /// Complete environment.
    pub(super) environment: Vec<(String, String)>,
    /// Timeout.
    pub(super) timeout: Duration,
}

/// Why Shoreguard killed a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KillReason {
    /// It ran into its timeout.
    Timeout,
    /// It exceeded the output limit.
    Output,
    /// The run was canceled.
    Cancelled,
}

/// How a process ended.
pub(super) enum ProcessEnd {
    /// By itself, or by a signal that Shoreguard did not send.
    Exited(ExitStatus),
    /// Killed by Shoreguard.
    Killed(KillReason),
}

impl ProcessEnd {
    /// Returns whether the process succeeded, and a description of how it ended.
    pub(super) fn describe(&self, job_timeout: Duration) -> (bool, String) {
        match self {
            Self::Exited(status) => match (status.code(), status.signal()) {
                (Some(code), _) => (code == 0, format!("exit {code}")),
                (None, Some(signal)) => (false, format!("ended by signal {signal}")),
                (None, None) => (false, "ended".to_owned()),
            },
            Self::Killed(KillReason::Timeout) => {
                (false, format!("took longer than {} s", job_timeout.as_secs()))
            }
            Self::Killed(KillReason::Output) => {
                (false, "wrote more output than `boot_hooks.output_kib_max` allows".to_owned())
            }
            Self::Killed(KillReason::Cancelled) => (false, "cancelled".to_owned()),
        }
    }
}

/// Runs a process until it ends or exceeds a limit.
pub(super) async fn run(
    limits: &BootHooks,
    job: &Job,
    cancel: &CancellationToken,
) -> Result<(ProcessEnd, Output), Error> {
    let (reader, writer) = io::pipe().map_err(Error::internal)?;
    let child = command(limits, job, writer).and_then(|mut command| command.spawn());
    // Only the child has the write end of the pipe open now: the output ends when the child closes it.
    let (group, leader) = ProcessGroup::new(child.map_err(Error::internal)?);
    let mut reader = Receiver::from_owned_fd(reader.into()).map_err(Error::internal)?;
    let mut waited = tokio::task::spawn_blocking(move || leader.wait());
    let mut output = Output::default();
    let output_max = limits.output_kib_max as usize * 1024;
    let (mut stopped, mut open) = (None, true);
    let mut buffer = vec![0; READ_BYTES];
    let late = sleep(job.timeout);
    tokio::pin!(late);
    let status = loop {
        let limit = tokio::select! {
            status = &mut waited => break status,
            read = reader.read(&mut buffer), if open => match read {
                Ok(0) | Err(_) => { open = false; None }
                Ok(n) => (output.append(&buffer[..n]) > output_max).then_some(KillReason::Output),
            },
            () = &mut late, if stopped.is_none() => Some(KillReason::Timeout),
            () = cancel.cancelled(), if stopped.is_none() => Some(KillReason::Cancelled),
        };
        if limit.is_some() && stopped.is_none() {
            stopped = limit;
            group.kill();
        }
    };
    let status = status.map_err(Error::internal)?.map_err(Error::internal)?;
    if open {
        let _ = timeout(DRAIN, read_rest(&mut reader, &mut buffer, &mut output)).await;
    }
    Ok((stopped.map_or(ProcessEnd::Exited(status), ProcessEnd::Killed), output))
}

async fn read_rest(reader: &mut Receiver, buffer: &mut [u8], output: &mut Output) {
    while let Ok(n @ 1..) = reader.read(buffer).await {
        output.append(&buffer[..n]);
    }
}

fn command(limits: &BootHooks, job: &Job, writer: io::PipeWriter) -> io::Result<Command> {
    // The running binary, even if the file on disk was replaced.
    let launcher = limits.launcher.as_deref().unwrap_or(Path::new("/proc/self/exe"));
    let limited = [
        ("--cpu-seconds", u64::from(limits.cpu_seconds_max)),
        ("--memory-bytes", u64::from(limits.memory_mib_max) * MIB),
        ("--open-files", u64::from(limits.open_files_max)),
        ("--processes", u64::from(limits.processes_max)),
        ("--file-bytes", u64::from(limits.file_mib_max) * MIB),
    ];
    let mut command = Command::new(launcher);
    command
        .arg0("shoreguard")
        .arg("hook-exec")
        .args(limited.iter().map(|(name, most)| OsString::from(format!("{name}={most}"))))
        .arg("--")
        .arg(&job.program)
        .args(&job.arguments)
        .env_clear()
        .envs(job.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    Ok(command)
}

/// The process group of a child; killed on drop.
struct ProcessGroup {
    id: Pid,
    /// Whether the id cannot have been reused yet.
    live: Arc<Mutex<bool>>,
}

/// The child, to be waited for on a thread that can block.
struct Leader {
    child: Child,
    id: Pid,
    live: Arc<Mutex<bool>>,
}

impl ProcessGroup {
    fn new(child: Child) -> (Self, Leader) {
        let id = Pid::from_child(&child);
        let live = Arc::new(Mutex::new(true));
        (Self { id, live: Arc::clone(&live) }, Leader { child, id, live })
    }

    fn kill(&self) {
        let live = self.live.lock();
        if *live {
            // The group may have ended already.
            let _ = kill_process_group(self.id, Signal::KILL);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Leader {
    /// Waits for the child to exit, kills the rest of its group, and then reaps the child, which frees its id.
    fn wait(mut self) -> io::Result<ExitStatus> {
        let leader = || waitid(WaitId::Pid(self.id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while matches!(leader(), Err(Errno::INTR)) {}
        let status = {
            let mut live = self.live.lock();
            let _ = kill_process_group(self.id, Signal::KILL);
            *live = false;
            self.child.wait()
        };
        // If Shoreguard is process 1 of a container, it must reap the orphaned processes of the group.
        while matches!(waitpgid(self.id, WaitOptions::empty()), Ok(Some(_)) | Err(Errno::INTR)) {}
        for _ in 0..GROUP_CHECKS_MAX {
            if !is_running(self.id) {
                break;
            }
            std::thread::sleep(GROUP_CHECK_EVERY);
        }
        status
    }
}

/// Returns whether a process of a group still runs. A process that has ended does not count, although it is in the
/// group until process 1 reaps it: that may take seconds.
fn is_running(group: Pid) -> bool {
    if test_kill_process_group(group).is_err() {
        return false;
    }
    let id = group.as_raw_nonzero().to_string();
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    processes.flatten().any(|process| {
        let stat = fs::read(process.path().join("stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat);
        // After the name in parentheses: the state, the ID of the parent, and the ID of the group.
        let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
        let mut fields = rest.split(' ');
        let has_ended = matches!(fields.next(), Some("Z" | "X"));
        !has_ended && fields.nth(1) == Some(id.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_not_reaped_does_not_run() {
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let id = Pid::from_child(&child);
        assert!(is_running(id));
        kill_process_group(id, Signal::KILL).unwrap();
        let ended = waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        assert!(ended.unwrap().is_some());
        assert!(test_kill_process_group(id).is_ok() && !is_running(id));
        child.wait().unwrap();
        assert!(!is_running(id));
    }
}
