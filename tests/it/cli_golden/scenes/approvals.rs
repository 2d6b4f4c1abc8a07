//! Changes of a policy under review: proposals, votes, and what remains of them.

use serde_json::json;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::Generation;

use super::super::FORMS;
use super::scene::{Form, Scene};
use crate::policies::seeded;
use crate::proposals::{Staff, govern};
use crate::support::server::{Caller, TestServer};

/// Proposes the rule on its standard input.
const PROPOSAL: &str = "policy edit edge/coder --policy-edits - --comment wanted";
/// Votes for what the values of the scene name.
const BALLOT: &str =
    r#"{"approval_id":{approval},"digest":"{digest}","decision":"VOTE_DECISION_APPROVE"}"#;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let _simulator = seeded(sg, "edge", Generation::V0_1).await;
    let staff = govern(sg, "edge", 2).await;
    add_callers(scene, &staff);
    for form in FORMS {
        vote(scene, form, &staff.ana).await;
        scene.ok_with(form, "dora", PROPOSAL, &rule(&format!("{}.example", form.0))).await;
        name_newest(scene, &staff.ana, "coder").await;
        scene.ok(form, "dora", "approval withdraw {approval} --comment later").await;
        scene.ok(form, "ana", "approval history edge/coder").await;
        scene.act("refused", 2, form, "ana", &["approval", "review"], "").await;
    }
}

/// Adds the operators of a governed gateway.
pub(super) fn add_callers(scene: &mut Scene, Staff { ana, ben, dora }: &Staff) {
    for (name, caller) in [("ana", ana), ("ben", ben), ("dora", dora)] {
        scene.add_caller(name, caller.bearer.0.as_deref().unwrap());
    }
}

/// Sets number and digest of the newest approval of a sandbox.
pub(super) async fn name_newest(scene: &mut Scene, caller: &Caller, sandbox: &str) {
    let (gateway, sandbox) = ("edge".to_owned(), sandbox.to_owned());
    let request = pb::GetApprovalHistoryRequest { gateway, sandbox, ..Default::default() };
    let history = caller.approvals().get_approval_history(request).await.unwrap().into_inner();
    name(scene, &history.approvals[0]);
}

/// Sets number and digest of an approval.
pub(super) fn name(scene: &mut Scene, approval: &pb::Approval) {
    scene.set("approval", approval.id.to_string());
    scene.set("digest", approval.digest.clone());
}

/// Returns an edit that adds a rule for a host.
fn rule(host: &str) -> String {
    let yaml =
        format!("endpoints: [{{host: {host}, port: 443}}]\nbinaries: [{{path: /usr/bin/git}}]\n");
    json!({ "add_rule": { "rule_name": "site", "yaml": yaml } }).to_string()
}

/// Proposes a change, which gets votes and is rejected.
async fn vote(scene: &mut Scene, form: Form, ana: &Caller) {
    scene.ok_with(form, "dora", PROPOSAL, &rule(&format!("first.{}.example", form.0))).await;
    name_newest(scene, ana, "coder").await;
    scene.ok(form, "ana", "approval list").await;
    scene.watch(form, "ana", &["approval", "watch"]).await;
    scene.ok(form, "ana", "approval get {approval}").await;
    scene.refused(form, "dora", "approval approve {approval} --digest {digest}").await;
    scene.ok(form, "ana", "approval approve {approval} --digest {digest} --comment fine").await;
    scene.ok(form, "ana", "approval decisions {approval}").await;
    scene.ok(form, "ana", "approval retract {approval}").await;
    let many = format!("approval vote-many edge --ballots {BALLOT}");
    scene.ok(form, "ben", &many).await;
    scene.ok(form, "ana", "approval reject {approval} --digest {digest} --comment no").await;
    scene.refused(form, "ben", "approval approve {approval} --digest {digest}").await;
}
