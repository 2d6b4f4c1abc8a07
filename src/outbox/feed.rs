//! Wakes the tasks that wait for events: the sequencer after an event is written, readers and the queue of webhooks
//! after an event is numbered.
//!
//! Invariants
//! - a wake-up contains no event: the woken task reads the database, so that no event can be lost here;
//! - events that this replica numbers wake its readers at once; events that another replica numbers are found by
//!   polling, with one poller per process, and only while there are readers.

use tokio::sync::{Notify, watch};

/// Wakes the tasks that wait for events.
#[derive(Debug, Default)]
pub struct EventFeed {
    written: Notify,
    numbered: Notify,
    head: watch::Sender<i64>,
    watched: Notify,
}

impl EventFeed {
    /// Reports that an event was committed: called after the transaction that [`super::enqueue`] was called in.
    pub fn notify_committed(&self) {
        self.written.notify_one();
    }

    /// Wakes the sequencer.
    #[must_use]
    pub fn sequencer_wakeup(&self) -> &Notify {
        &self.written
    }

    /// Wakes the job that queues events for webhooks.
    #[must_use]
    pub fn queuer_wakeup(&self) -> &Notify {
        &self.numbered
    }

    /// Reports that events up to this sequence number can be read.
    pub fn advance_head(&self, head: i64) {
        let moved = self.head.send_if_modified(|at| {
            let moved = head > *at;
            *at = head.max(*at);
            moved
        });
        if moved {
            self.numbered.notify_one();
        }
    }

    /// Returns whether there are readers, and a notification for when the first one subscribes.
    #[must_use]
    pub fn readers(&self) -> (bool, &Notify) {
        (self.head.receiver_count() > 0, &self.watched)
    }

    /// Returns a receiver that changes when there may be new events. Subscribe before reading, so that no event is
    /// missed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<i64> {
        let receiver = self.head.subscribe();
        self.watched.notify_one();
        receiver
    }
}
