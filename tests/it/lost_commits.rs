//! Audit entries whose commit has an unknown outcome: its response was lost, or it failed.

use std::path::PathBuf;
use std::task::Poll;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::audit::Ending;
use shoreguard::audit::recorder::Recorder;
use shoreguard::clock::Clock;
use shoreguard::db::schema::audit_log;
use shoreguard::db::{Db, DbOptions, Engine, on_conn};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit::{intent, outcome, settings};
use crate::support::postgres::Database;
use crate::support::{TestDb, limit, pause};

/// Makes each commit that adds an entry wait for the holder of an advisory lock.
const HOLD: &str = "\
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ \
    BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$; \
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON audit_log DEFERRABLE INITIALLY DEFERRED \
    FOR EACH ROW EXECUTE FUNCTION hold()";
const WAITING: &str = "SELECT pid::text FROM pg_stat_activity \
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// A proxy between client and server. It can cut the connection before the client gets the response.
struct Relay {
    port: u16,
    cuts: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Relay {
    async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = watch::Sender::new(());
        let subscribe = cuts.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                clients.spawn(relay(client, socket.clone(), subscribe.subscribe()));
            }
        });
        Self { port, cuts, _tasks: tasks }
    }

    fn options(&self, database: &Database) -> DbOptions {
        let (port, name) = (self.port, database.name());
        DbOptions::new(format!("postgres://shoreguard@127.0.0.1:{port}/{name}?sslmode=disable"))
    }
}

async fn relay(mut client: TcpStream, socket: PathBuf, mut cut: watch::Receiver<()>) {
    let mut server = UnixStream::connect(socket).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = cut.changed() => {}
    }
}

async fn rows(db: &Db) -> Vec<(String, Option<String>, Option<String>)> {
    let mut conn = db.read().await.unwrap();
    on_conn!(&mut conn, |c| audit_log::table
        .select((audit_log::resource_id, audit_log::outcome, audit_log::outcome_detail))
        .order(audit_log::id)
        .load(c)
        .await)
    .unwrap()
}

/// Waits until `count` sessions wait for a lock. Returns their process IDs.
async fn waiting(database: &Database, count: usize) -> Vec<String> {
    loop {
        let found = database.query(WAITING).await;
        if found.len() >= count {
            return found.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
        }
        pause().await;
    }
}

/// How the recorder loses the response to its commit.
enum Lost {
    /// The connection is cut. The session continues and commits later.
    Cut,
    /// The session is terminated, which rolls back its transaction.
    Killed,
}

async fn an_answer_is_lost(lost: Lost) {
    let Some(database) = Database::create_migrated().await else { return };
    let relay = Relay::start(database.socket()).await;
    let db = Db::open(&relay.options(&database)).await.unwrap();
    let recorder = Recorder::start(&db, &Clock::system(), &"replica-1".into(), &settings());
    database.execute_batch(HOLD).await;
    let (holder, connection) =
        tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    let mut sessions = JoinSet::new();
    sessions.spawn(async move { connection.await.unwrap() });
    holder.batch_execute("SELECT pg_advisory_lock(4711)").await.unwrap();

    let opening = recorder.clone();
    let mut opened = JoinSet::new();
    opened.spawn(async move { opening.open(intent("edge")).await });
    let session = waiting(&database, 1).await.remove(0);
    match lost {
        Lost::Cut => relay.cuts.send_replace(()),
        Lost::Killed => {
            database.execute_batch(&format!("SELECT pg_terminate_backend({session})")).await;
        }
    }
    opened.join_next().await.unwrap().unwrap().unwrap_err();
    // Either the second write also waits for the lock, or nothing is left to be written.
    let count = if matches!(lost, Lost::Cut) { 2 } else { 1 };
    tokio::select! {
        () = recorder.wait_settled() => {}
        _ = waiting(&database, count) => {}
    }
    holder.batch_execute("SELECT pg_advisory_unlock(4711)").await.unwrap();
    drop(holder);
    recorder.wait_settled().await;
    while !database.query(WAITING).await.is_empty() {
        pause().await;
    }
    let (target, ending, detail) = rows(&db).await.remove(0);
    assert_eq!((target.as_str(), ending.as_deref()), ("edge", Some("failed")));
    assert_eq!(detail.as_deref(), Some(r#"{"nothing_happened":"the audit log was unavailable"}"#));
    assert_eq!(rows(&db).await.len(), 1);
    // Later entries are recorded as usual.
    let entry = recorder.open(intent("core")).await.unwrap();
    recorder.close(entry, outcome(Ending::Ok)).await.unwrap();
    recorder.drain().await;
    assert_eq!(rows(&db).await.last().unwrap().1.as_deref(), Some("ok"));
    drop((db, relay));
    database.drop_database();
}

#[test]
fn an_audit_entry_whose_commit_is_still_in_progress_is_closed() {
    limit::block_on(an_answer_is_lost(Lost::Cut));
}

#[test]
fn an_audit_entry_whose_commit_was_lost_is_recorded_as_failed() {
    limit::block_on(an_answer_is_lost(Lost::Killed));
}

both_engines! {
    an_audit_entry_of_a_dropped_call_is_closed,
    a_failed_commit_leaves_no_audit_entry_open,
}

async fn an_audit_entry_of_a_dropped_call_is_closed(db: TestDb) {
    let recorder = Recorder::start(&db, &Clock::system(), &"replica-1".into(), &settings());
    {
        let mut opening = std::pin::pin!(recorder.open(intent("edge")));
        let polled = std::future::poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx).is_ready()));
        assert!(!polled.await);
        // Submitted and stored: the writer handles entries in order.
        recorder.record(intent("core"), outcome(Ending::Ok)).await.unwrap();
    }
    recorder.wait_settled().await;
    recorder.drain().await;
    let found: Vec<_> = rows(&db).await.into_iter().map(|row| (row.0, row.1)).collect();
    let entry = |target: &str, ending: &str| (target.to_owned(), Some(ending.to_owned()));
    assert_eq!(found, [entry("edge", "failed"), entry("core", "ok")]);
}

async fn a_failed_commit_leaves_no_audit_entry_open(db: TestDb) {
    let recorder = Recorder::start(&db, &Clock::system(), &"replica-1".into(), &settings());
    let (fail, mend) = match db.engine() {
        Engine::Sqlite => (
            vec![
                "CREATE TABLE one (id INTEGER PRIMARY KEY)",
                "CREATE TABLE other (id INTEGER REFERENCES one (id) DEFERRABLE INITIALLY DEFERRED)",
                "CREATE TRIGGER fail AFTER INSERT ON audit_log BEGIN INSERT INTO other VALUES (1); END",
            ],
            "DROP TRIGGER fail",
        ),
        Engine::Postgres => (
            vec![
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ \
                     BEGIN RAISE EXCEPTION 'no'; END $$",
                "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON audit_log DEFERRABLE INITIALLY DEFERRED \
                     FOR EACH ROW EXECUTE FUNCTION fail()",
            ],
            "DROP TRIGGER fail ON audit_log",
        ),
    };
    for sql in fail {
        execute(&db, sql).await;
    }
    recorder.open(intent("edge")).await.unwrap_err();
    execute(&db, mend).await;
    let entry = recorder.open(intent("core")).await.unwrap();
    recorder.close(entry, outcome(Ending::Ok)).await.unwrap();
    recorder.drain().await;
    let found: Vec<_> = rows(&db).await.into_iter().map(|row| (row.0, row.1)).collect();
    assert_eq!(found, [("core".to_owned(), Some("ok".to_owned()))]);
}

async fn execute(db: &Db, sql: &str) {
    let mut conn = db.write().await.unwrap();
    on_conn!(&mut conn, |c| diesel::sql_query(sql).execute(c).await).unwrap();
}
