//! The listener, the cores behind it, and their shutdown.
//!
//! One port serves HTTP/2 and HTTP/1. One acceptor on main hands each accepted socket to the core with the fewest
//! connections. A core is a current-thread runtime that runs the layers and the proxy; everything else runs on main.
//! `stack` defines the layers and their order. `connections` limits connections and closes idle ones.
//!
//! Shutdown: accept no more connections, end streams at once, let the cores finish their calls, then finish writes and
//! outcomes, then main. A connection is closed when it has no call in flight, whether or not its streams were read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::connections::{ConnectionLimits, Connections, RefusalReason, Slot};
use super::descriptors::{self, SpareDescriptor};
use super::reload::ListenerState;
use super::shared::SharedState;
use super::speak::{ConnectionError, serve_http};
use super::stages::Peer;
use super::tls::Tls;
use super::{health, services};
use crate::access::live::EndReason;
use crate::app::App;
use crate::error::Error;
use crate::resources::webhooks::outbound::Outbound;

/// Pause of the acceptor if not even the spare descriptor helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Stack size of a core: builds without optimization poll through all layers with large frames.
const CORE_STACK_BYTES: usize = 4 << 20;
/// Maximum number of accepted connections that wait for one core.
const CORE_QUEUE_MAX: usize = 1_024;
/// Time that the end of a core waits for blocking work, such as DNS lookups.
const CORE_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The acceptor's handle of a core.
struct Core {
    sockets: mpsc::Sender<AcceptedConnection>,
    connections: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

/// An accepted connection on its way to a core.
struct AcceptedConnection {
    socket: std::net::TcpStream,
    address: SocketAddr,
    slot: Slot,
}

/// A running server.
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    stopped: tokio::task::JoinHandle<()>,
}

impl RunningServer {
    /// Returns the address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server has stopped, after `app.stop` was canceled.
    pub async fn stopped(self) {
        let _ = self.stopped.await;
    }
}

/// Starts to serve on a bound listener.
///
/// # Errors
/// `Unavailable` if a certificate or key cannot be used; internal if a thread cannot be started.
pub async fn serve(app: &Arc<App>, listener: TcpListener) -> Result<RunningServer, Error> {
    let address = listener.local_addr().map_err(Error::internal)?;
    if let Some(tls) = Tls::load(&app.config.server.tls).await? {
        let _ = app.part::<ListenerState>().tls.set(tls);
    }
    let router = services::routes(app, health::start(app)).prepare().into_axum_router();
    let shared = SharedState::new(app, router);
    let (mut cores, core_count) = (Vec::new(), core_count(app.config.server.cores));
    let descriptors = descriptors::raise_limit();
    let room = descriptors::room(descriptors, &app.config, core_count);
    let bounds = ConnectionLimits::from_config(&app.config.limits, room.callers);
    let to_receivers = app.part::<Outbound>().connections().lower_limit(room.receivers);
    let connections = Connections::new(bounds, app.config.server.trusted_proxies.clone());
    for number in 0..core_count {
        cores.push(start_core(number, shared.for_core()).map_err(Error::internal)?);
    }
    let tls = app.part::<ListenerState>().tls.get().is_some();
    let ConnectionLimits { total, address: each, .. } = bounds;
    info!(%address, cores = core_count, tls, descriptors, connections_max = total, address_connections_max = each, webhook_connections_max = to_receivers, "serving");
    let task_app = Arc::clone(app);
    let stopped = app.main_runtime().spawn(accept(task_app, listener, connections, cores));
    app.part::<ListenerState>().listening.store(true, Ordering::Release);
    Ok(RunningServer { address, stopped })
}

fn core_count(configured: u16) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n.into(),
    }
}

/// Accepts connections until the process stops, then waits for the cores.
async fn accept(
    app: Arc<App>,
    listener: TcpListener,
    connections: Arc<Connections>,
    cores: Vec<Core>,
) {
    let mut spare = SpareDescriptor::new();
    loop {
        let accepted = async {
            connections.wait_aborted_dropped().await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            () = app.stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((socket, address)) => {
                if let Err(refused) = hand_over(&connections, &cores, socket, address) {
                    refused.count();
                }
            }
            Err(error) if descriptors::are_exhausted(&error) => {
                RefusalReason::Descriptors.count();
                connections.make_room();
                if !spare.refuse_next(&listener).await {
                    warn!(error = &error as &dyn std::error::Error, "no connection is accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            // Only this connection is lost.
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "a connection was not accepted");
            }
        }
    }
    drop(listener);
    app.live.drain();
    let threads: Vec<_> = cores.into_iter().map(|core| core.thread).collect();
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|t| t.join().is_ok()));
    if !matches!(joined.await, Ok(true)) {
        warn!("a core ended in a panic");
    }
}

/// Hands a connection to the core with the fewest connections, or closes it.
fn hand_over(
    connections: &Arc<Connections>,
    cores: &[Core],
    socket: TcpStream,
    address: SocketAddr,
) -> Result<(), RefusalReason> {
    let slot = connections.admit(address.ip())?;
    let socket = socket.into_std().map_err(|_| RefusalReason::Descriptors)?;
    let least = cores.iter().min_by_key(|core| core.connections.load(Ordering::Relaxed));
    let core = least.ok_or(RefusalReason::Core)?;
    core.connections.fetch_add(1, Ordering::Relaxed);
    core.sockets.try_send(AcceptedConnection { socket, address, slot }).map_err(|_| {
        core.connections.fetch_sub(1, Ordering::Relaxed);
        RefusalReason::Core
    })
}

fn start_core(number: usize, shared: SharedState) -> io::Result<Core> {
    let (sockets, receiver) = mpsc::channel(CORE_QUEUE_MAX);
    let connections = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counted = Arc::clone(&connections);
    let thread = std::thread::Builder::new().name(format!("core-{number}"));
    let thread = thread.stack_size(CORE_STACK_BYTES).spawn(move || {
        runtime.block_on(run_core(Arc::new(shared), receiver, counted));
        runtime.shutdown_timeout(CORE_SHUTDOWN_TIMEOUT);
    })?;
    Ok(Core { sockets, connections, thread })
}

/// Runs one core: a task for each connection, until the process stops and all tasks are done.
async fn run_core(
    shared: Arc<SharedState>,
    mut sockets: mpsc::Receiver<AcceptedConnection>,
    connections: Arc<AtomicUsize>,
) {
    let tasks = TaskTracker::new();
    let stop = shared.app.stop.clone();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            received = sockets.recv() => match received {
                Some(received) => received,
                None => break,
            },
        };
        let (shared, connections) = (Arc::clone(&shared), Arc::clone(&connections));
        let AcceptedConnection { socket, address, slot } = accepted;
        tasks.spawn(async move {
            let slot = Arc::new(slot);
            let ended = tokio::select! {
                ended = serve_connection(shared, socket, address, &slot) => ended,
                () = slot.wait_abort() => Ok(()),
            };
            if let Err(error) = ended {
                debug!(error = &*error, %address, "a connection ended");
            }
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
    tasks.close();
    let drain = shared.app.config.server.drain();
    if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
        // The drain time is over: ends the calls that are still open with a status.
        shared.app.live.end_all(EndReason::Draining);
        let _ = tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await;
    }
}

async fn serve_connection(
    shared: Arc<SharedState>,
    socket: std::net::TcpStream,
    address: SocketAddr,
    slot: &Arc<Slot>,
) -> Result<(), ConnectionError> {
    let socket = TcpStream::from_std(socket)?;
    socket.set_nodelay(true)?;
    let app = Arc::clone(&shared.app);
    let Some(tls) = app.part::<ListenerState>().tls.get() else {
        let peer = Peer { address, certificate: None, in_flight: Arc::default() };
        return serve_http(shared, socket, peer, slot).await;
    };
    // In a box: TLS would also make the task of each plaintext connection several times larger.
    Box::pin(serve_tls(shared, tls, socket, address, slot)).await
}

/// Serves a connection with TLS. What the handshake needs is freed after it.
async fn serve_tls(
    shared: Arc<SharedState>,
    tls: &Tls,
    socket: TcpStream,
    address: SocketAddr,
    slot: &Arc<Slot>,
) -> Result<(), ConnectionError> {
    let within = shared.app.config.server.handshake();
    let stop = shared.app.stop.clone();
    let handshake = Box::pin(tokio::time::timeout(within, tls.accept(socket)));
    let (socket, verified) = tokio::select! {
        shaken = handshake => shaken??,
        () = stop.cancelled() => return Ok(()),
    };
    let certificate = verified.as_ref().map(|verified| verified.certificate.clone());
    let peer = Peer { address, certificate, in_flight: Arc::default() };
    let served = Box::pin(serve_http(shared, socket, peer, slot));
    match verified {
        None => served.await,
        // The identity of a certificate is no longer valid when the CA for callers changes. The streams of the
        // connection end with it: the caller must reconnect and is verified again.
        Some(mut verified) => tokio::select! {
            served = served => served,
            () = verified.wait_ca_changed() => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maximum size of the task of a connection without TLS, without what it has in boxes, in bytes.
    const TASK_BYTES_MAX: usize = 3 << 10;

    type Arguments = (Arc<SharedState>, std::net::TcpStream, SocketAddr, &'static Arc<Slot>);

    fn size<F: Future>(_: impl FnOnce(Arguments) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_task_of_a_connection_stays_within_its_size_limit() {
        let bytes =
            size(|(shared, socket, address, slot)| serve_connection(shared, socket, address, slot));
        assert!(bytes <= TASK_BYTES_MAX, "{bytes} bytes");
    }
}
