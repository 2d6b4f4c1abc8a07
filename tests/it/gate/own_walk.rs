//! Every rpc of Shoreguard's own API that writes, without a rule, with a pin, with a workflow, and with both. A new rpc
//! fails until it is decided here what the gate does with it, or why it needs none.

use std::collections::BTreeSet;

use shoreguard::access::policy::{AuditMode, METHODS, Method, ScopeKind};
use shoreguard::resources::followers::follow_once;
use shoreguard::resources::followers::memory::Memory;
use shoreguard_simulator::Proposal;

use super::walk::{REFUSALS, STREAM_TIME};
use super::*;
use crate::policy_writes::{addition, apply};
use crate::support::limit::start_time_limit;

/// The gateway of all calls.
const EDGE: &str = "edge";
/// Another gateway.
const SPARE: &str = "spare";
/// Package of the services.
const PACKAGE: &str = "/shoreguard.v1.";

/// The call is made.
const PASSES: &str = "";
/// A review is open afterwards.
const OPEN: &str = "a review is open";
const PINNED: &str = "POLICY_PINNED";
const GOVERNED: &str = "GOVERNED";
const AUTO: &str = "APPROVAL_MODE_AUTO";
/// A rule is made weaker only by a review.
const REQUIRED: &str = "APPROVAL_REQUIRED";
const NOT_FOUND: &str = "NOT_FOUND";

/// What a call is answered without a rule, with a pin, a workflow, and both.
type Expected = [&'static str; 4];

const ALWAYS: Expected = [PASSES; 4];
const REVIEWED: Expected = [PASSES, PINNED, OPEN, PINNED];
const VOTED: Expected = [PASSES, PINNED, PASSES, PINNED];
const LOCKED: Expected = [PASSES, PINNED, GOVERNED, PINNED];
const WIDE: Expected = [PASSES, GOVERNED, GOVERNED, GOVERNED];

/// Methods that change the rules in force.
const CHANGES_OF_RULES: [&str; 4] = [
    "ApprovalWorkflowService/DeleteWorkflow",
    "ApprovalWorkflowService/SetWorkflow",
    "PolicyService/PinPolicy",
    "PolicyService/UnpinPolicy",
];
/// Methods that a voter calls.
const VOTES: [&str; 2] = ["ApprovalService/Vote", "ApprovalService/VoteMany"];
/// The last method of the table: without a rule, it removes the gateway.
const LAST: &str = "GatewayService/UnregisterGateway";

/// Writes that pass no gate, with the reason.
const UNGATED: [(&str, &[&str]); 7] = [
    (
        "decide who is a voter: votes are counted by the access data of the moment",
        &[
            "AccessService/RemoveGatewayRole",
            "AccessService/SetGatewayRole",
            "GroupService/AddGroupMember",
            "GroupService/CreateGroup",
            "GroupService/DeleteGroup",
            "GroupService/RemoveGroupMember",
            "GroupService/UpdateGroup",
            "ServicePrincipalService/CreateServicePrincipal",
            "ServicePrincipalService/DeleteServicePrincipal",
            "ServicePrincipalService/RotateServicePrincipal",
            "ServicePrincipalService/UpdateServicePrincipal",
            "UserService/DeleteUser",
            "UserService/InviteUser",
            "UserService/ResendInvite",
            "UserService/ResetPassword",
            "UserService/RevokeUserSessions",
            "UserService/UnlockUser",
            "UserService/UpdateUser",
        ],
    ),
    (
        "change the session or the password of their caller",
        &[
            "AuthService/AcceptInvite",
            "AuthService/ApproveDevice",
            "AuthService/BeginDeviceLogin",
            "AuthService/BeginOidcLogin",
            "AuthService/ChangePassword",
            "AuthService/CompleteDeviceLogin",
            "AuthService/CompleteOidcLogin",
            "AuthService/ExchangeOidcToken",
            "AuthService/LinkOidcIdentity",
            "AuthService/Login",
            "AuthService/Logout",
            "AuthService/RefreshSession",
            "AuthService/Register",
            "AuthService/RevokeSession",
            "AuthService/Setup",
            "AuthService/UnlinkOidcIdentity",
        ],
    ),
    (
        "start, stop or use a sandbox within its policy",
        &[
            "BootHookService/CreateBootHook",
            "BootHookService/DeleteBootHook",
            "BootHookService/ReorderBootHooks",
            "BootHookService/RunBootHook",
            "BootHookService/UpdateBootHook",
            "SandboxService/CreateSshSession",
            "SandboxService/ExecSandbox",
            "SandboxService/RevokeSshSession",
            "SandboxService/StartExecSandbox",
            "SandboxService/StartSandbox",
            "SandboxService/StopSandbox",
        ],
    ),
    (
        "change what this server stores, which no gateway knows",
        &[
            "SandboxService/UpdateSandboxMetadata",
            "SbomService/DeleteSbom",
            "SbomService/UploadSbom",
            "WebhookService/CreateWebhook",
            "WebhookService/DeleteWebhook",
            "WebhookService/RedeliverWebhook",
            "WebhookService/RotateWebhookSecret",
            "WebhookService/TestWebhook",
            "WebhookService/UpdateWebhook",
        ],
    ),
    (
        "change or check the credential for a gateway, which has the same rules afterwards",
        &["GatewayService/RotateGatewayCredentials", "GatewayService/TestGateway"],
    ),
    (
        "registers each gateway as `RegisterGateway` does, which is in the table",
        &["GatewayService/DiscoverGateways"],
    ),
    ("ends work that has passed the gate", &["OperationService/CancelOperation"]),
];

/// The rules that are in force.
#[derive(Debug, Clone, Copy)]
struct Rules {
    pin: bool,
    workflow: bool,
}

impl Rules {
    fn expected(self, expected: Expected) -> &'static str {
        match (self.pin, self.workflow) {
            (false, false) => expected[0],
            (true, false) => expected[1],
            (false, true) => expected[2],
            (true, true) => expected[3],
        }
    }

    /// Stores exactly these rules for `box`.
    async fn store(self, sg: &TestServer, scene: &Scene) {
        for table in ["policy_pins", "approval_workflows"] {
            stored::execute(sg, &format!("DELETE FROM {table}")).await;
        }
        if self.pin {
            scene.pin(None, sg).await;
        }
        if self.workflow {
            scene.govern_box(sg).await;
        }
    }
}

/// A draft under review.
#[derive(Debug, Default)]
struct Draft {
    approval: i64,
    digest: String,
}

/// What the calls are about.
#[derive(Debug, Default)]
struct Prepared {
    drafts: [Draft; 4],
    /// Id of an approved draft.
    approved: String,
    /// A policy under review.
    proposal: i64,
    /// The endpoint of the gateway.
    endpoint: String,
}

fn on_edge(mut content: Value) -> Value {
    content["gateway"] = json!(EDGE);
    content
}

fn on_box(content: Value) -> Value {
    let mut content = on_edge(content);
    content["sandbox"] = json!(BOX);
    content
}

/// Returns each gated call: its method, its content, and what it is answered.
fn cases(of: &Prepared) -> Vec<(&'static str, Value, Expected)> {
    let [approved, rejected, listed, edited] = &of.drafts;
    let vote = |draft: &Draft, decision: &str| {
        let (id, digest) = (draft.approval, &draft.digest);
        json!({ "approval_id": id, "digest": digest, "decision": decision, "comment": "a reason" })
    };
    let rule = "endpoints: [{host: edited.example, port: 443}]\nbinaries: [{path: /usr/bin/git}]\n";
    let edit = json!({ "add_rule": { "rule_name": "edited", "yaml": rule } });
    let workflow = |required: u32, distinct: bool| {
        let group = json!({ "name": "approvers", "required": required, "voters": {} });
        on_box(json!({ "rule": { "groups": [group], "distinct_actors": distinct } }))
    };
    let (mode, v2, ocsf) = ("proposal_approval_mode", "providers_v2_enabled", "ocsf_json_enabled");
    let set = |key: &str, value: Value| json!({ "key": key, "value": value });
    let unset = |key: &str| json!({ "key": key });
    let text = |word: &str| json!({ "text": word });
    let on = || json!({ "switch": true });
    let create = |more: Value| {
        let mut content = json!({ "name": BOX, "image": "plain", "validate_only": true });
        content.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        on_edge(content)
    };
    let endpoint = &of.endpoint;
    let second = json!({ "name": "second", "endpoint": endpoint, "scheme": "GATEWAY_SCHEME_HTTP" });
    let moved = json!({ "gateway": SPARE, "endpoint": endpoint, "update_mask": "endpoint" });
    vec![
        // A new or stricter rule is never stopped. A weaker one is, by the rules of its scope.
        ("ApprovalWorkflowService/SetWorkflow", workflow(2, true), ALWAYS),
        (
            "ApprovalWorkflowService/SetWorkflow",
            workflow(1, false),
            [PASSES, PASSES, REQUIRED, REQUIRED],
        ),
        (
            "ApprovalWorkflowService/DeleteWorkflow",
            on_box(json!({})),
            [NOT_FOUND, NOT_FOUND, REQUIRED, REQUIRED],
        ),
        ("PolicyService/PinPolicy", on_box(json!({ "reason": "a reason" })), ALWAYS),
        // A shorter pin.
        (
            "PolicyService/PinPolicy",
            on_box(json!({ "expire_time": "2999-01-01T00:00:00Z" })),
            [PASSES, PASSES, PASSES, REQUIRED],
        ),
        ("PolicyService/UnpinPolicy", on_box(json!({})), [NOT_FOUND, PASSES, NOT_FOUND, REQUIRED]),
        ("ApprovalService/Vote", vote(approved, "VOTE_DECISION_APPROVE"), VOTED),
        ("ApprovalService/Vote", vote(rejected, "VOTE_DECISION_REJECT"), ALWAYS),
        (
            "ApprovalService/VoteMany",
            on_edge(json!({ "ballots": [vote(listed, "VOTE_DECISION_APPROVE")] })),
            VOTED,
        ),
        (
            "ApprovalService/EditChunk",
            json!({ "approval_id": edited.approval, "rule": rule }),
            [OPEN; 4],
        ),
        ("ApprovalService/ClearChunks", on_box(json!({})), ALWAYS),
        ("ApprovalService/WithdrawProposal", json!({ "approval_id": of.proposal }), ALWAYS),
        (
            "PolicyService/ApplyPolicy",
            on_box(json!({
                "yaml": addition("applied.example"),
                "mode": "POLICY_APPLY_MODE_MERGE",
            })),
            REVIEWED,
        ),
        ("PolicyService/EditPolicy", on_box(json!({ "policy_edits": [edit] })), REVIEWED),
        ("PolicyService/ApplyPolicyPreset", on_box(json!({ "policy_preset": "pypi" })), REVIEWED),
        ("ApprovalService/UndoChunk", on_box(json!({ "chunk_id": of.approved })), REVIEWED),
        ("PolicyService/RevertPolicy", on_box(json!({ "version": 1 })), REVIEWED),
        ("SandboxService/CreateSandbox", create(json!({ "policy": "version: 1\n" })), LOCKED),
        ("SandboxService/CreateSandbox", create(json!({ "providers": ["github"] })), LOCKED),
        ("SandboxService/CreateSandbox", create(json!({})), ALWAYS),
        ("SandboxService/DeleteSandbox", on_box(json!({ "validate_only": true })), LOCKED),
        (
            "GatewayService/UpdateGatewaySetting",
            on_box(set(mode, text("auto"))),
            [PASSES, PINNED, AUTO, PINNED],
        ),
        ("GatewayService/UpdateGatewaySetting", on_box(set(mode, text("manual"))), ALWAYS),
        ("GatewayService/DeleteGatewaySetting", on_box(unset(mode)), ALWAYS),
        ("GatewayService/UpdateGatewaySetting", on_box(set(v2, on())), LOCKED),
        ("GatewayService/DeleteGatewaySetting", on_box(unset(v2)), LOCKED),
        ("GatewayService/UpdateGatewaySetting", on_box(set(ocsf, on())), ALWAYS),
        ("GatewayService/UpdateGatewaySetting", on_edge(set(v2, on())), WIDE),
        ("GatewayService/DeleteGatewaySetting", on_edge(unset(v2)), WIDE),
        ("GatewayService/UpdateGatewaySetting", on_edge(set(ocsf, on())), ALWAYS),
        (
            "GatewayService/UpdateGatewaySetting",
            on_edge(set(mode, text("auto"))),
            [PASSES, GOVERNED, AUTO, GOVERNED],
        ),
        (
            "GatewayService/DeleteGatewaySetting",
            on_edge(unset(mode)),
            [PASSES, GOVERNED, AUTO, GOVERNED],
        ),
        // A second name takes a gateway out of its rules.
        ("GatewayService/UpdateGateway", moved, WIDE),
        (
            "GatewayService/UpdateGateway",
            on_edge(json!({ "description": "a gateway", "update_mask": "description" })),
            ALWAYS,
        ),
        ("GatewayService/RegisterGateway", second, WIDE),
        (LAST, on_edge(json!({ "force": true })), WIDE),
    ]
}

fn own(name: &str) -> &'static Method {
    let path = format!("{PACKAGE}{name}");
    METHODS.iter().find(|method| method.path == path).unwrap_or_else(|| panic!("{path}"))
}

fn encode_own(method: &Method, content: &Value) -> Vec<u8> {
    let descriptor = descriptors::OWN.pool().get_message_by_name(method.request).unwrap();
    let message = DynamicMessage::deserialize(descriptor, content);
    message.unwrap_or_else(|error| panic!("{content}: {error}")).encode_to_vec()
}

/// Decodes the answer to a call, as JSON.
fn decode_own(method: &Method, answer: &[u8]) -> Value {
    let name = format!("{}Response", method.request.strip_suffix("Request").unwrap());
    let descriptor = descriptors::OWN.pool().get_message_by_name(&name).unwrap();
    serde_json::to_value(DynamicMessage::decode(descriptor, answer).unwrap()).unwrap()
}

/// Returns the reason for which a call is refused, [`OPEN`] if a review is open afterwards, or [`PASSES`]. Waits for
/// the operation that a call starts, so that the next call finds what it has written.
async fn verdict(caller: &Caller, method: &'static Method, content: &Value) -> String {
    let message = encode_own(method, content);
    let answer = match caller.call_raw(method.path, method.streaming, message, &[]).await {
        Ok(answer) => decode_own(method, &answer.unwrap_or_default()),
        Err(status) => {
            let reason = reason(&status);
            // It has passed the gate: these are the words of the gateway.
            return if reason == "GATEWAY_REFUSED" { PASSES.to_owned() } else { reason };
        }
    };
    let change = &answer["policyChange"];
    assert_ne!(change["outcome"], "POLICY_CHANGE_OUTCOME_UP_TO_DATE", "{content}");
    for operation in [&change["operation"], &answer["operation"]] {
        if let Some(id) = operation.as_str().filter(|id| !id.is_empty()) {
            caller.wait_operation(id).await;
        }
    }
    let is_open = change["outcome"] == "POLICY_CHANGE_OUTCOME_PROPOSED"
        || answer["approval"]["state"] == "APPROVAL_STATE_OPEN";
    if is_open { OPEN.to_owned() } else { PASSES.to_owned() }
}

/// Opens reviews of drafts and of a policy, and approves one draft, while no rule is in force.
async fn prepare(sg: &TestServer, scene: &Scene) -> Prepared {
    let propose = |host: &str| {
        let wanted = Proposal::allow(host, 443, "/usr/bin/curl");
        scene.simulator.propose("default", BOX, wanted).unwrap()
    };
    let approved = propose("approved.example.com");
    let all = json!({ "include_security_flagged": true });
    scene.call("ApproveAllDraftChunks", &all).await.unwrap();
    let chunks = ["a", "b", "c", "d"].map(|name| propose(&format!("{name}.example.com")));
    let mut targets = sg.app.fleet.targets.all().into_iter();
    let edge = targets.find(|target| &*target.name == EDGE).unwrap().gateway();
    let mut memory = Memory::new(&sg.app.config.gateways);
    assert!(follow_once(&sg.app, edge, &mut memory).await.unwrap());
    let list = pb::ListApprovalsRequest { page_size: 100, ..Default::default() };
    let found = scene.caller.approvals().list_approvals(list).await.unwrap().into_inner();
    let drafts = chunks.map(|chunk| {
        let draft = found.approvals.iter().find(|approval| approval.chunk_id == chunk).unwrap();
        Draft { approval: draft.id, digest: draft.digest.clone() }
    });
    scene.govern_box(sg).await;
    let wanted = pb::ApplyPolicyRequest {
        gateway: EDGE.to_owned(),
        sandbox: BOX.to_owned(),
        yaml: addition("proposed.example"),
        mode: pb::PolicyApplyMode::Merge.into(),
        ..Default::default()
    };
    let proposed = apply(&scene.caller, wanted).await.unwrap();
    assert_eq!(proposed.outcome(), pb::PolicyChangeOutcome::Proposed);
    let endpoint = scene.simulator.addr().to_string();
    Prepared { drafts, approved, proposal: proposed.approval_id, endpoint }
}

/// Calls the methods about a gateway that pass no gate, each with the place only.
async fn call_ungated(scene: &Scene, rules: Rules) {
    let names = UNGATED.iter().flat_map(|(_, names)| names.iter());
    for method in names.map(|name| own(name)) {
        if method.scope != ScopeKind::Gateway {
            continue;
        }
        let descriptor = descriptors::OWN.pool().get_message_by_name(method.request).unwrap();
        let mut content = json!({});
        for (name, value) in
            [("gateway", json!(EDGE)), ("sandbox", json!(BOX)), ("command", json!(["true"]))]
        {
            let field = descriptor.get_field_by_name(name);
            if field.is_some_and(|field| field.is_list() == value.is_array()) {
                content[name] = value;
            }
        }
        let message = encode_own(method, &content);
        let (caller, path, streaming) = (&scene.caller, method.path, method.streaming);
        let answer = caller.call_raw_within(STREAM_TIME, path, streaming, message, &[]).await;
        let refused = answer.err().map(|status| reason(&status)).unwrap_or_default();
        assert!(!REFUSALS.contains(&refused.as_str()), "{path} {rules:?}: {refused}");
    }
}

async fn walk(sg: TestServer, generation: Generation, rules: Rules) {
    let scene = Scene::start(&sg, EDGE, generation).await;
    let spare = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
    sg.register_gateway(SPARE, spare.addr()).await;
    let ana = sg.with_token(&sg.create_user("ana@example.com", pb::Role::Operator).await);
    sg.create_user("ben@example.com", pb::Role::Operator).await;
    let prepared = prepare(&sg, &scene).await;
    let mut are_stored = false;
    for (name, content, expected) in cases(&prepared) {
        if !are_stored {
            rules.store(&sg, &scene).await;
        }
        are_stored = !CHANGES_OF_RULES.contains(&name);
        if name == LAST {
            call_ungated(&scene, rules).await;
        }
        let caller = if VOTES.contains(&name) { &ana } else { &scene.caller };
        let verdict = verdict(caller, own(name), &content).await;
        let what = format!("{generation} {name} {content} {rules:?}");
        assert_eq!(verdict, rules.expected(expected), "{what}");
    }
    sg.operations_ended().await;
    scene.simulator.stop().await;
    spare.stop().await;
    sg.finish().await;
}

/// Lists the tests of a generation, one for each set of rules. Without jobs, which would send what a vote has decided
/// while other calls are made.
macro_rules! walks {
    ($generation:ident) => {
        server_tests_without_jobs! { no_rule, pin, workflow, pin_and_workflow }

        async fn no_rule(sg: TestServer) {
            walk(sg, Generation::$generation, Rules { pin: false, workflow: false }).await;
        }

        async fn pin(sg: TestServer) {
            walk(sg, Generation::$generation, Rules { pin: true, workflow: false }).await;
        }

        async fn workflow(sg: TestServer) {
            walk(sg, Generation::$generation, Rules { pin: false, workflow: true }).await;
        }

        async fn pin_and_workflow(sg: TestServer) {
            walk(sg, Generation::$generation, Rules { pin: true, workflow: true }).await;
        }
    };
}

mod every_own_write_to_generation_0_0_is_refused_or_passes_as_the_rules_in_force_say {
    use super::*;

    walks! { V0_0 }
}

mod every_own_write_to_generation_0_1_is_refused_or_passes_as_the_rules_in_force_say {
    use super::*;

    walks! { V0_1 }
}

#[test]
fn every_own_write_is_in_the_table_or_needs_no_gate() {
    let _limit = start_time_limit();
    let cases = cases(&Prepared::default());
    let mut decided: BTreeSet<&str> = cases.iter().map(|(name, ..)| *name).collect();
    assert_eq!(cases.last().map(|(name, ..)| *name), Some(LAST));
    for name in UNGATED.iter().flat_map(|(_, names)| names.iter()) {
        assert!(decided.insert(*name), "{name} is listed twice");
    }
    let writes = METHODS.iter().filter(|method| method.audit == AuditMode::Write);
    let writes: BTreeSet<&str> =
        writes.map(|method| method.path.strip_prefix(PACKAGE).unwrap()).collect();
    let undecided: Vec<_> = writes.difference(&decided).collect();
    assert!(undecided.is_empty(), "decide what the gate does with {undecided:?}");
    let unknown: Vec<_> = decided.difference(&writes).collect();
    assert!(unknown.is_empty(), "these are not audited writes: {unknown:?}");
}
