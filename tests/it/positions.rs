//! Start of a watch: its position is fixed before the call has its response, so that no later change is missed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use shoreguard::app::App;
use shoreguard::db::Conn;
use shoreguard::outbox::{self, NewEvent, event_types};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::events::worker::SEQUENCER;
use shoreguard::workers;
use shoreguard_simulator::{Generation, Script, Simulator, SimulatorOptions, Times};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use crate::approvals::{people, proposal, propose};
use crate::support::CONDITION_TIME_MAX;
use crate::support::server::TestServer;

/// Longer than a call that waits for nothing, and far shorter than the timeout of a wait for a connection.
const UNANSWERED: Duration = Duration::from_millis(200);
/// Timeout of an expected message.
const SOON: Duration = CONDITION_TIME_MAX;

/// Takes every connection for reading, so that no position can be read.
async fn hold_readers(app: &App) -> Vec<Conn> {
    let mut held = Vec::new();
    for _ in 0..app.config.database.readers {
        held.push(app.db.read().await.unwrap());
    }
    held
}

/// Checks that a watch has no response while `blocked` is held, and has one after it was dropped.
async fn answered_after<T, R: Send + 'static>(
    sg: &TestServer,
    blocked: T,
    call: impl Future<Output = Result<Response<Streaming<R>>, Status>> + Send + 'static,
) -> Streaming<R> {
    let mut call = sg.app.spawn(call);
    let early = timeout(UNANSWERED, &mut call).await;
    assert!(early.is_err(), "it was answered before its position was known");
    drop(blocked);
    timeout(SOON, call).await.expect("an answer").unwrap().unwrap().into_inner()
}

async fn next<R>(stream: &mut Streaming<R>) -> R {
    timeout(SOON, stream.message())
        .await
        .expect("a message")
        .unwrap()
        .expect("the stream continues")
}

/// Commits an event. If a sequencer runs, it assigns the sequence number.
async fn write(app: &App, what: &str) {
    let event = NewEvent {
        event_type: event_types::SANDBOX_STARTED,
        gateway: None,
        actor: "tester".into(),
        payload: json!({ "what": what }),
        at: app.clock.now(),
    };
    app.db.transaction(async |conn| outbox::enqueue(conn, event).await).await.unwrap();
    app.feed.notify_committed();
}

fn from_now() -> pb::WatchEventsRequest {
    let names = vec!["sandbox.started".to_owned()];
    pb::WatchEventsRequest { after_sequence: -1, names, ..Default::default() }
}

async fn number(app: &Arc<App>) {
    workers::run_once(app, &SEQUENCER).await.unwrap();
}

server_tests_without_jobs! {
    watch_events_responds_after_its_start_position_is_known,
    watch_gateways_responds_after_its_start_position_is_known,
    watch_approvals_responds_after_its_start_position_is_known,
    watch_operation_starts_with_the_state_before_the_response,
    an_error_before_the_first_message_is_the_status_of_the_call,
}

async fn watch_events_responds_after_its_start_position_is_known(sg: TestServer) {
    // Events without a sequence number come after the position.
    number(&sg.app).await;
    let held = hold_readers(&sg.app).await;
    let admin = sg.admin();
    let call = async move { admin.events().watch_events(from_now()).await };
    let mut stream = answered_after(&sg, held, call).await;
    write(&sg.app, "after").await;
    number(&sg.app).await;
    let event = next(&mut stream).await.event.unwrap();
    assert_eq!(event.payload_json, r#"{"what":"after"}"#);
    drop(stream);
    sg.finish().await;
}

async fn watch_gateways_responds_after_its_start_position_is_known(sg: TestServer) {
    sg.register_unreachable("edge").await;
    number(&sg.app).await;
    let held = hold_readers(&sg.app).await;
    let admin = sg.admin();
    let request = pb::WatchGatewaysRequest { after_sequence: 0 };
    let call = async move { admin.gateways().watch_gateways(request).await };
    let mut stream = answered_after(&sg, held, call).await;
    let position = loop {
        let message = next(&mut stream).await;
        if message.change.is_none() {
            break message.sequence;
        }
    };
    sg.register_unreachable("core").await;
    number(&sg.app).await;
    let told = loop {
        let message = next(&mut stream).await;
        match message.change {
            Some(change) => break change,
            None => assert!(message.sequence >= position),
        }
    };
    let core = matches!(told, pb::watch_gateways_response::Change::Gateway(g) if g.name == "core");
    assert!(core, "expected the gateway that was registered after the response");
    drop(stream);
    sg.finish().await;
}

async fn watch_approvals_responds_after_its_start_position_is_known(sg: TestServer) {
    let of = people(&sg).await;
    number(&sg.app).await;
    let held = hold_readers(&sg.app).await;
    let admin = sg.admin();
    let request = pb::WatchApprovalsRequest { filter: None, cursor: 0 };
    let call = async move { admin.approvals().watch_approvals(request).await };
    let mut stream = answered_after(&sg, held, call).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    number(&sg.app).await;
    while next(&mut stream).await.approval.is_none_or(|found| found.id != id) {}
    drop(stream);
    sg.finish().await;
}

async fn watch_operation_starts_with_the_state_before_the_response(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let work = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let id = work.id.clone();
    let held = hold_readers(&sg.app).await;
    let admin = sg.admin();
    let request = pb::WatchOperationRequest { operation: id.clone() };
    let call = async move { admin.operations().watch_operation(request).await };
    let mut stream = answered_after(&sg, held, call).await;
    work.finish(Ok(json!({})));
    sg.admin().wait_operation(&id).await;
    let mut seen = Vec::new();
    while let Some(message) = timeout(SOON, stream.message()).await.unwrap().unwrap() {
        seen.push(message.operation.unwrap().status());
    }
    assert_eq!(seen, [pb::OperationStatus::Running, pb::OperationStatus::Succeeded]);
    sg.finish().await;
}

async fn an_error_before_the_first_message_is_the_status_of_the_call(sg: TestServer) {
    let admin = sg.admin();
    let bad = pb::WatchEventsRequest { after_sequence: -2, ..Default::default() };
    assert_refused!(admin.events().watch_events(bad).await, InvalidArgument, "INVALID_FIELD");
    let future = pb::WatchGatewaysRequest { after_sequence: 1 << 40 };
    let refused = admin.gateways().watch_gateways(future).await;
    assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    let nothing = pb::WatchOperationRequest { operation: sg.app.new_id().to_string() };
    let refused = admin.operations().watch_operation(nothing).await;
    assert_refused!(refused, NotFound, "NOT_FOUND");
    let nothing = pb::DownloadSbomRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        ..Default::default()
    };
    sg.register_unreachable("edge").await;
    let refused = admin.sboms().download_sbom(nothing).await;
    assert_refused!(refused, NotFound, "NOT_FOUND");
    sg.finish().await;
}

server_tests! {
    watch_sandbox_responds_after_its_gateway_has_responded,
    no_event_after_the_response_of_watch_events_is_missed,
}

async fn watch_sandbox_responds_after_its_gateway_has_responded(sg: TestServer) {
    for (name, generation) in [("old", Generation::V0_0), ("new", Generation::V0_1)] {
        let gateway = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
        gateway.seed_demo().unwrap();
        sg.register_gateway(name, gateway.addr()).await;
        let request = |sandbox: &str| pb::WatchSandboxRequest {
            gateway: name.into(),
            sandbox: sandbox.into(),
            ..Default::default()
        };
        let answered = CancellationToken::new();
        gateway.script("WatchSandbox", Script::Until(answered.clone()), Times::Next(1));
        let (admin, asked) = (sg.admin(), request("coder"));
        let call = async move { admin.sandboxes().watch_sandbox(asked).await };
        let mut stream = answered_after(&sg, answered.drop_guard(), call).await;
        let seen = next(&mut stream).await.seen.unwrap();
        assert!(matches!(seen, pb::watch_sandbox_response::Seen::Sandbox(_)), "{seen:?}");
        drop(stream);
        let refused = sg.admin().sandboxes().watch_sandbox(request("nothing")).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::NotFound);
        gateway.stop().await;
    }
    sg.finish().await;
}

async fn no_event_after_the_response_of_watch_events_is_missed(sg: TestServer) {
    for n in 0..20 {
        let what = n.to_string();
        let expected = json!({ "what": what }).to_string();
        let mut stream = sg.admin().events().watch_events(from_now()).await.unwrap().into_inner();
        write(&sg.app, &what).await;
        loop {
            let Some(event) = next(&mut stream).await.event else { continue };
            // An event that was written before the response may have got its sequence number after it.
            if event.payload_json == expected {
                break;
            }
        }
    }
    sg.finish().await;
}
