//! Shutdown of a server: streams end at once, so that their callers resume on another replica, and calls in progress
//! get their response. Deadlines end the same streams.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use shoreguard::db::Engine;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Script, Simulator, SimulatorOptions, Times};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use crate::crash::{start_server, write_config};
use crate::support::server::{Caller, TestServer, reason, run};
use crate::support::{CONDITION_TIME_MAX, DbLocation, limit, pause};

/// Timeout of an expected event. It is shorter than a drain.
const SOON: Duration = CONDITION_TIME_MAX;

/// An open stream and its end: the error status, or `None` if it ended without an error.
type Open = (&'static str, BoxFuture<'static, Option<Status>>);

/// The caller and the resources of the streams.
struct Of<'a> {
    caller: &'a Caller,
    gateway: &'a str,
    sandbox: &'a str,
    sandbox_id: String,
    operation: String,
    deadline: Option<Duration>,
}

impl Of<'_> {
    /// Adds the header that selects the gateway of proxied calls, and the deadline.
    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-shoreguard-gateway", self.gateway.parse().unwrap());
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        request
    }

    /// Opens one stream of each kind that Shoreguard itself serves.
    async fn own(&self) -> Vec<Open> {
        let caller = self.caller;
        let watch = pb::WatchEventsRequest { after_sequence: -1, ..Default::default() };
        let events = caller.events().watch_events(self.request(watch)).await;
        let watch = pb::WatchGatewaysRequest { after_sequence: 0 };
        let gateways = caller.gateways().watch_gateways(self.request(watch)).await;
        let watch = pb::WatchApprovalsRequest { filter: None, cursor: 0 };
        let approvals = caller.approvals().watch_approvals(self.request(watch)).await;
        let watch = pb::WatchOperationRequest { operation: self.operation.clone() };
        let operation = caller.operations().watch_operation(self.request(watch)).await;
        let watch = pb::WatchSandboxRequest {
            gateway: self.gateway.into(),
            sandbox: self.sandbox.into(),
            ..Default::default()
        };
        let sandbox = caller.sandboxes().watch_sandbox(self.request(watch)).await;
        let (exec, input) = kept(pb::ExecSandboxRequest {
            gateway: self.gateway.into(),
            sandbox: self.sandbox.into(),
            command: vec!["cat".into()],
            ..Default::default()
        });
        let command = caller.sandboxes().exec_sandbox(self.request(input)).await;
        vec![
            open("events", events, ()),
            open("gateways", gateways, ()),
            open("approvals", approvals, ()),
            open("operation", operation, ()),
            open("sandbox", sandbox, ()),
            open("command", command, exec),
        ]
    }

    /// Opens the streams of the public services: health and reflection.
    async fn public(&self) -> Vec<Open> {
        let (channel, bearer) = (&self.caller.channel, &self.caller.bearer);
        let mut client = HealthClient::new(channel.clone());
        let watch = HealthCheckRequest { service: String::new() };
        let health = client.watch(self.request(watch)).await;
        let mut client = ServerReflectionClient::with_interceptor(channel.clone(), bearer.clone());
        let list = Some(MessageRequest::ListServices(String::new()));
        let (asks, input) =
            kept(ServerReflectionRequest { message_request: list, ..Default::default() });
        let reflection = client.server_reflection_info(self.request(input)).await;
        vec![open("health", health, ()), open("reflection", reflection, asks)]
    }

    /// Opens streams of a gateway of generation 0.0.
    async fn proxied(&self) -> Vec<Open> {
        let mut client = self.caller.openshell_v0_0();
        let id = self.sandbox_id.clone();
        let watch = old::WatchSandboxRequest { id, follow_status: true, ..Default::default() };
        let watch = client.watch_sandbox(self.request(watch)).await;
        let command = |words: &[&str]| old::ExecSandboxRequest {
            sandbox_id: self.sandbox_id.clone(),
            command: words.iter().map(|&word| word.to_owned()).collect(),
            ..Default::default()
        };
        let sleeping = client.exec_sandbox(self.request(command(&["sleep", "300"]))).await;
        let start = old::exec_sandbox_input::Payload::Start(command(&["cat"]));
        let (types, input) = kept(old::ExecSandboxInput { payload: Some(start) });
        let typing = client.exec_sandbox_interactive(self.request(input)).await;
        vec![
            open("proxied watch", watch, ()),
            open("proxied command", sleeping, ()),
            open("proxied terminal", typing, types),
        ]
    }
}

/// Returns a request stream with its first message, and the sender that keeps it open.
fn kept<M: Send + 'static>(first: M) -> (mpsc::Sender<M>, ReceiverStream<M>) {
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(first).unwrap();
    (sender, ReceiverStream::new(receiver))
}

/// Reads a stream to its end. The call itself may fail if its deadline passes before the stream begins.
fn open<R: Send + 'static>(
    name: &'static str,
    answer: Result<Response<Streaming<R>>, Status>,
    request: impl Send + 'static,
) -> Open {
    let end = async move {
        let _request = request;
        let mut stream = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Some(status),
        };
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    };
    (name, Box::pin(end))
}

/// Reads all streams and checks that each ends with this code and reason.
async fn all_end(streams: Vec<Open>, code: Code, why: &str) {
    let ends = streams.into_iter().map(|(name, end)| async move {
        let status = timeout(SOON, end).await.unwrap_or_else(|_| panic!("{name} has not ended"));
        let status = status.unwrap_or_else(|| panic!("{name} has ended well"));
        assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{name}: {status:?}");
    });
    futures_util::future::join_all(ends).await;
}

/// Starts a gateway of generation 0.0 with a sandbox `box`. Returns the gateway and the ID of the sandbox.
async fn simulated(caller: &Caller) -> (Simulator, String) {
    let gateway = Simulator::start(SimulatorOptions::new(Generation::V0_0)).await.unwrap();
    let register = pb::RegisterGatewayRequest {
        name: "old".into(),
        endpoint: gateway.addr().to_string(),
        scheme: pb::GatewayScheme::Http.into(),
        ..Default::default()
    };
    caller.gateways().register_gateway(register).await.unwrap();
    let spec = Some(old::SandboxSpec::default());
    let create = old::CreateSandboxRequest { name: "box".into(), spec, ..Default::default() };
    let mut create = Request::new(create);
    create.metadata_mut().insert("x-shoreguard-gateway", "old".parse().unwrap());
    let made = caller.openshell_v0_0().create_sandbox(create).await.unwrap().into_inner();
    (gateway, made.sandbox.unwrap().metadata.unwrap().id)
}

/// Makes a gateway delay the next call of a method until the returned token is canceled.
fn delay(gateway: &Simulator, method: &str) -> CancellationToken {
    let token = CancellationToken::new();
    gateway.script(method, Script::Until(token.clone()), Times::Next(1));
    token
}

/// Waits until a method was called more than `before` times.
async fn until_called(gateway: &Simulator, path: &str, before: u64) {
    while gateway.calls().get(path).copied().unwrap_or_default() == before {
        pause().await;
    }
}

/// A proxied call whose response is delayed by its gateway.
struct DelayedCall {
    call: tokio::task::JoinHandle<Result<Response<old::ListSandboxesResponse>, Status>>,
    token: CancellationToken,
}

impl DelayedCall {
    /// Makes the gateway respond. Returns the response.
    async fn finish(self) -> old::ListSandboxesResponse {
        assert!(!self.call.is_finished(), "it is in flight");
        self.token.cancel();
        self.call.await.unwrap().unwrap().into_inner()
    }
}

/// Starts a proxied call whose response is delayed by its gateway. Returns when the gateway has received the call.
async fn in_flight(caller: &Caller, gateway: &Simulator) -> DelayedCall {
    const LIST: &str = "/openshell.v1.OpenShell/ListSandboxes";
    let token = delay(gateway, "ListSandboxes");
    let before = gateway.calls().get(LIST).copied().unwrap_or_default();
    let mut request = Request::new(old::ListSandboxesRequest::default());
    request.metadata_mut().insert("x-shoreguard-gateway", "old".parse().unwrap());
    let mut client = caller.openshell_v0_0();
    let call = tokio::runtime::Handle::current()
        .spawn(async move { client.list_sandboxes(request).await });
    until_called(gateway, LIST, before).await;
    DelayedCall { call, token }
}

sqlite_tests! {
    tuned |config| config.server.drain_seconds = 600;
    a_drain_ends_streams_and_completes_calls_in_flight,
    a_deadline_ends_every_stream_and_its_tasks,
}

async fn a_drain_ends_streams_and_completes_calls_in_flight(sg: TestServer) {
    let admin = sg.admin();
    let (gateway, sandbox_id) = simulated(&admin).await;
    sg.register_unreachable("edge").await;
    let work = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let operation = work.id.clone();
    let of = Of {
        caller: &admin,
        gateway: "old",
        sandbox: "box",
        sandbox_id,
        operation,
        deadline: None,
    };
    let mut streams = of.own().await;
    streams.extend(of.proxied().await);
    streams.extend(of.public().await);
    let wait = pb::WaitOperationRequest { operation: work.id.clone(), timeout: None };
    let waiter = sg.admin();
    let waiting = sg.app.spawn(async move { waiter.operations().wait_operation(wait).await });
    let call = in_flight(&admin, &gateway).await;

    sg.app.stop.cancel();
    let begun = Instant::now();
    all_end(streams, Code::Unavailable, "DRAINING").await;
    assert_refused!(waiting.await.unwrap(), Unavailable, "DRAINING");
    assert_eq!(call.finish().await.sandboxes.len(), 1);
    work.finish(Ok(serde_json::json!({})));
    drop(admin);
    gateway.stop().await;
    sg.finish().await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

async fn a_deadline_ends_every_stream_and_its_tasks(sg: TestServer) {
    let admin = sg.admin();
    let (gateway, sandbox_id) = simulated(&admin).await;
    sg.register_unreachable("edge").await;
    let work = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let (operation, deadline) = (work.id.clone(), Some(Duration::from_secs(2)));
    let of = Of { caller: &admin, gateway: "old", sandbox: "box", sandbox_id, operation, deadline };
    let mut streams = of.own().await;
    streams.extend(of.public().await);
    all_end(streams, Code::DeadlineExceeded, "DEADLINE_EXCEEDED").await;
    // Tasks that feed a stream end with it. If a task does not end, the test fails by its time limit.
    while sg.app.live.count() > 0 {
        pause().await;
    }
    work.finish(Ok(serde_json::json!({})));
    gateway.stop().await;
    sg.finish().await;
}

/// Opens an HTTP/2 connection with the given flow-control window per stream.
async fn by_hand(sg: &TestServer, window: u32) -> h2::client::SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(sg.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (send, connection) = builder.initial_window_size(window).handshake(socket).await.unwrap();
    sg.app.main_runtime().spawn(connection);
    send
}

/// Opens a call as the admin. The test sends its message.
fn head(
    sg: &TestServer,
    connection: &mut h2::client::SendRequest<Bytes>,
    path: &str,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let request = http::Request::post(format!("http://{}{path}", sg.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", sg.admin_key))
        .header("x-shoreguard-gateway", "old");
    connection.send_request(request.body(()).unwrap(), false).unwrap()
}

#[test]
fn unread_and_silent_connections_do_not_delay_a_drain() {
    run(
        Engine::Sqlite,
        |config| config.server.drain_seconds = 600,
        async |sg: TestServer| {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut unread = by_hand(&sg, 0).await;
            let (answer, mut body) =
                head(&sg, &mut unread, "/shoreguard.v1.EventService/WatchEvents");
            body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
            let answer = answer.await.unwrap();
            // Sends only the preface and the SETTINGS of HTTP/2, and never responds to a ping.
            let mut silent = tokio::net::TcpStream::connect(sg.address).await.unwrap();
            silent
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .await
                .unwrap();
            assert!(silent.read(&mut [0; 64]).await.unwrap() > 0, "the server speaks it too");
            let begun = Instant::now();
            sg.finish().await;
            assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
            drop((answer, unread, silent));
        },
    );
}

#[test]
fn a_call_whose_message_arrives_during_a_drain_gets_its_response() {
    run(
        Engine::Sqlite,
        |config| {
            config.server.drain_seconds = 600;
            config.access.stale_after_seconds = 10;
        },
        async |sg: TestServer| {
            let admin = sg.admin();
            let (gateway, _) = simulated(&admin).await;
            let mut connection = by_hand(&sg, 1 << 20).await;
            let path = "/openshell.v1.OpenShell/";
            let (call, mut body) = head(&sg, &mut connection, &format!("{path}GetSandbox"));
            // The request headers have arrived when a call sent after them has its response.
            let (behind, mut empty) = head(&sg, &mut connection, &format!("{path}Health"));
            empty.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
            behind.await.unwrap();
            sg.app.stop.cancel();
            // The access data is read again while a call is in progress.
            sg.app.clock.advance(Duration::from_secs(11));
            while sg.app.snapshot.check_fresh().is_err() {
                pause().await;
            }
            let get = old::GetSandboxRequest { name: "box".into(), ..Default::default() };
            body.send_data(crate::proxy::raw::encode_framed(&get), true).unwrap();
            let answer = timeout(SOON, call).await.unwrap().unwrap().into_body();
            let (message, trailers) = crate::proxy::raw::read(answer).await;
            assert!(!message.is_empty());
            assert_eq!(trailers.unwrap()["grpc-status"], "0");
            drop((connection, admin));
            gateway.stop().await;
            sg.finish().await;
        },
    );
}

/// Sends SIGTERM to a server in a process of its own while streams of each kind are open and a call is in progress.
async fn terminated(engine: Engine) {
    let Some((place, key)) = DbLocation::with_admin(engine).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &place);
    let text = std::fs::read_to_string(&config).unwrap();
    let patient = text.replacen("[server]\n", "[server]\ndrain_seconds = 600\n", 1);
    std::fs::write(&config, patient).unwrap();
    let mut served = start_server(&config, &key);
    let caller = &served.caller;
    let (gateway, sandbox_id) = simulated(caller).await;
    let exec = pb::StartExecSandboxRequest {
        gateway: "old".into(),
        sandbox: "box".into(),
        command: vec!["true".into()],
        ..Default::default()
    };
    let command = delay(&gateway, "ExecSandbox");
    let started = caller.sandboxes().start_exec_sandbox(exec).await.unwrap().into_inner();
    let operation = started.operation.unwrap().id;
    until_called(&gateway, "/openshell.v1.OpenShell/ExecSandbox", 0).await;
    let of = Of { caller, gateway: "old", sandbox: "box", sandbox_id, operation, deadline: None };
    let mut streams = of.own().await;
    streams.extend(of.proxied().await);
    streams.extend(of.public().await);
    let call = in_flight(caller, &gateway).await;

    served.process.signal("TERM");
    let begun = Instant::now();
    all_end(streams, Code::Unavailable, "DRAINING").await;
    call.finish().await;
    command.cancel();
    let status = tokio::task::block_in_place(|| served.process.wait_exit());
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < SOON, "a drain may take ten minutes, this one {:?}", begun.elapsed());
    gateway.stop().await;
    place.remove();
}

mod sigterm_ends_streams_and_completes_calls {
    use super::*;

    #[test]
    fn sqlite() {
        limit::block_on(terminated(Engine::Sqlite));
    }

    #[test]
    fn postgres() {
        limit::block_on(terminated(Engine::Postgres));
    }
}
