//! How gateways end their responses, correctly or not: the status for the caller and the recorded outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::AuditOutcome::{Failed, Unknown};
use tonic_types::StatusExt as _;

use super::raw::{self, RawClient, RawResponse, encode_framed};
use super::rogue::{send_message, start_rogue};
use super::unanswered::{last_outcome, stop_request};
use super::*;

/// A write that is handled on the main runtime.
const DELETE: &str = "DeleteSandbox";

fn head(status: Option<&str>) -> Response<()> {
    let mut head = Response::builder().header("content-type", "application/grpc");
    if let Some(status) = status {
        head = head.header("grpc-status", status);
    }
    head.body(()).unwrap()
}

/// Ends a response with an optional message and these statuses.
fn ends(
    mut respond: SendResponse<Bytes>,
    first: Option<&str>,
    message: Option<Bytes>,
    last: &[&[u8]],
) {
    let mut stream = respond.send_response(head(first), false).unwrap();
    let mut trailers = HeaderMap::new();
    for status in last {
        trailers.append("grpc-status", http::HeaderValue::from_bytes(status).unwrap());
    }
    trailers.append("grpc-message", http::HeaderValue::from_bytes(b"\x80").unwrap());
    if let Some(message) = message {
        stream.send_data(message, false).unwrap();
    }
    stream.send_trailers(trailers).unwrap();
}

/// Ways in which a gateway ends a call, with the recorded outcome and code.
type Way = (&'static str, fn(SendResponse<Bytes>), pb::AuditOutcome, i32);

const WAYS: [Way; 8] = [
    ("reset", |mut respond| respond.send_reset(Reason::INTERNAL_ERROR), Unknown, 13),
    ("not looked at", |mut respond| respond.send_reset(Reason::REFUSED_STREAM), Failed, 14),
    (
        "no gRPC",
        |mut respond| {
            let page = Response::builder().status(502).body(()).unwrap();
            drop(respond.send_response(page, true));
        },
        Unknown,
        14,
    ),
    // h2 cancels a stream that is dropped before its end.
    ("broken off", |mut respond| drop(respond.send_response(head(None), false)), Unknown, 1),
    ("refused", |respond| ends(respond, None, None, &[b"9"]), Failed, 9),
    ("out of time there", |respond| ends(respond, None, None, &[b"4"]), Unknown, 4),
    ("two statuses", |respond| ends(respond, Some("7"), None, &[b"0"]), Unknown, 14),
    ("no status", |respond| ends(respond, None, None, &[b"99999999999"]), Unknown, 14),
];

/// Starts a gateway that reads each request and ends the call as described by the entry of `WAYS` with this number. The
/// outcome of a write is uncertain only after its request was read.
async fn ending(way: Arc<AtomicUsize>) -> std::net::SocketAddr {
    start_rogue(move |_, request, respond| {
        let way = way.load(Ordering::SeqCst);
        async move {
            raw::read(request.into_body()).await;
            WAYS[way].1(respond);
        }
    })
    .await
}

#[test]
fn a_write_is_recorded_as_failed_only_if_the_gateway_certainly_did_not_do_it() {
    run_on_sqlite(|sg| async move {
        let way = Arc::new(AtomicUsize::new(0));
        sg.register_gateway("alpha", ending(Arc::clone(&way)).await).await;
        let mut raw = RawClient::connect(&sg).await;
        for (number, (what, _, outcome, code)) in WAYS.into_iter().enumerate() {
            way.store(number, Ordering::SeqCst);
            for method in ["StopSandbox", DELETE] {
                let answer = raw.call(raw.request(method, "alpha"), &[stop_request()]).await;
                assert_eq!(answer.code(), code.to_string(), "{what} {method}: {answer:?}");
                let recorded = last_outcome(&sg, method, number + 1).await;
                assert_eq!(recorded, (outcome, code), "{what} {method}");
            }
        }
        sg.finish().await;
    });
}

/// Returns all statuses that a caller sees, in headers and trailers.
fn statuses(answer: &RawResponse) -> Vec<&[u8]> {
    let trailers = answer.trailers.iter().flat_map(|trailers| trailers.get_all("grpc-status"));
    let all = answer.headers.get_all("grpc-status").iter().chain(trailers);
    all.map(http::HeaderValue::as_bytes).collect()
}

type Lie = (&'static str, fn(SendResponse<Bytes>));

const LIES: [Lie; 8] = [
    ("too large", |respond| ends(respond, None, None, &[b"99999999999"])),
    ("unknown", |respond| ends(respond, None, None, &[b"17"])),
    ("negative", |respond| ends(respond, None, None, &[b"-1"])),
    ("in other digits", |respond| ends(respond, None, None, &[b"00"])),
    ("twice", |respond| ends(respond, None, None, &[b"0", b"0"])),
    ("at both ends", |respond| ends(respond, Some("7"), None, &[b"0"])),
    ("at both ends, around a message", |respond| {
        ends(respond, Some("0"), Some(encode_framed(&old::SandboxResponse::default())), &[b"7"]);
    }),
    ("none", |respond| ends(respond, None, None, &[])),
];

#[test]
fn t20_a_response_without_exactly_one_status_is_refused() {
    run_on_sqlite(|sg| async move {
        let lie = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&lie);
        let addr = start_rogue(move |_, _, respond| {
            let lie = told.load(Ordering::SeqCst);
            async move { LIES[lie].1(respond) }
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let mut raw = RawClient::connect(&sg).await;
        for (number, (what, _)) in LIES.into_iter().enumerate() {
            lie.store(number, Ordering::SeqCst);
            for method in ["GetSandbox", "StopSandbox", DELETE] {
                let answer = raw.call(raw.request(method, "alpha"), &[stop_request()]).await;
                assert_eq!(statuses(&answer), [b"14"], "{what} {method}: {answer:?}");
                let reason = crate::support::server::reason(&answer.status());
                assert_eq!(reason, "GATEWAY_UNREACHABLE", "{what} {method}");
            }
            let request = pb::GetSandboxRequest {
                gateway: "alpha".to_owned(),
                sandbox: "one".to_owned(),
                ..Default::default()
            };
            let own = sg.admin().sandboxes().get_sandbox(request).await;
            assert_refused!(own, Unavailable, "GATEWAY_UNREACHABLE");
        }
        sg.finish().await;
    });
}

#[test]
fn a_status_in_headers_is_forwarded_once_without_an_invalid_message_text() {
    run_on_sqlite(|sg| async move {
        let addr = start_rogue(|_, _, mut respond| async move {
            let mut first = head(Some("5"));
            let text = http::HeaderValue::from_bytes(b"\x80").unwrap();
            first.headers_mut().insert("grpc-message", text);
            let mut stream = respond.send_response(first, false).unwrap();
            stream.send_data(Bytes::new(), true).unwrap();
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let mut raw = RawClient::connect(&sg).await;
        for method in ["StopSandbox", DELETE] {
            let answer = raw.call(raw.request(method, "alpha"), &[stop_request()]).await;
            assert_eq!(statuses(&answer), [b"5"], "{answer:?}");
            let status = answer.status();
            assert_eq!((status.code(), status.message()), (tonic::Code::NotFound, ""), "{method}");
            assert!(status.get_error_details().error_info().is_none(), "it is the gateway's");
            assert_eq!(last_outcome(&sg, method, 1).await, (Failed, 5), "{method}");
        }
        sg.finish().await;
    });
}

#[test]
fn t20_an_undecodable_gateway_response_is_not_an_internal_error() {
    run_on_sqlite(|sg| async move {
        let addr = start_rogue(|_, request, respond| async move {
            raw::read(request.into_body()).await;
            send_message(respond, encode_framed(&old::HealthRequest {}));
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let sandboxes = || sg.admin().sandboxes();
        let (gateway, sandbox) = ("alpha".to_owned(), "one".to_owned());
        let get = pb::GetSandboxRequest {
            gateway: gateway.clone(),
            sandbox: sandbox.clone(),
            ..Default::default()
        };
        let got = sandboxes().get_sandbox(get).await;
        assert_refused!(got, Unavailable, "GATEWAY_UNREACHABLE");
        let start = pb::StartSandboxRequest {
            gateway: gateway.clone(),
            sandbox: sandbox.clone(),
            ..Default::default()
        };
        let started = sandboxes().start_sandbox(start).await;
        assert_refused!(started, Unavailable, "GATEWAY_UNREACHABLE");
        let stop = pb::StopSandboxRequest { gateway, sandbox, ..Default::default() };
        let stopped = sandboxes().stop_sandbox(stop).await;
        assert_refused!(stopped, Unavailable, "GATEWAY_UNREACHABLE");
        sg.app.audit.wait_settled().await;
        for action in ["sandbox.start", "sandbox.stop"] {
            let request =
                pb::ListAuditEntriesRequest { action: action.to_owned(), ..Default::default() };
            let listed = sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
            let entry = &listed.audit_entries[0];
            assert_eq!((entry.outcome(), entry.code), (Unknown, 14), "{entry:?}");
        }
        sg.finish().await;
    });
}
