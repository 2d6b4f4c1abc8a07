//! `approval review`: what a reviewer sees, and what a vote does.

use shoreguard::db::types::ApprovalRoundId;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::RoundState;

use crate::approved_writes::wait_for;
use crate::policies::{GATEWAYS, change_directly, endpoint, get_version, seeded, with_rule};
use crate::policy_writes::merge;
use crate::proposals::{Staff, govern};
use crate::support::server::{Caller, TestServer};

use super::terminal::Terminal;
use super::{command, run_to_end};

/// The end of the question.
const QUESTION: &str = "[q]uit?";

sqlite_tests! {
    a_reviewer_sees_a_change_and_approves_it,
    a_reviewer_skips_rejects_with_a_reason_and_quits,
    a_change_that_was_replaced_is_shown_again,
    a_review_needs_a_terminal,
}

fn review(sg: &TestServer, reviewer: &Caller, arguments: &[&str]) -> Terminal {
    let key = reviewer.bearer.0.as_deref().unwrap();
    let mut review = command(sg, key, &["approval", "review"]);
    review.args(arguments);
    Terminal::start(review)
}

async fn a_reviewer_sees_a_change_and_approves_it(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let Staff { ana, ben, dora } = govern(&sg, name, 2).await;
        let id = merge(&dora, name, "one.example").await.unwrap().approval_id;
        ben.approve(id).await.unwrap();
        let digest = ana.approval(id).await.approval.unwrap().digest;

        let mut terminal = review(&sg, &ana, &[name]);
        terminal.until(QUESTION).await;
        let shown = terminal.shown();
        for part in [
            format!("Approval {id} (1 of 1): policy apply on {name}/default/coder"),
            "Asks      dora@example.com".to_owned(),
            "\u{1b}[32m+ network_policies.one_example".to_owned(),
            "ben@example.com approve".to_owned(),
            "Votes     1 of 2".to_owned(),
            "the gateway needs 2 of approvers, has 1 (ben@example.com); could vote: ".to_owned(),
            digest,
        ] {
            assert!(shown.contains(&part), "no `{part}` in {shown}");
        }
        terminal.type_text("x\n");
        terminal.until_times(QUESTION, 2).await;
        terminal.type_text("a\n");
        terminal.until(&format!("approval {id} is ")).await;
        assert_eq!(terminal.ended().await, Some(0));
        wait_for(&sg.app, ApprovalRoundId(id), RoundState::Applied).await;
        let policy = get_version(&ana, name, 0).await.unwrap();
        assert!(policy.yaml.contains("one.example"), "{policy:?}");

        // Nothing waits, and the review of one's own proposal is not offered.
        merge(&dora, name, "two.example").await.unwrap();
        let mut own = review(&sg, &dora, &[name]);
        assert_eq!(own.ended().await, Some(0));
        own.until("nothing waits for you").await;
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_reviewer_skips_rejects_with_a_reason_and_quits(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let _simulator = seeded(&sg, name, generation).await;
    let Staff { ana, dora, .. } = govern(&sg, name, 1).await;
    let mut ids = Vec::new();
    for host in ["one.example", "two.example", "three.example"] {
        ids.push((merge(&dora, name, host).await.unwrap().approval_id, host));
    }
    let mut terminal = review(&sg, &ana, &[]);
    terminal.until(QUESTION).await;
    terminal.type_text("s\n");
    terminal.until_times(QUESTION, 2).await;
    terminal.type_text("r\n");
    terminal.until("Why?").await;
    terminal.type_text("too broad\n");
    terminal.until_times(QUESTION, 3).await;
    terminal.type_text("q\n");
    assert_eq!(terminal.ended().await, Some(0), "{}", terminal.shown());

    let mut rejected = Vec::new();
    for (id, host) in ids {
        let approval = ana.approval(id).await.approval.unwrap();
        let votes = ana.votes(id).await;
        if approval.state() == pb::ApprovalState::Rejected {
            rejected.push((id, host));
            assert_eq!(votes[0].comment, "too broad");
        } else {
            assert!(approval.state() == pb::ApprovalState::Open && votes.is_empty());
        }
    }
    let [(first, host)] = &rejected[..] else { panic!("{rejected:?}") };

    // The same change, proposed again, shows the rejection, and what prevents its write.
    let again = merge(&dora, name, host).await.unwrap().approval_id;
    let pin = pb::PinPolicyRequest {
        gateway: name.to_owned(),
        sandbox: "coder".to_owned(),
        ..Default::default()
    };
    sg.admin().policies().pin_policy(pin).await.unwrap();
    let mut terminal = review(&sg, &ana, &[]);
    for shown in 1.. {
        terminal.until_times(QUESTION, shown).await;
        if terminal.shown().contains(&format!("Approval {again} (")) {
            break;
        }
        terminal.type_text("s\n");
    }
    let shown = terminal.shown();
    assert!(shown.contains("! the same was rejected by ana@example.com at "), "{shown}");
    assert!(shown.contains(&format!("(approval {first}): too broad")), "{shown}");
    assert!(shown.contains("! blocked for now: "), "{shown}");
    terminal.type_text("q\n");
    assert_eq!(terminal.ended().await, Some(0), "{}", terminal.shown());

    // A label that no gateway has selects nothing.
    let mut none = review(&sg, &ana, &["-l", "env=prod"]);
    assert_eq!(none.ended().await, Some(0));
    none.until("nothing waits for you").await;

    // An interruption casts no vote.
    let mut terminal = review(&sg, &ana, &[]);
    terminal.until(QUESTION).await;
    terminal.process.signal("INT");
    assert_eq!(terminal.ended().await, Some(130));
    sg.finish().await;
}

async fn a_change_that_was_replaced_is_shown_again(sg: TestServer) {
    let (name, generation) = GATEWAYS[0];
    let simulator = seeded(&sg, name, generation).await;
    let Staff { ana, ben, dora } = govern(&sg, name, 1).await;
    let id = merge(&dora, name, "one.example").await.unwrap().approval_id;
    let mut terminal = review(&sg, &ben, &[name]);
    terminal.until(QUESTION).await;

    // Meanwhile the policy moves, and the change is computed again as another approval.
    let moved = old::UpdateConfigRequest {
        name: "coder".to_owned(),
        policy: Some(with_rule("moved", endpoint("moved.example", 443))),
        ..Default::default()
    };
    change_directly(&simulator, moved).await;
    ana.approve(id).await.unwrap();
    wait_for(&sg.app, ApprovalRoundId(id), RoundState::Superseded).await;
    let next = ana.approval(id).await.successor_approval_id;
    terminal.type_text("a\n");
    terminal.until("your vote was not cast").await;
    terminal.until_times(QUESTION, 2).await;
    assert!(terminal.shown().contains(&format!("Approval {next} (")), "{}", terminal.shown());
    assert!(ben.votes(next).await.is_empty(), "a vote is about what was shown");
    terminal.type_text("a\n");
    assert_eq!(terminal.ended().await, Some(0));
    let votes = ben.votes(next).await;
    assert_eq!(votes[0].digest, ben.approval(next).await.approval.unwrap().digest);
    wait_for(&sg.app, ApprovalRoundId(next), RoundState::Applied).await;
    sg.finish().await;
}

async fn a_review_needs_a_terminal(sg: TestServer) {
    let refused = run_to_end(&sg, &sg.admin_key, &["approval", "review"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("needs a terminal"), "{refused:?}");
    let refused = run_to_end(&sg, &sg.admin_key, &["approval", "review", "--yes"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("`--yes` does not answer"), "{refused:?}");
    sg.finish().await;
}
