//! The turns of one webhook: each lets one message be sent, on a kept connection or with a slot for a new one.
//!
//! Invariants
//! - at most one request of a webhook waits for a slot, and only while a message could be sent;
//! - a kept connection is used before a new slot is taken.

use std::future::pending;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::connection::Turn;
use super::recipient::Recipient;
use crate::resources::webhooks::connections::{ReceiverConnections, Slot, SlotHolder};

/// Takes the turns of one webhook.
pub(super) struct Turns {
    connections: Arc<ReceiverConnections>,
    holder: SlotHolder,
    waiting: Option<BoxFuture<'static, Arc<Slot>>>,
    granted: Option<Arc<Slot>>,
}

impl Turns {
    pub(super) fn new(connections: &Arc<ReceiverConnections>, holder: SlotHolder) -> Self {
        let connections = Arc::clone(connections);
        Self { connections, holder, waiting: None, granted: None }
    }

    /// Returns how many messages can be sent at once.
    pub(super) fn share(&self) -> usize {
        self.connections.share()
    }

    /// Returns whether a request waits for a slot.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Takes a turn. Returns `None`, and begins to wait, if there is neither a kept connection nor a free slot.
    pub(super) fn take(&mut self, recipient: &Recipient) -> Option<Turn> {
        if let Some(turn) = recipient.take_kept() {
            return Some(turn);
        }
        if let Some(slot) = self.granted.take() {
            return Some(Turn::new(slot));
        }
        if self.waiting.is_some() {
            return None;
        }
        match self.connections.request(self.holder) {
            Ok(slot) => Some(Turn::new(slot)),
            Err(request) => {
                self.waiting = Some(Box::pin(request.granted()));
                None
            }
        }
    }

    /// Waits until a slot is granted. Never ends without a request.
    pub(super) async fn granted(&mut self) {
        let Some(waiting) = &mut self.waiting else { return pending().await };
        let slot = waiting.await;
        self.waiting = None;
        self.granted = Some(slot);
    }

    /// Ends the request, and frees a slot that is not used.
    pub(super) fn give_up(&mut self) {
        self.waiting = None;
        self.granted = None;
    }
}
