//! Tests of the client with a fake gateway API.

use std::collections::BTreeMap;

use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::BoxStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use super::super::connect::Client;
use super::super::{Cli, CliError, Command, json};
use super::methods::Methods;
use super::{CallArgs, resolve_method};
use crate::pb::v0_1::openshell::v1::open_shell_server::{OpenShell, OpenShellServer};
use crate::pb::v0_1::openshell::v1::{
    GetSandboxRequest, SandboxResponse, SandboxStreamEvent, WatchSandboxRequest,
};
use crate::upstream::generation::Generation;

struct Gateway;

#[tonic::async_trait]
impl OpenShell for Gateway {
    async fn get_sandbox(
        &self,
        request: Request<GetSandboxRequest>,
    ) -> Result<Response<SandboxResponse>, Status> {
        let sent = |name| request.metadata().get(name).map(|v| v.to_str().unwrap().to_owned());
        let seen = [
            ("name", Some(request.get_ref().name.clone())),
            ("key", sent("authorization")),
            ("gateway", sent("x-shoreguard-gateway")),
            ("timeout", sent("grpc-timeout")),
        ];
        let seen = seen.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let service_urls: BTreeMap<String, String> = seen.collect();
        Ok(Response::new(SandboxResponse { sandbox: None, service_urls }))
    }

    async fn watch_sandbox(
        &self,
        _: Request<WatchSandboxRequest>,
    ) -> Result<Response<BoxStream<SandboxStreamEvent>>, Status> {
        let event = |cursor: &str| SandboxStreamEvent { payload: None, cursor: cursor.to_owned() };
        let events =
            vec![Ok(event("1")), Ok(event("2")), Err(Status::new(Code::Aborted, "cursor expired"))];
        Ok(Response::new(Box::pin(tokio_stream::iter(events))))
    }
}

async fn serve() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let server = Server::builder().add_service(OpenShellServer::new(Gateway));
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    (endpoint, tasks)
}

fn args(endpoint: &str, more: &[&str]) -> CallArgs {
    let start = ["shoreguard", "call", "--endpoint", endpoint];
    let Command::Call(args) = Cli::parse_from(start.iter().chain(more)).command else {
        panic!("call is call");
    };
    args
}

#[tokio::test]
async fn a_unary_call_sends_key_gateway_and_deadline_and_returns_the_response() {
    let (endpoint, _tasks) = serve().await;
    let more = [
        "--key",
        "sg_x",
        "--gateway",
        "edge",
        "--timeout",
        "5",
        "--generation",
        "0.1",
        "OpenShell/GetSandbox",
    ];
    let args = args(&endpoint, &more);
    let mut client = Client::connect(&args.connect, args.gateway.as_deref()).await.unwrap();
    let methods = Methods::load();
    let method =
        methods.find("OpenShell/GetSandbox", false).unwrap().newest(args.generation).unwrap();
    let request = json::parse(&method.input(), r#"{"name": "box"}"#).unwrap();
    let answer = client.unary(&method, request).await.unwrap();
    assert_eq!(
        json::to_line(&answer),
        r#"{"service_urls":{"gateway":"edge","key":"Bearer sg_x","name":"box","timeout":"5000000u"}}"#
    );
}

#[tokio::test]
async fn a_stream_yields_each_message_and_then_its_error() {
    let (endpoint, _tasks) = serve().await;
    let mut client =
        Client::connect(&args(&endpoint, &["OpenShell/WatchSandbox"]).connect, None).await.unwrap();
    let methods = Methods::load();
    let method = methods.find("OpenShell/WatchSandbox", false).unwrap().newest(None).unwrap();
    let request = json::parse(&method.input(), "{}").unwrap();
    let mut answers = client.stream(&method, request).await.unwrap();
    for cursor in ["1", "2"] {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(json::to_line(&answer), format!(r#"{{"cursor":"{cursor}"}}"#));
    }
    let refused = CliError::from(answers.message().await.unwrap_err());
    assert_eq!(refused.to_string(), "ABORTED: cursor expired");
}

#[tokio::test]
async fn a_server_that_reports_no_generation_is_treated_as_the_newest() {
    let (endpoint, _tasks) = serve().await;
    let args = args(&endpoint, &["--gateway", "edge", "OpenShell/GetSandbox"]);
    let mut client = Client::connect(&args.connect, args.gateway.as_deref()).await.unwrap();
    let why = client.generation(Some("edge")).await.unwrap_err();
    assert!(why.starts_with("the gateway's generation is not known (UNIMPLEMENTED: "), "{why}");
    let methods = Methods::load();
    let found = methods.find("OpenShell/GetSandbox", false).unwrap();
    let method = resolve_method(&found, &args, &mut client).await.unwrap();
    assert_eq!(Some(&method), found.in_generation(Generation::V0_1).ok());
}

#[tokio::test]
async fn a_key_is_not_sent_without_tls_over_a_network() {
    let args = args("http://192.0.2.1:1", &["--key", "sg_x", "OpenShell/GetSandbox"]);
    let Err(CliError::Usage(why)) = Client::connect(&args.connect, args.gateway.as_deref()).await
    else {
        panic!("it is refused")
    };
    assert!(why.contains("--allow-plaintext"), "{why}");
}

#[tokio::test]
async fn an_unreachable_server_is_reported_with_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let Err(CliError::Unreachable(why)) =
        Client::connect(&args(&endpoint, &["OpenShell/GetSandbox"]).connect, None).await
    else {
        panic!("no server listens on this address");
    };
    assert!(why.starts_with(&format!("`{endpoint}/` cannot be reached: ")), "{why}");
}
