//! Spans of calls, as a collector receives them.

use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, mpsc};

use crate::support::server::TestServer;
use opentelemetry_proto::tonic::collector::trace::v1 as collector;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server as service;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use shoreguard::pb::v0_1::openshell::v1 as openshell;
use shoreguard::pb::v1 as pb;
use shoreguard::seal::hex;
use shoreguard_simulator::Generation;
use tonic::{Request, Response, Status};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Spans received from all tests.
static SPANS: Mutex<Vec<Span>> = Mutex::new(Vec::new());

struct Collector;

#[tonic::async_trait]
impl service::TraceService for Collector {
    async fn export(
        &self,
        request: Request<collector::ExportTraceServiceRequest>,
    ) -> Result<Response<collector::ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources.into_iter().flat_map(|resource| resource.scope_spans);
        SPANS.lock().unwrap().extend(spans.flat_map(|scope| scope.spans));
        Ok(Response::new(collector::ExportTraceServiceResponse::default()))
    }
}

/// Address of a collector that runs as long as the tests. Servers are configured with it.
static COLLECTOR: LazyLock<SocketAddr> = LazyLock::new(|| {
    let (told, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let server = tonic::transport::Server::builder();
            let service = service::TraceServiceServer::new(Collector);
            let mut server = server;
            server.add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
    });
    address.recv().unwrap()
});

fn traced(config: &mut shoreguard::config::Config) {
    config.telemetry.otlp_endpoint = Some(format!("http://{}", *COLLECTOR));
    config.telemetry.otlp_one_in = 1;
}

fn text(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|pair| pair.key == key)?.value.clone()?.value?;
    if let Value::StringValue(text) = value {
        return Some(text);
    }
    let Value::IntValue(number) = value else { return None };
    Some(number.to_string())
}

/// Returns the span of a call by the request ID of its response.
fn span_of(request_id: &str) -> Option<Span> {
    let spans = SPANS.lock().unwrap();
    let of = |span: &&Span| text(span, "shoreguard.request_id").as_deref() == Some(request_id);
    spans.iter().find(of).cloned()
}

fn id_of<T>(answer: &Response<T>) -> String {
    answer.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned()
}

fn proxied() -> Request<openshell::GetCurrentUserRequest> {
    let mut request = Request::new(openshell::GetCurrentUserRequest {});
    request.metadata_mut().insert("traceparent", THEIRS.parse().unwrap());
    request.metadata_mut().insert("tracestate", "their=state".parse().unwrap());
    request
}

sqlite_tests! { tuned traced; a_call_is_traced_as_a_span_and_propagated_to_the_gateway }

async fn a_call_is_traced_as_a_span_and_propagated_to_the_gateway(sg: TestServer) {
    let edge = sg.start_gateway("edge", Generation::V0_1).await;
    let own =
        sg.admin().gateways().list_gateways(pb::ListGatewaysRequest::default()).await.unwrap();
    let through = sg.admin().openshell_v0_1().get_current_user(proxied()).await.unwrap();
    let none = pb::GetGatewayRequest { gateway: "none".into() };
    let missing = sg.admin().gateways().get_gateway(none).await.unwrap_err();
    let missing = missing.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
    let heard = edge.last_headers("GetCurrentUser").unwrap();
    let (own, through) = (id_of(&own), id_of(&through));
    edge.stop().await;
    // The last spans are sent before the server has stopped.
    sg.finish().await;

    let span = span_of(&own).expect("the list is traced");
    assert_eq!(span.name, "shoreguard.v1.GatewayService/ListGateways");
    assert_eq!(text(&span, "rpc.grpc.status_code").as_deref(), Some("0"));
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano && span.links.is_empty());
    let span = span_of(&through).expect("the proxied call is traced");
    assert_eq!(text(&span, "shoreguard.gateway").as_deref(), Some("edge"));
    assert_eq!(text(&span, "rpc.method").as_deref(), Some("GetCurrentUser"));
    let ours = format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
    assert_eq!(heard.get("traceparent").unwrap(), ours.as_str());
    assert!(!heard.contains_key("tracestate"));
    // A caller's trace is the parent only if the configuration trusts callers. Otherwise it is a link.
    assert_ne!(hex(&span.trace_id), TRACE);
    assert_eq!(hex(&span.links[0].trace_id), TRACE);
    let span = span_of(&missing).expect("the refused call is traced");
    assert_eq!(text(&span, "rpc.grpc.status_code").as_deref(), Some("5"));
    assert!(
        span.status.is_none_or(|status| status.code == 0),
        "a refusal is not an error of the server"
    );
    let all = format!("{:?}", SPANS.lock().unwrap());
    assert!(!all.contains("sg_") && !all.to_lowercase().contains("bearer"));
}

sqlite_tests! {
    tuned |config| {
        traced(config);
        config.telemetry.trust_traceparent = true;
    };
    the_trace_of_a_trusted_caller_is_the_parent,
}

async fn the_trace_of_a_trusted_caller_is_the_parent(sg: TestServer) {
    let edge = sg.start_gateway("edge", Generation::V0_1).await;
    let through = id_of(&sg.admin().openshell_v0_1().get_current_user(proxied()).await.unwrap());
    edge.stop().await;
    sg.finish().await;
    let span = span_of(&through).expect("the proxied call is traced");
    assert_eq!(
        (hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()),
        (TRACE, "b7ad6b7169203331")
    );
}

sqlite_tests! {
    tuned |config| {
        traced(config);
        config.telemetry.otlp_one_in = 1_000_000;
    };
    the_sampling_flag_of_an_untrusted_caller_is_ignored,
}

async fn the_sampling_flag_of_an_untrusted_caller_is_ignored(sg: TestServer) {
    let edge = sg.start_gateway("edge", Generation::V0_1).await;
    let through = id_of(&sg.admin().openshell_v0_1().get_current_user(proxied()).await.unwrap());
    assert_eq!(edge.last_headers("GetCurrentUser").unwrap().get("traceparent").unwrap(), THEIRS);
    edge.stop().await;
    sg.finish().await;
    assert!(span_of(&through).is_none());
}

// Nothing listens on this address.
sqlite_tests! {
    tuned |config| config.telemetry.otlp_endpoint = Some("http://127.0.0.1:1".to_owned());
    an_unreachable_collector_fails_no_call,
}

async fn an_unreachable_collector_fails_no_call(sg: TestServer) {
    for _ in 0..50 {
        sg.admin().gateways().list_gateways(pb::ListGatewaysRequest::default()).await.unwrap();
    }
    sg.finish().await;
}
