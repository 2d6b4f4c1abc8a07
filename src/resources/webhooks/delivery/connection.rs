//! A connection to a receiver by HTTP/1.1, and the right to send one message on it.
//!
//! Invariant: the socket holds the slot. A connection that is kept without a message has only a weak reference to it,
//! so that the slot is free as soon as the socket is closed.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::characters::excerpt;
use crate::error::error_chain;
use crate::net::spawn_owned;
use crate::resources::webhooks::connections::Slot;

/// Maximum size of the head of a response, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of headers of a response.
const HEADERS_MAX: usize = 100;
/// Maximum length of the cause of a failure, in characters.
pub(super) const ERROR_CHARS_MAX: usize = 300;

/// The right to send one message.
pub(super) struct Turn {
    pub(super) slot: Arc<Slot>,
    /// A kept connection with this slot.
    pub(super) kept: Option<Connection>,
}

/// A connection without a message. It is closed when this is dropped.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    pub(super) opened_at: Instant,
    pub(super) idle_since: Instant,
    slot: Weak<Slot>,
    driver: AbortOnDropHandle<()>,
}

impl Turn {
    /// Creates a turn that uses a new connection.
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        Self { slot, kept: None }
    }
}

impl Connection {
    /// Starts HTTP on a socket that holds the slot.
    ///
    /// # Errors
    /// Why it could not be started, to be shown.
    pub(super) async fn start(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        slot: &Arc<Slot>,
    ) -> Result<Self, String> {
        let (sender, connection) = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| excerpt(&error_chain(&error), ERROR_CHARS_MAX))?;
        let close = slot.close_token();
        let driver = spawn_owned(async move {
            // The exchange on the connection reports the error.
            let _ = close.run_until_cancelled(connection).await;
        });
        let now = Instant::now();
        let (slot, driver) = (Arc::downgrade(slot), AbortOnDropHandle::new(driver));
        Ok(Self { sender, opened_at: now, idle_since: now, slot, driver })
    }

    /// Sends a request when the connection is ready for it.
    ///
    /// # Errors
    /// Those of the connection.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Returns the turn of a kept connection. `None` if it was closed.
    pub(super) fn take_turn(self) -> Option<Turn> {
        let slot = self.slot.upgrade()?;
        (slot.mark_busy() && !self.sender.is_closed()).then_some(Turn { slot, kept: Some(self) })
    }

    /// Closes the connection and waits until its socket is closed.
    pub(super) async fn close(self) {
        self.driver.abort();
        let _ = self.driver.await;
    }
}
