//! Outgoing connections, certificates, deadlines, and the handling of responses that are not read.
//!
//! Invariants
//! - an address is checked when it is connected to, never when it is stored: a name may resolve to another one later;
//! - all addresses of a name must be allowed, and only checked addresses are connected to;
//! - an error for a caller contains the host and none of its addresses.

pub mod connect;
pub mod deadline;
pub mod dn;
pub mod guard;
pub mod http;
pub mod listener_tls;
pub mod loopback;
pub mod names;
pub mod pem_files;
pub mod public_address;
pub mod roots;
pub mod socket;
pub mod taking;
mod written_address;
pub mod x509;

use tokio::task::JoinHandle;

/// Error of a body, from any source.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Returns the host of a URL without the brackets of an IPv6 address.
#[must_use]
pub(crate) fn without_brackets(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// Starts a task that ends with its connection or call. It must run on the runtime of the connection, so it cannot be a
/// task of the main runtime.
#[expect(clippy::disallowed_methods, reason = "owned by a connection or a call, on its runtime")]
pub(crate) fn spawn_owned<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    tokio::spawn(task)
}
