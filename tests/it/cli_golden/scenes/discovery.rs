//! A domain that offers two gateways, of which one can be registered.

use shoreguard::config::Config;

use super::super::FORMS;
use super::scene::{ADMIN, Scene};
use crate::support::dns::{self, address_record, srv_record};
use crate::support::server::TestServer;

pub(super) fn configure(config: &mut Config) {
    let records = [
        srv_record("fleet.test", 0, 0, "edge.fleet.test", 443),
        srv_record("fleet.test", 1, 0, "inside.fleet.test", 443),
        address_record("edge.fleet.test", "127.0.0.2"),
        address_record("inside.fleet.test", "127.0.0.3"),
    ];
    dns::use_dns_server(config, &records);
    config.discovery.domains = vec!["fleet.test".to_owned()];
    "http".clone_into(&mut config.discovery.scheme);
}

pub(super) async fn play(_: &TestServer, scene: &mut Scene) {
    let _dns = dns::take_dns_server();
    for form in FORMS {
        scene.ok(form, ADMIN, "gateway discover").await;
    }
}
