//! The codec of our own services: protobuf whose text is judged where it is decoded.
//!
//! Invariants
//! - no handler gets a request with NUL in a string, whether unary or in a stream;
//! - answers are not judged: only a request message has an entry in `REQUESTS`.

use std::any::TypeId;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use prost::Message;
use prost::bytes::Buf;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

use super::status;
use crate::access::policy::REQUESTS;
use crate::proxy::Schema;

static NAMES: LazyLock<HashMap<TypeId, &'static str>> =
    LazyLock::new(|| REQUESTS.iter().map(|(id, name)| (id(), *name)).collect());

/// The codec that the generated services and clients use.
#[derive(Debug)]
pub struct Checked<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Checked<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Checked<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CheckedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        let request = NAMES.get(&TypeId::of::<U>()).copied();
        CheckedDecoder { request, inner: ProstDecoder::default() }
    }
}

/// Decodes a message, and judges its text if it is a request.
#[derive(Debug)]
pub struct CheckedDecoder<U> {
    /// Full name of the request message; `None` for an answer.
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
            Some(name) if from.chunk().len() == length => judge(name, from.chunk())?,
            Some(name) => {
                let whole = from.copy_to_bytes(length);
                judge(name, &whole)?;
                return U::decode(whole).map(Some).map_err(|_| status::undecodable());
            }
            None => {}
        }
        self.inner.decode(from)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.inner.buffer_settings()
    }
}

fn judge(name: &str, message: &[u8]) -> Result<(), Status> {
    Schema::own().text(name, message).map_err(|error| status::of_text(&error))
}
