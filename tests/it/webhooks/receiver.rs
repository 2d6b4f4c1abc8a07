//! A receiver of webhooks: an HTTP/1.1 server on loopback that records requests and answers as a test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{eventually, pause};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// Number of the connection.
    pub(crate) connection: usize,
    pub(crate) path: String,
    /// Names are in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Received {
    /// Returns a header; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Returns the body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// How a request is answered.
#[derive(Clone)]
pub(crate) enum Reply {
    /// With a status, headers (each with a line break) and a body.
    Full(u16, String, String),
    /// Not at all, until the token is canceled; then with 200.
    Until(CancellationToken),
    /// Not at all, until the token is canceled; then with 410.
    UntilGone(CancellationToken),
    /// The connection is closed.
    Close,
    /// A head that promises a body, and then one byte in each pause, until the token is canceled.
    Drip(CancellationToken),
    /// The same with a status and headers, each with a line break.
    DripWith(u16, String, CancellationToken),
}

impl Reply {
    /// A status with an empty body.
    pub(crate) fn status(code: u16) -> Self {
        Self::Full(code, String::new(), String::new())
    }
}

type Answers = Box<dyn Fn(&Received) -> Reply + Send>;

struct State {
    received: Vec<Received>,
    answers: Answers,
    open: usize,
    most_open: usize,
}

/// A running receiver. It ends when this is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Receiver {
    /// Starts a receiver that answers each request with 200.
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts a receiver on an address.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Answers = Box::new(|_| Reply::status(200));
        let state = State { received: Vec::new(), answers, open: 0, most_open: 0 };
        let state = Arc::new(Mutex::new(state));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Changes how requests are answered.
    pub(crate) fn answer(&self, answers: impl Fn(&Received) -> Reply + Send + 'static) {
        self.state.lock().unwrap().answers = Box::new(answers);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// Returns the largest number of requests that were open at once.
    pub(crate) fn most_open(&self) -> usize {
        self.state.lock().unwrap().most_open
    }

    /// Waits until this many requests have been received, and returns them.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        eventually("the receiver has the messages", || async { self.received().len() >= count })
            .await;
        self.received()
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve(stream, number, Arc::clone(&state)));
    }
}

async fn serve(mut stream: TcpStream, connection: usize, state: Arc<Mutex<State>>) {
    while let Some(received) = read(&mut stream, connection).await {
        let reply = {
            let mut state = state.lock().unwrap();
            state.received.push(received.clone());
            state.open += 1;
            state.most_open = state.most_open.max(state.open);
            (state.answers)(&received)
        };
        let goes_on = respond(&mut stream, reply).await;
        state.lock().unwrap().open -= 1;
        if !goes_on {
            return;
        }
    }
}

async fn respond(stream: &mut TcpStream, reply: Reply) -> bool {
    let (code, headers, body) = match reply {
        Reply::Full(code, headers, body) => (code, headers, body),
        Reply::Until(token) => {
            token.cancelled().await;
            (200, String::new(), String::new())
        }
        Reply::UntilGone(token) => {
            token.cancelled().await;
            (410, String::new(), String::new())
        }
        Reply::Close => return false,
        Reply::Drip(token) => return drip(stream, (200, ""), &token).await,
        Reply::DripWith(code, headers, token) => {
            return drip(stream, (code, &headers), &token).await;
        }
    };
    let length = body.len();
    let text = format!("HTTP/1.1 {code} Text\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(text.as_bytes()).await.is_ok()
}

/// Sends the body of a response byte by byte. Returns `false`: the connection ends with it.
async fn drip(
    stream: &mut TcpStream,
    (code, headers): (u16, &str),
    token: &CancellationToken,
) -> bool {
    let head = format!("HTTP/1.1 {code} Text\r\ncontent-length: 100000\r\n{headers}\r\n");
    let mut open = stream.write_all(head.as_bytes()).await.is_ok();
    while open && !token.is_cancelled() {
        pause().await;
        open = stream.write_all(b"x").await.is_ok();
    }
    false
}

/// Reads one request. Returns `None` if the connection has ended.
async fn read(stream: &mut TcpStream, connection: usize) -> Option<Received> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut received = Received { connection, path, headers, body: String::new() };
    let length: usize = received.header("content-length").parse().unwrap();
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        body.extend_from_slice(&chunk[..count]);
    }
    received.body = String::from_utf8(body).unwrap();
    Some(received)
}

/// Time after which a message is sent again for the first time.
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(7);
