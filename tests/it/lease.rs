//! Leases: one holder at a time, even after a holder was suspended.

use std::time::Duration;

use crate::support::TestDb;
use shoreguard::db::Db;
use shoreguard::db::leases::{Lease, acquire, check_held, release, renew};
use shoreguard::error::{Error, ResourceKind};
use tokio::task::JoinSet;

const TTL: Duration = Duration::from_secs(30);

async fn acquired(db: &Db, owner: &str) -> Lease {
    acquire(db, "sealer", owner, TTL).await.unwrap().expect("the lease is free")
}

async fn check(db: &Db, lease: &Lease) -> Result<(), Error> {
    db.transaction(async |conn| check_held(conn, lease).await).await
}

#[track_caller]
fn assert_lost(result: &Result<(), Error>) {
    assert!(
        matches!(result, Err(Error::Conflict { kind: ResourceKind::Lease, id, .. }) if id == "sealer"),
        "{result:?}"
    );
}

both_engines! {
    a_held_lease_cannot_be_acquired_again,
    an_expired_lease_is_taken_over_with_a_higher_fence,
    a_lease_that_its_owner_acquired_before_expiry_is_fenced,
    a_renewed_lease_expires_later,
    an_expired_lease_stays_usable_until_it_is_taken_over,
    a_released_lease_is_free_immediately_and_its_fence_increases,
    only_one_of_many_concurrent_acquirers_gets_the_lease,
    a_takeover_waits_for_a_transaction_of_the_holder,
}

async fn a_held_lease_cannot_be_acquired_again(db: TestDb) {
    let first = acquired(&db, "a").await;
    assert_eq!((first.name(), first.owner(), first.fence()), ("sealer", "a", 1));
    for owner in ["a", "b"] {
        assert_eq!(acquire(&db, "sealer", owner, TTL).await.unwrap(), None);
    }
    assert!(acquire(&db, "retention", "b", TTL).await.unwrap().is_some(), "another name");
    check(&db, &first).await.unwrap();
}

async fn an_expired_lease_is_taken_over_with_a_higher_fence(db: TestDb) {
    let frozen = acquired(&db, "a").await;
    db.advance_clock(TTL + Duration::from_secs(1));
    let taken = acquired(&db, "b").await;
    assert_eq!(taken.fence(), frozen.fence() + 1);
    check(&db, &taken).await.unwrap();
    assert_lost(&check(&db, &frozen).await);
    assert_lost(&renew(&db, &frozen, TTL).await);
    assert_lost(&release(&db, frozen).await);
    check(&db, &taken).await.unwrap();
}

async fn a_lease_that_its_owner_acquired_before_expiry_is_fenced(db: TestDb) {
    let former = acquired(&db, "a").await;
    db.advance_clock(TTL + Duration::from_secs(1));
    let present = acquired(&db, "a").await;
    assert_lost(&check(&db, &former).await);
    check(&db, &present).await.unwrap();
}

async fn a_renewed_lease_expires_later(db: TestDb) {
    let lease = acquired(&db, "a").await;
    for _ in 0..3 {
        db.advance_clock(TTL * 2 / 3);
        renew(&db, &lease, TTL).await.unwrap();
    }
    assert_eq!(acquire(&db, "sealer", "b", TTL).await.unwrap(), None);
}

async fn an_expired_lease_stays_usable_until_it_is_taken_over(db: TestDb) {
    let lease = acquired(&db, "a").await;
    db.advance_clock(TTL + Duration::from_secs(1));
    check(&db, &lease).await.unwrap();
    renew(&db, &lease, TTL).await.unwrap();
}

async fn a_released_lease_is_free_immediately_and_its_fence_increases(db: TestDb) {
    release(&db, acquired(&db, "a").await).await.unwrap();
    assert_eq!(acquired(&db, "b").await.fence(), 2);
}

async fn only_one_of_many_concurrent_acquirers_gets_the_lease(db: TestDb) {
    for round in 1..=3 {
        let mut replicas = JoinSet::new();
        for replica in 0..16 {
            let db = Db::clone(&db);
            replicas.spawn(async move {
                acquire(&db, "sealer", &format!("replica {replica}"), TTL).await.unwrap()
            });
        }
        let held: Vec<Lease> = replicas.join_all().await.into_iter().flatten().collect();
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(held[0].fence(), round);
        db.advance_clock(TTL + Duration::from_secs(1));
    }
}

// The takeover waits for the transaction that has verified the lease.
async fn a_takeover_waits_for_a_transaction_of_the_holder(db: TestDb) {
    let holder = acquired(&db, "a").await;
    db.advance_clock(TTL + Duration::from_secs(1));
    let (entered, inside) = tokio::sync::oneshot::channel();
    let (go_on, waiting) = tokio::sync::oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    let writer = Db::clone(&db);
    tasks.spawn(async move {
        writer
            .transaction(async |conn| {
                check_held(conn, &holder).await?;
                entered.send(()).unwrap();
                waiting.await.unwrap();
                check_held(conn, &holder).await
            })
            .await
    });
    inside.await.unwrap();
    let taking = Db::clone(&db);
    let mut takeover = Box::pin(async move { acquired(&taking, "b").await });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut takeover).await;
    assert!(early.is_err(), "taken over under the holder's hands");
    go_on.send(()).unwrap();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(takeover.await.fence(), 2);
}
