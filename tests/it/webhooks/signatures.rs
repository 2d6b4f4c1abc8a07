//! Signatures: verified by the published libraries, rotated with and without an overlap.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::json;
use shoreguard::pb::v1 as pb;

use super::receiver::{Received, Receiver};
use super::{allow_loopback, create, created, emit, get, request};
use crate::support::server::TestServer;

/// Verifies messages with `standardwebhooks` of `PyPI`. Reads lines of JSON; writes `yes` or `no` for each.
const PYTHON: &str = "
import json, sys
from standardwebhooks import Webhook, WebhookVerificationError
for line in sys.stdin:
    case = json.loads(line)
    try:
        Webhook(case['secret']).verify(case['body'], case['headers'])
        print('yes')
    except WebhookVerificationError:
        print('no')
";
/// The same with npm `standardwebhooks`.
const JAVASCRIPT: &str = "
const { Webhook } = require('standardwebhooks');
for (const line of require('fs').readFileSync(0, 'utf8').trim().split('\\n')) {
    const { secret, body, headers } = JSON.parse(line);
    try { new Webhook(secret).verify(body, headers); console.log('yes'); } catch { console.log('no'); }
}
";

server_tests! {
    tuned allow_loopback;
    messages_are_signed_and_repeat_nothing_of_the_secret,
    a_rotation_signs_with_both_secrets_until_its_overlap_ends,
    messages_are_signed_by_the_clock_of_the_database,
}

sqlite_tests! {
    tuned allow_loopback;
    published_libraries_accept_both_secrets_and_refuse_one_wrong_byte,
}

/// Returns the HMAC-SHA-256. Its key is the characters of the secret.
fn tag(legacy_secret: &str, text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, legacy_secret.as_bytes());
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// Returns the value of `webhook-signature` for these secrets.
fn expected(received: &Received, secrets: &[&str]) -> String {
    let (id, at) = (received.header("webhook-id"), received.header("webhook-timestamp"));
    let text = format!("{id}.{at}.{}", received.body);
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| format!("v1,{}", STANDARD.encode(tag(secret, &text))))
        .collect();
    signatures.join(" ")
}

/// Returns the value of the header that receivers of the predecessor verify.
fn legacy(received: &Received, secret: &str) -> String {
    format!("sha256={}", shoreguard::seal::hex(&tag(secret, &received.body)))
}

async fn messages_are_signed_and_repeat_nothing_of_the_secret(sg: TestServer) {
    let receiver = Receiver::start().await;
    let made = create(&sg.admin(), request(&receiver.url())).await.unwrap();
    emit(&sg.admin(), &["one"]).await;
    let received = receiver.wait_for(1).await.remove(0);
    let id = received.header("webhook-id");
    assert!(id.starts_with("msg_") && !id.contains('.'), "{id}");
    assert_eq!(received.path, "/hook");
    assert_eq!(received.header("content-type"), "application/json");
    let secret = made.legacy_secret.as_str();
    assert_eq!(received.header("webhook-signature"), expected(&received, &[secret]));
    assert_eq!(received.header("x-shoreguard-signature"), legacy(&received, secret));
    let standard = made.secret.strip_prefix("whsec_").unwrap();
    assert_eq!(STANDARD.decode(standard).unwrap(), secret.as_bytes());
    let body = received.json();
    assert_eq!(body["type"], super::EVENT);
    assert_eq!(body["event"], body["type"]);
    assert_eq!(body["data"]["service_principal"], "one");
    assert!(body["sequence"].as_i64().unwrap() > 0 && body["timestamp"].is_string());
    assert!(!format!("{received:?}").contains(secret));
    sg.finish().await;
}

async fn a_rotation_signs_with_both_secrets_until_its_overlap_ends(sg: TestServer) {
    let receiver = Receiver::start().await;
    let made = create(&sg.admin(), request(&receiver.url())).await.unwrap();
    let (webhook_id, first) = (made.webhook.unwrap().id, made.legacy_secret);
    let rotate = async |overlap: Option<i64>| {
        let overlap = overlap.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = pb::RotateWebhookSecretRequest { webhook_id, overlap, ..Default::default() };
        let response = sg.admin().webhooks().rotate_webhook_secret(request).await.unwrap();
        response.into_inner().legacy_secret
    };
    let second = rotate(None).await;
    assert!(get(&sg, webhook_id).await.previous_secret_expire_time.is_some());
    emit(&sg.admin(), &["one"]).await;
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(received.header("webhook-signature"), expected(&received, &[&second, &first]));
    assert_eq!(received.header("x-shoreguard-signature"), legacy(&received, &second));

    sg.pass(Duration::from_hours(24)).await;
    emit(&sg.admin(), &["two"]).await;
    let received = receiver.wait_for(2).await.remove(1);
    assert_eq!(received.header("webhook-signature"), expected(&received, &[&second]));

    let third = rotate(Some(3600)).await;
    let fourth = rotate(Some(0)).await;
    assert!(get(&sg, webhook_id).await.previous_secret_expire_time.is_none());
    emit(&sg.admin(), &["three"]).await;
    let received = receiver.wait_for(3).await.remove(2);
    assert_eq!(received.header("webhook-signature"), expected(&received, &[&fourth]));
    assert_ne!(third, fourth);
    sg.finish().await;
}

/// The clock of the replica is a day behind: receivers would refuse its messages, and the previous secret would sign
/// them.
async fn messages_are_signed_by_the_clock_of_the_database(sg: TestServer) {
    let receiver = Receiver::start().await;
    let webhook_id = created(&sg, request(&receiver.url())).await;
    let rotate = pb::RotateWebhookSecretRequest { webhook_id, ..Default::default() };
    let rotated = sg.admin().webhooks().rotate_webhook_secret(rotate).await.unwrap().into_inner();
    sg.app.db.advance_clock(Duration::from_hours(25));
    let test = pb::TestWebhookRequest { webhook_id, ..Default::default() };
    let tested = sg.admin().webhooks().test_webhook(test).await.unwrap().into_inner();
    assert!(tested.delivered, "{tested:?}");
    emit(&sg.admin(), &["one"]).await;
    let own = sg.app.clock.now().unix_seconds();
    for received in receiver.wait_for(2).await {
        let secret = rotated.legacy_secret.as_str();
        assert_eq!(received.header("webhook-signature"), expected(&received, &[secret]));
        let time: i64 = received.header("webhook-timestamp").parse().unwrap();
        assert!(time > own + 24 * 3_600, "{time} {own}");
    }
    sg.finish().await;
}

async fn published_libraries_accept_both_secrets_and_refuse_one_wrong_byte(sg: TestServer) {
    let receiver = Receiver::start().await;
    let made = create(&sg.admin(), request(&receiver.url())).await.unwrap();
    let rotate = pb::RotateWebhookSecretRequest {
        webhook_id: made.webhook.unwrap().id,
        ..Default::default()
    };
    let rotated = sg.admin().webhooks().rotate_webhook_secret(rotate).await.unwrap().into_inner();
    let other = created(&sg, request(super::NOWHERE)).await;
    assert!(other > 0);
    emit(&sg.admin(), &["one"]).await;
    let received = receiver.wait_for(1).await.remove(0);
    let case = |secret: &str, body: &str, id: &str| {
        let headers = json!({
            "webhook-id": id,
            "webhook-timestamp": received.header("webhook-timestamp"),
            "webhook-signature": received.header("webhook-signature"),
        });
        json!({ "secret": secret, "body": body, "headers": headers }).to_string()
    };
    let (id, body) = (received.header("webhook-id"), received.body.as_str());
    let changed = body.replacen("one", "onf", 1);
    let foreign = format!("whsec_{}", STANDARD.encode("0".repeat(64)));
    let cases = [
        case(&rotated.secret, body, id),
        case(&made.secret, body, id),
        case(&rotated.secret, &changed, id),
        case(&rotated.secret, body, "msg_other"),
        case(&foreign, body, id),
    ];
    let input = cases.join("\n");
    for output in [verify_with_python(&input), verify_with_javascript(&input)] {
        assert_eq!(output.lines().collect::<Vec<_>>(), ["yes", "yes", "no", "no", "no"]);
    }
    sg.finish().await;
}

/// Returns a path below `target/tools`. The folder `target` is that of this binary.
fn tool(path: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().nth(3).unwrap().join("tools").join(path);
    assert!(
        found.exists(),
        "the libraries of the tests are missing: run `scripts/tools`, which installs them into {}",
        found.display()
    );
    found
}

fn verify_with_python(input: &str) -> String {
    let mut command = Command::new(tool("standardwebhooks/bin/python"));
    command.args(["-c", PYTHON]);
    run(command, input)
}

fn verify_with_javascript(input: &str) -> String {
    let mut command = Command::new("node");
    command.args(["-e", JAVASCRIPT]);
    command.env("NODE_PATH", tool("standardwebhooks_js/node_modules"));
    run(command, input)
}

fn run(mut command: Command, input: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
