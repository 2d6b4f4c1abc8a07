//! Child processes: this program, started again with a role.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::BoxError;

/// The first argument of a child. The role follows it.
pub(crate) const ROLE: &str = "--role";

/// Time for a child to exit before it is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(15);
/// Unit in which the kernel counts processor time.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running process. It is stopped when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    /// The address it listens on.
    pub(crate) address: SocketAddr,
}

fn role_command(role: &str, args: &[&str]) -> Result<Command, BoxError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ROLE).arg(role).args(args).stdin(Stdio::piped());
    Ok(command)
}

impl Child {
    /// Starts a role that prints its listen address on standard output.
    pub(crate) fn start(role: &str, args: &[&str]) -> Result<Self, BoxError> {
        let mut process = role_command(role, args)?.stdout(Stdio::piped()).spawn()?;
        let out = process.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        // A child that cannot serve exits, which closes its output.
        BufReader::new(out).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("`{role}` did not start"))?;
        Ok(Self { process, address })
    }

    /// Starts the released command line, which will listen on `address`. Its log is written to a file.
    pub(crate) fn serve(config: &Path, log: &Path, address: SocketAddr) -> Result<Self, BoxError> {
        let config = config.to_str().ok_or("the path of the configuration is not valid UTF-8")?;
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let mut command = role_command("shoreguard", &["serve", "--config", config])?;
        let process = command.stdout(Stdio::null()).stderr(log).spawn()?;
        Ok(Self { process, address })
    }

    /// Returns the processor time it has used.
    pub(crate) fn processor_time(&self) -> Result<Duration, BoxError> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name can contain any character. After its closing parenthesis, 11 fields (the state and ten more) precede
        // the two times.
        let (_, fields) = stat.rsplit_once(')').ok_or("/proc has changed")?;
        let mut times = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        let (Some(user), Some(system)) = (times.next(), times.next()) else {
            return Err("/proc has changed".into());
        };
        Ok(Duration::from_secs_f64((user? + system?) / TICKS_PER_SECOND))
    }

    /// Returns its resident memory, in megabytes.
    pub(crate) fn resident_mb(&self) -> Result<f64, BoxError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kilobytes.ok_or("/proc has changed")?.trim().parse::<f64>()? * 1_024.0 / 1e6)
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
    let log = std::fs::File::options().create(true).append(true).open(log)?;
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

/// Returns the load averages of the host over the last 1, 5 and 15 minutes.
pub(crate) fn load_average() -> Result<String, BoxError> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
