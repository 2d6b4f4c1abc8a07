//! The server in a process of its own, to test its log, signals, limits and exit.

use std::fmt::Write as _;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tonic::transport::Endpoint;

use super::server::{Bearer, Caller};
use crate::commands::{ChildProcess, find_string, read_line_with, shoreguard_command};

/// Timeout of a start.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running server and its addresses.
pub(crate) struct ChildServer {
    pub(crate) process: ChildProcess,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

/// Configuration of a server.
pub(crate) struct ChildSetup {
    folder: tempfile::TempDir,
    api: ReservedAddress,
    metrics: ReservedAddress,
}

impl ChildSetup {
    /// Writes a configuration file that ends with `more`. The addresses are reserved before the start, since the log
    /// may not report them.
    pub(crate) fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (api, metrics) = (reserve_address(), reserve_address());
        let mut text = String::new();
        let data = folder.path().join("data");
        write!(
            text,
            "[server]\nlisten = \"{}\"\ndata_dir = \"{}\"\ncores = 2\n{more}\n",
            api.address,
            data.display()
        )
        .unwrap();
        std::fs::write(folder.path().join("shoreguard.toml"), text).unwrap();
        Self { folder, api, metrics }
    }

    /// Returns a command of the server with this configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = shoreguard_command(arguments);
        self.configure(&mut command);
        command
    }

    /// Returns the same command with a limit of file descriptors.
    pub(crate) fn command_with_descriptors(&self, descriptors: u32, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]);
        command
            .arg(shoreguard_command(&[]).get_program())
            .args(arguments)
            .env_remove("SHOREGUARD_KEY");
        self.configure(&mut command);
        command
    }

    fn configure(&self, command: &mut Command) {
        command.env("SHOREGUARD_CONFIG", self.folder.path().join("shoreguard.toml"));
        command.env("SHOREGUARD_TELEMETRY_METRICS_LISTEN", self.metrics.address.to_string());
        // A follower would use up the scripts of simulated gateways.
        command.env("SHOREGUARD_POLICIES_FOLLOW_INTERVAL_SECONDS", "3600");
    }

    /// Returns the data folder.
    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// Starts a server and waits until it is ready. Its configuration is removed when this is dropped.
    pub(crate) async fn serve(&self, mut command: Command) -> ChildServer {
        let process = ChildProcess(command.stdin(Stdio::null()).spawn().unwrap());
        let (address, metrics) = (self.address(), self.metrics_address());
        let mut child = ChildServer { process, address, metrics };
        child.wait_ready(&self.log_path()).await;
        child
    }

    /// Returns the address of the API.
    pub(crate) fn address(&self) -> SocketAddr {
        self.api.address
    }

    /// Returns the address of the metrics.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics.address
    }

    /// Returns the path for a log file.
    pub(crate) fn log_path(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }
}

/// Starts a server by its command, on a port that the system chooses. Returns it with the address of its API, which its
/// log names.
pub(crate) fn start_serving(mut command: Command) -> (ChildProcess, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let process = ChildProcess(child);
    let serving: serde_json::Value =
        serde_json::from_str(&read_line_with(&mut log, "\"serving\"")).unwrap();
    let address = find_string(&serving, "address").unwrap().to_owned();
    // Drains the log, so that a full pipe does not block the server.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (process, address)
}

/// An address on which no process listens. Until this is dropped, the system gives its port to no program that lets the
/// system choose, and a server with this address in its configuration can still listen on it, also repeatedly.
pub(crate) struct ReservedAddress {
    pub(crate) address: SocketAddr,
    /// Is bound and does not listen, so that connections are refused.
    _socket: TcpSocket,
}

/// Reserves an address.
pub(crate) fn reserve_address() -> ReservedAddress {
    let socket = TcpSocket::new_v4().unwrap();
    // Two sockets with this option can have the same port, if at most one of them listens. Listeners of tokio have it.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 9], 0))).unwrap();
    ReservedAddress { address: socket.local_addr().unwrap(), _socket: socket }
}

impl ChildServer {
    async fn wait_ready(&mut self, log: &Path) {
        let begun = Instant::now();
        while !matches!(get(self.metrics, "/readyz").await, Ok(answer) if answer.starts_with("HTTP/1.1 200"))
        {
            let ended = self.process.0.try_wait().unwrap();
            let log = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(ended.is_none(), "it ended: {ended:?} {}", log());
            assert!(begun.elapsed() < PATIENCE, "it is not ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns a caller with a connection of its own.
    pub(crate) fn caller(&self, key: Option<&str>) -> Caller {
        let endpoint = Endpoint::new(format!("http://{}", self.address)).unwrap();
        let channel = endpoint.timeout(PATIENCE).connect_lazy();
        Caller { channel, bearer: Bearer(key.map(str::to_owned)) }
    }

    /// Returns the value of a metric with its labels, or 0 if it does not exist yet.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let answer = get(self.metrics, "/metrics").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Sends SIGTERM and waits until the server has exited.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.process.signal("TERM");
        tokio::task::spawn_blocking(move || self.process.wait_exit()).await.unwrap()
    }
}

/// Sends a GET over HTTP/1.1 on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let asking = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    tokio::time::timeout(PATIENCE, asking).await?
}

/// A file that fails every write.
pub(crate) fn full_disk() -> Stdio {
    std::fs::File::options().write(true).open(Path::new("/dev/full")).unwrap().into()
}
