//! Sends one message to a receiver by HTTP/1.1, on connections that are kept for a short time.
//!
//! Invariants
//! - each connection is checked by the guard when it is opened, and is used for 60 seconds at most: a name that moves
//!   to a forbidden address loses its connections by then;
//! - a redirect is a failure: its target was chosen by the receiver, not by an admin;
//! - of a response, at most 4 KiB are read, and 1 KiB is kept;
//! - a message is sent with a slot, which its connection keeps until it is closed. A kept connection is closed if
//!   another webhook waits for its slot;
//! - errors and snippets contain no address and, for channels whose URL is a secret, no part of its path.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, ERROR_CHARS_MAX, Turn};
use super::schedule;
use crate::characters::excerpt;
use crate::clock::Timestamp;
use crate::error::{Error, error_chain};
use crate::net::connect::{ConnectError, Protocol};
use crate::resources::webhooks::channels::{Outcome, Rendered, Verdict};
use crate::resources::webhooks::connections::Slot;
use crate::resources::webhooks::input::ReceiverUrl;
use crate::resources::webhooks::outbound::Outbound;
use crate::secret::begun_at_end;

/// Time from the lookup of the host to the last byte of the response.
pub(super) const ATTEMPT_TIME: Duration = Duration::from_secs(15);
/// Time to read the body of a response that refuses the message: it is only shown.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Longest time that a connection is kept without a message.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Longest time that a connection is used.
const AGE_MAX: Duration = Duration::from_mins(1);
/// Bytes of the body of a response that are read.
const READ_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the body that are kept.
const SNIPPET_BYTES_MAX: usize = 1024;
/// Minimum length of a part of a secret URL that is masked: shorter ones are words of any text.
const MASKED_BYTES_MIN: usize = 6;

/// A receiver, with its kept connections.
pub(super) struct Receiver {
    outbound: Outbound,
    url: ReceiverUrl,
    path: Uri,
    authority: HeaderValue,
    /// Whether the URL is a secret.
    secret_url: bool,
    kept: Mutex<Vec<Connection>>,
}

/// A response as far as it was read.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Vec<u8>,
    /// Whether the whole body was read, so that the connection can be used again.
    whole: bool,
    /// Why the body could not be read.
    broken: Option<String>,
}

impl Receiver {
    /// Creates a receiver without connections.
    pub(super) fn new(
        outbound: Outbound,
        url: ReceiverUrl,
        secret_url: bool,
    ) -> Result<Self, Error> {
        let path = url.path.parse().map_err(Error::internal)?;
        let authority = HeaderValue::from_str(&url.authority).map_err(Error::internal)?;
        Ok(Self { outbound, url, path, authority, secret_url, kept: Mutex::default() })
    }

    /// Sends a message. The caller limits the time.
    pub(super) async fn post(
        &self,
        Turn { slot, kept }: Turn,
        headers: &HeaderMap,
        rendered: Rendered,
        now: Timestamp,
    ) -> Outcome {
        let (content_type, body) = (rendered.content_type, Bytes::from(rendered.bytes));
        let request = || self.request(headers, content_type, body.clone());
        // A receiver can close a kept connection at any time. Then the message is sent on a new one; if the receiver
        // has read it nevertheless, it recognizes it by its id.
        if let Some(kept) = kept
            && let Ok(answer) = self.exchange(kept, &slot, request(), now).await
        {
            return self.outcome(answer);
        }
        let connection = match self.open(&slot).await {
            Ok(connection) => connection,
            Err(why) => return Outcome::not_delivered(Verdict::Retry, None, why),
        };
        match self.exchange(connection, &slot, request(), now).await {
            Ok(answer) => self.outcome(answer),
            Err(error) => {
                let why = format!("the connection broke off: {}", error_chain(&error));
                Outcome::not_delivered(Verdict::Retry, None, excerpt(&why, ERROR_CHARS_MAX))
            }
        }
    }

    /// Returns a turn with a kept connection that can be used. Closes those that were kept for too long.
    pub(super) fn take_kept(&self) -> Option<Turn> {
        let now = Instant::now();
        let mut all = self.kept.lock();
        all.retain(|one| now - one.idle_since < IDLE_MAX && now - one.opened_at < AGE_MAX);
        while let Some(kept) = all.pop() {
            if let Some(turn) = kept.take_turn() {
                return Some(turn);
            }
        }
        None
    }

    async fn open(&self, slot: &Arc<Slot>) -> Result<Connection, String> {
        let ReceiverUrl { secure, host, port, .. } = &self.url;
        let stream = self.outbound.connect(slot, (host, *port), *secure, ATTEMPT_TIME).await;
        let stream = stream.map_err(|error| connect_failure(&error))?;
        if !secure {
            return Connection::start(stream, slot).await;
        }
        let tls = self.outbound.handshake(stream, host, Protocol::Http1, ATTEMPT_TIME).await;
        Connection::start(tls.map_err(|error| connect_failure(&error))?, slot).await
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        slot: &Slot,
        request: Request<Full<Bytes>>,
        now: Timestamp,
    ) -> Result<Answer, hyper::Error> {
        let response = match connection.send(request).await {
            Ok(response) => response,
            Err(error) => {
                // The next connection of the turn has the same slot.
                connection.close().await;
                return Err(error);
            }
        };
        let answer = read(response, now).await;
        if answer.whole {
            connection.idle_since = Instant::now();
            slot.mark_idle();
            self.kept.lock().push(connection);
        }
        Ok(answer)
    }

    fn request(
        &self,
        headers: &HeaderMap,
        content_type: &'static str,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let to = request.headers_mut();
        to.clone_from(headers);
        to.insert(HOST, self.authority.clone());
        to.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        to.insert(USER_AGENT, HeaderValue::from_static("shoreguard"));
        request
    }

    /// Returns what a response means.
    fn outcome(&self, answer: Answer) -> Outcome {
        let (status, code) = (answer.status, answer.status.as_u16());
        let broken = answer.broken.filter(|_| status.is_success());
        let outcome = if let Some(why) = broken {
            let why = excerpt(&format!("the response broke off: {why}"), ERROR_CHARS_MAX);
            Outcome::not_delivered(Verdict::Retry, Some(code), why)
        } else if status.is_success() {
            Outcome::delivered(code)
        } else {
            let verdict = match status {
                StatusCode::GONE => Verdict::Unwanted,
                StatusCode::PAYLOAD_TOO_LARGE => Verdict::Failed,
                _ => Verdict::Retry,
            };
            let redirect =
                if status.is_redirection() { ": a redirect is not followed" } else { "" };
            let why = format!("HTTP {code}{redirect}");
            Outcome::not_delivered(verdict, Some(code), why).with_retry_after(answer.retry_after)
        };
        outcome.with_snippet(self.snippet(&answer.body))
    }

    /// Returns the beginning of a body without control characters and without parts of a secret URL.
    fn snippet(&self, body: &[u8]) -> String {
        snippet(body, self.secret_url.then_some(self.url.path.as_str()))
    }
}

/// Returns the beginning of a body without control characters and without parts of a secret path. They are masked before
/// the body is cut: a part that is cut in two would not be found.
fn snippet(body: &[u8], secret_path: Option<&str>) -> String {
    let mut text = String::from_utf8_lossy(body).into_owned();
    let parts = secret_path.unwrap_or_default().split(['/', '?', '&', '=']);
    for part in parts.filter(|part| part.len() >= MASKED_BYTES_MIN) {
        text = text.replace(part, "***");
        // What was read of a long body can end within a part.
        if let Some(bytes) = begun_at_end(&text, part, MASKED_BYTES_MIN) {
            text.truncate(text.len() - bytes);
        }
    }
    text.truncate(text.floor_char_boundary(SNIPPET_BYTES_MAX));
    excerpt(&text, SNIPPET_BYTES_MAX)
}

/// Reads the beginning of a response.
async fn read(response: Response<Incoming>, now: Timestamp) -> Answer {
    let (head, mut body) = response.into_parts();
    let asks =
        matches!(head.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let retry_after = head.headers.get(RETRY_AFTER).filter(|_| asks);
    let retry_after = retry_after
        .and_then(|value| value.to_str().ok())
        .and_then(|text| schedule::parse_retry_after(text, now));
    let mut answer =
        Answer { status: head.status, retry_after, body: Vec::new(), whole: false, broken: None };
    if head.status.is_success() {
        read_body(&mut answer, &mut body).await;
    } else {
        // A receiver that sends the body slowly, or not at all, has refused the message nevertheless.
        let _ = timeout(REFUSAL_TIME, read_body(&mut answer, &mut body)).await;
    }
    answer
}

/// Reads the beginning of a body into the answer.
async fn read_body(answer: &mut Answer, body: &mut Incoming) {
    while answer.body.len() < READ_BYTES_MAX {
        match body.frame().await {
            None => {
                answer.whole = true;
                break;
            }
            Some(Err(error)) => {
                answer.broken = Some(error_chain(&error));
                break;
            }
            Some(Ok(frame)) => {
                let bytes = frame.into_data().unwrap_or_default();
                let room = READ_BYTES_MAX - answer.body.len();
                answer.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
    }
}

/// Returns why there is no connection, without addresses.
fn connect_failure(error: &ConnectError) -> String {
    let why = match error {
        ConnectError::Forbidden(_) => "the address must not be connected to".to_owned(),
        ConnectError::Unresolved(_) => "the name of the host was not resolved".to_owned(),
        ConnectError::Unconnected { kind: Some(kind), .. } => {
            format!("the connection was not established: {kind}")
        }
        ConnectError::Unconnected { kind: None, .. } => {
            "the connection was not established in time".to_owned()
        }
        ConnectError::Tls(error) => format!("the TLS handshake failed: {error}"),
        ConnectError::TlsTimeout => "the TLS handshake was not completed in time".to_owned(),
        ConnectError::Protocol => "the host does not use the required version of HTTP".to_owned(),
    };
    excerpt(&why, ERROR_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream};

    use super::*;
    use crate::db::types::WebhookId;
    use crate::net::names::Resolver;
    use crate::net::roots::system_roots;
    use crate::resources::webhooks::connections::SlotHolder;

    /// Returns a receiver with one kept connection for each of these idle times, with their slots and other ends.
    async fn keep(idle: &[Duration]) -> (Receiver, Vec<Arc<Slot>>, Vec<DuplexStream>) {
        let outbound = Outbound::new(Resolver::system(), &[], system_roots()).unwrap();
        let (connections, holder) = (Arc::clone(outbound.connections()), SlotHolder::Tests);
        let url = ReceiverUrl::parse("url", "http://127.0.0.1:9/").unwrap();
        let receiver = Receiver::new(outbound, url, false).unwrap();
        let (mut slots, mut servers) = (Vec::new(), Vec::new());
        for idle in idle {
            let (client, server) = tokio::io::duplex(1_024);
            servers.push(server);
            let slot = connections.acquire(holder).await;
            let mut connection = Connection::start(client, &slot).await.unwrap();
            connection.idle_since = Instant::now().checked_sub(*idle).unwrap();
            slot.mark_idle();
            slots.push(slot);
            receiver.kept.lock().push(connection);
        }
        (receiver, slots, servers)
    }

    #[tokio::test]
    async fn connections_that_were_idle_for_too_long_are_closed_when_another_one_is_used() {
        let (receiver, _slots, _servers) = keep(&[IDLE_MAX, Duration::ZERO]).await;
        assert!(receiver.take_kept().is_some());
        assert!(receiver.kept.lock().is_empty());
    }

    #[tokio::test]
    async fn e13_a_kept_connection_is_closed_if_another_webhook_waits_for_its_slot() {
        let (receiver, slots, mut servers) = keep(&[Duration::ZERO]).await;
        let connections = receiver.outbound.connections();
        assert_eq!(connections.lower_limit(1), 1);
        let waiting = connections.request(SlotHolder::Webhook(WebhookId(2))).unwrap_err();
        let mut read = Vec::new();
        servers[0].read_to_end(&mut read).await.unwrap();
        assert!(receiver.take_kept().is_none(), "it is closed");
        // A socket would have held the slot; this connection has none.
        drop(slots);
        waiting.granted().await;
    }

    #[test]
    fn e15_a_part_of_a_secret_path_at_the_end_of_a_snippet_is_masked() {
        let path = Some("/services/token-of-slack?x");
        for before in SNIPPET_BYTES_MAX - 20..=SNIPPET_BYTES_MAX {
            let body = format!("{}token-of-slack", "x".repeat(before));
            let shown = snippet(body.as_bytes(), path);
            assert!(!shown.contains("tok") && shown.len() <= SNIPPET_BYTES_MAX, "{shown}");
        }
        assert_eq!(snippet(b"no token-of-slack", None), "no token-of-slack");
        // What is read ends within a part, and is so much shorter when the others are masked that its end is shown.
        let part = "token-of-slack-".repeat(10);
        let body = part.repeat(READ_BYTES_MAX / part.len() + 1);
        let shown = snippet(&body.as_bytes()[..READ_BYTES_MAX], Some(&format!("/x/{part}")));
        assert!(shown.len() < SNIPPET_BYTES_MAX && !shown.contains("token"), "{shown}");
        let long = "\u{fffd}".repeat(SNIPPET_BYTES_MAX);
        assert!(snippet(long.as_bytes(), None).len() <= SNIPPET_BYTES_MAX);
    }
}
