//! The connections of one runtime to every gateway: opened at first use, replaced when they are no longer good.
//!
//! Invariants
//! - a connection is used from this runtime alone;
//! - it is opened once for all who wait, by a task of its own: callers with short deadlines would else never let a
//!   slow one come to stand;
//! - one of another `connection_version` is never handed out: it serves its streams to the end and closes;
//! - a target that is no longer the gateway's takes no place: whoever holds one for long gets what stands in its stead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::connection::{Connection, Lease};
use crate::config::Gateways;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::resources::gateways::targets::{Target, Targets};

/// How often a connection that was closed in the same moment is replaced before the call gives up.
const TRIES: usize = 3;

/// The connections of one runtime.
#[derive(Debug)]
pub(crate) struct Channels {
    targets: Arc<Targets>,
    config: Arc<Gateways>,
    pools: Mutex<HashMap<GatewayId, Arc<Pool>>>,
}

/// The connections to one gateway.
#[derive(Debug)]
struct Pool {
    slots: Vec<Mutex<Slot>>,
    next: AtomicUsize,
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
type Answer = Result<Arc<Connection>, ()>;

impl Channels {
    /// No connection yet.
    pub(crate) fn new(targets: &Arc<Targets>, config: &Arc<Gateways>) -> Self {
        let (targets, config) = (Arc::clone(targets), Arc::clone(config));
        Self { targets, config, pools: Mutex::default() }
    }

    /// A share of a connection to the gateway as it is described now, where that is still the one that is meant.
    ///
    /// # Errors
    /// `GATEWAY_UNREACHABLE`, `GATEWAY_TOKEN_UNAVAILABLE`.
    pub(crate) async fn lease(&self, meant: &Target) -> Result<Lease, Error> {
        let pool = self.pool(meant.id);
        let turn = pool.next.fetch_add(1, Ordering::Relaxed);
        for _ in 0..TRIES {
            let target = self.targets.still(meant)?;
            target.identity.ready().await?;
            let mut opening = match self.take(&pool, turn, &target) {
                Taken::Open(lease) => return Ok(lease),
                Taken::Opening(opening) => opening,
                Taken::Old => continue,
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
        super::own(async move {
            let opened = Connection::open(&target, &config).await;
            let answer = opened.map(Arc::new).map_err(|_| ());
            pool.opened(turn, target.connection_version, answer.as_ref().ok());
            answered.send_replace(Some(answer));
        });
        Taken::Opening(opening)
    }

    /// Forgets the connections to a gateway that is gone.
    fn pool(&self, id: GatewayId) -> Arc<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&id) {
            return Arc::clone(pool);
        }
        // A new gateway is a rare moment: the time to let go of those that were unregistered.
        pools.retain(|id, _| self.targets.get(*id).is_some());
        let slots = self.config.connections_per_core.max(1);
        let slots = (0..slots).map(|_| Mutex::new(Slot::Empty)).collect();
        let pool = Arc::new(Pool { slots, next: AtomicUsize::new(0) });
        pools.insert(id, Arc::clone(&pool));
        pool
    }
}

enum Taken {
    Open(Lease),
    Opening(watch::Receiver<Option<Answer>>),
    /// The target is not the gateway's any more.
    Old,
}

impl Pool {
    fn slot(&self, turn: usize) -> MutexGuard<'_, Slot> {
        self.slots[turn % self.slots.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a connection into its slot, unless credentials have changed in the meantime.
    fn opened(&self, turn: usize, version: u64, connection: Option<&Arc<Connection>>) {
        let mut slot = self.slot(turn);
        if matches!(&*slot, Slot::Opening(of, _) if *of == version) {
            *slot = connection.map_or(Slot::Empty, |open| Slot::Open(Arc::clone(open)));
        }
    }
}
