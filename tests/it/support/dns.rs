//! A DNS server for one test: Twisted Names, a process on loopback that serves the given records.
//!
//! It exits with the test, and when the pipe to it is closed, even if this process crashes.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use shoreguard::config::Config;

/// Serves the records of a file, which it reads again for each line `load` of its input, until its input is closed. After
/// a line `fail`, it answers that it fails. It writes a line when it has obeyed.
const PROGRAM: &str = "
import os, sys, threading, traceback
from twisted.internet import reactor
from twisted.internet import defer
from twisted.names import authority, dns, resolve, server
host, port, zone = sys.argv[1], int(sys.argv[2]), sys.argv[3]
factory = server.DNSServerFactory()
server.log.err = lambda *_: None
class Broken:
    def query(self, query):
        return defer.fail(RuntimeError('it fails'))
def obey(line):
    try:
        broken = line.strip() == 'fail'
        zones = Broken() if broken else resolve.ResolverChain([authority.PySourceAuthority(zone)])
        factory.resolver = zones
        print('done', flush=True)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
def until_alone():
    for line in sys.stdin:
        reactor.callFromThread(obey, line)
    os._exit(0)
reactor.listenUDP(port, dns.DNSDatagramProtocol(factory), interface=host)
reactor.listenTCP(port, factory, interface=host)
threading.Thread(target=until_alone, daemon=True).start()
reactor.run()
";
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
    running: Option<DnsProcess>,
}

/// The process of a server. It exits when its input is closed.
struct DnsProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl DnsServer {
    /// Starts a server and waits until it accepts queries.
    fn start(records: &[Record]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { address: free_address(), folder, running: None };
        server.serve(records);
        server
    }

    /// Replaces all records. Starts the process if it was stopped.
    pub(crate) fn serve(&mut self, records: &[Record]) {
        let mut zone = "zone = [SOA('test', mname='ns.test', rname='root.test', serial=1, refresh=60, retry=60, expire=60, minimum=0, ttl=0),\n".to_owned();
        for Record(record) in records {
            zone.push_str(record);
            zone.push_str(",\n");
        }
        zone.push(']');
        let path = self.folder.path().join("zone.py");
        std::fs::write(&path, zone).unwrap();
        let address = self.address;
        let running = self.running.get_or_insert_with(|| DnsProcess::start(address, &path));
        running.obey("load");
        self.wait_until_it_answers();
    }

    /// Answers each query with SERVFAIL until [`DnsServer::serve`] is called.
    pub(crate) fn fail(&mut self) {
        self.running.as_mut().unwrap().obey("fail");
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
        if let Some(DnsProcess { mut child, .. }) = self.running.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}

impl DnsProcess {
    fn start(address: SocketAddr, zone: &Path) -> Self {
        let mut child = Command::new(python("twisted"))
            .args(["-c", PROGRAM, &address.ip().to_string(), &address.port().to_string()])
            .arg(zone)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn obey(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
        let mut said = String::new();
        self.output.read_line(&mut said).unwrap();
        assert_eq!(said, "done\n", "the DNS server has ended");
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

/// Returns the Python of a folder of `target/tools`. The folder `target` is that of this binary.
pub(crate) fn python(tool: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let python = own.ancestors().nth(3).unwrap().join(format!("tools/{tool}/bin/python"));
    assert!(
        python.exists(),
        "a server of the tests is missing: run `scripts/tools`, which installs it into {}",
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
