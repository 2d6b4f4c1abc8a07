//! Links of messages (e16, T12): opening one, also many times or by a mail scanner, changes nothing.

use std::collections::BTreeSet;

use serde_json::json;
use shoreguard::clock::Timestamp;
use shoreguard::outbox::event_types;
use shoreguard::resources::webhooks::channels::{Channel, Message, body};

use crate::approvals::{people, proposal, propose, require};
use crate::support::dump;
use crate::support::http::{get, post};
use crate::support::server::TestServer;

/// Tables that a vote, or a change of a policy, would change.
const TABLES: [&str; 7] = [
    "approval_rounds",
    "approval_decisions",
    "approval_workflows",
    "policy_apply_proposals",
    "write_intents",
    "operations",
    "events",
];

server_tests_without_jobs! {
    t12_e16_opening_the_addresses_of_all_messages_changes_nothing,
    a_message_about_a_review_has_its_id_and_the_command,
}

fn message(event: &str, approval: i64, link: Option<String>) -> Message {
    let data = json!({
        "approval": approval,
        "gateway": "edge",
        "sandbox": "box",
        "reason": "see http://127.0.0.1:1/vote?approve=1 and https://evil.example/",
    });
    Message {
        id: "msg_1".to_owned(),
        event: event.to_owned(),
        time: Timestamp::EPOCH,
        sequence: 1,
        data: data.as_object().unwrap().clone(),
        link,
    }
}

fn text(channel: Channel, message: &Message) -> String {
    String::from_utf8(body(channel, message).bytes).unwrap()
}

/// Returns the addresses of this server in a text, without their fragments, which are not sent.
fn paths(text: &str, base: &str) -> BTreeSet<String> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\\' | '#' | '>' | '|' | ')' | '`');
    let found = text.match_indices(base).map(|(at, _)| {
        let path = &text[at + base.len()..];
        path.split(ends).next().unwrap_or_default().to_owned()
    });
    found.collect()
}

async fn dump_all(sg: &TestServer) -> Vec<String> {
    let mut dumped = Vec::new();
    for table in TABLES {
        dumped.push(dump::table(&sg.app.db, table).await);
    }
    dumped
}

async fn t12_e16_opening_the_addresses_of_all_messages_changes_nothing(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    sg.with_token(&of.ana).approve(id).await.unwrap();
    let base = format!("http://{}", sg.address);
    let mut all = BTreeSet::new();
    for (event_type, _) in event_types::ALL {
        let link = Some(format!("{base}/console#approvals/{id}"));
        let message = message(event_type.name(), id, link);
        for channel in Channel::ALL {
            all.append(&mut paths(&text(*channel, &message), &base));
        }
    }
    assert_eq!(all, BTreeSet::from(["/console".to_owned()]));
    let before = dump_all(&sg).await;
    for path in &all {
        for _ in 0..5 {
            get(sg.address, path).await;
        }
        let approval = id.to_string();
        let form = [("approval_id", approval.as_str()), ("decision", "1")];
        post(sg.address, path, &form, &[]).await;
    }
    assert_eq!(dump_all(&sg).await, before);
    sg.finish().await;
}

async fn a_message_about_a_review_has_its_id_and_the_command(sg: TestServer) {
    for channel in [Channel::Slack, Channel::Discord, Channel::Email] {
        for (event_type, _) in event_types::ALL {
            let sent = text(channel, &message(event_type.name(), 4711, None));
            assert!(sent.contains("shoreguard approval review 4711"), "{channel}: {sent}");
        }
    }
    let sent = text(Channel::Generic, &message("approval.pending", 4711, None));
    assert!(sent.contains("\"approval\":4711"), "{sent}");
    sg.finish().await;
}
