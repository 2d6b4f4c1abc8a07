//! Pool of exclusive connections whose one call has ended, for reuse by the next one.
//!
//! Invariants
//! - a connection enters the pool after a call only once the gateway has granted send window on it: even a call that
//!   ended cleanly may have left an unread request body, which uses up that window;
//! - a connection on which a stream was reset is closed and never pooled;
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

/// Maximum number of pooled connections per gateway and runtime.
const CONNECTIONS_MAX: usize = 8;
/// Send window that proves a connection usable: a quarter of a gateway's initial grant. Gateways return window for read
/// data in steps of half of it.
const PROOF_BYTES: usize = 16 << 10;
/// An empty message with its prefix.
const EMPTY: &[u8] = &[0; 5];

/// The pooled connections to one gateway.
#[derive(Debug)]
pub(crate) struct SparePool {
    connections: Mutex<Vec<Arc<Connection>>>,
    proof_timeout: Duration,
}

impl SparePool {
    /// Creates an empty pool. `proof_timeout` is the timeout of a proof.
    pub(crate) fn new(proof_timeout: Duration) -> Self {
        Self { connections: Mutex::default(), proof_timeout }
    }

    /// Takes a connection of this `connection_version` and closes those of other versions. Returns `None` if it has
    /// no such connection.
    pub(crate) fn take(&self, version: u64) -> Option<Lease> {
        let mut connections = self.connections.lock();
        connections.retain(|connection| connection.is_open() && connection.version() == version);
        while let Some(connection) = connections.pop() {
            if let Some(lease) = connection.lease() {
                return Some(lease);
            }
        }
        None
    }

    /// Adds a connection that has carried no call since it was opened or proven. Closes it if the pool is full.
    pub(crate) fn put(&self, connection: Arc<Connection>) {
        let mut connections = self.connections.lock();
        connections.retain(|connection| connection.is_open());
        if connections.len() < CONNECTIONS_MAX {
            connections.push(connection);
        } else {
            drop(connections);
            connection.retire();
        }
    }

    /// Proves a connection whose call has ended and adds it to the pool. Closes it if the proof fails.
    pub(crate) fn give_back(self: Arc<Self>, connection: Arc<Connection>) {
        if Handle::try_current().is_err() {
            // The runtime is stopping, and drops the connection.
            connection.retire();
            return;
        }
        crate::net::spawn_owned(async move {
            match timeout(self.proof_timeout, prove(&connection)).await {
                Ok(Some(())) => self.put(connection),
                Ok(None) | Err(_) => connection.retire(),
            }
        });
    }
}

/// Waits until the gateway grants [`PROOF_BYTES`] and has responded to a call.
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
