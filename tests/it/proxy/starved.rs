//! Head-of-line blocking: stalled or unread streams of one caller must not delay the calls of others.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, STALLED_PORT, Script, Times};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Endpoint;

use super::raw::{RawClient, add_length_prefix, encode_framed};
use super::rogue::{send_message, start_rogue};
use super::*;

/// Far more than a call in these tests takes on a busy machine.
pub(super) const CALL_TIME: Duration = CONDITION_TIME_MAX;

/// Bytes of a stalled upload: four times the window of a gateway's connection.
const UPLOAD_BYTES: usize = 256 << 10;

/// A command whose output, 1.3 MB, exceeds every window between a gateway and a caller that reads nothing.
pub(super) const LOUD: [&str; 2] = ["seq", "200000"];

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

/// A gateway with one sandbox.
pub(super) struct Scene<'a> {
    pub(super) sg: &'a TestServer,
    generation: Generation,
    id: String,
    token: String,
}

impl<'a> Scene<'a> {
    pub(super) async fn new(
        sg: &'a TestServer,
        generation: Generation,
        gateway: &Simulator,
    ) -> Self {
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        let (id, token) = match generation {
            Generation::V0_0 => {
                let id = create_sandbox(&admin, "alpha", "one").await;
                let ask = old::CreateSshSessionRequest { sandbox_id: id.clone() };
                let made =
                    admin.openshell_v0_0().create_ssh_session(for_gateway("alpha", ask)).await;
                (id, made.unwrap().into_inner().token)
            }
            Generation::V0_1 => {
                let mut client = admin.openshell_v0_1();
                let made = client
                    .create_sandbox(for_gateway("alpha", create_request_v0_1("one")))
                    .await
                    .unwrap();
                let ask = new::CreateSshSessionRequest {
                    sandbox: "one".to_owned(),
                    ..Default::default()
                };
                let session = client.create_ssh_session(for_gateway("alpha", ask)).await.unwrap();
                let id = made.into_inner().sandbox.unwrap().metadata.unwrap().id;
                (id, session.into_inner().token)
            }
        };
        Self { sg, generation, id, token }
    }

    /// Returns the ID of the sandbox.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the first frame of a forwarded connection to a port of the sandbox.
    pub(super) fn init(&self, port: u32) -> Bytes {
        let authorization_token = self.token.clone();
        match self.generation {
            Generation::V0_0 => {
                let target = old::TcpRelayTarget { host: String::new(), port };
                let init = old::TcpForwardInit {
                    sandbox_id: self.id.clone(),
                    authorization_token,
                    target: Some(old::tcp_forward_init::Target::Tcp(target)),
                    ..Default::default()
                };
                let payload = Some(old::tcp_forward_frame::Payload::Init(init));
                encode_framed(&old::TcpForwardFrame { payload })
            }
            Generation::V0_1 => {
                let target = new::TcpRelayTarget { host: String::new(), port };
                let init = new::TcpForwardInit {
                    sandbox: "one".to_owned(),
                    authorization_token,
                    target: Some(new::tcp_forward_init::Target::Tcp(target)),
                    ..Default::default()
                };
                let payload = Some(new::tcp_forward_frame::Payload::Init(init));
                encode_framed(&new::TcpForwardFrame { payload })
            }
        }
    }

    /// Starts an upload to a target that does not read.
    pub(super) async fn stall(&self, raw: &mut RawClient) -> (RecvStream, SendStream<Bytes>) {
        let (response, mut request) = raw.open(raw.request("ForwardTcp", "alpha"));
        request.send_data(self.init(STALLED_PORT), false).unwrap();
        for _ in 0..UPLOAD_BYTES / (16 << 10) {
            let data = Bytes::from(vec![7; 16 << 10]);
            let payload = Some(old::tcp_forward_frame::Payload::Data(data));
            request.send_data(encode_framed(&old::TcpForwardFrame { payload }), false).unwrap();
        }
        let begun = tokio::time::timeout(CALL_TIME, response).await.expect("it begins").unwrap();
        assert_eq!(begun.status(), 200);
        assert!(!begun.headers().contains_key("grpc-status"), "{begun:?}");
        (begun.into_body(), request)
    }

    /// Returns the first message of a command with an input stream.
    pub(super) fn interactive(&self, command: &[&str]) -> Bytes {
        use prost::Message as _;
        let start = self.exec(command).slice(5..);
        match self.generation {
            Generation::V0_0 => {
                let start = old::ExecSandboxRequest::decode(start).unwrap();
                let payload = Some(old::exec_sandbox_input::Payload::Start(start));
                encode_framed(&old::ExecSandboxInput { payload })
            }
            Generation::V0_1 => {
                let start = new::ExecSandboxRequest::decode(start).unwrap();
                let payload = Some(new::exec_sandbox_input::Payload::Start(start));
                encode_framed(&new::ExecSandboxInput { payload })
            }
        }
    }

    /// Returns the message that runs a command.
    pub(super) fn exec(&self, command: &[&str]) -> Bytes {
        match self.generation {
            Generation::V0_0 => encode_framed(&old::ExecSandboxRequest {
                sandbox_id: self.id.clone(),
                command: words(command),
                ..Default::default()
            }),
            Generation::V0_1 => encode_framed(&new::ExecSandboxRequest {
                sandbox: "one".to_owned(),
                command: words(command),
                ..Default::default()
            }),
        }
    }

    /// Runs a command and reads nothing of its output.
    pub(super) async fn open_unread(&self, raw: &mut RawClient, command: &[&str]) -> RecvStream {
        let (response, mut request): (ResponseFuture, _) =
            raw.open(raw.request("ExecSandbox", "alpha"));
        request.send_data(self.exec(command), true).unwrap();
        let begun = tokio::time::timeout(CALL_TIME, response).await.expect("it begins").unwrap();
        assert!(!begun.headers().contains_key("grpc-status"), "{begun:?}");
        begun.into_body()
    }

    /// Makes 36 calls of several kinds as another caller, on connections to every core. Returns how many failed.
    pub(super) async fn count_other_calls(&self, key: &str) -> usize {
        let callers: Vec<_> = (0..4).map(|_| self.sg.connect_as(key)).collect();
        let calls = futures_util::stream::iter(0..36).map(|n| {
            let caller = callers[n % callers.len()].clone();
            async move {
                let call = tokio::time::timeout(CALL_TIME, self.call(&caller, n / 4));
                !matches!(call.await, Ok(Ok(())))
            }
        });
        calls.buffer_unordered(8).filter(|failed| std::future::ready(*failed)).count().await
    }

    /// Lists sandboxes, gets one or runs a command, depending on `n`.
    pub(super) async fn call(&self, caller: &Caller, n: usize) -> Result<(), Status> {
        match (self.generation, n % 3) {
            (Generation::V0_0, 0) => {
                let ask = for_gateway("alpha", old::ListSandboxesRequest::default());
                caller.openshell_v0_0().list_sandboxes(ask).await.map(|_| ())
            }
            (Generation::V0_0, 1) => caller
                .openshell_v0_0()
                .get_sandbox(for_gateway("alpha", get_request("one")))
                .await
                .map(|_| ()),
            (Generation::V0_1, 0) => {
                let ask = for_gateway("alpha", new::ListSandboxesRequest::default());
                caller.openshell_v0_1().list_sandboxes(ask).await.map(|_| ())
            }
            (Generation::V0_1, 1) => {
                let ask = new::GetSandboxRequest { name: "one".to_owned(), ..Default::default() };
                caller.openshell_v0_1().get_sandbox(for_gateway("alpha", ask)).await.map(|_| ())
            }
            (Generation::V0_0, _) => {
                let ask = old::ExecSandboxRequest {
                    sandbox_id: self.id.clone(),
                    command: words(&["echo", "hi"]),
                    ..Default::default()
                };
                let mut client = caller.openshell_v0_0();
                let mut events = client.exec_sandbox(for_gateway("alpha", ask)).await?.into_inner();
                while events.message().await?.is_some() {}
                Ok(())
            }
            (Generation::V0_1, _) => {
                let ask = new::ExecSandboxRequest {
                    sandbox: "one".to_owned(),
                    command: words(&["echo", "hi"]),
                    ..Default::default()
                };
                let mut client = caller.openshell_v0_1();
                let mut events = client.exec_sandbox(for_gateway("alpha", ask)).await?.into_inner();
                while events.message().await?.is_some() {}
                Ok(())
            }
        }
    }
}

/// Runs a test with a scene on a gateway of a generation.
pub(super) fn scene<F>(generation: Generation, test: F)
where
    F: AsyncFnOnce(&Scene<'_>, &str, &Simulator),
{
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(generation).await;
        let key = sg.admin().create_key("other", pb::Role::Operator).await;
        test(&Scene::new(&sg, generation, &gateway).await, &key, &gateway).await;
        wait_until("every stream is closed", || async { sg.app.live.count() == 0 }).await;
        sg.finish().await;
        gateway.stop().await;
    });
}

fn a_stalled_upload(generation: Generation) {
    scene(generation, async |scene, other, _| {
        // On two connections, so that there is one on each core.
        let mut uploads = Vec::new();
        for _ in 0..2 {
            let mut raw = RawClient::connect(scene.sg).await;
            uploads.push((scene.stall(&mut raw).await, raw));
        }
        assert_eq!(
            scene.count_other_calls(other).await,
            0,
            "calls fail while the uploads are open"
        );
        drop(uploads);
        assert_eq!(
            scene.count_other_calls(other).await,
            0,
            "calls fail after the uploads were cancelled"
        );
    });
}

#[test]
fn a_stalled_upload_fails_no_call_of_another_caller_v0_0() {
    a_stalled_upload(Generation::V0_0);
}

#[test]
fn a_stalled_upload_fails_no_call_of_another_caller_v0_1() {
    a_stalled_upload(Generation::V0_1);
}

fn forty_unread_streams(generation: Generation) {
    scene(generation, async |scene, other, _| {
        let mut raw = RawClient::connect(scene.sg).await;
        let mut unread = Vec::new();
        for _ in 0..40 {
            unread.push(scene.open_unread(&mut raw, &LOUD).await);
        }
        assert_eq!(
            scene.count_other_calls(other).await,
            0,
            "calls fail beside forty unread streams"
        );
        drop(unread);
        assert_eq!(scene.count_other_calls(other).await, 0, "calls fail after they were cancelled");
    });
}

#[test]
fn forty_unread_streams_fail_no_call_of_another_caller_v0_0() {
    forty_unread_streams(Generation::V0_0);
}

#[test]
fn forty_unread_streams_fail_no_call_of_another_caller_v0_1() {
    forty_unread_streams(Generation::V0_1);
}

#[test]
fn forty_stalled_uploads_fail_no_call_of_another_caller() {
    scene(Generation::V0_0, async |scene, other, _| {
        let mut uploads = Vec::new();
        for _ in 0..8 {
            let mut raw = RawClient::connect(scene.sg).await;
            for _ in 0..5 {
                uploads.push(scene.stall(&mut raw).await);
            }
        }
        assert_eq!(
            scene.count_other_calls(other).await,
            0,
            "calls fail beside forty stalled uploads"
        );
        drop(uploads);
        assert_eq!(scene.count_other_calls(other).await, 0, "calls fail after they were cancelled");
    });
}

/// Shoreguard's own methods call gateways from another runtime than the proxy.
fn forty_unread_streams_of_our_own_methods(generation: Generation) {
    scene(generation, async |scene, other, _| {
        let endpoint = Endpoint::new(format!("http://{}", scene.sg.address)).unwrap();
        let window = 65_535;
        let endpoint =
            endpoint.initial_stream_window_size(window).initial_connection_window_size(window);
        let mut unread = Vec::new();
        for n in 0..40 {
            let caller = Caller { channel: endpoint.connect_lazy(), ..scene.sg.admin() };
            unread.push(own_exec(&caller, n % 2 == 0).await);
        }
        let others: Vec<_> = (0..4).map(|_| scene.sg.with_token(other)).collect();
        let mut failed = 0;
        for n in 0..24 {
            let caller = others[n % others.len()].clone();
            let call = tokio::time::timeout(CALL_TIME, own_call(&caller, n / 4));
            failed += usize::from(!matches!(call.await, Ok(Ok(()))));
        }
        assert_eq!(failed, 0, "calls of our own methods fail");
        assert_eq!(scene.count_other_calls(other).await, 0, "proxied calls fail");
        drop(unread);
    });
}

/// Runs a command through Shoreguard's own method and reads nothing of its output. Its input is closed or stays open.
async fn own_exec(
    caller: &Caller,
    ended: bool,
) -> (
    tonic::Streaming<pb::ExecSandboxResponse>,
    Option<tokio::sync::mpsc::Sender<pb::ExecSandboxRequest>>,
) {
    let (typed, input) = tokio::sync::mpsc::channel(1);
    let first = pb::ExecSandboxRequest {
        gateway: "alpha".to_owned(),
        sandbox: "one".to_owned(),
        command: words(&LOUD),
        ..Default::default()
    };
    typed.send(first).await.unwrap();
    let typed = (!ended).then_some(typed);
    let answer = caller.sandboxes().exec_sandbox(ReceiverStream::new(input)).await.unwrap();
    (answer.into_inner(), typed)
}

async fn own_call(caller: &Caller, n: usize) -> Result<(), Status> {
    let (gateway, sandbox) = ("alpha".to_owned(), "one".to_owned());
    match n % 3 {
        0 => {
            let ask = pb::ListSandboxesRequest { gateway, ..Default::default() };
            caller.sandboxes().list_sandboxes(ask).await.map(|_| ())
        }
        1 => {
            let ask = pb::WatchSandboxRequest { gateway, sandbox, ..Default::default() };
            let mut seen = caller.sandboxes().watch_sandbox(ask).await?.into_inner();
            seen.message().await.map(|first| assert!(first.is_some()))
        }
        _ => {
            let ask = pb::GetSandboxLogsRequest { gateway, sandbox, ..Default::default() };
            caller.sandboxes().get_sandbox_logs(ask).await.map(|_| ())
        }
    }
}

#[test]
fn forty_unread_streams_of_our_own_methods_fail_no_call_v0_0() {
    forty_unread_streams_of_our_own_methods(Generation::V0_0);
}

#[test]
fn forty_unread_streams_of_our_own_methods_fail_no_call_v0_1() {
    forty_unread_streams_of_our_own_methods(Generation::V0_1);
}

#[test]
fn bodies_of_unary_calls_that_are_never_read_fail_no_call_of_another_caller() {
    scene(Generation::V0_0, async |scene, other, gateway| {
        gateway.script("ListProviders", Script::Hang, Times::All);
        let mut hung = Vec::new();
        for _ in 0..8 {
            let mut raw = RawClient::connect(scene.sg).await;
            let (response, mut request) = raw.open(raw.request("ListProviders", "alpha"));
            // An unknown field of 60,000 bytes: two such bodies use up the window of a connection.
            let mut message = vec![0xfa, 0x01, 0xe0, 0xd4, 0x03];
            message.resize(5 + 60_000, 7);
            request.send_data(add_length_prefix(&message), true).unwrap();
            hung.push((raw, response));
        }
        wait_until("the gateway has them", || async {
            gateway.calls().get("/openshell.v1.OpenShell/ListProviders").is_some_and(|n| *n >= 8)
        })
        .await;
        assert_eq!(
            scene.count_other_calls(other).await,
            0,
            "calls fail beside bodies that are never read"
        );
        drop(hung);
        gateway.clear_scripts();
        assert_eq!(scene.count_other_calls(other).await, 0, "calls fail after they were cancelled");
    });
}

#[test]
fn unread_responses_of_unary_calls_fail_no_call_of_another_caller() {
    run_on_sqlite(|sg| async move {
        let addr = start_rogue(|_, request, respond| async move {
            let large = request.uri().path().ends_with("/ListProviders");
            let large = large.then(|| add_length_prefix(&vec![0; 2 << 20]));
            send_message(
                respond,
                large.unwrap_or_else(|| encode_framed(&old::SandboxResponse::default())),
            );
        })
        .await;
        sg.register_gateway("alpha", addr).await;
        let other = sg.admin().create_key("other", pb::Role::Operator).await;
        let mut unread = Vec::new();
        for _ in 0..4 {
            let mut raw = RawClient::connect(&sg).await;
            for _ in 0..10 {
                let (response, mut request) = raw.open(raw.request("ListProviders", "alpha"));
                request
                    .send_data(encode_framed(&old::ListProvidersRequest::default()), true)
                    .unwrap();
                let begun = tokio::time::timeout(CALL_TIME, response).await.expect("it begins");
                unread.push(begun.unwrap().into_body());
            }
        }
        for _ in 0..8 {
            let mut client = sg.with_token(&other).openshell_v0_0();
            for _ in 0..4 {
                let call = client.get_sandbox(for_gateway("alpha", get_request("one")));
                let answer = tokio::time::timeout(CALL_TIME, call).await;
                answer.expect("answered in time").unwrap();
            }
        }
        drop(unread);
        sg.finish().await;
    });
}
