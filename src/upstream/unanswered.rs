//! What nobody knows of a request: whether its gateway has acted on it.
//!
//! Invariants
//! - it is open from the moment at which a gateway may act until the gateway has told what became of the request, or has
//!   provably not looked at it;
//! - whoever asked can neither open nor settle it: a caller that hangs up, or whose time is over, changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by who sends a request and who records it.
#[derive(Debug, Clone, Default)]
pub struct Unanswered(Arc<AtomicBool>);

impl Unanswered {
    /// The gateway may act from now on.
    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// The gateway has told, or has not looked at it.
    pub(crate) fn settle(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether nobody knows.
    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
