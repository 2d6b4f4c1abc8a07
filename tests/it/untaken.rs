//! Responses that a caller reads only partly or not at all: their share of the limits is kept until they were sent, for
//! a bounded time.

use std::time::{Duration, Instant};

use h2::RecvStream;
use prost::bytes::Bytes;
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use tonic::Code;

use crate::proxy::raw::{RawClient, add_length_prefix};
use crate::support::server::{TestServer, reason, run};
use crate::support::{pause, soon};

/// Time in which a response must be read: longer than the other calls of a test take on a busy machine.
const ANSWER_SECONDS: u64 = 3;
/// The same in a test that reads slowly.
const SLOW_SECONDS: u64 = 3;
const IDENTITY: &str = "/shoreguard.v1.AuthService/GetCurrentIdentity";
const LIST: &str = "/shoreguard.v1.ServicePrincipalService/ListServicePrincipals";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

fn on_sqlite<F: Future<Output = ()>>(
    tune: fn(&mut shoreguard::config::Config),
    test: impl FnOnce(TestServer) -> F,
) {
    run(Engine::Sqlite, tune, test);
}

/// Makes a call with an empty message, and receives only as much of the response as the window allows.
async fn leave(raw: &mut RawClient, path: &str) -> RecvStream {
    let (response, mut body) = raw.open(raw.post(path));
    body.send_data(add_length_prefix(&[]), true).unwrap();
    let mut answer = response.await.unwrap().into_body();
    assert!(!answer.data().await.unwrap().unwrap().is_empty());
    answer
}

/// Waits until the server resets a stream.
async fn reset(mut answer: RecvStream) {
    let next = soon("the answer has a deadline", answer.data()).await;
    let reset = next.unwrap().unwrap_err();
    assert!(reset.is_reset() && reset.is_remote(), "{reset:?}");
}

/// Makes a call with an empty message. Returns its status.
async fn call(raw: &mut RawClient, path: &str) -> tonic::Status {
    raw.call(raw.post(path), &[add_length_prefix(&[])]).await.status()
}

/// Repeats a call until it is accepted. The share of another stream is released shortly after its end.
async fn until_let_in(raw: &mut RawClient, path: &str) {
    while call(raw, path).await.code() != Code::Ok {
        pause().await;
    }
}

#[test]
fn a_call_with_a_tiny_window_counts_until_its_response_is_sent() {
    let tune = |config: &mut shoreguard::config::Config| {
        config.limits.answer_seconds = ANSWER_SECONDS;
        config.limits.calls_per_principal = 1;
    };
    on_sqlite(tune, async |sg| {
        let key = sg.admin().create_key("slow", pb::Role::Admin).await;
        let mut raw = RawClient::connect_with_window(&sg, &key, 1).await;
        let mut other = RawClient::connect_as(&sg, &key).await;
        let answer = leave(&mut raw, LIST).await;
        let status = call(&mut other, IDENTITY).await;
        assert_eq!(reason(&status), "TOO_MANY_CALLS", "{status:?}");
        reset(answer).await;
        until_let_in(&mut other, IDENTITY).await;
        sg.finish().await;
    });
}

#[test]
fn a_barely_read_stream_counts_until_it_is_reset() {
    let tune = |config: &mut shoreguard::config::Config| {
        config.limits.answer_seconds = ANSWER_SECONDS;
        config.limits.streams_per_caller = 1;
    };
    on_sqlite(tune, async |sg| {
        let mut raw = RawClient::connect_with_window(&sg, &sg.admin_key, 1).await;
        let mut other = RawClient::connect(&sg).await;
        let (response, mut body) = raw.open(raw.post(REFLECTION));
        body.send_data(files(), true).unwrap();
        let mut answer = response.await.unwrap().into_body();
        assert_eq!(answer.data().await.unwrap().unwrap().len(), 1);
        let status = call(&mut other, REFLECTION).await;
        assert_eq!(reason(&status), "TOO_MANY_STREAMS", "{status:?}");
        reset(answer).await;
        sg.finish().await;
    });
}

/// A reflection request for the files of a service.
fn files() -> Bytes {
    let symbol = b"shoreguard.v1.AuthService";
    let head = [0x22, u8::try_from(symbol.len()).unwrap()];
    add_length_prefix(&[&head[..], symbol].concat())
}

#[test]
fn a_long_response_is_delivered_to_a_slow_reader() {
    on_sqlite(
        |config| config.limits.answer_seconds = SLOW_SECONDS,
        async |sg| {
            let mut raw = RawClient::connect(&sg).await;
            let asked = Bytes::from([&files()[..]; 16].concat());
            let whole = raw.call(raw.post(REFLECTION), std::slice::from_ref(&asked)).await.data;
            let mut raw = RawClient::connect_with_window(&sg, &sg.admin_key, 2048).await;
            let (begun, deadline) = (Instant::now(), Duration::from_secs(SLOW_SECONDS));
            let time = deadline * 5 / 4;
            let (response, mut body) = raw.open(raw.post(REFLECTION));
            body.send_data(asked, true).unwrap();
            let mut answer = response.await.unwrap().into_body();
            let (mut read, mut pace) = (Vec::new(), begun);
            while let Some(data) = answer.data().await {
                let data = data.unwrap();
                read.extend_from_slice(&data);
                answer.flow_control().release_capacity(data.len()).unwrap();
                // Slower than the deadline for the whole response, and much faster than that for a part of 16 KiB.
                pace +=
                    time * u32::try_from(data.len()).unwrap() / u32::try_from(whole.len()).unwrap();
                tokio::time::sleep_until(pace.into()).await;
            }
            assert!(begun.elapsed() > deadline && whole.len() > 160 << 10, "{} bytes", read.len());
            assert_eq!(read, whole);
            let trailers = answer.trailers().await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "0");
            sg.finish().await;
        },
    );
}

#[test]
fn unread_plain_http_responses_are_limited_and_reset() {
    let tune = |config: &mut shoreguard::config::Config| {
        config.limits.answer_seconds = ANSWER_SECONDS;
        config.limits.anonymous_calls_per_address = 3;
    };
    on_sqlite(tune, async |sg| {
        let get = || http::Request::get(format!("http://{}/gateways/x/jwks.json", sg.address));
        let mut raw = RawClient::connect_with_window(&sg, "", 0).await;
        let mut open = Vec::new();
        let mut codes = Vec::new();
        for _ in 0..20 {
            let (response, mut body) = raw.open(get());
            // Fails if the call is already refused.
            let _ = body.send_data(Bytes::new(), true);
            let response = response.await.unwrap();
            codes.push(response.status().as_u16());
            if codes.last() == Some(&200) {
                open.push(response.into_body());
            }
        }
        codes.sort_unstable();
        assert_eq!(codes, [vec![200; 3], vec![429; 17]].concat());
        for answer in open {
            reset(answer).await;
        }
        let (response, mut body) = raw.open(get());
        body.send_data(Bytes::new(), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200, "the shares are free");
        // Otherwise the server waits for the deadline of this unread response, too.
        drop((response, body, raw));
        sg.finish().await;
    });
}

#[test]
fn a_connection_with_an_unread_plain_http_response_becomes_idle() {
    let tune = |config: &mut shoreguard::config::Config| {
        config.limits.answer_seconds = 1;
        config.limits.connection_idle_seconds = 2;
    };
    on_sqlite(tune, async |sg| {
        let mut raw = RawClient::connect_with_window(&sg, "", 0).await;
        let uri = format!("http://{}/gateways/x/jwks.json", sg.address);
        let (response, mut body) = raw.open(http::Request::get(uri));
        body.send_data(Bytes::new(), true).unwrap();
        let answer = response.await.unwrap().into_body();
        reset(answer).await;
        // The connection counts as idle, so it gets a GOAWAY like any other idle connection.
        soon("the connection is idle", raw.wait_closed()).await;
        sg.finish().await;
    });
}
