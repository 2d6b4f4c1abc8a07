//! SQLite: transactions that follow each other share a commit, and statements do not block the runtime.

use std::pin::pin;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use futures_util::poll;
use shoreguard::db::{Conn, Db, Engine, on_conn};
use shoreguard::error::{Error, Reason};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::storage::{insert_gateway, names};
use crate::support::{DbLocation, limit};

/// The ends of a transaction that waits inside.
struct Held {
    inside: oneshot::Receiver<()>,
    end: oneshot::Sender<Result<(), Error>>,
}

/// Returns a transaction that inserts a gateway, reports that it is inside, and ends with the result that it receives.
fn hold(db: &Db, name: &'static str) -> (impl Future<Output = Result<(), Error>>, Held) {
    let (entered, inside) = oneshot::channel();
    let (end, result) = oneshot::channel();
    let db = db.clone();
    let transaction = async move {
        db.transaction(async |conn| {
            insert_gateway(conn, name).await?;
            entered.send(()).unwrap();
            result.await.unwrap()
        })
        .await
    };
    (transaction, Held { inside, end })
}

/// Polls a transaction until it is inside.
async fn enter(
    transaction: impl Future<Output = Result<(), Error>>,
    inside: oneshot::Receiver<()>,
) {
    tokio::select! {
        ended = transaction => panic!("{ended:?}"),
        inside = inside => inside.unwrap(),
    }
}

/// Runs a test on an SQLite database of its own.
fn run(test: impl AsyncFnOnce(&Db)) {
    limit::block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        test(&Db::open(&place.options()).await.unwrap()).await;
    });
}

/// Asserts that a transaction has ended and waits for a commit that it shares with the next one.
macro_rules! assert_uncommitted {
    ($db:expr, $transaction:expr) => {
        assert!(poll!($transaction).is_pending());
        assert!(names($db).await.is_empty());
    };
}

#[test]
fn transactions_that_follow_each_other_share_a_commit() {
    run(async |db| {
        let (first, held) = hold(db, "first");
        let (second, next) = hold(db, "second");
        let mut first = pin!(first);
        let mut second = pin!(second);
        enter(&mut first, held.inside).await;
        assert!(poll!(&mut second).is_pending(), "it waits for the writer");
        held.end.send(Ok(())).unwrap();
        assert_uncommitted!(db, &mut first);
        enter(&mut second, next.inside).await;
        assert_uncommitted!(db, &mut first);
        next.end.send(Ok(())).unwrap();
        second.await.unwrap();
        first.await.unwrap();
        assert_eq!(names(db).await, ["first", "second"]);
    });
}

#[test]
fn a_failed_transaction_is_rolled_back_without_the_others_of_its_commit() {
    run(async |db| {
        let (first, held) = hold(db, "first");
        let (second, next) = hold(db, "second");
        let mut first = pin!(first);
        let mut second = pin!(second);
        enter(&mut first, held.inside).await;
        assert!(poll!(&mut second).is_pending());
        held.end.send(Ok(())).unwrap();
        assert_uncommitted!(db, &mut first);
        next.end.send(Err(Error::refused(Reason::LastAdmin, "no"))).unwrap();
        let refused = second.await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        first.await.unwrap();
        assert_eq!(names(db).await, ["first"]);
    });
}

#[test]
fn a_dropped_transaction_is_rolled_back_without_the_others_of_its_commit() {
    run(async |db| {
        let (first, held) = hold(db, "first");
        let mut first = pin!(first);
        enter(&mut first, held.inside).await;
        {
            let (second, next) = hold(db, "second");
            let mut second = pin!(second);
            assert!(poll!(&mut second).is_pending());
            held.end.send(Ok(())).unwrap();
            assert_uncommitted!(db, &mut first);
            enter(&mut second, next.inside).await;
        }
        // No other transaction follows.
        first.await.unwrap();
        assert_eq!(names(db).await, ["first"]);
        db.transaction(async |conn| insert_gateway(conn, "second").await).await.unwrap();
        assert_eq!(names(db).await, ["first", "second"]);
    });
}

#[test]
fn a_transaction_commits_itself_if_the_waiting_caller_hangs_up() {
    run(async |db| {
        let (first, held) = hold(db, "first");
        let mut first = pin!(first);
        enter(&mut first, held.inside).await;
        {
            let mut waiting = pin!(db.write());
            assert!(poll!(&mut waiting).is_pending());
            held.end.send(Ok(())).unwrap();
            assert_uncommitted!(db, &mut first);
        }
        first.await.unwrap();
        assert_eq!(names(db).await, ["first"]);
    });
}

#[test]
fn a_commit_that_fails_fails_every_transaction_that_shares_it() {
    run(async |db| {
        let (first, held) = hold(db, "first");
        let mut first = pin!(first);
        enter(&mut first, held.inside).await;
        let orphan = db.transaction(async |conn| {
            for sql in [
                "PRAGMA defer_foreign_keys = ON",
                "INSERT INTO group_members (group_id, user_id) VALUES (1, 1)",
            ] {
                on_conn!(conn, |c| diesel::sql_query(sql).execute(c).await)?;
            }
            Ok(())
        });
        let mut orphan = pin!(orphan);
        assert!(poll!(&mut orphan).is_pending());
        held.end.send(Ok(())).unwrap();
        assert_uncommitted!(db, &mut first);
        let failed = orphan.await;
        assert!(matches!(failed, Err(Error::Conflict { .. })), "{failed:?}");
        assert!(first.await.unwrap_err().is_in_doubt());
        assert!(names(db).await.is_empty());
        db.transaction(async |conn| insert_gateway(conn, "next").await).await.unwrap();
        assert_eq!(names(db).await, ["next"]);
    });
}

#[test]
fn a_single_write_begins_after_the_commit_of_earlier_transactions() {
    run(async |db| {
        let (first, held) = hold(db, "first");
        let mut first = pin!(first);
        enter(&mut first, held.inside).await;
        let mut write = pin!(db.write());
        assert!(poll!(&mut write).is_pending());
        held.end.send(Ok(())).unwrap();
        assert_uncommitted!(db, &mut first);
        let writer = write.await.unwrap();
        assert_eq!(names(db).await, ["first"]);
        first.await.unwrap();
        drop(writer);
    });
}

/// Runs a statement that ends when another task of the same runtime has run. Returns whether that happened.
async fn runs_beside(db: &Db) -> bool {
    let (blocked, is_blocked) = oneshot::channel();
    let (release, released) = std::sync::mpsc::channel();
    let mut others = JoinSet::new();
    others.spawn(async move {
        is_blocked.await.unwrap();
        release.send(()).unwrap();
    });
    let result = db
        .transaction(async |conn| {
            let Conn::Sqlite(c) = conn else { unreachable!() };
            let slow = c.spawn_blocking(move |_| {
                blocked.send(()).unwrap();
                Ok(released.recv_timeout(Duration::from_secs(30)).is_ok())
            });
            Ok(slow.await?)
        })
        .await;
    others.join_all().await;
    result.unwrap()
}

#[test]
fn a_slow_statement_does_not_block_the_other_tasks_of_its_worker() {
    let _limit = limit::start_time_limit();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let task = async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let db = Db::open(&place.options()).await.unwrap();
        runs_beside(&db).await
    };
    let task = runtime.spawn(task);
    assert!(runtime.block_on(task).unwrap());
}

#[test]
fn a_single_threaded_runtime_refuses_sqlite_instead_of_blocking() {
    run(async |db| {
        let db = db.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let read = db.ping().await;
                let insert = db.transaction(async |conn| insert_gateway(conn, "edge").await);
                (read, insert.await)
            })
        });
        let (read, written) = thread.join().unwrap();
        assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
        assert!(matches!(written, Err(Error::Unavailable { .. })), "{written:?}");
    });
}

#[derive(QueryableByName)]
struct CompileOption {
    #[diesel(sql_type = Text)]
    compile_options: String,
}

#[test]
fn sqlite_is_built_with_the_flags_of_the_repository() {
    run(async |db| {
        let mut conn = db.read().await.unwrap();
        let options = "PRAGMA compile_options";
        let options: Vec<CompileOption> =
            on_conn!(&mut conn, |c| diesel::sql_query(options).load(c).await).unwrap();
        let has = |name: &str| options.iter().any(|option| option.compile_options == name);
        assert!(has("DEFAULT_MEMSTATUS=0"));
        assert!(has("ENABLE_QPSG"));
        assert!(!has("ENABLE_MEMORY_MANAGEMENT"));
    });
}
