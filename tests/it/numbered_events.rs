//! SQLite: the commit of an event assigns its sequence number.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::clock::Timestamp;
use shoreguard::db::schema::{event_head, events};
use shoreguard::db::{Conn, Db, Engine, on_conn};
use shoreguard::error::{Error, Reason};
use shoreguard::outbox::{self, NewEvent, event_types};
use tokio::task::JoinSet;

use crate::storage::{insert_gateway, names};
use crate::support::{DbLocation, limit};

/// Number of concurrent writers, and of the transactions of each.
const WRITERS: usize = 32;
const EACH: usize = 5;

async fn write(conn: &mut Conn) -> Result<(), Error> {
    let event = NewEvent {
        event_type: event_types::SANDBOX_STARTED,
        gateway: None,
        actor: "tester".into(),
        payload: serde_json::json!({}),
        at: Timestamp::from_unix_micros(0),
    };
    outbox::enqueue(conn, event).await
}

async fn execute(db: &Db, sql: &str) {
    let mut conn = db.write().await.unwrap();
    on_conn!(&mut conn, |c| diesel::sql_query(sql).execute(c).await).unwrap();
}

/// Returns the sequence numbers of the events in the order in which they were written, and the last assigned number.
async fn numbers(db: &Db) -> (Vec<Option<i64>>, i64) {
    let mut conn = db.read().await.unwrap();
    let written: QueryResult<Vec<Option<i64>>> = on_conn!(&mut conn, |c| events::table
        .select(events::sequence)
        .order(events::id)
        .load(c)
        .await);
    let head: QueryResult<i64> =
        on_conn!(&mut conn, |c| event_head::table.select(event_head::sequence).first(c).await);
    (written.unwrap(), head.unwrap())
}

fn run(test: impl AsyncFnOnce(&Db)) {
    limit::block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        test(&Db::open(&place.options()).await.unwrap()).await;
    });
}

#[test]
fn a_transaction_numbers_its_events_and_leaves_no_gap_if_it_is_rolled_back() {
    run(async |db| {
        db.transaction(async |conn| write(conn).await).await.unwrap();
        assert_eq!(numbers(db).await, (vec![Some(1)], 1));
        let refused: Result<(), Error> = db
            .transaction(async |conn| {
                write(conn).await?;
                Err(Error::refused(Reason::LastAdmin, "no"))
            })
            .await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        db.transaction_at_once(async |conn| {
            write(conn).await?;
            write(conn).await
        })
        .await
        .unwrap();
        assert_eq!(numbers(db).await, (vec![Some(1), Some(2), Some(3)], 3));
    });
}

#[test]
fn transactions_that_share_commits_number_their_events_in_the_order_of_the_writes() {
    run(async |db| {
        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            let db = db.clone();
            writers.spawn(async move {
                for _ in 0..EACH {
                    db.transaction(async |conn| write(conn).await).await.unwrap();
                }
            });
        }
        writers.join_all().await;
        let (written, head) = numbers(db).await;
        let expected: Vec<_> = (1..=head).map(Some).collect();
        assert_eq!((written.len(), &written), (WRITERS * EACH, &expected));
    });
}

#[test]
fn a_change_is_stored_if_its_event_cannot_be_numbered() {
    run(async |db| {
        execute(
            db,
            "CREATE TRIGGER refuse BEFORE UPDATE ON event_head BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .await;
        db.transaction(async |conn| {
            write(conn).await?;
            insert_gateway(conn, "edge").await
        })
        .await
        .unwrap();
        assert_eq!(names(db).await, ["edge"]);
        assert_eq!(numbers(db).await, (vec![None], 0), "neither the event nor the last number");
        execute(db, "DROP TRIGGER refuse").await;
        db.transaction(async |conn| write(conn).await).await.unwrap();
        assert_eq!(numbers(db).await, (vec![Some(1), Some(2)], 2));
    });
}

#[test]
fn a_change_that_is_lost_while_its_event_is_numbered_is_an_error() {
    run(async |db| {
        // As on a full disk, SQLite rolls back the whole transaction, not only the statement.
        execute(
            db,
            "CREATE TRIGGER lose BEFORE UPDATE ON event_head BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
        )
        .await;
        let lost = db.transaction(async |conn| {
            write(conn).await?;
            insert_gateway(conn, "edge").await
        });
        let lost = lost.await;
        assert!(lost.is_err(), "{lost:?}");
        execute(db, "DROP TRIGGER lose").await;
        assert!(names(db).await.is_empty());
        db.transaction(async |conn| write(conn).await).await.unwrap();
        assert_eq!(numbers(db).await, (vec![Some(1)], 1));
    });
}
