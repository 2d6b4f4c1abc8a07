//! Policies of sandboxes through the API: views, revisions and exports.

use std::time::Duration;

use prost::Message;
use shoreguard::pb::v0_0::openshell::sandbox::v1 as old_sandbox;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tonic::Status;

use crate::proxy::raw::{self, add_length_prefix};
use crate::proxy::rogue::{send_message, start_rogue};
use crate::support::server::{Caller, TestServer};

/// A gateway of each generation.
pub(crate) const GATEWAYS: [(&str, Generation); 2] =
    [("old", Generation::V0_0), ("new", Generation::V0_1)];
/// Field 99 with the number 1, which no generation has.
const UNKNOWN_FIELD: [u8; 3] = [0x98, 0x06, 0x01];

/// Starts a gateway with the demo content. The sandbox `coder` has two revisions.
pub(crate) async fn seeded(sg: &TestServer, name: &str, generation: Generation) -> Simulator {
    start(sg, name, SimulatorOptions::new(generation)).await
}

async fn start(sg: &TestServer, name: &str, options: SimulatorOptions) -> Simulator {
    let simulator = Simulator::start(options).await.unwrap();
    simulator.seed_demo().unwrap();
    sg.register_gateway(name, simulator.addr()).await;
    simulator
}

/// Sends a change to a gateway, without Shoreguard. The fields that tests use are equal in both generations.
pub(crate) async fn change_directly(simulator: &Simulator, change: old::UpdateConfigRequest) {
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", simulator.addr()));
    let channel = channel.unwrap().connect().await.unwrap();
    let mut client = old::open_shell_client::OpenShellClient::new(channel);
    client.update_config(change).await.unwrap();
}

/// Returns the default policy of a sandbox with one rule.
pub(crate) fn with_rule(
    name: &str,
    endpoint: old_sandbox::NetworkEndpoint,
) -> old_sandbox::SandboxPolicy {
    let paths = |all: &[&str]| all.iter().map(|path| (*path).to_owned()).collect();
    let rule = old_sandbox::NetworkPolicyRule {
        name: name.to_owned(),
        endpoints: vec![endpoint],
        binaries: vec![old_sandbox::NetworkBinary {
            path: "/usr/bin/git".to_owned(),
            harness: false,
        }],
    };
    old_sandbox::SandboxPolicy {
        version: 1,
        filesystem: Some(old_sandbox::FilesystemPolicy {
            include_workdir: true,
            read_only: paths(&["/usr", "/lib", "/etc", "/proc"]),
            read_write: paths(&["/sandbox", "/tmp"]),
        }),
        landlock: Some(old_sandbox::LandlockPolicy { compatibility: "best_effort".to_owned() }),
        process: Some(old_sandbox::ProcessPolicy {
            run_as_user: "sandbox".to_owned(),
            run_as_group: "sandbox".to_owned(),
        }),
        network_policies: [(name.to_owned(), rule)].into(),
        ..Default::default()
    }
}

pub(crate) fn endpoint(host: &str, port: u32) -> old_sandbox::NetworkEndpoint {
    old_sandbox::NetworkEndpoint { host: host.to_owned(), port, ..Default::default() }
}

/// Writes a revision of the policy of `coder` that has one rule, with a host of its own.
async fn write_revision(simulator: &Simulator, host: &str) {
    let change = old::UpdateConfigRequest {
        name: "coder".to_owned(),
        policy: Some(with_rule("site", endpoint(host, 443))),
        annotations: [("ticket".to_owned(), host.to_owned())].into(),
        ..Default::default()
    };
    change_directly(simulator, change).await;
}

fn get_request(gateway: &str, sandbox: &str) -> pb::GetPolicyRequest {
    pb::GetPolicyRequest {
        gateway: gateway.to_owned(),
        sandbox: sandbox.to_owned(),
        ..Default::default()
    }
}

pub(crate) async fn get(
    caller: &Caller,
    request: pb::GetPolicyRequest,
) -> Result<pb::Policy, Status> {
    Ok(caller.policies().get_policy(request).await?.into_inner().policy.unwrap())
}

async fn get_view(caller: &Caller, gateway: &str, view: pb::PolicyView) -> pb::Policy {
    let request = pb::GetPolicyRequest { view: view.into(), ..get_request(gateway, "coder") };
    get(caller, request).await.unwrap()
}

/// Returns a revision of `coder`. Version 0 is the newest.
pub(crate) async fn get_version(
    caller: &Caller,
    gateway: &str,
    version: u32,
) -> Result<pb::Policy, Status> {
    get(caller, pb::GetPolicyRequest { version, ..get_request(gateway, "coder") }).await
}

async fn list(
    caller: &Caller,
    gateway: &str,
    page_size: i32,
    page_token: &str,
) -> Result<(Vec<pb::PolicyRevision>, String), Status> {
    let request = pb::ListPolicyRevisionsRequest {
        gateway: gateway.to_owned(),
        sandbox: "coder".to_owned(),
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let page = caller.policies().list_policy_revisions(request).await?.into_inner();
    Ok((page.policy_revisions, page.next_page_token))
}

/// Returns how often revisions were read from a gateway.
fn calls(simulator: &Simulator) -> u64 {
    let calls = simulator.calls();
    calls.get("/openshell.v1.OpenShell/GetSandboxPolicyStatus").copied().unwrap_or_default()
}

fn versions(revisions: &[pb::PolicyRevision]) -> Vec<u32> {
    revisions.iter().map(|revision| revision.version).collect()
}

/// Returns a document as JSON.
pub(crate) fn parse_yaml(text: &str) -> serde_json::Value {
    serde_saphyr::from_str(text).unwrap()
}

server_tests! {
    a_policy_is_read_by_version_and_view,
    a_pending_revision_is_the_base_and_a_sandbox_can_have_no_revision,
    requests_for_policies_are_validated,
    revisions_are_listed_in_pages_while_new_ones_are_written,
    an_exported_policy_is_complete_and_audited,
    a_part_that_the_server_does_not_know_is_reported_and_not_exported,
}

async fn a_policy_is_read_by_version_and_view(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let newest = get_version(&admin, name, 0).await.unwrap();
        assert_eq!(
            (newest.gateway.as_str(), newest.workspace.as_str(), newest.sandbox.as_str()),
            (name, "default", "coder")
        );
        let revision = newest.revision.clone().unwrap();
        assert_eq!((revision.version, newest.active_version), (2, 2));
        assert_eq!(revision.status(), pb::PolicyRevisionStatus::Loaded);
        assert!(revision.create_time.is_some() && revision.load_time.is_some());
        assert_eq!(newest.policy_hash, revision.policy_hash);
        assert_eq!((newest.digest.len(), newest.source()), (64, pb::PolicySource::Sandbox));
        assert!(newest.marks.is_empty() && newest.unknown_parts.is_empty());
        let yaml = parse_yaml(&newest.yaml);
        let rule = &yaml["network_policies"]["allow_api_github_com_443"];
        let expected = serde_json::json!([
            { "host": "api.github.com", "port": 443, "ports": [443] }
        ]);
        assert_eq!(rule["endpoints"], expected);
        assert_eq!(yaml["filesystem_policy"]["read_write"][0], "/sandbox");
        assert_eq!(get_view(&admin, name, pb::PolicyView::Base).await, newest);

        let first = get_version(&admin, name, 1).await.unwrap();
        let revision = first.revision.unwrap();
        assert_eq!((revision.version, first.active_version), (1, 2));
        assert_eq!(revision.status(), pb::PolicyRevisionStatus::Superseded);
        assert!(!first.yaml.contains("network_policies") && first.digest != newest.digest);

        // The policy in force has a rule for each provider, if the gateway adds them.
        assert_eq!(get_view(&admin, name, pb::PolicyView::Effective).await.digest, newest.digest);
        let switch = pb::UpdateGatewaySettingRequest {
            gateway: name.to_owned(),
            key: "providers_v2_enabled".to_owned(),
            value: Some(pb::GatewaySettingValue {
                kind: Some(pb::gateway_setting_value::Kind::Switch(true)),
            }),
            ..Default::default()
        };
        admin.gateways().update_gateway_setting(switch).await.unwrap();
        let effective = get_view(&admin, name, pb::PolicyView::Effective).await;
        assert!(effective.yaml.contains("_provider_github") && effective.digest != newest.digest);
        // `provider_credentialed` is set by the gateway only, so documents do not contain it.
        assert!(!effective.yaml.contains("provider_credentialed"), "{}", effective.yaml);
        assert_eq!(effective.revision.unwrap().version, 2);
        assert_ne!(effective.policy_hash, newest.policy_hash);
        assert!(!get_version(&admin, name, 0).await.unwrap().yaml.contains("_provider_github"));

        let whole = old::UpdateConfigRequest {
            global: true,
            policy: Some(with_rule("everywhere", endpoint("example.com", 443))),
            ..Default::default()
        };
        change_directly(&simulator, whole).await;
        let effective = get_view(&admin, name, pb::PolicyView::Effective).await;
        assert_eq!(
            (effective.source(), effective.gateway_policy_version),
            (pb::PolicySource::Gateway, 1)
        );
        assert!(effective.yaml.contains("everywhere") && !effective.yaml.contains("github"));
        assert_eq!(get_version(&admin, name, 0).await.unwrap().yaml, newest.yaml);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_pending_revision_is_the_base_and_a_sandbox_can_have_no_revision(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let ready_after = Duration::from_hours(1);
        let options = SimulatorOptions { ready_after, ..SimulatorOptions::new(generation) };
        let simulator = start(&sg, name, options).await;
        let base = get_view(&admin, name, pb::PolicyView::Base).await;
        let revision = base.revision.unwrap();
        assert_eq!((revision.version, base.active_version), (2, 1));
        assert_eq!(revision.status(), pb::PolicyRevisionStatus::Pending);
        assert_eq!(revision.load_time, None);
        let none = get(&admin, get_request(name, "builder")).await;
        let none = assert_refused!(none, NotFound, "NOT_FOUND");
        assert!(none.message().contains("builder"), "{none:?}");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn requests_for_policies_are_validated(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let both = pb::GetPolicyRequest {
            view: pb::PolicyView::Base.into(),
            version: 1,
            ..get_request(name, "coder")
        };
        let before = calls(&simulator);
        for (wrong, field) in [
            (both, "view"),
            (pb::GetPolicyRequest { view: 9, ..get_request(name, "coder") }, "view"),
            (get_request(name, ""), "sandbox"),
            (get_request(name, &"x".repeat(300)), "sandbox"),
            (get_request("", "coder"), "gateway"),
        ] {
            let refused =
                assert_refused!(get(&admin, wrong).await, InvalidArgument, "INVALID_FIELD");
            assert!(refused.message().contains(field), "{refused:?}");
        }
        assert_eq!(calls(&simulator), before, "none was sent to the gateway");

        let missing = get_version(&admin, name, 7).await;
        let missing = assert_refused!(missing, NotFound, "NOT_FOUND");
        assert!(missing.message().contains("coder@7"), "{missing:?}");
        let missing = get(&admin, get_request(name, "nobody")).await;
        let missing = assert_refused!(missing, NotFound, "NOT_FOUND");
        assert!(missing.message().contains("nobody"), "{missing:?}");
        let elsewhere =
            pb::GetPolicyRequest { workspace: "team-a".to_owned(), ..get_request(name, "coder") };
        assert_refused!(get(&admin, elsewhere).await, NotFound, "NOT_FOUND");
        let unknown = get(&admin, get_request("nowhere", "coder")).await;
        assert_refused!(unknown, NotFound, "NOT_FOUND");

        simulator.stop().await;
        let refused = get(&admin, get_request(name, "coder")).await;
        assert_refused!(refused, Unavailable, "GATEWAY_UNREACHABLE");
        assert_refused!(list(&admin, name, 0, "").await, Unavailable, "GATEWAY_UNREACHABLE");
    }
    sg.finish().await;
}

async fn revisions_are_listed_in_pages_while_new_ones_are_written(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        for host in ["a.example", "b.example", "c.example"] {
            write_revision(&simulator, host).await;
        }
        let (all, next) = list(&admin, name, 0, "").await.unwrap();
        assert_eq!((versions(&all), next.as_str()), (vec![5, 4, 3, 2, 1], ""));
        assert_eq!(all[0].provenance["ticket"], "c.example");
        assert_eq!(all[0].status(), pb::PolicyRevisionStatus::Loaded);

        let (page, next) = list(&admin, name, 2, "").await.unwrap();
        assert_eq!(versions(&page), [5, 4]);
        write_revision(&simulator, "d.example").await;
        let (mut rest, mut next) = list(&admin, name, 2, &next).await.unwrap();
        while !next.is_empty() {
            let (page, after) = list(&admin, name, 2, &next).await.unwrap();
            rest.extend(page);
            next = after;
        }
        assert_eq!(versions(&rest), [3, 2, 1], "each once, although a new one moved the others");

        let (_, token) = list(&admin, name, 2, "").await.unwrap();
        let other = pb::ListPolicyRevisionsRequest {
            gateway: name.to_owned(),
            sandbox: "builder".to_owned(),
            page_token: token,
            ..Default::default()
        };
        let refused = admin.policies().list_policy_revisions(other).await;
        assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
        assert_refused!(list(&admin, name, -1, "").await, InvalidArgument, "INVALID_FIELD");
        let missing = pb::ListPolicyRevisionsRequest {
            gateway: name.to_owned(),
            sandbox: "nobody".to_owned(),
            ..Default::default()
        };
        let missing = admin.policies().list_policy_revisions(missing).await;
        assert_refused!(missing, NotFound, "NOT_FOUND");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn an_exported_policy_is_complete_and_audited(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let request = pb::ExportPolicyRequest {
            gateway: name.to_owned(),
            sandbox: "coder".to_owned(),
            version: 2,
            ..Default::default()
        };
        let exported = admin.policies().export_policy(request.clone()).await.unwrap().into_inner();
        let found = get_version(&admin, name, 2).await.unwrap();
        assert_eq!((exported.version, &exported.digest), (2, &found.digest));
        assert_eq!(exported.policy_hash, found.policy_hash);
        let document = parse_yaml(&exported.yaml);
        assert_eq!(document["policy"], parse_yaml(&found.yaml));
        let metadata = &document["metadata"];
        assert_eq!(metadata["gateway"], name);
        assert_eq!(metadata["workspace"], "default");
        assert_eq!(metadata["sandbox"], "coder");
        assert_eq!(metadata["version"], "2");
        assert_eq!(metadata["wire_generation"], generation.to_string());
        assert_eq!(metadata["digest"], exported.digest.as_str());
        assert_eq!(metadata["policy_hash"], exported.policy_hash.as_str());
        let newest = pb::ExportPolicyRequest { version: 0, ..request.clone() };
        let newest = admin.policies().export_policy(newest).await.unwrap().into_inner();
        assert_eq!((newest.version, newest.digest), (2, exported.digest));
        let missing = pb::ExportPolicyRequest { version: 9, ..request };
        let missing = admin.policies().export_policy(missing).await;
        assert_refused!(missing, NotFound, "NOT_FOUND");
        simulator.stop().await;
    }
    sg.app.audit.wait_settled().await;
    let entries = admin.audit_entries("coder", "policy.export").await;
    let mut outcomes = Vec::new();
    for entry in &entries {
        let detail: serde_json::Value = serde_json::from_str(&entry.detail_json).unwrap();
        assert_eq!(detail["workspace"], "default", "{entry:?}");
        outcomes.push((entry.gateway.as_str(), entry.outcome(), detail["version"].as_u64()));
    }
    outcomes.sort_unstable();
    let (ok, failed) = (pb::AuditOutcome::Ok, pb::AuditOutcome::Failed);
    assert_eq!(
        outcomes,
        [
            ("new", ok, Some(2)),
            ("new", ok, Some(2)),
            ("new", failed, None),
            ("old", ok, Some(2)),
            ("old", ok, Some(2)),
            ("old", failed, None)
        ]
    );
    sg.finish().await;
}

async fn a_part_that_the_server_does_not_know_is_reported_and_not_exported(sg: TestServer) {
    let mut policy = with_rule("site", endpoint("example.com", 443)).encode_to_vec();
    policy.extend(UNKNOWN_FIELD);
    // Field 7 of the revision is the policy. Field 1 of the response is the revision.
    let revision = old::SandboxPolicyRevision { version: 3, ..Default::default() };
    let revision = [revision.encode_to_vec(), length_delimited(7, &policy)].concat();
    let answer = length_delimited(1, &revision);
    let gateway = start_rogue(move |_, request, respond| {
        let answer = add_length_prefix(&answer);
        async move {
            raw::read(request.into_body()).await;
            send_message(respond, answer);
        }
    })
    .await;
    sg.register_gateway("newer", gateway).await;
    let admin = sg.admin();
    let found = get_version(&admin, "newer", 3).await.unwrap();
    assert_eq!(found.unknown_parts, ["document: field 99"]);
    assert!(found.yaml.contains("example.com"));
    let export = pb::ExportPolicyRequest {
        gateway: "newer".to_owned(),
        sandbox: "coder".to_owned(),
        version: 3,
        ..Default::default()
    };
    let refused = admin.policies().export_policy(export).await;
    let refused = assert_refused!(refused, FailedPrecondition, "POLICY_UNREADABLE");
    assert!(refused.message().contains("field 99"), "{refused:?}");
    let version = |version| {
        let policy = Some(pb::policy_operand::Policy::Version(version));
        Some(pb::PolicyOperand { policy })
    };
    let diff = pb::DiffPoliciesRequest {
        gateway: "newer".to_owned(),
        sandbox: "coder".to_owned(),
        from: version(3),
        to: version(3),
        ..Default::default()
    };
    let refused = admin.policies().diff_policies(diff).await;
    assert_refused!(refused, FailedPrecondition, "POLICY_UNREADABLE");
    sg.finish().await;
}

/// Encodes a field that contains a message.
fn length_delimited(field: u32, message: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    prost::encoding::bytes::encode(field, &message.to_vec(), &mut encoded);
    encoded
}
