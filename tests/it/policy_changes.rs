//! Changes of policies through the API, validated only: results, etags, and what is refused.

use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::PolicyChangeOutcome as Outcome;
use shoreguard::pb::v1::policy_edit::Edit;
use tonic::Status;

use crate::approvals::fact;
use crate::policies::{GATEWAYS, get_version, seeded};
use crate::support::policies::write_mark;
use crate::support::server::{Caller, TestServer};

const RULE: &str = "network_policies.allow_api_github_com_443";

server_tests! {
    a_document_replaces_a_policy_or_is_merged_into_it,
    edits_presets_and_reverts_lead_to_their_policies,
    a_full_write_keeps_marks,
    a_stale_etag_and_static_parts_are_refused,
    requests_for_changes_are_validated,
}

fn apply_request(gateway: &str, mode: pb::PolicyApplyMode, yaml: &str) -> pb::ApplyPolicyRequest {
    pb::ApplyPolicyRequest {
        gateway: gateway.to_owned(),
        sandbox: "coder".to_owned(),
        yaml: yaml.to_owned(),
        mode: mode.into(),
        validate_only: true,
        ..Default::default()
    }
}

async fn apply(
    caller: &Caller,
    request: pb::ApplyPolicyRequest,
) -> Result<pb::PolicyChange, Status> {
    let answer = caller.policies().apply_policy(request).await?.into_inner();
    Ok(answer.policy_change.unwrap())
}

async fn replace(caller: &Caller, gateway: &str, yaml: &str) -> Result<pb::PolicyChange, Status> {
    apply(caller, apply_request(gateway, pb::PolicyApplyMode::Replace, yaml)).await
}

async fn edit(
    caller: &Caller,
    gateway: &str,
    edits: Vec<Edit>,
) -> Result<pb::PolicyChange, Status> {
    let policy_edits = edits.into_iter().map(|edit| pb::PolicyEdit { edit: Some(edit) }).collect();
    let request = pb::EditPolicyRequest {
        gateway: gateway.to_owned(),
        sandbox: "coder".to_owned(),
        policy_edits,
        validate_only: true,
        ..Default::default()
    };
    let answer = caller.policies().edit_policy(request).await?.into_inner();
    Ok(answer.policy_change.unwrap())
}

fn preset_request(gateway: &str, name: &str) -> pb::ApplyPolicyPresetRequest {
    pb::ApplyPolicyPresetRequest {
        gateway: gateway.to_owned(),
        sandbox: "coder".to_owned(),
        policy_preset: name.to_owned(),
        validate_only: true,
        ..Default::default()
    }
}

fn revert_request(gateway: &str, version: u32) -> pb::RevertPolicyRequest {
    pb::RevertPolicyRequest {
        gateway: gateway.to_owned(),
        sandbox: "coder".to_owned(),
        version,
        validate_only: true,
        ..Default::default()
    }
}

fn paths(change: &pb::PolicyChange) -> Vec<&str> {
    change.policy_differences.iter().map(|found| found.path.as_str()).collect()
}

async fn a_document_replaces_a_policy_or_is_merged_into_it(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let (first, newest) = (
            get_version(&admin, name, 1).await.unwrap(),
            get_version(&admin, name, 2).await.unwrap(),
        );
        let same = replace(&admin, name, &newest.yaml).await.unwrap();
        assert_eq!(same.outcome(), Outcome::UpToDate);
        assert!(paths(&same).is_empty() && same.digest == newest.digest);
        assert_eq!((same.base_version, &same.base_digest), (2, &newest.digest));
        assert_eq!(same.etag, newest.policy_hash);
        let spelled = newest.yaml.replace("host: api.github.com", "host: API.GitHub.com.");
        let spelled = replace(&admin, name, &spelled).await.unwrap();
        assert_eq!(spelled.outcome(), Outcome::UpToDate);

        let back = replace(&admin, name, &first.yaml).await.unwrap();
        assert_eq!((back.outcome(), paths(&back)), (Outcome::Validated, vec![RULE]));
        assert_eq!(back.digest, first.digest);
        let merged = apply_request(name, pb::PolicyApplyMode::Merge, &first.yaml);
        assert_eq!(apply(&admin, merged).await.unwrap().outcome(), Outcome::UpToDate);
        let more = "network_policies: {new: {endpoints: [{host: b.example, port: 1}], binaries: [{path: /x}]}}";
        let merged = apply_request(name, pb::PolicyApplyMode::Merge, more);
        let merged = apply(&admin, merged).await.unwrap();
        assert_eq!(
            (merged.outcome(), paths(&merged)),
            (Outcome::Validated, vec!["network_policies.new"])
        );
        assert_eq!(merged.policy_section_counts[0].added, 1);

        // Nothing was written.
        assert_eq!(get_version(&admin, name, 0).await.unwrap().digest, newest.digest);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn edits_presets_and_reverts_lead_to_their_policies(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let remove = || Edit::RemoveRule(pb::RemovePolicyRule { rule_name: RULE[17..].to_owned() });
        let add = Edit::AddPaths(pb::AddPolicyPaths {
            read_only: vec!["/srv".to_owned()],
            read_write: Vec::new(),
        });
        let edited = edit(&admin, name, vec![remove(), add]).await.unwrap();
        assert_eq!(edited.outcome(), Outcome::Validated);
        assert!(paths(&edited)[0].starts_with("filesystem_policy.read_only["), "{edited:?}");
        assert_eq!(paths(&edited)[1], RULE);
        let first = get_version(&admin, name, 1).await.unwrap();
        let edited = edit(&admin, name, vec![remove(), remove()]).await.unwrap();
        assert_eq!(edited.digest, first.digest);

        let preset = admin.policies().apply_policy_preset(preset_request(name, "pypi")).await;
        let preset = preset.unwrap().into_inner().policy_change.unwrap();
        assert_eq!(paths(&preset), ["network_policies.pypi"]);
        let unknown = admin.policies().apply_policy_preset(preset_request(name, "pip")).await;
        assert_refused!(unknown, NotFound, "NOT_FOUND");

        let reverted = admin.policies().revert_policy(revert_request(name, 1)).await;
        let reverted = reverted.unwrap().into_inner().policy_change.unwrap();
        assert_eq!((reverted.outcome(), &reverted.digest), (Outcome::Validated, &first.digest));
        let reverted = admin.policies().revert_policy(revert_request(name, 2)).await;
        let reverted = reverted.unwrap().into_inner().policy_change.unwrap();
        assert_eq!(reverted.outcome(), Outcome::UpToDate);
        let unknown = admin.policies().revert_policy(revert_request(name, 9)).await;
        assert_refused!(unknown, NotFound, "NOT_FOUND");

        let unknown = Edit::AddDenyRules(pb::AddPolicyDenyRules {
            target: Some(pb::PolicyEditTarget {
                host: "none.example".to_owned(),
                ports: vec![443],
                ..Default::default()
            }),
            yaml: "[{method: DELETE, path: /**}]".to_owned(),
        });
        let refused = edit(&admin, name, vec![remove(), unknown]).await;
        let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
        assert!(
            refused.message().starts_with("`policy_edits[1].add_deny_rules` has"),
            "{refused:?}"
        );
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_full_write_keeps_marks(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        write_mark(&simulator).await;
        let marked = get_version(&admin, name, 3).await.unwrap();
        assert_eq!(marked.marks.len(), 1);
        let same = replace(&admin, name, &marked.yaml).await.unwrap();
        assert_eq!((same.outcome(), &same.digest), (Outcome::UpToDate, &marked.digest));
        // The same endpoint has the mark under every name of its rule, and as the result of a merge.
        let renamed = marked.yaml.replace("site", "other");
        let renamed = replace(&admin, name, &renamed).await.unwrap();
        let added = renamed.policy_differences.iter().find(|found| found.old.is_empty()).unwrap();
        assert!(added.new.contains("advisor_proposed: true"), "{added:?}");
        let merged = apply_request(name, pb::PolicyApplyMode::Merge, &marked.yaml);
        let merged = apply(&admin, merged).await.unwrap();
        assert!(paths(&merged).iter().all(|path| !path.contains("advisor_proposed")), "{merged:?}");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_stale_etag_and_static_parts_are_refused(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let newest = get_version(&admin, name, 2).await.unwrap();
        let request = apply_request(name, pb::PolicyApplyMode::Replace, &newest.yaml);
        let present = newest.policy_hash;
        let fresh = pb::ApplyPolicyRequest { etag: present.clone(), ..request.clone() };
        assert_eq!(apply(&admin, fresh).await.unwrap().outcome(), Outcome::UpToDate);
        let stale = pb::ApplyPolicyRequest { etag: "stale".to_owned(), ..request };
        let stale = assert_refused!(apply(&admin, stale).await, Aborted, "CONCURRENT_CHANGE");
        assert!(stale.message().contains(&present), "{stale:?}");
        assert_eq!(fact(&stale, "etag"), present);

        for (from, to, path) in [
            ("run_as_user: sandbox", "run_as_user: '1000'", "process.run_as_user"),
            (
                "include_workdir: true",
                "include_workdir: false",
                "filesystem_policy.include_workdir",
            ),
            ("    - /usr\n", "", "filesystem_policy.read_only[\"/usr\"]"),
        ] {
            let refused = replace(&admin, name, &newest.yaml.replace(from, to)).await;
            let refused = assert_refused!(refused, InvalidArgument, "POLICY_STATIC");
            assert!(refused.message().contains(path), "{refused:?}");
        }
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn requests_for_changes_are_validated(sg: TestServer) {
    let admin = sg.admin();
    let (name, generation) = GATEWAYS[0];
    let simulator = seeded(&sg, name, generation).await;
    let request = || apply_request(name, pb::PolicyApplyMode::Replace, "version: 1");
    for (request, field) in [
        (pb::ApplyPolicyRequest { sandbox: String::new(), ..request() }, "sandbox"),
        (pb::ApplyPolicyRequest { yaml: String::new(), ..request() }, "yaml"),
        (pb::ApplyPolicyRequest { yaml: "a: 1".to_owned(), ..request() }, "yaml"),
        (pb::ApplyPolicyRequest { mode: 9, ..request() }, "mode"),
        (pb::ApplyPolicyRequest { comment: "a\nb".to_owned(), ..request() }, "comment"),
        (
            pb::ApplyPolicyRequest {
                grant_duration: Some(prost_types::Duration::default()),
                ..request()
            },
            "grant_duration",
        ),
        (pb::ApplyPolicyRequest { etag: "x".repeat(1_025), ..request() }, "etag"),
    ] {
        let refused = apply(&admin, request).await;
        let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().starts_with(&format!("`{field}` ")), "{refused:?}");
    }
    let refused = edit(&admin, name, Vec::new()).await;
    assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    let refused = admin.policies().apply_policy_preset(preset_request(name, "")).await;
    assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    let refused = admin.policies().revert_policy(revert_request(name, 0)).await;
    assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    simulator.stop().await;
    sg.finish().await;
}
