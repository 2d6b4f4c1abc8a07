//! The codec of Shoreguard's own services: protobuf whose text is checked during decoding.
//!
//! Invariants
//! - no handler gets a request with NUL in a string, whether unary or in a stream;
//! - responses are not checked: `REQUESTS` contains request messages only.

use std::any::TypeId;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use prost::Message;
use prost::bytes::Buf;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::strict::{MessageFault, Schema};

/// A function that returns the id of a type: a static cannot contain the id itself.
type TypeIdFn = fn() -> TypeId;

include!(concat!(env!("OUT_DIR"), "/requests.rs"));

/// Capacity that is reserved for one message, in bytes: most are smaller, and an open stream keeps it.
const BUFFER_BYTES: usize = 1 << 10;
/// Bytes of encoded messages from which a stream sends them, as in tonic's default.
const YIELD_BYTES: usize = 32 << 10;

/// tonic's message for a request that cannot be decoded.
pub const UNDECODABLE: &str = "the message cannot be decoded";
/// Prefix of the status message for refused text; the path of the field follows.
const TEXT_REFUSED: &str = "refused text in field ";

static REQUEST_NAMES: LazyLock<HashMap<TypeId, &'static str>> =
    LazyLock::new(|| REQUESTS.iter().map(|(id, name)| (id(), *name)).collect());

/// The codec of the generated services and clients.
#[derive(Debug)]
pub struct CheckedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CheckedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for CheckedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CheckedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffer_settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        let request = REQUEST_NAMES.get(&TypeId::of::<U>()).copied();
        CheckedDecoder { request, inner: ProstDecoder::new(buffer_settings()) }
    }
}

fn buffer_settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

/// Decodes a message, and checks its text if it is a request.
#[derive(Debug)]
pub struct CheckedDecoder<U> {
    /// Full name of the request message; `None` for a response.
    request: Option<&'static str>,
    inner: ProstDecoder<U>,
}

impl<U: Message + Default> Decoder for CheckedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let length = from.remaining();
        // The decoder has the whole message in one piece. A copy is made only if that ever changes.
        match self.request {
            Some(name) if from.chunk().len() == length => check_text(name, from.chunk())?,
            Some(name) => {
                let whole = from.copy_to_bytes(length);
                check_text(name, &whole)?;
                return U::decode(whole).map(Some).map_err(|_| undecodable_status());
            }
            None => {}
        }
        self.inner.decode(from)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.inner.buffer_settings()
    }
}

fn check_text(name: &str, message: &[u8]) -> Result<(), Status> {
    Schema::for_shoreguard().check_text(name, message).map_err(|fault| to_status(&fault))
}

/// Returns the status of a message that cannot be decoded, as tonic creates it.
fn undecodable_status() -> Status {
    Status::new(Code::Internal, UNDECODABLE)
}

/// Returns the status of a request whose text is refused.
#[must_use]
pub fn to_status(fault: &MessageFault) -> Status {
    match fault {
        MessageFault::Nul(field) => Status::invalid_argument(format!("{TEXT_REFUSED}{field}")),
        MessageFault::Ambiguous(_) | MessageFault::Malformed(_) | MessageFault::NoSuchMessage => {
            undecodable_status()
        }
    }
}

/// Returns the path of the field whose text this codec refused; `None` for any other status.
#[must_use]
pub fn refused_field(status: &Status) -> Option<&str> {
    let message = status.message();
    (status.code() == Code::InvalidArgument).then(|| message.strip_prefix(TEXT_REFUSED)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_of_a_string_names_its_field() {
        assert_eq!(
            refused_field(&to_status(&MessageFault::Nul("labels".to_owned()))),
            Some("labels")
        );
        assert_eq!(refused_field(&undecodable_status()), None);
        assert_eq!(refused_field(&Status::invalid_argument("x")), None);
    }
}
