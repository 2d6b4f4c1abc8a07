//! A receiver of webhooks: an HTTP/1.1 server in this process that answers each request at once, and counts them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::BoxError;

const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Interval at which the number of requests is read.
const POLL: Duration = Duration::from_millis(1);

/// A running receiver. It ends when this is dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

/// What has been received, and when, in nanoseconds since `begun`.
struct Counts {
    begun: Instant,
    first: AtomicU64,
    last: AtomicU64,
    requests: AtomicUsize,
}

impl Counts {
    fn add(&self) {
        let at = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.first.fetch_min(at, Ordering::Relaxed);
        self.last.fetch_max(at, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Release);
    }
}

impl Receiver {
    /// Starts a receiver on loopback.
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts {
            begun: Instant::now(),
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&counts)));
        Ok(Self { address, counts, _tasks: tasks })
    }

    /// Returns the URL for a webhook.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Forgets what has been received.
    pub(crate) fn reset(&self) {
        self.counts.requests.store(0, Ordering::Relaxed);
        self.counts.first.store(u64::MAX, Ordering::Relaxed);
        self.counts.last.store(0, Ordering::Relaxed);
    }

    /// Waits until this many requests have been received.
    pub(crate) async fn wait_for(&self, count: usize, time: Duration) -> Result<(), BoxError> {
        let begun = Instant::now();
        loop {
            let received = self.counts.requests.load(Ordering::Acquire);
            if received >= count {
                return Ok(());
            }
            if begun.elapsed() > time {
                return Err(format!("{received} of {count} messages have arrived").into());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns the time between the first and the last request.
    pub(crate) fn span(&self) -> Duration {
        let (first, last) = (&self.counts.first, &self.counts.last);
        let (first, last) = (first.load(Ordering::Relaxed), last.load(Ordering::Relaxed));
        Duration::from_nanos(last.saturating_sub(first))
    }

    /// Returns when the last request was received.
    pub(crate) fn last(&self) -> Instant {
        self.counts.begun + Duration::from_nanos(self.counts.last.load(Ordering::Relaxed))
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&counts)));
    }
}

/// Answers requests until the connection ends or a request is malformed.
async fn serve(mut stream: TcpStream, counts: Arc<Counts>) {
    let _ = stream.set_nodelay(true);
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; READ_BYTES]);
    loop {
        while let Some(length) = request_length(&bytes) {
            counts.add();
            bytes.drain(..length);
            if stream.write_all(RESPONSE).await.is_err() {
                return;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            Ok(_) | Err(_) => return,
        }
    }
}

/// Returns the length of the first request, with its body. `None` if it is not complete.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let whole = head + 4 + length.trim().parse::<usize>().ok()?;
    (bytes.len() >= whole).then_some(whole)
}
