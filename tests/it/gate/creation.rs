//! Creations and deletions of sandboxes under a rule, and the removal of a gateway.

use shoreguard::pb::v0_0::openshell::sandbox::v1 as old_sandbox;

use super::stored::{add_workflow, execute};
use super::*;
use crate::support::eventually;

server_tests! {
    t10_a_sandbox_under_a_rule_does_not_get_the_policy_of_its_image,
    own_creations_under_a_rule_bring_no_policy_and_no_providers,
    t01_only_a_rule_of_its_own_keeps_a_sandbox,
    t01_a_gateway_with_a_rule_is_not_removed,
}

/// Puts a policy with a rule into the image `agent`.
fn set_image(scene: &Scene) {
    let rule = old_sandbox::NetworkPolicyRule::default();
    let policy = old_sandbox::SandboxPolicy {
        version: 1,
        network_policies: [("from_the_image".to_owned(), rule)].into(),
        ..Default::default()
    };
    scene.simulator.set_image_policy("agent", policy).unwrap();
}

async fn create_proxied(sg: &TestServer, scene: &Scene, name: &str) {
    let content = json!({ "name": name, "spec": { "template": { "image": "agent" } } });
    scene.call("CreateSandbox", &content).await.unwrap();
    sg.operations_ended().await;
}

async fn is_there(scene: &Scene, name: &str) -> bool {
    let (gateway, sandbox) = (scene.name.to_owned(), name.to_owned());
    let request = pb::GetSandboxRequest { gateway, sandbox, ..Default::default() };
    scene.caller.sandboxes().get_sandbox(request).await.is_ok()
}

fn own_request(scene: &Scene, name: &str) -> pb::CreateSandboxRequest {
    pb::CreateSandboxRequest {
        gateway: scene.name.to_owned(),
        name: name.to_owned(),
        image: "agent".to_owned(),
        ..Default::default()
    }
}

/// Creates a sandbox through Shoreguard's own API, and waits until it is ready.
async fn create(scene: &Scene, request: pb::CreateSandboxRequest) -> Result<(), Status> {
    let begun = scene.caller.sandboxes().create_sandbox(request).await?.into_inner();
    let Some(operation) = begun.operation else { return Ok(()) };
    let wait = pb::WaitOperationRequest {
        operation: operation.id,
        timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    };
    let ended = scene.caller.operations().wait_operation(wait).await.unwrap().into_inner();
    let ended = ended.operation.unwrap();
    assert_eq!(ended.status(), pb::OperationStatus::Succeeded, "{ended:?}");
    Ok(())
}

async fn t10_a_sandbox_under_a_rule_does_not_get_the_policy_of_its_image(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        set_image(&scene);
        create_proxied(&sg, &scene, "free").await;
        create(&scene, own_request(&scene, "free-too")).await.unwrap();
        for sandbox in ["free", "free-too"] {
            assert_eq!(scene.rules(sandbox).await, ["from_the_image"], "{name} {sandbox}");
        }

        add_workflow(&sg, name, Some("default"), None).await;
        create_proxied(&sg, &scene, "proxied").await;
        create(&scene, own_request(&scene, "own")).await.unwrap();
        for sandbox in ["proxied", "own"] {
            assert!(scene.rules(sandbox).await.is_empty(), "{name} {sandbox}");
        }

        // A pin that is held for the next sandbox of the name.
        execute(&sg, "DELETE FROM approval_workflows").await;
        scene.call("DeleteSandbox", &json!({})).await.unwrap();
        // The gateway removes it some time after its answer.
        eventually("the name is free", || async { !is_there(&scene, BOX).await }).await;
        scene.pin(None, &sg).await;
        create_proxied(&sg, &scene, BOX).await;
        assert!(scene.rules(BOX).await.is_empty(), "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn own_creations_under_a_rule_bring_no_policy_and_no_providers(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        let with_policy = pb::CreateSandboxRequest {
            policy: "version: 1\n".to_owned(),
            ..own_request(&scene, "one")
        };
        let with_providers = pb::CreateSandboxRequest {
            providers: vec!["github".to_owned()],
            ..own_request(&scene, "one")
        };
        add_workflow(&sg, name, None, None).await;
        for request in [with_policy, with_providers] {
            let checked = pb::CreateSandboxRequest { validate_only: true, ..request.clone() };
            assert_refused!(create(&scene, checked).await, FailedPrecondition, "GOVERNED");
            let refused =
                assert_refused!(create(&scene, request).await, FailedPrecondition, "GOVERNED");
            assert!(refused.message().contains("create the sandbox without"), "{refused:?}");
            let facts = facts(&refused);
            assert_eq!(facts["rule"], "approval workflow of the gateway");
            assert!(facts["instead"].contains("create the sandbox without"), "{facts:?}");
        }
        let from_template = pb::CreateSandboxRequest {
            template: "web-dev".to_owned(),
            validate_only: true,
            ..own_request(&scene, "one")
        };
        create(&scene, from_template).await.unwrap();
        let path = row(generation, "CreateSandbox").path;
        assert_eq!(scene.simulator.calls()[path], 1, "{name}: only that of the scene");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn delete_own(scene: &Scene, validate_only: bool) -> Result<(), Status> {
    let request = pb::DeleteSandboxRequest {
        gateway: scene.name.to_owned(),
        sandbox: BOX.to_owned(),
        validate_only,
        ..Default::default()
    };
    scene.caller.sandboxes().delete_sandbox(request).await.map(drop)
}

async fn t01_only_a_rule_of_its_own_keeps_a_sandbox(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        scene.govern_box(&sg).await;
        assert_refused!(delete_own(&scene, true).await, FailedPrecondition, "GOVERNED");
        assert_refused!(delete_own(&scene, false).await, FailedPrecondition, "GOVERNED");
        scene.pin(None, &sg).await;
        let refused =
            assert_refused!(delete_own(&scene, false).await, FailedPrecondition, "POLICY_PINNED");
        assert!(refused.message().contains("an incident"), "{refused:?}");
        let proxied = scene.call("DeleteSandbox", &json!({})).await;
        let refused = assert_refused!(proxied, FailedPrecondition, "POLICY_PINNED");
        assert!(refused.message().contains("sp:root"), "{refused:?}");
        let facts = facts(&refused);
        assert_eq!((&*facts["pinned_by"], &*facts["reason"]), ("sp:root", "an incident"));

        execute(&sg, "DELETE FROM approval_workflows").await;
        execute(&sg, "DELETE FROM policy_pins").await;
        add_workflow(&sg, name, None, None).await;
        add_workflow(&sg, name, Some("default"), None).await;
        delete_own(&scene, false).await.expect("a wider rule covers the next sandbox, too");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn t01_a_gateway_with_a_rule_is_not_removed(sg: TestServer) {
    let (name, generation) = GATEWAYS[0];
    let scene = Scene::start(&sg, name, generation).await;
    let unregister = async || {
        let request = pb::UnregisterGatewayRequest {
            gateway: name.to_owned(),
            force: true,
            ..Default::default()
        };
        scene.caller.gateways().unregister_gateway(request).await
    };
    scene.pin(Some(3600), &sg).await;
    let refused = assert_refused!(unregister().await, FailedPrecondition, "GOVERNED");
    assert!(refused.message().contains("`box`"), "{refused:?}");
    sg.app.db.advance_clock(Duration::from_hours(2));
    add_workflow(&sg, name, Some("elsewhere"), None).await;
    assert_refused!(unregister().await, FailedPrecondition, "GOVERNED");
    execute(&sg, "DELETE FROM approval_workflows").await;
    unregister().await.expect("the pin has expired");
    sg.finish().await;
    scene.simulator.stop().await;
}
