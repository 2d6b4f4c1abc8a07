//! The load: each caller sends its next call when it has received a response. It uses HTTP/2 directly, so that the
//! callers use little of the processor time that they share with the measured process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use prost::Message;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::BoxError;

/// Flow-control window of each stream and each connection.
const WINDOW: u32 = 1 << 20;
/// Extra time of a load before it is aborted.
pub(crate) const GRACE: Duration = Duration::from_secs(15);
/// Timeout of a single call that is not part of a load.
const ONE_CALL: Duration = Duration::from_secs(10);

/// A call that is sent repeatedly.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Path of the method.
    pub(crate) path: &'static str,
    /// Request headers, without those of HTTP/2 itself.
    pub(crate) headers: HeaderMap,
    /// The message in a gRPC frame.
    pub(crate) frame: Bytes,
}

/// Number of callers per connection, and number of connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadShape {
    /// Number of connections.
    pub(crate) connections: usize,
    /// Callers per connection.
    pub(crate) streams: usize,
}

/// 64 callers on one connection.
pub(crate) const ONE_CONNECTION: LoadShape = LoadShape { connections: 1, streams: 64 };
/// 64 callers on sixteen connections.
pub(crate) const MANY_CONNECTIONS: LoadShape = LoadShape { connections: 16, streams: 4 };
/// One caller.
pub(crate) const ONE_CALLER: LoadShape = LoadShape { connections: 1, streams: 1 };

impl std::fmt::Display for LoadShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.connections, self.streams)
    }
}

impl std::str::FromStr for LoadShape {
    type Err = String;

    /// Parses a shape such as `16x4`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number > 0);
        let (connections, streams) = text.split_once('x').unwrap_or_default();
        match (number(connections), number(streams)) {
            (Some(connections), Some(streams)) => Ok(Self { connections, streams }),
            _ => Err("a shape is connections and callers per connection, such as 16x4".to_owned()),
        }
    }
}

/// Result of a load.
#[derive(Debug)]
pub(crate) struct LoadResult {
    /// Number of completed calls.
    pub(crate) calls: usize,
    /// Completed calls per second.
    pub(crate) per_second: f64,
    /// Duration of each call in nanoseconds, sorted.
    durations: Vec<u32>,
}

impl LoadResult {
    /// Creates a result from the durations of the calls that were completed in a time, in nanoseconds.
    pub(crate) fn new(mut durations: Vec<u32>, time: Duration) -> Self {
        durations.sort_unstable();
        Self {
            calls: durations.len(),
            per_second: durations.len() as f64 / time.as_secs_f64(),
            durations,
        }
    }

    /// Returns a percentile of the durations, in microseconds.
    pub(crate) fn percentile(&self, hundredths: usize) -> f64 {
        let at =
            (self.durations.len() * hundredths / 100).min(self.durations.len().saturating_sub(1));
        self.durations.get(at).map_or(f64::NAN, |nanos| f64::from(*nanos) / 1_000.0)
    }
}

impl Call {
    /// Creates a call of a path with a message, with a key as its credential.
    pub(crate) fn new(
        path: &'static str,
        message: &impl Message,
        key: Option<&str>,
    ) -> Result<Self, BoxError> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("user-agent", HeaderValue::from_static("reach"));
        if let Some(key) = key {
            headers.insert("authorization", format!("Bearer {key}").parse()?);
        }
        let message = message.encode_to_vec();
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len())?);
        frame.put_slice(&message);
        Ok(Self { path, headers, frame: frame.freeze() })
    }

    /// Sends the call to a gateway.
    pub(crate) fn for_gateway(self, gateway: &str) -> Result<Self, BoxError> {
        self.with_header("x-shoreguard-gateway", gateway)
    }

    /// Sets a header.
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Result<Self, BoxError> {
        self.headers.insert(name, value.parse()?);
        Ok(self)
    }

    /// Builds the request that is sent to an address.
    pub(crate) fn request(&self, address: SocketAddr) -> Result<Request<()>, BoxError> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = format!("http://{address}{}", self.path).parse()?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// Calls for the given time, after a warm-up of a tenth of it that is not counted. The callers are assigned to the
/// calls in turn.
pub(crate) fn run(
    address: SocketAddr,
    calls: &[Call],
    shape: LoadShape,
    time: Duration,
) -> Result<LoadResult, BoxError> {
    let threads = shape.connections.min(std::thread::available_parallelism()?.get());
    let joined: Vec<Result<Vec<u32>, BoxError>> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || run_on_thread(address, calls, shape, time, (thread, threads)))
            })
            .collect();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a caller panicked".into())))
            .collect()
    });
    let mut durations = Vec::new();
    for part in joined {
        durations.extend(part?);
    }
    Ok(LoadResult::new(durations, time))
}

/// Runs the part of the load that belongs to one thread.
fn run_on_thread(
    address: SocketAddr,
    calls: &[Call],
    shape: LoadShape,
    time: Duration,
    (thread, threads): (usize, usize),
) -> Result<Vec<u32>, BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mine = (0..shape.connections).filter(|at| at % threads == thread);
    runtime.block_on(async {
        let mut connections = JoinSet::new();
        let mut callers = JoinSet::new();
        let mut opened = Vec::new();
        for at in mine {
            opened.push((at, connect(address, &mut connections).await?));
        }
        let from = Instant::now() + time / 10;
        for (at, send) in opened {
            for stream in 0..shape.streams {
                let call = &calls[(at * shape.streams + stream) % calls.len()];
                let (request, frame) = (call.request(address)?, call.frame.clone());
                callers.spawn(run_caller(send.clone(), request, frame, (from, from + time)));
            }
        }
        let all = async {
            let mut durations = Vec::new();
            while let Some(part) = callers.join_next().await {
                durations.extend(part??);
            }
            Ok::<_, BoxError>(durations)
        };
        timeout(time + GRACE, all).await?
    })
}

/// Opens a connection. Its task is added to `tasks`.
pub(crate) async fn connect(
    address: SocketAddr,
    tasks: &mut JoinSet<Result<(), h2::Error>>,
) -> Result<SendRequest<Bytes>, BoxError> {
    connect_from(Ipv4Addr::LOCALHOST, address, tasks).await
}

/// Opens a connection from an address of this host. Its task is added to `tasks`.
pub(crate) async fn connect_from(
    source: Ipv4Addr,
    address: SocketAddr,
    tasks: &mut JoinSet<Result<(), h2::Error>>,
) -> Result<SendRequest<Bytes>, BoxError> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let socket = socket.connect(address).await?;
    socket.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
    let (send, connection) = builder.handshake(socket).await?;
    tasks.spawn(connection);
    Ok(send.ready().await?)
}

/// Sends calls one after another and returns their durations.
async fn run_caller(
    mut send: SendRequest<Bytes>,
    request: Request<()>,
    frame: Bytes,
    (from, until): (Instant, Instant),
) -> Result<Vec<u32>, BoxError> {
    let mut durations = Vec::with_capacity(4_096);
    loop {
        let begun = Instant::now();
        if begun >= until {
            return Ok(durations);
        }
        send_call(&mut send, &request, &frame).await?;
        if begun >= from {
            durations.push(u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
    }
}

/// Sends one call. Every status other than OK is an error.
pub(crate) async fn send_call(
    send: &mut SendRequest<Bytes>,
    request: &Request<()>,
    frame: &Bytes,
) -> Result<(), BoxError> {
    std::future::poll_fn(|cx| send.poll_ready(cx)).await?;
    let (answer, mut out) = send.send_request(request.clone(), false)?;
    out.send_data(frame.clone(), true)?;
    let (head, mut body) = answer.await?.into_parts();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    match trailers.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        _ => Err(format!("`{}` answered {trailers:?}", request.uri().path()).into()),
    }
}

/// Sends one call on a connection of its own.
pub(crate) async fn send_once(address: SocketAddr, call: &Call) -> Result<(), BoxError> {
    timeout(ONE_CALL, async {
        let mut connections = JoinSet::new();
        let mut send = connect(address, &mut connections).await?;
        send_call(&mut send, &call.request(address)?, &call.frame).await
    })
    .await?
}

/// Open streams. They are closed when this is dropped.
pub(crate) struct OpenStreams {
    /// The tasks of the connections.
    pub(crate) connections: JoinSet<Result<(), h2::Error>>,
    /// The bodies, each with a sender that keeps its connection open.
    pub(crate) bodies: Vec<(SendRequest<Bytes>, h2::RecvStream)>,
}

/// Opens the given number of server streams and keeps them open.
pub(crate) async fn open_streams(
    address: SocketAddr,
    call: &Call,
    (connections, streams): (usize, usize),
) -> Result<OpenStreams, BoxError> {
    let mut tasks = JoinSet::new();
    let mut bodies = Vec::new();
    for _ in 0..connections {
        let mut send = connect(address, &mut tasks).await?;
        for _ in 0..streams {
            std::future::poll_fn(|cx| send.poll_ready(cx)).await?;
            let (answer, mut out) = send.send_request(call.request(address)?, false)?;
            out.send_data(call.frame.clone(), true)?;
            let answer = timeout(ONE_CALL, answer).await??;
            if let Some(status) = answer.headers().get("grpc-status") {
                return Err(format!("a stream was refused: {status:?}").into());
            }
            bodies.push((send.clone(), answer.into_body()));
        }
    }
    Ok(OpenStreams { connections: tasks, bodies })
}
