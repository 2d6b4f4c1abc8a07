//! Writes of providers under a rule: which sandboxes they reach, and what replaces only credentials.

use super::stored::add_workflow;
use super::*;

server_tests! {
    t10_a_provider_write_is_refused_if_it_reaches_a_governed_sandbox,
    t10_a_new_credential_key_is_refused_and_a_rotation_never_is,
}

fn provider(name: &str) -> Value {
    json!({ "provider": { "metadata": { "name": name }, "type": "github" } })
}

async fn t10_a_provider_write_is_refused_if_it_reaches_a_governed_sandbox(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        scene.govern_box(&sg).await;
        for (method, content, expected) in [
            ("CreateProvider", provider("spare"), ""),
            ("DeleteProvider", json!({ "name": "spare" }), ""),
            ("DeleteProvider", json!({ "name": "github" }), "GOVERNED"),
            // A profile without a workspace is that of every workspace.
            ("DeleteProviderProfile", json!({ "id": "gitlab" }), ""),
            ("DeleteProviderProfile", json!({ "id": "github" }), "GOVERNED"),
        ] {
            let verdict = scene.verdict(method, &content).await;
            assert_eq!(verdict, expected, "{name} {method} {content}");
        }
        let refused = scene.call("DeleteProvider", &json!({ "name": "github" })).await;
        let refused = assert_refused!(refused, FailedPrecondition, "GOVERNED");
        assert!(refused.message().contains("`box`"), "{refused:?}");

        // Another sandbox names the provider, and has no rule.
        let other = json!({ "name": "other", "spec": { "providers": ["github"] } });
        stored::execute(&sg, "DELETE FROM approval_workflows").await;
        scene.call("CreateSandbox", &other).await.unwrap();
        add_workflow(&sg, name, Some("elsewhere"), None).await;
        let write = json!({
            "provider": { "metadata": { "name": "github" }, "config": { "host": "example.com" } }
        });
        assert_eq!(scene.verdict("UpdateProvider", &write).await, "", "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn t10_a_new_credential_key_is_refused_and_a_rotation_never_is(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        scene.pin(None, &sg).await;
        let update = |content: Value| {
            let mut provider = json!({ "metadata": { "name": "github" } });
            provider.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
            json!({ "provider": provider })
        };
        for (content, expected) in [
            (json!({ "credentials": { "token": "new" } }), ""),
            (json!({ "credentials": { "token": "new" }, "type": "github" }), ""),
            (json!({ "credentials": { "token": "new" }, "config": { "host": "github.com" } }), ""),
            (json!({ "credentials": { "token": "" } }), "GOVERNED"),
            (json!({ "credentials": { "token": "new", "more": "new" } }), "GOVERNED"),
            (json!({ "credentials": { "token": "new" }, "type": "gitlab" }), "GOVERNED"),
            (json!({ "config": { "host": "example.com" } }), "GOVERNED"),
            (json!({ "config": { "host": "" } }), "GOVERNED"),
            (json!({ "profile_workspace": "elsewhere" }), "GOVERNED"),
            (
                json!({ "credential_handles": { "token": { "driver": "vault", "handle": "h" } } }),
                "GOVERNED",
            ),
        ] {
            let content = update(content);
            let verdict = scene.verdict("UpdateProvider", &content).await;
            assert_eq!(verdict, expected, "{name} {content}");
        }
        scene.simulator.stop().await;
    }
    sg.finish().await;
}
