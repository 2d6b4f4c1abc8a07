//! Operations that have ended, fail, or are canceled, and commands in a sandbox that become one.

use serde_json::json;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::operations::Failure;
use shoreguard_simulator::Generation;

use super::super::FORMS;
use super::scene::{ADMIN, Scene};
use crate::policies::seeded;
use crate::support::server::TestServer;

const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    let _simulator = seeded(sg, "edge", Generation::V0_1).await;
    let spec = sg.operation_spec("edge", "box");
    for (name, result) in
        [("done", Ok(json!({ "phase": "ready" }))), ("failed", Err(Failure::cancelled()))]
    {
        let held = sg.start_held(&spec).await;
        let id = held.id.clone();
        held.finish(result);
        sg.admin().wait_operation(&id).await;
        scene.set(name, id);
    }
    let good = ["operation", "wait", "{done}"];
    scene.outcomes(&good, &["operation", "wait", UNKNOWN], [1, 1, 5]).await;
    for form in FORMS {
        scene.act("it has failed", 1, form, ADMIN, &["operation", "wait", "{failed}"], "").await;
        let held = sg.start_held(&spec).await;
        scene.set("operation", held.id.clone());
        scene.ok(form, ADMIN, "operation cancel {operation}").await;
        sg.admin().wait_operation(&held.id).await;
        scene.refused(form, ADMIN, "operation cancel {operation}").await;
        scene.ok(form, ADMIN, "sandbox run edge/coder -- true").await;
        let token = open_ssh(sg).await;
        scene.ok_with(form, ADMIN, "sandbox revoke-ssh edge/coder --token -", &token).await;
    }
    // The gateway is there until the commands in the sandbox have ended.
    let admin = sg.admin();
    let list = pb::ListOperationsRequest::default();
    let listed = admin.operations().list_operations(list).await.unwrap().into_inner();
    for operation in listed.operations {
        admin.wait_operation(&operation.id).await;
    }
}

/// Opens an SSH session of `coder`. Returns its token.
async fn open_ssh(sg: &TestServer) -> String {
    let request = pb::CreateSshSessionRequest {
        gateway: "edge".to_owned(),
        sandbox: "coder".to_owned(),
        ..Default::default()
    };
    sg.admin().sandboxes().create_ssh_session(request).await.unwrap().into_inner().token
}
