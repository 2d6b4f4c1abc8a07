//! Connections whose one call has ended, kept for the next call that needs one to itself.
//!
//! Invariants
//! - a connection is kept only after the gateway has granted send window on it: a call that ended well may have left an
//!   unread request body behind, which uses that window up;
//! - a connection on which a stream was reset is closed and never kept;
//! - it is used by one call at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::connection::{Connection, Lease};
use super::probe::HEALTH;

/// Connections to one gateway that a runtime keeps.
const KEPT_MAX: usize = 8;
/// Send window that proves a connection: a quarter of what a gateway grants at first. Gateways give back what they have
/// read in steps of half a window.
const PROOF_BYTES: usize = 16 << 10;
/// A message without content, with its prefix.
const EMPTY: &[u8] = &[0; 5];

/// The connections to one gateway that are kept.
#[derive(Debug)]
pub(crate) struct Spare {
    kept: Mutex<Vec<Arc<Connection>>>,
    within: Duration,
}

impl Spare {
    /// Empty. A proof may take as long as a probe.
    pub(crate) fn new(within: Duration) -> Self {
        Self { kept: Mutex::default(), within }
    }

    /// A connection of this `connection_version`; the others are closed.
    pub(crate) fn take(&self, version: u64) -> Option<Lease> {
        let mut kept = self.kept.lock();
        kept.retain(|connection| connection.is_open() && connection.version() == version);
        while let Some(connection) = kept.pop() {
            if let Some(lease) = connection.lease() {
                return Some(lease);
            }
        }
        None
    }

    /// Keeps a connection that has carried no call yet.
    pub(crate) fn put(&self, connection: Arc<Connection>) {
        let mut kept = self.kept.lock();
        kept.retain(|connection| connection.is_open());
        if kept.len() < KEPT_MAX {
            kept.push(connection);
        } else {
            drop(kept);
            connection.retire();
        }
    }

    /// Proves a connection whose call has ended, then keeps it; closes it where the proof fails.
    pub(crate) fn give_back(self: Arc<Self>, connection: Arc<Connection>) {
        if Handle::try_current().is_err() {
            // The runtime is being dropped, and the connection with it.
            connection.retire();
            return;
        }
        crate::net::own(async move {
            match timeout(self.within, prove(&connection)).await {
                Ok(Some(())) => self.put(connection),
                Ok(None) | Err(_) => connection.retire(),
            }
        });
    }
}

/// Waits until the gateway grants [`PROOF_BYTES`], and until it has answered a call.
async fn prove(connection: &Connection) -> Option<()> {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let (response, mut request) = connection.start(HEALTH, headers, false).ok()?;
    request.reserve_capacity(PROOF_BYTES);
    while request.capacity() < PROOF_BYTES {
        std::future::poll_fn(|cx| request.poll_capacity(cx)).await?.ok()?;
    }
    request.send_data(Bytes::from_static(EMPTY), true).ok()?;
    let mut body = response.await.ok()?.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data.ok()?.len()).ok()?;
    }
    body.trailers().await.ok().map(|_| ())
}
