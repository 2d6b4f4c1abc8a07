//! Each kind of token, used in place of each other kind (T03).

use serde_json::json;
use shoreguard::access::authn::token::TokenGrant;
use shoreguard::access::principal::PrincipalId;
use shoreguard::pb::v1 as pb;
use tonic::Status;

use super::{AUDIENCE, configure_issuers};
use crate::oidc_provider::{LoginRedirect, SigningMode, TokenSpec};
use crate::support::server::TestServer;

/// Presents a token in one place. Returns an error if it is not accepted.
async fn shown(
    sg: &TestServer,
    place: &str,
    token: &str,
    back: &LoginRedirect,
) -> Result<(), Status> {
    match place {
        "bearer" => sg.with_token(token).current_identity().await.map(|_| ()),
        "exchange" => sg.exchange("corp", token).await.map(|_| ()),
        "refresh" => {
            let request = pb::RefreshSessionRequest { refresh_token: token.to_owned() };
            sg.anonymous().auth().refresh_session(request).await.map(|_| ())
        }
        "login" => sg.complete_login(token, back).await.map(|_| ()),
        "code" => {
            let begun = sg.begin_login("corp").await;
            let own = sg.issuer("corp").log_in(&begun.authorization_url).await;
            let back = LoginRedirect { code: token.to_owned(), ..own };
            sg.complete_login(&begun.login_token, &back).await.map(|_| ())
        }
        other => panic!("`{other}` is not a kind of place"),
    }
}

sqlite_tests! { tuned configure_issuers; t03_every_kind_of_token_is_refused_in_place_of_another_kind }

async fn t03_every_kind_of_token_is_refused_in_place_of_another_kind(sg: TestServer) {
    let corp = sg.issuer("corp");
    sg.admin().create_key("robots", pb::Role::Viewer).await;
    let session = sg.log_in_as("corp", "robot-7", "ana@corp.example", json!({})).await.unwrap();
    let access = json!({ "aud": AUDIENCE, "sub": "robot-7" });
    let access_token = corp.access_token(access.clone()).await;
    // An ID token of a login, and one of an issuer that adds Shoreguard's audience to every token.
    let id =
        json!({ "aud": "shoreguard", "sub": "robot-7", "nonce": "n", "at_hash": "x", "typ": "ID" });
    let id_token = corp.access_token(id.clone()).await;
    let mut wide = id;
    wide["aud"] = json!(["shoreguard", AUDIENCE]);
    let wide_id_token = corp.access_token(wide).await;
    let typed = async |typ: &str| {
        corp.issue_token(TokenSpec {
            claims: access.clone(),
            typ: Some(typ.to_owned()),
            ..TokenSpec::default()
        })
        .await
    };
    let forged = async |signed: SigningMode| {
        corp.issue_token(TokenSpec { claims: access.clone(), signed, ..TokenSpec::default() }).await
    };
    let user = sg.with_token(&session.session_token).current_identity().await.unwrap().principal;
    let now = sg.app.clock.now();
    sg.register_gateway("edge", ([127, 0, 0, 1], 1).into()).await;
    let bound = TokenGrant {
        principal: PrincipalId::parse(&user).unwrap(),
        version: 1,
        session: None,
        gateway: sg.app.snapshot.gateway_id("edge"),
        authenticated_at: None,
        issued_at: now,
        expires_at: now.plus(std::time::Duration::from_mins(5)),
    };
    let bound = sg.app.authn.tokens.issue(&bound).unwrap();
    let begun = sg.begin_login("corp").await;
    let back = corp.log_in(&begun.authorization_url).await;
    let table: [(&str, String, &[&str]); 13] = [
        ("API key", sg.admin_key.clone(), &["bearer"]),
        ("session token", session.session_token.clone(), &["bearer"]),
        ("gateway-bound token", bound, &["bearer"]),
        ("access token", access_token, &["bearer", "exchange"]),
        ("access token that says so", typed("at+jwt").await, &["bearer", "exchange"]),
        ("ID token", id_token, &[]),
        ("ID token for our audience too", wide_id_token, &[]),
        ("token of another type", typed("sg-session+jwt").await, &[]),
        ("unsigned token", forged(SigningMode::Unsigned).await, &[]),
        ("token under a public key", forged(SigningMode::HmacWithPublicKey).await, &[]),
        ("token of a stranger", forged(SigningMode::OtherKey).await, &[]),
        ("refresh token", session.refresh_token.clone(), &["refresh"]),
        ("login token", begun.login_token, &["login"]),
    ];
    for (kind, token, taken) in &table {
        // `refresh` is last, since it can end a session if it gets a wrong token.
        for place in ["bearer", "exchange", "code", "login", "refresh"] {
            let answer = shown(&sg, place, token, &back).await;
            assert_eq!(answer.is_ok(), taken.contains(&place), "{kind} as {place}: {answer:?}");
        }
    }
    sg.finish().await;
}
