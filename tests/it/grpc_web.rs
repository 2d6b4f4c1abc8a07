//! Calls of browsers: gRPC-Web over HTTP/1.1 and HTTP/2, and the allowed origins.

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message;
use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use tokio::net::TcpStream;

use crate::proxy::raw::{RawClient, encode_framed, spawn_task};
use crate::support::limit::start_time_limit;
use crate::support::server::TestServer;

const IDENTITY: &str = "/shoreguard.v1.AuthService/GetCurrentIdentity";
const GROUP: &str = "/shoreguard.v1.GroupService/CreateGroup";
const WEB: &str = "application/grpc-web+proto";
/// An origin that the configuration allows.
const CONSOLE: &str = "https://console.example.com";

fn with_console(config: &mut Config) {
    config.server.browser_origins = vec![CONSOLE.to_owned()];
}

/// Sends a request over HTTP/1.1 on a connection of its own.
async fn send(sg: &TestServer, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let socket = TcpStream::connect(sg.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    spawn_task(connection);
    sender.send_request(request).await.unwrap()
}

fn post(path: &str, key: &str, message: &impl Message) -> Request<Full<Bytes>> {
    let head = Request::post(path).header("host", "localhost").header("content-type", WEB);
    let head = head.header("authorization", format!("Bearer {key}")).header("x-grpc-web", "1");
    head.body(Full::new(encode_framed(message))).unwrap()
}

/// Returns the messages and the trailers of a response. The trailers are in the body or in the headers.
fn read(headers: &HeaderMap, mut body: Bytes) -> (Vec<Bytes>, String) {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while body.has_remaining() {
        let (flag, length) = (body.get_u8(), body.get_u32());
        let part = body.split_to(length as usize);
        match flag {
            0 => messages.push(part),
            0x80 => trailers = String::from_utf8(part.to_vec()).unwrap(),
            other => unreachable!("a frame with flag {other}"),
        }
    }
    if trailers.is_empty() {
        trailers = format!("grpc-status:{}", headers["grpc-status"].to_str().unwrap());
    }
    (messages, trailers)
}

async fn answer(response: Response<Incoming>) -> (HeaderMap, Vec<Bytes>, String) {
    assert_eq!(response.status(), StatusCode::OK);
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (messages, trailers) = read(&head.headers, body);
    (head.headers, messages, trailers)
}

sqlite_tests! {
    tuned with_console;
    grpc_web_unary_calls_work_over_http1_and_http2,
    a_grpc_web_write_is_authorized_and_audited,
    a_stream_ends_when_its_caller_disconnects,
    t02_forwarded_methods_are_not_available_to_browsers,
    only_configured_origins_can_call,
    only_the_hosts_of_the_server_answer_browsers,
}

async fn grpc_web_unary_calls_work_over_http1_and_http2(sg: TestServer) {
    let key = sg.admin_key.clone();
    let request = pb::GetCurrentIdentityRequest::default();
    let (headers, messages, trailers) =
        answer(send(&sg, post(IDENTITY, &key, &request)).await).await;
    assert_eq!(headers["content-type"], WEB);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    let identity = pb::GetCurrentIdentityResponse::decode(messages[0].clone()).unwrap();
    assert_eq!(identity.role, i32::from(pb::Role::Admin), "{identity:?}");

    let mut raw = RawClient::connect(&sg).await;
    let mut head = raw.post(IDENTITY);
    head.headers_mut().unwrap().insert("content-type", WEB.parse().unwrap());
    let over_2 = raw.call(head, &[encode_framed(&request)]).await;
    assert!(over_2.trailers.is_none(), "the trailers are in the body");
    let (again, trailers) = read(&over_2.headers, over_2.data);
    assert_eq!(again, messages);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    sg.finish().await;
}

async fn a_grpc_web_write_is_authorized_and_audited(sg: TestServer) {
    let viewer = sg.admin().create_key("viewer", pb::Role::Viewer).await;
    let request = pb::CreateGroupRequest {
        name: "ops".to_owned(),
        role: pb::Role::Viewer.into(),
        ..Default::default()
    };
    let (.., trailers) = answer(send(&sg, post(GROUP, &viewer, &request)).await).await;
    assert!(trailers.contains("grpc-status:7"), "{trailers}");
    let (.., trailers) = answer(send(&sg, post(GROUP, "sg_nobody", &request)).await).await;
    assert!(trailers.contains("grpc-status:16"), "{trailers}");
    let (.., trailers) =
        answer(send(&sg, post(GROUP, &sg.admin_key.clone(), &request)).await).await;
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    sg.app.audit.wait_settled().await;
    let request = pb::ListAuditEntriesRequest { page_size: 1000, ..Default::default() };
    let listed = sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
    let made = |entry: &&pb::AuditEntry| {
        entry.method == GROUP && entry.outcome == i32::from(pb::AuditOutcome::Ok)
    };
    assert_eq!(listed.audit_entries.iter().filter(made).count(), 1);
    sg.finish().await;
}

async fn a_stream_ends_when_its_caller_disconnects(sg: TestServer) {
    let request = pb::WatchGatewaysRequest::default();
    let path = "/shoreguard.v1.GatewayService/WatchGateways";
    let response = send(&sg, post(path, &sg.admin_key.clone(), &request)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(sg.app.live.count(), 1);
    drop(response);
    while sg.app.live.count() > 0 {
        crate::support::pause().await;
    }
    sg.finish().await;
}

async fn t02_forwarded_methods_are_not_available_to_browsers(sg: TestServer) {
    let request = pb::GetCurrentIdentityRequest::default();
    let response =
        send(&sg, post("/openshell.v1.OpenShell/Health", &sg.admin_key.clone(), &request)).await;
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    sg.finish().await;
}

async fn only_configured_origins_can_call(sg: TestServer) {
    let request = pb::GetCurrentIdentityRequest::default();
    let ours = sg.app.config.server.public_url();
    let with = |origin: &str| {
        let mut request = post(IDENTITY, &sg.admin_key, &request);
        request.headers_mut().insert("origin", origin.parse().unwrap());
        request
    };
    for (origin, status, told) in [
        (CONSOLE, StatusCode::OK, Some(CONSOLE)),
        (&*ours, StatusCode::OK, None),
        ("https://evil.example.com", StatusCode::FORBIDDEN, None),
        ("null", StatusCode::FORBIDDEN, None),
    ] {
        let response = send(&sg, with(origin)).await;
        assert_eq!(response.status(), status, "{origin}");
        let allowed = response.headers().get("access-control-allow-origin");
        assert_eq!(allowed.map(|value| value.to_str().unwrap()), told, "{origin}");
    }
    let ask = |origin: &str| {
        let head =
            Request::builder().method(Method::OPTIONS).uri(IDENTITY).header("host", "localhost");
        let head = head.header("origin", origin).header("access-control-request-method", "POST");
        let head =
            head.header("access-control-request-headers", "content-type,authorization,x-grpc-web");
        head.body(Full::default()).unwrap()
    };
    let allowed = send(&sg, ask(CONSOLE)).await;
    assert_eq!(allowed.status(), StatusCode::OK);
    assert_eq!(allowed.headers()["access-control-allow-origin"], CONSOLE);
    assert_eq!(allowed.headers()["access-control-allow-methods"], "POST");
    let refused = send(&sg, ask("https://evil.example.com")).await;
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    sg.finish().await;
}

/// DNS rebinding: the name of the attacker's page resolves to the server, so the browser sends no foreign origin.
async fn only_the_hosts_of_the_server_answer_browsers(sg: TestServer) {
    let request = pb::GetCurrentIdentityRequest::default();
    let local = sg.address.to_string();
    let hosts = [
        (&*local, true),
        ("localhost:9000", true),
        ("[::1]:8443", true),
        ("evil.example.com", false),
        ("evil.example.com:8443", false),
        ("127.0.0.1.evil.example.com", false),
    ];
    let mut raw = RawClient::connect(&sg).await;
    for (host, good) in hosts {
        let expected = if good { StatusCode::OK } else { StatusCode::MISDIRECTED_REQUEST };
        for origin in [None, Some(format!("http://{host}")), Some(CONSOLE.to_owned())] {
            let mut over_1 = post(IDENTITY, &sg.admin_key, &request);
            over_1.headers_mut().insert("host", host.parse().unwrap());
            let mut over_2 = raw.post(IDENTITY).uri(format!("http://{host}{IDENTITY}"));
            over_2.headers_mut().unwrap().insert("content-type", WEB.parse().unwrap());
            if let Some(origin) = &origin {
                over_1.headers_mut().insert("origin", origin.parse().unwrap());
                over_2.headers_mut().unwrap().insert("origin", origin.parse().unwrap());
            }
            let (over_2, mut stream) = raw.open(over_2);
            // A refusal may arrive first.
            let _ = stream.send_data(encode_framed(&request), true);
            let response = send(&sg, over_1).await;
            let told = response.headers().contains_key("access-control-allow-origin");
            assert_eq!(response.status(), expected, "{host} {origin:?}");
            assert_eq!(told, good && origin.as_deref() == Some(CONSOLE), "{host} {origin:?}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.is_empty(), !good, "{host} {origin:?}");
            assert_eq!(over_2.await.unwrap().status(), expected, "{host} {origin:?} on HTTP/2");
        }
        let ask = Request::builder().method(Method::OPTIONS).uri(IDENTITY).header("host", host);
        let ask = ask.header("origin", CONSOLE).header("access-control-request-method", "POST");
        let asked = send(&sg, ask.body(Full::default()).unwrap()).await;
        let told = asked.headers().contains_key("access-control-allow-origin");
        assert_eq!((asked.status() == StatusCode::OK, told), (good, good), "{host}");
        // gRPC is for programs, in front of which a proxy may have any name.
        let grpc = raw.post(IDENTITY).uri(format!("http://{host}{IDENTITY}"));
        assert_eq!(raw.call(grpc, &[encode_framed(&request)]).await.code(), "0", "{host}");
    }
    sg.finish().await;
}

#[test]
fn an_invalid_browser_origin_is_refused() {
    let _limit = start_time_limit();
    for (origin, good) in [
        (CONSOLE, true),
        ("http://localhost:3000", true),
        ("*", false),
        ("https://*.example.com", false),
        ("https://console.example.com/", false),
        ("https://Console.example.com", false),
        ("https://console.example.com:443", false),
        ("console.example.com", false),
        ("ftp://console.example.com", false),
    ] {
        let text = format!("[server]\nbrowser_origins = ['{origin}']");
        assert_eq!(Config::from_toml(&text).is_ok(), good, "{origin}");
    }
}
