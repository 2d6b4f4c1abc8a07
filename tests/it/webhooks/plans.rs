//! How the databases execute queries on long lists of messages, and how these are deleted.

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use shoreguard::db::{Db, Engine, on_conn};
use shoreguard::pb::v1 as pb;

use super::{NOWHERE, allow_loopback, created, request};
use crate::support::server::TestServer;
use crate::support::{DbLocation, TestDb};

/// A webhook, and its messages: one in a thousand has failed.
const ROWS: [&str; 3] = [
    "INSERT INTO webhooks (url, created_by, created_at, uid, updated_at) \
     VALUES ('', 'test', '2026-01-01 00:00:00.000000', 'one', '2026-01-01 00:00:00.000000')",
    "INSERT INTO webhook_deliveries \
     (webhook_id, event_type, payload_json, status, created_at, message_id, event_sequence, last_attempt_at) \
     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
     SELECT w.id, 'sandbox.created', '{}', CASE WHEN n.i % 1000 = 0 THEN 'failed' ELSE 'success' END, \
     w.created_at, 'msg_' || n.i, n.i, w.created_at FROM webhooks w, n",
    "ANALYZE webhook_deliveries",
];

#[derive(diesel::QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// Returns how an engine executes a query.
pub(crate) async fn plan(place: &DbLocation, query: &str) -> String {
    match place {
        DbLocation::Postgres(database) => {
            let rows = database.query(&format!("EXPLAIN {query}")).await;
            rows.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n")
        }
        DbLocation::Sqlite(_) => {
            let db = Db::open(&place.options()).await.unwrap();
            let mut conn = db.read().await.unwrap();
            let explain = format!("EXPLAIN QUERY PLAN {query}");
            let steps: Vec<Step> =
                on_conn!(&mut conn, |c| diesel::sql_query(&explain).load(c).await).unwrap();
            steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("\n")
        }
    }
}

both_engines! {
    a_list_of_messages_by_status_reads_only_those,
}

sqlite_tests! {
    tuned allow_loopback;
    finished_messages_are_deleted_before_their_webhook,
}

async fn a_list_of_messages_by_status_reads_only_those(db: TestDb) {
    {
        let mut conn = db.write().await.unwrap();
        for statement in ROWS {
            on_conn!(&mut conn, |c| diesel::sql_query(statement).execute(c).await).unwrap();
        }
    }
    let engine = db.engine();
    let place = db.close();
    place.wait_closed().await;
    // As `deliveries::store::page` has it.
    let list = |and: &str| {
        format!(
            "SELECT id FROM webhook_deliveries WHERE webhook_id = 1 AND id < 5001 {and} ORDER BY id DESC LIMIT 51"
        )
    };
    let by_status = plan(&place, &list("AND status = 'failed'")).await;
    assert!(by_status.contains("webhook_deliveries_webhook_id_status_id"), "{by_status}");
    let sorts = match engine {
        Engine::Sqlite => "TEMP B-TREE",
        Engine::Postgres => "Sort",
    };
    assert!(!by_status.contains(sorts), "{by_status}");
    let of_all = plan(&place, &list("")).await;
    assert!(!of_all.contains(sorts), "{of_all}");
}

async fn finished_messages_are_deleted_before_their_webhook(sg: TestServer) {
    // More than are deleted at once.
    const OF_EACH: usize = 1_001;
    let webhook_id = created(&sg, request(NOWHERE)).await;
    let insert = |status: &str, due: &str, count: usize, before: i64| {
        format!(
            "INSERT INTO webhook_deliveries (webhook_id, event_type, payload_json, status, created_at, message_id, \
             event_sequence, last_attempt_at, next_attempt_at) \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             SELECT {webhook_id}, 'a.b', '{{}}', '{status}', '2998-01-01 00:00:00.000000', '{status} ' || n.i, \
             {before} - n.i, '2998-01-01 00:00:00.000000', {due} FROM n"
        )
    };
    for (status, before) in [("success", 0), ("failed", -10_000)] {
        assert_eq!(sg.sql(&insert(status, "NULL", OF_EACH, before)).await, OF_EACH);
    }
    let due = "'2999-01-01 00:00:00.000000'";
    assert_eq!(sg.sql(&insert("pending", due, 1, -20_000)).await, 1);
    // The database deletes the webhook only after its finished messages.
    sg.sql(
        "CREATE TRIGGER no_finished_messages BEFORE DELETE ON webhooks \
         WHEN EXISTS (SELECT 1 FROM webhook_deliveries WHERE webhook_id = OLD.id AND status <> 'pending') \
         BEGIN SELECT RAISE(ABORT, 'it has finished messages'); END",
    )
    .await;
    let mut webhooks = sg.admin().webhooks();
    let delete = pb::DeleteWebhookRequest { webhook_id, ..Default::default() };
    // A webhook that is not deleted keeps its messages.
    let stale = pb::DeleteWebhookRequest { etag: "stale".into(), ..delete.clone() };
    assert_refused!(webhooks.delete_webhook(stale).await, Aborted, "CONCURRENT_CHANGE");
    let count = "UPDATE webhook_deliveries SET attempt = attempt";
    assert_eq!(sg.sql(count).await, 2 * OF_EACH + 1);
    webhooks.delete_webhook(delete).await.unwrap();
    assert_eq!(sg.sql(count).await, 0);
    sg.finish().await;
}
