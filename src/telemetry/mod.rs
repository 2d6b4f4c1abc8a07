//! What the server says about itself: its log, its metrics, and messages fit to be shown.
//!
//! Invariants
//! - the log goes to standard error; standard output belongs to commands that answer;
//! - a message is shown only after [`redact`];
//! - what a metric is called and means stands in one list, [`metrics::METRICS`].

pub mod endpoint;
mod logging;
pub mod metrics;
mod redact;

pub use logging::init_logging;
pub use redact::redact;
