//! Calls with a stream of requests.

use prost_reflect::{DynamicMessage, MethodDescriptor};
use tokio_stream::Stream;
use tonic::Streaming;

use super::client::{Client, method_path, ready};
use super::codec::DynamicCodec;
use super::rules::MethodRules;
use crate::cli::CliError;

impl Client {
    /// Sends a stream of requests and returns the responses, of which there is one if the method returns no stream. It is
    /// never repeated.
    pub(in crate::cli) async fn exchange(
        &mut self,
        method: &MethodDescriptor,
        requests: impl Stream<Item = DynamicMessage> + Send + 'static,
    ) -> Result<Streaming<DynamicMessage>, CliError> {
        let rules = MethodRules::of(method);
        self.renew_for(rules).await?;
        let request = self.to_stream_request(rules, requests);
        let codec = DynamicCodec { answer: method.output() };
        let mut grpc = self.grpc();
        ready(&mut grpc).await.map_err(|status| self.failure(status))?;
        let answer = grpc.streaming(request, method_path(method)?, codec).await;
        Ok(answer.map_err(|status| self.failure(status))?.into_inner())
    }
}
