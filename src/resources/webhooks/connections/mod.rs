//! The connections of webhooks: a limit on all that are open, which the webhooks share equally.
//!
//! Invariants
//! - the limit holds for all connections together: those that are being established, those with a message, and those
//!   that are kept without one. A slot is freed after its socket is closed;
//! - e13: each active webhook has an equal share of at least one connection, and no webhook uses the share of another
//!   one, even if that is unused. The tests of all webhooks together have the share of one webhook;
//! - if there are more webhooks than connections, they take turns: the next slot is for the webhook that holds the
//!   fewest, and among those for the request that has waited longest. A kept connection is closed if another webhook
//!   waits;
//! - a webhook without connections uses no memory.
//!
//! [`crate::fair::FairLimit`] does not fit: it refuses at a limit, and its limit per holder is fixed.

mod stream;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use metrics::gauge;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use self::stream::ReceiverStream;
use crate::db::types::WebhookId;
use crate::telemetry::metrics::WEBHOOK_CONNECTIONS;

/// The holder of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotHolder {
    /// The messages of one webhook.
    Webhook(WebhookId),
    /// The tests of all webhooks.
    Tests,
}

/// The connections of all webhooks of this process.
#[derive(Debug)]
pub struct ReceiverConnections {
    state: Mutex<SlotState>,
}

#[derive(Debug)]
struct SlotState {
    total_max: usize,
    /// Number of active webhooks.
    webhooks: usize,
    next_id: u64,
    /// Number of slots that are in use.
    open: usize,
    /// Number of slots of each holder that has some.
    held: HashMap<SlotHolder, usize>,
    /// Connections that are kept without a message, the oldest first.
    idle: BTreeMap<u64, IdleConnection>,
    /// Number of idle connections that were asked to close and are not closed yet.
    closing: usize,
    /// Requests that wait for a slot, the oldest first.
    waiting: BTreeMap<u64, WaitingRequest>,
}

#[derive(Debug)]
struct IdleConnection {
    holder: SlotHolder,
    close: CancellationToken,
}

#[derive(Debug)]
struct WaitingRequest {
    holder: SlotHolder,
    granted: oneshot::Sender<()>,
}

impl ReceiverConnections {
    /// Creates it with a limit on the total, at least one.
    #[must_use]
    pub fn new(total_max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(SlotState {
                total_max: total_max.max(1),
                webhooks: 0,
                next_id: 0,
                open: 0,
                held: HashMap::new(),
                idle: BTreeMap::new(),
                closing: 0,
                waiting: BTreeMap::new(),
            }),
        })
    }

    /// Lowers the limit on the total to `room` if it is higher, and returns the limit. It stays at least one.
    pub fn lower_limit(&self, room: usize) -> usize {
        let mut state = self.state.lock();
        state.total_max = state.total_max.min(room).max(1);
        state.total_max
    }

    /// Sets the number of active webhooks, which determines their share.
    pub fn set_webhooks(&self, count: usize) {
        let mut state = self.state.lock();
        state.webhooks = count;
        state.grant_free();
    }

    /// Returns the number of connections that one webhook can have, at least one.
    #[must_use]
    pub fn share(&self) -> usize {
        self.state.lock().share()
    }

    /// Returns the number of slots in use.
    #[must_use]
    pub fn open(&self) -> usize {
        self.state.lock().open
    }

    /// Takes a free slot, and waits for one if necessary.
    pub async fn acquire(self: &Arc<Self>, holder: SlotHolder) -> Arc<Slot> {
        match self.request(holder) {
            Ok(slot) => slot,
            Err(waiting) => waiting.granted().await,
        }
    }

    /// Takes a free slot.
    ///
    /// # Errors
    /// The waiting request if no slot is free. An idle connection is then asked to close.
    pub fn request(self: &Arc<Self>, holder: SlotHolder) -> Result<Arc<Slot>, SlotRequest> {
        let mut state = self.state.lock();
        let id = state.new_id();
        let has_share_left = state.held(holder) < state.share();
        if has_share_left && state.open < state.total_max {
            state.take(holder);
            drop(state);
            return Ok(self.new_slot(id, holder));
        }
        state.close_idle(|idle| has_share_left || idle.holder == holder);
        let (granted, receiver) = oneshot::channel();
        state.waiting.insert(id, WaitingRequest { holder, granted });
        drop(state);
        let connections = Arc::clone(self);
        Err(SlotRequest { connections, id, holder, receiver, is_taken: false })
    }

    fn new_slot(self: &Arc<Self>, id: u64, holder: SlotHolder) -> Arc<Slot> {
        let close = CancellationToken::new();
        Arc::new(Slot { connections: Arc::clone(self), id, holder, close })
    }
}

impl SlotState {
    /// Returns the share of one webhook. The tests count as one webhook more.
    fn share(&self) -> usize {
        (self.total_max / self.webhooks.saturating_add(1)).max(1)
    }

    fn held(&self, holder: SlotHolder) -> usize {
        self.held.get(&holder).copied().unwrap_or_default()
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn take(&mut self, holder: SlotHolder) {
        self.open += 1;
        *self.held.entry(holder).or_default() += 1;
        self.update_gauge();
    }

    fn release(&mut self, holder: SlotHolder) {
        self.open = self.open.saturating_sub(1);
        if let Some(held) = self.held.get_mut(&holder) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(&holder);
            }
        }
        self.grant_free();
        self.update_gauge();
    }

    /// Gives the free slots to requests that wait.
    fn grant_free(&mut self) {
        while self.open < self.total_max {
            let share = self.share();
            let waiting = self.waiting.iter().map(|(id, one)| (self.held(one.holder), *id));
            let next = waiting.filter(|(held, _)| *held < share).min();
            let Some(request) = next.and_then(|(_, id)| self.waiting.remove(&id)) else { return };
            self.take(request.holder);
            // A request that is dropped leaves the list first, so that the receiver exists.
            let _ = request.granted.send(());
        }
    }

    /// Asks the oldest idle connection for which `fits` is true to close. Its slot is freed when its socket is closed.
    fn close_idle(&mut self, fits: impl Fn(&IdleConnection) -> bool) {
        let found = self.idle.iter().find(|(_, idle)| fits(idle)).map(|(id, _)| *id);
        if let Some(idle) = found.and_then(|id| self.idle.remove(&id)) {
            self.closing += 1;
            idle.close.cancel();
        }
    }

    /// Returns whether a request of another holder waits for a slot, for which no connection is being closed yet. The
    /// holder's own requests use its idle connections.
    fn is_wanted_by_others(&self, holder: SlotHolder) -> bool {
        let share = self.share();
        let can_use = |one: &&WaitingRequest| one.holder != holder && self.held(one.holder) < share;
        self.waiting.values().filter(can_use).count() > self.closing
    }

    fn update_gauge(&self) {
        #[expect(clippy::cast_precision_loss, reason = "connections fit")]
        gauge!(WEBHOOK_CONNECTIONS).set(self.open as f64);
    }
}

/// A request that waits for a slot. It ends when it is dropped.
#[derive(Debug)]
pub struct SlotRequest {
    connections: Arc<ReceiverConnections>,
    id: u64,
    holder: SlotHolder,
    receiver: oneshot::Receiver<()>,
    is_taken: bool,
}

impl SlotRequest {
    /// Waits for the slot.
    pub async fn granted(mut self) -> Arc<Slot> {
        // Cannot fail: the sender is in the list until it has sent.
        let _ = (&mut self.receiver).await;
        self.is_taken = true;
        self.connections.new_slot(self.id, self.holder)
    }
}

impl Drop for SlotRequest {
    fn drop(&mut self) {
        if self.is_taken {
            return;
        }
        let mut state = self.connections.state.lock();
        let was_granted = state.waiting.remove(&self.id).is_none();
        if was_granted {
            state.release(self.holder);
        }
    }
}

/// The place of one connection within the limit. It is freed when this is dropped: the connection holds it, too.
#[derive(Debug)]
pub struct Slot {
    connections: Arc<ReceiverConnections>,
    id: u64,
    holder: SlotHolder,
    close: CancellationToken,
}

impl Slot {
    /// Notes that the connection is kept without a message, so that it can be asked to close.
    pub(super) fn mark_idle(&self) {
        let mut state = self.connections.state.lock();
        let idle = IdleConnection { holder: self.holder, close: self.close.clone() };
        state.idle.insert(self.id, idle);
        if state.is_wanted_by_others(self.holder) {
            state.close_idle(|_| true);
        }
    }

    /// Notes that the connection has a message again. Returns `false` if it was asked to close before.
    pub(super) fn mark_busy(&self) -> bool {
        self.connections.state.lock().idle.remove(&self.id).is_some()
    }

    /// Returns a token that is canceled when the idle connection must be closed.
    pub(super) fn close_token(&self) -> CancellationToken {
        self.close.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.connections.state.lock();
        state.idle.remove(&self.id);
        if self.close.is_cancelled() {
            state.closing = state.closing.saturating_sub(1);
        }
        state.release(self.holder);
    }
}

#[cfg(test)]
mod tests;
