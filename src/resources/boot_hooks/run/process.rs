//! A process on our own host, with all that it starts: limited, ended as a group, waited for.
//!
//! Invariants
//! - whatever way a run ends, nothing of its process group lives on: on a limit, when it has exited and left children
//!   behind, and when its caller is gone;
//! - the group is signalled only while its id can't be another's: its leader is not reaped before;
//! - its output is read with a bound, and it inherits nothing but what is named here.

use std::ffi::OsString;
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

/// How long the rest of the output is waited for when the group is gone: a process that left it may hold the pipe.
const DRAIN: Duration = Duration::from_secs(1);
/// How often and how long it is looked whether the group is gone.
const GONE_LOOKS_MAX: u32 = 200;
const GONE_LOOK_EVERY: Duration = Duration::from_millis(5);
/// Bytes that are read at once.
const READ_BYTES: usize = 8 * 1024;
const MIB: u64 = 1024 * 1024;

/// What to run.
pub(super) struct Job {
    /// The program, trusted.
    pub(super) program: PathBuf,
    /// What it is given.
    pub(super) arguments: Vec<String>,
    /// All of its environment.
    pub(super) environment: Vec<(String, String)>,
    /// How long it may take.
    pub(super) timeout: Duration,
}

/// Why it was ended before its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It took too long.
    Timeout,
    /// It wrote too much.
    Output,
    /// Its caller no longer wants it.
    Cancelled,
}

/// How it ended.
pub(super) enum Ended {
    /// By itself, or by a signal that was none of ours.
    Exited(ExitStatus),
    /// By us.
    Stopped(Stopped),
}

impl Ended {
    /// Whether it did what it was to do, and how it ended in words.
    pub(super) fn words(&self, job_timeout: Duration) -> (bool, String) {
        match self {
            Self::Exited(status) => match (status.code(), status.signal()) {
                (Some(code), _) => (code == 0, format!("exit {code}")),
                (None, Some(signal)) => (false, format!("ended by signal {signal}")),
                (None, None) => (false, "ended".to_owned()),
            },
            Self::Stopped(Stopped::Timeout) => {
                (false, format!("took longer than {} s", job_timeout.as_secs()))
            }
            Self::Stopped(Stopped::Output) => (false, "wrote more than it may".to_owned()),
            Self::Stopped(Stopped::Cancelled) => (false, "cancelled".to_owned()),
        }
    }
}

/// Runs it to its end, or to one of its limits.
pub(super) async fn run(
    limits: &BootHooks,
    job: &Job,
    cancel: &CancellationToken,
) -> Result<(Ended, Output), Error> {
    let (reader, writer) = io::pipe().map_err(Error::internal)?;
    let child = command(limits, job, writer).and_then(|mut command| command.spawn());
    // Of the pipe's other end only the child's own is left now: the output ends with it.
    let (group, leader) = Group::of(child.map_err(Error::internal)?);
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
                Ok(n) => (output.take(&buffer[..n]) > output_max).then_some(Stopped::Output),
            },
            () = &mut late, if stopped.is_none() => Some(Stopped::Timeout),
            () = cancel.cancelled(), if stopped.is_none() => Some(Stopped::Cancelled),
        };
        if limit.is_some() && stopped.is_none() {
            stopped = limit;
            group.kill();
        }
    };
    let status = status.map_err(Error::internal)?.map_err(Error::internal)?;
    if open {
        let _ = timeout(DRAIN, rest(&mut reader, &mut buffer, &mut output)).await;
    }
    Ok((stopped.map_or(Ended::Exited(status), Ended::Stopped), output))
}

async fn rest(reader: &mut Receiver, buffer: &mut [u8], output: &mut Output) {
    while let Ok(n @ 1..) = reader.read(buffer).await {
        output.take(&buffer[..n]);
    }
}

fn command(limits: &BootHooks, job: &Job, writer: io::PipeWriter) -> io::Result<Command> {
    // The binary that runs, also where another has taken its place on the disk.
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

/// The process group of a child; ended when this is dropped.
struct Group {
    id: Pid,
    /// Whether its id is still its own.
    live: Arc<Mutex<bool>>,
}

/// The child itself, to be waited for where waiting may block.
struct Leader {
    child: Child,
    id: Pid,
    live: Arc<Mutex<bool>>,
}

impl Group {
    fn of(child: Child) -> (Self, Leader) {
        let id = Pid::from_child(&child);
        let live = Arc::new(Mutex::new(true));
        (Self { id, live: Arc::clone(&live) }, Leader { child, id, live })
    }

    fn kill(&self) {
        let live = self.live.lock();
        if *live {
            // Gone already is as good.
            let _ = kill_process_group(self.id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Leader {
    /// Waits for the child's end, ends what it has left behind, and then lets the system have its id back.
    fn wait(mut self) -> io::Result<ExitStatus> {
        let leader = || waitid(WaitId::Pid(self.id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while matches!(leader(), Err(Errno::INTR)) {}
        let status = {
            let mut live = self.live.lock();
            let _ = kill_process_group(self.id, Signal::KILL);
            *live = false;
            self.child.wait()
        };
        // Where we are the first process of a container, they are ours to reap.
        while matches!(waitpgid(self.id, WaitOptions::empty()), Ok(Some(_)) | Err(Errno::INTR)) {}
        for _ in 0..GONE_LOOKS_MAX {
            if test_kill_process_group(self.id).is_err() {
                break;
            }
            std::thread::sleep(GONE_LOOK_EVERY);
        }
        status
    }
}
