//! Secrets of webhooks: at rest, in responses, in the log, and what a changed destination does to them.

use std::process::Stdio;

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;

use super::receiver::{Receiver, Reply};
use super::{
    NOWHERE, allow_loopback, by_email, change, create, created, emit, get, list_deliveries,
    request, settings, update,
};
use crate::support::child::ChildSetup;
use crate::support::server::{Caller, TestServer};
use crate::support::{DbLocation, dump, limit};

server_tests! {
    tuned allow_loopback;
    t18_secrets_of_webhooks_are_sealed_and_in_no_read,
    t18_a_sealed_value_of_another_webhook_does_not_open,
    t04_a_changed_url_or_channel_drops_the_signing_secret,
    t04_a_changed_mail_server_drops_the_password,
}

sqlite_tests! {
    tuned allow_loopback;
    t04_a_url_of_slack_is_not_revealed_by_another_channel,
    e15_a_repeated_creation_returns_its_secret_only_to_the_same_key,
    e15_a_receiver_that_repeats_the_path_of_a_secret_url_reveals_nothing,
}

fn slack(url: &str) -> pb::CreateWebhookRequest {
    pb::CreateWebhookRequest { channel: pb::WebhookChannel::Slack.into(), ..request(url) }
}

async fn t18_secrets_of_webhooks_are_sealed_and_in_no_read(sg: TestServer) {
    let admin = sg.admin();
    let made = create(&admin, slack("http://127.0.0.1:9/services/token-of-slack")).await.unwrap();
    let webhook = made.webhook.unwrap();
    assert_eq!(webhook.url, "http://127.0.0.1:9");
    let by_mail = created(&sg, by_email(settings())).await;
    let read = get(&sg, by_mail).await.email.unwrap();
    assert_eq!(read.smtp_user, "kim");
    let changed = pb::UpdateWebhookRequest {
        url: "http://127.0.0.1:9/services/other-token-of-slack".into(),
        ..change(webhook.id, &["url"])
    };
    let again = update(&sg, changed).await.unwrap();
    let listed = admin.webhooks().list_webhooks(pb::ListWebhooksRequest::default()).await.unwrap();
    let listed = format!("{:?}", listed.into_inner());
    sg.app.audit.wait_settled().await;
    let secrets = [
        made.legacy_secret.as_str(),
        made.secret.as_str(),
        again.legacy_secret.as_str(),
        "token-of-slack",
        "hunter2-of-mail",
    ];
    for secret in secrets {
        assert!(!secret.is_empty() && !listed.contains(secret), "{listed}");
        let in_hexadecimal = shoreguard::seal::hex(secret.as_bytes());
        for table in ["webhooks", "webhook_deliveries", "audit_log", "events", "idempotency_keys"] {
            let rows = dump::table(&sg.app.db, table).await;
            let is_in = rows.contains(secret) || rows.to_lowercase().contains(&in_hexadecimal);
            assert!(!is_in, "{secret} is in {table}");
        }
    }
    sg.finish().await;
}

async fn t04_a_url_of_slack_is_not_revealed_by_another_channel(sg: TestServer) {
    let id = created(&sg, slack("http://127.0.0.1:9/services/token-of-slack")).await;
    let to_generic = pb::UpdateWebhookRequest {
        channel: pb::WebhookChannel::Generic.into(),
        ..change(id, &["channel"])
    };
    let refused = update(&sg, to_generic.clone()).await;
    let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    assert!(refused.message().contains("`url`"), "{refused:?}");
    assert_eq!(get(&sg, id).await.url, "http://127.0.0.1:9");
    let anew = pb::UpdateWebhookRequest {
        url: NOWHERE.into(),
        update_mask: change(id, &["channel", "url"]).update_mask,
        ..to_generic
    };
    assert_eq!(update(&sg, anew).await.unwrap().webhook.unwrap().url, NOWHERE);
    sg.finish().await;
}

/// Creates a webhook with all values that its channel can have, also a previous secret.
async fn create_full(sg: &TestServer, asked: pb::CreateWebhookRequest) -> i64 {
    let is_signed = asked.email.is_none();
    let webhook_id = created(sg, asked).await;
    if is_signed {
        let rotate = pb::RotateWebhookSecretRequest { webhook_id, ..Default::default() };
        sg.admin().webhooks().rotate_webhook_secret(rotate).await.unwrap();
    }
    webhook_id
}

/// Moves a sealed value into a webhook. Checks that the webhook was readable, and is not any more.
async fn assert_not_opened(sg: &TestServer, webhook_id: i64, column: &str, value: &str) {
    assert!(!get(sg, webhook_id).await.unreadable, "{column}");
    let moved = format!(
        "UPDATE webhooks SET {column} = ({value}) WHERE id = {webhook_id} AND {column} IS NOT NULL"
    );
    assert_eq!(sg.sql(&moved).await, 1, "{column}");
    let read = get(sg, webhook_id).await;
    assert_eq!((read.url.as_str(), read.unreadable), ("", true), "{column}");
    let test = pb::TestWebhookRequest { webhook_id, ..Default::default() };
    let refused = sg.admin().webhooks().test_webhook(test).await;
    assert_refused!(refused, FailedPrecondition, "WEBHOOK_UNREADABLE");
}

async fn t18_a_sealed_value_of_another_webhook_does_not_open(sg: TestServer) {
    for column in ["url", "secret", "secret_before", "extra_config"] {
        // Both webhooks have the same destination.
        let is_mail = column == "extra_config";
        let asked = if is_mail { by_email(settings()) } else { request(NOWHERE) };
        let to = create_full(&sg, asked.clone()).await;
        let from = create_full(&sg, asked).await;
        let value = format!("SELECT {column} FROM webhooks WHERE id = {from}");
        assert_not_opened(&sg, to, column, &value).await;
        assert!(!get(&sg, from).await.unreadable, "{column}");
    }
    // Nor does the value of another column of the same webhook.
    for (column, value) in [("secret", "secret_before"), ("secret_before", "secret")] {
        let id = create_full(&sg, request(NOWHERE)).await;
        assert_not_opened(&sg, id, column, value).await;
    }
    sg.finish().await;
}

/// Uses secrets in calls that succeed or are refused, and in messages that are not delivered. Returns the secrets.
async fn use_secrets(caller: &Caller) -> Vec<String> {
    let receiver = Receiver::start().await;
    receiver.answer(|received| {
        Reply::Full(404, String::new(), format!("no such hook: {}", received.path))
    });
    let url = |token: &str| format!("http://{}/services/{token}", receiver.address);
    let hidden = create(caller, slack(&url("token-of-slack"))).await.unwrap();
    let signed = create(caller, request(&receiver.url())).await.unwrap();
    let mail = pb::WebhookEmailSettings { smtp_port: 9, ..settings() };
    let by_mail = create(caller, by_email(mail.clone())).await.unwrap();
    let [hidden_id, signed_id, mail_id] =
        [&hidden, &signed, &by_mail].map(|made| made.webhook.as_ref().unwrap().id);
    let rotate = pb::RotateWebhookSecretRequest { webhook_id: signed_id, ..Default::default() };
    let rotated = caller.webhooks().rotate_webhook_secret(rotate).await.unwrap().into_inner();
    let moved = pb::UpdateWebhookRequest {
        url: url("second-token-of-slack"),
        ..change(hidden_id, &["url"])
    };
    let moved = caller.webhooks().update_webhook(moved).await.unwrap().into_inner();
    for refused in [
        pb::CreateWebhookRequest { max_in_flight: 65, ..slack(&url("refused-token-of-slack")) },
        request("https://kim:password-in-url@example.com/"),
        by_email(pb::WebhookEmailSettings {
            smtp_pass: "refused-password".into(),
            smtp_port: 65_536,
            ..mail
        }),
    ] {
        assert_refused!(create(caller, refused).await, InvalidArgument, "INVALID_FIELD");
    }
    for webhook_id in [hidden_id, signed_id, mail_id] {
        let test = pb::TestWebhookRequest { webhook_id, ..Default::default() };
        let tested = caller.webhooks().test_webhook(test).await.unwrap().into_inner();
        assert!(!tested.delivered, "{tested:?}");
    }
    emit(caller, &["one"]).await;
    // Both were tested, and both got the event.
    receiver.wait_for(4).await;
    let shown = [
        [hidden.secret, hidden.legacy_secret],
        [signed.secret, signed.legacy_secret],
        [rotated.secret, rotated.legacy_secret],
        [moved.secret, moved.legacy_secret],
    ];
    let given = ["token-of-slack", "password-in-url"];
    let passwords = ["hunter2-of-mail", "refused-password"];
    let given = given.into_iter().chain(passwords).map(str::to_owned);
    shown.into_iter().flatten().chain(given).collect()
}

#[test]
fn t18_secrets_of_webhooks_are_not_in_the_process_log() {
    limit::block_on(async {
        let (place, key) = DbLocation::with_admin(Engine::Sqlite).await.unwrap();
        place.wait_closed().await;
        let setup = ChildSetup::new(&format!(
            "[telemetry]\nlog_level = \"trace\"\n[database]\nurl = \"{}\"\n\
             [keys]\nmaster_key = \"{}\"\n[webhooks]\nallowed_networks = [\"127.0.0.0/8\"]",
            place.url(),
            "5a".repeat(32)
        ));
        let mut command = setup.command(&["serve"]);
        let log = std::fs::File::create(setup.log_path()).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        let child = setup.serve(command).await;
        let secrets = use_secrets(&child.caller(Some(&key))).await;
        assert_eq!(child.stop().await.code(), Some(0));
        let log = std::fs::read_to_string(setup.log_path()).unwrap();
        // A refused call, and lines of the lowest level.
        assert!(log.contains("CreateWebhook") && log.contains("\"TRACE\""));
        for secret in secrets {
            assert!(!secret.is_empty());
            let bytes = format!("{:?}", secret.as_bytes());
            let in_hexadecimal = shoreguard::seal::hex(secret.as_bytes());
            let bytes = bytes.trim_matches(['[', ']']);
            for text in [secret.as_str(), in_hexadecimal.as_str(), bytes] {
                let line = log.lines().find(|line| line.contains(text));
                assert_eq!(line, None, "{text}");
            }
        }
    });
}

async fn t04_a_changed_url_or_channel_drops_the_signing_secret(sg: TestServer) {
    let receiver = Receiver::start().await;
    let made = create(&sg.admin(), request(NOWHERE)).await.unwrap();
    let id = made.webhook.unwrap().id;
    let rotate = pb::RotateWebhookSecretRequest { webhook_id: id, ..Default::default() };
    sg.admin().webhooks().rotate_webhook_secret(rotate).await.unwrap();
    let same = pb::UpdateWebhookRequest { url: NOWHERE.into(), ..change(id, &["url"]) };
    assert_eq!(update(&sg, same).await.unwrap().secret, "");

    let moved = pb::UpdateWebhookRequest { url: receiver.url(), ..change(id, &["url"]) };
    let moved = update(&sg, moved).await.unwrap();
    assert!(moved.secret.starts_with("whsec_") && moved.legacy_secret != made.legacy_secret);
    let webhook = moved.webhook.unwrap();
    assert!(webhook.previous_secret_expire_time.is_none(), "{webhook:?}");
    let test = pb::TestWebhookRequest { webhook_id: id, ..Default::default() };
    let tested = sg.admin().webhooks().test_webhook(test).await.unwrap().into_inner();
    assert!(tested.delivered, "{tested:?}");
    let received = receiver.received().remove(0);
    let signatures = received.header("webhook-signature").split(' ').count();
    assert_eq!(signatures, 1, "only the new secret signs");

    let to_discord = pb::UpdateWebhookRequest {
        channel: pb::WebhookChannel::Discord.into(),
        ..change(id, &["channel"])
    };
    let changed = update(&sg, to_discord).await.unwrap();
    assert!(changed.secret.starts_with("whsec_") && changed.secret != moved.secret);
    assert_eq!(changed.webhook.unwrap().rate_per_second, 2, "the default of the channel");
    let to_email = pb::UpdateWebhookRequest {
        channel: pb::WebhookChannel::Email.into(),
        email: Some(settings()),
        ..change(id, &["channel", "email"])
    };
    assert_eq!(update(&sg, to_email).await.unwrap().secret, "", "mails are not signed");
    sg.finish().await;
}

async fn t04_a_changed_mail_server_drops_the_password(sg: TestServer) {
    let id = created(&sg, by_email(settings())).await;
    let asked = |email| pb::UpdateWebhookRequest { email: Some(email), ..change(id, &["email"]) };
    let without = pb::WebhookEmailSettings { smtp_pass: String::new(), ..settings() };
    let to_addrs = vec!["other@example.com".to_owned()];
    update(&sg, asked(pb::WebhookEmailSettings { to_addrs, ..without.clone() })).await.unwrap();
    for moved in [
        pb::WebhookEmailSettings { smtp_host: "127.0.0.2".into(), ..without.clone() },
        pb::WebhookEmailSettings { smtp_port: 2525, ..without.clone() },
        pb::WebhookEmailSettings { tls: pb::SmtpTlsMode::Implicit.into(), ..without.clone() },
        pb::WebhookEmailSettings { smtp_user: "mallory".into(), ..without.clone() },
    ] {
        let refused = update(&sg, asked(moved.clone())).await;
        let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains("email.smtp_pass"), "{refused:?}");
        let again = pb::WebhookEmailSettings { smtp_pass: settings().smtp_pass, ..moved };
        update(&sg, asked(again)).await.unwrap();
        update(&sg, asked(settings())).await.unwrap();
    }
    let by_url =
        pb::UpdateWebhookRequest { url: "smtp://127.0.0.2:587".into(), ..change(id, &["url"]) };
    assert_refused!(update(&sg, by_url).await, InvalidArgument, "INVALID_FIELD");
    sg.finish().await;
}

async fn e15_a_repeated_creation_returns_its_secret_only_to_the_same_key(sg: TestServer) {
    let admin = sg.admin();
    let asked = pb::CreateWebhookRequest {
        request_id: "7b0d6f0e-6f0a-4c7c-9b7e-2f6f2f1f0a11".into(),
        ..request(NOWHERE)
    };
    let first = create(&admin, asked.clone()).await.unwrap();
    let second = create(&admin, asked.clone()).await.unwrap();
    assert_eq!(first, second);
    let other = sg.with_token(&admin.create_key("other", pb::Role::Admin).await);
    let third = create(&other, asked).await.unwrap();
    assert_ne!(first.secret, third.secret);
    sg.finish().await;
}

async fn e15_a_receiver_that_repeats_the_path_of_a_secret_url_reveals_nothing(sg: TestServer) {
    let receiver = Receiver::start().await;
    receiver.answer(|received| {
        Reply::Full(404, String::new(), format!("no such hook: {}\u{1b}[31m", received.path))
    });
    let url = format!("http://{}/services/token-of-slack", receiver.address);
    let id = created(&sg, slack(&url)).await;
    emit(&sg.admin(), &["one"]).await;
    receiver.wait_for(1).await;
    let tried = || async {
        let found = list_deliveries(&sg, id).await;
        found.first().is_some_and(|one| one.last_attempt.is_some())
    };
    crate::support::eventually("the result is stored", tried).await;
    let attempt = list_deliveries(&sg, id).await.remove(0).last_attempt.unwrap();
    assert_eq!(attempt.response_code, 404);
    let snippet = attempt.response_snippet;
    assert!(snippet.starts_with("no such hook: /") && !snippet.contains("token"), "{snippet}");
    assert!(!snippet.contains('\u{1b}'), "{snippet:?}");
    sg.finish().await;
}
