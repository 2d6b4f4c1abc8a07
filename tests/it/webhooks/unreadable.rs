//! Webhooks that a server cannot read: they hide and stop no other one, and can be deleted.

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;

use super::receiver::Receiver;
use super::{
    NOWHERE, all_in, allow_loopback, change, created, emit, get, list_deliveries, request, update,
};
use crate::support::all_pages;
use crate::support::server::TestServer;

const SUCCESS: pb::WebhookDeliveryStatus = pb::WebhookDeliveryStatus::Success;

server_tests! {
    tuned allow_loopback;
    an_unreadable_webhook_hides_and_stops_no_other_one,
    a_webhook_without_a_readable_subscription_is_disabled,
}

/// Returns the id of each webhook, and whether it is unreadable.
async fn listed(sg: &TestServer) -> Vec<(i64, bool)> {
    let page = async |page_token| {
        let request = pb::ListWebhooksRequest { page_size: 2, page_token };
        let page = sg.admin().webhooks().list_webhooks(request).await.unwrap().into_inner();
        (page.webhooks, page.next_page_token)
    };
    all_pages(page).await.into_iter().map(|one| (one.id, one.unreadable)).collect()
}

/// Stores a channel that this version does not know, as a newer one could.
async fn store_unknown_channel(sg: &TestServer, id: i64) {
    let lift = match sg.engine {
        Engine::Sqlite => "PRAGMA ignore_check_constraints = ON",
        Engine::Postgres => "ALTER TABLE webhooks DROP CONSTRAINT webhooks_channel_type_known",
    };
    sg.sql(lift).await;
    let changed = format!("UPDATE webhooks SET channel_type = 'pigeon' WHERE id = {id}");
    assert_eq!(sg.sql(&changed).await, 1);
}

async fn an_unreadable_webhook_hides_and_stops_no_other_one(sg: TestServer) {
    let receiver = Receiver::start().await;
    let no_url = created(&sg, request(NOWHERE)).await;
    let no_secret = created(&sg, request(NOWHERE)).await;
    let unknown = created(&sg, request(NOWHERE)).await;
    let readable = created(&sg, request(&receiver.url())).await;
    for moved in [
        format!("UPDATE webhooks SET url = secret WHERE id = {no_url}"),
        format!("UPDATE webhooks SET secret = url WHERE id = {no_secret}"),
    ] {
        assert_eq!(sg.sql(&moved).await, 1);
    }
    store_unknown_channel(&sg, unknown).await;
    let unreadable = [unknown, no_secret, no_url];
    let expected = [(readable, false), (unknown, true), (no_secret, true), (no_url, true)];
    assert_eq!(listed(&sg).await, expected);

    emit(&sg.admin(), &["one"]).await;
    receiver.wait_for(1).await;
    all_in(&sg, readable, 1, SUCCESS).await;
    for id in unreadable {
        // Its messages are kept until it can be read again.
        let waiting = list_deliveries(&sg, id).await;
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].status(), pb::WebhookDeliveryStatus::Pending);
        let read = get(&sg, id).await;
        assert!(read.unreadable && read.url.is_empty(), "{read:?}");
        let changed = update(&sg, change(id, &["description"])).await;
        assert_refused!(changed, FailedPrecondition, "WEBHOOK_UNREADABLE");
        let test = pb::TestWebhookRequest { webhook_id: id, ..Default::default() };
        let tested = sg.admin().webhooks().test_webhook(test).await;
        assert_refused!(tested, FailedPrecondition, "WEBHOOK_UNREADABLE");
        let delete = pb::DeleteWebhookRequest { webhook_id: id, ..Default::default() };
        sg.admin().webhooks().delete_webhook(delete).await.unwrap();
    }
    assert_eq!(listed(&sg).await, [(readable, false)]);
    sg.finish().await;
}

async fn a_webhook_without_a_readable_subscription_is_disabled(sg: TestServer) {
    let receiver = Receiver::start().await;
    created(&sg, request(&receiver.url())).await;
    let broken = created(&sg, request(NOWHERE)).await;
    emit(&sg.admin(), &["one"]).await;
    receiver.wait_for(1).await;
    let set = async |entries: &str| {
        let set = format!("UPDATE webhooks SET event_types = '{entries}' WHERE id = {broken}");
        assert_eq!(sg.sql(&set).await, 1);
    };
    set("no list").await;
    assert!(get(&sg, broken).await.unreadable);
    emit(&sg.admin(), &["two"]).await;
    let received = receiver.wait_for(2).await;
    let second = received.iter().find(|one| one.json()["data"]["service_principal"] == "two");
    let sequence = second.unwrap().json()["sequence"].as_i64().unwrap();
    set("[]").await;
    let repaired = get(&sg, broken).await;
    assert!(!repaired.active && !repaired.unreadable, "{repaired:?}");
    assert_eq!(repaired.disabled_reason, "its event types or gateways cannot be read");
    // A reader that continues there gets the event that was not queued.
    assert!((1..sequence).contains(&repaired.stopped_sequence), "{repaired:?}");
    sg.finish().await;
}
