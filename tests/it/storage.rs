//! The storage layer on both engines: transactions, errors, times, sealed values and pages.

use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::future::BoxFuture;
use shoreguard::clock::Timestamp;
use shoreguard::db::page::{PageScope, PageSize, PageToken};
use shoreguard::db::schema::{event_head, gateways, group_members, groups, users};
use shoreguard::db::types::{GatewayId, GroupId, Json, UserId};
use shoreguard::db::{Conn, Db, Engine, OpeningConn, on_conn};
use shoreguard::error::{Error, Reason, ResourceKind};
use shoreguard::seal::{Aad, MasterKeys};
use tokio::task::JoinSet;

use crate::support::TestDb;
use crate::support::{DbLocation, limit, soon};

const THEN: Timestamp = Timestamp::from_unix_micros(1_700_000_000_123_456);

pub(crate) async fn insert_gateway(conn: &mut Conn, name: &str) -> Result<GatewayId, Error> {
    Ok(on_conn!(conn, |c| diesel::insert_into(gateways::table)
        .values((
            gateways::name.eq(name),
            gateways::endpoint.eq("edge:443"),
            gateways::registered_at.eq(THEN),
        ))
        .returning(gateways::id)
        .get_result(c)
        .await)?)
}

async fn insert_group(conn: &mut Conn, name: &str) -> Result<GroupId, Error> {
    Ok(on_conn!(conn, |c| diesel::insert_into(groups::table)
        .values((groups::name.eq(name), groups::created_at.eq(THEN)))
        .returning(groups::id)
        .get_result(c)
        .await)?)
}

async fn insert_user(conn: &mut Conn, email: &str, role: &str) -> Result<UserId, Error> {
    Ok(on_conn!(conn, |c| diesel::insert_into(users::table)
        .values((
            users::email.eq(email),
            users::role.eq(role),
            users::is_active.eq(true),
            users::created_at.eq(THEN),
        ))
        .returning(users::id)
        .get_result(c)
        .await)?)
}

async fn insert_member(conn: &mut Conn, group: GroupId, user: UserId) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::insert_into(group_members::table)
        .values((group_members::group_id.eq(group), group_members::user_id.eq(user)))
        .execute(c)
        .await)?;
    Ok(())
}

/// Inserts a gateway among the first statements of a transaction. A second one with its name fails.
fn insert_first<'c>(conn: OpeningConn<'c>, name: &'static str) -> BoxFuture<'c, Result<(), Error>> {
    Box::pin(async move {
        let row = (
            gateways::name.eq(name),
            gateways::endpoint.eq("edge:443"),
            gateways::registered_at.eq(THEN),
        );
        let insert = diesel::insert_into(gateways::table).values(row);
        match conn {
            OpeningConn::Pg(mut c) => insert.execute(&mut c).await?,
            OpeningConn::Sqlite(c) => insert.execute(c).await?,
        };
        Ok(())
    })
}

pub(crate) async fn names(db: &Db) -> Vec<String> {
    let mut conn = db.read().await.unwrap();
    on_conn!(&mut conn, |c| gateways::table
        .select(gateways::name)
        .order(gateways::name)
        .load(c)
        .await)
    .unwrap()
}

/// A transaction that reads before it writes. Such a transaction fails if it takes the write lock too late.
///
/// It is boxed like a handler with `async_trait`, which must be `Send` with borrows inside.
fn count_up(db: &Db) -> Pin<Box<dyn Future<Output = Result<i64, Error>> + Send + '_>> {
    Box::pin(db.transaction(async |conn| {
        let query = event_head::table.find(1).select(event_head::sequence);
        let sequence: i64 = match conn {
            Conn::Pg(c) => query.for_update().first(c).await?,
            Conn::Sqlite(c) => query.first(c).await?,
        };
        let next = event_head::sequence.eq(sequence + 1);
        on_conn!(conn, |c| diesel::update(event_head::table).set(next).execute(c).await)?;
        Ok(sequence + 1)
    }))
}

#[track_caller]
fn assert_exists<T: std::fmt::Debug>(result: &Result<T, Error>, expected: ResourceKind) {
    assert!(
        matches!(result, Err(Error::AlreadyExists { kind, .. }) if *kind == expected),
        "{result:?}"
    );
}

both_engines! {
    a_failed_transaction_is_rolled_back,
    a_failed_statement_does_not_break_the_pool,
    a_future_dropped_inside_a_transaction_leaves_nothing_behind,
    the_first_statements_are_rolled_back_with_their_transaction,
    failed_first_statements_end_their_transaction,
    a_future_dropped_in_its_first_statements_leaves_nothing_behind,
    concurrent_writers_all_succeed,
    every_constraint_violation_is_mapped_to_its_error,
    stored_times_preserve_microseconds_and_sort_in_order,
    the_database_clock_advances_and_can_be_moved,
    stored_json_is_read_unchanged,
    a_sealed_value_does_not_open_in_another_row,
    pages_contain_each_row_once,
}

async fn a_failed_transaction_is_rolled_back(db: TestDb) {
    db.transaction(async |conn| insert_gateway(conn, "kept").await).await.unwrap();
    let refused: Result<(), Error> = db
        .transaction(async |conn| {
            insert_gateway(conn, "first").await?;
            insert_gateway(conn, "second").await?;
            Err(Error::refused(Reason::LastAdmin, "no"))
        })
        .await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert_eq!(names(&db).await, ["kept"]);
}

async fn a_failed_statement_does_not_break_the_pool(db: TestDb) {
    for _ in 0..20 {
        let taken: Result<(), Error> = db
            .transaction(async |conn| {
                insert_gateway(conn, "edge").await?;
                insert_gateway(conn, "edge").await?;
                Ok(())
            })
            .await;
        assert_exists(&taken, ResourceKind::Gateway);
    }
    assert!(names(&db).await.is_empty());
    db.transaction(async |conn| insert_gateway(conn, "edge").await).await.unwrap();
}

async fn a_future_dropped_inside_a_transaction_leaves_nothing_behind(db: TestDb) {
    // More than the number of writers of either engine: each leftover would block one.
    for _ in 0..20 {
        let (entered, inside) = tokio::sync::oneshot::channel();
        let stuck = db.transaction(async |conn| {
            insert_gateway(conn, "dropped").await?;
            entered.send(()).unwrap();
            std::future::pending::<Result<(), Error>>().await
        });
        tokio::select! {
            ended = stuck => panic!("{ended:?}"),
            entered = inside => entered.unwrap(),
        }
    }
    let after = db.transaction(async |conn| insert_gateway(conn, "dropped").await);
    soon("no writer is blocked", after).await.unwrap();
    assert_eq!(names(&db).await, ["dropped"]);
}

async fn the_first_statements_are_rolled_back_with_their_transaction(db: TestDb) {
    let refused: Result<(), Error> = db
        .transaction_after(
            |c| insert_first(c, "first"),
            async |conn, ()| {
                insert_gateway(conn, "second").await?;
                Err(Error::refused(Reason::LastAdmin, "no"))
            },
        )
        .await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert!(names(&db).await.is_empty(), "they were executed outside of the transaction");
    db.transaction_after(
        |c| insert_first(c, "first"),
        async |conn, ()| insert_gateway(conn, "second").await,
    )
    .await
    .unwrap();
    assert_eq!(names(&db).await, ["first", "second"]);
}

async fn failed_first_statements_end_their_transaction(db: TestDb) {
    db.transaction(async |conn| insert_gateway(conn, "edge").await).await.unwrap();
    // More than the number of writers of either engine: each leftover would block one.
    for _ in 0..20 {
        let taken: Result<(), Error> = db
            .transaction_after(
                |c| insert_first(c, "edge"),
                async |_, ()| panic!("the first statements have failed"),
            )
            .await;
        assert_exists(&taken, ResourceKind::Gateway);
    }
    let after = db.transaction(async |conn| insert_gateway(conn, "after").await);
    soon("no writer is blocked", after).await.unwrap();
    assert_eq!(names(&db).await, ["after", "edge"]);
}

async fn a_future_dropped_in_its_first_statements_leaves_nothing_behind(db: TestDb) {
    for _ in 0..20 {
        let (entered, inside) = tokio::sync::oneshot::channel();
        let stuck = db.transaction_after(
            move |c| {
                Box::pin(async move {
                    insert_first(c, "dropped").await?;
                    entered.send(()).unwrap();
                    std::future::pending::<Result<(), Error>>().await
                })
            },
            async |_, ()| Ok(()),
        );
        tokio::select! {
            ended = stuck => panic!("{ended:?}"),
            entered = inside => entered.unwrap(),
        }
    }
    let after = db.transaction(async |conn| insert_gateway(conn, "dropped").await);
    soon("no writer is blocked", after).await.unwrap();
    assert_eq!(names(&db).await, ["dropped"]);
}

async fn concurrent_writers_all_succeed(db: TestDb) {
    let mut writers = JoinSet::new();
    for _ in 0..64 {
        let db = Db::clone(&db);
        writers.spawn(async move {
            for _ in 0..5 {
                count_up(&db).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert_eq!(count_up(&db).await.unwrap(), 64 * 5 + 1);
}

async fn every_constraint_violation_is_mapped_to_its_error(db: TestDb) {
    let mut conn = db.write().await.unwrap();
    let conn = &mut conn;
    insert_gateway(conn, "edge").await.unwrap();
    assert_exists(&insert_gateway(conn, "edge").await, ResourceKind::Gateway);
    let user = insert_user(conn, "ana@example.com", "viewer").await.unwrap();
    assert_exists(&insert_user(conn, "ana@example.com", "admin").await, ResourceKind::User);
    let group = insert_group(conn, "ops").await.unwrap();
    assert_exists(&insert_group(conn, "ops").await, ResourceKind::Group);
    insert_member(conn, group, user).await.unwrap();
    assert_exists(&insert_member(conn, group, user).await, ResourceKind::GroupMember);

    let gone = insert_member(conn, GroupId(group.get() + 1), user).await;
    assert!(matches!(gone, Err(Error::Conflict { kind: ResourceKind::Row, .. })), "{gone:?}");
    let unknown_role = insert_user(conn, "eve@example.com", "root").await;
    assert!(matches!(unknown_role, Err(Error::Invalid { .. })), "{unknown_role:?}");
    let too_long = insert_gateway(conn, &"x".repeat(254)).await;
    assert!(matches!(too_long, Err(Error::Invalid { .. })), "{too_long:?}");
}

async fn stored_times_preserve_microseconds_and_sort_in_order(db: TestDb) {
    let times = [-1, 0, 1_700_000_000_000_000, 1_700_000_000_000_001, 1_700_000_000_500_000]
        .map(Timestamp::from_unix_micros);
    let mut conn = db.write().await.unwrap();
    for at in times.iter().rev() {
        let name = groups::name.eq(at.to_string());
        let row = (name, groups::created_at.eq(at));
        on_conn!(&mut conn, |c| diesel::insert_into(groups::table).values(row).execute(c).await)
            .unwrap();
    }
    let read: Vec<Timestamp> = on_conn!(&mut conn, |c| groups::table
        .select(groups::created_at)
        .order(groups::created_at)
        .load(c)
        .await)
    .unwrap();
    assert_eq!(read, times);
    let later: i64 = on_conn!(&mut conn, |c| groups::table
        .filter(groups::created_at.gt(times[2]))
        .count()
        .get_result(c)
        .await)
    .unwrap();
    assert_eq!(later, 2);
}

async fn the_database_clock_advances_and_can_be_moved(db: TestDb) {
    let mut conn = db.read().await.unwrap();
    let first = db.now(&mut conn).await.unwrap();
    let year_2026 = Timestamp::from_unix_seconds(1_767_225_600);
    assert!(first > year_2026, "{first}");
    let hour = Duration::from_hours(1);
    db.advance_clock(hour);
    let second = db.now(&mut conn).await.unwrap();
    assert!(second.since(first) >= hour && second.since(first) < hour * 2, "{second}");
}

async fn stored_json_is_read_unchanged(db: TestDb) {
    let labels = Json(serde_json::json!({ "env": "prod", "größe": ["m", 1, null] }));
    let mut conn = db.write().await.unwrap();
    insert_gateway(&mut conn, "edge").await.unwrap();
    on_conn!(&mut conn, |c| diesel::update(gateways::table)
        .set(gateways::labels_json.eq(&labels))
        .execute(c)
        .await)
    .unwrap();
    let read: Option<Json<serde_json::Value>> =
        on_conn!(&mut conn, |c| gateways::table.select(gateways::labels_json).first(c).await)
            .unwrap();
    assert_eq!(read, Some(labels));
}

async fn a_sealed_value_does_not_open_in_another_row(db: TestDb) {
    let keys = MasterKeys::parse(&"a1".repeat(32).into()).unwrap();
    let place =
        |row| Aad { table: "gateways", column: "bearer_token", row, destination: "edge:443" };
    let mut conn = db.write().await.unwrap();
    for name in ["mine", "theirs"] {
        insert_gateway(&mut conn, name).await.unwrap();
    }
    // An attacker with write access to the database copies the token into the row of another gateway.
    let sealed = keys.seal(&place("mine"), b"token").unwrap();
    on_conn!(&mut conn, |c| diesel::update(gateways::table)
        .set(gateways::bearer_token.eq(&sealed))
        .execute(c)
        .await)
    .unwrap();
    let rows: Vec<(String, Option<Vec<u8>>)> = on_conn!(&mut conn, |c| gateways::table
        .select((gateways::name, gateways::bearer_token))
        .order(gateways::name)
        .load(c)
        .await)
    .unwrap();
    let opened = |at: usize| keys.open(&place(&rows[at].0), rows[at].1.as_ref().unwrap());
    assert_eq!(opened(0).unwrap().as_slice(), b"token");
    assert!(opened(1).is_err());
}

async fn pages_contain_each_row_once(db: TestDb) {
    let key = MasterKeys::parse(&"a1".repeat(32).into()).unwrap().seal_key("page tokens");
    let scope = PageScope { method: "/x", principal: "user:1", filter: b"", order: "name" };
    let size = PageSize::parse(3).unwrap();
    for n in 0..7 {
        let name = format!("edge-{n}");
        db.transaction(async |conn| insert_gateway(conn, &name).await).await.unwrap();
    }
    let mut conn = db.read().await.unwrap();
    let (mut token, mut seen, mut pages) = (String::new(), Vec::<String>::new(), 0);
    loop {
        let after = PageToken::<String>::open(&key, &scope, &token).unwrap();
        let after = after.as_ref().map_or("", |token| token.position());
        let rows: Vec<String> = on_conn!(&mut conn, |c| gateways::table
            .filter(gateways::name.gt(after))
            .select(gateways::name)
            .order(gateways::name)
            .limit(size.limit())
            .load(c)
            .await)
        .unwrap();
        let (rows, more) = size.truncate(rows);
        seen.extend(rows);
        pages += 1;
        if !more {
            break;
        }
        token = PageToken::new(seen.last().unwrap().clone()).seal(&key, &scope).unwrap();
    }
    assert_eq!((pages, seen), (3, names(&db).await));
    let other = PageScope { principal: "user:2", ..scope };
    assert!(PageToken::<String>::open(&key, &other, &token).is_err());
}

#[test]
fn the_sqlite_files_are_accessible_only_to_their_owner() {
    limit::block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let db = Db::open(&place.options()).await.unwrap();
        db.transaction(async |conn| insert_gateway(conn, "edge").await).await.unwrap();
        let DbLocation::Sqlite(folder) = &place else { unreachable!() };
        for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.path().display());
        }
    });
}

#[test]
fn a_batch_runs_directly_on_the_sqlite_connection() {
    limit::block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let db = Db::open(&place.options()).await.unwrap();
        let Conn::Sqlite(mut conn) = db.write().await.unwrap() else { unreachable!() };
        let inserted = conn
            .spawn_blocking(|c| {
                c.immediate_transaction(|c| {
                    (0..100).try_fold(0, |sum, n| {
                        let row = (groups::name.eq(format!("g{n}")), groups::created_at.eq(THEN));
                        let insert = diesel::insert_into(groups::table).values(row);
                        diesel::RunQueryDsl::execute(insert, c).map(|one| sum + one)
                    })
                })
            })
            .await;
        assert_eq!(inserted, Ok(100));
    });
}
