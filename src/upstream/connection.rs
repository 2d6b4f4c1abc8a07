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
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::bounds::{ConnectionPermit, StreamPermit};
use super::budget::Budget;
use super::drive::ConnectionTask;
use super::generation::DetectedGeneration;
use super::identity::Identity;
use super::lane::Lane;
use super::probe::{HEALTH, Probe};
use super::reaper::{Reaper, StreamHandle};
use super::spare::SparePool;
use super::targets::Target;
use crate::config::Gateways;
use crate::error::{Error, Reason};
use crate::net::connect::{self, Protocol};
use crate::net::x509;

/// Send buffer of one request, until the gateway reads it.
const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;
/// Maximum size of the response headers.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Resets after which a connection is replaced: h2 closes a connection after 1,024 in its lifetime.
const RESETS_MAX: usize = 900;
/// Number of streams awaiting their reset at which a connection is replaced: they still count as open at the peer.
const BACKLOG_MAX: usize = 256;
/// How long reset streams are remembered, so that late frames are not an error.
const RESET_MEMORY: Duration = Duration::from_secs(30);
/// Flag of a connection that accepts no new stream; the lower bits count stream handles.
const RETIRED: usize = 1 << (usize::BITS - 1);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    send: SendRequest<Bytes>,
    abandoned: UnboundedSender<StreamHandle>,
    load: Arc<Load>,
    probe: Probe,
    version: u64,
    scheme: Scheme,
    authority: Authority,
    identity: Identity,
    budget: Arc<Budget>,
    gateway: Arc<str>,
    gateway_header: HeaderValue,
    lane: Lane,
    spare: Weak<SparePool>,
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
    /// Connects for unary calls and probes the version, within the configured timeouts.
    ///
    /// # Errors
    /// `ADDRESS_FORBIDDEN`, `GATEWAY_UNREACHABLE` or `GATEWAY_TOKEN_UNAVAILABLE`; the cause is logged.
    pub(crate) async fn open(target: &Target, config: &Gateways) -> Result<Self, Error> {
        let purpose = Purpose { lane: Lane::Unary, connection_permit: None, spare: Weak::new() };
        Self::open_for(purpose, target, config).await
    }

    /// Connects for a purpose and probes the version.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(crate) async fn open_for(
        purpose: Purpose,
        target: &Target,
        config: &Gateways,
    ) -> Result<Self, Error> {
        let within = config.connect_timeout();
        target.identity.ensure_credential().await?;
        let (host, networks) = (&target.host, &config.allowed_networks);
        let stream = connect::connect(&target.names, host, target.port, networks, within).await?;
        let (mut connection, server_cert_expires_at) = match &target.tls {
            None => (Self::handshake(stream, purpose, target, config).await?, None),
            Some(tls) => {
                let stream =
                    connect::tls_handshake(stream, host, tls, Protocol::Http2, within).await?;
                let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let expires = certificate.and_then(|der| x509::expiry(der));
                (Self::handshake(stream, purpose, target, config).await?, expires)
            }
        };
        let sent_at = Instant::now();
        let failed = |why: &str| {
            warn!(gateway = %target.name, why, "a gateway does not say whether it is well");
            Self::unreachable(&target.name)
        };
        let answer = timeout(config.probe_timeout(), connection.call_unary(HEALTH, &[])).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(failed(&why.to_string())),
            Err(_) => return Err(failed("no answer in time")),
        };
        let probe = Probe::from_health(answer, sent_at.elapsed())
            .ok_or_else(|| failed("its response is not valid"))?;
        let generation = target.pinned.map_or(probe.generation, DetectedGeneration::Known);
        connection.probe = Probe { generation, server_cert_expires_at, ..probe };
        Ok(connection)
    }

    async fn handshake(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        purpose: Purpose,
        target: &Target,
        config: &Gateways,
    ) -> Result<Self, Error> {
        let failed = |why: &dyn std::fmt::Display| {
            warn!(gateway = %target.name, %why, "a gateway does not speak HTTP/2");
            Self::unreachable(&target.name)
        };
        let Purpose { lane, connection_permit, spare } = purpose;
        let handshake = h2::client::Builder::new()
            .initial_window_size(lane.stream_window())
            .initial_connection_window_size(lane.connection_window())
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_reset_streams(RESETS_MAX + BACKLOG_MAX)
            .reset_stream_duration(RESET_MEMORY)
            .enable_push(false)
            .handshake(io);
        let (send, mut h2) = match timeout(config.connect_timeout(), handshake).await {
            Ok(handshake) => handshake.map_err(|error| failed(&error))?,
            Err(_) => return Err(failed(&"no handshake in time")),
        };
        let ping = h2.ping_pong();
        let (abandoned, abandoned_handles) = unbounded_channel();
        let load = Arc::new(Load::default());
        let task = ConnectionTask {
            load: Arc::clone(&load),
            gateway: Arc::clone(&target.name),
            idle_timeout: config.idle(),
            reaper: Reaper::default(),
            _permit: connection_permit,
        };
        crate::net::spawn_owned(async move { task.run(h2, ping, abandoned_handles).await });
        let authority = authority(&target.host, target.port).map_err(|error| failed(&error))?;
        Ok(Self {
            send,
            abandoned,
            load,
            probe: Probe::from_health(Bytes::new(), Duration::ZERO)
                .expect("no bytes are a message"),
            version: target.connection_version,
            scheme: if target.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            authority,
            identity: target.identity.clone(),
            budget: Arc::clone(&target.budget),
            gateway_header: HeaderValue::from_str(&target.name).map_err(|error| failed(&error))?,
            gateway: Arc::clone(&target.name),
            lane,
            spare,
        })
    }

    /// Returns the error for an unreachable gateway. Callers see only its name.
    pub(crate) fn unreachable(gateway: &str) -> Error {
        let why = format!("gateway `{gateway}` cannot be reached");
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

fn authority(host: &str, port: u16) -> Result<Authority, http::uri::InvalidUri> {
    let text =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Authority::try_from(text)
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
