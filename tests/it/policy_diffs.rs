//! Comparisons of policies through the API: revisions and documents, marks, limits and refusals.

use std::fmt::Write as _;

use shoreguard::app::long_work::{PER_CALLER_MAX, RUNNING_MAX, SHORT_BYTES_MAX};
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::PolicyDifferenceKind as Kind;
use shoreguard::policy::DOCUMENT_BYTES_MAX;
use shoreguard::resources::policies::domain::DIFFERENCES_MAX;
use tokio::task::JoinSet;
use tonic::Status;

use crate::approvals::{self, Proposal, fact};
use crate::policies::{GATEWAYS, get_version, seeded};
use crate::policy_writes::merge;
use crate::proposals::{Staff, govern};
use crate::support::policies::write_mark;
use crate::support::server::{Caller, TestServer};

fn version(version: u32) -> pb::PolicyOperand {
    pb::PolicyOperand { policy: Some(pb::policy_operand::Policy::Version(version)) }
}

fn document(text: &str) -> pb::PolicyOperand {
    pb::PolicyOperand { policy: Some(pb::policy_operand::Policy::Yaml(text.to_owned())) }
}

fn approval(id: i64) -> pb::PolicyOperand {
    pb::PolicyOperand { policy: Some(pb::policy_operand::Policy::ApprovalId(id)) }
}

fn request(
    gateway: &str,
    from: impl Into<Option<pb::PolicyOperand>>,
    to: impl Into<Option<pb::PolicyOperand>>,
) -> pb::DiffPoliciesRequest {
    pb::DiffPoliciesRequest {
        gateway: gateway.to_owned(),
        sandbox: "coder".to_owned(),
        from: from.into(),
        to: to.into(),
        ..Default::default()
    }
}

async fn diff(
    caller: &Caller,
    gateway: &str,
    from: impl Into<Option<pb::PolicyOperand>>,
    to: impl Into<Option<pb::PolicyOperand>>,
) -> Result<pb::DiffPoliciesResponse, Status> {
    Ok(caller.policies().diff_policies(request(gateway, from, to)).await?.into_inner())
}

/// Returns kind and path of each difference.
fn paths(diff: &pb::DiffPoliciesResponse) -> Vec<(Kind, &str)> {
    diff.policy_differences.iter().map(|found| (found.kind(), found.path.as_str())).collect()
}

/// Returns section and numbers of added, removed and changed values.
fn counts(diff: &pb::DiffPoliciesResponse) -> Vec<(&str, u32, u32, u32)> {
    let counts = diff.policy_section_counts.iter();
    counts.map(|of| (of.section.as_str(), of.added, of.removed, of.changed)).collect()
}

server_tests! {
    revisions_are_compared_in_both_directions,
    a_document_is_compared_with_a_revision,
    a_document_keeps_the_marks_of_a_revision_and_cannot_set_them,
    an_invalid_document_is_refused_with_its_path,
    documents_and_differences_are_limited,
    t16_a_caller_waits_for_its_turn_at_a_large_comparison,
    the_policy_of_an_approval_is_compared,
    t08_only_approvals_of_the_sandbox_are_compared,
}

async fn revisions_are_compared_in_both_directions(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let added = diff(&admin, name, version(1), version(2)).await.unwrap();
        let rule = "network_policies.allow_api_github_com_443";
        assert_eq!(paths(&added), [(Kind::Added, rule)]);
        let difference = &added.policy_differences[0];
        assert!(difference.old.is_empty() && difference.new.contains("host: api.github.com"));
        assert_eq!(counts(&added), [("network_policies", 1, 0, 0)]);
        assert!(!added.equivalent && added.omitted == 0);
        let digests = [
            get_version(&admin, name, 1).await.unwrap().digest,
            get_version(&admin, name, 2).await.unwrap().digest,
        ];
        assert_eq!([&added.from_digest, &added.to_digest], [&digests[0], &digests[1]]);

        let removed = diff(&admin, name, version(0), version(1)).await.unwrap();
        assert_eq!(paths(&removed), [(Kind::Removed, rule)]);
        assert_eq!(removed.policy_differences[0].old, difference.new);
        assert_eq!(counts(&removed), [("network_policies", 0, 1, 0)]);

        let none = diff(&admin, name, version(2), version(0)).await.unwrap();
        assert!(none.policy_differences.is_empty() && none.policy_section_counts.is_empty());
        assert!(none.equivalent && none.from_digest == none.to_digest);
        let missing = diff(&admin, name, version(1), version(9)).await;
        assert_refused!(missing, NotFound, "NOT_FOUND");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_document_is_compared_with_a_revision(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let found = get_version(&admin, name, 2).await.unwrap();
        let same = diff(&admin, name, version(2), document(&found.yaml)).await.unwrap();
        assert!(same.policy_differences.is_empty() && same.equivalent, "{same:?}");
        assert_eq!([&same.from_digest, &same.to_digest], [&found.digest, &found.digest]);
        let export = pb::ExportPolicyRequest {
            gateway: name.to_owned(),
            sandbox: "coder".to_owned(),
            ..Default::default()
        };
        let exported = admin.policies().export_policy(export).await.unwrap().into_inner();
        let same = diff(&admin, name, document(&exported.yaml), version(2)).await.unwrap();
        assert!(same.policy_differences.is_empty() && same.from_digest == found.digest);

        let edited = found
            .yaml
            .replace("run_as_user: sandbox", "run_as_user: '1000'")
            .replace("        port: 443\n", "        port: 443\n        access: full\n");
        let changed = diff(&admin, name, version(2), document(&edited)).await.unwrap();
        assert_eq!(
            paths(&changed),
            [
                (Kind::Changed, "process.run_as_user"),
                (Kind::Added, "network_policies.allow_api_github_com_443.endpoints[0].access"),
            ]
        );
        let values: Vec<(&str, &str)> = changed
            .policy_differences
            .iter()
            .map(|found| (found.old.as_str(), found.new.as_str()))
            .collect();
        assert_eq!(values, [("sandbox", "\"1000\""), ("", "full")]);
        assert_eq!(counts(&changed), [("process", 0, 0, 1), ("network_policies", 1, 0, 0)]);
        assert!(!changed.equivalent);

        // Spelled differently, it allows the same.
        let spelled = found.yaml.replace("host: api.github.com", "host: API.GitHub.com.");
        let spelled = diff(&admin, name, version(2), document(&spelled)).await.unwrap();
        assert!(spelled.equivalent && spelled.from_digest != spelled.to_digest);
        assert_eq!(counts(&spelled), [("network_policies", 1, 1, 0)]);

        // Two documents can be compared without a sandbox.
        let both = pb::DiffPoliciesRequest {
            sandbox: "nobody".to_owned(),
            ..request(name, document("version: 1"), document("version: 2"))
        };
        let both = admin.policies().diff_policies(both).await.unwrap().into_inner();
        assert_eq!(paths(&both), [(Kind::Changed, "version")]);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_document_keeps_the_marks_of_a_revision_and_cannot_set_them(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        write_mark(&simulator).await;
        let found = get_version(&admin, name, 3).await.unwrap();
        assert_eq!(found.marks, ["network_policies.site.endpoints[0].advisor_proposed"]);
        assert!(!found.yaml.contains("advisor_proposed"), "{}", found.yaml);

        // The document has no mark, and applying it would not remove the mark.
        for (from, to) in [(version(3), document(&found.yaml)), (document(&found.yaml), version(3))]
        {
            let same = diff(&admin, name, from, to).await.unwrap();
            assert!(same.policy_differences.is_empty(), "{same:?}");
            assert_eq!([&same.from_digest, &same.to_digest], [&found.digest, &found.digest]);
        }
        let renamed = found.yaml.replace("  site:\n", "  other:\n");
        let renamed = diff(&admin, name, version(3), document(&renamed)).await.unwrap();
        let expected =
            [(Kind::Added, "network_policies.other"), (Kind::Removed, "network_policies.site")];
        assert_eq!(paths(&renamed), expected);
        let added = &renamed.policy_differences[0].new;
        assert!(added.contains("advisor_proposed: true"), "{added}");

        let marked = "network_policies: {a: {endpoints: [{host: a, advisor_proposed: true}]}}";
        let refused = diff(&admin, name, version(3), document(marked)).await;
        let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains("network_policies.a.endpoints[0].advisor_proposed"));
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn an_invalid_document_is_refused_with_its_path(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let rule = |text: &str| format!("network_policies: {{a: {text}}}");
        for (text, path) in [
            ("netwrok_policies: {}".to_owned(), "`netwrok_policies`"),
            (rule("{endpoints: [{host: a, hots: b}]}"), "`network_policies.a.endpoints[0].hots`"),
            (rule("{endpoints: [{host: a, host: b}]}"), "`network_policies.a.endpoints[0].host`"),
            (
                rule("{endpoints: [{host: a, provider_credentialed: true}]}"),
                "`network_policies.a.endpoints[0].provider_credentialed`",
            ),
            (
                rule("{binaries: [{path: /a, harness: true}]}"),
                "`network_policies.a.binaries[0].harness`",
            ),
            (rule("{endpoints: [{host: 1}]}"), "`network_policies.a.endpoints[0].host`"),
            ("version: one".to_owned(), "`version`"),
            ("policy: {}\nversion: 1".to_owned(), "`version`"),
            ("metadata: {owner: me}\npolicy: {}".to_owned(), "`metadata.owner`"),
            ("process:".to_owned(), "`process`"),
            ("- a".to_owned(), "mapping"),
            ("a: [".to_owned(), "not valid"),
        ] {
            let refused = diff(&admin, name, version(1), document(&text)).await;
            let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
            let why = refused.message();
            assert!(why.contains("`to.yaml`") && why.contains(path), "{text}: {why}");
        }
        let refused = diff(&admin, name, document("a: 1"), version(1)).await;
        let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains("`from.yaml`"), "{refused:?}");
        for (from, to, field) in [
            (None, Some(version(1)), "`from`"),
            (Some(version(1)), None, "`to`"),
            (Some(version(1)), Some(pb::PolicyOperand::default()), "`to`"),
        ] {
            let refused = diff(&admin, name, from, to).await;
            let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
            assert!(refused.message().contains(field), "{refused:?}");
        }
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn documents_and_differences_are_limited(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let text = |bytes: usize| {
            let start = "version: 1\n# ";
            format!("{start}{}", "x".repeat(bytes - start.len()))
        };
        let (largest, larger) = (text(DOCUMENT_BYTES_MAX), text(DOCUMENT_BYTES_MAX + 1));
        let same = diff(&admin, name, document(&largest), document("version: 1")).await.unwrap();
        assert!(same.policy_differences.is_empty());
        let refused = diff(&admin, name, document("version: 1"), document(&larger)).await;
        let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains("at most 262144 bytes, got 262145"), "{refused:?}");

        let deep = format!("network_policies: {}{}", "[".repeat(16), "]".repeat(16));
        let refused = diff(&admin, name, document("version: 1"), document(&deep)).await;
        let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains("deeper than 16 levels"), "{refused:?}");

        // Each list contains the previous list ten times.
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            writeln!(bomb, "a{level}: &a{level} [{aliases}]").unwrap();
        }
        let refused = diff(&admin, name, document("version: 1"), document(&bomb)).await;
        assert_refused!(refused, InvalidArgument, "INVALID_FIELD");

        let count = DIFFERENCES_MAX + 200;
        let mut many = "network_policies:\n".to_owned();
        for n in 0..count {
            writeln!(many, "  r{n}: {{}}").unwrap();
        }
        let found = diff(&admin, name, document("version: 1"), document(&many)).await.unwrap();
        assert_eq!((found.policy_differences.len(), found.omitted), (DIFFERENCES_MAX, 201));
        let added = u32::try_from(count).unwrap();
        assert_eq!(counts(&found), [("version", 0, 1, 0), ("network_policies", added, 0, 0)]);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn the_policy_of_an_approval_is_compared(sg: TestServer) {
    let viewer = sg.with_token(&sg.create_user("vic@example.com", pb::Role::Viewer).await);
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let Staff { dora, .. } = govern(&sg, name, 1).await;
        write_mark(&simulator).await;
        let change = merge(&dora, name, "one.example").await.unwrap();
        let id = change.approval_id;
        let added = diff(&viewer, name, version(0), approval(id)).await.unwrap();
        assert_eq!(paths(&added), [(Kind::Added, "network_policies.one_example")]);
        assert_eq!([&added.from_digest, &added.to_digest], [&change.base_digest, &change.digest]);
        let removed = diff(&viewer, name, approval(id), version(0)).await.unwrap();
        assert_eq!(paths(&removed), [(Kind::Removed, "network_policies.one_example")]);

        // The document has no mark, and applying it would not remove the mark.
        let content = viewer.approval(id).await.content.unwrap();
        assert!(!content.marks.is_empty() && !content.yaml.contains("advisor_proposed"));
        let yaml = document(&content.yaml);
        for (from, to) in [(approval(id), yaml.clone()), (yaml, approval(id))] {
            let same = diff(&viewer, name, from, to).await.unwrap();
            assert!(same.policy_differences.is_empty(), "{same:?}");
            assert_eq!([&same.from_digest, &same.to_digest], [&change.digest, &change.digest]);
        }

        let other = merge(&dora, name, "two.example").await.unwrap().approval_id;
        let withdraw = pb::WithdrawProposalRequest { approval_id: id, ..Default::default() };
        dora.approvals().withdraw_proposal(withdraw).await.unwrap();
        // An approval keeps its policy after its end.
        let both = diff(&viewer, name, approval(id), approval(other)).await.unwrap();
        let mut found = paths(&both);
        found.sort_unstable_by_key(|(_, path)| *path);
        let expected = [
            (Kind::Removed, "network_policies.one_example"),
            (Kind::Added, "network_policies.two_example"),
        ];
        assert_eq!(found, expected);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn t08_only_approvals_of_the_sandbox_are_compared(sg: TestServer) {
    let (admin, vera) = (sg.admin(), sg.create_user("vera@example.com", pb::Role::Operator).await);
    let mut elsewhere = Vec::new();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let Staff { dora, .. } = govern(&sg, name, 1).await;
        let id = merge(&dora, name, "one.example").await.unwrap().approval_id;
        let of = Proposal { gateway: name, sandbox: "builder", ..approvals::proposal("a.example") };
        let (builder, _) = approvals::propose(&sg, &vera, &of).await.unwrap();
        for missing in elsewhere.iter().copied().chain([builder, i64::MAX]) {
            for (from, to) in
                [(version(1), approval(missing)), (approval(missing), document("version: 1"))]
            {
                let refused = diff(&admin, name, from, to).await;
                let refused = assert_refused!(refused, NotFound, "NOT_FOUND");
                assert!(refused.message().contains(&missing.to_string()), "{refused:?}");
            }
        }
        elsewhere.push(id);
        // A gateway can have been upgraded since an approval was opened.
        let of = Proposal { gateway: name, sandbox: "coder", ..approvals::proposal("b.example") };
        let (other, _) = approvals::propose(&sg, &vera, &of).await.unwrap();

        // A review of a pin has no policy.
        let pin = pb::PinPolicyRequest {
            gateway: name.to_owned(),
            sandbox: "coder".to_owned(),
            ..Default::default()
        };
        admin.policies().pin_policy(pin).await.unwrap();
        let unpin = pb::UnpinPolicyRequest {
            gateway: name.to_owned(),
            sandbox: "coder".to_owned(),
            ..Default::default()
        };
        let refused = admin.policies().unpin_policy(unpin).await;
        let refused = assert_refused!(refused, FailedPrecondition, "APPROVAL_REQUIRED");
        let of_pin = fact(&refused, "approval").parse().unwrap();
        let is_other = generation == shoreguard_simulator::Generation::V0_0;
        let refusals = [(of_pin, "rule.change"), (0, "above 0"), (-1, "above 0")];
        let refusals = refusals.into_iter().chain(is_other.then_some((other, "generation 0.0")));
        for (bad, why) in refusals {
            let refused = diff(&admin, name, version(1), approval(bad)).await;
            let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
            let message = refused.message();
            assert!(message.contains("`to.approval_id`") && message.contains(why), "{refused:?}");
        }
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn t16_a_caller_waits_for_its_turn_at_a_large_comparison(sg: TestServer) {
    let [(name, generation), ..] = GATEWAYS;
    let simulator = seeded(&sg, name, generation).await;
    let mut held = Vec::new();
    for _ in 0..RUNNING_MAX {
        held.push(sg.app.long_work.turn(None, SHORT_BYTES_MAX + 1).await.unwrap());
    }
    let small = diff(&sg.admin(), name, document("version: 1"), version(1)).await;
    small.expect("a small comparison needs no turn");
    let large = format!("version: 1\n# {}", "x".repeat(SHORT_BYTES_MAX));
    let mut calls = JoinSet::new();
    for _ in 0..=PER_CALLER_MAX {
        let (caller, large) = (sg.admin(), large.clone());
        calls.spawn(async move { diff(&caller, name, document(&large), version(1)).await });
    }
    // No turn ends, so the first response is that of the call that may not wait.
    let refused = calls.join_next().await.unwrap().unwrap();
    assert_refused!(refused, ResourceExhausted, "BUSY");
    drop(held);
    while let Some(done) = calls.join_next().await {
        done.unwrap().expect("the call waited for its turn");
    }
    simulator.stop().await;
    sg.finish().await;
}
