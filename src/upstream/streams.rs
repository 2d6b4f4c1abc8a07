//! The connections of one runtime to one gateway for calls with response streams, each shared by many calls.
//!
//! Invariants
//! - a connection is opened once for all calls that wait for it, and no more calls wait than it has room for;
//! - connections are filled one after the other, so that few are open.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::bounds::ConnectionPermit;
use super::channels::OpenResult;
use super::connection::{Connection, Lease};
use super::unreachable::OpenFailure;
use crate::error::Error;

/// Maximum number of calls that wait for the same connection. Each holds up to three stream handles until its response
/// begins.
const WAITING_MAX: usize = 64;

/// The shared connections.
#[derive(Debug, Default)]
pub(crate) struct SharedConnections(Mutex<Slots>);

#[derive(Debug, Default)]
struct Slots {
    taken: Vec<Slot>,
    next: u64,
}

/// Slot for one connection.
#[derive(Debug)]
struct Slot {
    id: u64,
    /// The `connection_version` of the target.
    version: u64,
    state: SlotState,
}

#[derive(Debug)]
enum SlotState {
    /// Being opened; the task sends one result. The `Arc` counts the waiting calls.
    Opening(watch::Receiver<Option<OpenResult>>, Arc<()>),
    Open(Arc<Connection>),
}

/// A call that waits for a connection to open.
#[derive(Debug)]
pub(crate) struct PendingConnection {
    result: watch::Receiver<Option<OpenResult>>,
    _waiting: Arc<()>,
}

/// Result of a request for a shared connection.
#[derive(Debug)]
pub(crate) enum SharedLease {
    /// A lease of an open connection.
    Open(Lease),
    /// A wait for a connection that another call opens.
    Opening(PendingConnection),
    /// A new slot, for which this call must open the connection.
    New(NewConnection),
    /// The target is stale.
    Stale,
}

/// A connection that is to be opened.
#[derive(Debug)]
pub(crate) struct NewConnection {
    /// Id of its slot.
    pub(crate) id: u64,
    /// Permit for the connection.
    pub(crate) permit: ConnectionPermit,
    /// Where its task sends the result.
    pub(crate) result_sender: watch::Sender<Option<OpenResult>>,
    /// This call's own wait for the connection.
    pub(crate) pending: PendingConnection,
}

impl SharedConnections {
    /// Returns a share of a connection of this `connection_version`. `permit` returns `None` if the version is no
    /// longer that of the target.
    ///
    /// # Errors
    /// Those of `permit`.
    pub(crate) fn take(
        &self,
        version: u64,
        permit: impl FnOnce() -> Result<Option<ConnectionPermit>, Error>,
    ) -> Result<SharedLease, Error> {
        let mut slots = self.0.lock();
        for slot in slots.taken.iter().filter(|slot| slot.version == version) {
            match &slot.state {
                SlotState::Open(connection) => {
                    if let Some(lease) = connection.lease_if_free() {
                        return Ok(SharedLease::Open(lease));
                    }
                }
                SlotState::Opening(result, waiting)
                    if Arc::strong_count(waiting) <= WAITING_MAX =>
                {
                    return Ok(SharedLease::Opening(PendingConnection::new(result, waiting)));
                }
                SlotState::Opening(..) => {}
            }
        }
        let Some(permit) = permit()? else { return Ok(SharedLease::Stale) };
        slots.taken.retain(|slot| slot.version == version && slot.state.is_alive());
        let id = slots.next;
        slots.next += 1;
        let ((result_sender, result), waiting) = (watch::channel(None), Arc::new(()));
        let pending = PendingConnection::new(&result, &waiting);
        slots.taken.push(Slot { id, version, state: SlotState::Opening(result, waiting) });
        Ok(SharedLease::New(NewConnection { id, permit, result_sender, pending }))
    }

    /// Stores an opened connection in its slot; frees the slot if opening failed.
    pub(crate) fn store(&self, id: u64, connection: Option<&Arc<Connection>>) {
        let mut slots = self.0.lock();
        match connection {
            None => slots.taken.retain(|slot| slot.id != id),
            Some(connection) => {
                if let Some(slot) = slots.taken.iter_mut().find(|slot| slot.id == id) {
                    slot.state = SlotState::Open(Arc::clone(connection));
                }
            }
        }
    }
}

impl SlotState {
    fn is_alive(&self) -> bool {
        match self {
            Self::Opening(..) => true,
            Self::Open(connection) => connection.is_open(),
        }
    }
}

impl PendingConnection {
    fn new(result: &watch::Receiver<Option<OpenResult>>, waiting: &Arc<()>) -> Self {
        Self { result: result.clone(), _waiting: Arc::clone(waiting) }
    }

    /// Waits for the connection. Returns `None` if it has no room left, and an error if it could not be opened.
    pub(crate) async fn lease(mut self) -> Option<Result<Lease, OpenFailure>> {
        let result = match self.result.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            // The task was dropped without a result because its runtime is stopping.
            Err(_) => None,
        };
        match result {
            Some(Ok(connection)) => connection.lease_if_free().map(Ok),
            Some(Err(failure)) => Some(Err(failure)),
            None => Some(Err(OpenFailure::Unreachable)),
        }
    }
}
