//! The load by h2load, the load generator of nghttp2, which uses less processor time than a caller written in Rust.
//!
//! Invariants
//! - h2load knows only HTTP, where a refused gRPC call is a success. The bytes of the responses show that each call
//!   returned its message.
//! - The durations are those of its log, in microseconds. Calls that ended in the warm-up are not counted.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::load::{Call, GRACE, LoadResult, LoadShape};
use crate::{BoxError, child, tools};

/// HTTP status in the log of a call that returned a response.
const HTTP_OK: &str = "200";

/// The program, and a folder for its files.
#[derive(Debug)]
pub(crate) struct H2load {
    program: PathBuf,
    folder: TempDir,
}

/// What h2load prints about a load.
#[derive(Debug)]
struct Totals {
    done: usize,
    failed: usize,
    data_bytes: usize,
}

impl H2load {
    /// Finds the program.
    pub(crate) fn find() -> Result<Self, BoxError> {
        let program = tools::find("h2load")?;
        let folder = tempfile::Builder::new().prefix("sg-reach-").tempdir()?;
        Ok(Self { program, folder })
    }

    /// Calls for the given time, after a warm-up of a tenth of it that is not counted. Each response must be a message
    /// of `response_bytes`.
    pub(crate) fn run(
        &self,
        address: SocketAddr,
        call: &Call,
        response_bytes: usize,
        shape: LoadShape,
        time: Duration,
    ) -> Result<LoadResult, BoxError> {
        let path = |name: &str| self.folder.path().join(name);
        let (frame, log, output) = (path("frame"), path("log"), path("output"));
        std::fs::write(&frame, &call.frame)?;
        // h2load appends to an existing log.
        File::create(&log)?;
        let threads = shape.connections.min(std::thread::available_parallelism()?.get());
        let mut command = Command::new(&self.program);
        command.arg("--clients").arg(shape.connections.to_string());
        command.arg("--max-concurrent-streams").arg(shape.streams.to_string());
        command.arg("--threads").arg(threads.to_string());
        command.arg("--duration").arg(format!("{}ms", (time + time / 10).as_millis()));
        command.arg("--data").arg(&frame).arg("--log-file").arg(&log);
        for (name, value) in &call.headers {
            command.arg("--header").arg(format!("{name}: {}", value.to_str()?));
        }
        command.arg(format!("http://{address}{}", call.path));
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(Stdio::null());
        child::wait_for(command.spawn()?, "h2load", time + time / 10 + GRACE)?;
        check(&std::fs::read_to_string(&output)?, 5 + response_bytes)?;
        let durations = read_log(&std::fs::read_to_string(&log)?, time)?;
        Ok(LoadResult::new(durations, time))
    }
}

/// Checks that all calls returned a message of the expected size.
fn check(output: &str, frame_bytes: usize) -> Result<(), BoxError> {
    let totals = Totals::parse(output).ok_or_else(|| format!("h2load printed:\n{output}"))?;
    if totals.done == 0 || totals.failed > 0 {
        let Totals { done, failed, .. } = totals;
        return Err(format!("h2load: {done} calls were answered, {failed} failed").into());
    }
    // The data includes responses that arrived after the end, which are not counted as calls.
    if totals.data_bytes < totals.done * frame_bytes {
        let Totals { done, data_bytes, .. } = totals;
        let got = format!("{done} calls returned {data_bytes} bytes in all");
        return Err(format!("{got}, not {frame_bytes} each: some were refused").into());
    }
    Ok(())
}

impl Totals {
    /// Parses the lines that begin with `requests:` and `traffic:`.
    fn parse(output: &str) -> Option<Self> {
        let line = |name: &str| output.lines().find_map(|line| line.strip_prefix(name));
        let requests = line("requests:")?;
        let count = |what: &str| -> Option<usize> {
            let part = requests.split(',').find_map(|part| part.trim().strip_suffix(what))?;
            part.trim().parse().ok()
        };
        // `traffic: 14.27MB (14965152) total, 155.60KB (159336) headers (...), 15.32MB (16067400) data`
        let (_, data) = line("traffic:")?.rsplit_once('(')?;
        Some(Self {
            done: count("done")?,
            failed: count("failed")? + count("errored")? + count("timeout")?,
            data_bytes: data.split(')').next()?.parse().ok()?,
        })
    }
}

/// Returns the durations of the calls that ended in the measured time, in nanoseconds.
fn read_log(log: &str, time: Duration) -> Result<Vec<u32>, BoxError> {
    let mut calls = Vec::new();
    for line in log.lines() {
        // Start in microseconds since 1970, HTTP status, and duration in microseconds.
        let mut fields = line.split('\t');
        let (Some(start), Some(status), Some(took)) = (fields.next(), fields.next(), fields.next())
        else {
            return Err(format!("h2load logged `{line}`").into());
        };
        if status != HTTP_OK {
            return Err(format!("a call was answered with the HTTP status {status}").into());
        }
        calls.push((start.parse::<u64>()?, took.parse::<u64>()?));
    }
    let begun = calls.iter().map(|(start, _)| *start).min().ok_or("h2load logged no calls")?;
    let time = u64::try_from(time.as_micros())?;
    let (from, until) = (begun + time / 10, begun + time / 10 + time);
    let counted = calls.iter().filter(|(start, took)| (from..until).contains(&(start + took)));
    Ok(counted.map(|(_, took)| u32::try_from(took * 1_000).unwrap_or(u32::MAX)).collect())
}
