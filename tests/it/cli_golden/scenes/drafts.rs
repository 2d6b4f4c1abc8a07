//! What an agent asks for, under a workflow: edits, the end of reviews, and the removal of what was approved.

use shoreguard_simulator::Generation;

use super::super::FORMS;
use super::approvals::{add_callers, name};
use super::scene::Scene;
use crate::followers::{Edge, of_chunk};
use crate::proposals::govern;
use crate::support::server::TestServer;

/// The rule in place of the proposed one.
const RULE: &str =
    "endpoints: [{host: edited.example, port: 443}]\nbinaries: [{path: /usr/bin/curl}]\n";

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let mut edge = Edge::start(sg, Generation::V0_1).await;
    // Only what follows is pending, so that numbers of approvals do not depend on the order of proposals.
    edge.simulator.clear_proposals("default", "coder").unwrap();
    let approved = edge.propose("approved.example");
    edge.simulator.approve_proposal("default", "coder", &approved).unwrap();
    edge.follow(sg).await;
    let staff = govern(sg, "edge", 2).await;
    add_callers(scene, &staff);
    scene.set("chunk", approved);
    for form in FORMS {
        let wanted = edge.propose(&format!("{}.example", form.0));
        edge.follow(sg).await;
        name(scene, &of_chunk(&staff.ana, &wanted).await.unwrap());
        scene.ok(form, "ana", "approval get {approval}").await;
        scene.ok_with(form, "ben", "approval edit {approval} --rule -", RULE).await;
        scene.ok(form, "ana", "approval clear edge/coder").await;
        scene.ok(form, "dora", "approval undo edge/coder {chunk} --comment unused").await;
    }
}
