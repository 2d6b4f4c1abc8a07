//! What is shown of a review besides its content and its votes: who could vote in each group, an earlier rejection,
//! what prevents the write, refused connections, and the limits of what agents write.

use std::time::Duration;

use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::bypass_events::worker::RETENTION;
use shoreguard::workers;
use shoreguard_simulator::{Generation, Proposal as Draft, Simulator};

use super::{Proposal, govern, named, people, proposal, propose, require, rule, user};
use crate::followers::{Edge, of_chunk};
use crate::policies::{GATEWAYS, change_directly, endpoint, with_rule};
use crate::policy_writes::merge;
use crate::proposals::{self, Staff};
use crate::support::pause;
use crate::support::server::{Caller, TestServer};

/// Maximum size of the texts of an agent and a gateway in one approval, in bytes.
const TEXTS_BYTES_MAX: usize = 32 << 10;

server_tests! {
    each_group_shows_what_it_lacks_and_who_could_vote,
    many_possible_voters_are_counted_and_twenty_are_named,
    an_earlier_rejection_of_the_same_change_is_shown,
    a_gateway_that_does_not_answer_is_a_blocker,
}

server_tests_without_jobs! {
    t20_texts_of_an_agent_are_counted_and_limited,
}

each_generation! {
    server_tests_without_jobs, GATEWAYS;
    a_policy_for_all_and_a_sandbox_that_does_not_run_are_blockers,
    refused_connections_of_a_draft_are_shown,
    only_lines_that_are_shown_of_refused_connections_are_read,
    a_draft_that_was_rejected_before_shows_it,
}

async fn each_group_shows_what_it_lacks_and_who_could_vote(sg: TestServer) {
    let of = people(&sg).await;
    let security = named(vec![user(&sg, "ana"), user(&sg, "ben"), user(&sg, "dora")], vec![]);
    let owners = named(vec![user(&sg, "cleo")], vec![]);
    govern(&sg, &rule(&[("security", 2, security), ("owners", 1, owners)])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let shown = async || {
        let mut detail = sg.with_token(&of.cleo).approval(id).await;
        let groups = detail.rules.remove(0).groups.into_iter();
        let shown = groups.map(|group| {
            assert_eq!(group.could_vote_count as usize, group.could_vote.len());
            (group.name, group.lacks, group.could_vote.join(" "))
        });
        shown.collect::<Vec<_>>()
    };
    let expected = |security: (u32, &str), owners: (u32, &str)| {
        let group =
            |name: &str, (lacks, who): (u32, &str)| (name.to_owned(), lacks, who.to_owned());
        [group("security", security), group("owners", owners)]
    };
    // The author is a voter, but does not count.
    let both = "ana@example.com ben@example.com";
    let cleo = "cleo@example.com";
    assert_eq!(shown().await, expected((2, both), (1, cleo)));
    sg.with_token(&of.ana).approve(id).await.unwrap();
    assert_eq!(shown().await, expected((1, "ben@example.com"), (1, cleo)));
    sg.with_token(&of.cleo).approve(id).await.unwrap();
    assert_eq!(shown().await, expected((1, "ben@example.com"), (0, "")));
    // After the decision, nothing is missing.
    sg.with_token(&of.ben).approve(id).await.unwrap();
    assert_eq!(shown().await, expected((0, ""), (0, "")));
    sg.finish().await;
}

async fn many_possible_voters_are_counted_and_twenty_are_named(sg: TestServer) {
    let of = people(&sg).await;
    for n in 0..21 {
        sg.admin().create_key(&format!("voter-{n}"), pb::Role::Operator).await;
    }
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let detail = sg.with_token(&of.ana).approval(id).await;
    let group = &detail.rules[0].groups[0];
    assert_eq!((group.could_vote.len(), group.lacks), (20, 1), "{group:?}");
    // The four operators, the keys, and the admin.
    assert!(group.could_vote_count > 4 + 21, "{group:?}");
    assert_eq!(detail.could_vote, group.could_vote);
    sg.finish().await;
}

async fn an_earlier_rejection_of_the_same_change_is_shown(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (ana, ben) = (sg.with_token(&of.ana), sg.with_token(&of.ben));
    let same = proposal("a.example.com");
    let (first, _) = propose(&sg, &of.dora, &same).await.unwrap();
    ana.vote(first, pb::VoteDecision::Reject).await.unwrap();
    assert_eq!(ana.approval(first).await.earlier_rejection, None, "a review does not show its own");
    let (second, _) = propose(&sg, &of.dora, &same).await.unwrap();
    let shown = ben.approval(second).await.earlier_rejection.unwrap();
    assert_eq!((shown.approval_id, shown.voter.as_str()), (first, "ana@example.com"));
    let closed = ana.approval(first).await.approval.unwrap();
    assert_eq!((shown.comment.as_str(), shown.rejection_time), ("a reason", closed.close_time));
    // The last one is shown, also to a proposer.
    ben.vote(second, pb::VoteDecision::Reject).await.unwrap();
    let (third, _) = propose(&sg, &of.dora, &same).await.unwrap();
    let shown = sg.with_token(&of.dora).approval(third).await.earlier_rejection.unwrap();
    assert_eq!((shown.approval_id, shown.voter.as_str()), (second, "ben@example.com"));
    // Neither another content, nor another sandbox, nor another end.
    let (other, _) = propose(&sg, &of.dora, &proposal("b.example.com")).await.unwrap();
    let elsewhere = Proposal { sandbox: "other", ..same.clone() };
    let (elsewhere, _) = propose(&sg, &of.dora, &elsewhere).await.unwrap();
    for id in [other, elsewhere] {
        assert_eq!(ana.approval(id).await.earlier_rejection, None);
    }
    let withdraw = pb::WithdrawProposalRequest { approval_id: other, ..Default::default() };
    sg.with_token(&of.dora).approvals().withdraw_proposal(withdraw).await.unwrap();
    let (again, _) = propose(&sg, &of.dora, &proposal("b.example.com")).await.unwrap();
    assert_eq!(ana.approval(again).await.earlier_rejection, None);
    sg.finish().await;
}

async fn blockers(caller: &Caller, id: i64) -> Vec<String> {
    caller.approval(id).await.blockers
}

async fn a_gateway_that_does_not_answer_is_a_blocker(sg: TestServer) {
    let of = people(&sg).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    let shown = blockers(&ana, id).await;
    assert!(shown.len() == 1 && shown[0].contains("does not answer"), "{shown:?}");
    // After the end, nothing is written.
    ana.vote(id, pb::VoteDecision::Reject).await.unwrap();
    assert!(blockers(&ana, id).await.is_empty());
    sg.finish().await;
}

/// Deletes the sandbox `coder` without Shoreguard. The fields are equal in both generations.
async fn delete_coder(simulator: &Simulator) {
    let address = format!("http://{}", simulator.addr());
    let mut client = old::open_shell_client::OpenShellClient::connect(address).await.unwrap();
    let delete = old::DeleteSandboxRequest { name: "coder".to_owned(), ..Default::default() };
    client.delete_sandbox(delete).await.unwrap();
}

async fn a_policy_for_all_and_a_sandbox_that_does_not_run_are_blockers(
    sg: TestServer,
    (_, generation): (&str, Generation),
) {
    let mut edge = Edge::start(&sg, generation).await;
    let Staff { ana, dora, .. } = proposals::govern(&sg, "edge", 2).await;
    let id = merge(&dora, "edge", "one.example").await.unwrap().approval_id;
    edge.follow(&sg).await;
    assert!(blockers(&ana, id).await.is_empty());
    let for_all = old::UpdateConfigRequest {
        global: true,
        policy: Some(with_rule("all", endpoint("all.example", 443))),
        ..Default::default()
    };
    change_directly(&edge.simulator, for_all).await;
    for _ in 0..2 {
        edge.follow(&sg).await;
        let shown = blockers(&ana, id).await;
        assert!(shown.len() == 1 && shown[0].contains("for all sandboxes"), "{shown:?}");
    }
    let delete = old::UpdateConfigRequest {
        global: true,
        setting_key: "policy".to_owned(),
        delete_setting: true,
        ..Default::default()
    };
    change_directly(&edge.simulator, delete).await;
    edge.follow(&sg).await;
    assert!(blockers(&ana, id).await.is_empty());
    let stop = pb::StopSandboxRequest {
        gateway: "edge".to_owned(),
        sandbox: "coder".to_owned(),
        ..Default::default()
    };
    sg.admin().sandboxes().stop_sandbox(stop).await.unwrap();
    edge.follow(&sg).await;
    let shown = blockers(&ana, id).await;
    assert!(shown.len() == 1 && shown[0].contains("is stopped"), "{shown:?}");
    delete_coder(&edge.simulator).await;
    loop {
        edge.follow(&sg).await;
        let shown = blockers(&ana, id).await;
        if shown.iter().any(|blocker| blocker.contains("does not list the sandbox")) {
            break;
        }
        pause().await;
    }
    sg.finish().await;
}

/// Writes to the log of `coder` that a connection of curl was refused.
fn log_refusal(edge: &Edge, host: &str, pid: u32) {
    let line = format!("NET:OPEN [MED] DENIED /usr/bin/curl({pid}) -> {host}:443 [engine:opa]");
    edge.simulator.log("default", "coder", "OCSF", &line).unwrap();
}

async fn refused_connections_of_a_draft_are_shown(
    sg: TestServer,
    (_, generation): (&str, Generation),
) {
    let mut edge = Edge::start(&sg, generation).await;
    let viewer = sg.with_token(&sg.create_user("vic@example.com", pb::Role::Viewer).await);
    // They are written before the agent asks.
    for pid in 0..25 {
        log_refusal(&edge, "wanted.example.com", pid);
    }
    log_refusal(&edge, "other.example.com", 99);
    for line in [
        "NET:OPEN [INFO] ALLOWED /usr/bin/curl(98) -> wanted.example.com:443",
        "NET:OPEN [MED] DENIED /usr/bin/wget(97) -> wanted.example.com:443",
    ] {
        edge.simulator.log("default", "coder", "OCSF", line).unwrap();
    }
    edge.follow(&sg).await;
    let chunk = edge.propose("wanted.example.com");
    edge.follow(&sg).await;
    let id = of_chunk(&viewer, &chunk).await.unwrap().id;
    let shown = viewer.approval(id).await.refused_connections;
    let pids: Vec<String> = (5..25).rev().map(|pid| format!("curl({pid})")).collect();
    assert_eq!(shown.len(), pids.len(), "{shown:?}");
    for (refused, pid) in shown.iter().zip(&pids) {
        assert!(refused.line.contains(pid) && refused.log_time.is_some(), "{refused:?}");
        let of = (refused.binary.as_str(), refused.host.as_str());
        assert_eq!(of, ("/usr/bin/curl", "wanted.example.com"));
    }
    // A newer line replaces the oldest one of its connection, and those of others stay.
    let stored = async || sg.sql("UPDATE refused_connections SET host = host").await;
    assert_eq!(stored().await, 22);
    log_refusal(&edge, "wanted.example.com", 25);
    edge.follow(&sg).await;
    let shown = viewer.approval(id).await.refused_connections;
    assert!(shown.len() == 20 && shown[0].line.contains("curl(25)"), "{shown:?}");
    assert_eq!(stored().await, 22);
    // A review of something else shows no lines.
    let other = sg.admin();
    let other = other.approvals().list_approvals(pb::ListApprovalsRequest::default()).await;
    let other = other.unwrap().into_inner().approvals.into_iter().find(|found| found.id != id);
    assert!(viewer.approval(other.unwrap().id).await.refused_connections.is_empty());
    sg.app.db.advance_clock(Duration::from_hours(8 * 24));
    while workers::run_once(&sg.app, &RETENTION).await.unwrap().unwrap().more {}
    assert_eq!(stored().await, 0);
    sg.finish().await;
}

async fn only_lines_that_are_shown_of_refused_connections_are_read(
    sg: TestServer,
    (_, generation): (&str, Generation),
) {
    let mut edge = Edge::start(&sg, generation).await;
    log_refusal(&edge, "wanted.example.com", 1);
    for n in 0..30 {
        log_refusal(&edge, &format!("other-{n}.example.com"), n);
    }
    edge.follow(&sg).await;
    let chunk = edge.propose("wanted.example.com");
    edge.follow(&sg).await;
    let admin = sg.admin();
    let id = of_chunk(&admin, &chunk).await.unwrap().id;
    // Reading one of the other lines fails: a line cannot be null.
    for statement in [
        "ALTER TABLE refused_connections RENAME TO all_connections",
        "CREATE VIEW refused_connections AS SELECT id, gateway_id, sandbox_uid, at, \"binary\", host, \
         CASE WHEN host = 'wanted.example.com' THEN line END AS line, line_hash, created_at FROM all_connections",
    ] {
        sg.sql(statement).await;
    }
    let shown = admin.approval(id).await.refused_connections;
    assert!(shown.len() == 1 && shown[0].line.contains("wanted.example.com"), "{shown:?}");
    assert_eq!(sg.sql("UPDATE all_connections SET host = host").await, 31);
    sg.finish().await;
}

async fn a_draft_that_was_rejected_before_shows_it(
    sg: TestServer,
    (_, generation): (&str, Generation),
) {
    let mut edge = Edge::start(&sg, generation).await;
    let ana = sg.with_token(&sg.create_user("ana@example.com", pb::Role::Operator).await);
    let chunk = edge.propose("bad.example.com");
    edge.follow(&sg).await;
    let first = of_chunk(&ana, &chunk).await.unwrap().id;
    ana.vote(first, pb::VoteDecision::Reject).await.unwrap();
    edge.follow(&sg).await;
    assert_eq!(edge.status(&chunk).0, "rejected");
    // The agent asks again, and for something else.
    let (again, other) = (edge.propose("bad.example.com"), edge.propose("good.example.com"));
    edge.follow(&sg).await;
    let again = of_chunk(&ana, &again).await.unwrap().id;
    let shown = ana.approval(again).await.earlier_rejection.unwrap();
    assert_eq!((shown.approval_id, shown.comment.as_str()), (first, "a reason"));
    let other = of_chunk(&ana, &other).await.unwrap().id;
    assert_eq!(ana.approval(other).await.earlier_rejection, None);
    sg.finish().await;
}

async fn t20_texts_of_an_agent_are_counted_and_limited(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let findings = (0..12).map(|n| format!("finding {n:02} {}", "x".repeat(3_985)));
    let findings: Vec<String> = findings.collect();
    edge.simulator.set_validation_result(Some(&findings.join("\n")));
    let rationale = format!("pay\u{202e}load\u{200b}\n{}", "y".repeat(5_000));
    let asked = Draft {
        agent_authored: true,
        rationale,
        ..Draft::allow("wanted.example.com", 443, "/usr/bin/curl")
    };
    let chunk = edge.simulator.propose("default", "coder", asked).unwrap();
    log_refusal(&edge, "wanted.example.com", 1);
    edge.follow(&sg).await;
    let admin = sg.admin();
    let found = of_chunk(&admin, &chunk).await.unwrap();
    let draft = found.draft.unwrap();
    assert!(draft.truncated && draft.rationale.ends_with('\u{2026}'));
    assert!(draft.rationale.starts_with("pay load  y"), "{}", draft.rationale);
    assert_eq!((draft.replaced_characters, draft.rationale.chars().count()), (2, 4_096));
    let detail = admin.approval(found.id).await;
    let content = detail.content.unwrap();
    // The findings, which are reviewed, get all of the room before the words of the agent get any.
    let last = content.gateway_findings.last().unwrap();
    assert!(last.starts_with("finding 08") && last.ends_with('\u{2026}'), "{content:?}");
    assert_eq!(content.omitted_findings, 4);
    let draft = detail.approval.unwrap().draft.unwrap();
    assert!(draft.truncated && draft.rationale.is_empty(), "{draft:?}");
    let texts = [&draft.rule_name, &draft.rationale, &draft.stage, &draft.binary];
    let bytes: usize = texts.into_iter().chain(&content.gateway_findings).map(String::len).sum();
    assert!(bytes <= TEXTS_BYTES_MAX && bytes > TEXTS_BYTES_MAX - 10, "{bytes}");
    // The rule is complete, and the log lines are left out.
    assert!(content.yaml.contains("wanted.example.com"), "{}", content.yaml);
    assert!(detail.refused_connections.is_empty());
    sg.finish().await;
}
