//! The audit log: what is recorded of a call, even if the call fails or is dropped.

use std::sync::Arc;
use std::time::Duration;

use crate::support::server::TestServer;
use crate::support::{TestDb, eventually};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use shoreguard::access::action::Action;
use shoreguard::access::principal::PrincipalId;
use shoreguard::audit::recorder::Recorder;
use shoreguard::audit::{Ending, Intent, Outcome};
use shoreguard::clock::Clock;
use shoreguard::clock::Timestamp;
use shoreguard::config::{self, Config};
use shoreguard::db::schema::audit_log;
use shoreguard::db::types::{AuditId, GatewayId, NamedGateway, UserId};
use shoreguard::db::{self, Db, Engine, on_conn};
use shoreguard::digest::Digest;
use shoreguard::error::{Error, Reason};
use shoreguard::pb::v1 as pb;
use shoreguard::role::Role;
use uuid::Uuid;

pub(crate) fn settings() -> config::Audit {
    Config::from_toml("").unwrap().audit
}

fn recorder(db: &Db) -> Recorder {
    Recorder::start(db, &Clock::system(), &Arc::from("replica-1"), &settings())
}

pub(crate) fn intent(target: &str) -> Intent {
    Intent {
        at: Clock::system().now(),
        actor: "ana@example.com".into(),
        principal: Some(PrincipalId::User(UserId(3))),
        role: Role::Operator,
        action: Action::GATEWAY_UPDATE,
        resource_id: target.to_owned(),
        gateway: Some(NamedGateway { id: Some(GatewayId(9)), name: "edge".into() }),
        client_ip: Some([10, 0, 0, 1].into()),
        request_id: Uuid::from_u128(7),
        method: "/shoreguard.v1.GatewayService/UpdateGateway".into(),
        digest: Some(Digest { key_id: "k1".into(), bytes: vec![0, 1, 255] }),
        detail: Some(json!({ "before": 1 })),
    }
}

pub(crate) fn outcome(ending: Ending) -> Outcome {
    Outcome {
        at: Clock::system().now(),
        ending,
        code: 0,
        took: Duration::from_micros(1_500),
        detail: Some(json!({ "after": "\u{0}" })),
        bytes: Some((1, u64::MAX)),
        target: None,
    }
}

type Text = Option<String>;
/// Columns of an entry that describe the call.
type Call = (String, String, Option<Vec<u8>>, Text, Option<i32>, Option<i64>);
type Row = (AuditId, String, Option<String>, Option<String>, Option<i64>, Option<i64>);

async fn rows(db: &Db) -> Vec<Row> {
    let mut conn = db.read().await.unwrap();
    on_conn!(&mut conn, |c| audit_log::table
        .select((
            audit_log::id,
            audit_log::resource_id,
            audit_log::outcome,
            audit_log::outcome_detail,
            audit_log::duration_us,
            audit_log::bytes_out,
        ))
        .order(audit_log::id)
        .load(c)
        .await)
    .unwrap()
}

async fn execute(db: &Db, sql: &str) {
    let mut conn = db.write().await.unwrap();
    on_conn!(&mut conn, |c| diesel::sql_query(sql).execute(c).await).unwrap();
}

fn is_unavailable(error: &Error) -> bool {
    matches!(error, Error::Unavailable { reason: Reason::AuditUnavailable, .. })
}

both_engines! {
    an_audit_entry_is_stored_before_the_call_and_closed_once,
    every_column_of_an_audit_entry_is_stored_unchanged,
    an_oversized_value_is_truncated_and_other_entries_are_stored,
    hundreds_of_concurrent_entries_are_each_stored_once,
    no_call_starts_if_the_audit_log_cannot_be_written,
    a_writable_audit_log_is_noticed_without_a_call,
    an_entry_of_a_disconnected_caller_is_closed_as_failed,
    a_full_audit_queue_refuses_at_once_and_stores_the_rest,
    a_database_connection_loss_leaves_no_entry_open,
    anonymous_refusals_are_counted_and_stored_on_shutdown,
}

async fn an_audit_entry_is_stored_before_the_call_and_closed_once(db: TestDb) {
    let recorder = recorder(&db);
    let entry = recorder.open(intent("edge")).await.unwrap();
    assert_eq!(rows(&db).await, [(entry.id, "edge".to_owned(), None, None, None, None)]);

    recorder.close(entry, outcome(Ending::Ok)).await.unwrap();
    recorder.close(entry, outcome(Ending::Failed)).await.unwrap();
    recorder.wait_settled().await;
    let closed = (
        entry.id,
        "edge".to_owned(),
        Some("ok".to_owned()),
        Some(r#"{"after":"\u0000"}"#.to_owned()),
        Some(1_500),
        Some(i64::MAX),
    );
    assert_eq!(rows(&db).await, [closed]);
}

async fn every_column_of_an_audit_entry_is_stored_unchanged(db: TestDb) {
    let recorder = recorder(&db);
    let asked = intent("edge");
    recorder.record(asked.clone(), outcome(Ending::Denied)).await.unwrap();
    let mut conn = db.read().await.unwrap();
    let found: (Timestamp, String, String, String, String) =
        on_conn!(&mut conn, |c| audit_log::table
            .select((
                audit_log::timestamp,
                audit_log::actor,
                audit_log::actor_role,
                audit_log::action,
                audit_log::owner,
            ))
            .first(c)
            .await)
        .unwrap();
    let expected = (asked.at, "ana@example.com", "operator", "gateway.update", "replica-1");
    assert_eq!((found.0, &*found.1, &*found.2, &*found.3, &*found.4), expected);
    let found: (Text, Option<i64>, Text, Text, Text) = on_conn!(&mut conn, |c| audit_log::table
        .select((
            audit_log::gateway_name,
            audit_log::gateway_id,
            audit_log::detail,
            audit_log::client_ip,
            audit_log::principal,
        ))
        .first(c)
        .await)
    .unwrap();
    let text = |text: &str| Some(text.to_owned());
    let expected =
        (text("edge"), Some(9), text(r#"{"before":1}"#), text("10.0.0.1"), text("user:3"));
    assert_eq!(found, expected);
    let found: Call = on_conn!(&mut conn, |c| audit_log::table
        .select((
            audit_log::request_id,
            audit_log::method,
            audit_log::digest,
            audit_log::digest_key_id,
            audit_log::code,
            audit_log::bytes_in,
        ))
        .first(c)
        .await)
    .unwrap();
    let expected = (
        asked.request_id.to_string(),
        asked.method.to_string(),
        Some(vec![0, 1, 255]),
        text("k1"),
        Some(0),
        Some(1),
    );
    assert_eq!(found, expected);
}

async fn an_oversized_value_is_truncated_and_other_entries_are_stored(db: TestDb) {
    let recorder = recorder(&db);
    let long = "\u{e4}\0".repeat(400);
    let bad = Intent {
        actor: long.as_str().into(),
        gateway: Some(NamedGateway { id: None, name: long.as_str().into() }),
        method: long.as_str().into(),
        digest: Some(Digest { key_id: long.as_str().into(), bytes: vec![] }),
        detail: Some(json!({ "all": "x".repeat(70_000) })),
        ..intent(&long)
    };
    let (stored, neighbour) =
        tokio::join!(recorder.record(bad, outcome(Ending::Ok)), recorder.open(intent("edge")));
    stored.unwrap();
    neighbour.unwrap();
    let rows = rows(&db).await;
    assert_eq!(rows.len(), 2);
    let cut = rows.iter().find(|row| row.1 != "edge").unwrap();
    assert_eq!(cut.1.chars().count(), 253);
    assert!(!cut.1.contains('\0'));
}

async fn hundreds_of_concurrent_entries_are_each_stored_once(db: TestDb) {
    let recorder = recorder(&db);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..600 {
        let recorder = recorder.clone();
        calls.spawn(async move {
            let entry = recorder.open(intent(&n.to_string())).await.unwrap();
            recorder.close(entry, outcome(Ending::Ok)).await.unwrap();
            (entry.id, n.to_string())
        });
    }
    let mut answered = calls.join_all().await;
    answered.sort();
    recorder.wait_settled().await;
    let stored = rows(&db).await;
    assert!(stored.iter().all(|row| row.2.as_deref() == Some("ok")));
    let stored: Vec<_> = stored.into_iter().map(|row| (row.0, row.1)).collect();
    assert_eq!(stored, answered);
}

async fn no_call_starts_if_the_audit_log_cannot_be_written(db: TestDb) {
    let recorder = recorder(&db);
    let open = recorder.open(intent("edge")).await.unwrap();
    execute(&db, "ALTER TABLE audit_log RENAME TO audit_away").await;
    recorder.close(open, outcome(Ending::Ok)).await.unwrap();
    assert!(is_unavailable(&recorder.open(intent("core")).await.unwrap_err()));
    assert!(is_unavailable(
        &recorder.record(intent("core"), outcome(Ending::Ok)).await.unwrap_err()
    ));
    assert!(!recorder.is_writable());

    execute(&db, "ALTER TABLE audit_away RENAME TO audit_log").await;
    recorder.wait_settled().await;
    let found: Vec<_> = rows(&db).await.into_iter().map(|row| (row.1, row.2)).collect();
    assert_eq!(found, [("edge".to_owned(), Some("ok".to_owned()))]);
    assert!(recorder.is_writable());
}

async fn a_writable_audit_log_is_noticed_without_a_call(db: TestDb) {
    let recorder = recorder(&db);
    execute(&db, "ALTER TABLE audit_log RENAME TO audit_away").await;
    assert!(is_unavailable(&recorder.open(intent("edge")).await.unwrap_err()));
    assert!(!recorder.is_writable());
    execute(&db, "ALTER TABLE audit_away RENAME TO audit_log").await;
    eventually("the audit log is written again", async || recorder.is_writable()).await;
    assert!(rows(&db).await.is_empty());
}

async fn an_entry_of_a_disconnected_caller_is_closed_as_failed(db: TestDb) {
    let recorder = recorder(&db);
    let gone = recorder.open(intent("edge"));
    // Polled once, which submits the entry, and then dropped.
    assert!(gone.now_or_never().is_none());
    recorder.drain().await;
    let found: Vec<_> = rows(&db).await.into_iter().map(|row| (row.1, row.2)).collect();
    assert_eq!(found, [("edge".to_owned(), Some("failed".to_owned()))]);
}

async fn a_full_audit_queue_refuses_at_once_and_stores_the_rest(db: TestDb) {
    let recorder = recorder(&db);
    let mut connections = Vec::new();
    for _ in 0..if db.engine() == Engine::Sqlite { 1 } else { db::options::POSTGRES_WRITERS } {
        connections.push(db.write().await.unwrap());
    }
    let mut answers: FuturesUnordered<_> =
        (0..9_000).map(|n| recorder.open(intent(&n.to_string()))).collect();
    let mut refused = 0;
    while let Some(Some(answer)) = answers.next().now_or_never() {
        assert!(is_unavailable(&answer.unwrap_err()));
        refused += 1;
    }
    assert!(refused > 0);
    connections.clear();
    while let Some(answer) = answers.next().await {
        answer.unwrap();
    }
    assert_eq!(rows(&db).await.len(), 9_000 - refused);
}

async fn a_database_connection_loss_leaves_no_entry_open(db: TestDb) {
    const KILL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let recorder = recorder(&db);
    // The only connection that the test does not terminate.
    let mut killer = db.write().await.unwrap();
    if db.engine() == Engine::Sqlite {
        killer = db.read().await.unwrap();
    }
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..32 {
        let recorder = recorder.clone();
        calls.spawn(async move {
            let mut answered = 0;
            for _ in 0..40 {
                if let Ok(entry) = recorder.open(intent(&n.to_string())).await {
                    recorder.close(entry, outcome(Ending::Ok)).await.unwrap();
                    answered += 1;
                }
            }
            answered
        });
    }
    if db.engine() == Engine::Postgres {
        for _ in 0..5 {
            on_conn!(&mut killer, |c| diesel::sql_query(KILL).execute(c).await).unwrap();
            recorder.wait_settled().await;
        }
    }
    drop(killer);
    let answered: usize = calls.join_all().await.into_iter().sum();
    recorder.drain().await;
    let rows = rows(&db).await;
    assert!(rows.iter().all(|row| row.2.is_some()), "an entry is open");
    assert_eq!(rows.iter().filter(|row| row.2.as_deref() == Some("ok")).count(), answered);
}

async fn anonymous_refusals_are_counted_and_stored_on_shutdown(db: TestDb) {
    let recorder = recorder(&db);
    for _ in 0..3 {
        let method = "/shoreguard.v1.AuthService/Login";
        recorder.count_anonymous(Some([10, 0, 0, 1].into()), method, "LOGIN_FAILED");
    }
    recorder.drain().await;
    let found: Vec<_> = rows(&db).await.into_iter().map(|row| (row.2, row.3)).collect();
    let detail = r#"{"count":3,"reason":"LOGIN_FAILED"}"#.to_owned();
    assert_eq!(found, [(Some("unauthenticated".to_owned()), Some(detail))]);
    assert!(is_unavailable(&recorder.open(intent("edge")).await.unwrap_err()));
}

async fn list(
    sg: &TestServer,
    request: pb::ListAuditEntriesRequest,
) -> (Vec<pb::AuditEntry>, String) {
    let page = sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
    (page.audit_entries, page.next_page_token)
}

fn targets(entries: &[pb::AuditEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.resource_id.as_str()).collect()
}

/// Records entries of one actor: two open ones and three that were closed at different times. Returns a request that
/// lists them.
async fn some_entries(sg: &TestServer) -> pb::ListAuditEntriesRequest {
    let audit = &sg.app.audit;
    let begun = Clock::system().now();
    for (n, ended) in [("long", 3_600), ("short", 1), ("denied", 30)] {
        let ending = if n == "denied" { Ending::Denied } else { Ending::Ok };
        let took = Duration::from_secs(ended);
        let outcome = Outcome { at: begun.plus(took), took, ..outcome(ending) };
        audit.record(Intent { at: begun, ..intent(n) }, outcome).await.unwrap();
    }
    for n in ["open-1", "open-2"] {
        audit.open(Intent { at: begun, ..intent(n) }).await.unwrap();
    }
    pb::ListAuditEntriesRequest { actor: "ana@example.com".into(), ..Default::default() }
}

server_tests! {
    audit_entries_are_listed_open_first_then_by_close_time,
    every_filter_narrows_the_list_of_audit_entries,
    a_write_and_a_read_of_the_log_each_leave_a_closed_entry,
    only_a_global_admin_reads_the_audit_log,
}

async fn audit_entries_are_listed_open_first_then_by_close_time(sg: TestServer) {
    let all = some_entries(&sg).await;
    let order = ["open-2", "open-1", "long", "denied", "short"];
    assert_eq!(targets(&list(&sg, all.clone()).await.0), order);
    for size in 1..=4 {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let request =
                pb::ListAuditEntriesRequest { page_size: size, page_token: token, ..all.clone() };
            let (page, next) = list(&sg, request).await;
            assert!(page.len() <= usize::try_from(size).unwrap());
            seen.extend(page.into_iter().map(|entry| entry.resource_id));
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, order, "pages of {size}");
    }
    sg.finish().await;
}

/// Returns the last time that a request can have.
fn last_time() -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: 253_402_300_799, nanos: 999_999_999 }
}

async fn every_filter_narrows_the_list_of_audit_entries(sg: TestServer) {
    let all = some_entries(&sg).await;
    let (entries, _) = list(&sg, all.clone()).await;
    let at = entries[0].create_time;
    let outcome = |outcome: pb::AuditOutcome| pb::ListAuditEntriesRequest {
        outcome: outcome.into(),
        ..all.clone()
    };
    for (request, expected) in [
        (outcome(pb::AuditOutcome::Open), vec!["open-2", "open-1"]),
        (outcome(pb::AuditOutcome::Ok), vec!["long", "short"]),
        (outcome(pb::AuditOutcome::Denied), vec!["denied"]),
        (outcome(pb::AuditOutcome::Failed), vec![]),
        (pb::ListAuditEntriesRequest { resource_id: "short".into(), ..all.clone() }, vec!["short"]),
        (pb::ListAuditEntriesRequest { resource_type: "user".into(), ..all.clone() }, vec![]),
        (pb::ListAuditEntriesRequest { action: "gateway.get".into(), ..all.clone() }, vec![]),
        (pb::ListAuditEntriesRequest { gateway: "core".into(), ..all.clone() }, vec![]),
        (
            pb::ListAuditEntriesRequest {
                request_id: Uuid::from_u128(8).to_string(),
                ..all.clone()
            },
            vec![],
        ),
        (
            pb::ListAuditEntriesRequest {
                request_id: Uuid::from_u128(7).to_string(),
                gateway: "edge".into(),
                since_time: at,
                ..all.clone()
            },
            vec!["open-2", "open-1", "long", "denied", "short"],
        ),
        (pb::ListAuditEntriesRequest { until_time: at, ..all.clone() }, vec![]),
        (
            pb::ListAuditEntriesRequest { until_time: Some(last_time()), ..all.clone() },
            vec!["open-2", "open-1", "long", "denied", "short"],
        ),
        (
            pb::ListAuditEntriesRequest {
                until_time: at.map(|at| prost_types::Timestamp { seconds: at.seconds + 1, ..at }),
                ..all.clone()
            },
            vec!["open-2", "open-1", "long", "denied", "short"],
        ),
        (
            pb::ListAuditEntriesRequest {
                since_time: at.map(|at| prost_types::Timestamp { seconds: at.seconds + 1, ..at }),
                ..all.clone()
            },
            vec![],
        ),
    ] {
        assert_eq!(targets(&list(&sg, request.clone()).await.0), expected, "{request:?}");
    }
    sg.finish().await;
}

async fn a_write_and_a_read_of_the_log_each_leave_a_closed_entry(sg: TestServer) {
    sg.admin().create_key("ci", pb::Role::Viewer).await;
    sg.app.audit.wait_settled().await;
    let of =
        |action: &str| pb::ListAuditEntriesRequest { action: action.into(), ..Default::default() };
    let (entries, _) = list(&sg, of("service_principal.create")).await;
    // The entry that was closed last. The others are from creating the first admin's key.
    let entry = &entries[0];
    assert_eq!(
        (entry.outcome(), entry.code, entry.actor.as_str()),
        (pb::AuditOutcome::Ok, 0, "sp:root")
    );
    assert!(
        entry.close_time.is_some() && entry.duration.is_some() && !entry.request_digest.is_empty()
    );
    let (entries, _) = list(&sg, of("audit.list")).await;
    assert_eq!(entries.len(), 1, "the first reading; the second is recorded after it was answered");
    sg.finish().await;
}

async fn only_a_global_admin_reads_the_audit_log(sg: TestServer) {
    let key = sg.admin().create_key("ci", pb::Role::Operator).await;
    let request = pb::ListAuditEntriesRequest::default();
    let refused = sg.with_token(&key).audit().list_audit_entries(request.clone()).await;
    assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
    let other = pb::ListAuditEntriesRequest { page_token: "x".into(), ..request.clone() };
    assert_refused!(
        sg.admin().audit().list_audit_entries(other).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let unknown = pb::ListAuditEntriesRequest { outcome: 99, ..request };
    assert_refused!(
        sg.admin().audit().list_audit_entries(unknown).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    sg.finish().await;
}
