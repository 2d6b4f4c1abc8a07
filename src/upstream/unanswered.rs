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
pub struct OutcomeUnknown(Arc<AtomicBool>);

impl OutcomeUnknown {
    /// Sets the flag: the gateway may act from now on.
    pub(crate) fn set(&self) {
        self.store(true);
    }

    /// Clears the flag: the gateway reported the outcome or did not process the request.
    pub(crate) fn clear(&self) {
        self.store(false);
    }

    /// Sets or clears the flag.
    pub(crate) fn store(&self, unknown: bool) {
        self.0.store(unknown, Ordering::Release);
    }

    /// Whether the outcome is unknown.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
