//! Answers of receivers, retries, and when a webhook is disabled.

use std::time::Duration;

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::webhooks::worker::BACKLOG;
use tokio_util::sync::CancellationToken;

use super::receiver::{FIRST_RETRY, Receiver, Reply};
use super::{
    all_in, allow_loopback, change, created, emit, get, list_deliveries, request, set_active,
    update,
};
use crate::support::eventually;
use crate::support::server::TestServer;

const PENDING: pb::WebhookDeliveryStatus = pb::WebhookDeliveryStatus::Pending;
const SUCCESS: pb::WebhookDeliveryStatus = pb::WebhookDeliveryStatus::Success;
const FAILED: pb::WebhookDeliveryStatus = pb::WebhookDeliveryStatus::Failed;
const HOUR: u64 = 3_600;

server_tests! {
    tuned allow_loopback;
    e12_a_failed_message_is_sent_ten_times_with_the_same_id_and_body,
    a_receiver_that_is_gone_disables_its_webhook_and_keeps_the_messages,
    five_days_without_success_disable_a_webhook,
    five_days_without_success_disable_a_webhook_that_has_nothing_to_send,
    five_days_without_success_disable_a_webhook_whose_receiver_delays_messages,
    a_webhook_with_too_many_pending_messages_is_disabled,
    an_answer_of_a_former_address_does_not_disable_a_webhook,
}

sqlite_tests! {
    tuned allow_loopback;
    each_answer_has_its_meaning,
    retry_after_delays_a_message_in_both_forms,
    a_refusal_counts_although_its_body_does_not_end,
}

/// Waits until the first delivery of a webhook has had this many attempts, and returns it.
async fn tried(sg: &TestServer, id: i64, attempts: usize) -> pb::WebhookDelivery {
    let found = || async {
        let deliveries = list_deliveries(sg, id).await;
        deliveries.last().filter(|one| count_attempts(one) >= attempts).cloned()
    };
    eventually("the attempt is stored", || async { found().await.is_some() }).await;
    found().await.unwrap()
}

fn count_attempts(delivery: &pb::WebhookDelivery) -> usize {
    delivery.earlier_attempts.len() + usize::from(delivery.last_attempt.is_some())
}

async fn e12_a_failed_message_is_sent_ten_times_with_the_same_id_and_body(sg: TestServer) {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::Full(500, String::new(), "broken\u{7}".to_owned()));
    let id = created(&sg, request(&receiver.url())).await;
    emit(&sg.admin(), &["one"]).await;
    for attempt in 1..10 {
        // The first repetition may already have taken place.
        let delivery = tried(&sg, id, attempt).await;
        let attempts = i32::try_from(count_attempts(&delivery)).unwrap();
        assert_eq!((delivery.status(), delivery.attempt), (PENDING, attempts + 1));
        assert!(delivery.next_attempt_time.is_some());
        // The longest delay is 24 hours and a fifth.
        sg.pass(Duration::from_secs(29 * HOUR)).await;
    }
    let delivery = all_in(&sg, id, 1, FAILED).await.remove(0);
    assert_eq!((delivery.attempt, delivery.earlier_attempts.len()), (10, 9));
    assert!(delivery.next_attempt_time.is_none() && delivery.delivered_time.is_none());
    let last = delivery.last_attempt.unwrap();
    assert_eq!((last.response_code, last.error.as_str()), (500, "HTTP 500"));
    assert_eq!(last.response_snippet, "broken ");
    let received = receiver.received();
    assert_eq!(received.len(), 10);
    for again in &received {
        assert_eq!(again.header("webhook-id"), delivery.message_id);
        assert_eq!(again.body, received[0].body);
    }
    assert_ne!(
        received[0].header("webhook-timestamp"),
        received[9].header("webhook-timestamp"),
        "each attempt is signed with its own time"
    );
    sg.finish().await;
}

async fn each_answer_has_its_meaning(sg: TestServer) {
    let token = CancellationToken::new();
    for (reply, status, code, error) in [
        (Reply::status(200), SUCCESS, 200, ""),
        (Reply::status(204), SUCCESS, 204, ""),
        (Reply::status(413), FAILED, 413, "HTTP 413"),
        (Reply::status(400), PENDING, 400, "HTTP 400"),
        (Reply::status(404), PENDING, 404, "HTTP 404"),
        (Reply::status(503), PENDING, 503, "HTTP 503"),
        (
            Reply::Full(302, "location: http://127.0.0.1:9/\r\n".to_owned(), String::new()),
            PENDING,
            302,
            "HTTP 302: a redirect is not followed",
        ),
        (Reply::Close, PENDING, 0, "the connection broke off"),
    ] {
        let receiver = Receiver::start().await;
        receiver.answer(move |_| reply.clone());
        let id = created(&sg, request(&receiver.url())).await;
        emit(&sg.admin(), &[&format!("a{id}")]).await;
        let delivery = tried(&sg, id, 1).await;
        let last = delivery.last_attempt.clone().unwrap();
        assert_eq!((delivery.status(), last.response_code), (status, code), "{delivery:?}");
        assert!(last.error.starts_with(error), "{last:?}");
        assert_eq!(last.error.is_empty(), error.is_empty(), "{last:?}");
        set_active(&sg, id, false).await;
    }
    // A silent receiver gets 15 seconds, and so does a receiver that sends a byte at a time.
    for reply in [Reply::Until(token.clone()), Reply::Drip(token.clone())] {
        let receiver = Receiver::start().await;
        receiver.answer(move |_| reply.clone());
        let id = created(&sg, request(&receiver.url())).await;
        emit(&sg.admin(), &[&format!("b{id}")]).await;
        receiver.wait_for(1).await;
        sg.pass(Duration::from_secs(15)).await;
        let delivery = tried(&sg, id, 1).await;
        assert_eq!(delivery.status(), PENDING);
        let last = delivery.last_attempt.unwrap();
        assert!(last.error.contains("within 15 s"), "{last:?}");
        set_active(&sg, id, false).await;
    }
    token.cancel();
    sg.finish().await;
}

async fn retry_after_delays_a_message_in_both_forms(sg: TestServer) {
    for (code, after) in [
        (429, "7200"),
        (503, "7200"),
        // A date: years from now, of which at most a day counts.
        (429, "Fri, 31 Dec 2100 23:59:59 GMT"),
        (503, "Fri, 31 Dec 2100 23:59:59 GMT"),
    ] {
        let receiver = Receiver::start().await;
        let header = format!("retry-after: {after}\r\n");
        receiver.answer(move |_| Reply::Full(code, header.clone(), String::new()));
        let id = created(&sg, request(&receiver.url())).await;
        emit(&sg.admin(), &[&format!("a{id}")]).await;
        let delivery = tried(&sg, id, 1).await;
        let began = delivery.last_attempt.unwrap().start_time.unwrap().seconds;
        let waits = delivery.next_attempt_time.unwrap().seconds - began;
        let least = if after.len() > 4 { 24 * 3_600 } else { 7_200 };
        // A busy machine takes time between the attempt and its result.
        assert!((least - 1..least + 120).contains(&waits), "{code} {after}: {waits}");
        set_active(&sg, id, false).await;
    }
    sg.finish().await;
}

async fn a_refusal_counts_although_its_body_does_not_end(sg: TestServer) {
    let token = CancellationToken::new();
    let busy = Receiver::start().await;
    let reply = Reply::DripWith(503, "retry-after: 7200\r\n".to_owned(), token.clone());
    busy.answer(move |_| reply.clone());
    let id = created(&sg, request(&busy.url())).await;
    emit(&sg.admin(), &["busy"]).await;
    let delivery = tried(&sg, id, 1).await;
    let last = delivery.last_attempt.unwrap();
    assert_eq!((last.response_code, last.error.as_str()), (503, "HTTP 503"));
    let waits = delivery.next_attempt_time.unwrap().seconds - last.start_time.unwrap().seconds;
    assert!(waits >= 7_199, "{waits}");
    set_active(&sg, id, false).await;

    let gone = Receiver::start().await;
    let reply = Reply::DripWith(410, String::new(), token.clone());
    gone.answer(move |_| reply.clone());
    let id = created(&sg, request(&gone.url())).await;
    emit(&sg.admin(), &["gone"]).await;
    let webhook = disabled(&sg, id).await;
    assert!(webhook.disabled_reason.contains("410"), "{webhook:?}");
    token.cancel();
    sg.finish().await;
}

async fn disabled(sg: &TestServer, id: i64) -> pb::Webhook {
    eventually("the webhook is disabled", || async { !get(sg, id).await.active }).await;
    sg.app.audit.wait_settled().await;
    let webhook = get(sg, id).await;
    assert!(webhook.disable_time.is_some(), "{webhook:?}");
    let request =
        pb::ListAuditEntriesRequest { action: "webhook.disable".into(), ..Default::default() };
    let entries = sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
    assert_eq!(entries.audit_entries.len(), 1, "{entries:?}");
    let request =
        pb::ListEventsRequest { names: vec!["webhook.disabled".into()], ..Default::default() };
    let events = || async {
        let listed = sg.admin().events().list_events(request.clone()).await.unwrap();
        listed.into_inner().events
    };
    eventually("the event is numbered", || async { events().await.len() == 1 }).await;
    let payload: serde_json::Value = serde_json::from_str(&events().await[0].payload_json).unwrap();
    assert_eq!(payload["webhook_id"], id);
    assert_eq!(payload["reason"], webhook.disabled_reason);
    assert_eq!(payload["stopped_sequence"], webhook.stopped_sequence);
    webhook
}

async fn a_receiver_that_is_gone_disables_its_webhook_and_keeps_the_messages(sg: TestServer) {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(410));
    let id = created(&sg, request(&receiver.url())).await;
    emit(&sg.admin(), &["one"]).await;
    let webhook = disabled(&sg, id).await;
    assert!(webhook.disabled_reason.contains("410"), "{webhook:?}");
    let first = tried(&sg, id, 1).await;
    assert_eq!(first.status(), PENDING);
    assert!(webhook.stopped_sequence >= first.event_sequence, "{webhook:?} {first:?}");

    // Nothing is queued while it is inactive. WatchEvents has the rest. Another webhook gets the event, so it has been
    // queued when the first one is active again.
    let witness = Receiver::start().await;
    created(&sg, request(&witness.url())).await;
    emit(&sg.admin(), &["two"]).await;
    witness.wait_for(1).await;
    let after = pb::ListEventsRequest {
        after_sequence: webhook.stopped_sequence,
        names: vec![super::EVENT.into()],
        ..Default::default()
    };
    let rest = || async {
        sg.admin().events().list_events(after.clone()).await.unwrap().into_inner().events
    };
    eventually("the event is numbered", || async { rest().await.len() == 1 }).await;
    receiver.answer(|_| Reply::status(200));
    set_active(&sg, id, true).await;
    let webhook = get(&sg, id).await;
    assert!(webhook.disable_time.is_none() && webhook.failures == 0, "{webhook:?}");
    sg.pass(FIRST_RETRY).await;
    let delivered = all_in(&sg, id, 1, SUCCESS).await.remove(0);
    assert_eq!(delivered.message_id, first.message_id);
    emit(&sg.admin(), &["three"]).await;
    let names: Vec<_> = receiver.wait_for(3).await.iter().map(service_principal).collect();
    assert_eq!(names, ["one", "one", "three"]);
    sg.finish().await;
}

async fn an_answer_of_a_former_address_does_not_disable_a_webhook(sg: TestServer) {
    let (former, token) = (Receiver::start().await, CancellationToken::new());
    let held = token.clone();
    former.answer(move |_| Reply::UntilGone(held.clone()));
    let id = created(&sg, request(&former.url())).await;
    emit(&sg.admin(), &["one"]).await;
    former.wait_for(1).await;
    // It is changed while the former receiver still thinks.
    let receiver = Receiver::start().await;
    let moved = pb::UpdateWebhookRequest { url: receiver.url(), ..change(id, &["url"]) };
    update(&sg, moved).await.unwrap();
    token.cancel();
    let delivery = tried(&sg, id, 1).await;
    assert_eq!(delivery.last_attempt.unwrap().response_code, 410);
    assert_eq!(get(&sg, id).await.failures, 0, "the failure is that of another receiver");
    sg.pass(FIRST_RETRY).await;
    all_in(&sg, id, 1, SUCCESS).await;
    assert!(get(&sg, id).await.active);
    sg.finish().await;
}

fn service_principal(received: &super::receiver::Received) -> String {
    received.json()["data"]["service_principal"].as_str().unwrap().to_owned()
}

async fn five_days_without_success_disable_a_webhook(sg: TestServer) {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(500));
    let id = created(&sg, request(&receiver.url())).await;
    let names: Vec<String> = (0..9).map(|at| format!("a{at}")).collect();
    emit(&sg.admin(), &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    eventually("each message has failed once", || failures_of(&sg, id, 9)).await;
    assert!(get(&sg, id).await.failing_since_time.is_some());
    sg.pass(Duration::from_secs(5 * 24 * HOUR)).await;
    let webhook = disabled(&sg, id).await;
    assert!(webhook.disabled_reason.contains("5 days"), "{webhook:?}");
    assert!(list_deliveries(&sg, id).await.iter().all(|one| one.status() == PENDING));
    sg.finish().await;
}

/// Its messages have failed, and nothing else is queued, so no attempt is due when the time has passed.
async fn five_days_without_success_disable_a_webhook_that_has_nothing_to_send(sg: TestServer) {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(413));
    let id = created(&sg, request(&receiver.url())).await;
    emit(&sg.admin(), &["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"]).await;
    all_in(&sg, id, 10, FAILED).await;
    sg.pass(Duration::from_secs(4 * 24 * HOUR)).await;
    emit(&sg.admin(), &["b"]).await;
    all_in(&sg, id, 11, FAILED).await;
    let webhook = get(&sg, id).await;
    assert_eq!((webhook.active, webhook.failures), (true, 11), "{webhook:?}");
    sg.pass(Duration::from_secs(24 * HOUR)).await;
    let webhook = disabled(&sg, id).await;
    assert!(webhook.disabled_reason.contains("5 days"), "{webhook:?}");
    assert_eq!(receiver.received().len(), 11, "no attempt has decided it");
    sg.finish().await;
}

/// The next attempts are a day after the previous ones, which were shortly before the time has passed.
async fn five_days_without_success_disable_a_webhook_whose_receiver_delays_messages(
    sg: TestServer,
) {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::Full(503, "retry-after: 86400\r\n".to_owned(), String::new()));
    let id = created(&sg, request(&receiver.url())).await;
    emit(&sg.admin(), &["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"]).await;
    eventually("each message has failed once", || failures_of(&sg, id, 10)).await;
    sg.pass(Duration::from_secs((5 * 24 - 1) * HOUR)).await;
    eventually("each message has failed twice", || failures_of(&sg, id, 20)).await;
    assert!(get(&sg, id).await.active);
    sg.pass(Duration::from_secs(HOUR)).await;
    let webhook = disabled(&sg, id).await;
    assert!(webhook.disabled_reason.contains("5 days"), "{webhook:?}");
    assert_eq!(receiver.received().len(), 20, "no attempt has decided it");
    assert!(list_deliveries(&sg, id).await.iter().all(|one| one.status() == PENDING));
    sg.finish().await;
}

async fn failures_of(sg: &TestServer, id: i64, count: i32) -> bool {
    get(sg, id).await.failures >= count
}

async fn a_webhook_with_too_many_pending_messages_is_disabled(sg: TestServer) {
    let id = created(&sg, request(super::NOWHERE)).await;
    // Not due for a long time.
    let pending = |count: u32, from: u32| {
        format!(
            "INSERT INTO webhook_deliveries (webhook_id, event_type, payload_json, created_at, message_id, \
             event_sequence, next_attempt_at) \
             WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {}) \
             SELECT {id}, 'a.b', '{{}}', '2026-01-01 00:00:00.000000', 'msg_' || n.i, n.i - 1000000, \
             '2999-01-01 00:00:00.000000' FROM n",
            from + count - 1
        )
    };
    if sg.engine == Engine::Postgres {
        // To look up the webhook of each row would take as long as all the rest.
        sg.sql("ALTER TABLE webhook_deliveries DISABLE TRIGGER ALL").await;
    }
    assert_eq!(sg.sql(&pending(99_999, 1)).await, 99_999);
    sg.run_job(&BACKLOG).await;
    assert!(get(&sg, id).await.active);
    assert_eq!(sg.sql(&pending(1, 100_000)).await, 1);
    sg.run_job(&BACKLOG).await;
    let webhook = disabled(&sg, id).await;
    assert!(webhook.disabled_reason.contains("100000"), "{webhook:?}");
    // A count, since to write all of them again would take longer than the rest.
    let all_are_pending = format!(
        "UPDATE webhooks SET max_in_flight = max_in_flight WHERE id = {id} AND 100000 = \
         (SELECT count(*) FROM webhook_deliveries WHERE webhook_id = {id} AND status = 'pending')"
    );
    assert_eq!(sg.sql(&all_are_pending).await, 1, "the messages are kept");
    // Switched on again, it has time to send what was kept.
    set_active(&sg, id, true).await;
    sg.run_job(&BACKLOG).await;
    assert!(get(&sg, id).await.active, "the messages that were kept do not disable it again");
    sg.finish().await;
}
