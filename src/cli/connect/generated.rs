//! Requests and calls of generated clients.
//!
//! Invariant: a call is repeated only if that is safe: it reads, or its request has a `request_id`, which its repeats
//! share, so that it is done once.

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::client::{ANSWER_TIMEOUT, Client, with_timeout, within};
use super::retry::{Attempts, Repeats};
use crate::cli::CliError;
use crate::pb::v1::auth_service_client::AuthServiceClient;

impl Client {
    /// Returns the request of a single response, with the credential and the timeout, for a generated client of
    /// Shoreguard's own API.
    pub(in crate::cli) fn unary_request<M>(&self, message: M) -> Request<M> {
        with_timeout(self.to_own_request(message), Some(self.answer_timeout()))
    }

    /// Returns the request of a response stream, as [`Self::unary_request`]. It has a timeout only if one was given.
    pub(in crate::cli) fn stream_request<M>(&self, message: M) -> Request<M> {
        with_timeout(self.to_own_request(message), self.timeout)
    }

    /// Returns a generated client and a request without a credential, for the methods of a login.
    pub(in crate::cli) fn public<M>(&self, message: M) -> (AuthServiceClient<Channel>, Request<M>) {
        let request = with_timeout(Request::new(message), Some(self.answer_timeout()));
        (AuthServiceClient::new(self.channel()), request)
    }

    /// Makes a call of a generated client, and repeats it while the connection is lost, within the timeout of a single
    /// response. The caller makes sure that the request only reads, or has a `request_id`.
    pub(in crate::cli) async fn repeat<M, T, F>(
        &self,
        message: &M,
        call: impl FnMut(Request<M>) -> F,
    ) -> Result<T, CliError>
    where
        M: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.repeat_within(Some(self.answer_timeout()), || message.clone(), call).await
    }

    /// Makes a call with a stream of requests, as [`Self::repeat`]. `messages` returns the stream of an attempt. The call
    /// has a timeout only if one was given.
    pub(in crate::cli) async fn repeat_upload<M, T, F>(
        &self,
        messages: impl FnMut() -> M,
        call: impl FnMut(Request<M>) -> F,
    ) -> Result<T, CliError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.repeat_within(self.timeout, messages, call).await
    }

    async fn repeat_within<M, T, F>(
        &self,
        time: Option<Duration>,
        mut message: impl FnMut() -> M,
        mut call: impl FnMut(Request<M>) -> F,
    ) -> Result<T, CliError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut attempts = Attempts::begin(time, Repeats::Lost);
        loop {
            let time = attempts.time_left();
            let request = with_timeout(self.to_own_request(message()), time);
            let status = match within(time, call(request)).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            attempts.wait_after(status).await.map_err(|status| self.failure(status))?;
        }
    }

    fn answer_timeout(&self) -> Duration {
        self.timeout.unwrap_or(ANSWER_TIMEOUT)
    }
}
