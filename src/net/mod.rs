//! Connections that we open to others.
//!
//! Invariants
//! - an address is judged when it is connected to, never when it is stored: a name may resolve to another one later;
//! - of a name every address must be allowed, and only the judged ones are connected to;
//! - what went wrong inside is logged here, once; the error names the host and no more.

pub mod connect;
pub mod deadline;
pub mod guard;
pub mod http;
pub mod names;
pub mod public_address;
pub mod taking;
pub mod x509;

use tokio::task::JoinHandle;

/// An error of a body, whatever its source.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Starts a task that ends with the connection or the call that it belongs to. It must run on the runtime of the
/// connection, so it can't be one of main's.
#[expect(clippy::disallowed_methods, reason = "owned by a connection or a call, on its runtime")]
pub(crate) fn own<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    tokio::spawn(task)
}
