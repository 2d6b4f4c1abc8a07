//! T17: a repeated `request_id` gets the first response only while the caller may still make the call, and is recorded.

use std::time::Duration;

use diesel_async::RunQueryDsl;
use shoreguard::clock::Timestamp;
use shoreguard::db::idempotency::{NewIdempotencyKey, claim, finish, release};
use shoreguard::db::{Db, Engine, on_conn};
use shoreguard::pb::v1 as pb;

use crate::support::server::TestServer;
use crate::support::{DbLocation, TestDb, eventually, limit};

const ID: &str = "5f0f6a4e-0f43-4b07-9d3c-1a2b3c4d5e6f";
const BEGUN: Timestamp = Timestamp::from_unix_micros(1_700_000_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

/// Returns a key that is claimed at `at` and expires after an hour.
fn key(at: Timestamp) -> NewIdempotencyKey<'static> {
    NewIdempotencyKey {
        principal: "user:1",
        method: "/service/Method",
        request_id: ID,
        digest: b"digest",
        state: "running",
        secret: false,
        credential: None,
        created_at: at,
        expires_at: at.plus(HOUR),
    }
}

async fn entries(sg: &TestServer, action: &str) -> Vec<pb::AuditEntry> {
    sg.app.audit.wait_settled().await;
    let request = pb::ListAuditEntriesRequest { action: action.to_owned(), ..Default::default() };
    sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries
}

async fn unbind(sg: &TestServer, name: &str) {
    let subject = pb::subject::Subject::ServicePrincipal(name.to_owned());
    let request = pb::RemoveGatewayRoleRequest {
        subject: Some(pb::Subject { subject: Some(subject) }),
        gateway: "edge".to_owned(),
        ..Default::default()
    };
    sg.admin().access().remove_gateway_role(request).await.unwrap();
}

#[test]
fn a_key_that_is_released_while_it_is_claimed_is_claimed_again() {
    limit::block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let db = Db::open(&place.options()).await.unwrap();
        let mut conn = db.write().await.unwrap();
        // The first insert finds a key, which no longer exists when it is read.
        let trigger = "CREATE TRIGGER released BEFORE INSERT ON idempotency_keys \
            WHEN NOT EXISTS (SELECT 1 FROM leases WHERE name = 'released') \
            BEGIN \
              INSERT INTO leases (name, owner, fence, expires_at) \
              VALUES ('released', 'test', 1, '2026-01-01 00:00:00'); \
              SELECT RAISE(IGNORE); \
            END";
        on_conn!(&mut conn, |c| diesel::sql_query(trigger).execute(c).await).unwrap();
        let (first, claimed) = claim(&mut conn, &key(BEGUN)).await.unwrap();
        assert!(claimed);
        let (second, claimed) = claim(&mut conn, &key(BEGUN)).await.unwrap();
        assert!(!claimed && first.id == second.id);
    });
}

server_tests! {
    t17_a_replay_leaves_an_audit_entry_marked_as_replay,
    t17_a_replay_requires_the_role_on_the_gateway_of_its_resource,
}

async fn t17_a_replay_leaves_an_audit_entry_marked_as_replay(sg: TestServer) {
    let request = pb::CreateGroupRequest {
        name: "ops".into(),
        role: pb::Role::Viewer.into(),
        request_id: ID.into(),
        ..Default::default()
    };
    let first = sg.admin().groups().create_group(request.clone()).await.unwrap().into_inner();
    let again = sg.admin().groups().create_group(request).await.unwrap().into_inner();
    assert_eq!(first, again);
    let recorded = entries(&sg, "group.create").await;
    let details: Vec<&str> = recorded.iter().map(|entry| entry.detail_json.as_str()).collect();
    assert_eq!(recorded.len(), 2, "{recorded:?}");
    assert_eq!(details.iter().filter(|text| text.contains("\"replay\":true")).count(), 1);
    assert!(recorded.iter().all(|entry| entry.outcome() == pb::AuditOutcome::Ok));
    sg.finish().await;
}

async fn t17_a_replay_requires_the_role_on_the_gateway_of_its_resource(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let key = sg.admin().create_key("other", pb::Role::None).await;
    sg.admin().bind("other", "edge", pb::Role::Operator).await;
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let request = pb::CancelOperationRequest { operation: held.id.clone(), request_id: ID.into() };
    let cancel = async || sg.with_token(&key).operations().cancel_operation(request.clone()).await;
    let first = cancel().await.unwrap().into_inner();
    assert_eq!(cancel().await.unwrap().into_inner(), first);
    unbind(&sg, "other").await;
    assert_refused!(cancel().await, NotFound, "NOT_FOUND");
    eventually("the refusal is recorded", || async {
        let denied = entries(&sg, "operation.cancel").await;
        let denied = denied.iter().filter(|entry| entry.outcome() == pb::AuditOutcome::Denied);
        denied.count() == 1
    })
    .await;
    drop(held);
    sg.admin().wait_operation(&first.operation.unwrap().id).await;
    sg.finish().await;
}

both_engines! { an_expired_key_is_claimed_again_and_not_changed_by_its_first_call }

async fn an_expired_key_is_claimed_again_and_not_changed_by_its_first_call(db: TestDb) {
    let begun = BEGUN;
    let mut conn = db.write().await.unwrap();
    let (first, claimed) = claim(&mut conn, &key(begun)).await.unwrap();
    assert!(claimed && first.response.is_none());
    let (same, claimed) = claim(&mut conn, &key(begun.plus(HOUR / 2))).await.unwrap();
    assert!(!claimed && same.id == first.id);
    let expired = begun.plus(HOUR);
    let (second, claimed) = claim(&mut conn, &key(expired)).await.unwrap();
    assert!(claimed && second.response.is_none());
    // The first call ends after its key has expired.
    let later = expired.plus(HOUR);
    finish(&mut conn, first.id, begun, b"first", later).await.unwrap();
    release(&mut conn, first.id, begun).await.unwrap();
    let soon = expired.plus(HOUR / 2);
    let (kept, claimed) = claim(&mut conn, &key(soon)).await.unwrap();
    assert!(!claimed && kept.id == second.id && kept.response.is_none());
    finish(&mut conn, second.id, expired, b"second", later).await.unwrap();
    let (kept, claimed) = claim(&mut conn, &key(soon)).await.unwrap();
    assert!(!claimed);
    assert_eq!(kept.response.as_deref(), Some(&b"second"[..]));
    release(&mut conn, second.id, expired).await.unwrap();
    assert!(claim(&mut conn, &key(soon)).await.unwrap().1);
}
