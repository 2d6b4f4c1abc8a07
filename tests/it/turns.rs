//! T16: concurrent calls of one caller leave the database and the audit log available to other callers.

use std::pin::pin;

use futures_util::poll;
use shoreguard::access::policy::StreamingMode;
use shoreguard::db::turns::{CallerKey, readers_of_caller};
use shoreguard::pb::v1 as pb;
use tokio::sync::oneshot;

use crate::access_bindings::{register_two_gateways, set_role_request};
use crate::refusals::denied_entries;
use crate::support::server::TestServer;

/// Refused writes per minute in the configuration of a test.
const REFUSED_MAX: u32 = 5;

server_tests! {
    t16_a_caller_at_its_turn_limit_waits_and_others_do_not,
    t16_refused_user_methods_of_a_service_principal_are_counted,
}

async fn t16_a_caller_at_its_turn_limit_waits_and_others_do_not(sg: TestServer) {
    let viewer = sg.with_token(&sg.admin().create_key("viewer", pb::Role::Viewer).await);
    let request = pb::GetServicePrincipalRequest { service_principal: "viewer".to_owned() };
    let found = sg.admin().service_principals().get_service_principal(request).await.unwrap();
    let id = found.into_inner().service_principal.unwrap().id;
    let turns = readers_of_caller(sg.app.config.database.readers as usize);
    let db = sg.app.db.clone();
    let ((all, taken), (release, released)) = (oneshot::channel(), oneshot::channel::<()>());
    let holding = async move {
        let mut held = Vec::new();
        for _ in 0..turns {
            held.push(db.read().await.unwrap());
        }
        let _ = all.send(());
        let _ = released.await;
        drop(held);
    };
    let holding = sg.app.db.run_as(CallerKey::ServicePrincipal(id), holding);
    let holding = sg.app.spawn(holding);
    taken.await.unwrap();
    let list = pb::ListEventsRequest::default;
    let mut events = viewer.events();
    let mut waiting = pin!(events.list_events(list()));
    assert!(poll!(&mut waiting).is_pending());
    sg.admin().events().list_events(list()).await.unwrap();
    drop(sg.app.db.read().await.unwrap());
    assert!(poll!(&mut waiting).is_pending(), "the caller is at its turns");
    release.send(()).unwrap();
    waiting.await.unwrap();
    holding.await.unwrap();
    sg.finish().await;
}

async fn t16_refused_user_methods_of_a_service_principal_are_counted(sg: TestServer) {
    let nobody = sg.with_token(&sg.admin().create_key("nobody", pb::Role::None).await);
    let methods = [
        "Logout",
        "ChangePassword",
        "RevokeSession",
        "LinkOidcIdentity",
        "UnlinkOidcIdentity",
        "ApproveDevice",
    ];
    for method in methods {
        let path = format!("/shoreguard.v1.AuthService/{method}").leak();
        for _ in 0..20 {
            let refused = nobody.call_raw(path, StreamingMode::Unary, Vec::new(), &[]).await;
            assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
        }
    }
    sg.app.audit.drain().await;
    let (rows, total) = denied_entries(&sg, "sp:nobody").await;
    assert_eq!(total, 20 * methods.len() as u64);
    // The first refusal of a minute and its repetitions, for each method. The test may span parts of two minutes.
    assert!(rows <= 4 * methods.len(), "{rows} rows");
    sg.finish().await;
}

server_tests! {
    tuned |config| config.audit.refused_writes_per_minute = REFUSED_MAX;
    t16_refused_writes_are_rate_limited_per_caller,
}

async fn t16_refused_writes_are_rate_limited_per_caller(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let lead = sg.with_token(&sg.admin().create_key("lead", pb::Role::None).await);
    sg.admin().bind("lead", "east", pb::Role::Admin).await;
    sg.admin().create_key("other", pb::Role::None).await;
    let (mut refused, mut limited) = (0, 0);
    for _ in 0..30 {
        let made = lead
            .access()
            .set_gateway_role(set_role_request("other", "east", pb::Role::Admin))
            .await;
        let status = made.unwrap_err();
        match crate::support::server::reason(&status).as_str() {
            "ROLE_TOO_LOW" => refused += 1,
            "RATE_LIMITED" => limited += 1,
            other => unreachable!("{other}: {status:?}"),
        }
    }
    // The test may span parts of two minutes.
    assert!((1..=2 * REFUSED_MAX).contains(&refused) && limited > 0, "{refused} {limited}");
    // Another caller has a limit of its own.
    sg.admin().bind("other", "east", pb::Role::Viewer).await;
    sg.finish().await;
    simulator.stop().await;
}
