//! A request body that ends after its first message, even if its stream is reset afterwards.
//!
//! A call whose stream is reset right after the message is still checked, so that a refusal is recorded although the
//! caller does not read the response. A message that did not arrive completely is not checked.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Length of the prefix of a message: the flag and the length.
const PREFIX_BYTES: usize = 5;

/// A body of one message.
#[derive(Debug)]
pub(crate) struct CompleteMessage<B> {
    inner: B,
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that have arrived.
    prefix_bytes: usize,
    /// Bytes of the message that have arrived.
    message_bytes: u64,
}

impl<B> CompleteMessage<B> {
    /// Wraps the body of a request that is one message.
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, prefix: [0; PREFIX_BYTES], prefix_bytes: 0, message_bytes: 0 }
    }

    fn count(&mut self, data: &[u8]) {
        let room = PREFIX_BYTES - self.prefix_bytes;
        let (head, rest) = data.split_at(room.min(data.len()));
        self.prefix[self.prefix_bytes..self.prefix_bytes + head.len()].copy_from_slice(head);
        self.prefix_bytes += head.len();
        self.message_bytes += rest.len() as u64;
    }

    fn is_complete(&self) -> bool {
        let [_, a, b, c, d] = self.prefix;
        let length = u32::from_be_bytes([a, b, c, d]);
        self.prefix_bytes == PREFIX_BYTES && self.message_bytes >= length.into()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for CompleteMessage<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.count(data);
                }
            }
            Poll::Ready(Some(Err(_))) if this.is_complete() => return Poll::Ready(None),
            Poll::Ready(Some(Err(_)) | None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    async fn read(chunks: &[&'static [u8]]) -> Result<Bytes, std::io::Error> {
        let chunks = chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk))));
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let reset = std::iter::once(Err(reset));
        let body = StreamBody::new(stream::iter(chunks.chain(reset)));
        Ok(CompleteMessage::new(body).collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn a_reset_after_a_complete_message_ends_it_and_an_earlier_reset_is_an_error() {
        assert_eq!(read(&[b"\0\0\0\0\x02ab"]).await.unwrap(), "\0\0\0\0\u{2}ab");
        assert_eq!(read(&[b"\0\0", b"\0\0\x02a", b"b"]).await.unwrap(), "\0\0\0\0\u{2}ab");
        assert_eq!(read(&[b"\0\0\0\0\0"]).await.unwrap(), "\0\0\0\0\0");
        let cuts: [&[&'static [u8]]; 3] = [&[], &[b"\0\0\0\0"], &[b"\0\0\0\0\x02a"]];
        for cut in cuts {
            assert!(read(cut).await.is_err());
        }
    }
}
