//! Loading of policies: what supervisors report, policies of images, and writes that bypass all callers.

use tonic::Code;
use tonic::transport::Channel;

use super::{OldClient, new, new_create, new_gateway, old, old_gateway, old_sandbox};
use crate::{LoadOutcome, PolicyCounts, StartOutcome, Times};
use shoreguard_proto::v0_0::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_1::openshell::sandbox::v1 as new_sb;

async fn status(
    client: &mut OldClient<Channel>,
    version: u32,
) -> (old::SandboxPolicyRevision, u32) {
    let request =
        old::GetSandboxPolicyStatusRequest { name: "a".to_owned(), version, ..Default::default() };
    let found = client.get_sandbox_policy_status(request).await.unwrap().into_inner();
    (found.revision.unwrap(), found.active_version)
}

fn with_path(policy: &sb::SandboxPolicy, path: &str) -> old::UpdateConfigRequest {
    let mut policy = policy.clone();
    policy.filesystem.as_mut().unwrap().read_only.push(path.to_owned());
    old::UpdateConfigRequest { name: "a".to_owned(), policy: Some(policy), ..Default::default() }
}

#[tokio::test]
async fn a_failed_load_leaves_the_active_version_and_the_next_one_replaces_it() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let base = status(&mut client, 0).await.0.policy.unwrap();
    simulator.set_load_outcome(LoadOutcome::Failed("no such path".to_owned()), Times::Next(1));
    client.update_config(with_path(&base, "/opt")).await.unwrap();
    let (failed, active) = status(&mut client, 0).await;
    assert_eq!((failed.version, failed.status(), active), (2, old::PolicyStatus::Failed, 1));
    assert_eq!(failed.load_error, "no such path");
    assert_eq!(status(&mut client, 1).await.0.status(), old::PolicyStatus::Loaded);
    let request = old::GetSandboxRequest { name: "a".to_owned(), ..Default::default() };
    let sandbox = client.get_sandbox(request).await.unwrap().into_inner().sandbox.unwrap();
    assert_eq!(sandbox.status.unwrap().current_policy_version, 1);
    client.update_config(with_path(&base, "/srv")).await.unwrap();
    let (loaded, active) = status(&mut client, 0).await;
    assert_eq!((loaded.version, loaded.status(), active), (3, old::PolicyStatus::Loaded, 3));
    assert_eq!(status(&mut client, 2).await.0.status(), old::PolicyStatus::Failed);
    assert_eq!(status(&mut client, 1).await.0.status(), old::PolicyStatus::Superseded);
    simulator.stop().await;
}

#[tokio::test]
async fn a_held_load_stays_pending_until_it_is_released_or_reported() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let base = status(&mut client, 0).await.0.policy.unwrap();
    simulator.set_load_outcome(LoadOutcome::Held, Times::All);
    client.update_config(with_path(&base, "/opt")).await.unwrap();
    let (held, active) = status(&mut client, 0).await;
    assert_eq!((held.status(), active), (old::PolicyStatus::Pending, 1));
    simulator.set_load_outcome(LoadOutcome::Loaded, Times::All);
    let (loaded, active) = status(&mut client, 0).await;
    assert_eq!((loaded.status(), active), (old::PolicyStatus::Loaded, 2));

    simulator.set_load_outcome(LoadOutcome::Held, Times::All);
    client.update_config(with_path(&base, "/srv")).await.unwrap();
    simulator.report_policy_status("", "a", 3, Some("broken")).unwrap();
    assert_eq!(status(&mut client, 0).await.0.load_error, "broken");
    simulator.report_policy_status("", "a", 3, None).unwrap();
    let (loaded, active) = status(&mut client, 3).await;
    assert_eq!((loaded.status(), active), (old::PolicyStatus::Loaded, 3));
    assert!(loaded.load_error.is_empty());
    let missing = simulator.report_policy_status("", "a", 9, None).unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "policy revision not found"));
    let zero = simulator.report_policy_status("", "a", 0, None).unwrap_err();
    assert_eq!(zero.code(), Code::InvalidArgument);
    simulator.stop().await;
}

#[tokio::test]
async fn a_stopped_sandbox_loads_its_newest_policy_when_it_starts() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let base = status(&mut client, 0).await.0.policy.unwrap();
    let stop = old::StopSandboxRequest { name: "a".to_owned(), ..Default::default() };
    client.stop_sandbox(stop).await.unwrap();
    client.update_config(with_path(&base, "/opt")).await.unwrap();
    assert_eq!(status(&mut client, 0).await.1, 1);
    let start = old::StartSandboxRequest { name: "a".to_owned(), ..Default::default() };
    client.start_sandbox(start).await.unwrap();
    assert_eq!(status(&mut client, 0).await.1, 2);
    simulator.stop().await;
}

#[tokio::test]
async fn a_sandbox_without_a_policy_uses_the_policy_of_its_image() {
    let (simulator, mut client) = old_gateway().await;
    let mut in_image = sb::SandboxPolicy { version: 1, ..Default::default() };
    for name in ["web", "_provider_x"] {
        in_image.network_policies.insert(name.to_owned(), sb::NetworkPolicyRule::default());
    }
    simulator.set_image_policy("agent:1", in_image).unwrap();
    let template = old::SandboxTemplate { image: "agent:1".to_owned(), ..Default::default() };
    let spec = old::SandboxSpec { template: Some(template), ..Default::default() };
    let request =
        old::CreateSandboxRequest { name: "a".to_owned(), spec: Some(spec), ..Default::default() };
    client.create_sandbox(request.clone()).await.unwrap();
    let (found, active) = status(&mut client, 0).await;
    assert_eq!((found.version, active), (1, 1));
    let rules: Vec<_> = found.policy.unwrap().network_policies.into_keys().collect();
    assert_eq!(rules, ["web"], "names of the gateway are dropped");

    simulator.set_start_outcome(StartOutcome::Failed("no image".to_owned()));
    let second = old::CreateSandboxRequest { name: "b".to_owned(), ..request };
    client.create_sandbox(second).await.unwrap();
    let request = old::GetSandboxPolicyStatusRequest { name: "b".to_owned(), ..Default::default() };
    let none = client.get_sandbox_policy_status(request).await.unwrap_err();
    assert_eq!(none.message(), "no policy revision found for this sandbox");
    simulator.stop().await;
}

#[tokio::test]
async fn a_write_that_bypasses_callers_makes_a_revision_and_is_not_counted_as_theirs() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let version = simulator
        .change_policy("default", "a", |policy| {
            policy.network_policies.insert("x".to_owned(), sb::NetworkPolicyRule::default());
        })
        .unwrap();
    assert_eq!(version, 2);
    let (found, active) = status(&mut client, 0).await;
    assert!(found.policy.unwrap().network_policies.contains_key("x"));
    assert_eq!((active, found.provenance.len()), (2, 0));
    let counts = simulator.policy_counts("", "a").unwrap();
    assert_eq!(counts, PolicyCounts { writes: 0, revisions: 2 });
    simulator.stop().await;
}

#[tokio::test]
async fn a_release_without_the_marks_of_an_advisor_drops_them() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let mut policy = status(&mut client, 0).await.0.policy.unwrap();
    let endpoint = sb::NetworkEndpoint {
        host: "a.example".to_owned(),
        port: 443,
        advisor_proposed: true,
        provider_credentialed: true,
        ..Default::default()
    };
    let binary = sb::NetworkBinary { path: "/bin/x".to_owned(), harness: true };
    let rule = sb::NetworkPolicyRule {
        name: "web".to_owned(),
        endpoints: vec![endpoint],
        binaries: vec![binary],
    };
    policy.network_policies.insert("web".to_owned(), rule);
    for (drops, kept) in [(false, true), (true, false)] {
        simulator.set_drops_marks(drops);
        let update = old::UpdateConfigRequest {
            name: "a".to_owned(),
            policy: Some(policy.clone()),
            ..Default::default()
        };
        client.update_config(update).await.unwrap();
        let stored = status(&mut client, 0).await.0.policy.unwrap();
        let rule = &stored.network_policies["web"];
        assert_eq!((rule.endpoints[0].advisor_proposed, rule.binaries[0].harness), (kept, kept));
        assert!(!rule.endpoints[0].provider_credentialed, "only the gateway sets it");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn the_first_policy_of_a_sandbox_without_one_defines_its_static_sections() {
    let (simulator, mut client) = new_gateway().await;
    simulator.set_start_outcome(StartOutcome::Failed("not yet".to_owned()));
    client.create_sandbox(new_create("a")).await.unwrap();
    let policy = new_sb::SandboxPolicy { version: 1, ..Default::default() };
    let update = |policy| new::UpdateConfigRequest {
        sandbox: "a".to_owned(),
        policy: Some(policy),
        ..Default::default()
    };
    let first = client.update_config(update(policy.clone())).await.unwrap().into_inner();
    assert_eq!(first.version, 1);
    let mut other = policy;
    other.process = Some(new_sb::ProcessPolicy::default());
    let refused = client.update_config(update(other)).await.unwrap_err();
    let why = "process policy cannot be changed on a live sandbox (applied at startup)";
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, why));
    simulator.stop().await;
}
