//! Approval workflows: set, explained, and deleted by a review.

use shoreguard::pb::v1::Role;
use shoreguard_simulator::Generation;

use super::super::FORMS;
use super::approvals::name_newest;
use super::scene::{ADMIN, Scene};
use crate::policies::seeded;
use crate::support::server::TestServer;

const RULE: &str = concat!(
    r#"{"groups":[{"name":"owners","required":1,"voters":{"users":["ana@example.com"]}},"#,
    r#"{"name":"reviewers","required":1,"voters":{"role":"ROLE_OPERATOR"}}],"expire_minutes":60}"#,
);

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let _simulator = seeded(sg, "edge", Generation::V0_1).await;
    for name in ["ana", "ben", "dora"] {
        let session = sg.create_user(&format!("{name}@example.com"), Role::Operator).await;
        scene.add_caller(name, &session);
    }
    for (form, sandbox) in FORMS.into_iter().zip(["coder", "builder"]) {
        let on_sandbox = |command: &str| format!("workflow {command} edge/{sandbox}");
        scene.ok(form, ADMIN, &format!("{} --rule {RULE}", on_sandbox("set"))).await;
        scene.ok(form, ADMIN, "workflow list").await;
        scene.ok(form, ADMIN, &on_sandbox("get")).await;
        scene.ok(form, ADMIN, &on_sandbox("explain")).await;
        scene.refused(form, ADMIN, &on_sandbox("delete")).await;
        name_newest(scene, &sg.admin(), sandbox).await;
        scene.ok(form, "ana", "approval get {approval}").await;
        scene.ok(form, "ana", "approval approve {approval} --digest {digest}").await;
        scene.ok(form, "ben", "approval approve {approval} --digest {digest}").await;
        scene.refused(form, ADMIN, &on_sandbox("get")).await;
    }
}
