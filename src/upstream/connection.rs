//! One HTTP/2 connection to a gateway, with what was probed on it.
//!
//! The h2 client itself and not hyper's around it: a stream that its caller has left must be handed over and reset
//! later, which takes the handles of the stream, and no task is started for a call.
//!
//! Invariants
//! - it is used from the runtime that opened it, and its one task (`drive`) ends with it;
//! - it carries calls of one lane, whose windows it has;
//! - the generation is the one that this very connection was probed for;
//! - once retired it takes no new stream, serves those that it has to their end, and closes.

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

use super::bounds::{Permit, Seat};
use super::budget::Budget;
use super::drive::Task;
use super::generation::Detected;
use super::identity::Identity;
use super::lane::Lane;
use super::probe::{HEALTH, Probe};
use super::reaper::{Piece, Reaper};
use super::spare::Spare;
use super::targets::Target;
use crate::config::Gateways;
use crate::error::{Error, Reason};
use crate::net::connect::{self, Protocol};
use crate::net::x509;

/// What is buffered of one request until the gateway takes it.
const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;
/// Headers of one answer.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Resets after which a connection is replaced: h2 closes one after 1,024 in its lifetime.
const RESETS_MAX: usize = 900;
/// Streams waiting for their reset that make a connection one to be replaced: they still count as open at the peer.
const BACKLOG_MAX: usize = 256;
/// How long the handles of streams that were reset are remembered, so that late frames are no error.
const RESET_MEMORY: Duration = Duration::from_secs(30);
/// Marks a connection that takes no new stream; the bits below count streams.
const RETIRED: usize = 1 << (usize::BITS - 1);

/// A connection that stands.
#[derive(Debug)]
pub(crate) struct Connection {
    send: SendRequest<Bytes>,
    dead: UnboundedSender<Piece>,
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
    spare: Weak<Spare>,
}

/// What a connection is opened for.
#[derive(Debug)]
pub(crate) struct Purpose {
    /// The calls that it carries.
    pub(crate) lane: Lane,
    /// Held until it is closed.
    pub(crate) seat: Option<Seat>,
    /// Where it goes when its one call has ended.
    pub(crate) spare: Weak<Spare>,
}

/// How much is going on on a connection.
#[derive(Debug, Default)]
pub(crate) struct Load {
    streams: AtomicUsize,
    /// Streams since it was opened.
    pub(crate) opened: AtomicUsize,
    resets: AtomicUsize,
    /// Streams waiting for their reset.
    pub(crate) backlog: AtomicUsize,
}

impl Load {
    /// Takes no new stream from now on.
    pub(crate) fn retire(&self) {
        self.streams.fetch_or(RETIRED, Ordering::Relaxed);
    }

    /// Handles of streams that are open.
    pub(crate) fn active(&self) -> usize {
        self.streams.load(Ordering::Relaxed) & !RETIRED
    }

    /// Whether it takes no new stream.
    pub(crate) fn is_retired(&self) -> bool {
        self.streams.load(Ordering::Relaxed) & RETIRED != 0
    }

    /// Retires it unless a stream is open.
    pub(crate) fn close_idle(&self) -> bool {
        let unused =
            self.streams.compare_exchange(0, RETIRED, Ordering::Relaxed, Ordering::Relaxed);
        unused.map_or_else(|streams| streams == RETIRED, |_| true)
    }
}

/// A stream's share of a connection: as long as it is held the connection is in use.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Arc<Connection>,
    permit: Option<Arc<Permit>>,
}

impl std::ops::Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Lease {
    /// Another handle of the same stream needs the connection as well.
    pub(crate) fn again(&self) -> Self {
        self.connection.load.streams.fetch_add(1, Ordering::Relaxed);
        Self { connection: Arc::clone(&self.connection), permit: self.permit.clone() }
    }

    /// Holds what lets the stream be open.
    pub(crate) fn permitted(mut self, permit: Option<Arc<Permit>>) -> Self {
        self.permit = permit;
        self
    }

    /// What lets the stream be open.
    pub(crate) fn permit(&self) -> Option<&Arc<Permit>> {
        self.permit.as_ref()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let before = self.connection.load.streams.fetch_sub(1, Ordering::Relaxed);
        if self.connection.lane == Lane::Exclusive && before & !RETIRED == 1 {
            Connection::left(&self.connection);
        }
    }
}

/// The two handles of a stream that was opened.
pub(crate) type Opened = (ResponseFuture, SendStream<Bytes>);

impl Connection {
    /// Connects for unary calls, and asks for the version. Within the configured times.
    ///
    /// # Errors
    /// `ADDRESS_FORBIDDEN` or `GATEWAY_UNREACHABLE`; what happened is logged.
    pub(crate) async fn open(target: &Target, config: &Gateways) -> Result<Self, Error> {
        let purpose = Purpose { lane: Lane::Unary, seat: None, spare: Weak::new() };
        Self::open_for(purpose, target, config).await
    }

    /// Connects for a purpose, and asks for the version.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(crate) async fn open_for(
        purpose: Purpose,
        target: &Target,
        config: &Gateways,
    ) -> Result<Self, Error> {
        let within = config.connect_timeout();
        target.identity.ready().await?;
        let (host, networks) = (&target.host, &config.allowed_networks);
        let stream = connect::connect(&target.names, host, target.port, networks, within).await?;
        let (mut connection, server_cert) = match &target.tls {
            None => (Self::handshake(stream, purpose, target, config).await?, None),
            Some(tls) => {
                let stream = connect::tls(stream, host, tls, Protocol::Http2, within).await?;
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let expires = shown.and_then(|der| x509::expiry(der));
                (Self::handshake(stream, purpose, target, config).await?, expires)
            }
        };
        let asked = Instant::now();
        let failed = |why: &str| {
            warn!(gateway = %target.name, why, "a gateway does not say whether it is well");
            Self::unreachable(&target.name)
        };
        let answer = timeout(config.probe_timeout(), connection.ask(HEALTH, &[])).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(failed(&why.to_string())),
            Err(_) => return Err(failed("no answer in time")),
        };
        let probe =
            Probe::read(answer, asked.elapsed()).ok_or_else(|| failed("its answer is none"))?;
        let generation = target.pinned.map_or(probe.generation, Detected::Known);
        connection.probe = Probe { generation, server_cert, ..probe };
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
        let Purpose { lane, seat, spare } = purpose;
        let shaken = h2::client::Builder::new()
            .initial_window_size(lane.stream_window())
            .initial_connection_window_size(lane.connection_window())
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_reset_streams(RESETS_MAX + BACKLOG_MAX)
            .reset_stream_duration(RESET_MEMORY)
            .enable_push(false)
            .handshake(io);
        let (send, mut h2) = match timeout(config.connect_timeout(), shaken).await {
            Ok(shaken) => shaken.map_err(|error| failed(&error))?,
            Err(_) => return Err(failed(&"no handshake in time")),
        };
        let ping = h2.ping_pong();
        let (dead, buried) = unbounded_channel();
        let load = Arc::new(Load::default());
        let task = Task {
            load: Arc::clone(&load),
            gateway: Arc::clone(&target.name),
            idle: config.idle(),
            reaper: Reaper::default(),
            _seat: seat,
        };
        crate::net::own(async move { task.run(h2, ping, buried).await });
        let authority = authority(&target.host, target.port).map_err(|error| failed(&error))?;
        Ok(Self {
            send,
            dead,
            load,
            probe: Probe::read(Bytes::new(), Duration::ZERO).expect("no bytes are a message"),
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

    /// What a caller is told of a gateway that does not answer: its name and no more.
    pub(crate) fn unreachable(gateway: &str) -> Error {
        let why = format!("gateway `{gateway}` cannot be reached");
        Error::unavailable(Reason::GatewayUnreachable, why)
    }

    /// What a caller is told of a gateway that is not the one any more that its call was read for.
    pub(crate) fn changed(gateway: &str) -> Error {
        let why = format!("gateway `{gateway}` has changed, call again");
        Error::unavailable(Reason::GatewayUnreachable, why)
    }

    /// What was probed on it.
    pub(crate) fn probe(&self) -> &Probe {
        &self.probe
    }

    /// What the target's `connection_version` was when it was opened.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Name of the gateway.
    pub(crate) fn gateway(&self) -> &Arc<str> {
        &self.gateway
    }

    /// Name of the gateway, as a header.
    pub(crate) fn gateway_header(&self) -> HeaderValue {
        self.gateway_header.clone()
    }

    /// What is shown to the gateway.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        self.identity.header()
    }

    /// Fetches the credential if it is a token that has to be fetched.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        self.identity.ready().await
    }

    /// How much of what the gateway says is read on our own account.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Counts a stream in. Returns `None` if the connection is retired or full.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let lease = Lease { connection: Arc::clone(self), permit: None };
        self.load.opened.fetch_add(1, Ordering::Relaxed);
        let before = self.load.streams.fetch_add(1, Ordering::Relaxed);
        (before < self.lane.handles_max()).then_some(lease)
    }

    /// The same, unless the gateway itself takes no further stream on it: it would wait for the end of another.
    pub(crate) fn lease_at_once(self: &Arc<Self>) -> Option<Lease> {
        let room = self.load.active() < self.send.current_max_send_streams().max(1);
        room.then(|| self.lease()).flatten()
    }

    /// Whether it takes new streams.
    pub(crate) fn is_open(&self) -> bool {
        !self.load.is_retired()
    }

    /// The calls that it carries.
    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    /// Ends its use by one call: it is given back where the call has ended well, or else closed, with which the gateway
    /// drops what it has kept of the request.
    fn left(connection: &Arc<Self>) {
        let clean = connection.is_open() && connection.load.resets.load(Ordering::Relaxed) == 0;
        match connection.spare.upgrade().filter(|_| clean) {
            Some(spare) => spare.give_back(Arc::clone(connection)),
            None => connection.retire(),
        }
    }

    /// Takes no new stream from now on.
    pub(crate) fn retire(&self) {
        self.load.retire();
    }

    /// Leaves a stream to be reset when its turn comes.
    pub(crate) fn bury(&self, piece: Piece) {
        let resets = self.load.resets.fetch_add(1, Ordering::Relaxed) + 1;
        if resets >= RESETS_MAX || self.load.backlog.load(Ordering::Relaxed) >= BACKLOG_MAX {
            self.retire();
        }
        // Where the task is gone so is the connection, and there is nothing to reset.
        let _ = self.dead.send(piece);
    }

    /// Opens a stream. An error here means that nothing was sent.
    pub(crate) fn start(
        &self,
        path: &'static str,
        headers: HeaderMap,
        ended: bool,
    ) -> Result<Opened, h2::Error> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path are there");
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        // A handle of its own: a shared one refuses while the peer's limit of streams is reached, this one queues.
        self.send.clone().send_request(request, ended)
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
