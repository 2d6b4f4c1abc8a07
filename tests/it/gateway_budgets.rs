//! Gateways that tell more than is taken of one.

use std::time::Duration;

use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::GatewayStatus::{Degraded, Healthy};
use shoreguard::resources::access_bindings::feed;
use shoreguard::resources::gateways::budgets::{EXCESSES, HELD};
use shoreguard::resources::gateways::worker::PROBES;
use shoreguard::simulator::{Generation, Simulator, SimulatorOptions};
use shoreguard::workers;

use crate::support::dump;
use crate::support::server::TestServer;

/// Enough for probes and for some lists, and for no more.
const BYTES_MAX: u64 = 1_024;
/// Lists that are more than that, by far.
const FLOOD: usize = 1_000;

fn tight(config: &mut Config) {
    config.gateways.bytes_per_minute = BYTES_MAX;
}

async fn gateway(sg: &TestServer, name: &str, generation: Generation) -> Simulator {
    let simulator = Simulator::start(SimulatorOptions::plain(generation)).await.unwrap();
    sg.gateway(name, simulator.addr()).await;
    simulator
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

/// Time passes, for leases too.
async fn pass(sg: &TestServer, time: Duration) {
    sg.app.clock.advance(time);
    sg.app.db.move_clock(time.max(Duration::from_secs(31)));
    feed::refresh(&sg.app).await.unwrap();
}

async fn probes(sg: &TestServer) {
    pass(sg, Duration::from_secs(1)).await;
    workers::once(&sg.app, &PROBES).await.unwrap();
}

/// Lists until the gateway has told too much.
async fn flood(sg: &TestServer, gateway: &str) -> tonic::Status {
    for _ in 0..FLOOD {
        if let Err(status) = list(sg, gateway).await {
            return status;
        }
    }
    panic!("its budget has no end");
}

served! {
    tuned tight;
    async fn t20_a_gateway_that_tells_too_much_is_degraded_and_the_others_do_not_notice(sg: TestServer) {
        let loud = gateway(&sg, "loud", Generation::V0_1).await;
        let quiet = gateway(&sg, "quiet", Generation::V0_0).await;
        let refused: Result<(), _> = Err(flood(&sg, "loud").await);
        assert_refused!(refused, ResourceExhausted, "GATEWAY_OVER_BUDGET");
        assert_eq!(list(&sg, "quiet").await.unwrap(), 0);
        workers::once(&sg.app, &EXCESSES).await.unwrap();
        let shown = get(&sg, "loud").await;
        assert_eq!(shown.status(), Degraded);
        assert_eq!(shown.last_error, format!("it sends more than {BYTES_MAX} bytes a minute"));
        assert_eq!(get(&sg, "quiet").await.status(), Healthy);
        // It goes on, and is probed as well; that is told of once.
        flood(&sg, "loud").await;
        workers::once(&sg.app, &EXCESSES).await.unwrap();
        probes(&sg).await;
        assert_eq!(get(&sg, "loud").await.status(), Degraded);
        assert_eq!((told(&sg, "gateway.over_budget").await, told(&sg, "gateway.status_changed").await), (1, 1));
        let request = pb::GetGatewayHealthRequest { gateway: "loud".into() };
        let health = sg.admin().gateways().get_gateway_health(request).await.unwrap().into_inner();
        let states: Vec<_> = health.states.iter().map(pb::GatewayState::status).collect();
        assert_eq!(states, [Degraded, Healthy]);

        pass(&sg, Duration::from_mins(1)).await;
        assert!(list(&sg, "loud").await.is_ok(), "the minute is over");
        pass(&sg, HELD).await;
        probes(&sg).await;
        let shown = get(&sg, "loud").await;
        assert_eq!((shown.status(), shown.last_error.as_str()), (Healthy, ""));
        assert_eq!(told(&sg, "gateway.status_changed").await, 2);
        loud.stop().await;
        quiet.stop().await;
        sg.finish().await;
    }
}
