//! Keyed leases: one task per key, such as one follower per gateway, each on one replica at a time. The replicas share
//! the keys evenly.
//!
//! Invariants
//! - the task of a key runs only while its replica holds the lease `<kind>/<key>`. It is canceled when the lease is lost,
//!   and when it could not be renewed in time. A task proves its lease in each transaction in which it writes, also in
//!   those of the moment that it has to end;
//! - a replica holds at most its share: keys divided by live replicas, rounded up. The surplus is released after its
//!   tasks have ended;
//! - one statement renews all leases of a kind;
//! - the keys of a replica that has crashed are taken over within 30 seconds: within that time, its leases expire and
//!   the others no longer count it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use super::running::{Running, run_work};
use crate::app::App;
use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::db::{Db, keyed_leases};
use crate::error::Error;

/// How long a lease is valid without renewal.
const LEASE_TTL: Duration = Duration::from_secs(20);
/// Interval of renewals: three may fail before other replicas take the keys.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Time without a heartbeat after which a replica gets no share: with an interval of renewals, less than 30 seconds. A
/// replica that is only late gets its share back.
const LIVE_WITHIN: Duration = Duration::from_secs(22);
/// Leases that one transaction acquires. The transactions of other callers wait for it.
const ACQUIRED_AT_ONCE: usize = 50;
/// Delay after a round that has failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Returns the keys that need a task now. A key has at most 200 bytes.
pub type KeySource = for<'a> fn(&'a Ctx) -> BoxFuture<'a, Result<BTreeSet<String>, Error>>;

/// Work that has one task per key.
#[derive(Debug, Clone, Copy)]
pub struct Keyed {
    /// Kind: the first part of the names of its leases, in the log, and the actor of its changes.
    pub kind: &'static str,
    /// Interval at which the keys are read, at most that of renewals.
    pub look_every: Duration,
    /// Notification that reads the keys early.
    pub wake: Option<fn(&App) -> &Notify>,
    /// The keys.
    pub keys: KeySource,
    /// The task of a key. If it ends, it is started again at the next renewal.
    pub run: fn(KeyedTask) -> BoxFuture<'static, ()>,
    /// How long a canceled task has to end before it is dropped, at most a second. Zero drops it at once.
    pub end_within: Duration,
}

/// Arguments of the task of a key.
#[derive(Debug, Clone)]
pub struct KeyedTask {
    /// Context of the server's own work.
    pub ctx: Ctx,
    /// The key.
    pub key: String,
    /// The lease of the key.
    pub lease: Arc<Lease>,
    /// Reports that the task is to end: it then has [`Keyed::end_within`].
    pub cancel: CancellationToken,
}

/// The leases of one kind that a replica holds.
#[derive(Debug)]
pub struct KeyedLeases {
    kind: &'static str,
    owner: Arc<str>,
    held: BTreeMap<String, Arc<Lease>>,
}

impl KeyedLeases {
    /// Creates it without a lease.
    #[must_use]
    pub fn new(kind: &'static str, owner: Arc<str>) -> Self {
        Self { kind, owner, held: BTreeMap::new() }
    }

    /// Returns the replica.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Returns the leases that it holds, by key.
    #[must_use]
    pub fn held(&self) -> &BTreeMap<String, Arc<Lease>> {
        &self.held
    }

    fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.kind)
    }

    /// Returns the key of a lease of this kind.
    fn key(&self, lease: &Lease) -> String {
        lease.name().get(self.kind.len() + 1..).unwrap_or_default().to_owned()
    }

    /// Renews all leases. Returns the keys of those that were lost: their tasks must end at once.
    ///
    /// # Errors
    /// Those of the database. The leases may then expire.
    pub async fn renew(&mut self, db: &Db) -> Result<Vec<String>, Error> {
        let held = self.held.values().map(|lease| &**lease);
        let lost = keyed_leases::renew_all(db, &self.owner, held, LEASE_TTL).await?;
        let prefix = self.kind.len() + 1;
        let lost: Vec<String> =
            lost.iter().filter_map(|name| name.get(prefix..)).map(str::to_owned).collect();
        for key in &lost {
            self.held.remove(key);
        }
        Ok(lost)
    }

    /// Returns the keys to give up: those that do not exist any more, and those beyond the share of this replica.
    #[must_use]
    pub fn surplus(&self, keys: &BTreeSet<String>, share: usize) -> Vec<String> {
        let (kept, mut surplus): (Vec<&String>, Vec<&String>) =
            self.held.keys().partition(|key| keys.contains(*key));
        surplus.extend(kept.into_iter().skip(share));
        surplus.into_iter().cloned().collect()
    }

    /// Releases leases whose tasks have ended.
    ///
    /// # Errors
    /// Those of the database. The leases then expire.
    pub async fn release(&mut self, db: &Db, keys: &[String]) -> Result<(), Error> {
        let names: Vec<String> = keys.iter().map(|key| self.name(key)).collect();
        for key in keys {
            self.held.remove(key);
        }
        keyed_leases::release_all(db, &self.owner, &names).await
    }

    /// Acquires free leases up to the share of this replica. Returns the time until the first of those that others hold
    /// and this replica has room for expires.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn acquire(
        &mut self,
        db: &Db,
        keys: &BTreeSet<String>,
        share: usize,
    ) -> Result<Option<Duration>, Error> {
        let wanted: Vec<String> = self.wanted(keys);
        if self.held.len() >= share || wanted.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = wanted.iter().map(|key| self.name(key)).collect();
        let taken = {
            let mut conn = db.read().await?;
            keyed_leases::unexpired(db, &mut conn, &names).await?
        };
        let mut free = names.into_iter().filter(|name| !taken.contains_key(name)).peekable();
        while self.held.len() < share && free.peek().is_some() {
            let room = (share - self.held.len()).min(ACQUIRED_AT_ONCE);
            let names = free.by_ref().take(room).collect();
            let leases = keyed_leases::acquire_all(db, &self.owner, names, LEASE_TTL).await?;
            for lease in leases {
                self.held.insert(self.key(&lease), Arc::new(lease));
            }
        }
        if self.held.len() >= share {
            return Ok(None);
        }
        Ok(taken.into_values().min())
    }

    /// Returns the keys without a lease here, in an order that differs between replicas, so that they do not all try to
    /// acquire the same ones first.
    fn wanted(&self, keys: &BTreeSet<String>) -> Vec<String> {
        let mut wanted: Vec<String> =
            keys.iter().filter(|key| !self.held.contains_key(*key)).cloned().collect();
        if !wanted.is_empty() {
            let mut hasher = DefaultHasher::new();
            self.owner.hash(&mut hasher);
            let length = u64::try_from(wanted.len()).unwrap_or(1);
            let start = usize::try_from(hasher.finish() % length).unwrap_or_default();
            wanted.rotate_left(start);
        }
        wanted
    }
}

/// Returns the share of one replica: rounded up, so that all keys have a holder.
#[must_use]
pub fn share(keys: usize, replicas: usize) -> usize {
    keys.div_ceil(replicas.max(1))
}

/// Reads the share of one replica.
///
/// # Errors
/// Those of the database.
pub async fn read_share(db: &Db, keys: usize) -> Result<usize, Error> {
    let mut conn = db.read().await?;
    let replicas = keyed_leases::live_replicas(db, &mut conn, LIVE_WITHIN).await?;
    Ok(share(keys, replicas))
}

/// Starts a kind of work.
pub fn spawn(app: &Arc<App>, keyed: Keyed) {
    let span = info_span!("keyed", kind = keyed.kind);
    app.spawn(run(Arc::clone(app), keyed).instrument(span));
}

/// Cancels all tasks. Those whose keys are still held are started again after the next renewal.
fn cancel_all(running: &HashMap<String, Running>) {
    for running in running.values() {
        running.cancel.cancel();
    }
}

/// Waits for a call of the database. If it has not ended when the leases expire, the tasks are canceled meanwhile.
async fn in_time<T>(until: Instant, call: impl Future<Output = T>, expired: impl FnOnce()) -> T {
    let mut call = pin!(call);
    if let Ok(done) = tokio::time::timeout_at(until, &mut call).await {
        return done;
    }
    expired();
    call.await
}

struct Runner {
    app: Arc<App>,
    keyed: Keyed,
    ctx: Ctx,
    leases: KeyedLeases,
    running: HashMap<String, Running>,
    /// When the last successful renewal began.
    renewed_at: Instant,
}

async fn run(app: Arc<App>, keyed: Keyed) {
    let ctx = Ctx::system(&app, keyed.kind);
    let leases = KeyedLeases::new(keyed.kind, Arc::clone(&app.replica));
    let stop = app.stop.clone();
    let (mut known, mut due) = (BTreeSet::new(), Instant::now());
    let mut runner = Runner { app, keyed, ctx, leases, running: HashMap::new(), renewed_at: due };
    while !stop.is_cancelled() {
        let rest = match runner.look(&mut known, &mut due).await {
            Ok(()) => keyed.look_every,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the keys were not shared");
                due = Instant::now();
                RETRY_AFTER
            }
        };
        stop.run_until_cancelled(rest_or_wake(&runner.app, &keyed, rest)).await;
    }
    runner.stop().await;
}

async fn rest_or_wake(app: &App, keyed: &Keyed, rest: Duration) {
    let Some(wake) = keyed.wake else { return tokio::time::sleep(rest).await };
    tokio::select! {
        () = tokio::time::sleep(rest) => {}
        () = wake(app).notified() => {}
    }
}

impl Runner {
    /// Reads the keys, and shares them if they have changed or a renewal is due.
    async fn look(&mut self, known: &mut BTreeSet<String>, due: &mut Instant) -> Result<(), Error> {
        let until = self.renewed_at + LEASE_TTL;
        let reading = (self.keyed.keys)(&self.ctx);
        let keys = in_time(until, reading, || cancel_all(&self.running)).await;
        if let Ok(keys) = &keys
            && keys == known
            && Instant::now() < *due
        {
            return Ok(());
        }
        // Before anything that can fail: without a renewal, others take the keys.
        *due = Instant::now() + RENEW_EVERY;
        for key in self.renew(until).await? {
            debug!(key, "another replica has the key now");
            if let Some(running) = self.running.remove(&key) {
                running.cancel.cancel();
            }
        }
        let keys = keys?;
        let share = read_share(&self.app.db, keys.len()).await?;
        let mut ended = Vec::new();
        let surplus = self.leases.surplus(&keys, share);
        // All at once, since each has a moment to end.
        for running in surplus.iter().filter_map(|key| self.running.get(key)) {
            running.cancel.cancel();
        }
        for key in surplus {
            let has_ended = match self.running.get_mut(&key) {
                Some(running) => running.end().await,
                None => true,
            };
            if has_ended {
                self.running.remove(&key);
                ended.push(key);
            }
        }
        self.leases.release(&self.app.db, &ended).await?;
        let expires_in = self.leases.acquire(&self.app.db, &keys, share).await?;
        self.start_tasks(&keys);
        if let Some(expires_in) = expires_in {
            *due = (*due).min(Instant::now() + expires_in);
        }
        *known = keys;
        Ok(())
    }

    /// Renews all leases, which are valid until `until` otherwise. Returns the keys of those that were lost.
    async fn renew(&mut self, until: Instant) -> Result<Vec<String>, Error> {
        let begun = Instant::now();
        let renewing = self.leases.renew(&self.app.db);
        let renewed = in_time(until, renewing, || cancel_all(&self.running)).await;
        match &renewed {
            Ok(_) => self.renewed_at = begun,
            Err(_) if Instant::now() >= until => cancel_all(&self.running),
            Err(_) => {}
        }
        renewed
    }

    fn start_tasks(&mut self, keys: &BTreeSet<String>) {
        self.running.retain(|_, running| !running.handle.is_finished());
        for (key, lease) in self.leases.held() {
            if self.running.contains_key(key) || !keys.contains(key) {
                continue;
            }
            let cancel = CancellationToken::new();
            let task = KeyedTask {
                ctx: self.ctx.clone(),
                key: key.clone(),
                lease: Arc::clone(lease),
                cancel: cancel.clone(),
            };
            let span = info_span!("key", key = key.as_str());
            let work = run_work((self.keyed.run)(task), cancel.clone(), self.keyed.end_within);
            let handle = self.app.spawn(work.instrument(span));
            self.running.insert(key.clone(), Running { cancel, handle });
        }
    }

    /// Ends all tasks, and releases the leases.
    async fn stop(mut self) {
        cancel_all(&self.running);
        for (_, mut running) in self.running.drain() {
            running.end().await;
        }
        let keys: Vec<String> = self.leases.held().keys().cloned().collect();
        if let Err(error) = self.leases.release(&self.app.db, &keys).await {
            debug!(error = &error as &dyn std::error::Error, "leases were not released");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_are_canceled_if_their_leases_are_not_renewed_in_time() {
        let (canceled, soon) = (CancellationToken::new(), Instant::now());
        // The call does not end before the tasks are canceled.
        in_time(soon, canceled.cancelled(), || canceled.cancel()).await;
        let later = soon + Duration::from_hours(1);
        let done = in_time(later, std::future::ready(7), || panic!("it is in time")).await;
        assert_eq!(done, 7);
    }

    #[test]
    fn a_share_is_rounded_up_so_that_every_key_has_a_holder() {
        for (keys, replicas, expected) in
            [(0, 3, 0), (1, 3, 1), (3, 3, 1), (4, 3, 2), (100, 3, 34), (7, 0, 7), (7, 1, 7)]
        {
            assert_eq!(share(keys, replicas), expected, "{keys} {replicas}");
            assert!(share(keys, replicas) * replicas.max(1) >= keys);
        }
    }
}
