//! Holds: calls that wait at a point until a test releases them, without a timer.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Makes calls wait until it is released. Clones are the same hold.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Number of calls that have reached it.
    reached: Arc<watch::Sender<usize>>,
    /// Whether it is released.
    released: Arc<watch::Sender<bool>>,
}

impl Default for Hold {
    fn default() -> Self {
        Self { reached: Arc::new(watch::channel(0).0), released: Arc::new(watch::channel(false).0) }
    }
}

impl Hold {
    /// Waits until this number of calls has reached the hold, including those that have passed it.
    pub async fn wait_reached(&self, calls: usize) {
        // Fails only without a sender, and this hold is one.
        let _ = self.reached.subscribe().wait_for(|count| *count >= calls).await;
    }

    /// Lets all calls pass, those that wait and those that arrive later.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// Waits until the hold is released. Returns `false` if the simulator stops earlier.
    pub(super) async fn pass(&self, stop: &CancellationToken) -> bool {
        self.reached.send_modify(|count| *count += 1);
        tokio::select! {
            released = wait_released(self.released.subscribe()) => released,
            () = stop.cancelled() => false,
        }
    }
}

/// Waits until the value is `true`. Returns `false` if the sender was dropped.
async fn wait_released(mut released: watch::Receiver<bool>) -> bool {
    released.wait_for(|released| *released).await.is_ok()
}
