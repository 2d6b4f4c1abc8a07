//! One HTTP/2 connection to a gateway, with what was probed on it.
//!
//! The h2 client itself and not hyper's around it: a stream that its caller has left must be handed over and reset
//! later, which takes the handles of the stream, and no task is started for a call.
//!
//! Invariants
//! - it is used from the runtime that opened it, and its one task ends with it;
//! - the generation is the one that this very connection was probed for;
//! - once retired it takes no new stream, serves those that it has to their end, and closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::reaper::{Piece, Reaper};
use crate::config::Gateways;
use crate::error::{Error, Reason};
use crate::net::connect::{self, Protocol};
use crate::openshell::budget::Budget;
use crate::openshell::{HEALTH, Probe};
use crate::resources::gateways::certificates;
use crate::resources::gateways::identity::Identity;
use crate::resources::gateways::targets::Target;

/// What one stream may have in flight towards us: 64 KiB would throttle exec and files.
const STREAM_WINDOW: u32 = 1 << 20;
/// What all streams of a connection may have in flight towards us.
const CONNECTION_WINDOW: u32 = 4 << 20;
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
/// How often a connection in use is asked whether it lives; it must have answered by the next time.
const KEEPALIVE: Duration = Duration::from_secs(20);
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
}

#[derive(Debug, Default)]
struct Load {
    streams: AtomicUsize,
    opened: AtomicUsize,
    resets: AtomicUsize,
    backlog: AtomicUsize,
}

impl Load {
    fn retire(&self) {
        self.streams.fetch_or(RETIRED, Ordering::Relaxed);
    }

    fn active(&self) -> usize {
        self.streams.load(Ordering::Relaxed) & !RETIRED
    }
}

/// A stream's share of a connection: as long as it is held the connection is in use.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Connection>);

impl std::ops::Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl Lease {
    /// Another handle of the same stream needs the connection as well.
    pub(crate) fn again(&self) -> Self {
        self.0.load.streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.load.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The two handles of a stream that was opened.
pub(crate) type Opened = (ResponseFuture, SendStream<Bytes>);

impl Connection {
    /// Connects, and asks for the version. Within the configured times.
    ///
    /// # Errors
    /// `ADDRESS_FORBIDDEN` or `GATEWAY_UNREACHABLE`; what happened is logged.
    pub(crate) async fn open(target: &Target, config: &Gateways) -> Result<Self, Error> {
        let within = config.connect_timeout();
        target.identity.ready().await?;
        let (host, networks) = (&target.host, &config.allowed_networks);
        let stream = connect::connect(&target.names, host, target.port, networks, within).await?;
        let (mut connection, server_cert) = match &target.tls {
            None => (Self::handshake(stream, target, config).await?, None),
            Some(tls) => {
                let stream = connect::tls(stream, host, tls, Protocol::Http2, within).await?;
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let expires = shown.and_then(|der| certificates::expiry(der));
                (Self::handshake(stream, target, config).await?, expires)
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
        let generation = target.pinned.unwrap_or(probe.generation);
        connection.probe = Probe { generation, server_cert, ..probe };
        Ok(connection)
    }

    async fn handshake(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        target: &Target,
        config: &Gateways,
    ) -> Result<Self, Error> {
        let failed = |why: &dyn std::fmt::Display| {
            warn!(gateway = %target.name, %why, "a gateway does not speak HTTP/2");
            Self::unreachable(&target.name)
        };
        let shaken = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
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
        };
        super::own(async move { task.run(h2, ping, buried).await });
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
    pub(super) async fn ready(&self) -> Result<(), Error> {
        self.identity.ready().await
    }

    /// How much of what the gateway says is read on our own account.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Counts a stream in; none where it is retired.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let lease = Lease(Arc::clone(self));
        self.load.opened.fetch_add(1, Ordering::Relaxed);
        let before = self.load.streams.fetch_add(1, Ordering::Relaxed);
        (before & RETIRED == 0).then_some(lease)
    }

    /// Whether it takes new streams.
    pub(crate) fn is_open(&self) -> bool {
        self.load.streams.load(Ordering::Relaxed) & RETIRED == 0
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

/// What drives a connection.
struct Task {
    load: Arc<Load>,
    gateway: Arc<str>,
    idle: Duration,
    reaper: Reaper,
}

impl Task {
    async fn run<T: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        mut h2: h2::client::Connection<T, Bytes>,
        mut ping: Option<PingPong>,
        mut buried: UnboundedReceiver<Piece>,
    ) {
        let mut asked = false;
        let mut opened = 0;
        let (mut used, mut keepalive) = (Instant::now(), Instant::now() + KEEPALIVE);
        loop {
            let reap = self.reaper.next();
            tokio::select! {
                biased;
                ended = &mut h2 => {
                    if let Err(error) = ended {
                        debug!(gateway = %self.gateway, %error, "a connection has ended");
                    }
                    break;
                }
                Some(piece) = buried.recv() => {
                    self.reaper.bury(piece);
                    while let Ok(more) = buried.try_recv() {
                        self.reaper.bury(more);
                    }
                    self.reap();
                }
                () = sleep_until(reap.unwrap_or(keepalive)), if reap.is_some() => self.reap(),
                () = pong(&mut ping), if asked => asked = false,
                () = sleep_until(keepalive.min(used + self.idle)) => {
                    let now = Instant::now();
                    let since = std::mem::replace(&mut opened, self.load.opened.load(Ordering::Relaxed));
                    if self.load.active() > 0 || opened != since {
                        used = now;
                    } else if now >= used + self.idle && self.close_idle() {
                        break;
                    }
                    if now >= keepalive {
                        if asked {
                            warn!(gateway = %self.gateway, "a connection has gone silent");
                            break;
                        }
                        keepalive = now + KEEPALIVE;
                        asked = self.load.active() > 0 && send_ping(&mut ping);
                    }
                }
            }
        }
        self.load.retire();
    }

    fn reap(&mut self) {
        self.reaper.work(Instant::now());
        self.load.backlog.store(self.reaper.backlog(), Ordering::Relaxed);
    }

    /// Closes it unless a stream has come in between.
    fn close_idle(&self) -> bool {
        let load = &self.load.streams;
        load.compare_exchange(0, RETIRED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn send_ping(ping: &mut Option<PingPong>) -> bool {
    ping.as_mut().is_some_and(|ping| ping.send_ping(Ping::opaque()).is_ok())
}

async fn pong(ping: &mut Option<PingPong>) {
    if let Some(ping) = ping {
        // An error ends the connection itself, which is seen there.
        let _ = std::future::poll_fn(|cx| ping.poll_pong(cx)).await;
    }
}
