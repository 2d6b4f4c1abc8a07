//! Deliveries: what is queued, limits of a receiver, sending again, and what is deleted.

use std::collections::HashSet;
use std::time::Duration;

use shoreguard::db::leases;
use shoreguard::error::{Error, ResourceKind};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::events::worker as events;
use shoreguard::resources::webhooks::worker::{FANOUT, RETENTION};
use shoreguard::workers::{self, Worker};
use tokio_util::sync::CancellationToken;

use super::receiver::{Receiver, Reply};
use super::{
    NOWHERE, all_in, allow_loopback, created, emit, get, list_deliveries, request, set_active,
};
use crate::support::eventually;
use crate::support::server::TestServer;

const SUCCESS: pb::WebhookDeliveryStatus = pb::WebhookDeliveryStatus::Success;
const DAY: Duration = Duration::from_hours(24);

server_tests! {
    tuned allow_loopback;
    events_are_queued_for_each_subscribed_webhook,
    e13_a_slow_receiver_delays_no_other_one,
    max_in_flight_and_rate_per_second_hold,
    finished_messages_are_sent_again_with_their_ids,
    finished_messages_are_deleted_after_a_week,
    many_messages_are_each_sent_once,
    a_webhook_can_be_deleted_while_its_messages_are_sent,
}

server_tests_without_jobs! {
    tuned allow_loopback;
    e10_events_are_queued_once_and_kept_until_then,
    e10_events_after_the_creation_are_queued_whatever_the_clocks_say,
    e10_a_replica_that_has_lost_its_lease_queues_nothing,
    no_event_of_the_time_while_a_webhook_was_inactive_is_queued,
}

sqlite_tests! {
    tuned allow_loopback;
    connections_are_kept,
    a_test_sends_one_message_and_returns_the_result,
    messages_over_20_kib_keep_names_and_ids,
    deliveries_are_listed_in_pages_by_status,
}

async fn events_are_queued_for_each_subscribed_webhook(sg: TestServer) {
    let receiver = Receiver::start().await;
    let of = |entry: &str, path: &str| pb::CreateWebhookRequest {
        event_types: vec![entry.to_owned()],
        ..request(&format!("http://{}/{path}", receiver.address))
    };
    created(&sg, of("*", "all")).await;
    created(&sg, of("service_principal.*", "resource")).await;
    created(&sg, of(super::EVENT, "name")).await;
    created(&sg, of("sandbox.*", "other")).await;
    let of_gateway = pb::CreateWebhookRequest { gateways: vec!["edge".into()], ..of("*", "edge") };
    sg.register_gateway("edge", "127.0.0.1:9".parse().unwrap()).await;
    created(&sg, of_gateway).await;
    let none = pb::CreateWebhookRequest { event_types: Vec::new(), ..of("*", "none") };
    created(&sg, none).await;
    emit(&sg.admin(), &["one"]).await;
    sg.register_gateway("other", "127.0.0.1:9".parse().unwrap()).await;
    let request = pb::UpdateGatewayRequest { gateway: "edge".into(), ..Default::default() };
    let request = pb::UpdateGatewayRequest {
        update_mask: Some(prost_types::FieldMask { paths: vec!["description".into()] }),
        description: "changed".into(),
        ..request
    };
    sg.admin().gateways().update_gateway(request).await.unwrap();
    let on = |path: &'static str, event: &'static str| {
        let received = receiver.received();
        received
            .iter()
            .filter(|one| one.path == format!("/{path}") && one.json()["event"] == event)
            .count()
    };
    eventually("the last event has arrived", || async {
        on("all", "gateway.updated") == 1 && on("edge", "gateway.updated") == 1
    })
    .await;
    eventually("the others have arrived", || async {
        on("all", super::EVENT) == 1
            && on("resource", super::EVENT) == 1
            && on("name", super::EVENT) == 1
            && on("all", "gateway.registered") >= 1
    })
    .await;
    let paths: Vec<String> = receiver.received().into_iter().map(|one| one.path).collect();
    assert!(!paths.iter().any(|path| path == "/other" || path == "/none"), "{paths:?}");
    assert_eq!((on("edge", super::EVENT), on("edge", "gateway.registered")), (0, 0));
    sg.finish().await;
}

async fn e13_a_slow_receiver_delays_no_other_one(sg: TestServer) {
    let (slow, fast) = (Receiver::start().await, Receiver::start().await);
    let token = CancellationToken::new();
    let held = token.clone();
    slow.answer(move |_| Reply::Until(held.clone()));
    let slow_id = created(&sg, request(&slow.url())).await;
    let fast_id = created(&sg, request(&fast.url())).await;
    emit(&sg.admin(), &["one", "two", "three", "four", "five", "six"]).await;
    slow.wait_for(4).await;
    // All messages arrive at the fast receiver while the slow one holds its first four.
    all_in(&sg, fast_id, 6, SUCCESS).await;
    assert_eq!(slow.received().len(), 4);
    token.cancel();
    all_in(&sg, slow_id, 6, SUCCESS).await;
    sg.finish().await;
}

async fn max_in_flight_and_rate_per_second_hold(sg: TestServer) {
    let receiver = Receiver::start().await;
    let token = CancellationToken::new();
    let held = token.clone();
    receiver.answer(move |_| Reply::Until(held.clone()));
    let two = pb::CreateWebhookRequest { max_in_flight: 2, ..request(&receiver.url()) };
    let id = created(&sg, two).await;
    emit(&sg.admin(), &["one", "two", "three", "four"]).await;
    receiver.wait_for(2).await;
    token.cancel();
    all_in(&sg, id, 4, SUCCESS).await;
    assert_eq!(receiver.most_open(), 2);
    set_active(&sg, id, false).await;

    let paced = Receiver::start().await;
    let one_a_second = pb::CreateWebhookRequest { rate_per_second: 1, ..request(&paced.url()) };
    let id = created(&sg, one_a_second).await;
    emit(&sg.admin(), &["a", "b", "c"]).await;
    let mut begun: Vec<i64> = all_in(&sg, id, 3, SUCCESS)
        .await
        .into_iter()
        .map(|one| one.last_attempt.unwrap().start_time.unwrap().seconds)
        .collect();
    begun.sort_unstable();
    // Two intervals of a second; the first message may have begun late.
    assert!(begun[2] - begun[0] >= 1, "{begun:?}");
    sg.finish().await;
}

async fn finished_messages_are_sent_again_with_their_ids(sg: TestServer) {
    let receiver = Receiver::start().await;
    receiver.answer(|received| {
        let failed = received.json()["data"]["service_principal"] == "two";
        Reply::status(if failed { 413 } else { 200 })
    });
    let webhook_id = created(&sg, request(&receiver.url())).await;
    emit(&sg.admin(), &["one", "two", "three"]).await;
    let finished = || async {
        let listed = list_deliveries(&sg, webhook_id).await;
        listed.len() == 3 && listed.iter().all(|one| one.next_attempt_time.is_none())
    };
    eventually("all are finished", finished).await;
    let before = list_deliveries(&sg, webhook_id).await;
    receiver.answer(|_| Reply::status(200));
    let failed =
        before.iter().find(|one| one.status() == pb::WebhookDeliveryStatus::Failed).unwrap();
    let sent_again = async |request: pb::RedeliverWebhookRequest| {
        let request = pb::RedeliverWebhookRequest { webhook_id, ..request };
        let response = sg.admin().webhooks().redeliver_webhook(request).await.unwrap().into_inner();
        assert!(!response.more);
        response.redelivered
    };
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let span = pb::RedeliverWebhookRequest {
        start_time: at(0),
        end_time: at(100_000_000_000),
        ..Default::default()
    };
    let only_failed = pb::RedeliverWebhookRequest { only_failed: true, ..span.clone() };
    assert_eq!(sent_again(only_failed.clone()).await, 1);
    let after = all_in(&sg, webhook_id, 3, SUCCESS).await;
    let repaired = after.iter().find(|one| one.id == failed.id).unwrap();
    assert_eq!((&repaired.message_id, repaired.attempt), (&failed.message_id, 1));
    let earlier: Vec<i32> =
        repaired.earlier_attempts.iter().map(|attempt| attempt.response_code).collect();
    assert_eq!(earlier, [413]);
    assert_eq!(sent_again(only_failed).await, 0);
    let ids = pb::RedeliverWebhookRequest {
        delivery_ids: vec![before[0].id, before[1].id],
        ..Default::default()
    };
    assert_eq!(sent_again(ids).await, 2);
    receiver.wait_for(6).await;
    all_in(&sg, webhook_id, 3, SUCCESS).await;
    assert_eq!(sent_again(span).await, 3);
    let received = receiver.wait_for(9).await;
    for delivery in &after {
        let of_it: Vec<_> =
            received.iter().filter(|one| one.header("webhook-id") == delivery.message_id).collect();
        assert!(of_it.len() >= 2 && of_it.iter().all(|one| one.body == of_it[0].body));
    }
    all_in(&sg, webhook_id, 3, SUCCESS).await;
    sg.finish().await;
}

/// More messages than are read at once: results are written while others are read and sent.
async fn many_messages_are_each_sent_once(sg: TestServer) {
    const MESSAGES: usize = 700;
    let receiver = Receiver::start().await;
    let wide = pb::CreateWebhookRequest { max_in_flight: 64, ..request(&receiver.url()) };
    let id = created(&sg, wide).await;
    let insert = format!(
        "INSERT INTO events (name, payload_json, occurred_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MESSAGES}) \
         SELECT '{}', '{{}}', '2998-01-01 00:00:00.000000' FROM n",
        super::EVENT
    );
    assert_eq!(sg.sql(&insert).await, MESSAGES);
    let delivered = all_in(&sg, id, MESSAGES, SUCCESS).await;
    assert!(delivered.iter().all(|one| one.attempt == 1 && one.earlier_attempts.is_empty()));
    assert!(delivered.is_sorted_by(|a, b| a.event_sequence > b.event_sequence));
    let received = receiver.received();
    assert_eq!(received.len(), MESSAGES);
    let ids: HashSet<&str> = received.iter().map(|one| one.header("webhook-id")).collect();
    assert_eq!(ids.len(), MESSAGES);
    assert!(receiver.most_open() <= 64);
    sg.finish().await;
}

async fn a_webhook_can_be_deleted_while_its_messages_are_sent(sg: TestServer) {
    let (receiver, witness) = (Receiver::start().await, Receiver::start().await);
    let token = CancellationToken::new();
    let held = token.clone();
    receiver.answer(move |_| Reply::Until(held.clone()));
    let webhook_id = created(&sg, request(&receiver.url())).await;
    let other = created(&sg, request(&witness.url())).await;
    emit(&sg.admin(), &["one", "two"]).await;
    receiver.wait_for(2).await;
    let delete = pb::DeleteWebhookRequest { webhook_id, ..Default::default() };
    sg.admin().webhooks().delete_webhook(delete).await.unwrap();
    token.cancel();
    emit(&sg.admin(), &["three"]).await;
    all_in(&sg, other, 3, SUCCESS).await;
    assert_eq!(receiver.received().len(), 2, "nothing is sent after the deletion");
    let list = pb::ListWebhookDeliveriesRequest { webhook_id, ..Default::default() };
    let listed = sg.admin().webhooks().list_webhook_deliveries(list).await;
    assert_refused!(listed, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn finished_messages_are_deleted_after_a_week(sg: TestServer) {
    let receiver = Receiver::start().await;
    let id = created(&sg, request(&receiver.url())).await;
    emit(&sg.admin(), &["one"]).await;
    all_in(&sg, id, 1, SUCCESS).await;
    receiver.answer(|_| Reply::status(500));
    emit(&sg.admin(), &["two"]).await;
    receiver.wait_for(2).await;
    let written =
        || async { list_deliveries(&sg, id).await.iter().all(|one| one.last_attempt.is_some()) };
    eventually("the result is stored", written).await;
    set_active(&sg, id, false).await;
    sg.pass(DAY * 6).await;
    sg.run_job(&RETENTION).await;
    assert_eq!(list_deliveries(&sg, id).await.len(), 2);
    sg.pass(DAY).await;
    sg.run_job(&RETENTION).await;
    let kept = list_deliveries(&sg, id).await;
    assert_eq!(kept.len(), 1, "a pending message is kept");
    assert_eq!(kept[0].status(), pb::WebhookDeliveryStatus::Pending);
    sg.finish().await;
}

async fn e10_events_are_queued_once_and_kept_until_then(sg: TestServer) {
    let inactive = |asked| pb::CreateWebhookRequest { active: Some(false), ..asked };
    // Nothing sends in this server.
    let webhook = request(NOWHERE);
    let (first, second) =
        (created(&sg, webhook.clone()).await, created(&sg, webhook.clone()).await);
    let third = created(&sg, inactive(webhook)).await;
    emit(&sg.admin(), &["one", "two"]).await;
    while sg.run_job(&events::SEQUENCER).await.done > 0 {}
    sg.pass(DAY * 31).await;
    sg.run_job(&events::RETENTION).await;
    let list = pb::ListEventsRequest { names: vec![super::EVENT.into()], ..Default::default() };
    let kept = sg.admin().events().list_events(list.clone()).await.unwrap().into_inner().events;
    // The admin of the test has been created by an event of its own.
    assert!(kept.len() >= 2, "events that are not queued are kept: {kept:?}");
    sg.run_job(&FANOUT).await;
    sg.run_job(&FANOUT).await;
    for (id, count) in [(first, 2), (second, 2), (third, 0)] {
        let queued = list_deliveries(&sg, id).await;
        let of_test = queued.iter().filter(|one| one.event_type == super::EVENT).count();
        assert_eq!(of_test, count, "{queued:?}");
    }
    let queued = [list_deliveries(&sg, first).await, list_deliveries(&sg, second).await].concat();
    let mut ids: Vec<&str> = queued.iter().map(|one| one.message_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "each message has its own id");
    sg.run_job(&events::RETENTION).await;
    let kept = sg.admin().events().list_events(list).await.unwrap().into_inner().events;
    assert!(kept.is_empty(), "{kept:?}");
    sg.finish().await;
}

/// Queues events, after another replica has taken the lease over.
const LATE_FANOUT: Worker = Worker {
    tick: |ctx, lease| {
        Box::pin(async move {
            ctx.db().advance_clock(Duration::from_mins(5));
            let ttl = Duration::from_secs(1);
            let taken = leases::acquire(ctx.db(), FANOUT.name, "another", ttl).await?;
            assert!(taken.is_some());
            (FANOUT.tick)(ctx, lease).await
        })
    },
    ..FANOUT
};

async fn e10_a_replica_that_has_lost_its_lease_queues_nothing(sg: TestServer) {
    let id = created(&sg, request(NOWHERE)).await;
    emit(&sg.admin(), &["one"]).await;
    while sg.run_job(&events::SEQUENCER).await.done > 0 {}
    let late = workers::run_once(&sg.app, &LATE_FANOUT).await;
    assert!(matches!(late, Err(Error::Conflict { kind: ResourceKind::Lease, .. })), "{late:?}");
    assert!(list_deliveries(&sg, id).await.is_empty());
    // The next one begins where the former one has stopped.
    assert!(sg.run_job(&FANOUT).await.done >= 1);
    assert_eq!(list_deliveries(&sg, id).await.len(), 1);
    sg.finish().await;
}

async fn e10_events_after_the_creation_are_queued_whatever_the_clocks_say(sg: TestServer) {
    let write = async |at: &str| {
        let insert = format!(
            "INSERT INTO events (name, payload_json, occurred_at) VALUES ('{}', '{{}}', '{at}')",
            super::EVENT
        );
        assert_eq!(sg.sql(&insert).await, 1);
    };
    // Not numbered yet, and of a replica whose clock is ahead.
    write("2998-01-01 00:00:00.000000").await;
    let id = created(&sg, request(NOWHERE)).await;
    // Of a replica whose clock is behind.
    write("2020-01-01 00:00:00.000000").await;
    while sg.run_job(&events::SEQUENCER).await.done > 0 {}
    sg.run_job(&FANOUT).await;
    let queued = list_deliveries(&sg, id).await;
    let [later] = &queued[..] else { panic!("{queued:?}") };
    let list = pb::ListEventsRequest { names: vec![super::EVENT.into()], ..Default::default() };
    let listed = sg.admin().events().list_events(list).await.unwrap().into_inner().events;
    let last = listed.last().unwrap();
    assert_eq!(later.event_sequence, last.sequence);
    assert!(last.event_time.unwrap().seconds < 1_600_000_000, "{last:?}");
    sg.finish().await;
}

/// The job that queues events is late: it reads them when the webhook is active again.
async fn no_event_of_the_time_while_a_webhook_was_inactive_is_queued(sg: TestServer) {
    let id = created(&sg, request(NOWHERE)).await;
    emit(&sg.admin(), &["before"]).await;
    while sg.run_job(&events::SEQUENCER).await.done > 0 {}
    sg.run_job(&FANOUT).await;
    set_active(&sg, id, false).await;
    emit(&sg.admin(), &["meanwhile"]).await;
    set_active(&sg, id, true).await;
    emit(&sg.admin(), &["after"]).await;
    while sg.run_job(&events::SEQUENCER).await.done > 0 {}
    sg.run_job(&FANOUT).await;
    let list = pb::ListEventsRequest { names: vec![super::EVENT.into()], ..Default::default() };
    let listed = sg.admin().events().list_events(list).await.unwrap().into_inner().events;
    let [.., before, meanwhile, after] = &listed[..] else { panic!("{listed:?}") };
    let queued: Vec<i64> =
        list_deliveries(&sg, id).await.iter().map(|one| one.event_sequence).collect();
    assert_eq!(queued, [after.sequence, before.sequence]);
    // The reader that continues where the webhook has stopped gets the others.
    let stopped = get(&sg, id).await.stopped_sequence;
    assert!((before.sequence..meanwhile.sequence).contains(&stopped), "{stopped}");
    sg.finish().await;
}

async fn connections_are_kept(sg: TestServer) {
    let receiver = Receiver::start().await;
    let one = pb::CreateWebhookRequest { max_in_flight: 1, ..request(&receiver.url()) };
    let id = created(&sg, one).await;
    for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
        emit(&sg.admin(), &[name]).await;
        receiver.wait_for(at + 1).await;
    }
    let connections: Vec<usize> =
        receiver.received().iter().map(|received| received.connection).collect();
    let last = *connections.iter().max().unwrap();
    assert!(last < 2, "{connections:?}");
    // A receiver closes a kept connection: the message is sent on another one at once, without a failed attempt.
    receiver.answer(
        move |received| {
            if received.connection <= last { Reply::Close } else { Reply::status(200) }
        },
    );
    emit(&sg.admin(), &["d"]).await;
    for delivery in all_in(&sg, id, 4, SUCCESS).await {
        assert_eq!((delivery.attempt, delivery.earlier_attempts.len()), (1, 0));
    }
    assert!(receiver.received().iter().any(|one| one.connection > last));
    sg.finish().await;
}

async fn a_test_sends_one_message_and_returns_the_result(sg: TestServer) {
    let receiver = Receiver::start().await;
    let silent = pb::CreateWebhookRequest { event_types: Vec::new(), ..request(&receiver.url()) };
    let webhook_id = created(&sg, silent).await;
    let test = pb::TestWebhookRequest { webhook_id, ..Default::default() };
    let tested = sg.admin().webhooks().test_webhook(test.clone()).await.unwrap().into_inner();
    let attempt = tested.attempt.unwrap();
    assert_eq!((tested.delivered, attempt.response_code, attempt.error.as_str()), (true, 200, ""));
    let received = receiver.received().remove(0);
    assert_eq!(received.json()["event"], "webhook.test");
    assert_eq!(received.json()["data"]["webhook_id"], webhook_id);
    receiver.answer(|_| Reply::Full(500, String::new(), "no".to_owned()));
    let tested = sg.admin().webhooks().test_webhook(test).await.unwrap().into_inner();
    let attempt = tested.attempt.unwrap();
    assert_eq!((tested.delivered, attempt.response_code), (false, 500));
    assert_eq!((attempt.error.as_str(), attempt.response_snippet.as_str()), ("HTTP 500", "no"));
    assert_eq!(receiver.received().len(), 2, "a test is one attempt");
    assert!(list_deliveries(&sg, webhook_id).await.is_empty());
    sg.finish().await;
}

async fn messages_over_20_kib_keep_names_and_ids(sg: TestServer) {
    let receiver = Receiver::start().await;
    created(&sg, request(&receiver.url())).await;
    let payload = format!("{{\"sandbox\":\"box\",\"n\":7,\"text\":\"{}\"}}", "x".repeat(21_000));
    let insert = format!(
        "INSERT INTO events (name, payload_json, occurred_at) \
         VALUES ('{}', '{payload}', '2998-01-01 00:00:00.000000')",
        super::EVENT
    );
    sg.sql(&insert).await;
    let received = receiver.wait_for(1).await.remove(0);
    let expected = serde_json::json!({ "n": 7, "sandbox": "box", "truncated": true });
    assert_eq!(received.json()["data"], expected);
    sg.finish().await;
}

async fn deliveries_are_listed_in_pages_by_status(sg: TestServer) {
    let receiver = Receiver::start().await;
    receiver.answer(|received| {
        let failed = received.json()["data"]["service_principal"] == "b";
        Reply::status(if failed { 413 } else { 200 })
    });
    let webhook_id = created(&sg, request(&receiver.url())).await;
    emit(&sg.admin(), &["a", "b", "c"]).await;
    let finished = || async {
        let listed = list_deliveries(&sg, webhook_id).await;
        listed.len() == 3 && listed.iter().all(|one| one.next_attempt_time.is_none())
    };
    eventually("all are finished", finished).await;
    let list = async |status: pb::WebhookDeliveryStatus| {
        let (mut ids, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListWebhookDeliveriesRequest {
                webhook_id,
                page_size: 1,
                page_token,
                status: status.into(),
            };
            let page = sg.admin().webhooks().list_webhook_deliveries(request).await.unwrap();
            let page = page.into_inner();
            ids.extend(page.webhook_deliveries.into_iter().map(|one| one.id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return ids;
            }
        }
    };
    let all = list(pb::WebhookDeliveryStatus::Unspecified).await;
    assert_eq!(all.len(), 3);
    assert!(all.is_sorted_by(|a, b| a > b), "{all:?}");
    assert_eq!(list(SUCCESS).await.len(), 2);
    assert_eq!(list(pb::WebhookDeliveryStatus::Failed).await.len(), 1);
    assert!(list(pb::WebhookDeliveryStatus::Pending).await.is_empty());
    sg.finish().await;
}
