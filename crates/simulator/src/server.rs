//! The listener and its connections, each of which is a task that ends with the simulator.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tracing::debug;

use super::front::Interceptor;

/// How long calls may continue after the simulator is stopped.
const DRAIN: Duration = Duration::from_millis(500);

/// Timeout of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Maximum number of streams per connection.
const STREAMS_MAX: u32 = 1_024;

/// Receive window of a connection and of each of its streams, in bytes. Equal to the initial window of a real gateway:
/// one request body that is not read uses up the window of its whole connection.
const WINDOW_BYTES: u32 = 65_535;

/// State that every connection needs.
#[derive(Clone)]
pub(super) struct Server {
    /// The steps before the methods.
    pub(super) interceptor: Arc<Interceptor>,
    /// The methods.
    pub(super) routes: Routes,
    /// Accepts TLS connections, if configured.
    pub(super) tls: Option<TlsAcceptor>,
    /// All tasks of the simulator.
    pub(super) tasks: TaskTracker,
    /// Canceled when the simulator stops.
    pub(super) stop: CancellationToken,
    /// Counts the connections.
    pub(super) connections: Arc<Connections>,
}

/// Counts of connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// Number of connections accepted since the start.
    pub(super) accepted: AtomicUsize,
    /// Number of open connections.
    pub(super) open: AtomicUsize,
}

/// An open connection, which is counted until it is dropped.
struct OpenConnection(Arc<Connections>);

impl OpenConnection {
    fn new(connections: &Arc<Connections>) -> Self {
        connections.accepted.fetch_add(1, Ordering::Relaxed);
        connections.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Spawns hyper's tasks on the simulator's tracker.
#[derive(Clone)]
struct TrackedExecutor(TaskTracker);

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

impl Server {
    /// Accepts connections until the simulator stops.
    pub(super) async fn serve(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let server = self.clone();
                    let open = OpenConnection::new(&self.connections);
                    self.tasks.spawn(async move {
                        let _open = open;
                        if let Err(error) = server.accept(stream).await {
                            debug!(%error, "a connection to the simulator has ended");
                        }
                    });
                }
                Err(error) => {
                    debug!(%error, "the simulator could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn accept(self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let Some(tls) = self.tls.clone() else {
            return self.serve_connection(stream, None).await;
        };
        let stream = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await??;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = certificates.first().and_then(common_name);
        self.serve_connection(stream, peer).await
    }

    async fn serve_connection(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Option<String>,
    ) -> io::Result<()> {
        let drop = CancellationToken::new();
        let calls = {
            let (server, drop) = (self.clone(), drop.clone());
            service_fn(move |request| {
                let (server, drop, peer) = (server.clone(), drop.clone(), peer.clone());
                async move {
                    let answer =
                        server.interceptor.call(request, server.routes, peer, server.stop).await;
                    let Some(answer) = answer else {
                        drop.cancel();
                        // An error would reset the stream before the connection ends.
                        return std::future::pending().await;
                    };
                    Ok::<_, io::Error>(answer)
                }
            })
        };
        let connection = http2::Builder::new(TrackedExecutor(self.tasks.clone()))
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .serve_connection(TokioIo::new(stream), calls);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            () = drop.cancelled() => return Ok(()),
            done = connection.as_mut() => return done.map_err(io::Error::other),
            () = self.stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            biased;
            () = drop.cancelled() => Ok(()),
            drained = tokio::time::timeout(DRAIN, connection) => match drained {
                Ok(done) => done.map_err(io::Error::other),
                Err(_) => Ok(()),
            },
        }
    }
}

/// Returns the common name of a client certificate.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}
