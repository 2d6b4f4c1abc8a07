//! The listener: requests that are not calls, limits, reflection, health, drain.

use std::time::Duration;

use prost::Message;
use shoreguard::access::policy::StreamingMode;
use shoreguard::pb::v1 as pb;
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::support::server::TestServer;

async fn ask(
    sg: &TestServer,
    gateway: Option<&str>,
    what: MessageRequest,
) -> ServerReflectionResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(what) };
    let mut request = tonic::Request::new(tokio_stream::once(request));
    if let Some(gateway) = gateway {
        request.metadata_mut().insert("x-shoreguard-gateway", gateway.parse().unwrap());
    }
    let admin = sg.admin();
    let mut client = ServerReflectionClient::with_interceptor(admin.channel, admin.bearer);
    let mut answers = client.server_reflection_info(request).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap()
}

async fn h2(
    sg: &TestServer,
) -> hyper::client::conn::http2::SendRequest<http_body_util::Full<bytes::Bytes>> {
    let socket = tokio::net::TcpStream::connect(sg.address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    sg.app.main_runtime().spawn(connection);
    sender
}

fn http(
    method: &str,
    path: &str,
    content: Option<&str>,
    body: &[u8],
) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let mut request =
        http::Request::builder().method(method).uri(format!("http://localhost{path}"));
    if let Some(content) = content {
        request = request.header("content-type", content);
    }
    request.body(http_body_util::Full::new(bytes::Bytes::copy_from_slice(body))).unwrap()
}

const IDENTITY: &str = "/shoreguard.v1.AuthService/GetCurrentIdentity";

sqlite_tests! {
    a_request_that_is_not_a_grpc_call_gets_an_error_status,
    a_malformed_or_oversized_message_is_refused,
    reflection_lists_shoreguard_services_and_those_of_the_gateway_generation,
    health_is_reported_per_service_and_changes_when_draining,
    a_request_id_is_validated_or_generated,
}

async fn a_request_that_is_not_a_grpc_call_gets_an_error_status(sg: TestServer) {
    let mut sender = h2(&sg).await;
    for (request, expected) in [
        (http("GET", "/", None, b""), 404),
        (http("GET", IDENTITY, None, b""), 405),
        (http("POST", IDENTITY, None, b""), 415),
        (http("POST", IDENTITY, Some("application/json"), b"{}"), 415),
        (http("GET", &format!("{IDENTITY}?a=b"), None, b""), 404),
        (http("GET", "/_ws_tunnel", Some("application/grpc"), b""), 404),
        (http("GET", "/gateways/edge/.well-known/openid-configuration", None, b""), 200),
    ] {
        assert_eq!(sender.send_request(request).await.unwrap().status(), expected);
    }
    for path in [
        "/_ws_tunnel",
        "/",
        "/openshell.v1.OpenShell/health",
        "/openshell.v1.OpenShell/Health?",
        "/openshell.v1.OpenShell/Health?gateway=edge",
        "/shoreguard.v1.AuthService/Nope",
        "/shoreguard.v1.AuthService/GetCurrentIdentity?",
        "/grpc.health.v1.Health/Check?service=x",
    ] {
        let answer =
            sender.send_request(http("POST", path, Some("application/grpc"), b"")).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "12", "{path}");
    }
    sg.finish().await;
}

async fn a_malformed_or_oversized_message_is_refused(sg: TestServer) {
    let admin = sg.admin();
    let path = "/shoreguard.v1.ServicePrincipalService/GetServicePrincipal";
    for malformed in [&[0x0a, 0x7f, 0x01][..], &[0x0a, 0x01, 0xff], &[0xff; 32]] {
        let refused = admin.call_raw(path, StreamingMode::Unary, malformed.to_vec(), &[]).await;
        assert_refused!(refused, InvalidArgument, "MALFORMED_MESSAGE");
    }
    let large =
        pb::GetServicePrincipalRequest { service_principal: "x".repeat(5 << 20) }.encode_to_vec();
    let large = admin.call_raw(path, StreamingMode::Unary, large, &[]).await;
    assert_refused!(large, ResourceExhausted, "MESSAGE_TOO_LARGE");
    let bad_timeout =
        admin.call_raw(IDENTITY, StreamingMode::Unary, vec![], &[("grpc-timeout", "soon")]).await;
    assert_refused!(bad_timeout, InvalidArgument, "INVALID_FIELD");
    sg.finish().await;
}

async fn reflection_lists_shoreguard_services_and_those_of_the_gateway_generation(sg: TestServer) {
    let listed = ask(&sg, None, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed.message_response else {
        panic!("{listed:?}")
    };
    let names: Vec<_> = listed.service.iter().map(|s| s.name.as_str()).collect();
    assert!(
        names.contains(&"shoreguard.v1.GatewayService")
            && names.contains(&"openshell.v1.OpenShell"),
        "{names:?}"
    );
    assert!(!names.contains(&"openshell.inference.v1.Inference"));

    let old = shoreguard_simulator::Simulator::start(shoreguard_simulator::SimulatorOptions::new(
        shoreguard_simulator::Generation::V0_0,
    ))
    .await
    .unwrap();
    sg.register_gateway("old", old.addr()).await;
    let listed = ask(&sg, Some("old"), MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed.message_response else {
        panic!("{listed:?}")
    };
    assert!(listed.service.iter().any(|s| s.name == "openshell.inference.v1.Inference"));
    old.stop().await;
    sg.finish().await;
}

async fn health_is_reported_per_service_and_changes_when_draining(sg: TestServer) {
    let mut health = HealthClient::new(sg.channel());
    for service in ["", "shoreguard.v1.GatewayService", "openshell.v1.OpenShell"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "nope".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let mut watch =
        health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    sg.app.stop.cancel();
    let next = tokio::time::timeout(Duration::from_secs(10), watch.message()).await.unwrap();
    assert_eq!(next.unwrap().unwrap().status(), ServingStatus::NotServing);
    drop(watch);
    drop(health);
    sg.finish().await;
}

async fn a_request_id_is_validated_or_generated(sg: TestServer) {
    let mut sender = h2(&sg).await;
    let sent = "0b0f1d9e-64d7-4c53-9d1e-6a3ff2a3c111";
    for (id, kept) in [(sent, true), ("not one", false)] {
        let mut request = http("POST", IDENTITY, Some("application/grpc"), b"");
        request.headers_mut().insert("x-request-id", id.parse().unwrap());
        let answer = sender.send_request(request).await.unwrap();
        let shown = answer.headers()["x-request-id"].to_str().unwrap();
        assert_eq!(shown == id, kept);
        assert!(uuid::Uuid::try_parse(shown).is_ok());
    }
    sg.finish().await;
}
