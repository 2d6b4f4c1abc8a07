//! The connections of one runtime to all gateways: opened on first use, replaced when they are stale or closed.
//!
//! Invariants
//! - a connection is used only from its own runtime;
//! - a connection is opened once for all waiting callers, by a separate task: otherwise callers with short deadlines
//!   would cancel every slow attempt;
//! - a connection with an outdated `connection_version` is never handed out: it serves its open streams to their end
//!   and closes;
//! - streaming calls use other connections than unary calls (`lane`), and both the streams and their connections are
//!   counted (`bounds`); a unary call takes no lock except that of its slot;
//! - a stale target never occupies a slot: a caller that holds one for long gets a connection for the current target.

use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};

use super::bounds::{self, CallLimits, StreamPermit};
use super::connection::{Connection, Lease, Purpose};
use super::lane::Lane;
use super::spare::SparePool;
use super::streams::{NewConnection, SharedConnections, SharedLease};
use super::targets::{Target, Targets};
use super::unreachable::OpenFailure;
use crate::access::principal::PrincipalId;
use crate::config::Gateways;
use crate::db::types::GatewayId;
use crate::error::Error;

/// Attempts to replace a connection that closes immediately before the call fails.
const TRIES: usize = 3;

/// The connections of one runtime.
#[derive(Debug)]
pub(crate) struct Channels {
    targets: Arc<Targets>,
    config: Arc<Gateways>,
    limits: Arc<CallLimits>,
    pools: Mutex<HashMap<GatewayId, Arc<Pool>>>,
}

/// The connections to one gateway.
#[derive(Debug)]
struct Pool {
    slots: Vec<Mutex<Slot>>,
    next: AtomicUsize,
    streams: SharedConnections,
    spare: Arc<SparePool>,
}

/// Slot for one connection.
#[derive(Debug)]
enum Slot {
    Empty,
    /// Opening with this `connection_version`; the task sends one result.
    Opening(u64, watch::Receiver<Option<OpenResult>>),
    Open(Arc<Connection>),
}

/// Result of opening a connection. The error contains what callers can learn: the cause is logged where it occurs.
pub(crate) type OpenResult = Result<Arc<Connection>, OpenFailure>;

impl Channels {
    /// Creates the pools with no connection open.
    pub(crate) fn new(
        targets: &Arc<Targets>,
        config: &Arc<Gateways>,
        limits: &Arc<CallLimits>,
    ) -> Self {
        Self {
            targets: Arc::clone(targets),
            config: Arc::clone(config),
            limits: Arc::clone(limits),
            pools: Mutex::default(),
        }
    }

    /// Leases a connection for a call in a lane. `caller` is `None` for Shoreguard's own calls.
    ///
    /// # Errors
    /// As [`Channels::lease`], and `GATEWAY_BUSY` if a limit of open streams is reached.
    pub(crate) fn lease_for<'a>(
        &'a self,
        requested: &'a Target,
        lane: Lane,
        caller: Option<PrincipalId>,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(async move {
            if lane == Lane::Unary {
                return self.lease(requested).await;
            }
            let permit = self.limits.admit_stream(requested.id, caller, lane)?;
            self.lease_stream(requested, lane, Some(Arc::new(permit))).await
        })
    }

    /// Leases another connection for the call that holds `current`; opens a new one if a slot is free.
    ///
    /// # Errors
    /// As [`Channels::lease_for`].
    pub(crate) fn renew<'a>(
        &'a self,
        requested: &'a Target,
        current: &'a Lease,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(async move {
            match current.lane() {
                Lane::Unary => {
                    let pool = self.pool(requested.id);
                    let index = pool.vacant_slot().unwrap_or_else(|| pool.next_slot());
                    self.lease_unary(requested, &pool, index).await
                }
                lane @ (Lane::Streams | Lane::Exclusive) => {
                    self.lease_stream(requested, lane, current.permit().cloned()).await
                }
            }
        })
    }

    /// Leases a connection for a unary call to the gateway's current target, if it is still the same gateway as
    /// `requested`.
    ///
    /// # Errors
    /// `GATEWAY_UNREACHABLE`, `GATEWAY_TOKEN_UNAVAILABLE`, and `GATEWAY_BUSY` if all connections carry as many calls as
    /// their windows allow.
    pub(crate) fn lease<'a>(
        &'a self,
        requested: &'a Target,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(async move {
            let pool = self.pool(requested.id);
            let index = pool.next_slot();
            self.lease_unary(requested, &pool, index).await
        })
    }

    async fn lease_unary(
        &self,
        requested: &Target,
        pool: &Arc<Pool>,
        mut index: usize,
    ) -> Result<Lease, Error> {
        let (mut tries, mut full) = (TRIES, 0);
        while tries > 0 {
            tries -= 1;
            let target = self.targets.revalidate(requested)?;
            target.identity.ensure_credential().await?;
            let mut opening = match self.take(pool, index, &target) {
                SlotResult::Open(lease) => return Ok(lease),
                SlotResult::Opening(opening) => opening,
                SlotResult::Stale => continue,
                SlotResult::Full => {
                    full += 1;
                    if full == pool.slots.len() {
                        return Err(bounds::busy());
                    }
                    index = index.wrapping_add(1);
                    tries += 1;
                    continue;
                }
            };
            let answer = match opening.wait_for(Option::is_some).await {
                Ok(answer) => answer.clone(),
                // The task was dropped without a result because its runtime is stopping.
                Err(_) => None,
            };
            match answer {
                Some(Ok(connection)) => {
                    if let Some(lease) = connection.lease() {
                        return Ok(lease);
                    }
                }
                Some(Err(failure)) => return Err(failure.to_error(&requested.name)),
                None => break,
            }
        }
        Err(Connection::unreachable(&requested.name))
    }

    fn take(&self, pool: &Arc<Pool>, index: usize, target: &Arc<Target>) -> SlotResult {
        let mut slot = pool.slot(index);
        match &*slot {
            Slot::Open(connection) if connection.version() == target.connection_version => {
                if let Some(lease) = connection.lease() {
                    return SlotResult::Open(lease);
                }
                if connection.is_open() {
                    return SlotResult::Full;
                }
            }
            Slot::Opening(version, opening) if *version == target.connection_version => {
                return SlotResult::Opening(opening.clone());
            }
            Slot::Empty | Slot::Open(_) | Slot::Opening(..) => {}
        }
        // Checked under the slot's lock: versions are not ordered, so only the current target shows which of two is
        // newer.
        let current = self.targets.get(target.id).map(|now| now.connection_version);
        if current != Some(target.connection_version) {
            return SlotResult::Stale;
        }
        let (result_sender, opening) = watch::channel(None);
        *slot = Slot::Opening(target.connection_version, opening.clone());
        drop(slot);
        let (pool, target) = (Arc::clone(pool), Arc::clone(target));
        let config = Arc::clone(&self.config);
        crate::net::spawn_owned(async move {
            let opened = Connection::open(&target, &config).await;
            let answer = opened.map(Arc::new).map_err(|error| error.for_callers());
            pool.store(index, target.connection_version, answer.as_ref().ok());
            result_sender.send_replace(Some(answer));
        });
        SlotResult::Opening(opening)
    }

    /// Leases a connection for a streaming call.
    async fn lease_stream(
        &self,
        requested: &Target,
        lane: Lane,
        permit: Option<Arc<StreamPermit>>,
    ) -> Result<Lease, Error> {
        let pool = self.pool(requested.id);
        for _ in 0..TRIES {
            let target = self.targets.revalidate(requested)?;
            target.identity.ensure_credential().await?;
            let leased = if lane == Lane::Exclusive {
                self.lease_exclusive(&pool, &target, permit.clone()).await?
            } else {
                self.lease_shared(&pool, &target).await?
            };
            match leased {
                Some(Ok(lease)) => return Ok(lease.with_permit(permit)),
                Some(Err(failure)) => return Err(failure.to_error(&requested.name)),
                None => {}
            }
        }
        Err(Connection::unreachable(&requested.name))
    }

    /// Leases a shared connection. Returns `None` if it has no room left or the target is stale.
    async fn lease_shared(
        &self,
        pool: &Arc<Pool>,
        target: &Arc<Target>,
    ) -> Result<Option<Result<Lease, OpenFailure>>, Error> {
        let version = target.connection_version;
        let permit = || {
            let current = self.targets.get(target.id).map(|now| now.connection_version);
            let is_current = current == Some(version);
            is_current.then(|| self.limits.admit_connection(target.id)).transpose()
        };
        let NewConnection { id, permit, result_sender, pending } =
            match pool.streams.take(version, permit)? {
                SharedLease::Open(lease) => return Ok(Some(Ok(lease))),
                SharedLease::Opening(pending) => return Ok(pending.lease().await),
                SharedLease::Stale => return Ok(None),
                SharedLease::New(new) => new,
            };
        let purpose =
            Purpose { lane: Lane::Streams, connection_permit: Some(permit), spare: Weak::new() };
        let (pool, opening) = (Arc::clone(pool), self.open_connection(target, purpose));
        crate::net::spawn_owned(async move {
            let answer = opening.await;
            pool.streams.store(id, answer.as_ref().ok());
            result_sender.send_replace(Some(answer));
        });
        Ok(pending.lease().await)
    }

    /// Leases a connection that serves only this call.
    async fn lease_exclusive(
        &self,
        pool: &Arc<Pool>,
        target: &Arc<Target>,
        permit: Option<Arc<StreamPermit>>,
    ) -> Result<Option<Result<Lease, OpenFailure>>, Error> {
        if let Some(lease) = pool.spare.take(target.connection_version) {
            return Ok(Some(Ok(lease)));
        }
        let connection_permit = Some(self.limits.admit_connection(target.id)?);
        let spare = Arc::downgrade(&pool.spare);
        let opening = self
            .open_connection(target, Purpose { lane: Lane::Exclusive, connection_permit, spare });
        let (result_sender, answer) = oneshot::channel();
        let spare = Arc::clone(&pool.spare);
        crate::net::spawn_owned(async move {
            // The stream counts against its caller while the connection opens, even if the caller hangs up.
            let _permit = permit;
            if let Err(Ok(unused)) = result_sender.send(opening.await) {
                spare.put(unused);
            }
        });
        Ok(match answer.await {
            Ok(Ok(connection)) => connection.lease().map(Ok),
            Ok(Err(failure)) => Some(Err(failure)),
            Err(_) => Some(Err(OpenFailure::Unreachable)),
        })
    }

    /// Opens a connection for streaming calls.
    fn open_connection(
        &self,
        target: &Arc<Target>,
        purpose: Purpose,
    ) -> impl Future<Output = OpenResult> + Send + use<> {
        let (target, config) = (Arc::clone(target), Arc::clone(&self.config));
        async move {
            let opened = Connection::open_for(purpose, &target, &config).await;
            opened.map(Arc::new).map_err(|error| error.for_callers())
        }
    }

    /// Returns the pool of a gateway, creating it if needed. Creating one drops the pools of unregistered gateways.
    fn pool(&self, id: GatewayId) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(&id) {
            return Arc::clone(pool);
        }
        // New gateways are rare, so this is a cheap moment to drop the pools of unregistered ones.
        pools.retain(|id, _| self.targets.get(*id).is_some());
        let slots = self.config.connections_per_core.max(1);
        let slots = (0..slots).map(|_| Mutex::new(Slot::Empty)).collect();
        let pool = Arc::new(Pool {
            slots,
            next: AtomicUsize::new(0),
            streams: SharedConnections::default(),
            spare: Arc::new(SparePool::new(self.config.probe_timeout())),
        });
        pools.insert(id, Arc::clone(&pool));
        pool
    }
}

enum SlotResult {
    Open(Lease),
    Opening(watch::Receiver<Option<OpenResult>>),
    /// The target is stale.
    Stale,
    /// The connection carries its maximum number of calls.
    Full,
}

impl Pool {
    /// Returns the next slot, round-robin.
    fn next_slot(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a slot without an open connection, where a new one with an unused window is opened.
    fn vacant_slot(&self) -> Option<usize> {
        (0..self.slots.len()).find(|index| match &*self.slot(*index) {
            Slot::Empty | Slot::Opening(..) => true,
            Slot::Open(connection) => !connection.is_open(),
        })
    }

    fn slot(&self, index: usize) -> MutexGuard<'_, Slot> {
        self.slots[index % self.slots.len()].lock()
    }

    /// Stores a connection in its slot, unless the slot was reassigned to another version in the meantime.
    fn store(&self, index: usize, version: u64, connection: Option<&Arc<Connection>>) {
        let mut slot = self.slot(index);
        if matches!(&*slot, Slot::Opening(of, _) if *of == version) {
            *slot = connection.map_or(Slot::Empty, |open| Slot::Open(Arc::clone(open)));
        }
    }
}
