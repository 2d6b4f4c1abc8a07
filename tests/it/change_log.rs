//! The change log of access: writers do not wait for each other, and every replica reads every change.

use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::future;
use shoreguard::app::App;
use shoreguard::clock::Timestamp;
use shoreguard::db::schema::service_principals;
use shoreguard::db::turns::CallerKey;
use shoreguard::db::{Conn, Db, Engine, on_conn};
use shoreguard::error::Error;
use shoreguard::feed::{self, ReadPosition, store};
use shoreguard::outbox::{AccessSubject, log_change};
use shoreguard::pb::v1 as pb;
use tokio::sync::oneshot;
use tonic::{Code, Status};

use crate::connections::KILL_ALL;
use crate::support::server::{TestServer, build, config};
use crate::support::{DbLocation, limit, pause};

const AT: Timestamp = Timestamp::from_unix_micros(1_700_000_000_000_000);
/// A service principal that is not in the change log: a replica knows it only after a load of everything.
const UNLOGGED: i64 = 1_000;
/// The lock for changes of access.
const ADMINS_LOCK: i64 = 0x5348_4f52_4541_444d;

/// Two replicas on one PostgreSQL. They run no jobs, and read the change log only when the test does.
struct Replicas {
    apps: [Arc<App>; 2],
    place: DbLocation,
    _folder: tempfile::TempDir,
}

impl Replicas {
    async fn start() -> Option<Self> {
        let place = DbLocation::new(Engine::Postgres).await?;
        let folder = tempfile::tempdir().unwrap();
        let replica = async || build(config(&place, folder.path(), |_| {})).await;
        let apps = [replica().await, replica().await];
        apps[0].db.transaction(async |conn| insert(conn, UNLOGGED).await).await.unwrap();
        Some(Self { apps, place, _folder: folder })
    }

    async fn stop(self) {
        for app in self.apps {
            app.stop.cancel();
            app.drain().await;
        }
        self.place.remove();
    }
}

fn name(number: i64) -> String {
    format!("p{number}")
}

async fn insert(conn: &mut Conn, number: i64) -> Result<i64, Error> {
    use service_principals as t;
    let row = (
        t::name.eq(name(number)),
        t::key_hash.eq(format!("{number:064x}")),
        t::role.eq("viewer"),
        t::created_at.eq(AT),
    );
    Ok(on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .returning(t::id)
        .get_result(c)
        .await)?)
}

/// Adds a service principal, and logs the change.
async fn add(conn: &mut Conn, number: i64) -> Result<(), Error> {
    let id = insert(conn, number).await?;
    log_change(conn, AccessSubject::ServicePrincipal(id.into()), AT).await
}

/// Adds and logs the service principals after [`UNLOGGED`] in one transaction.
async fn add_many(db: &Db, count: i64) {
    let add = format!(
        "WITH added AS (\
           INSERT INTO service_principals (name, key_hash, role, created_at) \
           SELECT 'p' || number, lpad(to_hex(number), 64, '0'), 'viewer', \
           timestamp '2023-11-14 22:13:20' FROM generate_series({UNLOGGED} + 1, {UNLOGGED} + {count}) AS number ORDER BY number \
           RETURNING id) \
         INSERT INTO access_changes (subject_kind, subject_id, changed_at) \
         SELECT 'service_principal', id, timestamp '2023-11-14 22:13:20' FROM added ORDER BY id"
    );
    execute(db, &add).await;
}

async fn add_and_commit(db: &Db, number: i64) {
    db.transaction(async |conn| add(conn, number).await).await.unwrap();
}

async fn read_forever(replicas: &[Arc<App>]) {
    loop {
        for replica in replicas {
            feed::refresh(replica).await.unwrap();
        }
    }
}

fn knows(app: &App, number: i64) -> bool {
    app.snapshot.service_principal_by_name(&name(number)).is_some()
}

/// Adds a service principal, and commits when `meanwhile` has ended.
async fn add_around(db: &Db, number: i64, meanwhile: impl Future<Output = ()>) {
    let (added, has_added) = oneshot::channel();
    let (commit, may_commit) = oneshot::channel();
    let around = db.transaction(async |conn| {
        add(conn, number).await?;
        added.send(()).unwrap();
        may_commit.await.unwrap();
        Ok(())
    });
    let inside = async {
        has_added.await.unwrap();
        meanwhile.await;
        commit.send(()).unwrap();
    };
    let (around, ()) = tokio::join!(around, inside);
    around.unwrap();
}

#[test]
fn a_change_that_is_committed_late_is_read_by_every_replica() {
    limit::block_on(async {
        let Some(replicas) = Replicas::start().await else { return };
        let [reader, late_reader] = &replicas.apps;
        add_around(&reader.db, 1, async {
            for number in [2, 3] {
                add_and_commit(&reader.db, number).await;
                feed::refresh(reader).await.unwrap();
                assert!(knows(reader, number) && !knows(reader, 1), "{number}");
            }
        })
        .await;
        for replica in [reader, late_reader] {
            feed::refresh(replica).await.unwrap();
            assert!((1..=3).all(|number| knows(replica, number)));
            assert!(!knows(replica, UNLOGGED), "all access data was loaded");
        }
        replicas.stop().await;
    });
}

#[test]
fn a_change_that_is_committed_after_the_retention_of_later_ones_is_read() {
    limit::block_on(async {
        let Some(replicas) = Replicas::start().await else { return };
        let [reader, late_reader] = &replicas.apps;
        let db = &reader.db;
        add_around(db, 1, async {
            for number in [2, 3] {
                add_and_commit(db, number).await;
            }
            feed::refresh(reader).await.unwrap();
            let before = AT.plus(Duration::from_secs(1));
            let deleting =
                db.transaction(async |conn| store::delete_before(conn, before, 10).await);
            // The newest change is kept.
            assert_eq!(deleting.await.unwrap(), 1);
            for replica in [reader, late_reader] {
                feed::refresh(replica).await.unwrap();
                assert!(knows(replica, 2) && knows(replica, 3) && !knows(replica, 1));
            }
            assert!(knows(late_reader, UNLOGGED), "a deleted change was not missed");
        })
        .await;
        add_and_commit(db, 4).await;
        for replica in [reader, late_reader] {
            feed::refresh(replica).await.unwrap();
            assert!((1..=4).all(|number| knows(replica, number)));
        }
        replicas.stop().await;
    });
}

#[test]
fn changes_of_concurrent_writers_are_read_by_every_replica() {
    const WRITERS: i64 = 8;
    const EACH: i64 = 20;
    limit::block_on(async {
        let Some(replicas) = Replicas::start().await else { return };
        let db = &replicas.apps[0].db;
        let writers = (0..WRITERS).map(|writer| async move {
            for number in 0..EACH {
                add_and_commit(db, writer * EACH + number).await;
            }
        });
        tokio::select! {
            _ = future::join_all(writers) => {}
            () = read_forever(&replicas.apps) => {}
        }
        for replica in &replicas.apps {
            feed::refresh(replica).await.unwrap();
            let unknown: Vec<i64> =
                (0..WRITERS * EACH).filter(|number| !knows(replica, *number)).collect();
            assert!(unknown.is_empty(), "{unknown:?}");
            assert!(!knows(replica, UNLOGGED), "all access data was loaded");
        }
        replicas.stop().await;
    });
}

#[test]
fn more_changes_than_a_page_are_read_with_those_of_one_transaction() {
    const CHANGES: i64 = 2_500;
    limit::block_on(async {
        let Some(replicas) = Replicas::start().await else { return };
        let [reader, _] = &replicas.apps;
        add_many(&reader.db, CHANGES).await;
        feed::refresh(reader).await.unwrap();
        assert!((1..=CHANGES).all(|number| knows(reader, UNLOGGED + number)));
        assert!(!knows(reader, UNLOGGED), "all access data was loaded");
        replicas.stop().await;
    });
}

#[test]
fn a_change_whose_transaction_id_is_reused_after_a_crash_is_read() {
    limit::block_on(async {
        let Some(replicas) = Replicas::start().await else { return };
        let [writer, reader] = &replicas.apps;
        feed::refresh(reader).await.unwrap();
        add_and_commit(&writer.db, 1).await;
        // A crash can lose the last ids, which are assigned again. It ends every connection.
        execute(&writer.db, "UPDATE access_changes SET transaction_id = 3").await;
        let DbLocation::Postgres(database) = &replicas.place else { unreachable!() };
        database.query(KILL_ALL).await;
        while feed::refresh(reader).await.is_err() {
            pause().await;
        }
        assert!(knows(reader, 1));
        replicas.stop().await;
    });
}

/// Returns whether a replica has read all changes, as a transaction sees it. Dead connections are replaced meanwhile.
async fn is_current(app: &App, read: &ReadPosition) -> bool {
    loop {
        match app.db.transaction(async |conn| feed::is_current(conn, read).await).await {
            Ok(is_current) => return is_current,
            Err(Error::Unavailable { .. }) => pause().await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn a_decision_after_a_failover_reads_the_access_data_again() {
    limit::block_on(async {
        let Some(replicas) = Replicas::start().await else { return };
        let [writer, reader] = &replicas.apps;
        let mut read = feed::read_position(reader).await;
        while !is_current(reader, &read).await {
            feed::refresh(reader).await.unwrap();
            read = feed::read_position(reader).await;
        }
        add_and_commit(&writer.db, 1).await;
        assert!(!is_current(reader, &read).await);
        // The server that takes over assigns ids again that the reader has read. The first one ends every connection.
        execute(&writer.db, "UPDATE access_changes SET transaction_id = 3").await;
        let DbLocation::Postgres(database) = &replicas.place else { unreachable!() };
        database.query(KILL_ALL).await;
        assert!(!is_current(reader, &read).await, "the ids say nothing any more");
        let decided = loop {
            let decided = feed::until_current(reader, move |read| {
                Box::pin(async move {
                    let is_known = knows(reader, 1);
                    let db = &reader.db;
                    let checked = db.transaction(async |conn| feed::is_current(conn, &read).await);
                    checked.await.map(|is_current| is_current.then_some(is_known))
                })
            });
            match decided.await {
                Ok(is_known) => break is_known,
                Err(Error::Unavailable { .. }) => pause().await,
                Err(error) => panic!("{error:?}"),
            }
        };
        assert!(decided, "it was decided by the change of the first server");
        replicas.stop().await;
    });
}

#[test]
fn an_update_does_not_wait_for_the_turns_of_its_caller() {
    limit::block_on(async {
        let Some(replicas) = Replicas::start().await else { return };
        let [reader, _] = &replicas.apps;
        let db = &reader.db;
        add_and_commit(db, 1).await;
        let calls = async {
            let mut held = Vec::new();
            for _ in 0..reader.config.database.readers / 2 {
                held.push(db.read().await.unwrap());
            }
            feed::refresh(reader).await.unwrap();
            assert!(knows(reader, 1));
        };
        db.run_as(CallerKey::User(1), calls).await;
        replicas.stop().await;
    });
}

#[test]
fn an_update_that_was_interrupted_continues_at_its_page_and_is_fresh_at_the_end() {
    limit::block_on(async {
        let Some(replicas) = Replicas::start().await else { return };
        let [reader, _] = &replicas.apps;
        add_many(&reader.db, 2_500).await;
        reader.snapshot.mark_unconfirmed();
        let mut applied = reader.snapshot.subscribe();
        tokio::select! {
            biased;
            _ = feed::refresh(reader) => unreachable!("it has three pages"),
            page = applied.changed() => page.unwrap(),
        }
        reader.snapshot.check_fresh().unwrap_err();
        assert!(knows(reader, UNLOGGED + 1) && !knows(reader, UNLOGGED + 2_500));
        // A change that is not logged is visible only if the first page is read again.
        let first = name(UNLOGGED + 1);
        let rename = format!("UPDATE service_principals SET name = 'other' WHERE name = '{first}'");
        execute(&reader.db, &rename).await;
        feed::refresh(reader).await.unwrap();
        reader.snapshot.check_fresh().unwrap();
        assert!((1..=2_500).all(|number| knows(reader, UNLOGGED + number)));
        replicas.stop().await;
    });
}

async fn create_group(sg: &TestServer, name: &str) -> Result<(), Status> {
    let request = pb::CreateGroupRequest {
        name: name.to_owned(),
        role: pb::Role::Viewer.into(),
        ..Default::default()
    };
    sg.admin().groups().create_group(request).await.map(drop)
}

async fn execute(db: &Db, sql: &str) {
    let mut conn = db.write().await.unwrap();
    on_conn!(&mut conn, |c| diesel::sql_query(sql).execute(c).await).unwrap();
}

async fn update_gateway(sg: &TestServer, path: &str, value: &str) {
    let update = pb::UpdateGatewayRequest {
        gateway: "edge".to_owned(),
        update_mask: Some(prost_types::FieldMask { paths: vec![path.to_owned()] }),
        description: value.to_owned(),
        labels: [("env".to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    sg.admin().gateways().update_gateway(update).await.unwrap();
}

server_tests! {
    a_change_is_not_made_if_its_event_cannot_be_stored,
    a_change_that_no_replica_holds_is_not_logged,
}

async fn a_change_is_not_made_if_its_event_cannot_be_stored(sg: TestServer) {
    let (fail, mend) = match sg.engine {
        Engine::Sqlite => (
            vec![
                "CREATE TRIGGER fail BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END",
            ],
            "DROP TRIGGER fail",
        ),
        Engine::Postgres => (
            vec![
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ \
                     BEGIN RAISE EXCEPTION 'no'; END $$",
                "CREATE TRIGGER fail BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION fail()",
            ],
            "DROP TRIGGER fail ON events",
        ),
    };
    for sql in fail {
        execute(&sg.app.db, sql).await;
    }
    // More often than there are connections: each transaction that is left open would block one.
    for _ in 0..20 {
        let refused = create_group(&sg, "ops").await.unwrap_err();
        assert_eq!(refused.code(), Code::Internal, "{refused:?}");
    }
    execute(&sg.app.db, mend).await;
    create_group(&sg, "ops").await.unwrap();
    sg.finish().await;
}

async fn a_change_that_no_replica_holds_is_not_logged(sg: TestServer) {
    sg.register_gateway("edge", ([127, 0, 0, 1], 1).into()).await;
    let revision =
        async || store::last_revision(&mut sg.app.db.read().await.unwrap()).await.unwrap();
    let before = revision().await;
    update_gateway(&sg, "description", "first").await;
    assert_eq!(revision().await, before);
    update_gateway(&sg, "labels", "prod").await;
    assert_eq!(revision().await, before + 1);
    sg.finish().await;
}

#[test]
fn updates_of_gateways_do_not_wait_for_each_other() {
    limit::block_on(async {
        let Some(sg) = TestServer::start(Engine::Postgres, |_| {}).await else { return };
        sg.register_gateway("edge", ([127, 0, 0, 1], 1).into()).await;
        // As an update of another gateway that has not been committed.
        let other = sg.app.db.transaction(async |conn| {
            let lock = format!("SELECT pg_advisory_xact_lock_shared({ADMINS_LOCK})");
            on_conn!(conn, |c| diesel::sql_query(lock).execute(c).await)?;
            update_gateway(&sg, "description", "second").await;
            Ok::<_, Error>(())
        });
        other.await.unwrap();
        sg.finish().await;
    });
}
