//! How much is stored of what the logs of one gateway show, and in how many statements.

use diesel_async::RunQueryDsl;
use shoreguard::db::{Engine, on_conn};
use shoreguard::resources::bypass_events::domain::{DELETED_AT_ONCE, STORED_OF_GATEWAY_MAX};
use shoreguard::resources::bypass_events::worker::RETENTION;
use shoreguard::workers;

use super::followed::Followed;
use super::*;
use crate::gateway_unregister::insert_rows;
use crate::support::TestDb;
use crate::support::server::run_without_jobs;
use crate::webhooks::plans::plan;

both_engines! { t20_the_newest_rows_of_a_gateway_are_found_without_those_of_others }

server_tests_without_jobs! {
    t20_bypass_events_of_a_gateway_are_limited_in_number,
    t20_a_gateway_that_names_ever_new_sandboxes_has_a_limited_number_of_notices,
    t20_refused_connections_of_a_gateway_are_limited_in_number,
    notices_are_deleted_30_days_after_their_last_event_unless_lines_wait,
    few_rows_are_not_counted_by_gateway,
}

/// Gateways with few rows: more than one tick counts.
const QUIET: usize = 40;

/// The tables of what logs show.
const TABLES: [&str; 3] = ["bypass_events", "bypass_notices", "refused_connections"];

/// Statements that count the insertions into a table of PostgreSQL.
const COUNT_INSERTIONS: [&str; 3] = [
    "CREATE TABLE insertions (number BIGINT)",
    "CREATE FUNCTION count_insertion() RETURNS trigger LANGUAGE plpgsql \
     AS 'BEGIN INSERT INTO insertions VALUES (1); RETURN NULL; END'",
    "CREATE TRIGGER count_insertions AFTER INSERT ON refused_connections \
     FOR EACH STATEMENT EXECUTE FUNCTION count_insertion()",
];

/// Runs the job until nothing is left to do. Returns how many rows it has deleted.
async fn delete(sg: &TestServer) -> usize {
    let mut deleted = 0;
    loop {
        let tick = workers::run_once(&sg.app, &RETENTION).await.unwrap().unwrap();
        deleted += tick.done;
        if !tick.more {
            return deleted;
        }
    }
}

/// Stores many rows without work that the limit does not need, which would take most of the time: the index entries for
/// reading by sandbox, and on PostgreSQL the check of each reference.
async fn insert_many(sg: &TestServer, table: &str, unused: &[&str], rows: &str) -> usize {
    for index in unused {
        sg.sql(&format!("DROP INDEX {index}")).await;
    }
    let references = async |action: &str| {
        if sg.engine == Engine::Postgres {
            sg.sql(&format!("ALTER TABLE {table} {action} TRIGGER ALL")).await;
        }
    };
    references("DISABLE").await;
    let stored = sg.sql(rows).await;
    references("ENABLE").await;
    stored
}

/// Checks that a gateway has at most as many rows as allowed, and that those of others are not deleted for it.
/// `unused` are the indexes of the table that the limit does not use.
async fn check_limit(sg: TestServer, table: &str, unused: &[&str]) {
    start_gateway(&sg, "edge", Generation::V0_1).await;
    // The gateway with too many rows is counted after those with few.
    for (name, count) in [("'quiet-' || n.i", QUIET), ("'flood'", 1)] {
        let gateways = format!(
            "INSERT INTO gateways (name, endpoint, registered_at) \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             SELECT {name}, g.endpoint, g.registered_at FROM gateways g, n WHERE g.name = 'edge'"
        );
        assert_eq!(sg.sql(&gateways).await, count);
    }
    assert_eq!(sg.sql(&insert_rows(table, "quiet%", 1)).await, QUIET);
    // More than one batch.
    let excess = DELETED_AT_ONCE + 1;
    let count = STORED_OF_GATEWAY_MAX + excess;
    let rows = insert_rows(table, "flood", count);
    assert_eq!(insert_many(&sg, table, unused, &rows).await, count);
    assert_eq!(delete(&sg).await, excess);
    assert_eq!(delete(&sg).await, 0, "it has as many rows as allowed");
    let one_more = format!(
        "UPDATE {table} SET gateway_id = (SELECT id FROM gateways WHERE name = 'flood') WHERE id = 1"
    );
    assert_eq!(sg.sql(&one_more).await, 1);
    assert_eq!(delete(&sg).await, 1);
    let of_quiet = format!(
        "DELETE FROM {table} WHERE gateway_id IN (SELECT id FROM gateways WHERE name LIKE 'quiet%')"
    );
    assert_eq!(sg.sql(&of_quiet).await, QUIET - 1, "they have few rows");
    let first = format!("DELETE FROM {table} WHERE id <= {}", QUIET + excess + 1);
    assert_eq!(sg.sql(&first).await, 1, "those that were stored first are deleted");
    sg.finish().await;
}

async fn t20_bypass_events_of_a_gateway_are_limited_in_number(sg: TestServer) {
    check_limit(sg, "bypass_events", &["bypass_events_place_id", "bypass_events_uid_id"]).await;
}

async fn t20_a_gateway_that_names_ever_new_sandboxes_has_a_limited_number_of_notices(
    sg: TestServer,
) {
    check_limit(sg, "bypass_notices", &[]).await;
}

async fn t20_refused_connections_of_a_gateway_are_limited_in_number(sg: TestServer) {
    check_limit(sg, "refused_connections", &["refused_connections_uid_binary_host_at"]).await;
}

async fn t20_the_newest_rows_of_a_gateway_are_found_without_those_of_others(db: TestDb) {
    let gateways = format!(
        "INSERT INTO gateways (name, endpoint, registered_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {QUIET}) \
         SELECT 'edge-' || n.i, 'edge:443', '2026-01-01 00:00:00.000000' FROM n"
    );
    let mut statements = vec![gateways];
    for table in TABLES {
        statements.push(insert_rows(table, "edge-%", 200));
        statements.push(format!("ANALYZE {table}"));
    }
    {
        let mut conn = db.write().await.unwrap();
        for statement in &statements {
            on_conn!(&mut conn, |c| diesel::sql_query(statement).execute(c).await).unwrap();
        }
    }
    // PostgreSQL can sort the rows that the index finds, if they are few.
    let is_sorted_by_index = db.engine() == Engine::Sqlite;
    let place = db.close();
    place.wait_closed().await;
    for table in TABLES {
        // As `newest_beyond` of `rows_by_gateway!` has it.
        let query = format!(
            "SELECT id FROM {table} WHERE gateway_id = 1 ORDER BY id DESC LIMIT 1 OFFSET 100"
        );
        let found = plan(&place, &query).await;
        assert!(found.contains(&format!("{table}_gateway_id_id")), "{found}");
        assert!(!(is_sorted_by_index && found.contains("TEMP B-TREE")), "{found}");
    }
}

async fn notices_are_deleted_30_days_after_their_last_event_unless_lines_wait(sg: TestServer) {
    start_gateway(&sg, "edge", Generation::V0_1).await;
    sg.sql(&insert_rows("bypass_notices", "edge", 3)).await;
    assert_eq!(sg.sql("UPDATE bypass_notices SET waiting = 1 WHERE id = 1").await, 1);
    sg.app.db.advance_clock(Duration::from_hours(29 * 24));
    assert_eq!(delete(&sg).await, 0, "the lines that they announce are still stored");
    sg.app.db.advance_clock(Duration::from_hours(2 * 24));
    assert_eq!(delete(&sg).await, 2);
    sg.finish().await;
}

async fn few_rows_are_not_counted_by_gateway(sg: TestServer) {
    start_gateway(&sg, "edge", Generation::V0_1).await;
    for (table, columns) in [
        ("bypass_events", "created_at"),
        ("bypass_notices", "announced_at, waiting"),
        ("refused_connections", "created_at"),
    ] {
        assert_eq!(sg.sql(&insert_rows(table, "edge", 3)).await, 3);
        // Reading the gateway of a row fails: it cannot be null.
        sg.sql(&format!("ALTER TABLE {table} RENAME TO all_{table}")).await;
        let view = format!(
            "CREATE VIEW {table} AS SELECT id, CAST(NULL AS BIGINT) AS gateway_id, {columns} FROM all_{table}"
        );
        sg.sql(&view).await;
        if sg.engine == Engine::Sqlite {
            // SQLite refuses to delete from a view without a trigger, even if no row matches.
            let trigger = format!(
                "CREATE TRIGGER {table}_deleted INSTEAD OF DELETE ON {table} BEGIN SELECT 1; END"
            );
            sg.sql(&trigger).await;
        }
    }
    assert_eq!(delete(&sg).await, 0);
    sg.finish().await;
}

/// SQLite has no network round trips, and executes a statement for each line.
#[test]
fn refused_connections_of_one_read_are_stored_by_one_statement_on_postgres() {
    run_without_jobs(Engine::Postgres, async |sg: TestServer| {
        let mut edge = Followed::start(&sg, Generation::V0_1).await;
        edge.create(&sg, "box").await;
        edge.follow(&sg).await;
        for statement in COUNT_INSERTIONS {
            sg.sql(statement).await;
        }
        let line = |n: usize| format!("NET:OPEN [MED] DENIED /bin/curl({n}) -> h{n}.example:443");
        edge.simulator.log_at_once("default", "box", "OCSF", (0..20).map(line)).unwrap();
        edge.follow(&sg).await;
        assert_eq!(sg.sql("DELETE FROM refused_connections").await, 20);
        assert_eq!(sg.sql("DELETE FROM insertions").await, 1);
        sg.finish().await;
    });
}
