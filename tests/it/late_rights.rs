//! T13, T14: a write that waits for its turn fails if its caller loses the required right in the meantime.

use crate::support::server::TestServer;
use crate::webhooks::allow_loopback;
use crate::webhooks::receiver::Receiver;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::app::App;
use shoreguard::db::schema::audit_log;
use shoreguard::db::turns::{CallerKey, readers_of_caller, writers_of_caller};
use shoreguard::db::{Engine, on_conn};
use shoreguard::pb::v1 as pb;
use tokio::sync::oneshot;

/// Waits until an audit entry of a call by this actor is stored.
async fn intent_of(app: &App, actor: &str) {
    loop {
        let mut conn = app.db.read().await.unwrap();
        let count: i64 = on_conn!(&mut conn, |c| audit_log::table
            .filter(audit_log::actor.eq(actor))
            .count()
            .get_result(c)
            .await)
        .unwrap();
        drop(conn);
        if count > 0 {
            return;
        }
        crate::support::pause().await;
    }
}

/// Creates the service principal `leaked`, an admin. Returns its key, and the key of its turns at the database.
async fn leaked(sg: &TestServer) -> (String, CallerKey) {
    let key = sg.admin().create_key("leaked", pb::Role::Admin).await;
    let request = pb::GetServicePrincipalRequest { service_principal: "leaked".to_owned() };
    let found = sg.admin().service_principals().get_service_principal(request).await.unwrap();
    let id = found.into_inner().service_principal.unwrap().id;
    (key, CallerKey::ServicePrincipal(id))
}

/// Ends the credential of `leaked`.
async fn rotate(sg: &TestServer) {
    let request = pb::RotateServicePrincipalRequest {
        service_principal: "leaked".to_owned(),
        ..Default::default()
    };
    sg.admin().service_principals().rotate_service_principal(request).await.unwrap();
}

server_tests! { t14_a_queued_write_is_refused_if_its_key_is_revoked_meanwhile }

server_tests! {
    tuned allow_loopback;
    t14_a_webhook_is_not_tested_for_a_key_that_is_revoked_meanwhile,
}

async fn t14_a_queued_write_is_refused_if_its_key_is_revoked_meanwhile(sg: TestServer) {
    let (key, caller) = leaked(&sg).await;
    let turns = match sg.app.db.engine() {
        Engine::Sqlite => 1,
        Engine::Postgres => writers_of_caller(sg.app.config.database.pool_size as usize),
    };
    let (db, app) = (sg.app.db.clone(), sg.app.clone());
    let ((all, taken), (release, released)) = (oneshot::channel(), oneshot::channel::<()>());
    // All writer turns of this caller are in use. The connections stay free for other callers.
    let holding = sg.app.spawn(sg.app.db.run_as(caller, async move {
        let mut held = Vec::new();
        for _ in 0..turns {
            held.push(db.writer_turn().await.unwrap());
        }
        let _ = all.send(());
        let _ = released.await;
        drop(held);
    }));
    taken.await.unwrap();
    let leaked = sg.with_token(&key);
    let made = sg.app.spawn(async move {
        let request = pb::CreateGroupRequest {
            name: "backdoor".to_owned(),
            role: pb::Role::Admin.into(),
            ..Default::default()
        };
        leaked.groups().create_group(request).await
    });
    intent_of(&app, "sp:leaked").await;
    rotate(&sg).await;
    release.send(()).unwrap();
    assert_refused!(made.await.unwrap(), Unauthenticated, "CREDENTIAL_INVALID");
    holding.await.unwrap();
    let groups = sg.admin().groups().list_groups(pb::ListGroupsRequest::default()).await.unwrap();
    assert!(groups.into_inner().groups.is_empty());
    sg.finish().await;
}

async fn t14_a_webhook_is_not_tested_for_a_key_that_is_revoked_meanwhile(sg: TestServer) {
    let receiver = Receiver::start().await;
    let request = pb::CreateWebhookRequest { url: receiver.url(), ..Default::default() };
    let created = sg.admin().webhooks().create_webhook(request).await.unwrap().into_inner();
    let webhook_id = created.webhook.unwrap().id;
    let (key, caller) = leaked(&sg).await;
    let (db, turns) =
        (sg.app.db.clone(), readers_of_caller(sg.app.config.database.readers as usize));
    let ((all, taken), (release, released)) = (oneshot::channel(), oneshot::channel::<()>());
    // The webhook is read as soon as the caller has a turn again.
    let holding = sg.app.spawn(sg.app.db.run_as(caller, async move {
        let mut held = Vec::new();
        for _ in 0..turns {
            held.push(db.read().await.unwrap());
        }
        let _ = all.send(());
        let _ = released.await;
        drop(held);
    }));
    taken.await.unwrap();
    let leaked = sg.with_token(&key);
    let tested = sg.app.spawn(async move {
        let request = pb::TestWebhookRequest { webhook_id, ..Default::default() };
        leaked.webhooks().test_webhook(request).await
    });
    intent_of(&sg.app, "sp:leaked").await;
    rotate(&sg).await;
    release.send(()).unwrap();
    assert_refused!(tested.await.unwrap(), Unauthenticated, "CREDENTIAL_INVALID");
    holding.await.unwrap();
    assert!(receiver.received().is_empty());
    sg.finish().await;
}
