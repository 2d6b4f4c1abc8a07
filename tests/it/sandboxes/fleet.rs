//! Lists over many gateways: pages, unavailable gateways, and visibility.

use shoreguard_simulator::{Script, Times};

use super::*;

/// Returns the listed sandboxes page by page, and the gateways that were reported as unreachable.
async fn pages(
    caller: &Caller,
    request: &pb::ListSandboxesRequest,
) -> (Vec<Vec<String>>, Vec<String>) {
    let (mut all, mut unreachable, mut request) = (Vec::new(), Vec::new(), request.clone());
    loop {
        let page = caller.sandboxes().list_sandboxes(request.clone()).await.unwrap().into_inner();
        let place = |s: pb::Sandbox| format!("{}/{}/{}", s.gateway, s.workspace, s.name);
        all.push(page.sandboxes.into_iter().map(place).collect());
        for missing in page.unreachable {
            assert!(missing.error.contains(&missing.gateway), "{missing:?}");
            assert!(!missing.error.contains("127.0.0.1"), "{missing:?}");
            unreachable.push(missing.gateway);
        }
        if page.next_page_token.is_empty() {
            return (all, unreachable);
        }
        request.page_token = page.next_page_token;
    }
}

async fn seeded(sg: &TestServer, name: &str, generation: Generation) -> Simulator {
    let simulator = start_gateway(sg, name, generation).await;
    simulator.seed_demo().unwrap();
    simulator
}

/// Returns the sandboxes of a seeded gateway, in order.
fn demo(gateway: &str) -> Vec<String> {
    let places = ["default/broken", "default/builder", "default/coder", "team-a/research"];
    places.map(|place| format!("{gateway}/{place}")).to_vec()
}

fn of_two() -> pb::ListSandboxesRequest {
    pb::ListSandboxesRequest { page_size: 2, ..Default::default() }
}

server_tests! {
    tuned |config| config.sandboxes.list_timeout_seconds = 2;
    pages_of_two_have_no_gaps_and_unreachable_gateways_are_named_once,
    pages_of_three_have_no_gaps_and_unreachable_gateways_are_named_once,
    one_page_can_hold_the_fleet_and_a_gateway_that_responds_again_is_listed,
    a_workspace_of_the_fleet_is_paged_without_the_gateway_that_does_not_respond,
    a_fleet_list_is_limited_by_visibility_and_selectors,
    only_the_gateways_that_a_page_needs_are_called,
}

/// Gateways of which one is down and one does not respond.
struct PartialFleet {
    slow: Simulator,
    others: [Simulator; 4],
    /// All sandboxes that can be listed, in order.
    whole: Vec<String>,
}

impl PartialFleet {
    async fn start(sg: &TestServer) -> Self {
        let old = seeded(sg, "a-old", Generation::V0_0).await;
        sg.register_unreachable("b-down").await;
        let new = seeded(sg, "c-new", Generation::V0_1).await;
        let slow = seeded(sg, "d-slow", Generation::V0_1).await;
        slow.script("ListSandboxes", Script::Hang, Times::All);
        let last = seeded(sg, "e-old", Generation::V0_0).await;
        let empty = start_gateway(sg, "f-empty", Generation::V0_1).await;
        let whole = ["a-old", "c-new", "e-old"].into_iter().flat_map(demo).collect();
        Self { slow, others: [old, new, last, empty], whole }
    }

    async fn stop(self) {
        self.slow.stop().await;
        for simulator in self.others {
            simulator.stop().await;
        }
    }
}

/// Lists the fleet in pages of a size, which waits for the gateway that does not respond, and checks that it is whole.
/// Returns the lengths of the pages.
async fn page_lengths(sg: TestServer, page_size: i32) -> Vec<usize> {
    let fleet = PartialFleet::start(&sg).await;
    let request = pb::ListSandboxesRequest { page_size, ..Default::default() };
    let (listed, unreachable) = pages(&sg.admin(), &request).await;
    assert_eq!(listed.concat(), fleet.whole);
    assert_eq!(unreachable, ["b-down", "d-slow"]);
    fleet.stop().await;
    sg.finish().await;
    listed.iter().map(Vec::len).collect()
}

async fn pages_of_two_have_no_gaps_and_unreachable_gateways_are_named_once(sg: TestServer) {
    assert_eq!(page_lengths(sg, 2).await, [2; 6]);
}

async fn pages_of_three_have_no_gaps_and_unreachable_gateways_are_named_once(sg: TestServer) {
    let lengths = page_lengths(sg, 3).await;
    assert!(lengths.iter().all(|length| *length <= 3), "{lengths:?}");
}

async fn one_page_can_hold_the_fleet_and_a_gateway_that_responds_again_is_listed(sg: TestServer) {
    let fleet = PartialFleet::start(&sg).await;
    let admin = sg.admin();
    let (listed, _) = pages(&admin, &pb::ListSandboxesRequest::default()).await;
    assert_eq!(listed.concat(), fleet.whole);
    assert_eq!(listed.len(), 1, "one page holds all");
    fleet.slow.clear_scripts();
    let (listed, unreachable) = pages(&admin, &of_two()).await;
    assert_eq!((listed.concat().len(), unreachable.len()), (16, 1));
    fleet.stop().await;
    sg.finish().await;
}

async fn a_workspace_of_the_fleet_is_paged_without_the_gateway_that_does_not_respond(
    sg: TestServer,
) {
    let fleet = PartialFleet::start(&sg).await;
    let team = pb::ListSandboxesRequest { workspace: "team-a".into(), ..of_two() };
    let (listed, _) = pages(&sg.admin(), &team).await;
    assert_eq!(
        listed.concat(),
        ["a-old/team-a/research", "c-new/team-a/research", "e-old/team-a/research"]
    );
    fleet.stop().await;
    sg.finish().await;
}

async fn a_fleet_list_is_limited_by_visibility_and_selectors(sg: TestServer) {
    let simulators = [
        seeded(&sg, "a-old", Generation::V0_0).await,
        seeded(&sg, "b-new", Generation::V0_1).await,
    ];
    sg.register_unreachable("c-down").await;
    let admin = sg.admin();
    let key = admin.create_key("ci", pb::Role::None).await;
    admin.bind("ci", "b-new", pb::Role::Viewer).await;
    let ci = sg.with_token(&key);
    let (listed, unreachable) = pages(&ci, &of_two()).await;
    assert_eq!(
        (listed.concat(), unreachable.len()),
        (demo("b-new"), 0),
        "nothing of the others shows"
    );

    let label = pb::UpdateGatewayRequest {
        gateway: "a-old".into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["labels".into()] }),
        labels: labels(&[("env", "prod")]),
        ..Default::default()
    };
    admin.gateways().update_gateway(label).await.unwrap();
    let prod = pb::ListSandboxesRequest { gateway_selector: "env=prod".into(), ..of_two() };
    let (listed, unreachable) = pages(&admin, &prod).await;
    assert_eq!((listed.concat(), unreachable.len()), (demo("a-old"), 0));
    let hidden = pages(&ci, &prod).await;
    assert_eq!(hidden.0.concat().len(), 0);

    for gateway in ["a-old", "b-new"] {
        let describe = pb::UpdateSandboxMetadataRequest {
            gateway: gateway.into(),
            sandbox: "coder".into(),
            labels: labels(&[("team", "ml")]),
            update_mask: Some(prost_types::FieldMask { paths: vec!["labels".into()] }),
            ..Default::default()
        };
        admin.sandboxes().update_sandbox_metadata(describe).await.unwrap();
    }
    let ml = pb::ListSandboxesRequest {
        label_selector: "team=ml".into(),
        page_size: 1,
        ..Default::default()
    };
    let (listed, unreachable) = pages(&admin, &ml).await;
    assert_eq!(listed.concat(), ["a-old/default/coder", "b-new/default/coder"]);
    assert_eq!(unreachable, ["c-down"]);

    // T19: a page token is valid only for its own request and caller.
    let first = admin.sandboxes().list_sandboxes(of_two()).await.unwrap().into_inner();
    let next = pb::ListSandboxesRequest { page_token: first.next_page_token, ..of_two() };
    for other in [
        pb::ListSandboxesRequest { gateway: "a-old".into(), ..next.clone() },
        pb::ListSandboxesRequest { gateway_selector: "env".into(), ..next.clone() },
        pb::ListSandboxesRequest { label_selector: "team".into(), ..next.clone() },
        pb::ListSandboxesRequest { workspace: "team-a".into(), ..next.clone() },
    ] {
        assert_refused!(
            admin.sandboxes().list_sandboxes(other).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    assert_refused!(ci.sandboxes().list_sandboxes(next).await, InvalidArgument, "INVALID_FIELD");
    let both = pb::ListSandboxesRequest {
        gateway: "a-old".into(),
        gateway_selector: "env".into(),
        ..Default::default()
    };
    assert_refused!(admin.sandboxes().list_sandboxes(both).await, InvalidArgument, "INVALID_FIELD");
    let bad = pb::ListSandboxesRequest { gateway_selector: "a in (".into(), ..Default::default() };
    assert_refused!(admin.sandboxes().list_sandboxes(bad).await, InvalidArgument, "INVALID_FIELD");
    let nobody = sg.with_token(&admin.create_key("nobody", pb::Role::None).await);
    assert_refused!(
        nobody.sandboxes().list_sandboxes(of_two()).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    for simulator in simulators {
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn only_the_gateways_that_a_page_needs_are_called(sg: TestServer) {
    let mut simulators = Vec::new();
    for n in 0..8 {
        simulators.push(seeded(&sg, &format!("g{n}"), GATEWAYS[n % 2].1).await);
    }
    let page = sg.admin().sandboxes().list_sandboxes(of_two()).await.unwrap().into_inner();
    assert_eq!(page.sandboxes.len(), 2);
    let asked = |simulator: &&Simulator| {
        simulator.calls().keys().any(|path| path.ends_with("/ListSandboxes"))
    };
    assert!(simulators[4..].iter().filter(asked).count() == 0, "the first ones fill it");
    for simulator in simulators {
        simulator.stop().await;
    }
    sg.finish().await;
}

server_tests! {
    tuned |config| {
        config.gateways.probe_timeout_seconds = 3;
        config.sandboxes.list_timeout_seconds = 60;
    };
    a_fleet_list_waits_briefly_for_a_gateway_that_is_known_to_be_away,
}

async fn a_fleet_list_waits_briefly_for_a_gateway_that_is_known_to_be_away(sg: TestServer) {
    let here = seeded(&sg, "a-here", Generation::V0_1).await;
    // It accepts connections and never answers, also at its registration.
    let silent = Simulator::start(SimulatorOptions::new(Generation::V0_1)).await.unwrap();
    silent.script("Health", Script::Hang, Times::All);
    let passing = async {
        wait_until("it is asked", || async { call_count(&silent, "/Health") > 0 }).await;
        sg.app.clock.advance(Duration::from_secs(3));
    };
    tokio::join!(sg.register_gateway("b-silent", silent.addr()), passing);
    let begun = std::time::Instant::now();
    let (listed, unreachable) = pages(&sg.admin(), &pb::ListSandboxesRequest::default()).await;
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    assert_eq!((listed.concat(), unreachable), (demo("a-here"), vec!["b-silent".to_owned()]));
    // It is asked nevertheless, since it may be back before the next probe.
    silent.clear_scripts();
    wait_until("it is back in the list", || async {
        pages(&sg.admin(), &pb::ListSandboxesRequest::default()).await.1.is_empty()
    })
    .await;
    silent.stop().await;
    here.stop().await;
    sg.finish().await;
}
