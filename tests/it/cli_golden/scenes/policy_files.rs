//! Policies as documents: printed, and compared with the policy of a sandbox.

use shoreguard::pb::v1 as pb;
use shoreguard_simulator::Generation;

use super::super::FORMS;
use super::scene::{ADMIN, Scene};
use crate::policies::seeded;
use crate::policy_writes::addition;
use crate::support::server::TestServer;

/// Exit code of a difference, and of a change under review.
pub(super) const DRIFT: u8 = 1;
/// Exit code of every error of these commands.
pub(super) const ERROR: u8 = 2;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let _simulator = seeded(sg, "edge", Generation::V0_1).await;
    write_documents(sg, scene).await;
    let missing = ["policy", "export", "edge/none"];
    scene.outcomes(&["policy", "export", "edge/coder"], &missing, [ERROR; 3]).await;
    let same = ["policy", "diff", "edge/coder", "-f", "{document}"];
    let missing = ["policy", "diff", "edge/none", "-f", "{addition}"];
    scene.outcomes(&same, &missing, [ERROR; 3]).await;
    for form in FORMS {
        let changed = ["policy", "diff", "-f", "{changed}"];
        scene.act("drift", DRIFT, form, ADMIN, &changed, "").await;
        let other = ["policy", "diff", "edge/builder", "-f", "{document}"];
        scene.act("refused", ERROR, form, ADMIN, &other, "").await;
    }
}

/// Writes the policy of `coder` as a document, the same with another host, and a document with one rule.
pub(super) async fn write_documents(sg: &TestServer, scene: &mut Scene) {
    let (gateway, sandbox) = ("edge".to_owned(), "coder".to_owned());
    let request = pb::ExportPolicyRequest { gateway, sandbox, ..Default::default() };
    let exported = sg.admin().policies().export_policy(request).await.unwrap().into_inner().yaml;
    let changed = exported.replace("host: api.github.com", "host: other.example");
    assert_ne!(changed, exported);
    scene.write("document", &exported);
    scene.write("changed", &changed);
    scene.write("addition", &addition("added.example"));
}
