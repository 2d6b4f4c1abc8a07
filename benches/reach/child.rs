//! Child processes: this program, started again with a role, and other servers under the supervision of a shell.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::BoxError;

/// The first argument of a child. The role follows it.
pub(crate) const ROLE: &str = "--role";

/// Time for a server to start.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for a child to exit before it is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(15);
/// Unit in which the kernel counts processor time.
const TICKS_PER_SECOND: f64 = 100.0;
/// Position of the parent among the fields after the name in `/proc/ID/stat`.
const PARENT: usize = 1;
/// Position of the time in user mode. The time in the kernel follows.
const USER_TIME: usize = 11;

/// Starts a program, prints its id, and stops it when standard input is closed, which also happens if this process
/// crashes. Exits when the program does. Signals of a terminal are ignored once the program runs, since they also reach
/// this process.
const SUPERVISOR: &str = r#"log=$1
shift
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
program=$!
trap '' INT TERM HUP
echo "$program"
{ read -r _ <&3; kill -TERM "$program"; sleep 5; kill -KILL "$program"; } >/dev/null 2>&1 &
wait "$program"
kill -KILL $!"#;

/// A running process. It is stopped when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    /// Id of the measured process, which is not `process` if that is a supervisor.
    pub(crate) id: u32,
    /// The address it listens on.
    pub(crate) address: SocketAddr,
}

fn role_command(role: &str, args: &[&str]) -> Result<Command, BoxError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ROLE).arg(role).args(args).stdin(Stdio::piped());
    Ok(command)
}

/// Reads the first line that a process prints. It is empty if the process exits before that.
fn first_line(process: &mut std::process::Child) -> Result<String, BoxError> {
    let out = process.stdout.take().ok_or("no output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    Ok(line)
}

/// Returns the address that a server listens on. `None` if its log does not name it yet. `start` is the size of the log
/// before the server was started, in bytes.
fn logged_address(log: &Path, start: u64) -> Result<Option<SocketAddr>, BoxError> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    for line in bytes.split(|byte| *byte == b'\n') {
        // The last line may be incomplete.
        let Ok(entry) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
        if entry["message"] == "serving" {
            let address = entry["address"].as_str().ok_or("the log has no address")?;
            return Ok(Some(address.parse()?));
        }
    }
    Ok(None)
}

/// Returns the fields after the name in `/proc/ID/stat`. `None` if the process does not exist.
fn stat_fields(id: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name can contain any character, so the fields begin after its closing parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

impl Child {
    /// Starts a role that prints its listen address on standard output.
    pub(crate) fn start(role: &str, args: &[&str]) -> Result<Self, BoxError> {
        let mut process = role_command(role, args)?.stdout(Stdio::piped()).spawn()?;
        let line = first_line(&mut process)?;
        let address = line.trim().parse().map_err(|_| format!("`{role}` did not start"))?;
        Ok(Self { id: process.id(), process, address })
    }

    /// Starts another server, which will listen on `address`. Its output is appended to a file.
    pub(crate) fn supervise(
        program: &Path,
        args: &[&str],
        log: &Path,
        address: SocketAddr,
    ) -> Result<Self, BoxError> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SUPERVISOR, "sh"]).arg(log).arg(program).args(args);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = shell.spawn()?;
        let line = first_line(&mut process)?;
        let id = line.trim().parse().map_err(|_| format!("{} cannot run", program.display()))?;
        Ok(Self { process, id, address })
    }

    /// Starts the released command line, and waits until it listens. Its log is appended to a file, where it names the
    /// address: the system chooses the port.
    pub(crate) fn serve(config: &Path, log: &Path) -> Result<Self, BoxError> {
        let config = config.to_str().ok_or("the path of the configuration is not valid UTF-8")?;
        let file = File::options().create(true).append(true).open(log)?;
        let start = file.metadata()?.len();
        let mut command = role_command("shoreguard", &["serve", "--config", config])?;
        let process = command.stdout(Stdio::null()).stderr(file).spawn()?;
        let begun = Instant::now();
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut child = Self { id: process.id(), process, address: unknown };
        loop {
            if let Some(address) = logged_address(log, start)? {
                child.address = address;
                return Ok(child);
            }
            if begun.elapsed() > START_TIMEOUT || child.has_ended() {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                return Err(format!("the server does not start\n{log}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns the processor time that it and its children have used.
    pub(crate) fn processor_time(&self) -> Result<Duration, BoxError> {
        let mut ticks = 0.0;
        for id in self.processes()? {
            // A child may have exited meanwhile.
            let Some(fields) = stat_fields(id) else { continue };
            for field in fields.iter().skip(USER_TIME).take(2) {
                ticks += field.parse::<f64>()?;
            }
        }
        Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }

    /// Returns its resident memory and that of its children, in megabytes. Pages that they share are counted for each.
    pub(crate) fn resident_mb(&self) -> Result<f64, BoxError> {
        let mut kilobytes = 0.0;
        for id in self.processes()? {
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            // A child may have exited meanwhile.
            let Some(resident) = line.and_then(|line| line.trim().strip_suffix(" kB")) else {
                continue;
            };
            kilobytes += resident.trim().parse::<f64>()?;
        }
        if kilobytes == 0.0 {
            return Err(format!("process {} has exited", self.id).into());
        }
        Ok(kilobytes * 1_024.0 / 1e6)
    }

    /// Returns the ids of the measured process and of its children, such as the workers of nginx.
    fn processes(&self) -> Result<Vec<u32>, BoxError> {
        let own = self.id.to_string();
        let mut found = vec![self.id];
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if stat_fields(id).is_some_and(|fields| fields.get(PARENT) == Some(&own)) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Returns whether it has exited.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The child exits when its standard input is closed.
        drop(self.process.stdin.take());
        let begun = Instant::now();
        while !self.has_ended() {
            if begun.elapsed() > EXIT_TIMEOUT {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs a command of the released command line until it exits, and returns its output.
pub(crate) fn run_shoreguard(args: &[&str], log: &Path) -> Result<String, BoxError> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = role_command("shoreguard", args)?;
    // Keep the input open: the child reads nothing from it, but would exit if it were closed.
    let mut process = command.stdout(Stdio::piped()).stderr(log).spawn()?;
    let input = process.stdin.take();
    let output = process.wait_with_output()?;
    drop(input);
    if !output.status.success() {
        return Err(format!("`shoreguard {}` failed", args.join(" ")).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Waits until a program exits with success. Kills it after the given time.
pub(crate) fn wait_for(
    mut process: std::process::Child,
    name: &str,
    time: Duration,
) -> Result<(), BoxError> {
    let begun = Instant::now();
    loop {
        match process.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("`{name}` failed: {status}").into()),
            None if begun.elapsed() > time => {
                process.kill()?;
                process.wait()?;
                return Err(format!("`{name}` did not end in time").into());
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Returns the load averages of the host over the last 1, 5 and 15 minutes.
pub(crate) fn load_average() -> Result<String, BoxError> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
