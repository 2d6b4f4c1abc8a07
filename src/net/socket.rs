//! The connection below HTTP: reads pass a hook, and small writes are combined.
//!
//! h2 asks once whether a connection has vectored writes. If it has, h2 writes each payload of 256 bytes and more with
//! a system call of its own, apart from the headers before it and the trailers after it. If it has none, h2 copies
//! payloads of less than 1,024 bytes next to their headers, which costs less. Only this first answer is no: larger
//! payloads are then still written together with their headers, by a vectored write.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Changes or observes what is read from a connection.
pub(crate) trait ReadHook {
    /// Reads from the connection.
    fn poll_read<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(io).poll_read(cx, buffer)
    }
}

/// Reads unchanged.
impl ReadHook for () {}

/// A connection with a hook for reads, and with vectored writes for large payloads only.
#[derive(Debug)]
pub(crate) struct Socket<T, R> {
    io: T,
    reads: R,
    /// Whether h2 has chosen the size of the payloads that it copies.
    threshold_chosen: AtomicBool,
}

impl<T, R> Socket<T, R> {
    /// Wraps a connection.
    pub(crate) fn new(io: T, reads: R) -> Self {
        Self { io, reads, threshold_chosen: AtomicBool::new(false) }
    }
}

impl<T: AsyncRead + Unpin, R: ReadHook + Unpin> AsyncRead for Socket<T, R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, reads, .. } = self.get_mut();
        reads.poll_read(io, cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin, R: Unpin> AsyncWrite for Socket<T, R> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.threshold_chosen.swap(true, Ordering::Relaxed) && self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2_copies_small_payloads_and_writes_large_ones_with_their_headers() {
        let (io, _peer) = tokio::io::duplex(1);
        let socket = Socket::new(io, ());
        assert!(!socket.is_write_vectored(), "h2 chooses the size of the payloads that it copies");
        assert!(socket.is_write_vectored(), "h2 writes");
    }
}
