//! T15: the exchange of an approved device code for tokens, once.

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;

use super::devices::{ANA, APPROVE, GRANT, decide, device, people, poll, refused};
use super::{CLIENT, entries, request_token, start_gateway};
use crate::support::server::TestServer;

server_tests! {
    tuned people;
    a_used_device_code_is_named,
    a_device_code_stays_valid_if_its_session_cannot_be_stored,
}

/// Returns the outcomes of the exchanges of the user.
async fn outcomes(sg: &TestServer) -> Vec<pb::AuditOutcome> {
    let exchanges = entries(sg, "gateway_token.issue").await;
    exchanges.iter().filter(|entry| entry.actor == ANA).map(pb::AuditEntry::outcome).collect()
}

async fn a_used_device_code_is_named(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let device = device(&sg, "alpha").await;
    decide(&sg, &ana, &device.shown, APPROVE).await.unwrap();
    assert_eq!(poll(&sg, "alpha", &device).await.status, 200);
    let form = [GRANT, ("device_code", device.polls.as_str()), CLIENT];
    // Also for a client that polls too early.
    for _ in 0..2 {
        let again = request_token(&sg, "alpha", &form).await;
        assert_eq!(again.refusal(), refused("invalid_grant"));
        let why = again.text("error_description");
        assert_eq!(why, "the device code was already used: request a new one");
    }
    let elsewhere = request_token(&sg, "beta", &form).await;
    assert_eq!(elsewhere.refusal(), refused("invalid_grant"));
    assert!(elsewhere.text("error_description").contains("unknown"), "{elsewhere:?}");
    assert_eq!(outcomes(&sg).await, [pb::AuditOutcome::Ok]);
    alpha.stop().await;
    sg.finish().await;
}

/// Makes every insert of a session of a device fail, or no longer.
async fn refuse_device_sessions(sg: &TestServer, refuse: bool) {
    let statement = match (sg.engine, refuse) {
        (Engine::Sqlite, true) => {
            "CREATE TRIGGER no_device BEFORE INSERT ON sessions WHEN NEW.kind = 'device' \
             BEGIN SELECT RAISE(ABORT, 'no device'); END"
        }
        (Engine::Sqlite, false) => "DROP TRIGGER no_device",
        (Engine::Postgres, true) => {
            "ALTER TABLE sessions ADD CONSTRAINT no_device CHECK (kind <> 'device') NOT VALID"
        }
        (Engine::Postgres, false) => "ALTER TABLE sessions DROP CONSTRAINT no_device",
    };
    sg.sql(statement).await;
}

async fn a_device_code_stays_valid_if_its_session_cannot_be_stored(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let device = device(&sg, "alpha").await;
    decide(&sg, &ana, &device.shown, APPROVE).await.unwrap();
    refuse_device_sessions(&sg, true).await;
    assert_ne!(poll(&sg, "alpha", &device).await.status, 200);
    refuse_device_sessions(&sg, false).await;
    let issued = poll(&sg, "alpha", &device).await;
    assert_eq!(issued.status, 200, "{issued:?}");
    let outcomes = outcomes(&sg).await;
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|one| **one == pb::AuditOutcome::Ok).count(), 1);
    alpha.stop().await;
    sg.finish().await;
}
