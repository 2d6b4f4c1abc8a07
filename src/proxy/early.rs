//! Reads a request before its gateway is connected to, and checks the role if it depends on the message.
//!
//! A request is then already checked if its caller hangs up while the connection is opened, so that its rejection is
//! recorded. An unauthorized request causes no connection.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::time::timeout;

use super::admit::{MethodRows, check_role};
use super::audit;
use super::concerned::RequestSubject;
use super::revocation::CallWatch;
use super::target::SelectedGateway;
use super::update_config::ConfigChange;
use crate::access::policy::{AuditMode, UpstreamPolicy};
use crate::app::App;
use crate::ctx::Call;
use crate::error::Error;
use crate::net::BoxError;
use crate::net::deadline::request_timed_out;
use crate::role::Role;
use crate::rpc::complete::CompleteMessage;
use crate::rpc::request_body::CountedBody;
use crate::upstream::generation::DetectedGeneration;
use crate::upstream::message::{self, Encoding, ReadRequest};

/// A call whose gateway is not connected to yet.
pub(super) struct EarlyReader<'a> {
    pub(super) app: &'a App,
    pub(super) call: &'a Call,
    pub(super) rows: MethodRows,
    pub(super) selected: &'a SelectedGateway,
    /// Last known generation of the gateway.
    pub(super) generation: DetectedGeneration,
    pub(super) watch: &'a CallWatch,
}

/// The part of a request that is read before its gateway is connected to.
pub(super) struct EarlyRequest {
    pub(super) encoding: Encoding,
    /// The request, if it consists of one message.
    pub(super) read: Option<ReadRequest>,
}

impl EarlyReader<'_> {
    /// Reads a request that consists of one message. It waits for its gateway in memory that is counted against its
    /// caller, and uses no connection before it has arrived. Checks the role if the message may require a higher one
    /// than its method. Other faults of the message are found later.
    ///
    /// # Errors
    /// `ROLE_TOO_LOW`, or the error of reading the message.
    pub(super) async fn read<B>(
        &self,
        headers: &HeaderMap,
        body: &mut B,
    ) -> Result<EarlyRequest, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let guard = self.rows.guard_for(self.generation);
        self.read_and_check(headers, body).await.map_err(|(error, subject)| {
            let unaudited = guard.is_some_and(|guard| guard.audit == AuditMode::None);
            // A late request of an unaudited method is not a rejection.
            if !(unaudited && matches!(error, Error::DeadlineExceeded { .. })) {
                audit::record_refusal(self.call, guard, &subject, Some(self.selected), &error);
            }
            error
        })
    }

    async fn read_and_check<B>(
        &self,
        headers: &HeaderMap,
        body: &mut B,
    ) -> Result<EarlyRequest, (Error, RequestSubject)>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let without_subject = |error| (error, RequestSubject::default());
        let encoding = message::parse_encoding(headers).map_err(without_subject)?;
        if self.rows.has_request_stream() {
            return Ok(EarlyRequest { encoding, read: None });
        }
        let within = self.app.config.limits.body();
        let read = read_single(self.call, self.watch, encoding, within, body)
            .await
            .map_err(without_subject)?;
        let guard = self.rows.guard_for(self.generation).filter(|guard| guard.config_change);
        if let (Some(guard), Encoding::Identity) = (guard, encoding) {
            let change = ConfigChange::parse(guard, read.message());
            let role = change.required_role().unwrap_or(Role::None);
            check_role(self.selected, role)
                .map_err(|error| (error, to_subject(guard, read.message(), &change)))?;
        }
        Ok(EarlyRequest { encoding, read: Some(read) })
    }
}

/// Returns what the message refers to, or an empty value if a name is too long to be stored.
fn to_subject(guard: &UpstreamPolicy, message: &[u8], change: &ConfigChange<'_>) -> RequestSubject {
    let subject = RequestSubject::from_message(guard, message, change);
    if subject.check_lengths().is_ok() { subject } else { RequestSubject::default() }
}

/// Reads a request that must be one message. Fails if it takes longer than `within`, passes the deadline, or its caller
/// loses the permission. It is read to its end even if the caller resets its stream right after the message.
pub(super) async fn read_single<B>(
    call: &Call,
    watch: &CallWatch,
    encoding: Encoding,
    within: Duration,
    body: &mut B,
) -> Result<ReadRequest, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut body = CompleteMessage::new(body);
    let mut body = CountedBody::new(&mut body, call.memory.as_ref());
    let reading = timeout(within, message::read_single(&mut body, encoding));
    watch.within(reading).await?.map_err(|_| request_timed_out())?
}
