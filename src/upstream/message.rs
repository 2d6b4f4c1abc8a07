//! gRPC framing: one byte for the compression flag, four for the length, then the message.
//!
//! A request that is parsed is read completely: the checked bytes are exactly those that are forwarded.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;

use crate::error::{Error, Reason};
use crate::net::BoxError;

/// Maximum size of a parsed request, in bytes. Gateways accept no larger one.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Length of the prefix of a message.
const PREFIX_BYTES: usize = 5;

/// A request whose first message was read.
#[derive(Debug)]
pub(crate) struct ReadRequest {
    /// The bytes read so far, unchanged, including the prefix; may extend beyond the message.
    pub(crate) bytes: Bytes,
    /// Length of the message, without its prefix.
    length: usize,
    /// Whether nothing follows.
    pub(crate) ended: bool,
}

impl ReadRequest {
    /// Creates a request from one complete message with its prefix.
    #[cfg(test)]
    pub(crate) fn from_message(bytes: Bytes) -> Self {
        Self { length: bytes.len() - PREFIX_BYTES, bytes, ended: true }
    }

    /// Returns the message.
    pub(crate) fn message(&self) -> &[u8] {
        &self.bytes[PREFIX_BYTES..PREFIX_BYTES + self.length]
    }

    /// Appends bytes to the message and updates the length in its prefix. The request must be one message.
    ///
    /// # Errors
    /// `MESSAGE_TOO_LARGE` if the result is too large.
    pub(crate) fn append(self, more: &[u8]) -> Result<Self, Error> {
        let length = self.length + more.len();
        if length > MESSAGE_BYTES_MAX {
            return Err(too_large(length));
        }
        let bytes = encode_frame(&[self.message(), more].concat());
        Ok(Self { bytes, length, ended: self.ended })
    }

    /// Returns the message as an owned slice.
    pub(crate) fn message_bytes(&self) -> Bytes {
        self.bytes.slice(PREFIX_BYTES..PREFIX_BYTES + self.length)
    }
}

/// Encoding of a request's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Not compressed.
    Identity,
    /// Compressed. Such a message is not parsed: it would have to be decompressed for the check and compressed again.
    Compressed,
}

/// Parses `grpc-encoding`.
///
/// # Errors
/// `MESSAGE_AMBIGUOUS` if the header is repeated: a gateway may use another of the values than this server.
pub(crate) fn parse_encoding(headers: &HeaderMap) -> Result<Encoding, Error> {
    let mut encodings = headers.get_all("grpc-encoding").iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(Encoding::Identity),
        (Some(one), None) if one == "identity" => Ok(Encoding::Identity),
        (Some(_), None) => Ok(Encoding::Compressed),
        (Some(_), Some(_)) => Err(ambiguous("`grpc-encoding` must be there at most once")),
    }
}

impl Encoding {
    /// Rejects messages that cannot be parsed.
    ///
    /// # Errors
    /// `MESSAGE_AMBIGUOUS` if the message is compressed.
    pub(crate) fn check_readable(self) -> Result<(), Error> {
        match self {
            Self::Identity => Ok(()),
            Self::Compressed => Err(ambiguous("the message must not be compressed")),
        }
    }
}

/// Reads the first message of a request.
pub(crate) async fn read_first<B>(body: &mut B, encoding: Encoding) -> Result<ReadRequest, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (mut bytes, mut ended) = (Bytes::new(), false);
    loop {
        if let Some(length) = message_length(&bytes, encoding)?
            && bytes.len() - PREFIX_BYTES >= length
        {
            ended = ended || body.is_end_stream();
            return Ok(ReadRequest { bytes, length, ended });
        }
        if ended {
            let why =
                if bytes.is_empty() { "the body contains no message" } else { "it is cut off" };
            return Err(Error::refused(Reason::MalformedMessage, why));
        }
        match next_data(body).await? {
            Some(data) => bytes = join(bytes, data),
            None => ended = true,
        }
    }
}

/// Reads a request that must be exactly one message.
pub(crate) async fn read_single<B>(body: &mut B, encoding: Encoding) -> Result<ReadRequest, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut read = read_first(body, encoding).await?;
    while !read.ended {
        match next_data(body).await? {
            // An empty frame is harmless; only one with bytes could hold a second message.
            Some(data) if data.is_empty() => {}
            Some(_) => return Err(ambiguous("the body must contain exactly one message")),
            None => read.ended = true,
        }
    }
    if read.bytes.len() != PREFIX_BYTES + read.length {
        return Err(ambiguous("the body must contain exactly one message"));
    }
    Ok(read)
}

async fn next_data<B>(body: &mut B) -> Result<Option<Bytes>, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await;
    match frame {
        None => Ok(None),
        // gRPC requests have no trailers; if trailers are sent, they end the request.
        Some(Ok(frame)) => Ok(frame.into_data().ok()),
        Some(Err(error)) => Err(match error.into().downcast::<Error>() {
            Ok(ours) => *ours,
            Err(_) => Error::refused(Reason::MalformedMessage, "the request ended early"),
        }),
    }
}

fn join(before: Bytes, data: Bytes) -> Bytes {
    if before.is_empty() {
        return data;
    }
    let mut all = BytesMut::from(before);
    all.extend_from_slice(&data);
    all.freeze()
}

fn message_length(bytes: &Bytes, encoding: Encoding) -> Result<Option<usize>, Error> {
    let Some(mut prefix) = bytes.get(..PREFIX_BYTES) else { return Ok(None) };
    match (prefix.get_u8(), encoding) {
        (0, _) | (1, Encoding::Compressed) => {}
        (_, Encoding::Identity) => Encoding::Compressed.check_readable()?,
        (_, Encoding::Compressed) => return Err(ambiguous("the flag of a message is 0 or 1")),
    }
    let length = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
    if length > MESSAGE_BYTES_MAX {
        return Err(too_large(length));
    }
    Ok(Some(length))
}

fn too_large(length: usize) -> Error {
    let why = format!("the message must have at most {MESSAGE_BYTES_MAX} bytes, got {length}");
    Error::refused(Reason::MessageTooLarge, why)
}

/// Returns the message of a response that consists of exactly one, not compressed, or `None` for anything else.
pub(crate) fn decode_single(mut bytes: Bytes) -> Option<Bytes> {
    if bytes.len() < PREFIX_BYTES || bytes.get_u8() != 0 {
        return None;
    }
    let length = usize::try_from(bytes.get_u32()).ok()?;
    (bytes.len() == length).then_some(bytes)
}

/// Adds the prefix to a message.
pub(crate) fn encode_frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("an answer is shorter than 4 GiB");
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame.freeze()
}

fn ambiguous(why: &str) -> Error {
    Error::refused(Reason::MessageAmbiguous, why)
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    fn body(chunks: &[&[u8]]) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let frames: Vec<_> =
            chunks.iter().map(|c| Ok(http_body::Frame::data(Bytes::copy_from_slice(c)))).collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    async fn refused(chunks: &[&[u8]]) -> Reason {
        crate::status::code_and_reason(
            &read_single(&mut body(chunks), Encoding::Identity).await.unwrap_err(),
        )
        .1
    }

    #[tokio::test]
    async fn a_message_may_arrive_in_any_chunks() {
        let mut one = Full::new(encode_frame(b"hello")).map_err(|never| match never {});
        assert_eq!(read_single(&mut one, Encoding::Identity).await.unwrap().message(), b"hello");
        let pieces: Vec<Vec<u8>> = encode_frame(b"hello").iter().map(|b| vec![*b]).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let read = read_single(&mut body(&pieces), Encoding::Identity).await.unwrap();
        assert_eq!((read.message(), read.ended), (&b"hello"[..], true));
        assert_eq!(
            read_single(&mut body(&[&encode_frame(b""), b""]), Encoding::Identity)
                .await
                .unwrap()
                .message(),
            b""
        );
    }

    #[tokio::test]
    async fn anything_but_one_uncompressed_message_is_refused() {
        let (a, b) = (encode_frame(b"a"), encode_frame(b"b"));
        assert_eq!(refused(&[&a, &b]).await, Reason::MessageAmbiguous);
        assert_eq!(refused(&[&[&a[..], &b[..]].concat()]).await, Reason::MessageAmbiguous);
        assert_eq!(refused(&[&a, &[0]]).await, Reason::MessageAmbiguous);
        assert_eq!(refused(&[&[1, 0, 0, 0, 1, b'a']]).await, Reason::MessageAmbiguous);
        assert_eq!(refused(&[]).await, Reason::MalformedMessage);
        assert_eq!(refused(&[&a[..5]]).await, Reason::MalformedMessage);
        assert_eq!(refused(&[&[0, 0, 0]]).await, Reason::MalformedMessage);
        assert_eq!(refused(&[&[0, 0, 0x10, 0, 1]]).await, Reason::MessageTooLarge);
        assert_eq!(refused(&[&[0, 0xff, 0xff, 0xff, 0xff]]).await, Reason::MessageTooLarge);
    }

    #[tokio::test]
    async fn only_the_first_message_of_a_stream_is_read() {
        let (a, b) = (encode_frame(b"a"), encode_frame(b"b"));
        let start = [&a[..], &b[..2]].concat();
        let chunks: [&[u8]; 2] = [&start, &b[2..]];
        let mut stream = body(&chunks);
        let read = read_first(&mut stream, Encoding::Identity).await.unwrap();
        assert_eq!((read.message(), read.ended), (&b"a"[..], false));
        assert_eq!(read.bytes, [&a[..], &b[..2]].concat());
    }

    #[test]
    fn a_conflicting_grpc_encoding_header_is_not_identity() {
        let mut headers = HeaderMap::new();
        assert_eq!(parse_encoding(&headers).unwrap(), Encoding::Identity);
        headers.append("grpc-encoding", "identity".parse().unwrap());
        assert_eq!(parse_encoding(&headers).unwrap(), Encoding::Identity);
        headers.append("grpc-encoding", "gzip".parse().unwrap());
        assert!(!matches!(parse_encoding(&headers), Ok(Encoding::Identity)));
    }
}
