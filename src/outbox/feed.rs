//! Wakes whoever waits for events: the sequencer when one was written, readers when one was numbered.
//!
//! Invariants
//! - a wake-up carries no event: who is woken reads the database, so that none can be lost here;
//! - what this replica numbers wakes its readers at once; what another one numbers does so by a poll, one a process, and
//!   only while somebody reads.

use tokio::sync::{Notify, watch};

/// Wakes whoever waits for events.
#[derive(Debug, Default)]
pub struct Feed {
    written: Notify,
    head: watch::Sender<i64>,
    watched: Notify,
}

impl Feed {
    /// An event was committed here: called after the transaction that [`super::enqueue`] was called in.
    pub fn written(&self) {
        self.written.notify_one();
    }

    /// What wakes the sequencer.
    #[must_use]
    pub fn to_number(&self) -> &Notify {
        &self.written
    }

    /// Events up to this sequence can be read.
    pub fn moved_to(&self, head: i64) {
        self.head.send_if_modified(|at| {
            let moved = head > *at;
            *at = head.max(*at);
            moved
        });
    }

    /// Whether somebody reads, and what wakes when somebody begins to.
    #[must_use]
    pub fn readers(&self) -> (bool, &Notify) {
        (self.head.receiver_count() > 0, &self.watched)
    }

    /// Wakes whenever there may be new events. Taken before reading, so that nothing comes in between unseen.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<i64> {
        let receiver = self.head.subscribe();
        self.watched.notify_one();
        receiver
    }
}
