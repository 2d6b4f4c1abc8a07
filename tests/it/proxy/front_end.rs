//! Front ends before a gateway, which answer with an HTTP status or reset a stream instead of answering gRPC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use shoreguard::pb::v1 as pb;
use tokio::net::TcpListener;
use tonic::Code;

use super::raw::{self, RawClient, spawn_task};
use super::rogue::start_rogue;
use super::unanswered::{last_outcome, stop_request};
use super::*;
use crate::support::server::reason;

const REFUSED: (Code, &str) = (Code::FailedPrecondition, "GATEWAY_CREDENTIAL_REFUSED");
const AWAY: (Code, &str) = (Code::Unavailable, "GATEWAY_UNREACHABLE");
const BROKEN: (Code, &str) = (Code::Internal, "GATEWAY_REFUSED");
const UNKNOWN_PATH: (Code, &str) = (Code::Unimplemented, "GATEWAY_REFUSED");

/// HTTP statuses, with code and reason of the call.
const STATUSES: [(u16, (Code, &str)); 9] = [
    (302, BROKEN),
    (400, BROKEN),
    (401, REFUSED),
    (403, REFUSED),
    (404, UNKNOWN_PATH),
    (429, AWAY),
    (502, AWAY),
    (503, AWAY),
    (504, AWAY),
];

/// Answers with a page of HTML.
fn page(status: u16, mut respond: SendResponse<Bytes>) {
    let head = Response::builder().status(status).header("content-type", "text/html");
    let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from_static(b"<html></html>"), true).unwrap();
}

/// Starts a front end that answers every call with this status, including those of probes.
async fn start_front_end(status: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    spawn_task(async move {
        while let Ok((socket, _)) = listener.accept().await {
            spawn_task(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((_, respond))) = connection.accept().await {
                    page(status, respond);
                }
            });
        }
    });
    addr
}

fn own_get(gateway: &str) -> pb::GetSandboxRequest {
    pb::GetSandboxRequest {
        gateway: gateway.to_owned(),
        sandbox: "one".to_owned(),
        ..Default::default()
    }
}

fn assert_status(status: &tonic::Status, expected: (Code, &str), text: &str) {
    let reason = reason(status);
    assert_eq!((status.code(), reason.as_str()), expected, "{text}: {status:?}");
    assert!(status.message().contains(text), "{text}: {status:?}");
}

#[test]
fn an_http_status_of_a_front_end_has_the_code_of_grpc() {
    run_on_sqlite(|sg| async move {
        let status = Arc::new(AtomicU16::new(0));
        let answered = Arc::clone(&status);
        let addr = start_rogue(move |_, request, respond| {
            let status = answered.load(Ordering::SeqCst);
            async move {
                raw::read(request.into_body()).await;
                page(status, respond);
            }
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let mut raw = RawClient::connect(&sg).await;
        for (number, (http, expected)) in STATUSES.into_iter().enumerate() {
            status.store(http, Ordering::SeqCst);
            let text = format!("HTTP status {http} ");
            for method in ["GetSandbox", "StopSandbox", "DeleteSandbox"] {
                let answer = raw.call(raw.request(method, "alpha"), &[stop_request()]).await;
                assert_status(&answer.status(), expected, &text);
            }
            let own = sg.admin().sandboxes().get_sandbox(own_get("alpha")).await.unwrap_err();
            assert_status(&own, expected, &text);
            // The front end has passed nothing on if it rejects the credential or does not know the path.
            let is_known = matches!(http, 401 | 403 | 404);
            let outcome =
                if is_known { pb::AuditOutcome::Failed } else { pb::AuditOutcome::Unknown };
            for method in ["StopSandbox", "DeleteSandbox"] {
                let recorded = last_outcome(&sg, method, number + 1).await;
                assert_eq!(recorded, (outcome, expected.0 as i32), "{http} {method}");
            }
        }
        sg.finish().await;
    });
}

#[test]
fn the_http_status_of_a_front_end_is_shown_in_the_state_of_its_gateway() {
    run_on_sqlite(|sg| async move {
        let mut raw = RawClient::connect(&sg).await;
        for (http, expected) in STATUSES {
            let name = format!("behind-{http}");
            let registered = sg.register_gateway(&name, start_front_end(http).await).await;
            assert_eq!(registered.status(), pb::GatewayStatus::Unreachable, "{registered:?}");
            let text = format!("HTTP status {http} ");
            assert!(registered.last_error.contains(&text), "{registered:?}");
            // The connection is opened for the call, which gets the same code.
            let answer = raw.call(raw.request("GetSandbox", &name), &[stop_request()]).await;
            assert_status(&answer.status(), expected, &text);
        }
        sg.finish().await;
    });
}

#[test]
fn a_reset_stream_has_the_code_of_its_http2_error() {
    const RESETS: [(Reason, Code); 5] = [
        (Reason::CANCEL, Code::Cancelled),
        (Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
        (Reason::INADEQUATE_SECURITY, Code::PermissionDenied),
        (Reason::PROTOCOL_ERROR, Code::Internal),
        (Reason::NO_ERROR, Code::Internal),
    ];
    run_on_sqlite(|sg| async move {
        let number = Arc::new(AtomicUsize::new(0));
        let current = Arc::clone(&number);
        let addr = start_rogue(move |_, request, mut respond| {
            let (reason, _) = RESETS[current.load(Ordering::SeqCst)];
            async move {
                raw::read(request.into_body()).await;
                respond.send_reset(reason);
            }
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let mut raw = RawClient::connect(&sg).await;
        for (index, (error, code)) in RESETS.into_iter().enumerate() {
            number.store(index, Ordering::SeqCst);
            let text = format!("HTTP/2 error {error:?}");
            for method in ["GetSandbox", "DeleteSandbox"] {
                let answer = raw.call(raw.request(method, "alpha"), &[stop_request()]).await;
                assert_status(&answer.status(), (code, "GATEWAY_REFUSED"), &text);
            }
            let own = sg.admin().sandboxes().get_sandbox(own_get("alpha")).await.unwrap_err();
            assert_status(&own, (code, "GATEWAY_REFUSED"), &text);
        }
        sg.finish().await;
    });
}
