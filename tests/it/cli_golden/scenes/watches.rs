//! Commands that show what changes until they are interrupted.

use shoreguard::resources::events::worker::SEQUENCER;
use shoreguard_simulator::Generation;

use super::super::FORMS;
use super::scene::{ADMIN, Scene};
use crate::policies::seeded;
use crate::support::server::TestServer;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let _simulator = seeded(sg, "edge", Generation::V0_1).await;
    while sg.run_job(&SEQUENCER).await.done > 0 {}
    for form in FORMS {
        let events = ["event", "watch", "--after", "0", "--name", "gateway.registered"];
        scene.watch(form, ADMIN, &events).await;
        scene.failures(form, &events, &["event", "watch", "nowhere"], [1, 1, 5]).await;
        scene.watch(form, ADMIN, &["gateway", "watch"]).await;
    }
    for form in FORMS {
        scene.watch(form, ADMIN, &["sandbox", "watch", "edge/coder"]).await;
    }
}
