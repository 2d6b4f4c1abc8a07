//! Other proxies in front of the same upstream: HAProxy, nginx, and Envoy in two forms. Their configurations are the
//! files in this folder.
//!
//! Invariants
//! - A peer uses as many threads as the host has cores, as Shoreguard does, and keeps its connections open.
//! - The forms without checks do less than Shoreguard: they neither authenticate a caller nor decide nor log.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::child::Child;
use crate::load::{self, Call};
use crate::{Bench, BoxError, tools};

/// The token of the caller for Envoy with checks, RS256, which does not expire. Its private key was deleted.
pub(crate) const TOKEN: &str = include_str!("caller.jwt");
/// The public key of the token.
const TOKEN_KEYS: &str = include_str!("jwks.json");
/// Time for a peer to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of ports that are tried. A peer cannot report a port that the system has chosen, and another process can get
/// the port before the peer does.
const PORTS_MAX: usize = 5;
/// What every peer writes to its log if another process has the port.
const IN_USE: &str = "Address already in use";
/// Marks the lines of Envoy's configuration that only the form with checks has.
const CHECKED: &str = "#checked ";

/// A proxy that is measured beside Shoreguard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// HAProxy.
    HaProxy,
    /// nginx with `grpc_pass`.
    Nginx,
    /// Envoy as a plain forwarder.
    Envoy,
    /// Envoy with `jwt_authn`, `rbac` and an access log.
    EnvoyChecked,
}

/// A running peer. It is stopped when dropped, before its folder is removed.
#[derive(Debug)]
pub(crate) struct RunningPeer {
    /// Its process.
    pub(crate) process: Child,
    _folder: TempDir,
}

impl Peer {
    /// All peers, in the order in which they are measured.
    pub(crate) const ALL: [Self; 4] = [Self::HaProxy, Self::Nginx, Self::Envoy, Self::EnvoyChecked];

    /// Returns the name in the output.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HaProxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::EnvoyChecked => "Envoy, jwt_authn + rbac + log",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy | Self::EnvoyChecked => "envoy",
        }
    }

    /// Returns the name of the configuration. Envoy decides by the extension how it is read.
    fn file_name(self) -> &'static str {
        match self {
            Self::HaProxy => "haproxy.cfg",
            Self::Nginx => "nginx.conf",
            Self::Envoy | Self::EnvoyChecked => "envoy.yaml",
        }
    }

    /// Returns the configuration, with placeholders.
    fn template(self) -> String {
        match self {
            Self::HaProxy => include_str!("haproxy.cfg").to_owned(),
            Self::Nginx => include_str!("nginx.conf").to_owned(),
            Self::Envoy => include_str!("envoy.yaml").to_owned(),
            Self::EnvoyChecked => include_str!("envoy.yaml").replace(CHECKED, ""),
        }
    }

    /// Starts the peer in front of an upstream. `call` must be answered with OK through it.
    pub(crate) fn start(
        self,
        bench: &Bench,
        upstream: SocketAddr,
        call: &Call,
    ) -> Result<RunningPeer, BoxError> {
        let program = tools::find(self.program())?;
        let mut tried = 1;
        loop {
            match self.start_on(free_address()?, &program, bench, upstream, call) {
                Err(fault) if tried < PORTS_MAX && fault.to_string().contains(IN_USE) => tried += 1,
                result => return result,
            }
        }
    }

    /// Starts the peer on a port. The error contains `IN_USE` if another process has it.
    fn start_on(
        self,
        listen: SocketAddr,
        program: &Path,
        bench: &Bench,
        upstream: SocketAddr,
        call: &Call,
    ) -> Result<RunningPeer, BoxError> {
        let folder = tempfile::Builder::new().prefix("sg-reach-").tempdir()?;
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let (config, log) = (path(self.file_name()), path("log"));
        let threads = std::thread::available_parallelism()?.to_string();
        std::fs::write(&config, self.configuration(folder.path(), &threads, listen, upstream))?;
        std::fs::write(path("jwks.json"), TOKEN_KEYS)?;
        let prefix = folder.path().to_string_lossy().into_owned();
        let args: Vec<&str> = match self {
            Self::HaProxy => vec!["-db", "-f", config.as_str()],
            Self::Nginx => vec!["-p", prefix.as_str(), "-c", config.as_str(), "-e", log.as_str()],
            Self::Envoy | Self::EnvoyChecked => {
                let quiet = ["--disable-hot-restart", "--log-level", "error"];
                let run = ["-c", config.as_str(), "--concurrency", threads.as_str()];
                [&run[..], &quiet[..]].concat()
            }
        };
        let mut process = Child::supervise(program, &args, Path::new(&log), listen)?;
        let begun = Instant::now();
        while let Err(fault) = bench.runtime.block_on(load::send_once(listen, call)) {
            if begun.elapsed() > START_TIMEOUT || process.has_ended() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let in_use = log.lines().rfind(|line| line.contains(IN_USE));
                let last = log.lines().rfind(|line| !line.trim().is_empty());
                let why = in_use.or(last).unwrap_or_default();
                return Err(format!("{} does not serve: {fault} {why}", self.name()).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(RunningPeer { process, _folder: folder })
    }

    /// Fills in the placeholders.
    fn configuration(
        self,
        folder: &Path,
        threads: &str,
        listen: SocketAddr,
        upstream: SocketAddr,
    ) -> String {
        let values = [
            ("@FOLDER@", folder.to_string_lossy().into_owned()),
            ("@THREADS@", threads.to_owned()),
            ("@LISTEN@", listen.to_string()),
            ("@LISTEN_HOST@", listen.ip().to_string()),
            ("@LISTEN_PORT@", listen.port().to_string()),
            ("@UPSTREAM@", upstream.to_string()),
            ("@UPSTREAM_HOST@", upstream.ip().to_string()),
            ("@UPSTREAM_PORT@", upstream.port().to_string()),
        ];
        values
            .iter()
            .fold(self.template(), |text, (placeholder, value)| text.replace(placeholder, value))
    }
}

/// Returns an address on which no process listens at the moment.
fn free_address() -> Result<SocketAddr, BoxError> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
