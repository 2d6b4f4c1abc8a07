//! Documents that become the policy of a sandbox, at once and by a review.

use shoreguard_simulator::Generation;

use super::super::FORMS;
use super::approvals::add_callers;
use super::policy_files::{DRIFT, ERROR, write_documents};
use super::scene::{ADMIN, Scene};
use crate::policies::seeded;
use crate::policy_writes::addition;
use crate::proposals::govern;
use crate::support::server::TestServer;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let _simulator = seeded(sg, "edge", Generation::V0_1).await;
    write_documents(sg, scene).await;
    let same = ["policy", "apply", "-f", "{document}"];
    let missing = ["policy", "apply", "edge/none", "--merge", "-f", "{addition}"];
    scene.outcomes(&same, &missing, [ERROR; 3]).await;
    for form in FORMS {
        let try_out = ["policy", "apply", "-f", "{changed}", "--dry-run"];
        scene.act("drift", DRIFT, form, ADMIN, &try_out, "").await;
    }
    for form in FORMS {
        let merge = ["policy", "apply", "edge/coder", "--merge", "--wait", "-f", "-"];
        let rule = addition(&format!("{}.example", form.0));
        scene.act("ok", 0, form, ADMIN, &merge, &rule).await;
    }
    add_callers(scene, &govern(sg, "edge", 1).await);
    for form in FORMS {
        let propose = ["policy", "apply", "edge/coder", "--merge", "-f", "{addition}"];
        scene.act("under review", DRIFT, form, "dora", &propose, "").await;
    }
}
