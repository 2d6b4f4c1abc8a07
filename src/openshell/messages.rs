//! Response messages of one of Shoreguard's own calls, and its final status.
//!
//! Invariants
//! - a response with no status, several, or an invalid code is rejected;
//! - data from a gateway is bounded before it is stored.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use crate::error::Error;
use crate::upstream::budget::{Budget, BudgetClass};
use crate::upstream::connection::Connection;
use crate::upstream::errors::error_from_status;
use crate::upstream::exchange::{ResponseBody, ResponsePart};
use crate::upstream::headers;

/// Maximum size of a response message, in bytes: a page of sandboxes with their policies.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A complete response of a gateway.
#[derive(Debug)]
pub(crate) struct ForwardedResponse {
    /// Its headers, not cleaned.
    pub(crate) headers: HeaderMap,
    /// Its message, if any.
    pub(crate) message: Option<Bytes>,
    /// Its trailers, or the headers that contained the status; cleaned.
    pub(crate) trailers: HeaderMap,
    /// The error of its status; `None` if the status is OK.
    pub(crate) error: Option<Error>,
}

impl ForwardedResponse {
    /// Returns the response that a gateway would give: a message and the status OK.
    pub(crate) fn of_message(message: Bytes) -> Self {
        let trailers = headers::ok_trailers();
        Self { headers: HeaderMap::new(), message: Some(message), trailers, error: None }
    }

    /// Returns the status code that the caller gets.
    pub(crate) fn code(&self) -> i32 {
        headers::status_code([&self.trailers]).unwrap_or_default()
    }
}

/// The messages of a response. If it is dropped before its end, the stream is queued to be reset.
pub(crate) struct Messages {
    /// Headers of the response; empty if they contained the status.
    pub(super) headers: HeaderMap,
    pub(super) gateway: Arc<str>,
    /// The budget that it uses, if any.
    pub(super) budget: Option<(Arc<Budget>, BudgetClass)>,
    pub(super) body: ResponseBody,
    pub(super) _request: Option<AbortOnDropHandle<()>>,
    /// Headers that contain the status: no message may follow.
    pub(super) header_status: Option<HeaderMap>,
    /// Headers or trailers that contained the status, after the end.
    pub(super) trailers: Option<HeaderMap>,
    pub(super) bytes: BytesMut,
    /// Maximum size of a message, in bytes: [`MESSAGE_BYTES_MAX`] or less.
    pub(super) message_bytes_max: usize,
    pub(super) ready: VecDeque<Bytes>,
    pub(super) ended: bool,
    /// Whether a message is larger than the maximum.
    pub(super) is_too_large: bool,
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Messages {
    /// Returns the next message, or `None` if the gateway ended the response with OK.
    ///
    /// # Errors
    /// The gateway's error status; `GATEWAY_UNREACHABLE` if the response breaks off or is malformed,
    /// `GATEWAY_CREDENTIAL_REFUSED` if the gateway rejects Shoreguard's credential, `GATEWAY_OVER_BUDGET` if it sends
    /// too much.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            if self.ended {
                return Ok(None);
            }
            match std::future::poll_fn(|cx| self.body.poll_part(cx)).await {
                Ok(ResponsePart::Data(data)) => self.push_data(&data)?,
                Ok(ResponsePart::End(trailers)) => {
                    self.ended = true;
                    self.check_status(trailers)?;
                }
                Err(broken) => {
                    self.body.lease().log_failure(format_args!("an answer broke off: {broken}"));
                    return Err(broken.to_error(&self.gateway));
                }
            }
        }
    }

    fn push_data(&mut self, data: &[u8]) -> Result<(), Error> {
        if self.header_status.is_some() && !data.is_empty() {
            self.body.lease().log_failure("a response continues after its status");
            return Err(Connection::unreachable(&self.gateway));
        }
        self.bytes.extend_from_slice(data);
        let before = self.ready.len();
        while let Some(prefix) = self.bytes.get(..5) {
            let mut prefix = prefix;
            let compressed = prefix.get_u8() != 0;
            let length = prefix.get_u32() as usize;
            if compressed || length > self.message_bytes_max {
                self.is_too_large = !compressed;
                // Above a lower limit, the call is repeated with this one.
                if compressed || length > MESSAGE_BYTES_MAX {
                    self.body.lease().log_failure("a response is too large or compressed");
                }
                return Err(Connection::unreachable(&self.gateway));
            }
            if self.bytes.len() < 5 + length {
                break;
            }
            self.bytes.advance(5);
            self.ready.push_back(self.bytes.split_to(length).freeze());
        }
        let messages = self.ready.len() - before;
        let spend = |(budget, class): &(Arc<Budget>, BudgetClass)| {
            budget.spend(data.len(), messages, *class)
        };
        self.budget.as_ref().map_or(Ok(()), spend)
    }

    /// Checks the final status and stores the headers or trailers that contain it.
    fn check_status(&mut self, trailers: Option<HeaderMap>) -> Result<(), Error> {
        let parts = [self.header_status.take(), trailers];
        // The caller would take it for a rejection of its own credential.
        let credential_error = |part| headers::credential_error(&self.gateway, part);
        if let Some(error) = parts.iter().flatten().find_map(credential_error) {
            return Err(error);
        }
        let Some(code) = headers::status_code(parts.iter().flatten()) else {
            self.body.lease().log_failure("an answer ends without a valid status");
            return Err(Connection::unreachable(&self.gateway));
        };
        let end = parts.into_iter().flatten().find(headers::has_status);
        let mut end = end.unwrap_or_default();
        // An unreadable message would otherwise change the code.
        headers::clean(&mut end);
        let status = Status::from_header_map(&end);
        self.trailers = Some(end);
        let read = status.filter(|status| status.code() as i32 == code);
        let status = read.ok_or_else(|| Error::internal("a status that was judged"))?;
        error_from_status(&self.gateway, &status).map_or(Ok(()), Err)
    }
}
