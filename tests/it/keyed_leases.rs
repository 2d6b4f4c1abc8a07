//! Keyed leases: replicas share many keys evenly, take over those of a dead one, and give up what is too much.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shoreguard::db::{Db, leases, replicas};
use shoreguard::error::{Error, ResourceKind};
use shoreguard::workers::keyed::{self, Keyed, KeyedLeases, KeyedTask, read_share};

use crate::support::server::TestServer;
use crate::support::{TestDb, eventually};

const KIND: &str = "test";

/// A kind of work whose tasks run until they are canceled. They are recorded in [`PROBES`].
const PROBED: Keyed = Keyed {
    kind: KIND,
    look_every: Duration::from_millis(10),
    wake: None,
    keys: |ctx| Box::pin(async move { Ok(probe(&ctx.app().replica, |probe| probe.keys.clone())) }),
    run: |task| Box::pin(run_until_dropped(task)),
    end_within: Duration::ZERO,
};

/// The probes by the replica of their server, since tests run at the same time.
static PROBES: Mutex<BTreeMap<String, Probe>> = Mutex::new(BTreeMap::new());

/// The keys of a test, and their tasks.
#[derive(Default)]
struct Probe {
    keys: BTreeSet<String>,
    running: BTreeSet<String>,
    /// The key of each task that was started.
    started: Vec<String>,
}

fn probe<T>(replica: &str, act: impl FnOnce(&mut Probe) -> T) -> T {
    act(PROBES.lock().unwrap().entry(replica.to_owned()).or_default())
}

/// A running task.
struct Probed(KeyedTask);

impl Drop for Probed {
    fn drop(&mut self) {
        let Self(task) = self;
        probe(&task.ctx.app().replica, |probe| probe.running.remove(&task.key));
    }
}

async fn run_until_dropped(task: KeyedTask) {
    probe(&task.ctx.app().replica, |probe| {
        probe.started.push(task.key.clone());
        probe.running.insert(task.key.clone());
    });
    let _running = Probed(task);
    std::future::pending::<()>().await;
}

both_engines! {
    three_replicas_share_many_keys_evenly,
    the_keys_of_a_dead_replica_are_taken_over_within_thirty_seconds,
    a_lost_lease_is_noticed_by_its_renewal_and_by_its_fence,
    a_released_lease_is_not_renewed,
}

server_tests_without_jobs! {
    a_task_is_canceled_when_another_replica_takes_its_lease,
}

fn keys(count: usize) -> BTreeSet<String> {
    (0..count).map(|n| format!("{n:03}")).collect()
}

/// A replica with a heartbeat.
async fn replica(db: &Db, name: &str) -> KeyedLeases {
    replicas::record_heartbeat(db, name).await.unwrap();
    KeyedLeases::new(KIND, name.into())
}

/// Does what the runner does in each round, after a heartbeat: on a busy machine, the last one may be too old. Returns the
/// keys that were lost.
async fn round(db: &Db, of: &mut KeyedLeases, keys: &BTreeSet<String>) -> Vec<String> {
    replicas::record_heartbeat(db, of.owner()).await.unwrap();
    let lost = of.renew(db).await.unwrap();
    let share = read_share(db, keys.len()).await.unwrap();
    let surplus = of.surplus(keys, share);
    of.release(db, &surplus).await.unwrap();
    of.acquire(db, keys, share).await.unwrap();
    lost
}

/// Asserts that no key has two holders. Returns the number of keys of each.
fn holdings(all: &[&KeyedLeases]) -> Vec<usize> {
    let held: Vec<&String> = all.iter().flat_map(|one| one.held().keys()).collect();
    let distinct: BTreeSet<&String> = held.iter().copied().collect();
    assert_eq!(distinct.len(), held.len(), "a key has two holders");
    all.iter().map(|one| one.held().len()).collect()
}

/// A round takes at most 5 seconds, so two rounds are within the 60 seconds after which the shares must be even.
async fn three_replicas_share_many_keys_evenly(db: TestDb) {
    let keys = keys(120);
    let mut a = replica(&db, "a").await;
    round(&db, &mut a, &keys).await;
    assert_eq!(holdings(&[&a]), [120]);
    let (mut b, mut c) = (replica(&db, "b").await, replica(&db, "c").await);
    // The first one releases its surplus, and the others take it.
    for _ in 0..2 {
        for one in [&mut a, &mut b, &mut c] {
            assert!(round(&db, one, &keys).await.is_empty());
        }
    }
    assert_eq!(holdings(&[&a, &b, &c]), [40, 40, 40]);
    // Keys that do not exist any more are released.
    let fewer: BTreeSet<String> = keys.iter().take(10).cloned().collect();
    for _ in 0..2 {
        for one in [&mut a, &mut b, &mut c] {
            round(&db, one, &fewer).await;
        }
    }
    let held = holdings(&[&a, &b, &c]);
    assert_eq!(held.iter().sum::<usize>(), 10, "{held:?}");
    assert!(held.iter().all(|count| *count <= 4), "{held:?}");
}

async fn the_keys_of_a_dead_replica_are_taken_over_within_thirty_seconds(db: TestDb) {
    let keys = keys(30);
    let (mut a, mut b, mut c) =
        (replica(&db, "a").await, replica(&db, "b").await, replica(&db, "c").await);
    for one in [&mut a, &mut b, &mut c] {
        round(&db, one, &keys).await;
    }
    assert_eq!(holdings(&[&a, &b, &c]), [10, 10, 10]);
    // `c` is dead from now on.
    for _ in 0..6 {
        db.advance_clock(Duration::from_secs(5));
        for name in ["a", "b"] {
            replicas::record_heartbeat(&db, name).await.unwrap();
        }
        for one in [&mut a, &mut b] {
            assert!(round(&db, one, &keys).await.is_empty());
        }
    }
    assert_eq!(holdings(&[&a, &b]), [15, 15]);
    // It was only frozen, and finds out with its next renewal.
    assert_eq!(round(&db, &mut c, &keys).await.len(), 10);
    assert!(c.held().is_empty());
}

async fn a_lost_lease_is_noticed_by_its_renewal_and_by_its_fence(db: TestDb) {
    let keys = keys(1);
    let mut a = replica(&db, "a").await;
    round(&db, &mut a, &keys).await;
    let former = Arc::clone(&a.held()["000"]);
    db.advance_clock(Duration::from_mins(1));
    let mut b = replica(&db, "b").await;
    round(&db, &mut b, &keys).await;
    assert_eq!(b.held().len(), 1);
    let check = db.transaction(async |conn| leases::check_held(conn, &former).await).await;
    assert!(matches!(check, Err(Error::Conflict { kind: ResourceKind::Lease, .. })), "{check:?}");
    assert_eq!(a.renew(&db).await.unwrap(), ["000"]);
    assert!(a.held().is_empty());
    let held = Arc::clone(&b.held()["000"]);
    db.transaction(async |conn| leases::check_held(conn, &held).await).await.unwrap();
}

async fn a_released_lease_is_not_renewed(db: TestDb) {
    let keys = keys(2);
    let mut a = replica(&db, "a").await;
    round(&db, &mut a, &keys).await;
    a.release(&db, &["000".to_owned()]).await.unwrap();
    assert!(a.renew(&db).await.unwrap().is_empty());
    // It is free at once, although its last owner has renewed the other one.
    let taken = leases::acquire(&db, "test/000", "b", Duration::from_secs(20)).await.unwrap();
    assert!(taken.is_some());
    let other = leases::acquire(&db, "test/001", "b", Duration::from_secs(20)).await.unwrap();
    assert!(other.is_none());
}

async fn a_task_is_canceled_when_another_replica_takes_its_lease(sg: TestServer) {
    let (db, replica) = (&sg.app.db, Arc::clone(&sg.app.replica));
    // Another key makes the runner renew and acquire at once.
    let set_keys = |count: usize| probe(&replica, |probe| probe.keys = keys(count));
    let run = async |expected: BTreeSet<String>| {
        let is_so = || async { probe(&replica, |probe| probe.running == expected) };
        eventually("the tasks run that should", is_so).await;
    };
    set_keys(2);
    keyed::spawn(&sg.app, PROBED);
    run(keys(2)).await;
    let taken = loop {
        db.advance_clock(Duration::from_mins(1));
        let ttl = Duration::from_hours(24);
        // The runner may renew it in between.
        if let Some(taken) = leases::acquire(db, "test/000", "other", ttl).await.unwrap() {
            break taken;
        }
    };
    set_keys(3);
    run(BTreeSet::from(["001".to_owned(), "002".to_owned()])).await;
    leases::release(db, taken).await.unwrap();
    set_keys(4);
    run(keys(4)).await;
    let started = probe(&replica, |probe| probe.started.clone());
    let count = |key: &str| started.iter().filter(|one| *one == key).count();
    assert_eq!((count("000"), count("001"), started.len()), (2, 1, 5), "{started:?}");
    sg.finish().await;
    run(BTreeSet::new()).await;
}
