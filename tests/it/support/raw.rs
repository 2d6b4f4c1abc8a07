//! Calls with a path and bytes: for tests of every method, and for messages that no client sends.

use std::time::Duration;

use bytes::{Buf, BufMut};
use prost::bytes;
use shoreguard::access::policy::StreamingMode;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

use super::server::Caller;

/// Time in which the first response of an accepted stream is awaited.
const RESPONSE_TIME: Duration = Duration::from_millis(500);

/// A codec that passes bytes through.
#[derive(Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

impl Caller {
    /// Calls `path` with one message. Returns the first response, or `None` for a stream that ended without one.
    pub(crate) async fn call_raw(
        &self,
        path: &'static str,
        streaming: StreamingMode,
        message: Vec<u8>,
        metadata: &[(&'static str, &str)],
    ) -> Result<Option<Vec<u8>>, Status> {
        self.call_raw_within(RESPONSE_TIME, path, streaming, message, metadata).await
    }

    /// As [`Caller::call_raw`], and waits at most `time` for the first response of a stream that was accepted.
    pub(crate) async fn call_raw_within(
        &self,
        time: Duration,
        path: &'static str,
        streaming: StreamingMode,
        message: Vec<u8>,
        metadata: &[(&'static str, &str)],
    ) -> Result<Option<Vec<u8>>, Status> {
        let mut client = tonic::client::Grpc::new(tonic::codegen::InterceptedService::new(
            self.channel.clone(),
            self.bearer.clone(),
        ));
        client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let path = http::uri::PathAndQuery::from_static(path);
        let one = tokio_stream::once(message.clone());
        let set = |request: &mut tonic::metadata::MetadataMap| {
            for (name, value) in metadata {
                request.append(*name, value.parse().unwrap());
            }
        };
        match streaming {
            StreamingMode::Unary => {
                let mut request = Request::new(message);
                set(request.metadata_mut());
                Ok(Some(client.unary(request, path, RawCodec).await?.into_inner()))
            }
            StreamingMode::Client => {
                let mut request = Request::new(one);
                set(request.metadata_mut());
                Ok(Some(client.client_streaming(request, path, RawCodec).await?.into_inner()))
            }
            StreamingMode::Server => {
                let mut request = Request::new(message);
                set(request.metadata_mut());
                let mut answers =
                    client.server_streaming(request, path, RawCodec).await?.into_inner();
                first_response(&mut answers, time).await
            }
            StreamingMode::Both => {
                let mut request = Request::new(one);
                set(request.metadata_mut());
                let mut answers = client.streaming(request, path, RawCodec).await?.into_inner();
                first_response(&mut answers, time).await
            }
        }
    }
}

/// Returns the first response of a stream, or `None` if it has not arrived in time, since the call was accepted.
async fn first_response(
    answers: &mut tonic::Streaming<Vec<u8>>,
    time: Duration,
) -> Result<Option<Vec<u8>>, Status> {
    match tokio::time::timeout(time, answers.message()).await {
        Ok(answer) => answer,
        Err(_) => Ok(None),
    }
}
