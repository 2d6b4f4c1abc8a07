//! Names of gateways whose DNS records change, with a real DNS server: SSRF by DNS rebinding.

use std::net::{SocketAddr, TcpListener};

use shoreguard::config::Config;
use shoreguard::pb::v0_1::openshell::v1 as openshell;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};

use crate::support::dns::{self, address_record};
use crate::support::server::TestServer;

const HOST: &str = "edge.fleet.test";
const TOKEN: &str = "a-token-that-must-not-leak";

fn asking(config: &mut Config) {
    dns::use_dns_server(config, &[address_record(HOST, "127.0.0.2")]);
}

/// Starts a gateway on the only allowed address.
async fn simulator() -> Simulator {
    let mut options = SimulatorOptions::new(Generation::V0_1);
    options.listen = SocketAddr::from(([127, 0, 0, 2], 0));
    options.require_bearer = Some(TOKEN.to_owned());
    Simulator::start(options).await.unwrap()
}

fn edge(port: u16) -> pb::RegisterGatewayRequest {
    pb::RegisterGatewayRequest {
        name: "edge".into(),
        endpoint: format!("{HOST}:{port}"),
        scheme: pb::GatewayScheme::Http.into(),
        credentials: Some(pb::GatewayCredentials {
            bearer_token: TOKEN.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn tested(sg: &TestServer) -> pb::TestGatewayResponse {
    let test = pb::TestGatewayRequest { gateway: "edge".into(), ..Default::default() };
    sg.admin().gateways().test_gateway(test).await.unwrap().into_inner()
}

const FORBIDDEN: &str = "the address must not be connected to";

sqlite_tests! {
    tuned asking;
    a_host_name_that_moves_to_a_forbidden_address_is_no_longer_used,
    every_address_of_a_host_name_is_checked_at_registration,
    an_unresolvable_host_name_is_checked_again_when_it_resolves,
}

async fn a_host_name_that_moves_to_a_forbidden_address_is_no_longer_used(sg: TestServer) {
    let (mut dns, simulator) = (dns::take_dns_server(), simulator().await);
    let port = simulator.addr().port();
    // The target of the attack: a service on the same port that only this host can reach.
    let inside = TcpListener::bind(("127.0.0.1", port)).unwrap();
    inside.set_nonblocking(true).unwrap();
    let registered = sg.admin().gateways().register_gateway(edge(port)).await.unwrap();
    let gateway = registered.into_inner().gateway.unwrap();
    assert_eq!(gateway.status(), pb::GatewayStatus::Healthy, "{gateway:?}");
    let who = || async {
        sg.admin().openshell_v0_1().get_current_user(openshell::GetCurrentUserRequest {}).await
    };
    who().await.unwrap();

    // Open connections would stay usable. The test is about new ones.
    simulator.stop().await;
    for moved in
        [&["127.0.0.1"][..], &["127.0.0.3"], &["127.0.0.2", "127.0.0.1"], &["127.0.0.2", "::1"]]
    {
        let records: Vec<_> = moved.iter().map(|ip| address_record(HOST, ip)).collect();
        dns.serve(&records);
        let answer = tested(&sg).await;
        assert_eq!((answer.reachable, answer.error.as_str()), (false, FORBIDDEN), "{moved:?}");
        assert_refused!(who().await, Unavailable, "GATEWAY_UNREACHABLE");
    }
    let nobody = inside.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "the server has connected");
    sg.finish().await;
}

async fn every_address_of_a_host_name_is_checked_at_registration(sg: TestServer) {
    let (mut dns, simulator) = (dns::take_dns_server(), simulator().await);
    dns.serve(&[address_record(HOST, "127.0.0.2"), address_record(HOST, "127.0.0.1")]);
    let refused = sg.admin().gateways().register_gateway(edge(simulator.addr().port())).await;
    assert_refused!(refused, InvalidArgument, "ADDRESS_FORBIDDEN");
    assert!(simulator.calls().is_empty(), "{:?}", simulator.calls());

    dns.serve(&[address_record(HOST, "127.0.0.2")]);
    sg.admin().gateways().register_gateway(edge(simulator.addr().port())).await.unwrap();
    assert!(tested(&sg).await.reachable);
    simulator.stop().await;
    sg.finish().await;
}

async fn an_unresolvable_host_name_is_checked_again_when_it_resolves(sg: TestServer) {
    let mut dns = dns::take_dns_server();
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    dns.fail();
    let registered =
        sg.admin().gateways().register_gateway(edge(inside.local_addr().unwrap().port())).await;
    let gateway = registered.unwrap().into_inner().gateway.unwrap();
    assert_eq!(gateway.status(), pb::GatewayStatus::Unreachable);
    dns.serve(&[address_record(HOST, "127.0.0.1")]);
    let answer = tested(&sg).await;
    assert_eq!((answer.reachable, answer.error.as_str()), (false, FORBIDDEN));
    assert!(inside.accept().is_err(), "the server has connected");
    sg.finish().await;
}
