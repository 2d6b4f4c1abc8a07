//! Tracks whether a gateway may have acted on a request whose outcome is unknown.
//!
//! Invariants
//! - the flag is set from the moment at which the gateway may act until the gateway reports the outcome or has provably
//!   not processed the request;
//! - a caller can neither set nor clear it: a disconnect or an expired deadline changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The flag, shared by the sender of a request and its audit record.
#[derive(Debug, Clone, Default)]
pub struct Unanswered(Arc<AtomicBool>);

impl Unanswered {
    /// Sets the flag: the gateway may act from now on.
    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Clears the flag: the gateway reported the outcome or did not process the request.
    pub(crate) fn settle(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether the outcome is unknown.
    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
