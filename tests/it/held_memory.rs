//! T16: limits on the memory that one caller can make a server hold, measured on its process with the default limits.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::SendStream;
use h2::client::ResponseFuture;
use prost::bytes::Bytes;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::gateways::input::METADATA_BYTES_MAX;

use crate::commands::{DevServer, start_dev};
use crate::proxy::raw::{RawClient, RawResponse, add_length_prefix, encode_framed};
use crate::support::{limit, pause};

/// Limit of the memory that an attack can make the server hold.
const HELD_KIB_MAX: u64 = 64 << 10;
/// A flow-control window that is large enough for everything.
const OPEN: u32 = 1 << 20;
/// Gateways with metadata of the maximum size. Few large rows make a response of half a MiB that costs little to build.
const GATEWAYS: usize = 32;
/// Calls of an attack with such responses, which would be 75 MiB together.
const CALLS: usize = 150;
/// Calls that are open at a time before the attack.
const WARM_CALLS: usize = 50;
/// Callers of a flood that ends: each makes the server hold as much as one caller can, 16 MiB.
const FLOODERS: usize = 3;
/// Floods that end: what each of them would leave is counted.
const FLOODS: usize = 2;
/// Limit of the memory that remains after the floods have ended: half of what one of them holds, since the allocator
/// keeps some.
const REMAINING_KIB_MAX: u64 = 24 << 10;
/// Time in which it must return.
const RETURN_TIME: Duration = Duration::from_mins(1);
/// Reflection streams on each of three connections.
const STREAMS: usize = 400;

/// Resident memory of a process, in KiB.
fn resident(dev: &DevServer) -> u64 {
    memory(dev, "VmRSS:")
}

/// A line of the status of a process, in KiB.
fn memory(dev: &DevServer, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", dev.process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

type Open = (ResponseFuture, SendStream<Bytes>);

/// Waits until `count` of the calls have a response. Returns the request streams of all calls, which keep the calls
/// open.
async fn settled(open: Vec<Open>, count: usize) -> Vec<SendStream<Bytes>> {
    let (responses, bodies): (Vec<_>, Vec<_>) = open.into_iter().unzip();
    let mut answers: FuturesUnordered<_> = responses.into_iter().collect();
    let answered = async {
        let mut answered = Vec::new();
        while answered.len() < count {
            answered.push(answers.next().await.unwrap());
        }
        answered
    };
    let answered = tokio::time::timeout(Duration::from_mins(1), answered).await.unwrap();
    // The responses stay unread, and the pending calls stay open, until the process ends.
    std::mem::forget((answered, answers));
    bodies
}

fn begin(raw: &mut RawClient, path: &str, known: bool) -> Open {
    let mut head = raw.post(path);
    if !known {
        head.headers_mut().unwrap().remove("authorization");
    }
    raw.open(head)
}

/// A server in a process of its own.
struct Victim {
    dev: DevServer,
    address: String,
    key: String,
    /// A connection of the admin that reads its responses.
    reader: RawClient,
    _data: tempfile::TempDir,
}

impl Victim {
    /// Starts a server. A first call of each kind allocates the memory that every server holds.
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let dev = start_dev(data.path());
        let address = dev.about["listen"].as_str().unwrap().to_owned();
        let key = dev.about["admin_key"].as_str().unwrap().to_owned();
        let mut reader = RawClient::connect_to(&address, &key, OPEN).await;
        for (path, message) in [(LIST, all()), (REFLECTION, files())] {
            let head = reader.post(path);
            reader.call(head, &[message]).await;
        }
        Self { dev, address, key, reader, _data: data }
    }

    /// Registers the gateways, and reads as many responses about them as an attack leaves unread: memory that the
    /// allocator retains after such a load is not held by a caller.
    async fn read_large_responses(&mut self) {
        let metadata_json = format!(r#"{{"text":"{}"}}"#, "x".repeat(METADATA_BYTES_MAX - 11));
        for n in 0..GATEWAYS {
            let request = pb::RegisterGatewayRequest {
                name: format!("long-{n}"),
                endpoint: "127.0.0.1:1".to_owned(),
                scheme: pb::GatewayScheme::Http.into(),
                metadata_json: metadata_json.clone(),
                ..Default::default()
            };
            let head = self.reader.post("/shoreguard.v1.GatewayService/RegisterGateway");
            let registered = self.reader.call(head, &[encode_framed(&request)]).await;
            assert_eq!(registered.code(), "0", "{registered:?}");
        }
        for _ in 0..CALLS / WARM_CALLS {
            let mut open = Vec::new();
            for _ in 0..WARM_CALLS {
                let (response, mut body) = begin(&mut self.reader, LIST, true);
                // The call may already have been refused, because of the bytes of the others, before its message is
                // sent.
                let _ = body.send_data(all(), true);
                open.push(RawResponse::read(response));
            }
            futures_util::future::join_all(open).await;
        }
    }

    /// Returns the keys of callers that can list gateways.
    fn create_viewers(&self) -> Vec<String> {
        let create = |n: usize| {
            let request = format!(r#"{{"name":"flooder-{n}","role":"ROLE_VIEWER"}}"#);
            let created = self.dev.admin(&["CreateServicePrincipal", &request]);
            created["key"].as_str().unwrap().to_owned()
        };
        (0..FLOODERS).map(create).collect()
    }

    /// Returns the anonymous memory of the server after a call, which lets its threads return free memory. Code that
    /// was read from disk does not count.
    async fn anonymous_memory(&mut self) -> u64 {
        let head = self.reader.post(LIST);
        self.reader.call(head, &[all()]).await;
        memory(&self.dev, "RssAnon:")
    }

    /// Checks how much memory an attack makes the server hold.
    async fn assert_holds_little(
        &self,
        attack: impl AsyncFnOnce(&str, &str) -> Vec<SendStream<Bytes>>,
    ) {
        let before = resident(&self.dev);
        let open = attack(&self.address, &self.key).await;
        let more = resident(&self.dev).saturating_sub(before);
        assert!(more < HELD_KIB_MAX, "{more} KiB are held");
        drop(open);
    }
}

/// Leaves requests unfinished, with each of the keys, until all of them are answered or held. Then all connections are
/// closed: the end of their runtime closes them, also those of calls without a response.
async fn flood_and_end(address: String, keys: Vec<String>) {
    let flood = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut open = Vec::new();
            for key in &keys {
                open.extend(leave_unfinished(&address, key).await);
            }
        });
    });
    flood.await.unwrap();
}

/// Attacks a server whose gateways make large responses.
async fn held_by_lists(attack: impl AsyncFnOnce(&str, &str) -> Vec<SendStream<Bytes>>) {
    let mut victim = Victim::start().await;
    victim.read_large_responses().await;
    victim.assert_holds_little(attack).await;
}

/// Attacks a server without large responses.
async fn held_by(attack: impl AsyncFnOnce(&str, &str) -> Vec<SendStream<Bytes>>) {
    Victim::start().await.assert_holds_little(attack).await;
}

const LIST: &str = "/shoreguard.v1.GatewayService/ListGateways";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A request for all gateways.
fn all() -> Bytes {
    encode_framed(&pb::ListGatewaysRequest { page_size: 200, ..Default::default() })
}

/// A request for the files of a service.
fn files() -> Bytes {
    let symbol = b"shoreguard.v1.AuthService";
    let head = [0x22, u8::try_from(symbol.len()).unwrap()];
    add_length_prefix(&[&head[..], symbol].concat())
}

/// Calls reflection without a credential, and receives at most `window` bytes per response.
async fn reflect(address: &str, window: u32) -> Vec<SendStream<Bytes>> {
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let mut raw = RawClient::connect_to(address, "", window).await;
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let (response, mut body) = begin(&mut raw, REFLECTION, false);
            // The call may already have been refused. With a window, the request is ended, so that only its response
            // remains.
            let _ = body.send_data(files(), window > 0);
            open.push((response, body));
        }
        bodies.extend(settled(open, STREAMS).await);
    }
    bodies
}

/// Lists all gateways in some calls, and receives at most `window` bytes per response.
async fn leave_unread(
    (address, key): (&str, &str),
    calls: usize,
    window: u32,
) -> Vec<SendStream<Bytes>> {
    let mut raw = RawClient::connect_to(address, key, window).await;
    let mut open = Vec::new();
    for _ in 0..calls {
        let (response, mut body) = begin(&mut raw, LIST, true);
        let _ = body.send_data(all(), true);
        open.push((response, body));
    }
    settled(open, calls).await
}

/// Sends most of the largest allowed message, and never its end.
async fn leave_unfinished(address: &str, key: &str) -> Vec<SendStream<Bytes>> {
    let mut raw = RawClient::connect_to(address, key, OPEN).await;
    let mut part = vec![0, 0, 0x3f, 0xff, 0xff];
    part.resize(4_000_000, 0);
    let part = Bytes::from(part);
    let mut open = Vec::new();
    for _ in 0..100 {
        let (response, mut body) = begin(&mut raw, LIST, true);
        let _ = body.send_data(part.clone(), false);
        open.push((response, body));
    }
    settled(open, 90).await
}

#[test]
fn t16_unread_reflection_responses_hold_little_memory() {
    limit::block_on(held_by(async |address, _| reflect(address, 0).await));
}

#[test]
fn t16_unread_responses_hold_little_memory() {
    limit::block_on(held_by_lists(async |address, key| {
        leave_unread((address, key), CALLS, 0).await
    }));
}

#[test]
fn partially_read_reflection_responses_hold_little_memory() {
    limit::block_on(held_by(async |address, _| {
        let mut open = reflect(address, 1).await;
        open.extend(reflect(address, 64).await);
        open
    }));
}

#[test]
fn partially_read_responses_hold_little_memory() {
    limit::block_on(held_by_lists(async |address, key| {
        let mut open = leave_unread((address, key), CALLS / 2, 1).await;
        open.extend(leave_unread((address, key), CALLS / 2, 64).await);
        open
    }));
}

#[test]
fn t16_unfinished_request_bodies_hold_little_memory() {
    limit::block_on(held_by(leave_unfinished));
}

#[test]
fn t16_memory_returns_after_a_flood_has_ended() {
    limit::block_on(async {
        let mut victim = Victim::start().await;
        let keys = victim.create_viewers();
        let before = victim.anonymous_memory().await;
        for _ in 0..FLOODS {
            flood_and_end(victim.address.clone(), keys.clone()).await;
        }
        let deadline = Instant::now() + RETURN_TIME;
        let mut remaining = u64::MAX;
        while remaining > REMAINING_KIB_MAX {
            assert!(Instant::now() < deadline, "{remaining} KiB remain");
            pause().await;
            remaining = victim.anonymous_memory().await.saturating_sub(before);
        }
    });
}
