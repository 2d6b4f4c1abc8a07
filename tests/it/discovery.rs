//! Discovery of gateways by DNS, with a real DNS server.

use std::net::SocketAddr;
use std::time::Duration;

use shoreguard::config::Config;
use shoreguard::db::leases;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::DiscoveryOutcome::{AlreadyRegistered, Refused, Registered, Registrable};
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tonic::Status;

use crate::support::dns::{self, address_record, srv_record};
use crate::support::eventually;
use crate::support::server::{Caller, TestServer};

const HOME: &str = "127.0.0.2";

/// Configures the discovery of two domains, without registration.
fn telling(config: &mut Config) {
    dns::use_dns_server(config, &[]);
    config.discovery.domains = vec!["fleet.test".to_owned(), "lab.test".to_owned()];
    "http".clone_into(&mut config.discovery.scheme);
}

/// Configures discovery that registers the gateways it finds.
fn registering(config: &mut Config) {
    telling(config);
    config.discovery.auto_register = true;
}

/// Configures the discovery worker, which runs from the start of the server.
fn by_itself(config: &mut Config) {
    let records =
        [srv_record("lab.test", 0, 0, "edge.lab.test", 443), address_record("edge.lab.test", HOME)];
    dns::use_dns_server(config, &records);
    config.discovery.domains = vec!["lab.test".to_owned()];
    config.discovery.auto_register = true;
    config.discovery.enabled = true;
}

async fn discover(
    caller: &Caller,
    domains: &[&str],
) -> Result<pb::DiscoverGatewaysResponse, Status> {
    let domains = domains.iter().map(|&domain| domain.to_owned()).collect();
    let request = pb::DiscoverGatewaysRequest { domains, ..Default::default() };
    caller.gateways().discover_gateways(request).await.map(tonic::Response::into_inner)
}

async fn status(sg: &TestServer) -> pb::GetGatewayDiscoveryStatusResponse {
    let request = pb::GetGatewayDiscoveryStatusRequest {};
    sg.admin().gateways().get_gateway_discovery_status(request).await.unwrap().into_inner()
}

async fn gateways(sg: &TestServer) -> Vec<pb::Gateway> {
    let request = pb::ListGatewaysRequest::default();
    sg.admin().gateways().list_gateways(request).await.unwrap().into_inner().gateways
}

/// Waits for the first event of this name.
async fn event(sg: &TestServer, name: &str) -> pb::Event {
    let request = pb::WatchEventsRequest { names: vec![name.to_owned()], ..Default::default() };
    let mut events = sg.admin().events().watch_events(request).await.unwrap().into_inner();
    loop {
        if let Some(event) = events.message().await.unwrap().unwrap().event {
            return event;
        }
    }
}

fn shown(found: &pb::DiscoverGatewaysResponse) -> Vec<(&str, &str, pb::DiscoveryOutcome)> {
    found.gateways.iter().map(|g| (g.name.as_str(), g.endpoint.as_str(), g.outcome())).collect()
}

fn counts(run: &pb::GatewayDiscoveryRun) -> [i64; 4] {
    [run.found_count, run.registered_count, run.skipped_count, run.failed_count]
}

server_tests! { discovery_is_disabled_without_configured_domains }

async fn discovery_is_disabled_without_configured_domains(sg: TestServer) {
    assert_refused!(discover(&sg.admin(), &[]).await, FailedPrecondition, "FEATURE_DISABLED");
    assert_refused!(
        discover(&sg.admin(), &["fleet.test"]).await,
        FailedPrecondition,
        "FEATURE_DISABLED"
    );
    let status = status(&sg).await;
    assert!(!status.enabled && !status.auto_register && status.last_run.is_none(), "{status:?}");
    sg.finish().await;
}

server_tests! {
    tuned telling;
    only_a_global_admin_can_run_discovery,
    discovered_gateways_are_classified_and_reported_but_not_registered,
    endpoints_with_the_same_first_label_have_names_of_their_own,
    a_name_of_another_gateway_is_not_offered_again,
}

server_tests! {
    tuned |config| {
        telling(config);
        config.discovery.timeout_seconds = 3;
    };
    an_unreachable_domain_is_reported_as_an_error_instead_of_empty,
}

async fn only_a_global_admin_can_run_discovery(sg: TestServer) {
    let _dns = dns::take_dns_server();
    sg.register_gateway("edge", SocketAddr::from(([127, 0, 0, 2], 9))).await;
    let operator = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
    assert_refused!(discover(&operator, &[]).await, PermissionDenied, "ROLE_TOO_LOW");
    let request = pb::GetGatewayDiscoveryStatusRequest {};
    let refused = operator.gateways().get_gateway_discovery_status(request).await;
    assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
    // T06: an admin of one gateway is not an admin of the fleet.
    let lead = sg.with_token(&sg.admin().create_key("lead", pb::Role::None).await);
    sg.admin().bind("lead", "edge", pb::Role::Admin).await;
    assert_refused!(discover(&lead, &[]).await, PermissionDenied, "ROLE_TOO_LOW");
    // Even a global admin can only use the configured domains.
    let refused = discover(&sg.admin(), &["fleet.test", "evil.test"]).await;
    assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    sg.finish().await;
}

async fn discovered_gateways_are_classified_and_reported_but_not_registered(sg: TestServer) {
    let mut dns = dns::take_dns_server();
    dns.serve(&[
        srv_record("fleet.test", 20, 0, "two.fleet.test", 8443),
        srv_record("fleet.test", 10, 5, "edge.fleet.test", 443),
        srv_record("fleet.test", 10, 9, "inside.fleet.test", 443),
        srv_record("fleet.test", 0, 0, "127.0.0.1", 22),
        srv_record("fleet.test", 0, 0, "", 443),
        srv_record("fleet.test", 30, 0, "later.fleet.test", 443),
        srv_record("lab.test", 0, 0, "edge.lab.test", 443),
        srv_record("lab.test", 1, 0, "edge.fleet.test", 443),
        address_record("edge.fleet.test", HOME),
        address_record("edge.lab.test", HOME),
        address_record("inside.fleet.test", "127.0.0.3"),
        address_record("two.fleet.test", HOME),
        address_record("two.fleet.test", "127.0.0.1"),
    ]);
    let found = discover(&sg.admin(), &[]).await.unwrap();
    let expected = [
        ("127-22", "127.0.0.1:22", Refused),
        ("inside", "inside.fleet.test:443", Refused),
        ("edge-fleet-test", "edge.fleet.test:443", Registrable),
        ("two-8443", "two.fleet.test:8443", Refused),
        ("later", "later.fleet.test:443", Registrable),
        ("edge-lab-test", "edge.lab.test:443", Registrable),
        ("edge-fleet-test", "edge.fleet.test:443", AlreadyRegistered),
    ];
    assert_eq!(shown(&found), expected, "{found:#?}");
    let reasons: Vec<&str> = found.gateways.iter().map(|g| g.reason.as_str()).collect();
    let forbidden = |host| {
        format!(
            "host `{host}` resolves to a forbidden address; an operator can allow it in `allowed_networks`"
        )
    };
    assert_eq!(reasons[0], forbidden("127.0.0.1"));
    assert_eq!(reasons[1], forbidden("inside.fleet.test"));
    assert_eq!(reasons[3], forbidden("two.fleet.test"));
    assert_eq!((reasons[5], reasons[6]), ("", "it was found twice"));
    let run = found.run.unwrap();
    assert_eq!(counts(&run), [7, 0, 4, 3]);
    assert_eq!(run.actor, "sp:root");
    assert_eq!(gateways(&sg).await, []);

    let only = discover(&sg.admin(), &["lab.test"]).await.unwrap();
    assert_eq!(counts(only.run.as_ref().unwrap()), [2, 0, 2, 0], "{only:?}");
    assert_eq!(status(&sg).await.last_run, only.run);
    let told = event(&sg, "gateway.discovered").await;
    assert!(told.payload_json.contains("\"found\":7"), "{told:?}");
    let list =
        pb::ListAuditEntriesRequest { action: "gateway.discover".into(), ..Default::default() };
    let entries =
        sg.admin().audit().list_audit_entries(list).await.unwrap().into_inner().audit_entries;
    assert_eq!(entries.len(), 2, "{entries:?}");
    sg.finish().await;
}

async fn endpoints_with_the_same_first_label_have_names_of_their_own(sg: TestServer) {
    let mut dns = dns::take_dns_server();
    let regions = |weights: [u16; 4]| {
        [
            srv_record("fleet.test", 0, weights[0], "gw.eu.fleet.test", 443),
            srv_record("fleet.test", 0, weights[1], "gw.us.fleet.test", 443),
            srv_record("fleet.test", 0, weights[2], "h.fleet.test", 443),
            srv_record("fleet.test", 0, weights[3], "h.fleet.test", 30051),
            address_record("gw.eu.fleet.test", HOME),
            address_record("gw.us.fleet.test", HOME),
            address_record("h.fleet.test", HOME),
        ]
    };
    // The weights determine the order.
    for weights in [[4, 3, 2, 1], [1, 2, 3, 4]] {
        dns.serve(&regions(weights));
        let found = discover(&sg.admin(), &["fleet.test"]).await.unwrap();
        let mut shown = shown(&found);
        shown.sort_unstable_by_key(|(name, _, _)| *name);
        let expected = [
            ("gw-eu-fleet-test", "gw.eu.fleet.test:443", Registrable),
            ("gw-us-fleet-test", "gw.us.fleet.test:443", Registrable),
            ("h-fleet-test", "h.fleet.test:443", Registrable),
            ("h-fleet-test-30051", "h.fleet.test:30051", Registrable),
        ];
        assert_eq!(shown, expected, "{found:#?}");
    }
    sg.finish().await;
}

async fn a_name_of_another_gateway_is_not_offered_again(sg: TestServer) {
    let mut dns = dns::take_dns_server();
    sg.register_gateway("edge", SocketAddr::from(([127, 0, 0, 2], 9))).await;
    dns.serve(&[
        srv_record("fleet.test", 0, 0, "edge.fleet.test", 443),
        address_record("edge.fleet.test", HOME),
    ]);
    let found = discover(&sg.admin(), &["fleet.test"]).await.unwrap();
    assert_eq!(shown(&found), [("edge-fleet-test", "edge.fleet.test:443", Registrable)]);
    sg.finish().await;
}

async fn an_unreachable_domain_is_reported_as_an_error_instead_of_empty(sg: TestServer) {
    let mut dns = dns::take_dns_server();
    dns.serve(&[srv_record("fleet.test", 0, 0, "", 0)]);
    let run = discover(&sg.admin(), &[]).await.unwrap().run.unwrap();
    assert_eq!(counts(&run), [0; 4]);
    assert!(run.domains.iter().all(|domain| domain.error.is_empty()), "{run:?}");
    dns.stop();
    let run = discover(&sg.admin(), &[]).await.unwrap().run.unwrap();
    assert!(run.domains.iter().all(|domain| !domain.error.is_empty()), "{run:?}");
    assert_eq!(status(&sg).await.last_run, Some(run));
    sg.finish().await;
}

server_tests! { tuned registering; t07_a_discovered_gateway_is_registered_once_without_access_labels }

async fn t07_a_discovered_gateway_is_registered_once_without_access_labels(sg: TestServer) {
    let mut dns = dns::take_dns_server();
    let mut options = SimulatorOptions::new(Generation::V0_1);
    options.listen = SocketAddr::from(([127, 0, 0, 2], 0));
    let simulator = Simulator::start(options).await.unwrap();
    let port = simulator.addr().port();
    dns.serve(&[
        srv_record("fleet.test", 0, 0, "edge.fleet.test", port),
        srv_record("fleet.test", 1, 0, "inside.fleet.test", port),
        address_record("edge.fleet.test", HOME),
        address_record("inside.fleet.test", "127.0.0.1"),
    ]);
    let ttl = Duration::from_mins(1);
    let held = leases::acquire(&sg.app.db, "gateway.discovery-run", "another replica", ttl)
        .await
        .unwrap()
        .unwrap();
    assert_refused!(discover(&sg.admin(), &[]).await, FailedPrecondition, "DISCOVERY_RUNNING");
    leases::release(&sg.app.db, held).await.unwrap();

    let found = discover(&sg.admin(), &["fleet.test"]).await.unwrap();
    let name = format!("edge-{port}");
    let outcomes: Vec<_> = found.gateways.iter().map(pb::DiscoveredGateway::outcome).collect();
    assert_eq!(outcomes, [Registered, Refused], "{found:?}");
    let [gateway] = gateways(&sg).await.try_into().unwrap();
    assert_eq!(
        (gateway.name.as_str(), gateway.status()),
        (name.as_str(), pb::GatewayStatus::Healthy)
    );
    assert_eq!(gateway.auth_mode(), pb::GatewayAuthMode::None);
    let mut labels: Vec<_> = gateway.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    labels.sort();
    assert_eq!(labels, ["domain=fleet.test", "source=discovery"]);
    assert!(gateway.metadata_json.contains("\"discovered_via\":\"dns_srv\""), "{gateway:?}");
    let told = event(&sg, "gateway.registered").await;
    assert_eq!((told.gateway.as_str(), told.actor.as_str()), (name.as_str(), "sp:root"));
    let entries = sg.admin().audit_entries(&name, "gateway.register").await;
    assert_eq!(entries.len(), 1, "{entries:?}");

    let again = discover(&sg.admin(), &[]).await.unwrap();
    let outcomes: Vec<_> = again.gateways.iter().map(pb::DiscoveredGateway::outcome).collect();
    assert_eq!(outcomes, [AlreadyRegistered, Refused], "{again:?}");
    assert_eq!(gateways(&sg).await.len(), 1);
    let refused = sg.admin().audit_entries(&format!("inside-{port}"), "gateway.register").await;
    assert_eq!(refused, [], "a repeated refusal adds no audit entry");
    assert_eq!(counts(again.run.as_ref().unwrap()), [2, 0, 1, 1]);
    simulator.stop().await;
    sg.finish().await;
}

server_tests! { tuned by_itself; a_gateway_that_the_worker_registers_is_reported_as_event_and_audited }

async fn a_gateway_that_the_worker_registers_is_reported_as_event_and_audited(sg: TestServer) {
    let _dns = dns::take_dns_server();
    let told = event(&sg, "gateway.discovered").await;
    assert_eq!(told.actor, "system:gateway.discovery");
    let [gateway] = gateways(&sg).await.try_into().unwrap();
    assert_eq!((gateway.name.as_str(), gateway.scheme()), ("edge", pb::GatewayScheme::Https));
    let told = event(&sg, "gateway.registered").await;
    assert_eq!((told.gateway.as_str(), told.actor.as_str()), ("edge", "system:gateway.discovery"));
    // The entry and the result of the run are stored after the gateway and its event.
    let entries = async || sg.admin().audit_entries("edge", "gateway.register").await;
    eventually("it is audited", || async { !entries().await.is_empty() }).await;
    let [entry] = entries().await.try_into().unwrap();
    assert_eq!(entry.actor, "system:gateway.discovery");
    eventually("the run has ended", || async { status(&sg).await.last_run.is_some() }).await;
    let run = status(&sg).await.last_run.unwrap();
    assert_eq!(counts(&run), [1, 1, 0, 0]);
    assert_eq!(run.actor, "system:gateway.discovery");
    sg.finish().await;
}
