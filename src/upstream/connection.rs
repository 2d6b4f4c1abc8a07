//! One HTTP/2 connection to a gateway, with its probe result.
//!
//! Uses the h2 client directly instead of hyper's wrapper: an abandoned stream must be handed over and reset later,
//! which requires the stream's handles, and a call must not need a task.
//!
//! Invariants
//! - it is used from the runtime that opened it, and its one task (`drive`) ends with it;
//! - it carries calls of one lane, and its windows are those of the lane;
//! - its generation was probed on this connection;
//! - a retired connection accepts no new stream, serves its open streams to their end, and closes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use tokio::sync::mpsc::UnboundedSender;

use super::bounds::{ConnectionPermit, StreamPermit};
use super::budget::Budget;
use super::failure_log::FailureLog;
use super::identity::Identity;
use super::lane::Lane;
use super::probe::Probe;
use super::reaper::StreamHandle;
use super::spare::SparePool;
use super::unreachable::OpenFailure;
use crate::error::{Error, Reason};

/// Resets after which a connection is replaced: h2 closes a connection after 1,024 in its lifetime.
pub(super) const RESETS_MAX: usize = 900;
/// Number of streams awaiting their reset at which a connection is replaced: they still count as open at the peer.
pub(super) const BACKLOG_MAX: usize = 256;
/// Flag of a connection that accepts no new stream; the lower bits count stream handles.
const RETIRED: usize = 1 << (usize::BITS - 1);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) send: SendRequest<Bytes>,
    pub(super) abandoned: UnboundedSender<StreamHandle>,
    pub(super) load: Arc<Load>,
    pub(super) probe: Probe,
    pub(super) version: u64,
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) identity: Identity,
    pub(super) budget: Arc<Budget>,
    pub(super) failures: Arc<FailureLog>,
    pub(super) gateway: Arc<str>,
    pub(super) gateway_header: HeaderValue,
    pub(super) lane: Lane,
    pub(super) spare: Weak<SparePool>,
}

/// The purpose for which a connection is opened.
#[derive(Debug)]
pub(crate) struct Purpose {
    /// The lane of calls that it carries.
    pub(crate) lane: Lane,
    /// Held until the connection closes.
    pub(crate) connection_permit: Option<ConnectionPermit>,
    /// Pool to which it returns when its one call has ended.
    pub(crate) spare: Weak<SparePool>,
}

/// Usage counters of a connection.
#[derive(Debug, Default)]
pub(crate) struct Load {
    streams: AtomicUsize,
    /// Streams opened since the connection was opened.
    pub(crate) opened: AtomicUsize,
    resets: AtomicUsize,
    /// Streams awaiting their reset.
    pub(crate) backlog: AtomicUsize,
}

impl Load {
    /// Stops accepting new streams.
    pub(crate) fn retire(&self) {
        self.streams.fetch_or(RETIRED, Ordering::Relaxed);
    }

    /// Number of open stream handles.
    pub(crate) fn active(&self) -> usize {
        self.streams.load(Ordering::Relaxed) & !RETIRED
    }

    /// Whether it accepts no new stream.
    pub(crate) fn is_retired(&self) -> bool {
        self.streams.load(Ordering::Relaxed) & RETIRED != 0
    }

    /// Retires it unless a stream is open. Returns whether it is retired and unused.
    pub(crate) fn close_idle(&self) -> bool {
        let unused =
            self.streams.compare_exchange(0, RETIRED, Ordering::Relaxed, Ordering::Relaxed);
        unused.map_or_else(|streams| streams == RETIRED, |_| true)
    }
}

/// A stream's share of a connection. The connection counts as used while it is held.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Arc<Connection>,
    permit: Option<Arc<StreamPermit>>,
}

impl std::ops::Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Lease {
    /// Returns a second lease for another handle of the same stream.
    pub(crate) fn duplicate(&self) -> Self {
        self.connection.load.streams.fetch_add(1, Ordering::Relaxed);
        Self { connection: Arc::clone(&self.connection), permit: self.permit.clone() }
    }

    /// Attaches the permit of the stream.
    pub(crate) fn with_permit(mut self, permit: Option<Arc<StreamPermit>>) -> Self {
        self.permit = permit;
        self
    }

    /// Returns the permit of the stream.
    pub(crate) fn permit(&self) -> Option<&Arc<StreamPermit>> {
        self.permit.as_ref()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let before = self.connection.load.streams.fetch_sub(1, Ordering::Relaxed);
        if self.connection.lane == Lane::Exclusive && before & !RETIRED == 1 {
            Connection::release_exclusive(&self.connection);
        }
    }
}

/// The two handles of an opened stream.
pub(crate) type OpenedStream = (ResponseFuture, SendStream<Bytes>);

impl Connection {
    /// Returns the error for an unreachable gateway. Callers see only its name.
    pub(crate) fn unreachable(gateway: &str) -> Error {
        OpenFailure::Unreachable.to_error(gateway)
    }

    /// Returns the error for a gateway that was removed after the call was read.
    pub(crate) fn removed(gateway: &str) -> Error {
        let why = format!("gateway `{gateway}` was removed");
        Error::unavailable(Reason::GatewayUnreachable, why)
    }

    /// Returns the error for a gateway that changed after the call was read.
    pub(crate) fn changed(gateway: &str) -> Error {
        let why = format!("gateway `{gateway}` has changed, call again");
        Error::unavailable(Reason::GatewayUnreachable, why)
    }

    /// Returns the probe result of this connection.
    pub(crate) fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Returns the target's `connection_version` at the time of opening.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the name of the gateway.
    pub(crate) fn gateway(&self) -> &Arc<str> {
        &self.gateway
    }

    /// Returns the name of the gateway as a header value.
    pub(crate) fn gateway_header(&self) -> HeaderValue {
        self.gateway_header.clone()
    }

    /// Returns the `authorization` header for the gateway.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        self.identity.header()
    }

    /// Fetches the credential if it is a token that has to be fetched.
    pub(crate) async fn ensure_credential(&self) -> Result<(), Error> {
        self.identity.ensure_credential().await
    }

    /// Returns the budget for reading responses to Shoreguard's own calls.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Logs a failed call on this connection, if a line is due.
    pub(crate) fn log_failure(&self, why: impl std::fmt::Display) {
        self.failures.warn(&self.gateway, why);
    }

    /// Counts a stream. Returns `None` if the connection is retired or full.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let lease = Lease { connection: Arc::clone(self), permit: None };
        self.load.opened.fetch_add(1, Ordering::Relaxed);
        let before = self.load.streams.fetch_add(1, Ordering::Relaxed);
        (before < self.lane.handles_max()).then_some(lease)
    }

    /// As [`Connection::lease`], but also returns `None` if the gateway's limit of concurrent streams is reached: the
    /// call would wait for another stream to end.
    pub(crate) fn lease_if_free(self: &Arc<Self>) -> Option<Lease> {
        let room = self.load.active() < self.send.current_max_send_streams().max(1);
        room.then(|| self.lease()).flatten()
    }

    /// Whether it accepts new streams.
    pub(crate) fn is_open(&self) -> bool {
        !self.load.is_retired()
    }

    /// Returns the lane of calls that it carries.
    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    /// Ends the exclusive use by one call. The connection returns to the pool if the call ended cleanly; otherwise it
    /// is closed, so that the gateway drops what it buffers of the request.
    fn release_exclusive(connection: &Arc<Self>) {
        let clean = connection.is_open() && connection.load.resets.load(Ordering::Relaxed) == 0;
        match connection.spare.upgrade().filter(|_| clean) {
            Some(spare) => spare.give_back(Arc::clone(connection)),
            None => connection.retire(),
        }
    }

    /// Stops accepting new streams.
    pub(crate) fn retire(&self) {
        self.load.retire();
    }

    /// Queues a stream handle to be reset by the reaper.
    pub(crate) fn abandon(&self, handle: StreamHandle) {
        let resets = self.load.resets.fetch_add(1, Ordering::Relaxed) + 1;
        if resets >= RESETS_MAX || self.load.backlog.load(Ordering::Relaxed) >= BACKLOG_MAX {
            self.retire();
        }
        // If the task has ended, the connection is closed and there is nothing to reset.
        let _ = self.abandoned.send(handle);
    }

    /// Opens a stream. An error means that nothing was sent.
    pub(crate) fn start(
        &self,
        path: &'static str,
        headers: HeaderMap,
        end_stream: bool,
    ) -> Result<OpenedStream, h2::Error> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path are there");
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        // A separate handle: a shared one fails while the peer's stream limit is reached, a fresh one queues.
        self.send.clone().send_request(request, end_stream)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
