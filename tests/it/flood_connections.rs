//! T16: many connections do not harm other callers.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use http_body_util::Full;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shoreguard::db::Engine;
use shoreguard::pb::v0_1::openshell::v1 as openshell;
use shoreguard::pb::v1 as pb;
use shoreguard::server::health::is_ready;
use shoreguard::server::listen;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tonic::Request;

use crate::support::child::{ChildServer, ChildSetup, get};
use crate::support::server::{Caller, TestServer, build, config};
use crate::support::{DbLocation, soon};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Limit of file descriptors of the flooded server.
pub(crate) const DESCRIPTORS: u32 = 1_024;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Raises the limit of file descriptors of the test process to its maximum, and checks that it is at least `count`.
pub(crate) fn need_descriptors(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let enough = limit.maximum.is_none_or(|maximum| maximum >= count);
    assert!(enough, "this test needs `ulimit -n` of {count}: {limit:?}");
}

async fn socket(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// Opens connections that send nothing, a part of a request's head, or only the start of HTTP/2.
pub(crate) async fn idle(count: usize, from: &str, to: SocketAddr) -> Vec<TcpStream> {
    let preface = [PREFACE, SETTINGS].concat();
    let said: [&[u8]; 3] = [b"", b"GET /metrics HT", &preface];
    let mut held = Vec::new();
    for n in 0..count {
        let mut socket = socket(from, to).await;
        // The write fails if the server has already closed the connection.
        let _ = socket.write_all(said[n % said.len()]).await;
        held.push(socket);
    }
    held
}

/// Waits until the server has accepted, replaced or refused a number of connections. It refuses others while the queue of
/// a core is full.
pub(crate) async fn handled(child: &ChildServer, count: u64) {
    crate::support::eventually("all connections are handled", async || {
        let metrics = get(child.metrics, "/metrics").await.unwrap();
        let values = metrics.lines().filter(|line| line.starts_with("shoreguard_connections"));
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        values.sum::<u64>() >= count
    })
    .await;
}

/// Reads until the other end closes the connection, with a time limit.
async fn closed(socket: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    // A reset ends the connection as well.
    let _ = soon("the connection is closed", socket.read_to_end(&mut read)).await;
    read
}

async fn list(caller: &Caller) -> Result<(), tonic::Status> {
    let mut request = Request::new(openshell::ListSandboxesRequest::default());
    request.metadata_mut().insert("x-shoreguard-gateway", "edge".parse().unwrap());
    caller.openshell_v0_1().list_sandboxes(request).await.map(drop)
}

/// Registers a simulated gateway, which [`everything_answers`] calls.
pub(crate) async fn register_edge(child: &ChildServer, key: &str, address: SocketAddr) {
    let register = pb::RegisterGatewayRequest {
        name: "edge".into(),
        endpoint: address.to_string(),
        scheme: pb::GatewayScheme::Http.into(),
        ..Default::default()
    };
    child.caller(Some(key)).gateways().register_gateway(register).await.unwrap();
}

/// Checks that a call to the gateway, its probe, a write that creates the service principal `new`, and the paths of the
/// metrics listener succeed.
pub(crate) async fn everything_answers(child: &ChildServer, key: &str, new: &str) {
    let caller = child.caller(Some(key));
    list(&caller).await.unwrap();
    let test = pb::TestGatewayRequest { gateway: "edge".into(), ..Default::default() };
    let probed = caller.gateways().test_gateway(test).await.unwrap();
    assert!(probed.into_inner().reachable);
    let write = pb::CreateServicePrincipalRequest {
        name: new.to_owned(),
        role: pb::Role::Viewer.into(),
        ..Default::default()
    };
    caller.service_principals().create_service_principal(write).await.unwrap();
    for path in ["/readyz", "/healthz", "/metrics"] {
        let answer = get(child.metrics, path).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
}

#[test]
fn a_thousand_idle_connections_do_not_block_the_server() {
    runtime().block_on(async {
        need_descriptors(4_096);
        let setup = ChildSetup::new(
            "[gateways]\nallowed_networks = [\"127.0.0.0/8\"]\nprobe_interval_seconds = 1\n\
             probe_timeout_seconds = 60\nconnections_per_core = 4",
        );
        let made = ["admin", "create-service-principal", "root", "--role", "admin"];
        let made = setup.command(&made).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let mut command = setup.command_with_descriptors(DESCRIPTORS, &["serve"]);
        command.stdout(Stdio::null()).stderr(std::fs::File::create(setup.log_path()).unwrap());
        let child = setup.serve(command).await;
        let simulator = Simulator::start(SimulatorOptions::new(Generation::V0_1)).await.unwrap();
        register_edge(&child, &key, simulator.addr()).await;

        let one_address = idle(1_000, "127.0.0.1", child.address).await;
        handled(&child, 1_000).await;
        everything_answers(&child, &key, "first").await;
        let held = child.metric("shoreguard_connections").await;
        assert!((64..=300).contains(&held), "one address has at most half: {held}");
        let mut many_addresses = Vec::new();
        for n in 2..12 {
            many_addresses.extend(idle(100, &format!("127.0.1.{n}"), child.address).await);
        }
        let slow_heads = idle(100, "127.0.0.1", child.metrics).await;
        handled(&child, 2_000).await;
        everything_answers(&child, &key, "second").await;
        let held = child.metric("shoreguard_connections").await;
        assert!((200..=600).contains(&held), "the bound in all: {held}");
        assert!(child.metric("shoreguard_connections_ended_total{reason=\"displaced\"}").await > 0);
        let probes = child.metric("shoreguard_gateway_probes_total{outcome=\"failed\"}").await;
        assert_eq!(probes, 0, "no probe fails");
        drop((one_address, many_addresses, slow_heads));

        let log = std::fs::read_to_string(setup.log_path()).unwrap();
        let serving = log.lines().find(|line| line.contains("\"serving\"")).unwrap();
        let serving: serde_json::Value = serde_json::from_str(serving).unwrap();
        assert_eq!(serving["descriptors"], DESCRIPTORS);
        assert!(serving["connections_max"].as_u64().unwrap() < 512, "{serving}");
        assert_eq!(child.stop().await.code(), Some(0));
        simulator.stop().await;
    });
}

#[test]
fn a_connection_over_the_limit_is_closed_if_all_others_have_calls_in_flight() {
    runtime().block_on(async {
        let sg = TestServer::start(Engine::Sqlite, |config| {
            config.limits.connections_max = 16;
            config.limits.address_connections_max = 8;
        })
        .await
        .unwrap();
        let watch = async || {
            let request = pb::WatchEventsRequest { after_sequence: -1, ..Default::default() };
            sg.connect_admin().events().watch_events(request).await.unwrap().into_inner()
        };
        let mut watches = Vec::new();
        while watches.len() < 8 {
            watches.push(watch().await);
        }
        let mut past = socket("127.0.0.1", sg.address).await;
        assert!(closed(&mut past).await.is_empty());
        // Another address still has room. When it reaches its limit, one of its own idle connections is closed.
        let mut others = idle(9, "127.0.0.2", sg.address).await;
        closed(&mut others[0]).await;
        drop(watches.pop());
        // The slot becomes free when the server notices that the stream was closed.
        let again = async {
            while watches.len() < 8 {
                let request = pb::WatchEventsRequest { after_sequence: -1, ..Default::default() };
                let watch = sg.connect_admin().events().watch_events(request).await;
                watches.extend(watch.map(tonic::Response::into_inner));
                crate::support::pause().await;
            }
        };
        soon("a slot is free", again).await;
        drop((watches, others));
        sg.finish().await;
    });
}

#[test]
fn an_idle_connection_gets_a_goaway_and_a_connection_with_a_call_stays_open() {
    runtime().block_on(async {
        let sg = TestServer::start(Engine::Sqlite, |config| {
            config.limits.connection_idle_seconds = 1;
        })
        .await
        .unwrap();
        let request = pb::WatchEventsRequest { after_sequence: -1, ..Default::default() };
        let mut watch = sg.admin().events().watch_events(request).await.unwrap().into_inner();
        // A client that obeys the GOAWAY.
        let io = hyper_util::rt::TokioIo::new(socket("127.0.0.1", sg.address).await);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<bytes::Bytes>>(executor, io)
                .await
                .unwrap();
        soon("the connection is closed", connection).await.unwrap();
        assert!(sender.is_closed());
        // A client that ignores the GOAWAY.
        let mut deaf = socket("127.0.0.1", sg.address).await;
        deaf.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
        let read = closed(&mut deaf).await;
        assert!(frames(&read).any(|(kind, _)| kind == GOAWAY), "{read:?}");

        sg.admin().create_key("seen", pb::Role::Viewer).await;
        let event = soon("the watch has an event", watch.message()).await;
        assert!(event.unwrap().is_some(), "the watch has lived on");
        drop(watch);
        sg.finish().await;
    });
}

const GOAWAY: u8 = 7;
/// Error code in a GOAWAY to a peer that causes too much load.
const ENHANCE_YOUR_CALM: u32 = 11;

/// Returns type and payload of each HTTP/2 frame.
fn frames(mut read: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = read.split_at_checked(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (payload, rest) = rest.split_at_checked(length as usize)?;
        read = rest;
        Some((head[3], payload))
    })
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A malformed request: it announces five bytes and sends one, so its stream is reset.
fn broken_request(stream: u32) -> Vec<u8> {
    let literal = |name: &[u8], value: &str| {
        [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    };
    // Names by their index in the static table of HPACK: :method POST, :scheme http, :path, :authority, content-type,
    // content-length.
    let head = [
        vec![0x83, 0x86],
        literal(&[0x04], "/shoreguard.v1.AuthService/GetServerInfo"),
        literal(&[0x01], "sg"),
        literal(&[0x0f, 0x10], "application/grpc"),
        literal(&[0x0f, 0x0d], "5"),
    ]
    .concat();
    [frame(1, 0x4, stream, &head), frame(0, 0x1, stream, &[0])].concat()
}

#[test]
fn a_connection_with_too_many_failed_streams_is_closed() {
    runtime().block_on(async {
        let sg = TestServer::start(Engine::Sqlite, |_| {}).await.unwrap();
        let (mut reading, mut writing) = socket("127.0.0.1", sg.address).await.into_split();
        let mut sent = [PREFACE, SETTINGS].concat();
        for n in 0..1_500 {
            sent.extend(broken_request(2 * n + 1));
        }
        let sends = async {
            // The server closes the connection before everything is written.
            let _ = writing.write_all(&sent).await;
        };
        let reads = async {
            let mut read = Vec::new();
            let _ = reading.read_to_end(&mut read).await;
            read
        };
        let both = async { tokio::join!(sends, reads) };
        let ((), read) = soon("the connection is closed", both).await;
        let code = |payload: &[u8]| u32::from_be_bytes(payload[4..8].try_into().unwrap());
        let mut told = frames(&read).filter(|(kind, _)| *kind == GOAWAY);
        assert!(told.any(|(_, payload)| code(payload) == ENHANCE_YOUR_CALM), "no GOAWAY");
        sg.finish().await;
    });
}

#[test]
fn a_server_is_ready_only_when_it_listens() {
    runtime().block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let data = tempfile::tempdir().unwrap();
        let app = build(config(&place, data.path(), |_| {})).await;
        assert!(app.snapshot.check_fresh().is_ok() && app.audit.is_writable());
        assert!(!is_ready(&app), "nothing listens");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let running = listen::serve(&app, listener).await.unwrap();
        assert!(is_ready(&app));
        TcpStream::connect(running.address()).await.unwrap();
        app.stop.cancel();
        assert!(!is_ready(&app));
        running.stopped().await;
        app.drain().await;
    });
}

#[test]
fn a_server_whose_start_fails_was_never_ready() {
    runtime().block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let data = tempfile::tempdir().unwrap();
        let app = build(config(&place, data.path(), |config| {
            config.server.tls.cert_path = Some("/no/such/cert".into());
            config.server.tls.key_path = Some("/no/such/key".into());
        }))
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(listen::serve(&app, listener).await.is_err());
        assert!(!is_ready(&app));
        app.stop.cancel();
        app.drain().await;
    });
}
