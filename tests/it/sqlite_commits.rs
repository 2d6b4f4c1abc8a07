//! SQLite: transactions that follow each other share a commit, and statements do not block the runtime.

use std::pin::pin;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{Connection, QueryableByName, SqliteConnection};
use diesel_async::RunQueryDsl;
use futures_util::poll;
use shoreguard::db::{Conn, Db, DbOptions, Engine, on_conn};
use shoreguard::error::{Error, Reason};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::storage::{insert_gateway, names};
use crate::support::{DbLocation, eventually, limit};

/// Time after which an ended transaction is committed without a next one: much longer than a test needs before that.
const ALONE: Duration = Duration::from_secs(4);

/// The ends of a transaction that waits inside.
struct Held {
    inside: oneshot::Receiver<()>,
    end: oneshot::Sender<Result<(), Error>>,
}

/// Returns a transaction that inserts a gateway, reports that it is inside, and ends with the result that it receives.
fn hold(db: &Db, name: &'static str) -> (impl Future<Output = Result<(), Error>>, Held) {
    hold_after(db, async move |conn: &mut Conn| insert_gateway(conn, name).await.map(drop))
}

/// Does the same as [`hold`] for other work.
fn hold_after(
    db: &Db,
    work: impl AsyncFnOnce(&mut Conn) -> Result<(), Error>,
) -> (impl Future<Output = Result<(), Error>>, Held) {
    let (entered, inside) = oneshot::channel();
    let (end, result) = oneshot::channel();
    let db = db.clone();
    let transaction = async move {
        db.transaction(async |conn| {
            work(conn).await?;
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

async fn execute(conn: &mut Conn, sql: &str) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::sql_query(sql).execute(c).await)?;
    Ok(())
}

/// Inserts a row that makes the commit fail.
async fn insert_orphan(conn: &mut Conn) -> Result<(), Error> {
    execute(conn, "PRAGMA defer_foreign_keys = ON").await?;
    execute(conn, "INSERT INTO group_members (group_id, user_id) VALUES (1, 1)").await
}

/// Runs a test on an SQLite database of its own. An ended transaction waits for the next one to begin, for longer than
/// that takes on a busy machine.
fn run(test: impl AsyncFnOnce(&Db)) {
    run_with(Duration::from_mins(2), test);
}

/// Runs a test as [`run`] in which no transaction follows an ended one, which waits for this time.
fn run_with(commit_delay: Duration, test: impl AsyncFnOnce(&Db)) {
    limit::block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let options = DbOptions { commit_delay, ..place.options() };
        test(&Db::open(&options).await.unwrap()).await;
    });
}

/// Asserts that a transaction has ended and waits for a commit that it shares with the next one.
macro_rules! assert_uncommitted {
    ($db:expr, $transaction:expr) => {
        assert!(poll!($transaction).is_pending());
        assert!(names($db).await.is_empty());
    };
}

/// Begins a transaction, `$first`, that is inside, with its ends `$held`: that of [`hold`] by default.
macro_rules! begin_first {
    ($db:expr, $first:ident, $held:ident) => {
        begin_first!($first, $held = hold($db, "first"));
    };
    ($first:ident, $held:ident = $transaction:expr) => {
        let ($first, $held) = $transaction;
        let mut $first = pin!($first);
        enter(&mut $first, $held.inside).await;
    };
}

/// Ends a transaction while `$next` waits for the writer: it then waits for a commit that it shares.
macro_rules! end_before {
    ($db:expr, $first:ident, $held:ident, $next:expr) => {
        assert!(poll!(&mut $next).is_pending(), "it waits for the writer");
        $held.end.send(Ok(())).unwrap();
        assert_uncommitted!($db, &mut $first);
    };
}

#[test]
fn transactions_that_follow_each_other_share_a_commit() {
    run(async |db| {
        begin_first!(db, first, held);
        let (second, next) = hold(db, "second");
        let mut second = pin!(second);
        end_before!(db, first, held, second);
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
        begin_first!(db, first, held);
        let (second, next) = hold(db, "second");
        let mut second = pin!(second);
        end_before!(db, first, held, second);
        next.end.send(Err(Error::refused(Reason::LastAdmin, "no"))).unwrap();
        let refused = second.await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        first.await.unwrap();
        assert_eq!(names(db).await, ["first"]);
    });
}

#[test]
fn a_dropped_transaction_is_rolled_back_without_the_others_of_its_commit() {
    run_with(ALONE, async |db| {
        begin_first!(db, first, held);
        {
            let (second, next) = hold(db, "second");
            let mut second = pin!(second);
            end_before!(db, first, held, second);
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
    run_with(ALONE, async |db| {
        begin_first!(db, first, held);
        {
            let mut waiting = pin!(db.write());
            end_before!(db, first, held, waiting);
        }
        first.await.unwrap();
        assert_eq!(names(db).await, ["first"]);
    });
}

#[test]
fn a_commit_that_fails_fails_every_transaction_that_shares_it() {
    run(async |db| {
        begin_first!(db, first, held);
        let mut orphan = pin!(db.transaction(async |conn| insert_orphan(conn).await));
        end_before!(db, first, held, orphan);
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
        begin_first!(db, first, held);
        let mut write = pin!(db.write());
        end_before!(db, first, held, write);
        let writer = write.await.unwrap();
        assert_eq!(names(db).await, ["first"]);
        first.await.unwrap();
        drop(writer);
    });
}

#[test]
fn a_transaction_ends_while_the_next_caller_is_not_polled() {
    run_with(ALONE, async |db| {
        begin_first!(db, first, held);
        let (second, _next) = hold(db, "second");
        let mut second = pin!(second);
        assert!(poll!(&mut second).is_pending(), "it waits for the writer");
        held.end.send(Ok(())).unwrap();
        first.await.unwrap();
        assert_eq!(names(db).await, ["first"]);
    });
}

#[test]
fn a_transaction_whose_caller_hangs_up_before_the_commit_is_committed() {
    run_with(ALONE, async |db| {
        {
            begin_first!(db, first, held);
            let mut waiting = pin!(db.write());
            end_before!(db, first, held, waiting);
        }
        eventually("it is committed", || async { names(db).await == ["first"] }).await;
    });
}

#[test]
fn a_failed_transaction_returns_the_error_of_the_commit_that_it_shares() {
    run(async |db| {
        let orphan = hold_after(db, async |conn: &mut Conn| insert_orphan(conn).await);
        begin_first!(first, held = orphan);
        let (second, next) = hold(db, "second");
        let mut second = pin!(second);
        end_before!(db, first, held, second);
        next.end.send(Err(Error::refused(Reason::LastAdmin, "no"))).unwrap();
        let failed = second.await;
        assert!(matches!(failed, Err(Error::Conflict { .. })), "{failed:?}");
        assert!(first.await.unwrap_err().is_in_doubt());
    });
}

#[test]
fn a_writer_is_not_in_doubt_if_the_commit_of_earlier_transactions_fails() {
    run(async |db| {
        let orphan = hold_after(db, async |conn: &mut Conn| insert_orphan(conn).await);
        begin_first!(first, held = orphan);
        let mut write = pin!(db.write());
        end_before!(db, first, held, write);
        let refused = write.await.map(drop);
        assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
        assert!(first.await.unwrap_err().is_in_doubt());
        db.transaction(async |conn| insert_gateway(conn, "next").await).await.unwrap();
    });
}

#[test]
fn a_long_transaction_begins_after_the_commit_of_earlier_ones() {
    run(async |db| {
        begin_first!(db, first, held);
        let long = db.long_transaction(async |_| Ok(names(db).await));
        let mut long = pin!(long);
        end_before!(db, first, held, long);
        assert_eq!(long.await.unwrap(), ["first"]);
        first.await.unwrap();
    });
}

#[test]
fn a_transaction_that_commits_at_once_commits_those_before_it() {
    run(async |db| {
        begin_first!(db, first, held);
        let at_once = db.transaction_at_once(async |conn| insert_gateway(conn, "second").await);
        let mut at_once = pin!(at_once);
        end_before!(db, first, held, at_once);
        {
            // It does not leave the commit to this one.
            let mut waiting = pin!(db.write());
            assert!(poll!(&mut waiting).is_pending(), "it waits for the writer");
            at_once.await.unwrap();
            assert_eq!(names(db).await, ["first", "second"]);
        }
        first.await.unwrap();
    });
}

#[test]
fn a_transaction_that_fails_before_its_commit_at_once_leaves_that_to_the_others() {
    run_with(ALONE, async |db| {
        begin_first!(db, first, held);
        let refused = db.transaction_at_once(async |conn| {
            insert_gateway(conn, "second").await?;
            Err::<(), _>(Error::refused(Reason::LastAdmin, "no"))
        });
        let mut refused = pin!(refused);
        end_before!(db, first, held, refused);
        let refused = refused.await;
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
        first.await.unwrap();
        assert_eq!(names(db).await, ["first"]);
    });
}

#[test]
fn a_transaction_that_commits_with_the_next_one_waits_for_it() {
    run(async |db| {
        let ((entered, inside), (end, ended)) = (oneshot::channel(), oneshot::channel());
        let first = db.transaction_with_next(async |conn| {
            insert_gateway(conn, "first").await?;
            entered.send(()).unwrap();
            ended.await.unwrap()
        });
        let mut first = pin!(first);
        enter(&mut first, inside).await;
        // No other transaction waits for the writer.
        end.send(Ok(())).unwrap();
        assert_uncommitted!(db, &mut first);
        db.transaction(async |conn| insert_gateway(conn, "second").await).await.unwrap();
        assert_eq!(names(db).await, ["first", "second"]);
        first.await.unwrap();
    });
}

#[test]
fn a_transaction_that_commits_with_the_next_one_commits_those_before_it() {
    run(async |db| {
        begin_first!(db, first, held);
        let last = db.transaction_with_next(async |conn| insert_gateway(conn, "last").await);
        let mut last = pin!(last);
        end_before!(db, first, held, last);
        // The caller of the first one does not wait for another transaction.
        last.await.unwrap();
        first.await.unwrap();
        assert_eq!(names(db).await, ["first", "last"]);
    });
}

#[test]
fn a_transaction_that_commits_with_the_next_one_is_committed_without_one() {
    run_with(Duration::from_millis(1), async |db| {
        let alone = db.transaction_with_next(async |conn| insert_gateway(conn, "edge").await);
        alone.await.unwrap();
        assert_eq!(names(db).await, ["edge"]);
    });
}

#[test]
fn a_transaction_without_others_before_it_has_no_savepoint() {
    run(async |db| {
        let inserted = db.transaction(async |conn| {
            assert!(execute(conn, "RELEASE member").await.is_err());
            insert_gateway(conn, "edge").await
        });
        inserted.await.unwrap();
        assert_eq!(names(db).await, ["edge"]);
    });
}

#[test]
fn a_full_database_fails_every_transaction_that_shares_the_commit() {
    run(async |db| {
        begin_first!(db, first, held);
        // SQLite rolls back the whole transaction, not only the savepoint.
        let large = db.transaction(async |conn| {
            execute(conn, "PRAGMA max_page_count = 1").await?;
            let insert = "INSERT INTO gateways (name, endpoint, registered_at, ca_cert) \
                          VALUES ('large', 'edge:443', '2026-01-01 00:00:00', zeroblob(10000000))";
            execute(conn, insert).await
        });
        let mut large = pin!(large);
        end_before!(db, first, held, large);
        for failed in [large.await, first.await] {
            assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
        }
        db.transaction(async |conn| insert_gateway(conn, "next").await).await.unwrap();
        assert_eq!(names(db).await, ["next"]);
    });
}

#[test]
fn a_transaction_that_cannot_begin_keeps_its_connection() {
    limit::block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let options = DbOptions { busy_timeout: Duration::from_millis(10), ..place.options() };
        let db = Db::open(&options).await.unwrap();
        let mark = async |sql: &str| execute(&mut db.write().await.unwrap(), sql).await;
        mark("CREATE TEMP TABLE mark (id INTEGER)").await.unwrap();
        let path = options.sqlite_path().unwrap();
        let mut other = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        other.batch_execute("BEGIN IMMEDIATE").unwrap();
        let busy = db.transaction(async |conn| insert_gateway(conn, "edge").await).await;
        assert!(matches!(busy, Err(Error::Exhausted { .. })), "{busy:?}");
        other.batch_execute("ROLLBACK").unwrap();
        mark("INSERT INTO mark VALUES (1)").await.unwrap();
        db.transaction(async |conn| insert_gateway(conn, "edge").await).await.unwrap();
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
