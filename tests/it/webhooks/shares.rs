//! The limit on the connections of all webhooks, and what receivers that do not respond leave to the others.

use std::collections::HashSet;
use std::process::Stdio;

use shoreguard::config::Config;
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::webhooks::outbound::Outbound;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tokio_util::sync::CancellationToken;

use super::receiver::{Receiver, Reply};
use super::{all_in, allow_loopback, create, created, emit, list_deliveries, request};
use crate::flood_connections::{
    DESCRIPTORS, everything_answers, handled, idle, need_descriptors, register_edge,
};
use crate::support::child::ChildSetup;
use crate::support::server::TestServer;
use crate::support::{DbLocation, eventually, limit};

const SUCCESS: pb::WebhookDeliveryStatus = pb::WebhookDeliveryStatus::Success;
/// Webhooks whose receivers do not respond, in the test with few file descriptors.
const HUNG: usize = 100;
/// Events for each of them: together more messages than the server has descriptors.
const EVENTS: usize = 12;

fn one_connection(config: &mut Config) {
    allow_loopback(config);
    config.webhooks.connections_max = 1;
}

/// One for each of seven webhooks, and one for tests.
fn eight_connections(config: &mut Config) {
    allow_loopback(config);
    config.webhooks.connections_max = 8;
}

server_tests! {
    tuned eight_connections;
    e13_receivers_that_hang_use_only_their_share,
}

server_tests! {
    tuned one_connection;
    a_limit_of_one_connection_is_never_passed,
}

/// Starts a receiver that responds to no request until the token is canceled.
async fn start_hung() -> (Receiver, CancellationToken) {
    let (receiver, token) = (Receiver::start().await, CancellationToken::new());
    let held = token.clone();
    receiver.answer(move |_| Reply::Until(held.clone()));
    (receiver, token)
}

/// A request for a webhook that sends many messages at once to a path of a receiver.
fn wide(receiver: &Receiver, path: usize) -> pb::CreateWebhookRequest {
    let url = format!("http://{}/{path}", receiver.address);
    pb::CreateWebhookRequest { max_in_flight: 64, ..request(&url) }
}

async fn e13_receivers_that_hang_use_only_their_share(sg: TestServer) {
    let ((hung, token), fast) = (start_hung().await, Receiver::start().await);
    let mut ids = Vec::new();
    for path in 0..6 {
        ids.push(created(&sg, wide(&hung, path)).await);
    }
    let webhook_id = created(&sg, wide(&fast, 0)).await;
    emit(&sg.admin(), &["one", "two", "three"]).await;
    hung.wait_for(6).await;
    // All messages arrive at the fast receiver, although the others wait for connections.
    all_in(&sg, webhook_id, 3, SUCCESS).await;
    let test = pb::TestWebhookRequest { webhook_id, ..Default::default() };
    let tested = sg.admin().webhooks().test_webhook(test).await.unwrap().into_inner();
    assert!(tested.delivered, "tests have a share of their own: {tested:?}");
    assert_eq!(hung.received().len(), 6, "one connection each");
    token.cancel();
    for id in ids {
        all_in(&sg, id, 3, SUCCESS).await;
    }
    sg.finish().await;
}

async fn a_limit_of_one_connection_is_never_passed(sg: TestServer) {
    let (receiver, token) = start_hung().await;
    let mut ids = Vec::new();
    for path in 0..5 {
        ids.push(created(&sg, wide(&receiver, path)).await);
    }
    emit(&sg.admin(), &["one", "two"]).await;
    receiver.wait_for(1).await;
    for id in &ids {
        let queued = || async { list_deliveries(&sg, *id).await.len() == 2 };
        eventually("the messages are queued", queued).await;
    }
    let connections = sg.app.part::<Outbound>().connections();
    assert_eq!((receiver.received().len(), connections.open()), (1, 1));
    token.cancel();
    // The kept connection of a webhook is closed when another one has its turn.
    for id in ids {
        let delivered = all_in(&sg, id, 2, SUCCESS).await;
        let is_first = |one: &pb::WebhookDelivery| one.attempt == 1;
        assert!(
            delivered.iter().all(is_first),
            "a wait does not count as an attempt: {delivered:?}"
        );
    }
    assert!(connections.open() <= 1);
    sg.finish().await;
}

/// Floods a server with few file descriptors from both sides: connections of callers, and receivers that do not
/// respond.
async fn with_few_descriptors(engine: Engine) {
    need_descriptors(4_096);
    let Some((place, key)) = DbLocation::with_admin(engine).await else { return };
    let setup = ChildSetup::new(&format!(
        "[database]\nurl = \"{}\"\nreaders = 4\npool_size = 6\n\
         [keys]\nmaster_key = \"{}\"\n\
         [gateways]\nallowed_networks = [\"127.0.0.0/8\"]\nprobe_interval_seconds = 1\n\
         probe_timeout_seconds = 60\nconnections_per_core = 4\n\
         [webhooks]\nallowed_networks = [\"127.0.0.0/8\"]",
        place.url(),
        "5a".repeat(32),
    ));
    let mut command = setup.command_with_descriptors(DESCRIPTORS, &["serve"]);
    command.stdout(Stdio::null()).stderr(std::fs::File::create(setup.log_path()).unwrap());
    let child = setup.serve(command).await;
    let simulator = Simulator::start(SimulatorOptions::new(Generation::V0_1)).await.unwrap();
    register_edge(&child, &key, simulator.addr()).await;
    let ((hung, token), fast) = (start_hung().await, Receiver::start().await);
    let admin = child.caller(Some(&key));
    for path in 0..HUNG {
        create(&admin, wide(&hung, path)).await.unwrap();
    }
    create(&admin, wide(&fast, 0)).await.unwrap();
    let names: Vec<String> = (0..EVENTS).map(|n| format!("n{n}")).collect();
    emit(&admin, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;

    fast.wait_for(EVENTS).await;
    let paths = || hung.received().into_iter().map(|one| one.path).collect::<HashSet<_>>();
    eventually("each webhook has a connection", || async { paths().len() == HUNG }).await;
    let callers = idle(1_000, "127.0.0.1", child.address).await;
    handled(&child, 1_000).await;
    everything_answers(&child, &key, "late").await;
    // An event of this moment: `everything_answers` creates a service principal.
    fast.wait_for(EVENTS + 1).await;
    let failed = child.metric("shoreguard_gateway_probes_total{outcome=\"failed\"}").await;
    assert_eq!(failed, 0, "no probe fails");

    let log = std::fs::read_to_string(setup.log_path()).unwrap();
    let serving = log.lines().find(|line| line.contains("\"serving\"")).unwrap();
    let serving: serde_json::Value = serde_json::from_str(serving).unwrap();
    let most = serving["webhook_connections_max"].as_u64().unwrap();
    let open = child.metric("shoreguard_webhook_connections").await;
    assert!(open >= 1 && open <= most && most < u64::from(DESCRIPTORS) / 3, "{open} {serving}");
    token.cancel();
    drop(callers);
    assert_eq!(child.stop().await.code(), Some(0));
    simulator.stop().await;
    place.remove();
}

mod e13_receivers_that_hang_leave_descriptors_to_callers_and_gateways {
    use super::*;

    #[test]
    fn sqlite() {
        limit::block_on(with_few_descriptors(Engine::Sqlite));
    }

    #[test]
    fn postgres() {
        limit::block_on(with_few_descriptors(Engine::Postgres));
    }
}
