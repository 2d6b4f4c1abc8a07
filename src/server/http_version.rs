//! Detects the HTTP version of a connection from its first bytes.
//!
//! gRPC uses HTTP/2; ordinary HTTP clients request discovery documents and tokens at the same address. An HTTP/2 client
//! first sends the preface, with which no HTTP/1 request begins. The bytes that were read are passed on to the server
//! of the detected version.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::net::socket::{ReadHook, Socket};

/// First bytes of every HTTP/2 connection.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpVersion {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Reads until the version is certain. The caller must set a timeout for connections that send nothing.
pub(super) async fn detect<S>(mut socket: S) -> io::Result<(HttpVersion, RewoundSocket<S>)>
where
    S: AsyncRead + Unpin,
{
    let mut read = [0; PREFACE.len()];
    let mut filled = 0;
    let version = loop {
        let more = socket.read(&mut read[filled..]).await?;
        filled += more;
        if more == 0 || read[..filled] != PREFACE[..filled] {
            break HttpVersion::Http1;
        }
        if filled == PREFACE.len() {
            break HttpVersion::Http2;
        }
    };
    let first = Bytes::copy_from_slice(&read[..filled]);
    Ok((version, Socket::new(socket, FirstRead(first))))
}

/// A socket whose first bytes are read again.
pub(super) type RewoundSocket<S> = Socket<S, FirstRead>;

/// Bytes that are read before those of the connection.
#[derive(Debug)]
pub(super) struct FirstRead(Bytes);

impl ReadHook for FirstRead {
    fn poll_read<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Pin::new(io).poll_read(cx, buffer);
        }
        let some = self.0.split_to(self.0.len().min(buffer.remaining()));
        buffer.put_slice(&some);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Returns the detected version of a connection that sends these pieces and closes, and everything that is read
    /// from it afterwards.
    async fn detect_from(pieces: &[&[u8]]) -> (HttpVersion, Vec<u8>) {
        let (mut caller, socket) = tokio::io::duplex(1024);
        let detecting = detect(socket);
        let sending = async {
            for piece in pieces {
                caller.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(caller);
        };
        let (detected, ()) = tokio::join!(detecting, sending);
        let (version, mut rewound) = detected.unwrap();
        let mut all = Vec::new();
        rewound.read_to_end(&mut all).await.unwrap();
        (version, all)
    }

    #[tokio::test]
    async fn the_preface_selects_the_http_version_and_no_byte_is_lost() {
        let table: [(&[&[u8]], HttpVersion); 8] = [
            (&[PREFACE, b"more"], HttpVersion::Http2),
            (&[&PREFACE[..1], &PREFACE[1..10], &PREFACE[10..], b"more"], HttpVersion::Http2),
            (&[b"GET / HTTP/1.1\r\n\r\n"], HttpVersion::Http1),
            (&[b"P", b"OST / HTTP/1.1\r\n\r\n"], HttpVersion::Http1),
            (&[b"PRI * HTTP/1.1\r\n\r\n"], HttpVersion::Http1),
            (&[&PREFACE[..23], b"!"], HttpVersion::Http1),
            (&[&PREFACE[..5]], HttpVersion::Http1),
            (&[], HttpVersion::Http1),
        ];
        for (pieces, version) in table {
            assert_eq!(detect_from(pieces).await, (version, pieces.concat()), "{pieces:?}");
        }
    }
}
