//! The connections of one runtime to every gateway: opened at first use, replaced when they are no longer good.
//!
//! Invariants
//! - a connection is used from this runtime alone;
//! - it is opened once for all who wait, by a task of its own: callers with short deadlines would else never let a
//!   slow one come to stand;
//! - one of another `connection_version` is never handed out: it serves its streams to the end and closes;
//! - calls that stream have connections apart from those of unary calls (`lane`), and both they and their connections are
//!   counted (`bounds`); a unary call takes no lock but its slot's;
//! - a target that is no longer the gateway's takes no place: whoever holds one for long gets what stands in its stead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};

use super::bounds::{self, Bounds, Permit};
use super::connection::{Connection, Lease, Purpose};
use super::lane::Lane;
use super::spare::Spare;
use super::streams::{New, Shared, Streams};
use super::targets::{Target, Targets};
use crate::access::principal::PrincipalId;
use crate::config::Gateways;
use crate::db::types::GatewayId;
use crate::error::Error;

/// How often a connection that was closed in the same moment is replaced before the call gives up.
const TRIES: usize = 3;

/// The connections of one runtime.
#[derive(Debug)]
pub(crate) struct Channels {
    targets: Arc<Targets>,
    config: Arc<Gateways>,
    bounds: Arc<Bounds>,
    pools: Mutex<HashMap<GatewayId, Arc<Pool>>>,
}

/// The connections to one gateway.
#[derive(Debug)]
struct Pool {
    slots: Vec<Mutex<Slot>>,
    next: AtomicUsize,
    streams: Streams,
    spare: Arc<Spare>,
}

/// A place for one connection.
#[derive(Debug)]
enum Slot {
    Empty,
    /// Of this `connection_version`; the task answers once.
    Opening(u64, watch::Receiver<Option<Answer>>),
    Open(Arc<Connection>),
}

/// The error is what every caller is told; what happened was logged where it did.
pub(crate) type Answer = Result<Arc<Connection>, ()>;

impl Channels {
    /// No connection yet.
    pub(crate) fn new(
        targets: &Arc<Targets>,
        config: &Arc<Gateways>,
        bounds: &Arc<Bounds>,
    ) -> Self {
        Self {
            targets: Arc::clone(targets),
            config: Arc::clone(config),
            bounds: Arc::clone(bounds),
            pools: Mutex::default(),
        }
    }

    /// A share of a connection for a call of a lane, made for a caller; for none, where it is our own.
    ///
    /// # Errors
    /// As [`Channels::lease`], and `GATEWAY_BUSY` where as many streams are open as may be.
    pub(crate) async fn lease_for(
        &self,
        meant: &Target,
        lane: Lane,
        caller: Option<PrincipalId>,
    ) -> Result<Lease, Error> {
        if lane == Lane::Unary {
            return self.lease(meant).await;
        }
        let permit = self.bounds.admit(meant.id, caller, lane)?;
        self.lease_stream(meant, lane, Some(Arc::new(permit))).await
    }

    /// A share of another connection for the call that holds this one; of a new one where there is room for it.
    ///
    /// # Errors
    /// As [`Channels::lease_for`].
    pub(crate) async fn renew(&self, meant: &Target, held: &Lease) -> Result<Lease, Error> {
        match held.lane() {
            Lane::Unary => {
                let pool = self.pool(meant.id);
                let turn = pool.vacant().unwrap_or_else(|| pool.turn());
                self.lease_unary(meant, &pool, turn).await
            }
            lane @ (Lane::Streams | Lane::Exclusive) => {
                self.lease_stream(meant, lane, held.permit().cloned()).await
            }
        }
    }

    /// A share of a connection for a unary call to the gateway as it is described now, where that is still the one that is
    /// meant.
    ///
    /// # Errors
    /// `GATEWAY_UNREACHABLE`, `GATEWAY_TOKEN_UNAVAILABLE`, and `GATEWAY_BUSY` where its connections carry as many calls as
    /// their windows are made for.
    pub(crate) async fn lease(&self, meant: &Target) -> Result<Lease, Error> {
        let pool = self.pool(meant.id);
        let turn = pool.turn();
        self.lease_unary(meant, &pool, turn).await
    }

    async fn lease_unary(
        &self,
        meant: &Target,
        pool: &Arc<Pool>,
        mut turn: usize,
    ) -> Result<Lease, Error> {
        let (mut tries, mut full) = (TRIES, 0);
        while tries > 0 {
            tries -= 1;
            let target = self.targets.still(meant)?;
            target.identity.ready().await?;
            let mut opening = match self.take(pool, turn, &target) {
                Taken::Open(lease) => return Ok(lease),
                Taken::Opening(opening) => opening,
                Taken::Old => continue,
                Taken::Full => {
                    full += 1;
                    if full == pool.slots.len() {
                        return Err(bounds::busy());
                    }
                    turn = turn.wrapping_add(1);
                    tries += 1;
                    continue;
                }
            };
            let answer = match opening.wait_for(Option::is_some).await {
                Ok(answer) => answer.clone(),
                // The task has gone without a word, which a stopping runtime does.
                Err(_) => Some(Err(())),
            };
            match answer {
                Some(Ok(connection)) => {
                    if let Some(lease) = connection.lease() {
                        return Ok(lease);
                    }
                }
                Some(Err(())) | None => break,
            }
        }
        Err(Connection::unreachable(&meant.name))
    }

    fn take(&self, pool: &Arc<Pool>, turn: usize, target: &Arc<Target>) -> Taken {
        let mut slot = pool.slot(turn);
        match &*slot {
            Slot::Open(connection) if connection.version() == target.connection_version => {
                if let Some(lease) = connection.lease() {
                    return Taken::Open(lease);
                }
                if connection.is_open() {
                    return Taken::Full;
                }
            }
            Slot::Opening(version, opening) if *version == target.connection_version => {
                return Taken::Opening(opening.clone());
            }
            Slot::Empty | Slot::Open(_) | Slot::Opening(..) => {}
        }
        // Looked up while nobody else can take the place: versions have no order, so that of two the newer is told by
        // this alone.
        let current = self.targets.get(target.id).map(|now| now.connection_version);
        if current != Some(target.connection_version) {
            return Taken::Old;
        }
        let (answered, opening) = watch::channel(None);
        *slot = Slot::Opening(target.connection_version, opening.clone());
        drop(slot);
        let (pool, target) = (Arc::clone(pool), Arc::clone(target));
        let config = Arc::clone(&self.config);
        crate::net::own(async move {
            let opened = Connection::open(&target, &config).await;
            let answer = opened.map(Arc::new).map_err(|_| ());
            pool.opened(turn, target.connection_version, answer.as_ref().ok());
            answered.send_replace(Some(answer));
        });
        Taken::Opening(opening)
    }

    /// A share of a connection for a call that streams.
    async fn lease_stream(
        &self,
        meant: &Target,
        lane: Lane,
        permit: Option<Arc<Permit>>,
    ) -> Result<Lease, Error> {
        let pool = self.pool(meant.id);
        for _ in 0..TRIES {
            let target = self.targets.still(meant)?;
            target.identity.ready().await?;
            let leased = if lane == Lane::Exclusive {
                self.exclusive(&pool, &target, permit.clone()).await?
            } else {
                self.shared(&pool, &target).await?
            };
            match leased {
                Some(Ok(lease)) => return Ok(lease.permitted(permit)),
                Some(Err(())) => break,
                None => {}
            }
        }
        Err(Connection::unreachable(&meant.name))
    }

    /// Returns a share of a connection that other calls share, or `None` if it has no room left.
    async fn shared(
        &self,
        pool: &Arc<Pool>,
        target: &Arc<Target>,
    ) -> Result<Option<Result<Lease, ()>>, Error> {
        let version = target.connection_version;
        let seat = || {
            let current = self.targets.get(target.id).map(|now| now.connection_version);
            let is_current = current == Some(version);
            is_current.then(|| self.bounds.connect(target.id)).transpose()
        };
        let New { id, seat, answered, waiting } = match pool.streams.take(version, seat)? {
            Shared::Open(lease) => return Ok(Some(Ok(lease))),
            Shared::Opening(waiting) => return Ok(waiting.lease().await),
            Shared::Old => return Ok(None),
            Shared::New(new) => new,
        };
        let purpose = Purpose { lane: Lane::Streams, seat: Some(seat), spare: Weak::new() };
        let (pool, opening) = (Arc::clone(pool), self.opening(target, purpose));
        crate::net::own(async move {
            let answer = opening.await;
            pool.streams.opened(id, answer.as_ref().ok());
            answered.send_replace(Some(answer));
        });
        Ok(waiting.lease().await)
    }

    /// A connection that the call has to itself.
    async fn exclusive(
        &self,
        pool: &Arc<Pool>,
        target: &Arc<Target>,
        permit: Option<Arc<Permit>>,
    ) -> Result<Option<Result<Lease, ()>>, Error> {
        if let Some(lease) = pool.spare.take(target.connection_version) {
            return Ok(Some(Ok(lease)));
        }
        let seat = Some(self.bounds.connect(target.id)?);
        let spare = Arc::downgrade(&pool.spare);
        let opening = self.opening(target, Purpose { lane: Lane::Exclusive, seat, spare });
        let (answered, answer) = oneshot::channel();
        let spare = Arc::clone(&pool.spare);
        crate::net::own(async move {
            // The caller counts as one with a stream for as long as it opens, even if it hangs up meanwhile.
            let _permit = permit;
            if let Err(Ok(unused)) = answered.send(opening.await) {
                spare.put(unused);
            }
        });
        Ok(match answer.await {
            Ok(Ok(connection)) => connection.lease().map(Ok),
            Ok(Err(())) | Err(_) => Some(Err(())),
        })
    }

    /// Opens a connection for calls that stream.
    fn opening(
        &self,
        target: &Arc<Target>,
        purpose: Purpose,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let (target, config) = (Arc::clone(target), Arc::clone(&self.config));
        async move {
            Connection::open_for(purpose, &target, &config).await.map(Arc::new).map_err(|_| ())
        }
    }

    /// Forgets the connections to a gateway that is gone.
    fn pool(&self, id: GatewayId) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(&id) {
            return Arc::clone(pool);
        }
        // A new gateway is a rare moment: the time to let go of those that were unregistered.
        pools.retain(|id, _| self.targets.get(*id).is_some());
        let slots = self.config.connections_per_core.max(1);
        let slots = (0..slots).map(|_| Mutex::new(Slot::Empty)).collect();
        let pool = Arc::new(Pool {
            slots,
            next: AtomicUsize::new(0),
            streams: Streams::default(),
            spare: Arc::new(Spare::new(self.config.probe_timeout())),
        });
        pools.insert(id, Arc::clone(&pool));
        pool
    }
}

enum Taken {
    Open(Lease),
    Opening(watch::Receiver<Option<Answer>>),
    /// The target is not the gateway's any more.
    Old,
    /// It carries as many calls as it may.
    Full,
}

impl Pool {
    /// The slot that is next.
    fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A slot without a connection that takes calls: a new one is opened there, whose window nobody has used up.
    fn vacant(&self) -> Option<usize> {
        (0..self.slots.len()).find(|turn| match &*self.slot(*turn) {
            Slot::Empty | Slot::Opening(..) => true,
            Slot::Open(connection) => !connection.is_open(),
        })
    }

    fn slot(&self, turn: usize) -> MutexGuard<'_, Slot> {
        self.slots[turn % self.slots.len()].lock()
    }

    /// Puts a connection into its slot, unless credentials have changed in the meantime.
    fn opened(&self, turn: usize, version: u64, connection: Option<&Arc<Connection>>) {
        let mut slot = self.slot(turn);
        if matches!(&*slot, Slot::Opening(of, _) if *of == version) {
            *slot = connection.map_or(Slot::Empty, |open| Slot::Open(Arc::clone(open)));
        }
    }
}
