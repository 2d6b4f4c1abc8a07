//! Batches of the audit log on PostgreSQL, whose rows show the transaction that has written them.

use std::pin::pin;

use futures_util::poll;
use shoreguard::audit::Ending;
use shoreguard::audit::recorder::Recorder;
use shoreguard::clock::Clock;
use shoreguard::db::{Db, DbOptions};

use crate::audit::{intent, outcome, settings};
use crate::support::limit;
use crate::support::postgres::Database;

const TRANSACTIONS: &str = "SELECT DISTINCT xmin::text FROM audit_log";

#[test]
fn rows_that_arrive_while_a_batch_waits_for_a_connection_are_in_it() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        let options = DbOptions { writers: 1, ..DbOptions::new(database.url()) };
        let db = Db::open(&options).await.unwrap();
        let recorder = Recorder::start(&db, &Clock::system(), &"replica-1".into(), &settings());
        let earlier = recorder.open(intent("earlier")).await.unwrap();
        {
            let held = db.write().await.unwrap();
            let mut first = pin!(recorder.open(intent("first")));
            assert!(poll!(&mut first).is_pending());
            // Usually, the task that writes takes the first entry now, and waits for the connection.
            tokio::task::yield_now().await;
            recorder.close(earlier, outcome(Ending::Ok)).await.unwrap();
            let mut second = pin!(recorder.open(intent("second")));
            assert!(poll!(&mut second).is_pending());
            drop(held);
            let (first, second) = (first.await.unwrap(), second.await.unwrap());
            assert_eq!(database.query(TRANSACTIONS).await.len(), 1);
            recorder.close(first, outcome(Ending::Ok)).await.unwrap();
            recorder.close(second, outcome(Ending::Ok)).await.unwrap();
        }
        recorder.drain().await;
        database.drop_database();
    });
}
