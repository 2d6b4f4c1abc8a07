//! What the server says about itself: its log, its metrics, and messages fit to be shown.
//!
//! Invariants
//! - the log goes to standard error, and nothing that logs waits for its reader; standard output belongs to commands
//!   that answer;
//! - a message is shown only after [`redact`];
//! - what a metric is called and means stands in one list, [`metrics::METRICS`].

pub mod endpoint;
mod logging;
pub mod metrics;
mod queue;
mod redact;
pub mod traces;

pub use logging::{flush_log, init_logging, log_line};
pub use redact::redact;
