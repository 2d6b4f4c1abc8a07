//! Logs, metrics and traces of the server, and messages without their secrets.
//!
//! Invariants
//! - the log is written to standard error, and logging does not wait for its reader; standard output is for the results
//!   of commands;
//! - a message is displayed only after [`redact`];
//! - names and meanings of all metrics are in one list, [`metrics::METRICS`].

pub mod endpoint;
mod logging;
pub mod metrics;
mod queue;
mod redact;
pub mod traces;

pub use logging::{flush_log, init_logging, log_line};
pub use redact::redact;
