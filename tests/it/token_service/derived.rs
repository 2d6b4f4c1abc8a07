//! T14: if the origin of a token ends, the token and its live streams end as well.

use std::time::Duration;

use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard::pb::v1 as pb;
use tonic::{Code, Status, Streaming};

use super::{access_token, create_key_for, list_names, start_gateway, token_by_key};
use crate::support::server::{Caller, TestServer};
use crate::support::soon;

/// Opens a live stream through the proxy, and reads its first message.
pub(super) async fn open_watch(caller: &Caller) -> Streaming<new::SandboxStreamEvent> {
    let request = new::WatchSandboxRequest {
        sandbox: "coder".into(),
        follow_status: true,
        ..Default::default()
    };
    let mut events = caller.openshell_v0_1().watch_sandbox(request).await.unwrap().into_inner();
    events.message().await.unwrap().expect("the state of the sandbox is sent at once");
    events
}

/// Returns how a stream ends. It must end within ten seconds, usually within one.
pub(super) async fn wait_stream_end(mut events: Streaming<new::SandboxStreamEvent>) -> Status {
    let ended = async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream that loses its right says so"),
                Err(status) => return status,
            }
        }
    };
    soon("the stream ends", ended).await
}

async fn rotate(sg: &TestServer, name: &str) -> String {
    let request =
        pb::RotateServicePrincipalRequest { service_principal: name.into(), ..Default::default() };
    sg.admin()
        .service_principals()
        .rotate_service_principal(request)
        .await
        .unwrap()
        .into_inner()
        .key
}

server_tests! {
    t14_a_bound_token_is_revoked_with_its_key,
    t14_a_bound_token_stays_valid_during_the_overlap_of_its_key,
    t14_a_bound_token_is_revoked_with_its_gateway,
    t14_a_bound_token_has_the_current_role_of_its_holder,
}

async fn t14_a_bound_token_is_revoked_with_its_key(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let key = create_key_for(&sg, "ci", &["alpha"]).await;
    let bound = sg.with_token(&access_token(&sg, "alpha", &key).await);
    let stream = open_watch(&bound).await;
    let next = rotate(&sg, "ci").await;
    assert_eq!(wait_stream_end(stream).await.code(), Code::Unauthenticated);
    assert_refused!(list_names(&bound, None).await, Unauthenticated, "CREDENTIAL_INVALID");
    assert_eq!(
        token_by_key(&sg, "alpha", &key).await.refusal(),
        (401, "invalid_client".to_owned())
    );
    // Another key at the same time gets another token.
    let after = access_token(&sg, "alpha", &next).await;
    assert_eq!(list_names(&sg.with_token(&after), None).await.unwrap(), "alpha");

    let stream = open_watch(&sg.with_token(&after)).await;
    let delete =
        pb::DeleteServicePrincipalRequest { service_principal: "ci".into(), ..Default::default() };
    sg.admin().service_principals().delete_service_principal(delete).await.unwrap();
    assert_eq!(wait_stream_end(stream).await.code(), Code::Unauthenticated);
    assert_refused!(
        list_names(&sg.with_token(&after), None).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    // A new service principal with the same name is another principal.
    create_key_for(&sg, "ci", &["alpha"]).await;
    assert_refused!(
        list_names(&sg.with_token(&after), None).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    alpha.stop().await;
    sg.finish().await;
}

async fn t14_a_bound_token_stays_valid_during_the_overlap_of_its_key(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let key = create_key_for(&sg, "ci", &["alpha"]).await;
    let before = sg.with_token(&access_token(&sg, "alpha", &key).await);
    let hour = prost_types::Duration { seconds: 3600, nanos: 0 };
    let request = pb::RotateServicePrincipalRequest {
        service_principal: "ci".into(),
        overlap: Some(hour),
        ..Default::default()
    };
    sg.admin().service_principals().rotate_service_principal(request).await.unwrap();
    assert_eq!(list_names(&before, None).await.unwrap(), "alpha");
    // A token of the old key does not outlive the overlap.
    let during = token_by_key(&sg, "alpha", &key).await;
    assert!(during.json()["expires_in"].as_u64().unwrap() <= 3600, "{during:?}");
    let during = sg.with_token(&during.text("access_token"));
    let stream = open_watch(&during).await;
    sg.pass(Duration::from_hours(1)).await;
    assert_eq!(wait_stream_end(stream).await.code(), Code::Unauthenticated);
    for dead in [&before, &during] {
        assert_refused!(list_names(dead, None).await, Unauthenticated, "CREDENTIAL_INVALID");
    }
    alpha.stop().await;
    sg.finish().await;
}

async fn t14_a_bound_token_is_revoked_with_its_gateway(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let key = create_key_for(&sg, "ci", &["alpha"]).await;
    let bound = sg.with_token(&access_token(&sg, "alpha", &key).await);
    let stream = open_watch(&bound).await;
    let unregister =
        pb::UnregisterGatewayRequest { gateway: "alpha".into(), force: true, ..Default::default() };
    sg.admin().gateways().unregister_gateway(unregister).await.unwrap();
    wait_stream_end(stream).await;
    assert_refused!(list_names(&bound, None).await, Unauthenticated, "CREDENTIAL_INVALID");
    let who = bound.auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await;
    assert_refused!(who, Unauthenticated, "CREDENTIAL_INVALID");
    // A new gateway with the same name is another gateway, even for a call with the old token.
    sg.register_gateway("alpha", alpha.addr()).await;
    sg.admin().bind("ci", "alpha", pb::Role::Operator).await;
    assert_refused!(list_names(&bound, None).await, Unauthenticated, "CREDENTIAL_INVALID");
    assert_eq!(
        list_names(&sg.with_token(&access_token(&sg, "alpha", &key).await), None).await.unwrap(),
        "alpha"
    );
    alpha.stop().await;
    sg.finish().await;
}

async fn t14_a_bound_token_has_the_current_role_of_its_holder(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let key = create_key_for(&sg, "ci", &["alpha"]).await;
    let bound = sg.with_token(&access_token(&sg, "alpha", &key).await);
    let stop = || {
        let caller = bound.clone();
        async move {
            let request = new::StopSandboxRequest { name: "coder".into(), ..Default::default() };
            caller.openshell_v0_1().stop_sandbox(request).await
        }
    };
    stop().await.unwrap();
    sg.admin().bind("ci", "alpha", pb::Role::Viewer).await;
    assert_refused!(stop().await, PermissionDenied, "ROLE_TOO_LOW");
    let stream = open_watch(&bound).await;
    sg.admin().bind("ci", "alpha", pb::Role::None).await;
    wait_stream_end(stream).await;
    assert!(list_names(&bound, None).await.is_err());
    assert_eq!(token_by_key(&sg, "alpha", &key).await.refusal(), (400, "invalid_grant".to_owned()));
    alpha.stop().await;
    sg.finish().await;
}
