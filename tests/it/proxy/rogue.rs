//! Gateways that reset streams, refuse calls, return wrong data, respond slowly or close connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use shoreguard_simulator::{Generation, Script, Times};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use super::raw::{self, RawClient, encode_framed, spawn_task};
use super::*;

pub(crate) type ReceivedRequest = Request<RecvStream>;

/// Starts a gateway of generation 0.0. A function handles its calls, except those of probes.
pub(crate) async fn start_rogue<F, A>(answer: F) -> SocketAddr
where
    F: Fn(usize, ReceivedRequest, SendResponse<Bytes>) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let calls = AtomicUsize::new(0);
    start_rogue_version("0.0.116", move |request, respond| {
        let answered = if request.uri().path().ends_with("/GetCurrentUser") {
            admin(respond);
            None
        } else {
            Some(answer(calls.fetch_add(1, Ordering::Relaxed), request, respond))
        };
        async move {
            if let Some(answered) = answered {
                answered.await;
            }
        }
    })
    .await
}

/// Starts a gateway. A function handles its calls, except `Health`.
pub(crate) async fn start_rogue_version<F, A>(version: &'static str, answer: F) -> SocketAddr
where
    F: Fn(ReceivedRequest, SendResponse<Bytes>) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    spawn_task(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            spawn_task(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    if request.uri().path().ends_with("/Health") {
                        well(respond, version);
                    } else {
                        spawn_task(answer(request, respond));
                    }
                }
            });
        }
    });
    addr
}

fn grpc() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
}

fn well(respond: SendResponse<Bytes>, version: &str) {
    let version = version.to_owned();
    send_message(respond, encode_framed(&old::HealthResponse { status: 1, version }));
}

fn admin(respond: SendResponse<Bytes>) {
    let roles = vec!["openshell-admin".to_owned()];
    send_message(
        respond,
        encode_framed(&old::GetCurrentUserResponse { roles, ..Default::default() }),
    );
}

/// Responds with data and the status OK.
pub(crate) fn send_message(mut respond: SendResponse<Bytes>, data: Bytes) {
    let mut stream = respond.send_response(grpc(), false).unwrap();
    stream.send_data(data, false).unwrap();
    stream.send_trailers(status("0")).unwrap();
}

#[test]
fn a_call_that_the_gateway_refused_unprocessed_is_retried_once() {
    run_on_sqlite(|sg| async move {
        let always = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&always);
        let addr = start_rogue(move |call, request, mut respond| {
            let seen = Arc::clone(&seen);
            async move {
                let delete = request.uri().path().ends_with("/DeleteSandbox");
                seen.fetch_add(1, Ordering::Relaxed);
                if call == 0 || delete {
                    respond.send_reset(Reason::REFUSED_STREAM);
                } else {
                    let (data, _) = raw::read(request.into_body()).await;
                    assert_eq!(data, encode_framed(&get_request("one")), "the whole request again");
                    send_message(respond, encode_framed(&old::SandboxResponse::default()));
                }
            }
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let mut client = sg.admin().openshell_v0_0();
        client.get_sandbox(for_gateway("alpha", get_request("one"))).await.unwrap();
        assert_eq!(always.load(Ordering::Relaxed), 2);
        let delete = old::DeleteSandboxRequest { name: "one".to_owned(), ..Default::default() };
        let refused = client.delete_sandbox(for_gateway("alpha", delete)).await;
        assert_refused!(refused, Unavailable, "GATEWAY_UNREACHABLE");
        assert_eq!(always.load(Ordering::Relaxed), 4, "once and no more");
        sg.finish().await;
    });
}

#[test]
fn a_call_that_the_gateway_may_have_processed_is_not_retried() {
    run_on_sqlite(|sg| async move {
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&calls);
        let addr = start_rogue(move |_, _, mut respond| {
            seen.fetch_add(1, Ordering::Relaxed);
            async move { respond.send_reset(Reason::INTERNAL_ERROR) }
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let failed =
            sg.admin().openshell_v0_0().get_sandbox(for_gateway("alpha", get_request("one"))).await;
        let failed = assert_refused!(failed, Internal, "GATEWAY_REFUSED");
        assert!(failed.message().contains("INTERNAL_ERROR"), "{failed:?}");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        sg.finish().await;
    });
}

/// Encodes an HTTP/2 frame.
pub(crate) fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

pub(crate) fn hpack_literal(name: &str, value: &str) -> Vec<u8> {
    let mut header = vec![0, u8::try_from(name.len()).unwrap()];
    header.extend_from_slice(name.as_bytes());
    header.push(u8::try_from(value.len()).unwrap());
    header.extend_from_slice(value.as_bytes());
    header
}

/// Responds to calls. If `leaves` is true, only the first call gets a response, and later ones get a GOAWAY.
async fn leaving(mut socket: TcpStream, leaves: bool) -> Option<()> {
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).await.ok()?;
    socket.write_all(&http2_frame(4, 0, 0, &[])).await.ok()?;
    let answers = [
        encode_framed(&old::HealthResponse { status: 1, version: "0.0.116".to_owned() }),
        encode_framed(&old::SandboxResponse::default()),
    ];
    let mut asked = 0;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        socket.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4] & 1) {
            (4, 0) => socket.write_all(&http2_frame(4, 1, 0, &[])).await.ok()?,
            (1, _) if leaves && asked > 0 => {
                let last = [0, 0, 0, 1, 0, 0, 0, 0];
                socket.write_all(&http2_frame(7, 0, 0, &last)).await.ok()?;
            }
            (1, _) => {
                let headers =
                    [vec![0x88], hpack_literal("content-type", "application/grpc")].concat();
                let trailers = hpack_literal("grpc-status", "0");
                let answer = &answers[asked.min(1)];
                for part in [
                    http2_frame(1, 4, stream, &headers),
                    http2_frame(0, 0, stream, answer),
                    http2_frame(1, 5, stream, &trailers),
                ] {
                    socket.write_all(&part).await.ok()?;
                }
                asked += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn a_call_after_the_last_stream_of_a_goaway_is_retried_on_another_connection() {
    run_on_sqlite(|sg| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        spawn_task(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // The first connection is that of the probe at the registration.
                let leaves = count.fetch_add(1, Ordering::Relaxed) < 2;
                spawn_task(async move {
                    let _ = leaving(socket, leaves).await;
                });
            }
        });
        sg.register_gateway("alpha", addr).await;
        let mut client = sg.admin().openshell_v0_0();
        for _ in 0..5 {
            client.get_sandbox(for_gateway("alpha", get_request("one"))).await.unwrap();
        }
        assert!(connections.load(Ordering::Relaxed) >= 3);
        sg.finish().await;
    });
}

#[test]
fn a_truncated_or_invalid_response_ends_with_a_status_of_shoreguard() {
    run_on_sqlite(|sg| async move {
        let addr = start_rogue(|call, _, mut respond| async move {
            let html = Response::builder().header("content-type", "text/html").body(()).unwrap();
            match call {
                // No status at the end.
                0 => {
                    let mut stream = respond.send_response(grpc(), false).unwrap();
                    stream
                        .send_data(encode_framed(&old::SandboxResponse::default()), true)
                        .unwrap();
                }
                // Less data than announced.
                1 => {
                    let mut head = grpc();
                    head.headers_mut().insert("content-length", "500".parse().unwrap());
                    let mut stream = respond.send_response(head, false).unwrap();
                    stream.send_data(Bytes::from_static(b"short"), true).unwrap();
                }
                // A reset in the middle.
                2 => {
                    let mut stream = respond.send_response(grpc(), false).unwrap();
                    stream.send_data(Bytes::from_static(&[0, 0, 0]), false).unwrap();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    stream.send_reset(Reason::CANCEL);
                }
                3 => drop(respond.send_response(html, true)),
                // Neither a status nor a body.
                _ => drop(respond.send_response(grpc(), true)),
            }
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let mut raw = RawClient::connect(&sg).await;
        // A reset has the code of its HTTP/2 error.
        for (call, code) in ["14", "14", "1", "14", "14"].into_iter().enumerate() {
            let answer = raw
                .call(raw.request("GetSandbox", "alpha"), &[encode_framed(&get_request("one"))])
                .await;
            assert_eq!(answer.code(), code, "{call}: {answer:?}");
        }
        sg.finish().await;
    });
}

#[test]
fn t20_headers_of_shoreguard_are_removed_from_a_gateway_response() {
    run_on_sqlite(|sg| async move {
        let addr = start_rogue(|_, _, mut respond| async move {
            let mut head = grpc();
            for (name, value) in
                [("x-shoreguard-gateway", "other"), ("set-cookie", "a=b"), ("alt-svc", "h3=\":1\"")]
            {
                head.headers_mut().append(name, value.parse().unwrap());
            }
            let mut stream = respond.send_response(head, false).unwrap();
            let mut trailers = status("5");
            trailers.insert("x-shoreguard-role", "admin".parse().unwrap());
            trailers.insert("grpc-message", "gone".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let mut raw = RawClient::connect(&sg).await;
        let answer = raw
            .call(raw.request("GetSandbox", "alpha"), &[encode_framed(&get_request("one"))])
            .await;
        assert_eq!(answer.headers["x-shoreguard-gateway"], "alpha");
        assert!(!answer.headers.contains_key("set-cookie"));
        assert!(!answer.headers.contains_key("alt-svc"));
        let trailers = answer.trailers.unwrap();
        assert_eq!((&trailers["grpc-status"], trailers.len()), (&"5".parse().unwrap(), 2));
        sg.finish().await;
    });
}

#[test]
fn a_caller_that_stops_reading_applies_backpressure_to_the_gateway() {
    run_on_sqlite(|sg| async move {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let addr = start_rogue(move |_, _, mut respond| {
            let count = Arc::clone(&count);
            async move {
                let mut stream = respond.send_response(grpc(), false).unwrap();
                let chunk = Bytes::from(vec![0; 16 << 10]);
                loop {
                    stream.reserve_capacity(chunk.len());
                    let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                    let Some(Ok(room)) = room else { return };
                    let part = chunk.slice(..room.min(chunk.len()));
                    count.fetch_add(part.len(), Ordering::Relaxed);
                    if stream.send_data(part, false).is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let mut raw = RawClient::connect(&sg).await;
        let (response, mut request) = raw.open(raw.request("GetSandbox", "alpha"));
        request.send_data(encode_framed(&get_request("one")), true).unwrap();
        let unread = response.await.unwrap();
        // The gateway stops sending when all windows are full. Without backpressure, it would never stop.
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = sent.load(Ordering::Relaxed);
            assert!(now < 8 << 20, "{now}");
            if now > 0 && now == before {
                break;
            }
            before = now;
        }
        drop((unread, request));
        sg.finish().await;
    });
}

#[test]
fn a_slow_response_of_a_gateway_is_completed() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        create_sandbox(&admin, "alpha", "one").await;
        let drip = Script::Drip { bytes: 7, every: Duration::from_millis(1) };
        gateway.script("GetSandbox", drip, Times::Next(1));
        let found = admin
            .openshell_v0_0()
            .get_sandbox(for_gateway("alpha", get_request("one")))
            .await
            .unwrap();
        assert_eq!(found.into_inner().sandbox.unwrap().metadata.unwrap().name, "one");
        gateway.script("GetSandbox", Script::Disconnect, Times::Next(1));
        let lost = admin
            .openshell_v0_0()
            .get_sandbox(for_gateway("alpha", get_request("one")))
            .await
            .unwrap_err();
        assert_eq!(lost.code(), Code::Unavailable);
        admin.openshell_v0_0().get_sandbox(for_gateway("alpha", get_request("one"))).await.unwrap();
        sg.finish().await;
        gateway.stop().await;
    });
}
