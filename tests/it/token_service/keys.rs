//! Discovery, and tokens for API keys.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;

use super::{
    CLIENT, access_token, create_key_for, discover, entries, list_names, start_gateway,
    token_by_key,
};
use crate::refusals::denied_count;
use crate::support::http::{get, post, send};
use crate::support::server::TestServer;
use crate::support::{limit, pause};

const TOKEN: &str = "/gateways/alpha/token";

sqlite_tests! {
    a_stock_client_needs_only_a_key_and_one_command,
    t15_discovery_does_not_reveal_whether_a_gateway_exists,
    t15_a_missing_role_and_a_missing_gateway_get_the_same_response,
    an_invalid_key_is_refused_and_only_counted,
    an_ambiguous_token_request_is_refused,
    t14_a_key_gets_one_token_per_hour,
}

async fn a_stock_client_needs_only_a_key_and_one_command(sg: TestServer) {
    let (alpha, beta) = (start_gateway(&sg, "alpha").await, start_gateway(&sg, "beta").await);
    let key = create_key_for(&sg, "ci", &["alpha", "beta"]).await;
    for name in ["alpha", "beta"] {
        let answer = token_by_key(&sg, name, &key).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text("token_type").as_str()),
            (200, "Bearer"),
            "{answer:?}"
        );
        assert_eq!(answer.headers["cache-control"], "no-store");
        let lives = answer.json()["expires_in"].as_u64().unwrap();
        assert!((23 * 3600..=24 * 3600).contains(&lives), "{lives}");
        assert!(answer.json().get("refresh_token").is_none());
        let token = answer.text("access_token");
        assert!(!token.contains(&key));
        // The call names no gateway, although the key has access to two.
        assert_eq!(list_names(&sg.with_token(&token), None).await.unwrap(), name);
    }
    let entries = entries(&sg, "gateway_token.issue").await;
    assert_eq!(entries.len(), 2);
    for entry in &entries {
        assert_eq!(
            (entry.actor.as_str(), entry.outcome()),
            ("sp:ci", pb::AuditOutcome::Ok),
            "{entry:?}"
        );
        assert!(
            ["alpha", "beta"].contains(&entry.gateway.as_str())
                && entry.resource_id == entry.gateway,
            "{entry:?}"
        );
        assert!(!format!("{entry:?}").contains(&key));
    }
    alpha.stop().await;
    beta.stop().await;
    sg.finish().await;
}

async fn t15_discovery_does_not_reveal_whether_a_gateway_exists(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let document = |name: &'static str| {
        let asking = discover(&sg, name);
        async move { asking.await.to_string().replace(name, "X") }
    };
    let there = document("alpha").await;
    assert_eq!(there, document("nowhere").await);
    assert_eq!(there, document("a.b_c-d9").await);
    assert!(!there.contains("device"), "{there}");
    for endpoint in ["jwks.json", "authorize"] {
        let there = get(sg.address, &format!("/gateways/alpha/{endpoint}")).await;
        let nowhere = get(sg.address, &format!("/gateways/nowhere/{endpoint}")).await;
        assert_eq!((there.status, there.body), (nowhere.status, nowhere.body));
    }
    // Only Shoreguard itself verifies its tokens.
    assert_eq!(
        get(sg.address, "/gateways/alpha/jwks.json").await.json(),
        serde_json::json!({ "keys": [] })
    );
    assert_eq!(get(sg.address, "/gateways/alpha/authorize").await.status, 501);
    for bad in ["-alpha", "al%20pha", "%C3%A4", &"a".repeat(254)] {
        for endpoint in [".well-known/openid-configuration", "jwks.json", "authorize"] {
            let answer = get(sg.address, &format!("/gateways/{bad}/{endpoint}")).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (404, 0), "{bad}");
        }
        assert_eq!(post(sg.address, &format!("/gateways/{bad}/token"), &[], &[]).await.status, 404);
    }
    alpha.stop().await;
    sg.finish().await;
}

async fn t15_a_missing_role_and_a_missing_gateway_get_the_same_response(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let key = create_key_for(&sg, "elsewhere", &[]).await;
    let mut answers = Vec::new();
    for name in ["alpha", "nowhere"] {
        let answer = token_by_key(&sg, name, &key).await;
        assert_eq!(answer.refusal(), (400, "invalid_grant".to_owned()));
        answers.push(answer.body);
    }
    assert_eq!(answers[0], answers[1]);
    // A refusal of an authenticated caller is in the audit log, with equal entries for both: the first refusal, and
    // a count of the others.
    let mut issues = entries(&sg, "gateway_token.issue").await;
    while issues.is_empty() {
        pause().await;
        issues = entries(&sg, "gateway_token.issue").await;
    }
    for entry in &issues {
        assert_eq!(
            (entry.actor.as_str(), entry.outcome()),
            ("sp:elsewhere", pb::AuditOutcome::Denied),
            "{entry:?}"
        );
    }
    sg.app.audit.drain().await;
    assert_eq!(denied_count(&sg, "gateway_token.issue").await, 2);
    alpha.stop().await;
    sg.finish().await;
}

async fn an_invalid_key_is_refused_and_only_counted(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let key = create_key_for(&sg, "ci", &["alpha"]).await;
    let good = access_token(&sg, "alpha", &key).await;
    let made_up = format!("sg_{}", "A".repeat(43));
    for bad in ["sg_", &key[..45], &format!("{key}x"), &made_up, &good, "openshell-cli"] {
        let answer = token_by_key(&sg, "alpha", bad).await;
        assert_eq!(answer.refusal(), (401, "invalid_client".to_owned()), "{bad}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(bad), "echoed {bad}");
    }
    assert_eq!(
        token_by_key(&sg, "nowhere", "sg_").await.refusal(),
        (401, "invalid_client".to_owned())
    );
    assert_eq!(token_by_key(&sg, "alpha", "").await.refusal(), (401, "invalid_client".to_owned()));
    assert_eq!(
        entries(&sg, "gateway_token.issue").await.len(),
        1,
        "a guess without a valid key adds no entry"
    );
    alpha.stop().await;
    sg.finish().await;
}

async fn an_ambiguous_token_request_is_refused(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let key = create_key_for(&sg, "ci", &["alpha"]).await;
    let grant = ("grant_type", "client_credentials");
    let secret = ("client_secret", key.as_str());
    let basic = format!("Basic {}", STANDARD.encode(format!("openshell-cli:{key}")));
    let other = format!("Basic {}", STANDARD.encode("openshell-cli:sg_other"));
    // Other parameters of a client are ignored.
    let more = [grant, secret, ("scope", "openid profile"), ("audience", "openshell"), ("x", "y")];
    for good in [&[grant, CLIENT, secret][..], &[grant, secret], &more] {
        assert_eq!(post(sg.address, TOKEN, good, &[]).await.status, 200, "{good:?}");
    }
    assert_eq!(post(sg.address, TOKEN, &[grant], &[("authorization", &basic)]).await.status, 200);
    let challenged = post(sg.address, TOKEN, &[grant], &[("authorization", &other)]).await;
    assert_eq!(challenged.refusal(), (401, "invalid_client".to_owned()));
    assert!(challenged.headers.contains_key("www-authenticate"));

    let invalid = (400, "invalid_request".to_owned());
    for bad in [
        &[][..],
        &[CLIENT, secret],
        &[("grant_type", ""), secret],
        &[grant, grant, secret],
        &[grant, secret, secret],
        &[grant, secret, ("client_secret", "sg_other")],
        &[grant, secret, ("x", "1"), ("x", "2")],
    ] {
        assert_eq!(post(sg.address, TOKEN, bad, &[]).await.refusal(), invalid, "{bad:?}");
    }
    for header in [&basic, &other] {
        let both = post(sg.address, TOKEN, &[grant, secret], &[("authorization", header)]).await;
        assert_eq!(both.refusal(), invalid);
    }
    let twice = [("authorization", basic.as_str()), ("authorization", basic.as_str())];
    assert_eq!(post(sg.address, TOKEN, &[grant], &twice).await.refusal(), invalid);
    let in_address = format!("{TOKEN}?grant_type=client_credentials&client_secret={key}");
    assert_eq!(post(sg.address, &in_address, &[], &[]).await.refusal(), invalid);
    for kind in [
        "password",
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
        "client_credentials ",
    ] {
        let refused = post(sg.address, TOKEN, &[("grant_type", kind), secret], &[]).await;
        assert_eq!(refused.refusal(), (400, "unsupported_grant_type".to_owned()), "{kind}");
    }
    let json = Request::post(TOKEN).header("host", "sg").header("content-type", "application/json");
    let body = format!(r#"{{"grant_type":"client_credentials","client_secret":"{key}"}}"#);
    assert_eq!(
        send(sg.address, json.body(Full::new(Bytes::from(body))).unwrap()).await.refusal(),
        invalid
    );
    assert_eq!(get(sg.address, TOKEN).await.status, 405);
    alpha.stop().await;
    sg.finish().await;
}

async fn t14_a_key_gets_one_token_per_hour(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let key = create_key_for(&sg, "ci", &["alpha"]).await;
    let (mut seen, mut made) = (std::collections::BTreeSet::new(), Vec::new());
    for _ in 0..25 {
        let first = access_token(&sg, "alpha", &key).await;
        assert_eq!(access_token(&sg, "alpha", &key).await, first);
        assert!(seen.insert(first.clone()));
        made.push(first);
        sg.pass(Duration::from_hours(1)).await;
    }
    let mut alive = 0;
    for token in &made {
        alive += usize::from(list_names(&sg.with_token(token), None).await.is_ok());
    }
    assert!((1..=24).contains(&alive), "{alive} are alive");
    assert_refused!(
        list_names(&sg.with_token(&made[0]), None).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    alpha.stop().await;
    sg.finish().await;
}

#[test]
fn tokens_have_the_configured_lifetime_and_are_rate_limited_per_key() {
    limit::block_on(async {
        let sg = TestServer::start(Engine::Sqlite, |config| {
            config.token_service.token_hours = 2;
            config.limits.credentials_per_minute = 20;
        })
        .await
        .unwrap();
        let alpha = start_gateway(&sg, "alpha").await;
        let key = create_key_for(&sg, "ci", &["alpha"]).await;
        let answer = token_by_key(&sg, "alpha", &key).await;
        let lives = answer.json()["expires_in"].as_u64().unwrap();
        assert!((2 * 3600..=3 * 3600).contains(&lives), "{lives}");
        let mut cut = 0;
        // Far more than the limit allows in the time that they take on a busy machine.
        for _ in 0..60 {
            let answer = token_by_key(&sg, "alpha", &key).await;
            if answer.status != 200 {
                assert_eq!(answer.refusal(), (429, "slow_down".to_owned()));
                cut += 1;
            }
        }
        assert!((3..=41).contains(&cut), "{cut} of 61 were cut off");
        alpha.stop().await;
        sg.finish().await;
    });
}
