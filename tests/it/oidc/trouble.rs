//! Issuers that return wrong data, hang or redirect: callers only learn that the issuer cannot be used.

use std::time::Duration;

use serde_json::{Value, json};
use shoreguard::pb::v1 as pb;

use super::{AUDIENCE, BACK, configure_issuers};
use crate::oidc_provider::{Behavior, Issuer, IssuerCommand};
use crate::support::eventually;
use crate::support::server::TestServer;

const DISCOVERY: &str = ".well-known/openid-configuration";
const AWAY: &str = "the issuer of provider `corp` cannot be used at the moment";

async fn begin(sg: &TestServer) -> Result<(), tonic::Status> {
    let request = pb::BeginOidcLoginRequest { provider: "corp".into(), redirect_uri: BACK.into() };
    sg.anonymous().auth().begin_oidc_login(request).await.map(|_| ())
}

/// Makes a call that requests a path of an issuer. If the issuer hangs, its deadline passes on the clock.
async fn ended<T>(
    sg: &TestServer,
    (issuer, path, how): (&Issuer, &str, Behavior),
    call: impl Future<Output = T>,
) -> T {
    issuer.send(IssuerCommand::SetBehavior(path.to_owned(), how)).await;
    let before = issuer.count(path).await;
    let passing = async {
        if how == Behavior::Hang {
            eventually("it is requested", async || issuer.count(path).await > before).await;
            sg.app.clock.advance(sg.app.config.oidc.timeout());
        }
    };
    tokio::join!(call, passing).0
}

sqlite_tests! {
    tuned configure_issuers;
    an_unavailable_or_invalid_discovery_document_is_reported_without_details,
    forbidden_urls_of_a_discovery_document_are_not_fetched,
    an_authorization_code_is_sent_only_to_an_allowed_token_endpoint,
    an_unreachable_issuer_is_called_rarely_and_does_not_affect_other_issuers,
}

async fn an_unavailable_or_invalid_discovery_document_is_reported_without_details(sg: TestServer) {
    let corp = sg.issuer("corp");
    for how in [Behavior::Redirect, Behavior::Fail, Behavior::Hang] {
        let begun = ended(&sg, (&corp, DISCOVERY, how), begin(&sg)).await;
        let refused = assert_refused!(begun, Unavailable, "ISSUER_UNAVAILABLE");
        assert_eq!(refused.message(), AWAY, "{how:?}");
        sg.pass(Duration::from_secs(30)).await;
    }
    corp.send(IssuerCommand::SetBehavior(DISCOVERY.to_owned(), Behavior::Normal)).await;
    for document in [
        json!({ "issuer": "https://another.example.com" }),
        json!({ "issuer": format!("{}/", corp.url) }),
        json!({ "issuer": null }),
        json!({ "jwks_uri": null }),
        json!({ "authorization_endpoint": null }),
        json!({ "authorization_endpoint": "http://id.example.com/authorize" }),
        json!({ "authorization_endpoint": "javascript:alert(1)" }),
    ] {
        corp.send(IssuerCommand::Discovery(document.clone())).await;
        let refused = assert_refused!(begin(&sg).await, Unavailable, "ISSUER_UNAVAILABLE");
        assert_eq!(refused.message(), AWAY, "{document}");
        // As long as a valid document stays cached.
        sg.pass(Duration::from_hours(1)).await;
    }
    corp.send(IssuerCommand::Discovery(json!({}))).await;
    begin(&sg).await.unwrap();
    sg.finish().await;
}

/// Returns the URL of an issuer under a name that does not count as loopback, so that `http` is refused. The issuer
/// would answer under it.
fn by_another_name(issuer: &Issuer) -> String {
    issuer.url.replace("127.0.0.1", "localhost.")
}

async fn forbidden_urls_of_a_discovery_document_are_not_fetched(sg: TestServer) {
    let corp = sg.issuer("corp");
    let token = corp.access_token(json!({ "aud": AUDIENCE, "sub": "robot-7" })).await;
    let by_name = format!("{}/keys", by_another_name(&corp));
    for place in [
        "https://0.0.0.0/keys",
        "https://[::ffff:0.0.0.0]/keys",
        "https://[::1]/keys",
        &by_name,
        "ftp://127.0.0.1/keys",
        "file:///etc/passwd",
        "/keys",
    ] {
        corp.send(IssuerCommand::Discovery(json!({ "jwks_uri": place }))).await;
        let refused =
            assert_refused!(sg.exchange("corp", &token).await, Unavailable, "ISSUER_UNAVAILABLE");
        assert_eq!(refused.message(), AWAY, "{place}");
        let refused = assert_refused!(
            sg.with_token(&token).current_identity().await,
            Unavailable,
            "ISSUER_UNAVAILABLE"
        );
        for host in ["0.0.0.0", "::1", "localhost"] {
            assert!(!refused.message().contains(host), "{place}");
        }
        sg.pass(Duration::from_hours(1)).await;
    }
    corp.send(IssuerCommand::Discovery(json!({}))).await;
    corp.send(IssuerCommand::SetBehavior("keys".to_owned(), Behavior::Redirect)).await;
    let refused =
        assert_refused!(sg.exchange("corp", &token).await, Unavailable, "ISSUER_UNAVAILABLE");
    assert_eq!(refused.message(), AWAY);
    sg.finish().await;
}

async fn an_authorization_code_is_sent_only_to_an_allowed_token_endpoint(sg: TestServer) {
    let corp = sg.issuer("corp");
    corp.set_person("1", "ana@corp.example", Value::Null).await;
    for place in ["https://0.0.0.0/token", &format!("{}/token", by_another_name(&corp))] {
        corp.send(IssuerCommand::Discovery(json!({ "token_endpoint": place }))).await;
        let refused =
            assert_refused!(sg.oidc_login("corp").await, Unavailable, "ISSUER_UNAVAILABLE");
        assert_eq!(refused.message(), AWAY, "{place}");
        sg.pass(Duration::from_hours(1)).await;
    }
    corp.send(IssuerCommand::Discovery(json!({}))).await;
    for how in [Behavior::Redirect, Behavior::Fail, Behavior::Hang] {
        let login = ended(&sg, (&corp, "token", how), sg.oidc_login("corp")).await;
        let refused = assert_refused!(login, Unavailable, "ISSUER_UNAVAILABLE");
        assert_eq!(refused.message(), AWAY, "{how:?}");
    }
    corp.send(IssuerCommand::SetBehavior("token".to_owned(), Behavior::Normal)).await;
    sg.oidc_login("corp").await.unwrap();
    sg.finish().await;
}

async fn an_unreachable_issuer_is_called_rarely_and_does_not_affect_other_issuers(sg: TestServer) {
    let corp = sg.issuer("corp");
    corp.send(IssuerCommand::SetBehavior(DISCOVERY.to_owned(), Behavior::Fail)).await;
    for _ in 0..5 {
        assert_refused!(begin(&sg).await, Unavailable, "ISSUER_UNAVAILABLE");
    }
    assert_eq!(corp.count(DISCOVERY).await, 1);
    sg.log_in_as("partner", "1", "bo@partner.example", Value::Null).await.unwrap();
    sg.finish().await;
}
