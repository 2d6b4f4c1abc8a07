//! Reads a request before its gateway is reached, and judges it where the role that it takes is in the message.
//!
//! A caller that hangs up while a connection is opened has been judged by then, so that its refusal is recorded; and one
//! that may not do what it asks for makes us connect to nothing.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::time::timeout;

use super::admit::{Rows, enough};
use super::concerned::Concerned;
use super::governed;
use super::record::{self};
use super::target::Chosen;
use super::watch::Watch;
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

/// A call whose gateway is not reached yet.
pub(super) struct Early<'a> {
    pub(super) app: &'a App,
    pub(super) call: &'a Call,
    pub(super) rows: Rows,
    pub(super) chosen: &'a Chosen,
    /// What the gateway was last.
    pub(super) generation: Detected,
    pub(super) watch: &'a Watch,
}

/// What has arrived of a request before its gateway is reached.
pub(super) struct Arrived {
    pub(super) encoding: Encoding,
    /// The request, if it is one message.
    pub(super) read: Option<Read>,
}

impl Early<'_> {
    /// Reads a request that is one message: it waits for its gateway in memory that counts for its caller, and holds no
    /// place on a connection before it has arrived. Where the message may ask for more than its method, it is judged.
    /// What can be found wrong with it otherwise is found later.
    ///
    /// # Errors
    /// `ROLE_TOO_LOW`, or that the message could not be read.
    pub(super) async fn read<B>(&self, headers: &HeaderMap, body: &mut B) -> Result<Arrived, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let guard = self.rows.of_generation(self.generation);
        self.judged(headers, body).await.map_err(|(error, concerned)| {
            let unaudited = guard.is_some_and(|guard| guard.audit == Audit::None);
            // A read that is late was not refused.
            if !(unaudited && matches!(error, Error::Late { .. })) {
                record::refuse(self.call, guard, &concerned, Some(self.chosen), &error);
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

    /// What the message names, if its names are short enough to be kept.
    fn concerned(&self, message: &[u8]) -> Concerned {
        let guard = self.rows.of_generation(self.generation);
        let concerned = guard.map(|guard| Concerned::read(guard, message)).unwrap_or_default();
        if concerned.bounded().is_ok() { concerned } else { Concerned::default() }
    }
}

/// Reads a request that must be one message and must arrive soon, while its caller has the right to it. It is read to
/// its end also where the caller resets its stream right after the message.
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
