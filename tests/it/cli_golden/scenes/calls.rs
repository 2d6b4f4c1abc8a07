//! Calls of any method.

use shoreguard_simulator::Generation;

use super::scene::{ADMIN, DENIED, ELSEWHERE, Scene};
use crate::policies::seeded;
use crate::support::server::TestServer;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let _simulator = seeded(sg, "edge", Generation::V0_1).await;
    let call = ["call", "GetGateway", r#"{"gateway":"edge"}"#];
    scene.plain("ok", 0, ADMIN, &call, "").await;
    scene.plain("ok", 0, ADMIN, &["call", "--gateway", "edge", "GetGateway"], "").await;
    scene.plain("ok", 0, ADMIN, &["call", "GetGateway", "-"], call[2]).await;
    let missing = ["call", "GetGateway", r#"{"gateway":"nowhere"}"#];
    scene.plain("not found", 1, ADMIN, &missing, "").await;
    scene.plain("denied", 1, DENIED, &call, "").await;
    scene.plain("server away", 5, ELSEWHERE, &call, "").await;

    // A method of the gateway, of a generation that is not read from the server.
    let proxied =
        ["call", "--gateway", "edge", "--generation", "0.1", "openshell.v1.OpenShell/Health"];
    scene.plain("ok", 0, ADMIN, &proxied, "").await;
    scene.plain("denied", 1, DENIED, &proxied, "").await;

    scene.plain("unknown method", 2, ADMIN, &["call", "GetNothing"], "").await;
    let misspelled = ["call", "GetGateway", r#"{"gatway":"edge"}"#];
    scene.plain("unknown field", 2, ADMIN, &misspelled, "").await;
    scene.plain("no JSON", 2, ADMIN, &["call", "GetGateway", "{"], "").await;
    scene.plain("a list", 0, ADMIN, &["call", "--list", "GetGatewayHealth"], "").await;
}
