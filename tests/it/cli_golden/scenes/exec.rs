//! Commands in a sandbox.

use shoreguard_simulator::Generation;

use super::super::FORMS;
use super::scene::{ADMIN, Scene};
use crate::policies::seeded;
use crate::support::server::TestServer;

/// Exit code of a command that could not be run.
const COULD_NOT_RUN: u8 = 125;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let _simulator = seeded(sg, "edge", Generation::V0_1).await;
    let good = ["sandbox", "exec", "edge/coder", "--", "echo", "ready"];
    let missing = ["sandbox", "exec", "edge/none", "--", "true"];
    scene.outcomes(&good, &missing, [COULD_NOT_RUN; 3]).await;
    let failing =
        ["sandbox", "exec", "edge/coder", "--", "sh", "-c", "echo ready; echo no >&2; exit 3"];
    let reading = ["sandbox", "exec", "-i", "edge/coder", "--", "cat"];
    for form in FORMS {
        scene.act("it fails", 3, form, ADMIN, &failing, "").await;
        scene.act("ok with an input", 0, form, ADMIN, &reading, "typed\n").await;
    }
}
