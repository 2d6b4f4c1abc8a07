//! Reminders of open reviews: each once, until the review is decided or ends.

use std::time::Duration;

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::worker::CLOCK;
use shoreguard::workers;

use super::{DAY, events, people, proposal, propose, require};
use crate::support::eventually;
use crate::support::server::{TestServer, build, run_without_jobs};

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
const REMINDER: &str = "approval.reminder";

server_tests_without_jobs! {
    an_open_review_is_reminded_of_after_four_hours_then_daily_and_before_it_expires,
    a_decided_review_is_not_reminded_of,
}

#[test]
fn two_replicas_send_a_reminder_once() {
    run_without_jobs(Engine::Postgres, race);
}

/// Passes time, and runs the clock twice.
async fn pass(sg: &TestServer, time: Duration) {
    sg.app.db.advance_clock(time);
    for _ in 0..2 {
        workers::run_once(&sg.app, &CLOCK).await.unwrap().expect("no other holder of the lease");
    }
}

/// Returns the number of reminders whose payload contains a text.
async fn reminders_with(sg: &TestServer, text: &str) -> usize {
    let matching = format!("name = '{REMINDER}' AND payload_json LIKE '%{text}%'");
    sg.sql(&format!("UPDATE events SET name = name WHERE {matching}")).await
}

async fn an_open_review_is_reminded_of_after_four_hours_then_daily_and_before_it_expires(
    sg: TestServer,
) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    pass(&sg, MINUTE * (4 * 60 - 1)).await;
    assert_eq!(events(&sg, REMINDER).await, 0);
    pass(&sg, MINUTE * 2).await;
    assert_eq!(events(&sg, REMINDER).await, 1);
    // It names those who could vote, and so not the author.
    let id_of_it = format!("\"approval\":{id},");
    for (text, count) in [
        (id_of_it.as_str(), 1),
        ("\"needed\":2", 1),
        ("ana@example.com", 1),
        ("ben@example.com", 1),
        ("dora@example.com", 0),
    ] {
        assert_eq!(reminders_with(&sg, text).await, count, "{text}");
    }
    sg.with_token(&of.ana).approve(id).await.unwrap();
    pass(&sg, DAY).await;
    assert_eq!(events(&sg, REMINDER).await, 2);
    assert_eq!(reminders_with(&sg, "ana@example.com").await, 1, "ana has voted");
    assert_eq!(reminders_with(&sg, "ben@example.com").await, 2);
    // Voting takes 168 hours. No server ran for days: the reminders of those days are one.
    pass(&sg, MINUTE * ((166 - 28) * 60 - 2)).await;
    assert_eq!(events(&sg, REMINDER).await, 3);
    // The last one.
    pass(&sg, MINUTE * 2).await;
    assert_eq!(events(&sg, REMINDER).await, 4);
    pass(&sg, HOUR).await;
    assert_eq!(events(&sg, REMINDER).await, 4);
    pass(&sg, DAY).await;
    assert_eq!((events(&sg, REMINDER).await, events(&sg, "approval.expired").await), (4, 1));
    sg.finish().await;
}

async fn a_decided_review_is_not_reminded_of(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    let (approved, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let (rejected, _) = propose(&sg, &of.dora, &proposal("b.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    let found = ana.approve(approved).await.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Approved);
    ana.vote(rejected, pb::VoteDecision::Reject).await.unwrap();
    pass(&sg, HOUR * 5).await;
    assert_eq!(events(&sg, REMINDER).await, 0);
    sg.finish().await;
}

async fn race(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let other = build(sg.config(|_| {})).await;
    sg.sql("UPDATE approval_rounds SET remind_at = '2020-01-01 00:00:00.000000'").await;
    let race = || async {
        // One of them has the lease.
        let _ = tokio::join!(workers::run_once(&sg.app, &CLOCK), workers::run_once(&other, &CLOCK));
        events(&sg, REMINDER).await > 0
    };
    eventually("a reminder", race).await;
    for _ in 0..3 {
        race().await;
    }
    assert_eq!(events(&sg, REMINDER).await, 1);
    other.stop.cancel();
    other.drain().await;
    drop(other);
    sg.finish().await;
}
