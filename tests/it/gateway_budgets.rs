//! Gateways that send more than their budget.

use std::time::Duration;

use h2::server::SendResponse;
use prost::Message;
use prost::bytes::Bytes;
use shoreguard::config::Config;
use shoreguard::feed;
use shoreguard::pb::v0_0::openshell::datamodel::v1 as datamodel;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::GatewayStatus::{Degraded, Healthy};
use shoreguard::resources::gateways::budgets::{DEGRADED_FOR, EXCESSES};
use shoreguard::resources::gateways::worker::PROBES;
use shoreguard::workers;
use shoreguard_simulator::{Generation, Simulator};

use crate::proxy::for_gateway;
use crate::proxy::raw::{encode_framed, read};
use crate::proxy::rogue::{ReceivedRequest, send_message, start_rogue};
use crate::support::server::{TestServer, reason};
use crate::support::{dump, eventually};

/// Enough for probes and for a few lists.
const BYTES_MAX: u64 = 2_048;
/// Enough for probes and for the start of a watch.
const MESSAGES_MAX: u64 = 50;
/// Number of sandboxes that are read of an endless list.
const LISTED_MAX: u32 = 2_000;
/// Number of lists that far exceeds the budget.
const FLOOD: usize = 1_000;

fn tight(config: &mut Config) {
    config.gateways.bytes_per_minute = BYTES_MAX;
}

async fn gateway(sg: &TestServer, name: &str, generation: Generation) -> Simulator {
    sg.start_gateway(name, generation).await
}

async fn list(sg: &TestServer, gateway: &str) -> Result<usize, tonic::Status> {
    let request = pb::ListSandboxesRequest { gateway: gateway.into(), ..Default::default() };
    let page = sg.admin().sandboxes().list_sandboxes(request).await?.into_inner();
    Ok(page.sandboxes.len())
}

async fn get(sg: &TestServer, gateway: &str) -> pb::Gateway {
    let request = pb::GetGatewayRequest { gateway: gateway.into() };
    sg.admin().gateways().get_gateway(request).await.unwrap().into_inner().gateway.unwrap()
}

async fn told(sg: &TestServer, name: &str) -> usize {
    dump::table(&sg.app.db, "events").await.matches(name).count()
}

/// Advances the clocks, including that of leases.
async fn pass(sg: &TestServer, time: Duration) {
    sg.app.clock.advance(time);
    sg.app.db.advance_clock(time.max(Duration::from_secs(31)));
    feed::refresh(&sg.app).await.unwrap();
}

async fn probes(sg: &TestServer) {
    pass(sg, Duration::from_secs(1)).await;
    sg.run_job(&PROBES).await;
}

/// Returns a thousand sandboxes from any offset: there is no last page.
async fn endless(_: usize, request: ReceivedRequest, respond: SendResponse<Bytes>) {
    let (data, _) = read(request.into_body()).await;
    let from = old::ListSandboxesRequest::decode(&data[5..]).unwrap().offset;
    let sandbox = |n| old::Sandbox {
        metadata: Some(datamodel::ObjectMeta {
            id: format!("id-{n}"),
            name: format!("s{n:09}"),
            workspace: "default".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let sandboxes = (from..from + 1_000).map(sandbox).collect();
    send_message(respond, encode_framed(&old::ListSandboxesResponse { sandboxes }));
}

fn chatty(config: &mut Config) {
    config.gateways.messages_per_minute = MESSAGES_MAX;
}

/// Lists sandboxes until the gateway is over its budget.
async fn flood(sg: &TestServer, gateway: &str) -> tonic::Status {
    for _ in 0..FLOOD {
        if let Err(status) = list(sg, gateway).await {
            return status;
        }
    }
    panic!("its budget has no end");
}

// Without the server's own job, which would find the excesses at the same time.
server_tests_without_jobs! { tuned tight; t20_a_gateway_over_its_byte_budget_is_degraded_without_affecting_others }

async fn t20_a_gateway_over_its_byte_budget_is_degraded_without_affecting_others(sg: TestServer) {
    let loud = gateway(&sg, "loud", Generation::V0_1).await;
    let quiet = gateway(&sg, "quiet", Generation::V0_0).await;
    let refused: Result<(), _> = Err(flood(&sg, "loud").await);
    assert_refused!(refused, ResourceExhausted, "GATEWAY_OVER_BUDGET");
    assert_eq!(list(&sg, "quiet").await.unwrap(), 0);
    let settings = pb::ListGatewaySettingsRequest { gateway: "loud".into(), ..Default::default() };
    let settings = sg.admin().gateways().list_gateway_settings(settings).await;
    assert!(settings.is_ok(), "lists do not use the budget of calls for one object: {settings:?}");
    forward_a_change(&sg, "loud").await;
    workers::run_once(&sg.app, &EXCESSES).await.unwrap();
    let shown = get(&sg, "loud").await;
    assert_eq!(shown.status(), Degraded);
    assert_eq!(shown.last_error, format!("it sends more than {BYTES_MAX} bytes a minute"));
    assert_eq!(get(&sg, "quiet").await.status(), Healthy);
    // The gateway stays over its budget and is probed as well. Each event is emitted only once.
    flood(&sg, "loud").await;
    workers::run_once(&sg.app, &EXCESSES).await.unwrap();
    probes(&sg).await;
    assert_eq!(get(&sg, "loud").await.status(), Degraded);
    assert_eq!(
        (told(&sg, "gateway.over_budget").await, told(&sg, "gateway.status_changed").await),
        (1, 1)
    );
    let request = pb::GetGatewayHealthRequest { gateway: "loud".into() };
    let health = sg.admin().gateways().get_gateway_health(request).await.unwrap().into_inner();
    let states: Vec<_> = health.states.iter().map(pb::GatewayState::status).collect();
    assert_eq!(states, [Degraded, Healthy]);

    pass(&sg, Duration::from_mins(1)).await;
    assert!(list(&sg, "loud").await.is_ok(), "the minute is over");
    // The excess of the minute before may be recorded once more.
    eventually("it is healthy again", || async {
        pass(&sg, DEGRADED_FOR).await;
        probes(&sg).await;
        get(&sg, "loud").await.status() == Healthy
    })
    .await;
    assert_eq!(get(&sg, "loud").await.last_error, "");
    assert_eq!(told(&sg, "gateway.status_changed").await, 2);
    loud.stop().await;
    quiet.stop().await;
    sg.finish().await;
}

/// Also while calls for one object are refused, a change is forwarded if no rule applies.
async fn forward_a_change(sg: &TestServer, gateway: &str) {
    let settings = pb::ListGatewaySettingsRequest { gateway: gateway.into(), ..Default::default() };
    let mut over = None;
    for _ in 0..FLOOD {
        match sg.admin().gateways().list_gateway_settings(settings.clone()).await {
            Ok(_) => {}
            Err(status) => {
                over = Some(status);
                break;
            }
        }
    }
    let over: Result<(), _> = Err(over.expect("its budget has no end"));
    assert_refused!(over, ResourceExhausted, "GATEWAY_OVER_BUDGET");
    let attach = new::AttachSandboxProviderRequest {
        sandbox: "missing".to_owned(),
        provider: "missing".to_owned(),
        ..Default::default()
    };
    let mut client = sg.admin().openshell_v0_1();
    let answer = client.attach_sandbox_provider(for_gateway(gateway, attach)).await;
    assert_eq!(reason(&answer.unwrap_err()), "", "the gateway has answered");
}

server_tests_without_jobs! { tuned chatty; t20_a_gateway_that_sends_too_many_messages_is_degraded }

async fn t20_a_gateway_that_sends_too_many_messages_is_degraded(sg: TestServer) {
    for (name, generation) in [("old", Generation::V0_0), ("new", Generation::V0_1)] {
        let loud = gateway(&sg, name, generation).await;
        loud.seed_demo().unwrap();
        let request = pb::WatchSandboxRequest {
            gateway: name.into(),
            sandbox: "coder".into(),
            logs: true,
            ..Default::default()
        };
        let mut watching =
            sg.admin().sandboxes().watch_sandbox(request).await.unwrap().into_inner();
        watching.message().await.unwrap().expect("it is there");
        for n in 0..=MESSAGES_MAX {
            loud.log("default", "coder", "INFO", &format!("line {n}")).unwrap();
        }
        let over = loop {
            match watching.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends without a word"),
                Err(over) => break over,
            }
        };
        let over: Result<(), _> = Err(over);
        assert_refused!(over, ResourceExhausted, "GATEWAY_OVER_BUDGET");
        workers::run_once(&sg.app, &EXCESSES).await.unwrap();
        let shown = get(&sg, name).await;
        assert_eq!(shown.status(), Degraded);
        assert_eq!(
            shown.last_error,
            format!("it sends more than {MESSAGES_MAX} messages a minute")
        );
        loud.stop().await;
    }
    sg.finish().await;
}

server_tests_without_jobs! { t20_a_gateway_with_an_endless_list_is_degraded }

async fn t20_a_gateway_with_an_endless_list_is_degraded(sg: TestServer) {
    sg.register_gateway("endless", start_rogue(endless).await).await;
    assert_refused!(list(&sg, "endless").await, FailedPrecondition, "LIMIT_REACHED");
    workers::run_once(&sg.app, &EXCESSES).await.unwrap();
    let shown = get(&sg, "endless").await;
    assert_eq!(
        (shown.status(), shown.last_error.as_str()),
        (Degraded, "it lists more than 10000 sandboxes")
    );
    sg.finish().await;
}

// The list reads only the gateways.
sqlite_tests! {
    // Each page reads all of it again.
    tuned |config| config.gateways.sandboxes_max = LISTED_MAX;
    t20_a_gateway_with_an_endless_list_is_named_and_the_other_gateways_are_listed,
}

async fn t20_a_gateway_with_an_endless_list_is_named_and_the_other_gateways_are_listed(
    sg: TestServer,
) {
    sg.register_gateway("endless", start_rogue(endless).await).await;
    let quiet = gateway(&sg, "quiet", Generation::V0_1).await;
    quiet.seed_demo().unwrap();
    let mut request = pb::ListSandboxesRequest { page_size: 1_000, ..Default::default() };
    let (mut listed, mut unreachable) = (Vec::new(), Vec::new());
    loop {
        let page =
            sg.admin().sandboxes().list_sandboxes(request.clone()).await.unwrap().into_inner();
        listed.extend(page.sandboxes.into_iter().map(|sandbox| (sandbox.gateway, sandbox.name)));
        unreachable.extend(page.unreachable);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let of = |gateway: &str| listed.iter().filter(|(of, _)| of == gateway).count();
    assert_eq!((of("endless"), of("quiet")), (LISTED_MAX as usize, 4));
    assert!(listed.is_sorted(), "in order, and none twice");
    assert!(
        unreachable
            .iter()
            .all(|u| u.gateway == "endless" && u.error.contains("more sandboxes than are read"))
    );
    assert!(!unreachable.is_empty());
    quiet.stop().await;
    sg.finish().await;
}
