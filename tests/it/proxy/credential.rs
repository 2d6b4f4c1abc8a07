//! Gateways that reject Shoreguard's credential: the caller's own is valid, and no response says otherwise.

use h2::server::SendResponse;
use http::{HeaderMap, Response};
use prost::bytes::Bytes;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Script, Times};
use tonic::{Code, Status};

use super::raw::{RawClient, encode_framed, read};
use super::rogue::{ReceivedRequest, start_rogue};
use super::*;

/// Registers a gateway that accepts Shoreguard's credential.
async fn registered(sg: &TestServer, name: &str, generation: Generation) -> Simulator {
    let options = SimulatorOptions {
        require_bearer: Some("one".to_owned()),
        ..SimulatorOptions::new(generation)
    };
    let simulator = Simulator::start(options).await.unwrap();
    simulator.seed_demo().unwrap();
    let request = pb::RegisterGatewayRequest {
        name: name.to_owned(),
        endpoint: simulator.addr().to_string(),
        scheme: pb::GatewayScheme::Http.into(),
        credentials: Some(pb::GatewayCredentials {
            bearer_token: "one".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    sg.admin().gateways().register_gateway(request).await.unwrap();
    simulator
}

/// Reads a stream to its end. Returns the error of its start or of its end.
async fn drained<M>(
    stream: Result<tonic::Response<tonic::Streaming<M>>, Status>,
) -> Result<(), Status> {
    let mut stream = stream?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

/// Makes a call of each kind on generation 0.0. The proxy knows the sandbox with this `id`.
async fn old_calls(caller: &Caller, id: &str) -> Vec<(&'static str, Result<(), Status>)> {
    let mut client = caller.openshell_v0_0();
    let list = old::ListSandboxesRequest::default();
    let delete = old::DeleteSandboxRequest { name: "coder".to_owned(), ..Default::default() };
    let exec = old::ExecSandboxRequest {
        sandbox_id: id.to_owned(),
        command: vec!["true".to_owned()],
        ..Default::default()
    };
    let ssh = old::CreateSshSessionRequest { sandbox_id: id.to_owned() };
    vec![
        (
            "info",
            client
                .get_gateway_info(for_gateway("alpha", old::GetGatewayInfoRequest {}))
                .await
                .map(drop),
        ),
        ("get", client.get_sandbox(for_gateway("alpha", get_request("coder"))).await.map(drop)),
        ("list", client.list_sandboxes(for_gateway("alpha", list)).await.map(drop)),
        (
            "create",
            client.create_sandbox(for_gateway("alpha", create_request("new"))).await.map(drop),
        ),
        ("delete", client.delete_sandbox(for_gateway("alpha", delete)).await.map(drop)),
        ("ssh", client.create_ssh_session(for_gateway("alpha", ssh)).await.map(drop)),
        (
            "watch",
            drained(client.watch_sandbox(for_gateway("alpha", watch_request(id))).await).await,
        ),
        ("exec", drained(client.exec_sandbox(for_gateway("alpha", exec)).await).await),
    ]
}

async fn new_calls(caller: &Caller) -> Vec<(&'static str, Result<(), Status>)> {
    let mut client = caller.openshell_v0_1();
    let name = || "coder".to_owned();
    let get = new::GetSandboxRequest { name: name(), ..Default::default() };
    let delete = new::DeleteSandboxRequest { name: name(), ..Default::default() };
    let watch =
        new::WatchSandboxRequest { sandbox: name(), follow_status: true, ..Default::default() };
    let (list, info) = (new::ListSandboxesRequest::default(), new::GetGatewayInfoRequest {});
    let repeated = new::CreateSandboxRequest {
        request_id: "0b6b4b5e-7f0d-4ee5-a8a1-4f6b9c0d1e2f".to_owned(),
        ..create_request_v0_1("again")
    };
    vec![
        ("info", client.get_gateway_info(for_gateway("beta", info)).await.map(drop)),
        ("get", client.get_sandbox(for_gateway("beta", get)).await.map(drop)),
        ("list", client.list_sandboxes(for_gateway("beta", list)).await.map(drop)),
        (
            "create",
            client.create_sandbox(for_gateway("beta", create_request_v0_1("new"))).await.map(drop),
        ),
        (
            "create with a request id",
            client.create_sandbox(for_gateway("beta", repeated)).await.map(drop),
        ),
        ("delete", client.delete_sandbox(for_gateway("beta", delete)).await.map(drop)),
        ("watch", drained(client.watch_sandbox(for_gateway("beta", watch)).await).await),
    ]
}

fn assert_all_refused(calls: Vec<(&'static str, Result<(), Status>)>) {
    for (call, answer) in calls {
        let Err(status) = answer else { panic!("{call} succeeded") };
        let reason = crate::support::server::reason(&status);
        assert_eq!(
            (status.code(), reason.as_str()),
            (Code::FailedPrecondition, "GATEWAY_CREDENTIAL_REFUSED"),
            "{call}: {status:?}"
        );
        assert!(status.message().contains("credential that Shoreguard presents"), "{status:?}");
    }
}

async fn known_id(caller: &Caller) -> String {
    let mut client = caller.openshell_v0_0();
    let found =
        client.get_sandbox(for_gateway("alpha", get_request("coder"))).await.unwrap().into_inner();
    found.sandbox.unwrap().metadata.unwrap().id
}

#[test]
fn a_rejected_credential_of_the_gateway_is_a_failed_precondition_in_every_kind_of_call() {
    run_on_sqlite(|sg| async move {
        let alpha = registered(&sg, "alpha", Generation::V0_0).await;
        let beta = registered(&sg, "beta", Generation::V0_1).await;
        let admin = sg.admin();
        let id = known_id(&admin).await;
        for simulator in [&alpha, &beta] {
            simulator.require_bearer(&["two"]);
        }
        assert_all_refused(old_calls(&admin, &id).await);
        assert_all_refused(new_calls(&admin).await);
        // The ID of a sandbox is looked up on the gateway.
        let unknown = admin
            .openshell_v0_0()
            .watch_sandbox(for_gateway("alpha", watch_request("unknown")))
            .await;
        assert_all_refused(vec![("look-up", drained(unknown).await)]);
        sg.finish().await;
        alpha.stop().await;
        beta.stop().await;
    });
}

#[test]
fn a_rejected_credential_in_trailers_is_a_failed_precondition_in_every_kind_of_call() {
    run_on_sqlite(|sg| async move {
        let alpha = registered(&sg, "alpha", Generation::V0_0).await;
        let beta = registered(&sg, "beta", Generation::V0_1).await;
        let admin = sg.admin();
        let id = known_id(&admin).await;
        for method in [
            "GetGatewayInfo",
            "GetSandbox",
            "ListSandboxes",
            "CreateSandbox",
            "DeleteSandbox",
            "CreateSshSession",
            "WatchSandbox",
            "ExecSandbox",
        ] {
            for simulator in [&alpha, &beta] {
                let (code, message) = (Code::Unauthenticated, "invalid token".to_owned());
                let details = Bytes::new();
                simulator.script(method, Script::Fail { code, message, details }, Times::All);
            }
        }
        assert_all_refused(old_calls(&admin, &id).await);
        assert_all_refused(new_calls(&admin).await);
        sg.finish().await;
        alpha.stop().await;
        beta.stop().await;
    });
}

#[test]
fn calls_of_stock_clients_cause_no_credential_check() {
    run_on_sqlite(|sg| async move {
        let alpha = registered(&sg, "alpha", Generation::V0_0).await;
        let admin = sg.admin();
        let before = alpha.calls();
        for _ in 0..10 {
            admin
                .openshell_v0_0()
                .get_sandbox(for_gateway("alpha", get_request("coder")))
                .await
                .unwrap();
        }
        let after = alpha.calls();
        let count = |calls: &std::collections::BTreeMap<String, u64>, method: &str| {
            calls.get(&format!("/openshell.v1.OpenShell/{method}")).copied().unwrap_or_default()
        };
        assert_eq!(count(&after, "GetSandbox") - count(&before, "GetSandbox"), 10);
        for method in ["GetCurrentUser", "GetGatewayInfo"] {
            assert_eq!(count(&after, method), count(&before, method), "{method}");
        }
        sg.finish().await;
        alpha.stop().await;
    });
}

/// Rejects the credential in a form that depends on the number of the call.
async fn rejects(call: usize, request: ReceivedRequest, mut respond: SendResponse<Bytes>) {
    read(request.into_body()).await;
    let grpc = || Response::builder().header("content-type", "application/grpc");
    let trailers = |codes: &[&'static str]| {
        let name = http::HeaderName::from_static("grpc-status");
        let mut trailers = HeaderMap::new();
        for code in codes {
            trailers.append(&name, code.parse().unwrap());
        }
        trailers
    };
    let head = match call {
        // A front end that checks the token itself.
        0 => Response::builder().status(401).header("content-type", "text/html"),
        1 => grpc().header("grpc-status", "16"),
        2 => grpc().header("grpc-status", "0").header("grpc-status", "16"),
        3 => grpc().header("grpc-status", "016"),
        _ => grpc(),
    };
    let ended = call <= 3;
    let mut stream = respond.send_response(head.body(()).unwrap(), ended).unwrap();
    if !ended {
        stream.send_data(encode_framed(&old::SandboxResponse::default()), false).unwrap();
        let codes: &[&str] = if call == 4 { &["16"] } else { &["0", "16"] };
        stream.send_trailers(trailers(codes)).unwrap();
    }
}

#[test]
fn no_form_of_unauthenticated_is_forwarded_from_a_gateway() {
    run_on_sqlite(|sg| async move {
        sg.register_gateway("alpha", start_rogue(rejects).await).await;
        let mut raw = RawClient::connect(&sg).await;
        for call in 0..6 {
            let answer = raw
                .call(raw.request("GetSandbox", "alpha"), &[encode_framed(&get_request("one"))])
                .await;
            assert_eq!(answer.code(), "9", "{call}: {answer:?}");
            let end = answer.trailers.as_ref().unwrap_or(&answer.headers);
            assert_eq!(end.get_all("grpc-status").iter().count(), 1, "{call}: {answer:?}");
            let status = Status::from_header_map(end).unwrap();
            assert_eq!(
                crate::support::server::reason(&status),
                "GATEWAY_CREDENTIAL_REFUSED",
                "{call}"
            );
        }
        sg.finish().await;
    });
}

#[test]
fn a_rejected_session_token_is_not_reported_as_a_rejected_credential() {
    use old::tcp_forward_frame::Payload;
    run_on_sqlite(|sg| async move {
        let alpha = registered(&sg, "alpha", Generation::V0_0).await;
        let admin = sg.admin();
        let init = old::TcpForwardInit {
            sandbox_id: known_id(&admin).await,
            authorization_token: "made-up".to_owned(),
            target: Some(old::tcp_forward_init::Target::Ssh(old::SshRelayTarget::default())),
            ..Default::default()
        };
        let frame = old::TcpForwardFrame { payload: Some(Payload::Init(init)) };
        let ask = for_gateway("alpha", tokio_stream::iter([frame]));
        let refused = drained(admin.openshell_v0_0().forward_tcp(ask).await).await;
        assert_refused!(refused, FailedPrecondition, "GATEWAY_REFUSED");
        sg.finish().await;
        alpha.stop().await;
    });
}
