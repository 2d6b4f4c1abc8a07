//! A gateway whose token is replaced.

use shoreguard::pb::v1 as pb;

use super::super::FORMS;
use super::scene::{ADMIN, Scene};
use crate::gateway_credentials::{register_request, start_token_gateway};
use crate::support::server::TestServer;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let simulator = start_token_gateway("one").await;
    simulator.require_bearer(&["one", "two"]);
    let credentials =
        pb::GatewayCredentials { bearer_token: "one".to_owned(), ..Default::default() };
    let request = pb::RegisterGatewayRequest {
        credentials: Some(credentials),
        ..register_request(&simulator)
    };
    sg.admin().gateways().register_gateway(request).await.unwrap();
    for (form, token) in FORMS.into_iter().zip(["two", "one"]) {
        let rotate = "gateway rotate-credentials edge --bearer-token -";
        scene.ok_with(form, ADMIN, rotate, token).await;
    }
}
