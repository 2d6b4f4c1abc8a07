//! Responses of gateways that a caller reads only partly or not at all.

use h2::RecvStream;
use shoreguard::db::Engine;
use tokio::sync::mpsc;

use super::raw::{RawClient, RawResponse, add_length_prefix};
use super::rogue::start_rogue;
use super::starved::{CALL_TIME, LOUD, Scene};
use super::*;
use crate::support::pause;
use crate::support::server::reason;

/// Longer than any deadline of these tests, also on a busy machine.
const PATIENCE: Duration = CONDITION_TIME_MAX;

/// Reports when the stream of a call has ended at its gateway.
type Ends = mpsc::UnboundedReceiver<()>;

/// Starts a gateway that returns responses of 2 MiB, and reports when the stream of a response has ended.
async fn generous() -> (std::net::SocketAddr, Ends) {
    let (ended, ends) = mpsc::unbounded_channel();
    let addr = start_rogue(move |_, _request, mut respond| {
        let ended = ended.clone();
        async move {
            let head = http::Response::builder().header("content-type", "application/grpc");
            let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
            stream.send_data(add_length_prefix(&vec![0; 2 << 20]), false).unwrap();
            let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            let _ = ended.send(());
        }
    })
    .await;
    (addr, ends)
}

/// Starts a call, and receives only as much of its response as the window allows. A call is refused until the share of
/// an earlier one is released, which is shortly after its end.
async fn leave(raw: &mut RawClient, gateway: &str) -> RecvStream {
    let begun = loop {
        let (response, mut request) = raw.open(raw.request("ListProviders", gateway));
        request.send_data(add_length_prefix(&[]), true).unwrap();
        let begun = tokio::time::timeout(CALL_TIME, response).await.expect("it begins").unwrap();
        if !begun.headers().contains_key("grpc-status") {
            break begun;
        }
        pause().await;
    };
    let mut answer = begun.into_body();
    assert!(!answer.data().await.unwrap().unwrap().is_empty());
    answer
}

#[test]
fn an_unread_unary_response_is_reset_and_releases_its_gateway_stream() {
    let tune = |config: &mut shoreguard::config::Config| {
        config.limits.answer_seconds = 1;
        config.limits.calls_per_principal = 2;
    };
    run(Engine::Sqlite, tune, async |sg| {
        let (addr, mut ends) = generous().await;
        sg.register_gateway("alpha", addr).await;
        for window in [1, 64, 40_000] {
            let mut raw = RawClient::connect_with_window(&sg, &sg.admin_key, window).await;
            let mut answers = [leave(&mut raw, "alpha").await, leave(&mut raw, "alpha").await];
            for answer in &mut answers {
                let next = tokio::time::timeout(PATIENCE, async {
                    loop {
                        // The data is received without reopening the window.
                        if let Err(error) = answer.data().await.unwrap() {
                            return error;
                        }
                    }
                });
                assert!(next.await.expect("it has a deadline").is_reset(), "{window}");
                tokio::time::timeout(PATIENCE, ends.recv()).await.expect("the stream ends");
            }
        }
        let mut raw = RawClient::connect(&sg).await;
        wait_until("the shares are free", || {
            let head = raw.post("/shoreguard.v1.AuthService/GetCurrentIdentity");
            let (response, mut request) = raw.open(head);
            request.send_data(add_length_prefix(&[]), true).unwrap();
            async { RawResponse::read(response).await.code() == "0" }
        })
        .await;
        sg.finish().await;
    });
}

#[test]
fn a_stream_with_a_paused_reader_is_not_reset() {
    run(
        Engine::Sqlite,
        |config| config.limits.answer_seconds = 1,
        async |sg| {
            let (addr, mut ends) = generous().await;
            sg.register_gateway("beta", addr).await;
            let gateway = start_simulator(Generation::V0_0).await;
            let scene = Scene::new(&sg, Generation::V0_0, &gateway).await;
            let mut raw = RawClient::connect_with_window(&sg, &sg.admin_key, 1).await;
            let mut paused = scene.open_unread(&mut raw, &LOUD).await;
            assert_eq!(paused.data().await.unwrap().unwrap().len(), 1);
            // In the meantime, a later unary response that is not read reaches its deadline.
            let unary = leave(&mut raw, "beta").await;
            tokio::time::timeout(PATIENCE, ends.recv()).await.expect("the unary one ends");
            paused.flow_control().release_capacity(1).unwrap();
            assert_eq!(paused.data().await.unwrap().unwrap().len(), 1, "the stream continues");
            drop((paused, unary));
            wait_until("every stream is closed", || async { sg.app.live.count() == 0 }).await;
            sg.finish().await;
            gateway.stop().await;
        },
    );
}

#[test]
fn an_incomplete_compressed_request_times_out_like_any_other() {
    run(
        Engine::Sqlite,
        |config| config.limits.body_seconds = 1,
        async |sg| {
            let (asked, mut calls) = mpsc::unbounded_channel();
            let addr = start_rogue(move |_, request, _respond| {
                let _ = asked.send(request.uri().path().to_owned());
                std::future::ready(())
            })
            .await;
            sg.register_gateway("alpha", addr).await;
            let key = sg.admin().create_key("viewer", shoreguard::pb::v1::Role::Viewer).await;
            let mut raw = RawClient::connect_as(&sg, &key).await;
            let late = async |raw: &mut RawClient, encoding: &str| {
                let head = raw.request("ListSandboxes", "alpha").header("grpc-encoding", encoding);
                let (response, _request) = raw.open(head);
                let answer = tokio::time::timeout(PATIENCE, RawResponse::read(response)).await;
                let status = answer.expect("it has a deadline").status();
                (status.code(), reason(&status), status.message().to_owned())
            };
            let plain = late(&mut raw, "identity").await;
            assert_eq!(plain.0, tonic::Code::DeadlineExceeded, "{plain:?}");
            assert_eq!(late(&mut raw, "gzip").await, plain);
            // The call waited in Shoreguard, and its gateway received nothing.
            assert!(calls.try_recv().is_err());
            sg.finish().await;
        },
    );
}
