//! Commands in a sandbox.

use shoreguard_simulator::Generation;

use super::scene::{ADMIN, DENIED, ELSEWHERE, Scene};
use crate::policies::seeded;
use crate::support::server::TestServer;

/// Exit code of a command that could not be run.
const COULD_NOT_RUN: u8 = 125;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let _simulator = seeded(sg, "edge", Generation::V0_1).await;
    let good = ["sandbox", "exec", "edge/coder", "--", "echo", "ready"];
    let missing = ["sandbox", "exec", "edge/none", "--", "true"];
    scene.plain("ok", 0, ADMIN, &good, "").await;
    scene.plain("not found", COULD_NOT_RUN, ADMIN, &missing, "").await;
    scene.plain("denied", COULD_NOT_RUN, DENIED, &good, "").await;
    scene.plain("server away", COULD_NOT_RUN, ELSEWHERE, &good, "").await;
    let failing =
        ["sandbox", "exec", "edge/coder", "--", "sh", "-c", "echo ready; echo no >&2; exit 3"];
    scene.plain("it fails", 3, ADMIN, &failing, "").await;
    let reading = ["sandbox", "exec", "-i", "edge/coder", "--", "cat"];
    scene.plain("ok with an input", 0, ADMIN, &reading, "typed\n").await;
    let formed = ["sandbox", "exec", "-o", "json", "edge/coder", "--", "true"];
    scene.plain("another form", 2, ADMIN, &formed, "").await;
}
