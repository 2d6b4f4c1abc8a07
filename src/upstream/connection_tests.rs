//! One connection to a simulated gateway.

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::config::{Config, Gateways};
use crate::db::types::GatewayId;
use crate::net::names::Resolver;
use crate::upstream::generation::DetectedGeneration;
use crate::upstream::targets::Target;
use shoreguard_simulator::{self as simulator, Simulator, SimulatorOptions};

const LANES: [Lane; 3] = [Lane::Unary, Lane::Streams, Lane::Exclusive];

async fn simulated() -> (Simulator, Target, Gateways) {
    let options = SimulatorOptions::new(simulator::Generation::V0_0);
    let simulator = Simulator::start(options).await.unwrap();
    let text = "[gateways]\nallowed_networks = ['127.0.0.0/8']";
    let config = Config::from_toml(text).unwrap().gateways;
    let target = Target {
        id: GatewayId(1),
        name: "edge".into(),
        host: simulator.addr().ip().to_string(),
        port: simulator.addr().port(),
        names: Resolver::system(),
        tls: None,
        identity: Identity::None,
        budget: Budget::new(&config, Clock::system()),
        failures: FailureLog::new(Clock::system()),
        generation: DetectedGeneration::Unknown,
        pinned: None,
        connection_version: 1,
    };
    (simulator, target, config)
}

#[test]
fn the_connection_window_covers_the_unread_data_of_all_its_streams() {
    for lane in LANES {
        let streams = u64::try_from(lane.handles_max()).unwrap();
        let unread = streams * u64::from(lane.stream_window());
        assert!(unread <= u64::from(lane.connection_window()), "{lane:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_accepts_only_as_many_streams_as_its_window_covers() {
    let (simulator, target, config) = simulated().await;
    for lane in LANES {
        let purpose = Purpose { lane, connection_permit: None, spare: Weak::new() };
        let connection = Connection::open_for(purpose, &target, &config).await.unwrap();
        let connection = Arc::new(connection);
        let mut held: Vec<_> =
            (0..lane.handles_max()).map(|_| connection.lease().unwrap()).collect();
        assert!(connection.lease().is_none(), "{lane:?}");
        assert!(connection.is_open(), "{lane:?}: it is full and not retired");
        held.pop();
        // A connection with one exclusive call returns to its pool afterwards; without a pool it is closed.
        let second = connection.lease();
        assert_eq!(second.is_some(), lane != Lane::Exclusive, "{lane:?}");
        assert_eq!(connection.is_open(), lane != Lane::Exclusive, "{lane:?}");
    }
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_connection_is_pooled_and_one_with_a_full_window_is_closed() {
    let (simulator, target, config) = simulated().await;
    let spare = Arc::new(SparePool::new(Duration::from_millis(500)));
    let purpose =
        Purpose { lane: Lane::Exclusive, connection_permit: None, spare: Arc::downgrade(&spare) };
    let connection = Connection::open_for(purpose, &target, &config).await.unwrap();
    let (connection, version) = (Arc::new(connection), target.connection_version);
    drop(connection.lease().unwrap());
    let lease = loop {
        if let Some(lease) = spare.take(version) {
            break lease;
        }
        tokio::task::yield_now().await;
    };
    assert!(spare.take(version).is_none(), "one call at a time");
    // The gateway reads nothing of the request, which fills its window.
    simulator.script("ListProviders", simulator::Script::Hang, simulator::Times::All);
    let path = "/openshell.v1.OpenShell/ListProviders";
    let (response, mut request) = lease.start(path, HeaderMap::new(), false).unwrap();
    request.send_data(Bytes::from(vec![0; 60_000]), false).unwrap();
    drop(lease);
    while connection.is_open() {
        assert!(spare.take(version).is_none(), "it is not proven");
        tokio::task::yield_now().await;
    }
    drop((response, request, connection));
    while simulator.connections_open() > 0 {
        tokio::task::yield_now().await;
    }
    simulator.stop().await;
}
