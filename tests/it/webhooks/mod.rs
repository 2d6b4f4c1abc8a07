//! Webhooks: their settings, secrets and refusals. The modules test deliveries.
#![allow(clippy::similar_names, reason = "a webhook beside the webhooks of a caller")]

mod answers;
mod deliveries;
mod guard;
mod kills;
mod noticed;
mod outages;
pub(crate) mod plans;
pub(crate) mod receiver;
mod redelivery;
mod secrets;
mod shares;
mod signatures;
mod unreadable;

use shoreguard::config::Config;
use shoreguard::outbox::event_types;
use shoreguard::pb::v1 as pb;
use tonic::Status;

use self::receiver::Receiver;
use crate::support::eventually;
use crate::support::server::{Caller, TestServer};

/// The event that [`emit`] causes.
const EVENT: &str = "service_principal.created";
/// A receiver that nothing is sent to.
const NOWHERE: &str = "http://127.0.0.1:9/hook";

pub(crate) fn allow_loopback(config: &mut Config) {
    config.webhooks.allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
}

/// A request for a webhook that subscribes to [`EVENT`].
fn request(url: &str) -> pb::CreateWebhookRequest {
    pb::CreateWebhookRequest {
        url: url.to_owned(),
        event_types: vec![EVENT.to_owned()],
        ..Default::default()
    }
}

async fn create(
    caller: &Caller,
    request: pb::CreateWebhookRequest,
) -> Result<pb::CreateWebhookResponse, Status> {
    Ok(caller.webhooks().create_webhook(request).await?.into_inner())
}

/// Creates a webhook. Returns its id.
async fn created(sg: &TestServer, request: pb::CreateWebhookRequest) -> i64 {
    create(&sg.admin(), request).await.unwrap().webhook.unwrap().id
}

async fn get(sg: &TestServer, webhook_id: i64) -> pb::Webhook {
    let request = pb::GetWebhookRequest { webhook_id };
    sg.admin().webhooks().get_webhook(request).await.unwrap().into_inner().webhook.unwrap()
}

fn change(webhook_id: i64, paths: &[&str]) -> pb::UpdateWebhookRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdateWebhookRequest {
        webhook_id,
        update_mask: Some(prost_types::FieldMask { paths }),
        ..Default::default()
    }
}

async fn update(
    sg: &TestServer,
    request: pb::UpdateWebhookRequest,
) -> Result<pb::UpdateWebhookResponse, Status> {
    Ok(sg.admin().webhooks().update_webhook(request).await?.into_inner())
}

async fn set_active(sg: &TestServer, webhook_id: i64, active: bool) {
    let request = pb::UpdateWebhookRequest { active, ..change(webhook_id, &["active"]) };
    update(sg, request).await.unwrap();
}

async fn list_deliveries(sg: &TestServer, webhook_id: i64) -> Vec<pb::WebhookDelivery> {
    let request =
        pb::ListWebhookDeliveriesRequest { webhook_id, page_size: 1_000, ..Default::default() };
    let response = sg.admin().webhooks().list_webhook_deliveries(request).await.unwrap();
    response.into_inner().webhook_deliveries
}

/// Waits until all deliveries of a webhook are in a state, and returns them.
pub(crate) async fn all_in(
    sg: &TestServer,
    webhook_id: i64,
    count: usize,
    status: pb::WebhookDeliveryStatus,
) -> Vec<pb::WebhookDelivery> {
    let so = || async {
        let found = list_deliveries(sg, webhook_id).await;
        found.len() == count && found.iter().all(|one| one.status() == status)
    };
    eventually("the deliveries are in their state", so).await;
    list_deliveries(sg, webhook_id).await
}

/// Causes one event for each name: it creates service principals.
async fn emit(caller: &Caller, names: &[&str]) {
    for name in names {
        caller.create_key(name, pb::Role::None).await;
    }
}

fn settings() -> pb::WebhookEmailSettings {
    pb::WebhookEmailSettings {
        smtp_host: "127.0.0.1".into(),
        smtp_user: "kim".into(),
        smtp_pass: "hunter2-of-mail".into(),
        from_addr: "shoreguard@example.com".into(),
        to_addrs: vec!["ops@example.com".into()],
        ..Default::default()
    }
}

fn by_email(email: pb::WebhookEmailSettings) -> pb::CreateWebhookRequest {
    let channel = pb::WebhookChannel::Email.into();
    pb::CreateWebhookRequest { channel, email: Some(email), ..request("") }
}

server_tests! {
    tuned allow_loopback;
    a_webhook_is_created_read_changed_listed_and_deleted,
    webhooks_are_listed_in_pages_newest_first,
    there_can_be_200_webhooks,
}

sqlite_tests! {
    tuned allow_loopback;
    invalid_webhooks_are_refused_with_the_field_and_the_limit,
    a_mail_server_can_be_named_by_its_url,
    a_url_can_have_a_query_without_a_path,
    invalid_changes_are_refused,
    an_unknown_webhook_is_not_found,
    an_inactive_webhook_is_neither_tested_nor_sent_to_again,
    the_catalogue_lists_every_type_of_event,
}

async fn a_webhook_is_created_read_changed_listed_and_deleted(sg: TestServer) {
    let asked = pb::CreateWebhookRequest { description: "pager".into(), ..request(NOWHERE) };
    let made = create(&sg.admin(), asked).await.unwrap();
    assert!(made.secret.starts_with("whsec_") && made.legacy_secret.len() == 64);
    let webhook = made.webhook.unwrap();
    assert_eq!(webhook.channel(), pb::WebhookChannel::Generic);
    assert_eq!((webhook.url.as_str(), webhook.description.as_str()), (NOWHERE, "pager"));
    assert_eq!((webhook.active, webhook.max_in_flight, webhook.rate_per_second), (true, 4, 0));
    assert_eq!(webhook.event_types, [EVENT]);
    assert_eq!(get(&sg, webhook.id).await, webhook);

    let asked = pb::UpdateWebhookRequest {
        description: "chat".into(),
        max_in_flight: 64,
        rate_per_second: 1_000,
        event_types: vec!["sandbox.*".into(), "*".into()],
        etag: webhook.etag.clone(),
        ..change(webhook.id, &["description", "max_in_flight", "rate_per_second", "event_types"])
    };
    let changed = update(&sg, asked.clone()).await.unwrap();
    assert_eq!((changed.secret.as_str(), changed.legacy_secret.as_str()), ("", ""));
    let changed = changed.webhook.unwrap();
    assert_eq!((changed.max_in_flight, changed.rate_per_second), (64, 1_000));
    assert_eq!(changed.event_types, ["sandbox.*", "*"]);
    assert_eq!(get(&sg, webhook.id).await, changed);
    assert_refused!(update(&sg, asked).await, Aborted, "CONCURRENT_CHANGE");

    let stale = pb::DeleteWebhookRequest {
        webhook_id: webhook.id,
        etag: webhook.etag,
        ..Default::default()
    };
    let refused = sg.admin().webhooks().delete_webhook(stale).await;
    assert_refused!(refused, Aborted, "CONCURRENT_CHANGE");
    let delete = pb::DeleteWebhookRequest { webhook_id: webhook.id, ..Default::default() };
    sg.admin().webhooks().delete_webhook(delete).await.unwrap();
    let read = pb::GetWebhookRequest { webhook_id: webhook.id };
    assert_refused!(sg.admin().webhooks().get_webhook(read).await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn webhooks_are_listed_in_pages_newest_first(sg: TestServer) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(created(&sg, request(NOWHERE)).await);
    }
    ids.reverse();
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListWebhooksRequest { page_size: 2, page_token };
        let page = sg.admin().webhooks().list_webhooks(request).await.unwrap().into_inner();
        listed.extend(page.webhooks.into_iter().map(|webhook| webhook.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ids);
    sg.finish().await;
}

async fn there_can_be_200_webhooks(sg: TestServer) {
    created(&sg, request(NOWHERE)).await;
    let columns =
        "url, secret, event_types, is_active, channel_type, created_by, created_at, updated_at";
    let copies = format!(
        "INSERT INTO webhooks (uid, {columns}) \
         WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 199) \
         SELECT 'copy ' || n.i, {columns} FROM webhooks, n"
    );
    assert_eq!(sg.sql(&copies).await, 198);
    created(&sg, request(NOWHERE)).await;
    let refused = create(&sg.admin(), request(NOWHERE)).await;
    assert_refused!(refused, ResourceExhausted, "WEBHOOK_LIMIT");
    sg.finish().await;
}

async fn invalid_webhooks_are_refused_with_the_field_and_the_limit(sg: TestServer) {
    let many = |count: usize| vec!["ops@example.com".to_owned(); count];
    let cases: Vec<(&str, pb::CreateWebhookRequest)> = vec![
        ("url", request("")),
        ("url", request(&format!("https://example.com/{}", "x".repeat(2_048)))),
        ("url", request("https://kim@example.com/")),
        ("url", request("https:///path")),
        ("url", request("https://example.com:+443/")),
        ("url", request("https://[fe80::1%25eth0]/")),
        ("url", request("https://example.com%00.evil.example/")),
        (
            "url",
            pb::CreateWebhookRequest {
                url: format!("smtp://{}", "x".repeat(2_048)),
                ..by_email(settings())
            },
        ),
        (
            "event_types[0]",
            pb::CreateWebhookRequest {
                event_types: vec!["sandbox.creatd".into()],
                ..request(NOWHERE)
            },
        ),
        (
            "event_types",
            pb::CreateWebhookRequest { event_types: vec!["*".into(); 51], ..request(NOWHERE) },
        ),
        ("max_in_flight", pb::CreateWebhookRequest { max_in_flight: 65, ..request(NOWHERE) }),
        ("max_in_flight", pb::CreateWebhookRequest { max_in_flight: -1, ..request(NOWHERE) }),
        (
            "rate_per_second",
            pb::CreateWebhookRequest { rate_per_second: 1_001, ..request(NOWHERE) },
        ),
        (
            "description",
            pb::CreateWebhookRequest { description: "x".repeat(501), ..request(NOWHERE) },
        ),
        ("email", pb::CreateWebhookRequest { email: Some(settings()), ..request(NOWHERE) }),
        (
            "email",
            pb::CreateWebhookRequest { channel: pb::WebhookChannel::Email.into(), ..request("") },
        ),
        (
            "email.smtp_host",
            by_email(pb::WebhookEmailSettings { smtp_host: String::new(), ..settings() }),
        ),
        (
            "email.smtp_pass",
            by_email(pb::WebhookEmailSettings { smtp_pass: String::new(), ..settings() }),
        ),
        ("email.smtp_port", by_email(pb::WebhookEmailSettings { smtp_port: 65_536, ..settings() })),
        ("email.to_addrs", by_email(pb::WebhookEmailSettings { to_addrs: many(51), ..settings() })),
        ("email.to_addrs", by_email(pb::WebhookEmailSettings { to_addrs: many(0), ..settings() })),
        (
            "email.to_addrs[0]",
            by_email(pb::WebhookEmailSettings {
                to_addrs: vec!["a@b\r\nDATA".into()],
                ..settings()
            }),
        ),
    ];
    for (field, asked) in cases {
        let shown = format!("{asked:?}");
        let refused =
            assert_refused!(create(&sg.admin(), asked).await, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains(&format!("`{field}`")), "{shown}: {refused:?}");
        if field.starts_with("event_types[") {
            assert!(refused.message().contains("ListEventTypes"), "{refused:?}");
        }
    }
    let elsewhere =
        pb::CreateWebhookRequest { gateways: vec!["nowhere".into()], ..request(NOWHERE) };
    assert_refused!(create(&sg.admin(), elsewhere).await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn a_mail_server_can_be_named_by_its_url(sg: TestServer) {
    let by_url = pb::CreateWebhookRequest {
        url: "smtp://127.0.0.1:2525".into(),
        ..by_email(pb::WebhookEmailSettings { smtp_host: String::new(), ..settings() })
    };
    let made = create(&sg.admin(), by_url).await.unwrap();
    assert_eq!(
        (made.secret.as_str(), made.webhook.unwrap().url.as_str()),
        ("", "smtp://127.0.0.1:2525")
    );
    sg.finish().await;
}

async fn a_url_can_have_a_query_without_a_path(sg: TestServer) {
    let receiver = Receiver::start().await;
    let asked = request(&format!("http://{}?key=of-a-receiver", receiver.address));
    let webhook_id = created(&sg, asked).await;
    let test = pb::TestWebhookRequest { webhook_id, ..Default::default() };
    let tested = sg.admin().webhooks().test_webhook(test).await.unwrap().into_inner();
    assert!(tested.delivered, "{tested:?}");
    assert_eq!(receiver.received()[0].path, "/?key=of-a-receiver");
    sg.finish().await;
}

async fn invalid_changes_are_refused(sg: TestServer) {
    let id = created(&sg, request(NOWHERE)).await;
    let to_email = pb::UpdateWebhookRequest {
        channel: pb::WebhookChannel::Email.into(),
        ..change(id, &["channel"])
    };
    assert_refused!(update(&sg, to_email).await, InvalidArgument, "INVALID_FIELD");
    for paths in [&["secret"][..], &[], &["channel"]] {
        let refused = update(&sg, change(id, paths)).await;
        assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    }
    for seconds in [7 * 24 * 3600 + 1, -1] {
        let rotate = pb::RotateWebhookSecretRequest {
            webhook_id: id,
            overlap: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..Default::default()
        };
        let refused = sg.admin().webhooks().rotate_webhook_secret(rotate).await;
        let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains("`overlap`"), "{refused:?}");
    }
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let backwards = pb::RedeliverWebhookRequest {
        webhook_id: id,
        start_time: at(2),
        end_time: at(1),
        ..Default::default()
    };
    let refused = sg.admin().webhooks().redeliver_webhook(backwards).await;
    assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    let unknown =
        pb::RedeliverWebhookRequest { webhook_id: id, delivery_ids: vec![7], ..Default::default() };
    let refused = sg.admin().webhooks().redeliver_webhook(unknown).await;
    assert_refused!(refused, NotFound, "NOT_FOUND");
    let by_mail = created(&sg, by_email(settings())).await;
    let rotate = pb::RotateWebhookSecretRequest { webhook_id: by_mail, ..Default::default() };
    let refused = sg.admin().webhooks().rotate_webhook_secret(rotate).await;
    assert_refused!(refused, FailedPrecondition, "WEBHOOK_NOT_SIGNED");
    sg.finish().await;
}

async fn an_unknown_webhook_is_not_found(sg: TestServer) {
    let mut webhooks = sg.admin().webhooks();
    let webhook_id = 7;
    let rotate = pb::RotateWebhookSecretRequest { webhook_id, ..Default::default() };
    let list = pb::ListWebhookDeliveriesRequest { webhook_id, ..Default::default() };
    let again =
        pb::RedeliverWebhookRequest { webhook_id, delivery_ids: vec![1], ..Default::default() };
    let delete = pb::DeleteWebhookRequest { webhook_id, ..Default::default() };
    let test = pb::TestWebhookRequest { webhook_id, ..Default::default() };
    assert_refused!(webhooks.rotate_webhook_secret(rotate).await, NotFound, "NOT_FOUND");
    assert_refused!(webhooks.list_webhook_deliveries(list).await, NotFound, "NOT_FOUND");
    assert_refused!(webhooks.redeliver_webhook(again).await, NotFound, "NOT_FOUND");
    assert_refused!(webhooks.delete_webhook(delete).await, NotFound, "NOT_FOUND");
    assert_refused!(webhooks.test_webhook(test).await, NotFound, "NOT_FOUND");
    assert_refused!(update(&sg, change(webhook_id, &["active"])).await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn an_inactive_webhook_is_neither_tested_nor_sent_to_again(sg: TestServer) {
    let asked = pb::CreateWebhookRequest { active: Some(false), ..request(NOWHERE) };
    let webhook_id = created(&sg, asked).await;
    let test = pb::TestWebhookRequest { webhook_id, ..Default::default() };
    let refused = sg.admin().webhooks().test_webhook(test).await;
    assert_refused!(refused, FailedPrecondition, "WEBHOOK_INACTIVE");
    let again =
        pb::RedeliverWebhookRequest { webhook_id, delivery_ids: vec![1], ..Default::default() };
    let refused = sg.admin().webhooks().redeliver_webhook(again).await;
    assert_refused!(refused, FailedPrecondition, "WEBHOOK_INACTIVE");
    sg.finish().await;
}

async fn the_catalogue_lists_every_type_of_event(sg: TestServer) {
    let nobody = sg.with_token(&sg.admin().create_key("nobody", pb::Role::None).await);
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListEventTypesRequest { page_size: 7, page_token };
        let page = nobody.events().list_event_types(request).await.unwrap().into_inner();
        listed.extend(page.event_types.into_iter().map(|of| (of.name, of.description)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut expected: Vec<(String, String)> = event_types::ALL
        .iter()
        .map(|(event_type, what)| (event_type.name().to_owned(), (*what).to_owned()))
        .collect();
    expected.sort();
    assert_eq!(listed, expected);
    sg.finish().await;
}
