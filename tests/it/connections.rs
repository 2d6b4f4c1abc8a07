//! Database connections: read-only access, exhausted pools, and lost connections.

use std::time::Duration;

use diesel_async::RunQueryDsl;
use shoreguard::db::{Conn, Db, DbOptions};
use shoreguard::error::{Error, Reason};

use crate::storage::{insert_gateway, names};
use crate::support::TestDb;
use crate::support::limit;
use crate::support::postgres::Database;

both_engines! { read_connections_cannot_write, readers_see_earlier_commits, an_exhausted_connection_pool_is_reported_as_busy }

async fn read_connections_cannot_write(db: TestDb) {
    let mut conn = db.read().await.unwrap();
    assert!(insert_gateway(&mut conn, "edge").await.is_err());
    drop(conn);
    let mut conn = db.write().await.unwrap();
    insert_gateway(&mut conn, "edge").await.unwrap();
}

async fn readers_see_earlier_commits(db: TestDb) {
    for n in 0..50 {
        let name = format!("edge-{n:02}");
        db.transaction(async |conn| insert_gateway(conn, &name).await).await.unwrap();
        assert_eq!(names(&db).await.len(), n + 1);
    }
}

async fn an_exhausted_connection_pool_is_reported_as_busy(db: TestDb) {
    let place = db.close();
    let options = DbOptions {
        readers: 1,
        writers: 1,
        pool_wait: Duration::from_millis(500),
        ..place.options()
    };
    place.wait_closed().await;
    let db = Db::open(&options).await.unwrap();
    let (reader, writer) = (db.read().await.unwrap(), db.write().await.unwrap());
    for refused in [db.read().await, db.write().await] {
        let busy = matches!(refused, Err(Error::Exhausted { reason: Reason::Busy, .. }));
        assert!(busy, "{refused:?}");
    }
    drop((reader, writer));
    db.read().await.unwrap();
    db.write().await.unwrap();
}

#[test]
fn an_unreachable_database_server_is_reported_as_unavailable() {
    limit::block_on(async {
        let error =
            Db::open(&DbOptions::new("postgres://sg:hunter2@127.0.0.1:1/sg")).await.unwrap_err();
        let Error::Unavailable { reason: Reason::StorageUnavailable, why } = error else {
            panic!("{error:?}");
        };
        assert!(why.contains("cannot connect") && !why.contains("hunter2"), "{why}");
    });
}

/// Ends all other connections to the database.
pub(crate) const KILL_ALL: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[test]
fn lost_connections_are_replaced() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        let db = Db::open(&DbOptions::new(database.url())).await.unwrap();
        let lost: Result<(), Error> = db
            .transaction(async |conn| {
                insert_gateway(conn, "lost").await?;
                database.query(KILL_ALL).await;
                insert_gateway(conn, "after").await?;
                Ok(())
            })
            .await;
        assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
        db.transaction(async |conn| insert_gateway(conn, "kept").await).await.unwrap();
        assert_eq!(names(&db).await, ["kept"]);
        database.drop_database();
    });
}

#[test]
fn a_connection_lost_during_commit_is_an_internal_error() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        let db = Db::open(&DbOptions::new(database.url())).await.unwrap();
        let lost: Result<(), Error> = db
            .transaction(async |conn| {
                insert_gateway(conn, "lost").await?;
                database.query(KILL_ALL).await;
                Ok(())
            })
            .await;
        assert!(matches!(lost, Err(Error::Internal(_))), "{lost:?}");
        database.drop_database();
    });
}

/// Waits until no transaction of the database is idle. A session for each poll would take longer to open than it lives.
const WAIT_NOT_IDLE: &str = "DO $$ BEGIN
    WHILE EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND state = 'idle in transaction') LOOP
        PERFORM pg_sleep(0.01);
        PERFORM pg_stat_clear_snapshot();
    END LOOP;
END $$";

#[test]
fn postgres_times_out_statements_and_idle_transactions() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        // Longer than opening the database takes on a busy machine.
        let short = Duration::from_secs(2);
        let options = DbOptions {
            statement_timeout: short,
            idle_in_transaction_timeout: short,
            ..DbOptions::new(database.url())
        };
        let db = Db::open(&options).await.unwrap();
        let slow = async {
            let mut conn = db.write().await.unwrap();
            let slow = diesel::sql_query("SELECT pg_sleep(30)");
            let Conn::Pg(c) = &mut conn else { unreachable!() };
            Error::from(slow.execute(c).await.unwrap_err())
        };
        let idle = db.transaction(async |conn| {
            insert_gateway(conn, "idle").await?;
            database.execute_batch(WAIT_NOT_IDLE).await;
            insert_gateway(conn, "after").await?;
            Ok(())
        });
        let (late, idle): (Error, Result<(), Error>) = tokio::join!(slow, idle);
        assert!(matches!(late, Error::DeadlineExceeded { .. }), "{late:?}");
        assert!(matches!(idle, Err(Error::Unavailable { .. })), "{idle:?}");
        database.drop_database();
    });
}
