//! The listener for machines that watch: `/metrics`, `/healthz` (the process lives) and `/readyz` (it takes calls).
//!
//! Invariants
//! - it stands apart from the API's listener, so that a flood there does not blind the watchers;
//! - connections, their time, and the size of an answer are bounded, and one answer is rendered at a time;
//! - it ends last, so that draining can be watched.

use std::io;
use std::sync::Arc;
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
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Connections at one time; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 16;
/// How long one connection, which is one request, may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest request head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The largest answer: some fifty thousand series.
const METRICS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often values are folded into buckets when nobody asks for metrics.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The pause after a failure to accept, which lasts while the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

struct Endpoint<R> {
    metrics: PrometheusHandle,
    ready: R,
    renders: Semaphore,
}

/// Answers until `shutdown`. `ready` says whether calls are taken; it must not block.
pub async fn serve<R>(
    listener: TcpListener,
    metrics: PrometheusHandle,
    ready: R,
    shutdown: CancellationToken,
) where
    R: Fn() -> bool + Send + Sync + 'static,
{
    let endpoint = Arc::new(Endpoint { metrics, ready, renders: Semaphore::new(1) });
    // Dropping the set at the end stops what is left.
    let mut connections = JoinSet::new();
    let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = upkeep.tick() => endpoint.metrics.run_upkeep(),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(connection(Arc::clone(&endpoint), socket));
                }
                Err(error) => {
                    warn!(%error, "metrics listener cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// A peer that breaks off or is too slow is its own loss: nothing is told.
async fn connection<R>(endpoint: Arc<Endpoint<R>>, socket: TcpStream)
where
    R: Fn() -> bool + Send + Sync + 'static,
{
    let answer = service_fn(|request| {
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
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/metrics" => self.render().await,
            "/healthz" => text(StatusCode::OK, "alive\n"),
            "/readyz" if (self.ready)() => text(StatusCode::OK, "ready\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            _ => text(StatusCode::NOT_FOUND, "only /metrics, /healthz and /readyz\n"),
        }
    }

    async fn render(&self) -> Response<Full<Bytes>> {
        let Ok(_turn) = self.renders.acquire().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        };
        let metrics = self.metrics.clone();
        let rendered = tokio::task::spawn_blocking(move || {
            let mut bounded = Bounded { bytes: Vec::new(), bytes_max: METRICS_BYTES_MAX };
            metrics.render_to_write(&mut bounded).map(|()| bounded.bytes)
        });
        if let Ok(Ok(bytes)) = rendered.await {
            return text(StatusCode::OK, bytes);
        }
        warn!(bytes_max = METRICS_BYTES_MAX, "metrics are larger than the limit");
        text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics are larger than the limit\n")
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    // What Prometheus calls its text format; for the short answers it is plain text all the same.
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A buffer that refuses to grow past its limit.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl io::Write for Bounded {
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
    use std::sync::atomic::{AtomicBool, Ordering};

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
    async fn it_tells_metrics_life_and_readiness() {
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

    #[test]
    fn an_answer_stops_at_its_limit() {
        let mut bounded = Bounded { bytes: Vec::new(), bytes_max: 4 };
        assert!(bounded.write_all(b"abcd").is_ok());
        assert!(bounded.write_all(b"e").is_err());
    }
}
