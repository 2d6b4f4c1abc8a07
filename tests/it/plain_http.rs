//! Plain HTTP on the same port as gRPC: versions, limits, headers of every response, and unknown paths.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use shoreguard::db::Engine;
use tokio::net::TcpStream;

use crate::support::http::{get, post, send, send_until_closed};
use crate::support::server::TestServer;
use crate::support::{CONDITION_TIME_MAX, limit};

const DISCOVERY: &str = "/gateways/edge/.well-known/openid-configuration";
const IDENTITY: &str = "/shoreguard.v1.AuthService/GetCurrentIdentity";

fn grpc(path: &str) -> Request<Full<Bytes>> {
    let request =
        Request::post(path).header("host", "sg").header("content-type", "application/grpc");
    request.body(Full::from(Bytes::from_static(&[0; 5]))).unwrap()
}

sqlite_tests! {
    grpc_calls_over_http1_are_refused,
    an_unknown_path_is_not_found_and_has_an_empty_body,
    every_plain_http_response_forbids_caching_and_framing,
    a_connection_serves_several_requests_and_ends_with_the_server,
    the_size_of_a_request_body_is_limited,
    the_size_of_the_request_headers_is_limited,
}

async fn grpc_calls_over_http1_are_refused(sg: TestServer) {
    for path in [IDENTITY, "/openshell.v1.OpenShell/Health", "/nothing", DISCOVERY] {
        let answer = send(sg.address, grpc(path)).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (505, 0), "{path}");
    }
    // The server still handles calls on the same port.
    sg.admin()
        .auth()
        .get_current_identity(shoreguard::pb::v1::GetCurrentIdentityRequest {})
        .await
        .unwrap();
    sg.finish().await;
}

async fn an_unknown_path_is_not_found_and_has_an_empty_body(sg: TestServer) {
    for path in [
        "/",
        "/_ws_tunnel",
        "/gateways",
        "/gateways/edge",
        "/gateways/edge/",
        "/gateways/a/b/jwks.json",
        "/.well-known/openid-configuration",
        "/gateways//jwks.json",
        "/gateways/..%2fx/jwks.json",
    ] {
        let answer = get(sg.address, path).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (404, 0), "{path}");
    }
    let upgrade = Request::get("/_ws_tunnel")
        .header("host", "sg")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    assert_eq!(send(sg.address, upgrade.body(Full::default()).unwrap()).await.status, 404);
    assert_eq!(post(sg.address, IDENTITY, &[], &[]).await.status, 415);
    assert_eq!(get(sg.address, IDENTITY).await.status, 405);
    assert_eq!(post(sg.address, DISCOVERY, &[], &[]).await.status, 405);
    sg.finish().await;
}

async fn every_plain_http_response_forbids_caching_and_framing(sg: TestServer) {
    let sent = "0b0f1d9e-64d7-4c53-9d1e-6a3ff2a3c111";
    for path in [DISCOVERY, "/nothing"] {
        let request = Request::get(path).header("host", "sg").header("x-request-id", sent);
        let answer = send(sg.address, request.body(Full::default()).unwrap()).await;
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.headers[name], value, "{path}");
        }
        assert_eq!(
            answer.headers.get("x-request-id").map(http::HeaderValue::as_bytes),
            (path == DISCOVERY).then_some(sent.as_bytes())
        );
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    sg.finish().await;
}

async fn a_connection_serves_several_requests_and_ends_with_the_server(sg: TestServer) {
    let socket = TcpStream::connect(sg.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    let connection = sg.app.main_runtime().spawn(connection);
    for _ in 0..3 {
        let request =
            Request::get(DISCOVERY).header("host", "sg").body(Full::<Bytes>::default()).unwrap();
        sender.ready().await.unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
    }
    sg.app.stop.cancel();
    connection.await.unwrap().unwrap();
    sg.finish().await;
}

async fn the_size_of_a_request_body_is_limited(sg: TestServer) {
    let form = |bytes: usize| {
        let request = Request::post(DISCOVERY).header("host", "sg");
        request.body(Full::from(vec![b'a'; bytes])).unwrap()
    };
    assert_eq!(send(sg.address, form(16 * 1024)).await.status, 405);
    let refused = send(sg.address, form(16 * 1024 + 1)).await;
    assert_eq!(refused.refusal(), (413, "invalid_request".to_owned()));
    sg.finish().await;
}

async fn the_size_of_the_request_headers_is_limited(sg: TestServer) {
    let head = |bytes: usize| {
        format!(
            "GET {DISCOVERY} HTTP/1.1\r\nhost: sg\r\nconnection: close\r\nx: {}\r\n\r\n",
            "a".repeat(bytes)
        )
    };
    let answer = send_until_closed(sg.address, head(8 * 1024).as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    let answer = send_until_closed(sg.address, head(40 * 1024).as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    sg.finish().await;
}

#[test]
fn t16_an_idle_or_incomplete_connection_is_closed() {
    limit::block_on(async {
        let sg = TestServer::start(Engine::Sqlite, |config| {
            config.server.handshake_seconds = 2;
        })
        .await
        .unwrap();
        let idle = format!("GET {DISCOVERY} HTTP/1.1\r\nhost: sg\r\n\r\n");
        let said: [&[u8]; 5] =
            [b"", b"P", b"PRI * HTTP/2.0\r\n\r\nSM", b"GET / HTT", idle.as_bytes()];
        let ends = said.map(|bytes| {
            let ended = send_until_closed(sg.address, bytes);
            async move { tokio::time::timeout(CONDITION_TIME_MAX, ended).await }
        });
        for (ended, said) in futures_util::future::join_all(ends).await.into_iter().zip(said) {
            let read = ended.unwrap_or_else(|_| panic!("{said:?} was left open"));
            assert_eq!(read.starts_with(b"HTTP/1.1 200 "), said == idle.as_bytes());
        }
        sg.finish().await;
    });
}

#[test]
fn t16_token_requests_are_rate_limited_per_address() {
    limit::block_on(async {
        let sg = TestServer::start(Engine::Sqlite, |config| {
            config.limits.token_requests_per_minute = 3;
        })
        .await
        .unwrap();
        for _ in 0..3 {
            assert_eq!(get(sg.address, DISCOVERY).await.status, 200);
        }
        let refused = get(sg.address, DISCOVERY).await;
        assert_eq!(refused.refusal(), (429, "slow_down".to_owned()));
        let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=20).contains(&wait), "{wait}");
        // Calls have limits of their own.
        sg.admin()
            .auth()
            .get_current_identity(shoreguard::pb::v1::GetCurrentIdentityRequest {})
            .await
            .unwrap();
        sg.finish().await;
    });
}

#[test]
fn the_token_service_is_disabled_without_a_public_url() {
    limit::block_on(async {
        let sg = TestServer::start(Engine::Sqlite, |config| {
            config.server.public_url = Some(String::new());
        })
        .await
        .unwrap();
        for path in [DISCOVERY, "/gateways/edge/jwks.json", "/gateways/edge/authorize"] {
            let answer = get(sg.address, path).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (404, 0), "{path}");
        }
        sg.finish().await;
    });
}
