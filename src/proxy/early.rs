//! Reads a request before its gateway is connected to, and checks the role if it depends on the message.
//!
//! A request is then already checked if its caller hangs up while the connection is opened, so that its rejection is
//! recorded. An unauthorized request causes no connection.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::time::timeout;

use super::admit::{Rows, enough};
use super::audit;
use super::concerned::Concerned;
use super::governed;
use super::revocation::Watch;
use super::target::Chosen;
use crate::access::policy::Audit;
use crate::app::App;
use crate::ctx::Call;
use crate::error::Error;
use crate::net::BoxError;
use crate::net::deadline::late_request;
use crate::role::Role;
use crate::rpc::complete::Complete;
use crate::rpc::request_body::HeldBody;
use crate::upstream::generation::Detected;
use crate::upstream::message::{self, Encoding, Read};

/// A call whose gateway is not connected to yet.
pub(super) struct Early<'a> {
    pub(super) app: &'a App,
    pub(super) call: &'a Call,
    pub(super) rows: Rows,
    pub(super) chosen: &'a Chosen,
    /// Last known generation of the gateway.
    pub(super) generation: Detected,
    pub(super) watch: &'a Watch,
}

/// The part of a request that is read before its gateway is connected to.
pub(super) struct Arrived {
    pub(super) encoding: Encoding,
    /// The request, if it consists of one message.
    pub(super) read: Option<Read>,
}

impl Early<'_> {
    /// Reads a request that consists of one message. It waits for its gateway in memory that is counted against its
    /// caller, and uses no connection before it has arrived. Checks the role if the message may require a higher one
    /// than its method. Other faults of the message are found later.
    ///
    /// # Errors
    /// `ROLE_TOO_LOW`, or the error of reading the message.
    pub(super) async fn read<B>(&self, headers: &HeaderMap, body: &mut B) -> Result<Arrived, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let guard = self.rows.of_generation(self.generation);
        self.judged(headers, body).await.map_err(|(error, concerned)| {
            let unaudited = guard.is_some_and(|guard| guard.audit == Audit::None);
            // A late request of an unaudited method is not a rejection.
            if !(unaudited && matches!(error, Error::Late { .. })) {
                audit::refuse(self.call, guard, &concerned, Some(self.chosen), &error);
            }
            error
        })
    }

    async fn judged<B>(
        &self,
        headers: &HeaderMap,
        body: &mut B,
    ) -> Result<Arrived, (Error, Concerned)>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let nowhere = |error| (error, Concerned::default());
        let encoding = message::encoding(headers).map_err(nowhere)?;
        if self.rows.stream_requests() {
            return Ok(Arrived { encoding, read: None });
        }
        let within = self.app.config.limits.body();
        let read = whole(self.call, self.watch, encoding, within, body).await.map_err(nowhere)?;
        let guard = self.rows.of_generation(self.generation).filter(|guard| guard.config_change);
        if let (Some(guard), Encoding::Identity) = (guard, encoding) {
            let role = governed::role_of(guard, read.message()).unwrap_or(Role::None);
            enough(self.chosen, role).map_err(|error| (error, self.concerned(read.message())))?;
        }
        Ok(Arrived { encoding, read: Some(read) })
    }

    /// Returns what the message refers to, or an empty value if a name is too long to be stored.
    fn concerned(&self, message: &[u8]) -> Concerned {
        let guard = self.rows.of_generation(self.generation);
        let concerned = guard.map(|guard| Concerned::read(guard, message)).unwrap_or_default();
        if concerned.bounded().is_ok() { concerned } else { Concerned::default() }
    }
}

/// Reads a request that must be one message. Fails if it takes longer than `within`, passes the deadline, or its caller
/// loses the permission. It is read to its end even if the caller resets its stream right after the message.
pub(super) async fn whole<B>(
    call: &Call,
    watch: &Watch,
    encoding: Encoding,
    within: Duration,
    body: &mut B,
) -> Result<Read, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut body = Complete::new(body);
    let mut body = HeldBody::new(&mut body, call.held.as_ref());
    let arriving = timeout(within, message::whole(&mut body, encoding));
    watch.within(arriving).await?.map_err(|_| late_request())?
}
