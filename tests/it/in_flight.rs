//! T16: limits on what a caller holds: open calls, streams and buffered bytes.

use h2::SendStream;
use h2::client::ResponseFuture;
use prost::bytes::Bytes;
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use tonic::Code;

use crate::proxy::raw::{RawClient, RawResponse, add_length_prefix, encode_framed};
use crate::support::pause;
use crate::support::server::{TestServer, reason, run};

const IDENTITY: &str = "/shoreguard.v1.AuthService/GetCurrentIdentity";
const LOGIN: &str = "/shoreguard.v1.AuthService/Login";
const LIST: &str = "/shoreguard.v1.ServicePrincipalService/ListServicePrincipals";
const WATCH: &str = "/shoreguard.v1.EventService/WatchEvents";

/// Sends the request headers of a call and no body.
fn begin(raw: &mut RawClient, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
    let head = raw.post(path);
    raw.open(head)
}

/// Makes a complete call with an empty message. Returns code and reason.
async fn call(raw: &mut RawClient, path: &str) -> (Code, String) {
    let head = raw.post(path);
    let status = raw.call(head, &[add_length_prefix(&[])]).await.status();
    (status.code(), reason(&status))
}

/// Repeats a call until it has the expected code. The share of another stream is released shortly after its end.
async fn until(raw: &mut RawClient, path: &str, expected: Code) {
    while call(raw, path).await.0 != expected {
        pause().await;
    }
}

fn full(reason: &str) -> (Code, String) {
    (Code::ResourceExhausted, reason.to_owned())
}

sqlite_tests! {
    tuned |config| config.limits.calls_per_principal = 3;
    t16_open_calls_are_limited_per_caller,
}

async fn t16_open_calls_are_limited_per_caller(sg: TestServer) {
    let greedy = sg.admin().create_key("greedy", pb::Role::Viewer).await;
    let modest = sg.admin().create_key("modest", pb::Role::Viewer).await;
    let mut raw = RawClient::connect_as(&sg, &greedy).await;
    let mut open = vec![begin(&mut raw, IDENTITY), begin(&mut raw, IDENTITY)];
    assert_eq!(call(&mut raw, IDENTITY).await.0, Code::Ok);
    open.push(begin(&mut raw, IDENTITY));
    assert_eq!(call(&mut raw, IDENTITY).await, full("TOO_MANY_CALLS"));
    let mut other = RawClient::connect_as(&sg, &modest).await;
    assert_eq!(call(&mut other, IDENTITY).await.0, Code::Ok);
    open.pop();
    until(&mut raw, IDENTITY, Code::Ok).await;
    drop(open);
    sg.finish().await;
}

fn on_sqlite<F: Future<Output = ()>>(
    tune: fn(&mut shoreguard::config::Config),
    test: impl FnOnce(TestServer) -> F,
) {
    run(Engine::Sqlite, tune, test);
}

#[test]
fn t16_anonymous_open_calls_are_limited_per_address() {
    let tune = |config: &mut shoreguard::config::Config| {
        config.limits.anonymous_calls_per_address = 3;
    };
    on_sqlite(tune, async |sg| {
        let mut raw = RawClient::connect_as(&sg, "").await;
        let anonymous = |raw: &RawClient, path: &str| {
            let mut head = raw.post(path);
            head.headers_mut().unwrap().remove("authorization");
            head
        };
        let mut open = Vec::new();
        for _ in 0..3 {
            let head = anonymous(&raw, LOGIN);
            open.push(raw.open(head));
        }
        let head = anonymous(&raw, LOGIN);
        let status = raw.call(head, &[add_length_prefix(&[])]).await.status();
        assert_eq!(reason(&status), "TOO_MANY_CALLS", "{status:?}");
        // Authenticated callers have limits of their own.
        let mut known = RawClient::connect(&sg).await;
        assert_eq!(call(&mut known, IDENTITY).await.0, Code::Ok);
        drop(open);
        sg.finish().await;
    });
}

#[test]
fn t16_open_calls_are_limited_per_address() {
    on_sqlite(
        |config| config.limits.calls_per_address = 4,
        async |sg| {
            let mut raw = RawClient::connect(&sg).await;
            let open: Vec<_> = (0..4).map(|_| begin(&mut raw, IDENTITY)).collect();
            assert_eq!(call(&mut raw, IDENTITY).await, full("TOO_MANY_CALLS"));
            drop(open);
            until(&mut raw, IDENTITY, Code::Ok).await;
            sg.finish().await;
        },
    );
}

#[test]
fn t16_open_calls_are_limited_in_total() {
    on_sqlite(
        |config| config.limits.calls_max = 4,
        async |sg| {
            let mut raw = RawClient::connect(&sg).await;
            let mut open: Vec<_> = (0..3).map(|_| begin(&mut raw, IDENTITY)).collect();
            assert_eq!(call(&mut raw, IDENTITY).await.0, Code::Ok);
            open.push(begin(&mut raw, IDENTITY));
            // The limits of the address and of the caller are far above.
            assert_eq!(call(&mut raw, IDENTITY).await, full("TOO_MANY_CALLS"));
            drop(open);
            until(&mut raw, IDENTITY, Code::Ok).await;
            sg.finish().await;
        },
    );
}

#[test]
fn t16_open_streams_are_limited_per_caller() {
    on_sqlite(
        |config| config.limits.streams_per_caller = 2,
        async |sg| {
            let mut raw = RawClient::connect(&sg).await;
            let from_now =
                encode_framed(&pb::WatchEventsRequest { after_sequence: -1, ..Default::default() });
            let mut open = Vec::new();
            for _ in 0..2 {
                let (response, mut body) = begin(&mut raw, WATCH);
                body.send_data(from_now.clone(), true).unwrap();
                open.push(response.await.unwrap());
            }
            assert_eq!(call(&mut raw, WATCH).await, full("TOO_MANY_STREAMS"));
            let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
            assert_eq!(call(&mut raw, reflection).await, full("TOO_MANY_STREAMS"));
            assert_eq!(call(&mut raw, IDENTITY).await.0, Code::Ok);
            drop(open);
            // The call is accepted, and fails because the request is empty.
            until(&mut raw, reflection, Code::InvalidArgument).await;
            sg.finish().await;
        },
    );
}

#[test]
fn t16_bytes_of_unfinished_requests_are_limited_per_caller() {
    on_sqlite(
        |config| config.limits.held_mib_per_caller = 4,
        async |sg| {
            let mut raw = RawClient::connect(&sg).await;
            // The prefix announces a message of the maximum size.
            let mut first = vec![0, 0, 0x40, 0, 0];
            first.resize(3 << 20, 0);
            let held = |bytes: Vec<u8>| Bytes::from(bytes);
            let (waiting, mut body) = begin(&mut raw, LIST);
            body.send_data(held(first.clone()), false).unwrap();
            let (refused, mut second) = begin(&mut raw, LIST);
            second.send_data(held(first), false).unwrap();
            // One of the two calls is refused, depending on whose bytes arrive first. The other one stays pending.
            let (mut waiting, mut refused) = (Box::pin(waiting), Box::pin(refused));
            let response = tokio::select! {
                response = &mut refused => response.unwrap(),
                response = &mut waiting => response.unwrap(),
            };
            let status = tonic::Status::from_header_map(response.headers()).unwrap();
            assert_eq!((status.code(), reason(&status)), full("TOO_MANY_BYTES"));
            drop((waiting, refused, body, second));
            until(&mut raw, LIST, Code::Ok).await;
            sg.finish().await;
        },
    );
}

#[test]
fn t16_bytes_of_unfinished_requests_are_limited_in_total() {
    on_sqlite(
        |config| config.limits.held_mib_max = 4,
        async |sg| {
            // The prefix announces a message of the maximum size.
            let mut first = vec![0, 0, 0x40, 0, 0];
            first.resize(3 << 20, 0);
            let first = Bytes::from(first);
            let mut calls = Vec::new();
            for name in ["one", "two"] {
                let key = sg.admin().create_key(name, pb::Role::Admin).await;
                let mut raw = RawClient::connect_as(&sg, &key).await;
                let (response, mut body) = begin(&mut raw, LIST);
                body.send_data(first.clone(), false).unwrap();
                calls.push((Box::pin(response), body, raw));
            }
            // Each caller is below its own limit. The call whose bytes arrive last is refused, the other stays pending.
            let [(one, _, _), (two, _, _)] = &mut calls[..] else { unreachable!() };
            let response = tokio::select! {
                response = one => response.unwrap(),
                response = two => response.unwrap(),
            };
            let status = tonic::Status::from_header_map(response.headers()).unwrap();
            assert_eq!((status.code(), reason(&status)), full("TOO_MANY_BYTES"));
            drop(calls);
            let mut raw = RawClient::connect(&sg).await;
            until(&mut raw, LIST, Code::Ok).await;
            sg.finish().await;
        },
    );
}

#[test]
fn a_request_body_that_does_not_arrive_in_time_exceeds_the_deadline() {
    on_sqlite(
        |config| config.limits.body_seconds = 1,
        async |sg| {
            let mut raw = RawClient::connect(&sg).await;
            let (response, mut body) = begin(&mut raw, LIST);
            body.send_data(add_length_prefix(&[0; 100]).slice(..50), false).unwrap();
            let status = RawResponse::read(response).await.status();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
            sg.finish().await;
        },
    );
}

#[test]
fn a_response_that_is_not_read_in_time_is_reset() {
    let tune = |config: &mut shoreguard::config::Config| {
        config.limits.answer_seconds = 1;
        config.limits.calls_per_principal = 1;
    };
    on_sqlite(tune, async |sg| {
        let key = sg.admin().create_key("slow", pb::Role::Admin).await;
        let mut raw = RawClient::connect_with_window(&sg, &key, 0).await;
        let (response, mut body) = begin(&mut raw, LIST);
        body.send_data(add_length_prefix(&[]), true).unwrap();
        let mut answer = response.await.unwrap().into_body();
        let reset = answer.data().await.unwrap().unwrap_err();
        assert!(reset.is_reset(), "{reset:?}");
        // Its slot in the limit of one call is free again.
        let mut other = RawClient::connect_as(&sg, &key).await;
        until(&mut other, IDENTITY, Code::Ok).await;
        sg.finish().await;
    });
}
