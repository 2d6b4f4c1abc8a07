//! T16: concurrent calls of one caller to a gateway leave room for other callers.

use std::net::SocketAddr;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shoreguard::db::Engine;
use tokio::net::TcpListener;

use super::raw::{RawClient, RawResponse, add_length_prefix, spawn_task};
use super::rogue::start_rogue;
use super::*;

/// Longer than any of these calls should take.
const PATIENCE: Duration = CONDITION_TIME_MAX;
/// Number of connections of the caller, so that each core has some.
const CONNECTIONS: usize = 8;

async fn viewer(sg: &TestServer, name: &str) -> String {
    sg.admin().create_key(name, shoreguard::pb::v1::Role::Viewer).await
}

/// Starts a gateway that accepts connections and sends nothing.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    spawn_task(async move {
        let mut taken = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            taken.push(socket);
        }
    });
    addr
}

#[test]
fn t16_calls_without_a_complete_message_use_no_gateway_capacity() {
    run(
        Engine::Sqlite,
        |_| {},
        async |sg| {
            let gateway = start_simulator(Generation::V0_1).await;
            sg.register_gateway("alpha", gateway.addr()).await;
            let (greedy, other) = (viewer(&sg, "greedy").await, viewer(&sg, "other").await);
            let mut open = Vec::new();
            for n in 0..CONNECTIONS {
                let mut raw = RawClient::connect_as(&sg, &greedy).await;
                for _ in 0..125 {
                    let encoding = if n % 2 == 0 { "identity" } else { "gzip" };
                    let head = raw.request("ListProviders", "alpha");
                    open.push(raw.open(head.header("grpc-encoding", encoding)));
                }
                // The server handles streams in order, so the earlier ones have arrived.
                let head = raw.post("/shoreguard.v1.AuthService/GetCurrentIdentity");
                raw.call(head, &[add_length_prefix(&[])]).await;
            }
            for _ in 0..CONNECTIONS {
                let mut raw = RawClient::connect_as(&sg, &other).await;
                let message = [add_length_prefix(&[])];
                let answer = raw.call(raw.request("ListProviders", "alpha"), &message);
                assert_eq!(tokio::time::timeout(PATIENCE, answer).await.unwrap().code(), "0");
            }
            drop(open);
            sg.finish().await;
            gateway.stop().await;
        },
    );
}

#[test]
fn t16_the_unary_call_limit_of_one_caller_does_not_affect_others() {
    run(
        Engine::Sqlite,
        |config| config.gateways.unary_calls_per_caller = 3,
        async |sg| {
            let (asked, mut calls) = tokio::sync::mpsc::unbounded_channel();
            let addr = start_rogue(move |_, request, mut respond| {
                let asked = asked.clone();
                async move {
                    let _ = asked.send(());
                    let _request = request;
                    let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                }
            })
            .await;
            sg.register_gateway("alpha", addr).await;
            let (greedy, other) = (viewer(&sg, "greedy").await, viewer(&sg, "other").await);
            let mut raw = RawClient::connect_as(&sg, &greedy).await;
            let begin = |raw: &mut RawClient| {
                let (response, mut request) = raw.open(raw.request("ListProviders", "alpha"));
                request.send_data(add_length_prefix(&[]), true).unwrap();
                response
            };
            let mut open = Vec::new();
            for _ in 0..3 {
                open.push(begin(&mut raw));
                calls.recv().await.unwrap();
            }
            let refused = RawResponse::read(begin(&mut raw)).await;
            assert_eq!(refused.refusal(), ("8", "GATEWAY_BUSY".to_owned()));
            let mut raw = RawClient::connect_as(&sg, &other).await;
            open.push(begin(&mut raw));
            tokio::time::timeout(PATIENCE, calls.recv()).await.expect("it reaches the gateway");
            drop(open);
            sg.finish().await;
        },
    );
}

#[test]
fn t16_pending_messages_for_a_gateway_count_for_their_caller() {
    run(
        Engine::Sqlite,
        |config| {
            config.limits.held_mib_per_caller = 4;
            // The probe of the silent gateway has no answer.
            config.gateways.probe_timeout_seconds = 1;
        },
        async |sg| {
            sg.register_gateway("alpha", silent().await).await;
            let mut raw = RawClient::connect_as(&sg, &viewer(&sg, "greedy").await).await;
            let message = add_length_prefix(&vec![0; (1 << 20) - 16]);
            let mut answers = FuturesUnordered::new();
            for _ in 0..8 {
                let (response, mut request) = raw.open(raw.request("ListProviders", "alpha"));
                // The call may already have been refused.
                let _ = request.send_data(message.clone(), true);
                answers.push(RawResponse::read(response));
            }
            // Four of them fit into the limit and wait.
            for _ in 0..4 {
                let answer = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap();
                assert_eq!(answer.refusal(), ("8", "TOO_MANY_BYTES".to_owned()));
            }
            drop(answers);
            sg.finish().await;
        },
    );
}

#[test]
fn t16_unread_unary_responses_count_for_their_caller() {
    run(
        Engine::Sqlite,
        |config| config.limits.held_mib_per_caller = 1,
        async |sg| {
            let addr = start_rogue(move |_, _request, mut respond| async move {
                let head = http::Response::builder().header("content-type", "application/grpc");
                let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
                stream.send_data(add_length_prefix(&vec![0; 1 << 20]), false).unwrap();
                let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            })
            .await;
            sg.register_gateway("alpha", addr).await;
            let key = viewer(&sg, "greedy").await;
            let mut raw = RawClient::connect_with_window(&sg, &key, 1).await;
            let mut answers = FuturesUnordered::new();
            for _ in 0..80 {
                let (response, mut request) = raw.open(raw.request("ListProviders", "alpha"));
                let _ = request.send_data(add_length_prefix(&[]), true);
                answers.push(async move {
                    let (_, mut body) = response.await.unwrap().into_parts();
                    // The window lets one byte through, and is not reopened.
                    while let Some(Ok(_)) = body.data().await {}
                    body.trailers().await
                });
            }
            let refused = async {
                loop {
                    let ended = answers.next().await.unwrap();
                    if let Ok(Some(trailers)) = ended
                        && trailers["grpc-status"] == "8"
                    {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, refused).await.expect("one is over the bound");
            drop(answers);
            sg.finish().await;
        },
    );
}

#[test]
fn t09_a_repeated_grpc_encoding_header_is_refused() {
    for generation in [Generation::V0_0, Generation::V0_1] {
        run_on_sqlite(move |sg| async move {
            let gateway = start_simulator(generation).await;
            sg.register_gateway("alpha", gateway.addr()).await;
            let methods = ["GetProvider", "ListProviders", "WatchSandbox"];
            let mut raw = RawClient::connect(&sg).await;
            // A repeated field is refused in a message without compression. A repeated header must not bypass this
            // check.
            let twice = add_length_prefix(&[0x0a, 1, b'a', 0x0a, 1, b'b']);
            for method in methods {
                let head = raw.request(method, "alpha").header("grpc-encoding", "identity");
                let head = head.header("grpc-encoding", "identity");
                let answer = raw.call(head, std::slice::from_ref(&twice)).await;
                let (code, reason) = answer.refusal();
                assert_eq!((code, reason.as_str()), ("3", "MESSAGE_AMBIGUOUS"), "{method}");
            }
            let calls = gateway.calls();
            assert!(!calls.keys().any(|path| methods.iter().any(|method| path.ends_with(method))));
            sg.finish().await;
            gateway.stop().await;
        });
    }
}
