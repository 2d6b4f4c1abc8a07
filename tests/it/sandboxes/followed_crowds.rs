//! A gateway with more sandboxes than are listed: it is degraded, and others are followed and listed as before.

use shoreguard::config::Config;
use shoreguard::error::{Error, Reason};
use shoreguard::resources::followers::follow_once;
use shoreguard::resources::followers::memory::Memory;
use shoreguard::resources::gateways::budgets::EXCESSES;
use shoreguard::workers;

use super::followed::{Followed, reported};
use super::*;
use crate::approvals::events;

/// Sandboxes of the crowded gateway in a short run, and in one of minutes.
const CROWD: usize = 120;
const CROWD_SOAK: usize = 10_000;

fn crowd() -> usize {
    if std::env::var_os("SOAK").is_some() { CROWD_SOAK } else { CROWD }
}

/// One sandbox fewer is listed than the crowded gateway has.
fn short_lists(config: &mut Config) {
    config.gateways.sandboxes_max = u32::try_from(crowd()).unwrap() - 1;
}

server_tests_without_jobs! {
    tuned short_lists;
    t20_a_crowded_gateway_of_0_0_is_degraded_without_affecting_others,
    t20_a_crowded_gateway_of_0_1_is_degraded_without_affecting_others,
}

/// Returns status and last error of a gateway, after excesses were reported.
async fn status(sg: &TestServer, gateway: &str) -> (pb::GatewayStatus, String) {
    workers::run_once(&sg.app, &EXCESSES).await.unwrap();
    let request = pb::GetGatewayRequest { gateway: gateway.to_owned() };
    let found = sg.admin().gateways().get_gateway(request).await.unwrap().into_inner();
    let found = found.gateway.unwrap();
    (found.status(), found.last_error)
}

/// Returns the sandboxes of one gateway in the list of the fleet.
async fn fleet_list(sg: &TestServer, gateway: &str) -> Vec<String> {
    let page = async |page_token| {
        let request =
            pb::ListSandboxesRequest { page_size: 1_000, page_token, ..Default::default() };
        let page = sg.admin().sandboxes().list_sandboxes(request).await.unwrap().into_inner();
        (page.sandboxes, page.next_page_token)
    };
    let all = crate::support::all_pages(page).await;
    all.into_iter().filter(|one| one.gateway == gateway).map(|one| one.name).collect()
}

async fn a_crowded_gateway(sg: TestServer, generation: Generation, of_quiet: Generation) {
    let mut quiet = Followed::start(&sg, of_quiet).await;
    quiet.follow(&sg).await;
    let crowded = start_gateway(&sg, "crowded", generation).await;
    crowded.add_crowd(crowd()).unwrap();
    let mut targets = sg.app.fleet.targets.all().into_iter();
    let place = targets.find(|target| &*target.name == "crowded").unwrap().gateway();
    let mut memory = Memory::new(&sg.app.config.gateways);
    let expected = format!("it lists more than {} sandboxes", crowd() - 1);
    for _ in 0..2 {
        let followed = follow_once(&sg.app, place.clone(), &mut memory).await;
        let is_refused =
            matches!(followed, Err(Error::Refused { reason: Reason::LimitReached, .. }));
        assert!(is_refused, "{followed:?}");
        let degraded = (pb::GatewayStatus::Degraded, expected.clone());
        assert_eq!(status(&sg, "crowded").await, degraded);
        assert_eq!(status(&sg, "edge").await, (pb::GatewayStatus::Healthy, String::new()));
        assert_eq!(events(&sg, "gateway.over_budget").await, 1);
    }
    // Single sandboxes of it can be read.
    get_sandbox(&sg.admin(), "crowded", "crowd-00000").await.unwrap();
    // The other gateway is followed and listed as before.
    quiet.create(&sg, "box").await;
    for _ in 0..2 {
        quiet.follow(&sg).await;
    }
    assert_eq!(reported(&sg).await, (1, 0, 0));
    quiet.stop(&sg, "box").await;
    quiet.follow(&sg).await;
    assert_eq!(reported(&sg).await, (1, 0, 1));
    assert_eq!(fleet_list(&sg, "edge").await, ["box"]);
    crowded.stop().await;
    sg.finish().await;
}

async fn t20_a_crowded_gateway_of_0_0_is_degraded_without_affecting_others(sg: TestServer) {
    a_crowded_gateway(sg, Generation::V0_0, Generation::V0_1).await;
}

async fn t20_a_crowded_gateway_of_0_1_is_degraded_without_affecting_others(sg: TestServer) {
    a_crowded_gateway(sg, Generation::V0_1, Generation::V0_0).await;
}
