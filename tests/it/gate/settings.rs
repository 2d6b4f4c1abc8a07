//! Settings and policies of the whole gateway under a rule, through Shoreguard's own API and through the proxy.

use shoreguard::pb::v1::gateway_setting_value::Kind;

use super::stored::execute;
use super::*;

const MODE: &str = "proposal_approval_mode";

server_tests! {
    t10_no_setting_that_changes_what_policies_allow_passes_a_rule,
    t10_the_approval_mode_of_the_gateway_counts_if_a_sandbox_loses_its_own,
    t10_a_global_policy_is_refused_if_any_sandbox_has_a_rule,
}

/// Changes a setting through Shoreguard's own API, or removes it. Returns the reason of the refusal.
async fn change(scene: &Scene, sandbox: &str, key: &str, kind: Option<Kind>) -> String {
    let (gateway, sandbox, key) = (scene.name.to_owned(), sandbox.to_owned(), key.to_owned());
    let mut gateways = scene.caller.gateways();
    let changed = if let Some(kind) = kind {
        let value = Some(pb::GatewaySettingValue { kind: Some(kind) });
        let request =
            pb::UpdateGatewaySettingRequest { gateway, sandbox, key, value, ..Default::default() };
        gateways.update_gateway_setting(request).await.map(drop)
    } else {
        let request =
            pb::DeleteGatewaySettingRequest { gateway, sandbox, key, ..Default::default() };
        gateways.delete_gateway_setting(request).await.map(drop)
    };
    changed.map_or_else(|status| reason(&status), |()| String::new())
}

async fn t10_no_setting_that_changes_what_policies_allow_passes_a_rule(sg: TestServer) {
    let text = |mode: &str| Some(Kind::Text(mode.to_owned()));
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        scene.govern_box(&sg).await;
        for (sandbox, key, kind, expected) in [
            (BOX, MODE, text("auto"), "APPROVAL_MODE_AUTO"),
            ("", MODE, text("auto"), "APPROVAL_MODE_AUTO"),
            (BOX, MODE, text("manual"), ""),
            ("", MODE, text("manual"), ""),
            ("", MODE, None, "APPROVAL_MODE_AUTO"),
            (BOX, "providers_v2_enabled", Some(Kind::Switch(true)), "GOVERNED"),
            ("", "providers_v2_enabled", None, "GOVERNED"),
            ("", "agent_policy_proposals_enabled", Some(Kind::Switch(true)), "GOVERNED"),
            (BOX, "ocsf_json_enabled", Some(Kind::Switch(true)), ""),
            ("", "ocsf_json_enabled", None, ""),
        ] {
            let what = format!("{name} {sandbox} {key} {kind:?}");
            let refused = change(&scene, sandbox, key, kind).await;
            // A setting of the gateway itself refuses that of a sandbox, which is no refusal of a rule.
            let refused = if refused == "GATEWAY_REFUSED" { String::new() } else { refused };
            assert_eq!(refused, expected, "{what}");
        }
        execute(&sg, "DELETE FROM approval_workflows").await;
        scene.pin(None, &sg).await;
        let auto = || text("auto");
        assert_eq!(change(&scene, BOX, MODE, auto()).await, "POLICY_PINNED", "{name}");
        assert_eq!(change(&scene, "", MODE, auto()).await, "GOVERNED", "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn t10_the_approval_mode_of_the_gateway_counts_if_a_sandbox_loses_its_own(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        let auto = Some(Kind::Text("auto".to_owned()));
        assert_eq!(change(&scene, "", MODE, auto).await, "", "{name}");
        scene.govern_box(&sg).await;
        assert_eq!(change(&scene, BOX, MODE, None).await, "APPROVAL_MODE_AUTO", "{name}");
        let manual = Some(Kind::Text("manual".to_owned()));
        assert_eq!(change(&scene, "", MODE, manual).await, "", "{name}");
        let removed = json!({ "setting_key": MODE, "delete_setting": true });
        assert_eq!(scene.verdict("UpdateConfig", &removed).await, "", "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn t10_a_global_policy_is_refused_if_any_sandbox_has_a_rule(sg: TestServer) {
    let policy = json!({ "global": true, "policy": { "version": 1 } });
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        scene.pin(None, &sg).await;
        let refused = scene.call("UpdateConfig", &policy).await;
        let refused = assert_refused!(refused, FailedPrecondition, "GOVERNED");
        assert!(refused.message().contains("`box`"), "{refused:?}");
        execute(&sg, "DELETE FROM policy_pins").await;
        assert_eq!(scene.verdict("UpdateConfig", &policy).await, "", "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}
