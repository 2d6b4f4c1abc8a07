//! A DNS server for one test: Twisted Names, a process on loopback that serves the given records.
//!
//! It exits with the test, and when the pipe to it is closed, even if this process crashes.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use shoreguard::config::Config;

/// Runs `twistd` until its input is closed.
const LAUNCH: &str = "
import os, sys, threading
def until_alone():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=until_alone, daemon=True).start()
from twisted.scripts.twistd import run
run()
";
/// Messages of the process when it accepts queries, by UDP and by TCP.
const STARTED: [&str; 2] = ["DNSDatagramProtocol starting on", "DNSServerFactory starting on"];
/// Timeout of a response on loopback on a busy machine.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// A query for the SOA record of `test`, which every zone has.
const QUESTION: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x04test\0\0\x06\0\x01";

thread_local! {
    /// Passes the server from the configuration step to the test. Both run on this thread.
    static STARTED_HERE: RefCell<Option<DnsServer>> = const { RefCell::new(None) };
}

/// A record in the syntax of Twisted Names. Its TTL is 0, so it is not cached.
pub(crate) struct Record(String);

/// Returns an SRV record of a gateway that a domain offers. An empty host means that the domain offers no gateway.
pub(crate) fn srv_record(
    domain: &str,
    priority: u16,
    weight: u16,
    host: &str,
    port: u16,
) -> Record {
    let name = format!("_openshell._tcp.{domain}");
    Record(format!("SRV('{name}', {priority}, {weight}, {port}, '{host}', ttl=0)"))
}

/// Returns an address record of a host.
pub(crate) fn address_record(host: &str, ip: &str) -> Record {
    let kind = if ip.contains(':') { "AAAA" } else { "A" };
    Record(format!("{kind}('{host}', '{ip}', ttl=0)"))
}

/// A running server.
pub(crate) struct DnsServer {
    address: SocketAddr,
    folder: tempfile::TempDir,
    running: Option<(Child, ChildStdin)>,
}

impl DnsServer {
    /// Starts a server and waits until it accepts queries.
    fn start(records: &[Record]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { address: free_address(), folder, running: None };
        server.serve(records);
        server
    }

    /// Replaces all records.
    pub(crate) fn serve(&mut self, records: &[Record]) {
        self.stop();
        let mut zone = "zone = [SOA('test', mname='ns.test', rname='root.test', serial=1, refresh=60, retry=60, expire=60, minimum=0, ttl=0),\n".to_owned();
        for Record(record) in records {
            zone.push_str(record);
            zone.push_str(",\n");
        }
        zone.push(']');
        let path = self.folder.path().join("zone.py");
        std::fs::write(&path, zone).unwrap();
        let mut child = Command::new(python())
            .args(["-c", LAUNCH, "--nodaemon", "--pidfile=", "--logfile=-", "dns"])
            .args(["--interface", "127.0.0.1", "--port", &self.address.port().to_string()])
            .arg("--pyzone")
            .arg(&path)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        self.running = Some((child, input));
        let (mut said, mut line) = (String::new(), String::new());
        while !STARTED.iter().all(|started| said.contains(started)) {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the DNS server has ended: {said}");
            said.push_str(&line);
        }
        // Drains the log, since the process would block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(ANSWER_TIME)).unwrap();
        socket.send_to(QUESTION, self.address).unwrap();
        let mut answer = [0; 512];
        socket.recv(&mut answer).expect("the DNS server does not answer");
    }

    /// Stops the process.
    pub(crate) fn stop(&mut self) {
        if let Some((mut child, input)) = self.running.take() {
            drop(input);
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns an address that is unused for UDP and TCP. Its port is below the range for automatic ports, so that a
/// restarted server finds it still unused.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_this_process = u16::try_from(std::process::id() % 1_000).unwrap() * 10;
    loop {
        let next = of_this_process.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + next));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Returns the Python of `target/tools/twisted`. The folder `target` is that of this binary.
fn python() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let python = own.ancestors().nth(3).unwrap().join("tools/twisted/bin/python");
    assert!(
        python.exists(),
        "the DNS server of the tests is missing: run `scripts/tools`, which installs it into {}",
        python.display()
    );
    python
}

/// Starts a DNS server and configures the server under test to use it. The latter may connect only to 127.0.0.2 on this
/// host.
pub(crate) fn use_dns_server(config: &mut Config, records: &[Record]) {
    let dns = DnsServer::start(records);
    config.gateways.dns_servers = vec![dns.address];
    config.gateways.allowed_networks = vec!["127.0.0.2/32".parse().unwrap()];
    STARTED_HERE.set(Some(dns));
}

/// Returns the server that was started for this test.
pub(crate) fn take_dns_server() -> DnsServer {
    STARTED_HERE.take().unwrap()
}
