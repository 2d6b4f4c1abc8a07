//! Status and history of gateways, as found by probes, through the API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use shoreguard::db::leases;
use shoreguard::error::{Error, ResourceKind};
use shoreguard::feed;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::GatewayStatus::{Healthy, Unreachable};
use shoreguard::resources::gateways::findings::CHECKS;
use shoreguard::resources::gateways::worker::PROBES;
use shoreguard::workers;
use shoreguard_simulator::{Generation, Script, Simulator, SimulatorOptions, Times};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::support::server::TestServer;
use crate::support::{dump, eventually, pause};

/// Timeout of a probe. Tests advance the clock by it, except where a gateway responds.
const PROBE_TIME: Duration = Duration::from_secs(30);
/// Number of gateways that are probed at the same time, until a slow one has given up its slot.
const SLOTS: u64 = 64;
/// Time after which a slow probe gives up its slot.
const SLOT_TIME: Duration = Duration::from_secs(1);
/// Number of gateways in an outage: more than are probed at the same time.
const OUTAGE: usize = 72;

async fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions::new(Generation::V0_1)).await.unwrap()
}

/// Registers gateways on one address, several at the same time.
async fn register_all(
    sg: &TestServer,
    names: impl Iterator<Item = String>,
    endpoint: SocketAddr,
) -> Vec<pb::Gateway> {
    let register = |name: String| async move { sg.register_gateway(&name, endpoint).await };
    futures_util::stream::iter(names).map(register).buffered(8).collect().await
}

async fn get(sg: &TestServer, gateway: &str) -> pb::Gateway {
    let request = pb::GetGatewayRequest { gateway: gateway.into() };
    sg.admin().gateways().get_gateway(request).await.unwrap().into_inner().gateway.unwrap()
}

async fn health(sg: &TestServer, gateway: &str) -> pb::GetGatewayHealthResponse {
    let request = pb::GetGatewayHealthRequest { gateway: gateway.into() };
    sg.admin().gateways().get_gateway_health(request).await.unwrap().into_inner()
}

/// Advances the clocks, including that of leases.
async fn pass(sg: &TestServer, time: Duration) {
    sg.app.clock.advance(time);
    sg.app.db.advance_clock(time.max(Duration::from_secs(31)));
    feed::refresh(&sg.app).await.unwrap();
}

/// Runs one round of probes, half a minute after the last one.
async fn probes(sg: &TestServer) {
    pass(sg, Duration::from_secs(30)).await;
    sg.run_job(&PROBES).await;
}

async fn told(sg: &TestServer, name: &str) -> usize {
    dump::table(&sg.app.db, "events").await.matches(name).count()
}

/// Returns how often a method was called.
fn asked(simulator: &Simulator, method: &str) -> u64 {
    let calls = simulator.calls();
    calls.iter().filter(|(path, _)| path.ends_with(method)).map(|(_, times)| times).sum()
}

/// Waits until a method was called more than `times` times.
async fn until_asked(simulator: &Simulator, method: &str, times: u64) {
    while asked(simulator, method) == times {
        pause().await;
    }
}

fn away() -> Script {
    Script::Fail {
        code: Code::Unavailable,
        message: "resting".to_owned(),
        details: bytes::Bytes::new(),
    }
}

server_tests_without_jobs! { gateway_states_of_a_day_are_stored_with_response_times }

async fn gateway_states_of_a_day_are_stored_with_response_times(sg: TestServer) {
    let edge = simulator().await;
    sg.register_gateway("edge", edge.addr()).await;
    probes(&sg).await;
    edge.set_version("0.1.6");
    probes(&sg).await;
    edge.script("Health", away(), Times::Next(2));
    probes(&sg).await;
    probes(&sg).await;
    let found = health(&sg, "edge").await;
    assert_eq!(found.status(), Unreachable);
    probes(&sg).await;
    let found = health(&sg, "edge").await;
    assert_eq!((found.probe_count, found.failure_count), (6, 2));
    let states: Vec<_> = found.states.iter().map(|s| (s.status(), s.version.as_str())).collect();
    assert_eq!(
        states,
        [(Healthy, "0.1.6"), (Unreachable, "0.1.6"), (Healthy, "0.1.6"), (Healthy, "0.1.5")]
    );
    assert!(
        found.states[1].error.contains("`edge`") && found.states[0].error.is_empty(),
        "{found:?}"
    );
    let micros = |span: Option<prost_types::Duration>| {
        span.map(|s| s.seconds * 1_000_000 + i64::from(s.nanos / 1_000)).unwrap()
    };
    let (p50, p90, p99) =
        (micros(found.latency_p50), micros(found.latency_p90), micros(found.latency_p99));
    assert!(0 < p50 && p50 <= p90 && p90 <= p99, "{found:?}");
    for (event, times) in [("gateway.down", 1), ("gateway.up", 1), ("gateway.version_changed", 1)] {
        assert_eq!(told(&sg, event).await, times, "{event}");
    }

    pass(&sg, Duration::from_hours(30)).await;
    let later = health(&sg, "edge").await;
    assert_eq!((later.probe_count, later.status()), (0, pb::GatewayStatus::Unknown));
    probes(&sg).await;
    let later = health(&sg, "edge").await;
    assert_eq!((later.probe_count, later.failure_count), (1, 0));
    assert_eq!(later.states.len(), 4, "nothing has changed, so nothing is forgotten yet");
    edge.set_version("0.1.7");
    probes(&sg).await;
    let states = health(&sg, "edge").await.states;
    assert_eq!(states.len(), 2, "the state before it lasted into the day: {states:?}");
    let unknown = pb::GetGatewayHealthRequest { gateway: "none".into() };
    assert_refused!(sg.admin().gateways().get_gateway_health(unknown).await, NotFound, "NOT_FOUND");
    edge.stop().await;
    sg.finish().await;
}

// Only the test probes.
server_tests_without_jobs! {
    tuned |config| config.gateways.probe_interval_seconds = 3600;
    a_gateway_status_is_unknown_if_the_last_probe_is_stale,
}

async fn a_gateway_status_is_unknown_if_the_last_probe_is_stale(sg: TestServer) {
    let edge = simulator().await;
    let registered = sg.register_gateway("edge", edge.addr()).await;
    assert_eq!(registered.status(), Healthy);
    // Without a probe for hours, the status of the gateway is unknown.
    pass(&sg, Duration::from_hours(4)).await;
    let stale = get(&sg, "edge").await;
    assert_eq!(stale.status(), pb::GatewayStatus::Unknown);
    assert_eq!(
        (stale.last_seen_time, stale.probe_time),
        (registered.last_seen_time, registered.probe_time)
    );
    assert!(!stale.last_error.is_empty());
    let list = sg
        .admin()
        .gateways()
        .list_gateways(pb::ListGatewaysRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.gateways[0].status(), pb::GatewayStatus::Unknown);
    probes(&sg).await;
    assert_eq!(get(&sg, "edge").await.status(), Healthy);
    edge.stop().await;
    probes(&sg).await;
    let gone = get(&sg, "edge").await;
    assert_eq!(gone.status(), Unreachable);
    assert!(
        gone.last_seen_time.unwrap().seconds < gone.probe_time.unwrap().seconds,
        "last_seen is when it responded"
    );
    sg.finish().await;
}

server_tests_without_jobs! {
    tuned |config| config.gateways.probe_timeout_seconds = PROBE_TIME.as_secs();
    a_worker_that_lost_its_lease_stores_no_probe_results,
    a_late_probe_result_does_not_override_a_newer_probe_or_endpoint,
    one_silent_gateway_does_not_delay_the_probes_of_others,
}

async fn a_worker_that_lost_its_lease_stores_no_probe_results(sg: TestServer) {
    let edge = simulator().await;
    sg.register_gateway("edge", edge.addr()).await;
    for (worker, method) in [(PROBES, "Health"), (CHECKS, "GetGatewayConfig")] {
        pass(&sg, Duration::from_secs(31)).await;
        let (before, times) = (get(&sg, "edge").await, asked(&edge, method));
        let answered = CancellationToken::new();
        edge.script(method, Script::Until(answered.clone()), Times::Next(1));
        let app = Arc::clone(&sg.app);
        let round = sg.app.spawn(async move { workers::run_once(&app, &worker).await });
        until_asked(&edge, method, times).await;
        // The round is delayed for so long that another replica takes over the lease.
        sg.app.db.advance_clock(Duration::from_secs(31));
        let taken = leases::acquire(&sg.app.db, worker.name, "another", Duration::from_secs(30))
            .await
            .unwrap();
        assert!(taken.is_some(), "{}", worker.name);
        answered.cancel();
        let lost = round.await.unwrap();
        assert!(
            matches!(&lost, Err(Error::Conflict { kind: ResourceKind::Lease, .. })),
            "{}: {lost:?}",
            worker.name
        );
        assert_eq!(get(&sg, "edge").await.probe_time, before.probe_time, "{}", worker.name);
    }
    edge.stop().await;
    sg.finish().await;
}

async fn a_late_probe_result_does_not_override_a_newer_probe_or_endpoint(sg: TestServer) {
    let (old, new) = (simulator().await, simulator().await);
    sg.register_gateway("edge", old.addr()).await;
    let silent = |simulator: &Simulator| {
        simulator.script("Health", Script::Hang, Times::Next(1));
        let mut client = sg.admin().gateways();
        let request = pb::TestGatewayRequest { gateway: "edge".into(), ..Default::default() };
        sg.app.spawn(async move { client.test_gateway(request).await.unwrap().into_inner() })
    };
    // A later probe finishes first.
    let times = asked(&old, "Health");
    let late = silent(&old);
    until_asked(&old, "Health", times).await;
    let request = pb::TestGatewayRequest { gateway: "edge".into(), ..Default::default() };
    assert!(sg.admin().gateways().test_gateway(request).await.unwrap().into_inner().reachable);
    sg.app.clock.advance(PROBE_TIME);
    assert!(!late.await.unwrap().reachable, "the caller gets the result of its own probe");
    assert_eq!(get(&sg, "edge").await.status(), Healthy);
    // The gateway has moved to another address before the probe finishes.
    let times = asked(&old, "Health");
    let late = silent(&old);
    until_asked(&old, "Health", times).await;
    let moved = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["endpoint".into()] }),
        endpoint: new.addr().to_string(),
        ..Default::default()
    };
    sg.admin().gateways().update_gateway(moved).await.unwrap();
    sg.app.clock.advance(PROBE_TIME);
    assert!(!late.await.unwrap().reachable);
    assert_eq!(get(&sg, "edge").await.status(), Healthy);
    old.stop().await;
    new.stop().await;
    sg.finish().await;
}

async fn one_silent_gateway_does_not_delay_the_probes_of_others(sg: TestServer) {
    let (slow, quick) = (simulator().await, simulator().await);
    sg.register_gateway("a-slow", slow.addr()).await;
    sg.register_gateway("quick", quick.addr()).await;
    let before = get(&sg, "quick").await.probe_time;
    slow.script("Health", Script::Hang, Times::All);
    pass(&sg, Duration::from_secs(30)).await;
    let app = Arc::clone(&sg.app);
    let round = sg.app.spawn(async move { workers::run_once(&app, &PROBES).await.unwrap() });
    while get(&sg, "quick").await.probe_time == before {
        assert!(!round.is_finished(), "the round waits for the silent one");
        pause().await;
    }
    assert!(!round.is_finished(), "the silent one is still waited for");
    sg.app.clock.advance(PROBE_TIME);
    round.await.unwrap();
    assert_eq!(get(&sg, "a-slow").await.status(), Unreachable);
    assert_eq!(get(&sg, "quick").await.status(), Healthy);
    slow.stop().await;
    quick.stop().await;
    sg.finish().await;
}

server_tests_without_jobs! {
    tuned |config| {
        config.gateways.probe_timeout_seconds = PROBE_TIME.as_secs();
        config.gateways.probe_interval_seconds = 3600;
    };
    an_outage_of_many_gateways_does_not_delay_the_probes_of_healthy_ones,
}

async fn an_outage_of_many_gateways_does_not_delay_the_probes_of_healthy_ones(sg: TestServer) {
    let (many, well) = (simulator().await, simulator().await);
    sg.register_gateway("many-0", many.addr()).await;
    sg.copy_gateway("many-0", (1..OUTAGE).map(|n| format!("many-{n}"))).await;
    // So many that some are probed late in any order.
    let names = (0..8).map(|n| format!("well-{n}"));
    let healthy = register_all(&sg, names, well.addr()).await;
    let silent_before = asked(&many, "Health");
    many.script("Health", Script::Hang, Times::All);
    pass(&sg, Duration::from_secs(30)).await;
    let app = Arc::clone(&sg.app);
    let round = sg.app.spawn(async move { workers::run_once(&app, &PROBES).await.unwrap() });
    let begun = || asked(&many, "Health") - silent_before;
    // Silent ones use every slot, and the healthy ones after them wait.
    eventually("every slot is used", || async { begun() >= SLOTS }).await;
    sg.app.clock.advance(SLOT_TIME);
    for before in &healthy {
        let is_probed = || async { get(&sg, &before.name).await.probe_time != before.probe_time };
        eventually("a healthy one is probed", is_probed).await;
    }
    let request = pb::ListGatewaysRequest { page_size: 200, ..Default::default() };
    let list = sg.admin().gateways().list_gateways(request).await.unwrap().into_inner().gateways;
    let silent = list.iter().filter(|gateway| gateway.status() == Unreachable).count();
    assert_eq!(
        (list.len(), silent),
        (OUTAGE + healthy.len(), 0),
        "they were asked before the first silent one was given up"
    );
    let all = u64::try_from(OUTAGE).unwrap();
    eventually("every silent one is probed", || async { begun() >= all }).await;
    sg.app.clock.advance(PROBE_TIME);
    assert_eq!(round.await.unwrap().unwrap().done, OUTAGE + healthy.len());
    // Gateways that do not respond are probed last from now on, but are still probed.
    many.clear_scripts();
    probes(&sg).await;
    assert_eq!(get(&sg, "many-0").await.status(), Healthy);
    many.stop().await;
    well.stop().await;
    sg.finish().await;
}
