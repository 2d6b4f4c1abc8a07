//! The monitoring listener: `/metrics`, `/healthz` (the process is alive) and `/readyz` (it accepts calls).
//!
//! Invariants
//! - it is separate from the API listener, so that a flood there does not affect monitoring;
//! - connections (in total and per address), their duration and the size of a response are limited, and one response is
//!   rendered at a time;
//! - slow connections do not block new ones: at a limit, a new connection replaces the oldest connection that has not
//!   sent its request, or the oldest if all have;
//! - it ends last, so that draining can be monitored.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::net::guard::accounting_address;

/// Maximum number of open connections.
pub(crate) const CONNECTIONS_MAX: usize = 32;
/// Maximum number of open connections per address: monitoring systems have few addresses and few concurrent requests.
const ADDRESS_CONNECTIONS_MAX: usize = 16;
/// Timeout of a connection, which serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for reading the request headers.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of the request headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Maximum size of a response: about fifty thousand series.
const METRICS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Interval at which values are folded into buckets even if metrics are not scraped.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after a failure to accept, which persists while the process has too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

struct Endpoint<R> {
    metrics: PrometheusHandle,
    ready: R,
    renders: Semaphore,
}

/// Serves until `shutdown`. `ready` returns whether calls are accepted; it must not block.
pub async fn serve<R>(
    listener: TcpListener,
    metrics: PrometheusHandle,
    ready: R,
    shutdown: CancellationToken,
) where
    R: Fn() -> bool + Send + Sync + 'static,
{
    let endpoint = Arc::new(Endpoint { metrics, ready, renders: Semaphore::new(1) });
    // Dropping the set at the end aborts the remaining connections.
    let mut connections = JoinSet::new();
    let mut open = OpenConnections::default();
    let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = upkeep.tick() => endpoint.metrics.run_upkeep(),
            Some(ended) = connections.join_next_with_id() => open.remove_task(match ended {
                Ok((id, ())) => id,
                Err(error) => error.id(),
            }),
            // An aborted connection ends soon, but holds its file descriptor until then.
            accepted = listener.accept(), if connections.len() < 2 * CONNECTIONS_MAX => match accepted {
                Ok((socket, peer)) => {
                    let address = accounting_address(peer.ip().to_canonical());
                    open.make_room(address);
                    let request_received = Arc::new(AtomicBool::new(false));
                    let serving = serve_connection(Arc::clone(&endpoint), socket, Arc::clone(&request_received));
                    open.0.push(OpenConnection { address, request_received, task: connections.spawn(serving) });
                }
                Err(error) => {
                    warn!(%error, "metrics listener cannot accept");
                    open.abort_oldest(|_| true);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// An open connection that was not aborted.
struct OpenConnection {
    address: IpAddr,
    /// Whether its request has arrived.
    request_received: Arc<AtomicBool>,
    task: AbortHandle,
}

/// The open connections, oldest first.
#[derive(Default)]
struct OpenConnections(Vec<OpenConnection>);

impl OpenConnections {
    /// Aborts a connection if another one from this address would exceed a limit.
    fn make_room(&mut self, address: IpAddr) {
        let same = |open: &OpenConnection| open.address == address;
        if self.0.iter().filter(|open| same(open)).count() >= ADDRESS_CONNECTIONS_MAX {
            self.abort_oldest(same);
        } else if self.0.len() >= CONNECTIONS_MAX {
            self.abort_oldest(|_| true);
        }
    }

    /// Aborts the oldest matching connection that has not sent its request, or the oldest one if all have.
    fn abort_oldest(&mut self, matches: impl Fn(&OpenConnection) -> bool) {
        let silent = |open: &OpenConnection| !open.request_received.load(Ordering::Relaxed);
        let silent = self.0.iter().position(|open| matches(open) && silent(open));
        let Some(at) = silent.or_else(|| self.0.iter().position(matches)) else { return };
        self.0.remove(at).task.abort();
    }

    fn remove_task(&mut self, id: Id) {
        self.0.retain(|open| open.task.id() != id);
    }
}

/// Serves one connection. Errors and timeouts of the peer are not logged.
async fn serve_connection<R>(
    endpoint: Arc<Endpoint<R>>,
    socket: TcpStream,
    request_received: Arc<AtomicBool>,
) where
    R: Fn() -> bool + Send + Sync + 'static,
{
    let answer = service_fn(|request| {
        request_received.store(true, Ordering::Relaxed);
        let endpoint = Arc::clone(&endpoint);
        async move { Ok::<_, std::convert::Infallible>(endpoint.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), answer);
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, served).await;
}

impl<R: Fn() -> bool + Send + Sync> Endpoint<R> {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text_response(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/metrics" => self.render().await,
            "/healthz" => text_response(StatusCode::OK, "alive\n"),
            "/readyz" if (self.ready)() => text_response(StatusCode::OK, "ready\n"),
            "/readyz" => text_response(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            _ => text_response(StatusCode::NOT_FOUND, "only /metrics, /healthz and /readyz\n"),
        }
    }

    async fn render(&self) -> Response<Full<Bytes>> {
        let Ok(_turn) = self.renders.acquire().await else {
            return text_response(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        };
        let metrics = self.metrics.clone();
        let rendered = tokio::task::spawn_blocking(move || {
            let mut bounded = BoundedBuffer { bytes: Vec::new(), bytes_max: METRICS_BYTES_MAX };
            metrics.render_to_write(&mut bounded).map(|()| bounded.bytes)
        });
        if let Ok(Ok(bytes)) = rendered.await {
            return text_response(StatusCode::OK, bytes);
        }
        warn!(bytes_max = METRICS_BYTES_MAX, "metrics are larger than the limit");
        text_response(StatusCode::INTERNAL_SERVER_ERROR, "the metrics are larger than the limit\n")
    }
}

fn text_response(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    // The content type of Prometheus's text format; the short responses are valid plain text as well.
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A buffer with a maximum size.
struct BoundedBuffer {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl io::Write for BoundedBuffer {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn get(port: u16, request: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket
            .write_all(format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_endpoint_serves_metrics_liveness_and_readiness() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::counter!("calls_total").increment(3));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ready, shutdown) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let is_ready = Arc::clone(&ready);
        let ready_now = move || is_ready.load(Ordering::Relaxed);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, recorder.handle(), ready_now, shutdown.clone()));

        assert!(get(port, "GET /metrics").await.contains("\ncalls_total 3\n"));
        assert!(get(port, "GET /healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(port, "GET /readyz").await.starts_with("HTTP/1.1 503"));
        ready.store(true, Ordering::Relaxed);
        assert!(get(port, "GET /readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(port, "GET /other").await.starts_with("HTTP/1.1 404"));
        assert!(get(port, "POST /metrics").await.starts_with("HTTP/1.1 405"));

        shutdown.cancel();
        tasks.join_next().await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_without_a_request_do_not_block_other_clients() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, recorder.handle(), || true, shutdown.clone()));
        let mut slow = Vec::new();
        for n in 0..3 * CONNECTIONS_MAX {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            if n % 2 == 0 {
                // Fails if the connection was already aborted.
                let _ = socket.write_all(b"GET /metrics HT").await;
            }
            slow.push(socket);
        }
        let begun = tokio::time::Instant::now();
        for path in ["GET /healthz", "GET /readyz", "GET /metrics"] {
            assert!(get(port, path).await.starts_with("HTTP/1.1 200"), "{path}");
        }
        assert!(begun.elapsed() < HEAD_TIMEOUT, "fast requests do not wait for slow ones");
        // The first connections were aborted for the later ones.
        let mut read = Vec::new();
        let ended = slow.remove(0).read_to_end(&mut read).await;
        assert!(ended.is_err() || read.is_empty(), "{read:?}");
        shutdown.cancel();
        tasks.join_next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn at_the_limit_the_oldest_connection_without_a_request_is_closed() {
        let mut tasks = JoinSet::new();
        let mut open = OpenConnections::default();
        let mut add = |open: &mut OpenConnections, address: &str, request_received: bool| {
            let task = tasks.spawn(std::future::pending::<()>());
            let address = address.parse().unwrap();
            open.make_room(address);
            let id = task.id();
            open.0.push(OpenConnection {
                address,
                request_received: Arc::new(request_received.into()),
                task,
            });
            id
        };
        let other = add(&mut open, "192.0.2.2", false);
        let active = add(&mut open, "192.0.2.1", true);
        let silent = add(&mut open, "192.0.2.1", false);
        while open.0.len() < ADDRESS_CONNECTIONS_MAX + 1 {
            add(&mut open, "192.0.2.1", false);
        }
        let is_open = |open: &OpenConnections, id| open.0.iter().any(|open| open.task.id() == id);
        add(&mut open, "192.0.2.1", false);
        assert!(!is_open(&open, silent) && is_open(&open, active) && is_open(&open, other));
        assert_eq!(open.0.len(), ADDRESS_CONNECTIONS_MAX + 1);
        for n in 0..CONNECTIONS_MAX {
            add(&mut open, &format!("198.51.100.{n}"), false);
        }
        assert_eq!(open.0.len(), CONNECTIONS_MAX);
        assert!(is_open(&open, active) && !is_open(&open, other));
    }

    #[test]
    fn a_response_over_its_size_limit_is_an_error() {
        let mut bounded = BoundedBuffer { bytes: Vec::new(), bytes_max: 4 };
        assert!(bounded.write_all(b"abcd").is_ok());
        assert!(bounded.write_all(b"e").is_err());
    }
}
