//! Every row of both method tables, without a rule, with a pin, with a workflow, and with both. A row that can change a
//! policy needs its own expectations here, so that a new method fails until they are decided.

use std::collections::BTreeSet;

use shoreguard_simulator::Proposal;

use super::*;

/// Time in which an accepted stream may still fail.
pub(super) const STREAM_TIME: Duration = Duration::from_millis(20);

/// Reasons with which the gate refuses.
pub(super) const REFUSALS: [&str; 5] =
    ["POLICY_PINNED", "GOVERNED", "APPROVAL_MODE_AUTO", "APPROVAL_REQUIRED", "MESSAGE_AMBIGUOUS"];

/// The call reaches the gateway.
const PASSES: &str = "";
const PINNED: &str = "POLICY_PINNED";
const GOVERNED: &str = "GOVERNED";
const AUTO: &str = "APPROVAL_MODE_AUTO";

/// What a call is answered with a pin, a workflow, and both.
pub(super) type Expected = [&'static str; 3];

const ALWAYS: Expected = [PASSES; 3];
const LOCKED: Expected = [PINNED, GOVERNED, PINNED];
const REVIEWED: Expected = [PINNED, "APPROVAL_REQUIRED", PINNED];
const WIDE: Expected = [GOVERNED; 3];
/// What the gateway would refuse is refused with its words.
const WORDS: Expected = [PINNED, "GATEWAY_REFUSED", PINNED];
const UNKNOWN: Expected = [PINNED, "NOT_FOUND", PINNED];

/// Which chunk a call is about.
pub(super) const PENDING: &str = "the pending chunk";
pub(super) const APPROVED: &str = "the approved chunk";

/// A network rule.
fn rule() -> Value {
    json!({
        "name": "more",
        "endpoints": [{ "host": "more.example.com", "port": 443 }],
        "binaries": [{ "path": "/usr/bin/curl" }],
    })
}

/// A policy that differs from that of `box` in its network rules only.
fn policy() -> Value {
    json!({
        "version": 1,
        "filesystem": {
            "include_workdir": true,
            "read_only": ["/usr", "/lib", "/etc", "/proc"],
            "read_write": ["/sandbox", "/tmp"],
        },
        "landlock": { "compatibility": "best_effort" },
        "process": { "run_as_user": "sandbox", "run_as_group": "sandbox" },
        "network_policies": { "web": rule() },
    })
}

/// A call that can change a policy: its method, its content, and what it is answered.
pub(super) fn cases() -> Vec<(&'static str, Value, Expected)> {
    let mode = |mode: &str| json!({ "string_value": mode });
    let on = || json!({ "bool_value": true });
    let (key, v2, ocsf) = ("proposal_approval_mode", "providers_v2_enabled", "ocsf_json_enabled");
    let github = |content: Value| {
        let mut provider = json!({ "metadata": { "name": "github" } });
        provider.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
        json!({ "provider": provider })
    };
    let credential = |key: &str| json!({ "provider": "github", "credential_key": key });
    let profile = |id: &str| json!({ "profiles": [{ "profile": { "id": id } }] });
    vec![
        ("AttachSandboxProvider", json!({}), LOCKED),
        ("UpdateConfig", json!({ "policy": policy() }), REVIEWED),
        (
            "UpdateConfig",
            json!({ "merge_operations": [{ "add_rule": { "rule_name": "more", "rule": rule() } }] }),
            REVIEWED,
        ),
        // Without an effect.
        (
            "UpdateConfig",
            json!({ "merge_operations": [{ "remove_rule": { "rule_name": "none" } }] }),
            [PINNED, PASSES, PINNED],
        ),
        ("UpdateConfig", json!({ "global": true, "policy": { "version": 1 } }), WIDE),
        (
            "UpdateConfig",
            json!({ "global": true, "setting_key": "policy", "delete_setting": true }),
            WIDE,
        ),
        (
            "UpdateConfig",
            json!({ "setting_key": key, "setting_value": mode("auto") }),
            [PINNED, AUTO, PINNED],
        ),
        ("UpdateConfig", json!({ "setting_key": key, "setting_value": mode("manual") }), ALWAYS),
        ("UpdateConfig", json!({ "setting_key": key, "delete_setting": true }), ALWAYS),
        (
            "UpdateConfig",
            json!({ "global": true, "setting_key": key, "setting_value": mode("auto") }),
            [GOVERNED, AUTO, GOVERNED],
        ),
        (
            "UpdateConfig",
            json!({ "global": true, "setting_key": key, "delete_setting": true }),
            [GOVERNED, AUTO, GOVERNED],
        ),
        (
            "UpdateConfig",
            json!({ "global": true, "setting_key": key, "setting_value": mode("manual") }),
            ALWAYS,
        ),
        ("UpdateConfig", json!({ "setting_key": v2, "setting_value": on() }), LOCKED),
        ("UpdateConfig", json!({ "global": true, "setting_key": v2, "setting_value": on() }), WIDE),
        ("UpdateConfig", json!({ "setting_key": ocsf, "setting_value": on() }), ALWAYS),
        (
            "UpdateConfig",
            json!({ "global": true, "setting_key": ocsf, "setting_value": on() }),
            ALWAYS,
        ),
        // The token is not that of the chunk, and no call is sent that could approve it.
        ("ApproveDraftChunk", json!({ "chunk_id": PENDING, "review_token": "t" }), WORDS),
        ("ApproveDraftChunk", json!({ "chunk_id": "c1", "review_token": "t" }), UNKNOWN),
        ("ApproveDraftChunk", json!({ "chunk_id": "policy.apply:1", "review_token": "t" }), LOCKED),
        (
            "ApproveAllDraftChunks",
            json!({ "approvals": [{ "chunk_id": "c1", "review_token": "t" }] }),
            UNKNOWN,
        ),
        ("ApproveAllDraftChunks", json!({}), LOCKED),
        ("RejectDraftChunk", json!({ "chunk_id": "unknown" }), UNKNOWN),
        // The owner of the sandbox rejects it.
        ("RejectDraftChunk", json!({ "chunk_id": PENDING }), ALWAYS),
        ("RejectDraftChunk", json!({ "chunk_id": APPROVED }), REVIEWED),
        ("UndoDraftChunk", json!({ "chunk_id": APPROVED }), REVIEWED),
        ("EditDraftChunk", json!({ "chunk_id": "c1" }), ALWAYS),
        ("ClearDraftChunks", json!({}), ALWAYS),
        ("CreateProvider", json!({ "provider": { "metadata": { "name": "spare" } } }), ALWAYS),
        ("CreateProvider", github(json!({})), WIDE),
        ("UpdateProvider", github(json!({ "credentials": { "token": "new" } })), ALWAYS),
        ("UpdateProvider", github(json!({ "credentials": { "other": "new" } })), WIDE),
        ("UpdateProvider", github(json!({ "config": { "host": "evil.example" } })), WIDE),
        ("ConfigureProviderRefresh", credential("token"), ALWAYS),
        ("ConfigureProviderRefresh", credential("other"), WIDE),
        ("RotateProviderCredential", credential("token"), ALWAYS),
        ("RotateProviderCredential", credential("other"), WIDE),
        ("DeleteProviderRefresh", credential("token"), ALWAYS),
        ("DeleteProviderRefresh", credential("other"), WIDE),
        ("ImportProviderProfiles", profile("unused"), ALWAYS),
        ("ImportProviderProfiles", profile("github"), WIDE),
        ("UpdateProviderProfiles", json!({ "id": "unused" }), ALWAYS),
        ("UpdateProviderProfiles", json!({ "id": "github" }), WIDE),
        ("DeleteProviderProfile", json!({ "id": "unused" }), ALWAYS),
        ("DeleteProviderProfile", json!({ "id": "github" }), WIDE),
        ("SetInferenceRoute", json!({ "route_name": "main", "provider_name": "github" }), WIDE),
        ("DeleteInferenceRoute", json!({ "route_name": "main" }), WIDE),
        ("CreateSandbox", json!({ "spec": { "policy": { "version": 1 } } }), LOCKED),
        ("CreateSandbox", json!({ "spec": { "providers": ["github"] } }), LOCKED),
        ("CreateSandbox", json!({ "spec": {} }), ALWAYS),
        // At the end, since without a rule they change what the others need.
        ("DetachSandboxProvider", json!({}), LOCKED),
        ("DeleteProvider", json!({ "name": "spare" }), ALWAYS),
        ("DeleteProvider", json!({ "name": "github" }), WIDE),
        ("DeleteSandbox", json!({}), LOCKED),
        ("DeleteWorkspace", json!({ "name": "default" }), WIDE),
    ]
}

/// The rules that are in force.
#[derive(Debug, Clone, Copy)]
enum Rules {
    None,
    Pin,
    Workflow,
    PinAndWorkflow,
}

impl Rules {
    fn expected(self, expected: Expected) -> &'static str {
        match self {
            Self::None => PASSES,
            Self::Pin => expected[0],
            Self::Workflow => expected[1],
            Self::PinAndWorkflow => expected[2],
        }
    }
}

/// Approves one proposal and leaves another one pending. Returns their ids.
async fn propose(scene: &Scene) -> (String, String) {
    let simulator = &scene.simulator;
    let propose = |host: &str| {
        simulator.propose("default", BOX, Proposal::allow(host, 443, "/usr/bin/curl")).unwrap()
    };
    let approved = propose("a.example.com");
    let all = json!({ "include_security_flagged": true });
    scene.call("ApproveAllDraftChunks", &all).await.unwrap();
    (approved, propose("b.example.com"))
}

async fn walk(sg: &TestServer, name: &'static str, generation: Generation, rules: Rules) {
    let scene = Scene::start(sg, name, generation).await;
    let (approved, pending) = propose(&scene).await;
    if matches!(rules, Rules::Pin | Rules::PinAndWorkflow) {
        scene.pin(None, sg).await;
    }
    if matches!(rules, Rules::Workflow | Rules::PinAndWorkflow) {
        scene.govern_box(sg).await;
    }
    let mut decided = BTreeSet::new();
    let rows = schema(generation).1;
    let has = |method: &str| rows.iter().any(|row| row.path.ends_with(&format!("/{method}")));
    // Rows without an effect first, while everything exists.
    for row in rows {
        let method = row.path.rsplit('/').next().unwrap();
        let Some(guard) = &row.policy else { continue };
        if guard.change.is_some() {
            continue;
        }
        let content = json!({});
        let message = request(generation, method, &content);
        let to = [("x-shoreguard-gateway", name)];
        let within = STREAM_TIME;
        let answer =
            scene.caller.call_raw_within(within, row.path, row.streaming, message, &to).await;
        let refused = answer.err().map(|status| reason(&status)).unwrap_or_default();
        assert!(
            !REFUSALS.contains(&refused.as_str()),
            "{generation} {method} {rules:?}: {refused}"
        );
    }
    for (method, mut content, expected) in cases() {
        if !has(method) {
            continue;
        }
        decided.insert(method);
        for (name, id) in [(PENDING, &pending), (APPROVED, &approved)] {
            if content["chunk_id"] == json!(name) {
                content["chunk_id"] = json!(id);
            }
        }
        let verdict = scene.verdict(method, &content).await;
        let what = format!("{generation} {method} {content} {rules:?}");
        assert_eq!(verdict, rules.expected(expected), "{what}");
    }
    for row in rows {
        let method = row.path.rsplit('/').next().unwrap();
        let changes = row.policy.as_ref().is_some_and(|guard| guard.change.is_some());
        assert!(!changes || decided.contains(method), "decide what the gate does with {method}");
    }
    sg.operations_ended().await;
    scene.simulator.stop().await;
}

/// Lists the tests of a generation, one for each set of rules.
macro_rules! walks {
    ($generation:ident) => {
        server_tests! { no_rule, pin, workflow, pin_and_workflow }

        async fn no_rule(sg: TestServer) {
            walk_all(sg, Generation::$generation, Rules::None).await;
        }

        async fn pin(sg: TestServer) {
            walk_all(sg, Generation::$generation, Rules::Pin).await;
        }

        async fn workflow(sg: TestServer) {
            walk_all(sg, Generation::$generation, Rules::Workflow).await;
        }

        async fn pin_and_workflow(sg: TestServer) {
            walk_all(sg, Generation::$generation, Rules::PinAndWorkflow).await;
        }
    };
}

mod every_path_of_generation_0_0_is_refused_or_passes_as_the_rules_in_force_say {
    use super::*;

    walks! { V0_0 }
}

mod every_path_of_generation_0_1_is_refused_or_passes_as_the_rules_in_force_say {
    use super::*;

    walks! { V0_1 }
}

/// Walks all rows of a generation.
async fn walk_all(sg: TestServer, generation: Generation, rules: Rules) {
    walk(&sg, "edge", generation, rules).await;
    assert_eq!(stored::count_intents(&sg).await, 0, "each outcome is known");
    sg.finish().await;
}
