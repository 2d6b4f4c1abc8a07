//! A receiver of webhooks: an HTTP/1.1 server in this process that counts requests, and answers each at once or after a
//! given time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::BoxError;

const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Interval at which the number of requests is read.
const POLL: Duration = Duration::from_millis(1);
/// Name of the number of an event in the body of a message.
const SEQUENCE: &str = "\"sequence\":";

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
    /// The number of the event of each request, and when it was received. `None` if they are not recorded.
    arrivals: Option<Mutex<Vec<(u64, Instant)>>>,
}

impl Counts {
    fn add(&self, request: &[u8]) {
        if let (Some(arrivals), Some(number)) = (&self.arrivals, event_number(request)) {
            arrivals.lock().push((number, Instant::now()));
        }
        let at = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.first.fetch_min(at, Ordering::Relaxed);
        self.last.fetch_max(at, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Release);
    }
}

impl Receiver {
    /// Starts a receiver on loopback that answers at once.
    pub(crate) async fn start() -> Result<Self, BoxError> {
        Self::start_with(Duration::ZERO, None).await
    }

    /// Starts a receiver that answers at once and records which events have arrived.
    pub(crate) async fn start_recording() -> Result<Self, BoxError> {
        Self::start_with(Duration::ZERO, Some(Mutex::default())).await
    }

    /// Starts a receiver that answers after a time.
    pub(crate) async fn start_slow(delay: Duration) -> Result<Self, BoxError> {
        Self::start_with(delay, None).await
    }

    async fn start_with(
        delay: Duration,
        arrivals: Option<Mutex<Vec<(u64, Instant)>>>,
    ) -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts {
            begun: Instant::now(),
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            arrivals,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&counts), delay));
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
        if let Some(arrivals) = &self.counts.arrivals {
            arrivals.lock().clear();
        }
    }

    /// Returns the number of each event that has arrived, and when it first did, in the order of the events. Empty if
    /// they are not recorded.
    pub(crate) fn arrivals(&self) -> Vec<(u64, Instant)> {
        let recorded = self.counts.arrivals.as_ref();
        let mut arrivals = recorded.map_or_else(Vec::new, |arrivals| arrivals.lock().clone());
        arrivals.sort_unstable();
        arrivals.dedup_by_key(|(number, _)| *number);
        arrivals
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

async fn accept(listener: TcpListener, counts: Arc<Counts>, delay: Duration) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&counts), delay));
    }
}

/// Answers requests until the connection ends or a request is malformed.
async fn serve(mut stream: TcpStream, counts: Arc<Counts>, delay: Duration) {
    let _ = stream.set_nodelay(true);
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; READ_BYTES]);
    loop {
        while let Some(length) = request_length(&bytes) {
            counts.add(&bytes[..length]);
            bytes.drain(..length);
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
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

/// Returns the number of the event of a message.
fn event_number(request: &[u8]) -> Option<u64> {
    let (_, after) = std::str::from_utf8(request).ok()?.split_once(SEQUENCE)?;
    let after = after.trim_start();
    let end = after.find(|character: char| !character.is_ascii_digit())?;
    after[..end].parse().ok()
}
