//! Two replicas on one PostgreSQL: each sees the changes of the other within a second.

use std::time::{Duration, Instant};

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard::server::listen::RunningServer;
use tonic::transport::Endpoint;

use crate::support::limit;
use crate::support::server::{Bearer, Caller, TestServer};

fn caller(running: &RunningServer, key: &str) -> Caller {
    let endpoint = Endpoint::new(format!("http://{}", running.address())).unwrap();
    Caller { channel: endpoint.connect_lazy(), bearer: Bearer(Some(key.to_owned())) }
}

async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !so().await {
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "not within a second, nor a minute on a busy machine: {what}"
        );
        crate::support::pause().await;
    }
}

/// Checks that a selector binding, and changes of labels that it depends on, take effect on the other replica.
async fn labels_are_followed(sg: &TestServer, other: &RunningServer) {
    let key = sg.admin().create_key("picked", pb::Role::None).await;
    sg.register_gateway("edge", ([127, 0, 0, 1], 1).into()).await;
    let subject = pb::subject::Subject::ServicePrincipal("picked".into());
    let by_selector = pb::SetGatewayRoleRequest {
        subject: Some(pb::Subject { subject: Some(subject) }),
        selector: "access/env=prod".into(),
        role: pb::Role::Viewer.into(),
        ..Default::default()
    };
    sg.admin().access().set_gateway_role(by_selector).await.unwrap();
    for (value, seen) in [("prod", true), ("test", false)] {
        let update = pb::UpdateGatewayRequest {
            gateway: "edge".into(),
            update_mask: Some(prost_types::FieldMask { paths: vec!["labels".into()] }),
            labels: [("access/env".to_owned(), value.to_owned())].into(),
            ..Default::default()
        };
        sg.admin().gateways().update_gateway(update).await.unwrap();
        until("the labels", async || {
            let get = pb::GetGatewayRequest { gateway: "edge".into() };
            caller(other, &key).gateways().get_gateway(get).await.is_ok() == seen
        })
        .await;
    }
}

#[test]
fn a_change_on_one_replica_is_applied_on_the_other() {
    limit::block_on(async {
        let Some(sg) = TestServer::start(Engine::Postgres, |_| {}).await else { return };
        let (other_app, other) = sg.start_replica().await;
        let who = pb::GetCurrentIdentityRequest {};

        // A key created on one replica works on the other, and a rotated key is rejected there.
        let key = sg.admin().create_key("ci", pb::Role::Viewer).await;
        until("the new key", async || {
            caller(&other, &key).auth().get_current_identity(who).await.is_ok()
        })
        .await;
        let rotate = pb::RotateServicePrincipalRequest {
            service_principal: "ci".into(),
            ..Default::default()
        };
        sg.admin().service_principals().rotate_service_principal(rotate).await.unwrap();
        until("the rotation", async || {
            caller(&other, &key).auth().get_current_identity(who).await.is_err()
        })
        .await;

        labels_are_followed(&sg, &other).await;

        // A session of one replica is valid on the other, since the keys are shared.
        let login = pb::LoginRequest {
            email: "admin@example.com".into(),
            password: "correct horse battery".into(),
        };
        let session = sg.anonymous().auth().login(login).await.unwrap().into_inner();
        let there = caller(&other, &session.session_token);
        there.auth().get_current_identity(who).await.unwrap();
        // The session is refreshed there, and ends here because its refresh token is used twice.
        let refresh = pb::RefreshSessionRequest { refresh_token: session.refresh_token };
        let nobody = Caller { bearer: Bearer(None), ..there };
        let fresh = nobody.auth().refresh_session(refresh.clone()).await.unwrap().into_inner();
        let there = caller(&other, &fresh.session_token);
        there.auth().get_current_identity(who).await.unwrap();
        assert!(sg.anonymous().auth().refresh_session(refresh).await.is_err());
        until("the end of the session", async || {
            there.auth().get_current_identity(who).await.is_err()
        })
        .await;

        // Events written on either replica have one common sequence.
        for n in 0..5 {
            let on = if n % 2 == 0 { sg.admin() } else { caller(&other, &sg.admin_key) };
            on.create_key(&format!("p{n}"), pb::Role::Viewer).await;
        }
        let mut sequences = Vec::new();
        until("all events", async || {
            let list = caller(&other, &sg.admin_key)
                .events()
                .list_events(pb::ListEventsRequest::default())
                .await;
            sequences = list.unwrap().into_inner().events.into_iter().map(|e| e.sequence).collect();
            sequences.len() >= 14
        })
        .await;
        assert!(sequences.iter().zip(1..).all(|(got, want)| *got == want), "{sequences:?}");

        other_app.stop.cancel();
        other.stopped().await;
        other_app.drain().await;
        drop(other_app);
        sg.finish().await;
    });
}
