//! Wakes whoever waits for events.

use tokio::sync::Notify;

/// Wakes the sequencer when an event was written here.
#[derive(Debug, Default)]
pub struct Feed {
    written: Notify,
}

impl Feed {
    /// An event was committed.
    pub fn written(&self) {
        self.written.notify_one();
    }
}
