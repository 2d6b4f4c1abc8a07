//! A PostgreSQL server that becomes read-only, or that no longer responds: both pools recover by themselves.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use diesel_async::RunQueryDsl;
use shoreguard::db::options::POSTGRES_WRITERS;
use shoreguard::db::{Conn, Db, DbOptions};
use shoreguard::error::Error;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connections::KILL_ALL;
use crate::storage::{insert_gateway, names};
use crate::support::postgres::Database;
use crate::support::{CONDITION_TIME_MAX, limit, pause};

/// Time in which both pools recover: seconds, plus the delay of a busy machine.
const RECOVERY_MAX: Duration = CONDITION_TIME_MAX;
/// Time after which a caller gives up.
const ATTEMPT_MAX: Duration = Duration::from_millis(2_500);

/// Repeats an attempt until it succeeds. Until then the database is unavailable, which is not an internal error.
async fn recovers(what: &str, attempt: impl AsyncFn() -> Result<(), Error>) {
    let begun = Instant::now();
    loop {
        match tokio::time::timeout(ATTEMPT_MAX, attempt()).await {
            Ok(Ok(())) => return,
            Ok(Err(Error::Unavailable { .. })) | Err(_) => {}
            Ok(Err(error)) => panic!("{what}: {error:?}"),
        }
        assert!(begun.elapsed() < RECOVERY_MAX, "{what} did not recover");
        pause().await;
    }
}

async fn insert(db: &Db, name: &str) -> Result<(), Error> {
    db.transaction(async |conn| insert_gateway(conn, name).await.map(drop)).await
}

/// Makes the sessions of all writers read-only, as a failover to a standby does.
async fn make_writers_read_only(db: &Db) {
    let mut writers = Vec::new();
    for _ in 0..POSTGRES_WRITERS {
        let mut conn = db.write().await.unwrap();
        let Conn::Pg(c) = &mut conn else { unreachable!() };
        let read_only = diesel::sql_query("SET default_transaction_read_only = on");
        read_only.execute(c).await.unwrap();
        writers.push(conn);
    }
}

#[test]
fn connections_that_became_read_only_are_replaced() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        let db = Db::open(&DbOptions::new(database.url())).await.unwrap();
        make_writers_read_only(&db).await;
        let refused = insert(&db, "refused").await;
        assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
        recovers("a transaction", async || insert(&db, "one").await).await;
        // Each of them, since the connection used last is handed out first.
        let mut writers = Vec::new();
        for n in 0..POSTGRES_WRITERS {
            let mut conn = db.write().await.unwrap();
            insert_gateway(&mut conn, &format!("other-{n}")).await.unwrap();
            writers.push(conn);
        }
        drop(writers);

        make_writers_read_only(&db).await;
        recovers("a single statement", async || {
            let mut conn = db.write().await?;
            insert_gateway(&mut conn, "two").await.map(drop)
        })
        .await;
        database.drop_database();
    });
}

#[test]
fn both_pools_recover_after_a_server_that_accepted_no_writes() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        let db = Db::open(&DbOptions::new(database.url())).await.unwrap();
        insert(&db, "before").await.unwrap();
        database.set_default("default_transaction_read_only", Some("on")).await;
        database.query(KILL_ALL).await;
        // A standby answers readers with old data, so they are refused too.
        for refused in [insert(&db, "refused").await, db.ping().await] {
            assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
        }
        let start = Db::open(&DbOptions::new(database.url())).await.unwrap_err().to_string();
        assert!(start.contains("does not allow writes"), "{start}");

        database.set_default("default_transaction_read_only", None).await;
        recovers("a transaction", async || insert(&db, "after").await).await;
        recovers("a query", async || db.ping().await).await;
        assert_eq!(names(&db).await, ["after", "before"]);
        database.drop_database();
    });
}

/// A proxy before the server's socket. Its open connections can be made silent, as if their host had vanished.
struct Proxy {
    port: u16,
    silence: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silence = watch::Sender::new(());
        let silenced = silence.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                clients.spawn(relay(client, socket.clone(), silenced.subscribe()));
            }
        });
        Self { port, silence, _tasks: tasks }
    }
}

async fn relay(mut client: TcpStream, socket: PathBuf, mut silenced: watch::Receiver<()>) {
    let mut server = UnixStream::connect(socket).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = silenced.changed() => {}
    }
    // Both sockets stay open.
    std::future::pending::<()>().await;
}

#[test]
fn both_pools_recover_from_connections_whose_server_does_not_respond() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        let proxy = Proxy::start(database.socket()).await;
        let (port, name) = (proxy.port, database.name());
        let url = format!("postgres://shoreguard@127.0.0.1:{port}/{name}?sslmode=disable");
        let db = Db::open(&DbOptions::new(url)).await.unwrap();
        insert(&db, "before").await.unwrap();
        db.ping().await.unwrap();

        proxy.silence.send_replace(());
        // At the same time, since the first attempt of each waits until it gives up.
        tokio::join!(
            recovers("a query", async || db.ping().await),
            recovers("a transaction", async || insert(&db, "after").await),
        );
        database.drop_database();
    });
}
