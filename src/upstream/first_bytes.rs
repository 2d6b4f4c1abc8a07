//! Records the first bytes that the peer of a plaintext connection sends: they show a peer that uses TLS or HTTP/1.1.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Number of recorded bytes: the header of a TLS record (RFC 8446, section 5.1), or the begin of an HTTP/1.1 response.
const BYTES: usize = 5;
/// Content types of TLS records, from `change_cipher_spec` to `application_data`.
const TLS_CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=23;
/// First byte of the version of a TLS record.
const TLS_VERSION: u8 = 3;

/// The bytes of the first read; those that it did not return are zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstBytes(Arc<OnceLock<[u8; BYTES]>>);

impl FirstBytes {
    fn record(&self, read: &[u8]) {
        let mut first = [0; BYTES];
        for (to, from) in first.iter_mut().zip(read) {
            *to = *from;
        }
        // The first read counts.
        let _ = self.0.set(first);
    }

    /// Whether the peer has sent nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get().is_none()
    }

    /// Whether they begin a TLS record.
    pub(crate) fn is_tls(&self) -> bool {
        let is_record =
            |first: &[u8; BYTES]| TLS_CONTENT_TYPES.contains(&first[0]) && first[1] == TLS_VERSION;
        self.0.get().is_some_and(is_record)
    }

    /// Whether they begin a response of HTTP/1.1.
    pub(crate) fn is_http1(&self) -> bool {
        self.0.get().is_some_and(|first| first == b"HTTP/")
    }
}

/// A connection whose first received bytes are recorded.
#[derive(Debug)]
pub(crate) struct RecordingStream<T> {
    io: T,
    first_bytes: FirstBytes,
    recorded: bool,
}

impl<T> RecordingStream<T> {
    /// Wraps a connection from which nothing was read.
    pub(crate) fn new(io: T) -> (Self, FirstBytes) {
        let first_bytes = FirstBytes::default();
        (Self { io, first_bytes: first_bytes.clone(), recorded: false }, first_bytes)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for RecordingStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buffer));
        let read = &buffer.filled()[before..];
        if !self.recorded && !read.is_empty() {
            self.recorded = true;
            self.first_bytes.record(read);
        }
        Poll::Ready(result)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for RecordingStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn the_first_bytes_show_the_protocol_of_a_peer() {
        type IsEmptyTlsHttp1 = (bool, bool, bool);
        let table: [(&[u8], IsEmptyTlsHttp1); 5] = [
            (b"", (true, false, false)),
            (b"\x15\x03\x01\x00\x02\x02\x46", (false, true, false)),
            (b"HTTP/1.1 400 Bad Request", (false, false, true)),
            (b"\x00\x00\x12\x04\x00", (false, false, false)),
            (b"\x15", (false, false, false)),
        ];
        for (sent, expected) in table {
            let (mut stream, first) = RecordingStream::new(sent);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, sent);
            assert_eq!((first.is_empty(), first.is_tls(), first.is_http1()), expected, "{sent:?}");
        }
    }
}
