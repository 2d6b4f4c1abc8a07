//! Records the first bytes that the peer of a plaintext connection sends: they show a peer that uses TLS or HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::net::socket::{ReadHook, Socket};

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
pub(crate) type RecordingStream<T> = Socket<T, Recorder>;

/// Records the first bytes that are read.
#[derive(Debug)]
pub(crate) struct Recorder {
    first_bytes: FirstBytes,
    recorded: bool,
}

/// Wraps a connection from which nothing was read.
pub(crate) fn record<T>(io: T) -> (RecordingStream<T>, FirstBytes) {
    let first_bytes = FirstBytes::default();
    let recorder = Recorder { first_bytes: first_bytes.clone(), recorded: false };
    (Socket::new(io, recorder), first_bytes)
}

impl ReadHook for Recorder {
    fn poll_read<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(io).poll_read(cx, buffer));
        let read = &buffer.filled()[before..];
        if !self.recorded && !read.is_empty() {
            self.recorded = true;
            self.first_bytes.record(read);
        }
        Poll::Ready(result)
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
            let (mut stream, first) = record(sent);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, sent);
            assert_eq!((first.is_empty(), first.is_tls(), first.is_http1()), expected, "{sent:?}");
        }
    }
}
