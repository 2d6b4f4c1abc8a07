//! How the databases execute the queries about one review among very many, and about one of very many connections.

use diesel_async::RunQueryDsl;
use shoreguard::db::{Engine, on_conn};

use crate::support::TestDb;
use crate::webhooks::plans::plan;

/// A rejected review, and very many of it with other contents, in a hundred sandboxes, of a hundred proposers.
const ROWS: [&str; 3] = [
    "INSERT INTO approval_rounds (action, gateway_id, gateway_name, workspace, sandbox_name, chunk_id, state, digest, \
     authors_json, summary_json, opened_at, closed_at, content) VALUES ('draft.approve', 1, 'edge', 'default', \
     'box-0', 'chunk', 'rejected', '0000000000000000000000000000000000000000000000000000000000000000', '[]', '{}', \
     '2026-01-01 00:00:00.000000', '2026-01-02 00:00:00.000000', '')",
    "INSERT INTO approval_rounds (action, gateway_id, gateway_name, workspace, sandbox_name, chunk_id, state, digest, \
     authors_json, summary_json, opened_at, closed_at, content, proposer) \
     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
     SELECT r.action, r.gateway_id, r.gateway_name, r.workspace, 'box-' || (n.i % 100), 'chunk-' || n.i, r.state, \
     '0000000000000000000000000000000000000000000000000000000000' || (100000 + n.i), \
     r.authors_json, r.summary_json, r.opened_at, r.closed_at, r.content, 'user:' || (n.i % 100) \
     FROM approval_rounds r, n",
    "ANALYZE approval_rounds",
];

/// A third of these reviews have not ended.
const OPEN: [&str; 2] = [
    "UPDATE approval_rounds SET state = 'open', closed_at = NULL WHERE id % 3 = 0",
    "ANALYZE approval_rounds",
];

/// A gateway, and very many refused connections of one program of a sandbox, to a thousand hosts.
const REFUSED: [&str; 3] = [
    "INSERT INTO gateways (name, endpoint, registered_at) VALUES ('edge', 'edge:443', '2026-01-01 00:00:00.000000')",
    "INSERT INTO refused_connections \
     (gateway_id, sandbox_uid, at, \"binary\", host, line, line_hash, created_at) \
     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
     SELECT g.id, 'box', g.registered_at, '/bin/curl', 'h' || (n.i % 1000), '', \
     '000000000000000000000000000000000000000000000000000000000' || (1000000 + n.i), g.registered_at \
     FROM gateways g, n",
    "ANALYZE refused_connections",
];

both_engines! {
    an_earlier_rejection_is_found_among_the_reviews_of_its_sandbox,
    t16_the_proposals_of_a_principal_are_counted_without_those_of_others,
    t20_a_refused_connection_is_found_among_those_of_its_program,
}

async fn an_earlier_rejection_is_found_among_the_reviews_of_its_sandbox(db: TestDb) {
    {
        let mut conn = db.write().await.unwrap();
        for statement in ROWS {
            on_conn!(&mut conn, |c| diesel::sql_query(statement).execute(c).await).unwrap();
        }
    }
    let engine = db.engine();
    let place = db.close();
    place.wait_closed().await;
    // As `inbox::store::earlier_rejection` has it.
    let query = "SELECT id, closed_at FROM approval_rounds WHERE gateway_id = 1 AND workspace = 'default' \
                 AND sandbox_name = 'box-7' AND opened_at <= '2026-01-03 00:00:00.000000' AND id < 100000 \
                 AND digest = '0' AND state = 'rejected' AND closed_at IS NOT NULL \
                 ORDER BY opened_at DESC, id DESC LIMIT 1";
    let found = plan(&place, query).await;
    assert!(found.contains("approval_rounds_place_digest"), "{found}");
    let scan = match engine {
        Engine::Sqlite => "SCAN",
        Engine::Postgres => "Seq Scan",
    };
    assert!(!found.contains(scan), "{found}");
}

async fn t16_the_proposals_of_a_principal_are_counted_without_those_of_others(db: TestDb) {
    {
        let mut conn = db.write().await.unwrap();
        for statement in ROWS.into_iter().chain(OPEN) {
            on_conn!(&mut conn, |c| diesel::sql_query(statement).execute(c).await).unwrap();
        }
    }
    let place = db.close();
    place.wait_closed().await;
    let count = "SELECT COUNT(*) FROM approval_rounds WHERE gateway_id = 1 AND proposer = 'user:7'";
    // As `proposals::store::count_since` has it.
    let of_day =
        plan(&place, &format!("{count} AND opened_at > '2025-12-31 00:00:00.000000'")).await;
    assert!(of_day.contains("approval_rounds_gateway_id_proposer_opened_at"), "{of_day}");
    // As `rounds::store::count_open_by` has it.
    let open = plan(&place, &format!("{count} AND closed_at IS NULL")).await;
    assert!(open.contains("approval_rounds_gateway_id_proposer_closed_at"), "{open}");
}

async fn t20_a_refused_connection_is_found_among_those_of_its_program(db: TestDb) {
    {
        let mut conn = db.write().await.unwrap();
        for statement in REFUSED {
            on_conn!(&mut conn, |c| diesel::sql_query(statement).execute(c).await).unwrap();
        }
    }
    let engine = db.engine();
    let place = db.close();
    place.wait_closed().await;
    // As `refused::store::delete_older` has it.
    let older = "SELECT id FROM refused_connections WHERE gateway_id = 1 AND sandbox_uid = 'box' \
                 AND \"binary\" = '/bin/curl' AND host = 'h7' ORDER BY at DESC, id DESC LIMIT 100 OFFSET 20";
    let found = plan(&place, older).await;
    assert!(found.contains("refused_connections_uid_binary_host_at"), "{found}");
    let by_host = match engine {
        Engine::Sqlite => "AND host=?",
        Engine::Postgres => "AND (host = 'h7'",
    };
    assert!(found.contains(by_host) && !found.contains("Filter"), "{found}");
}
