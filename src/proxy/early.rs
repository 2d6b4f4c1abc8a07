//! Judges a request by its message before its gateway is reached, where the role that it takes is in the message.
//!
//! A caller that hangs up while a connection is opened has been judged by then, so that its refusal is recorded; and one
//! that may not do what it asks for makes us connect to nothing.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::time::timeout;

use super::admit::{Rows, enough};
use super::governed;
use super::record::{self, Place};
use super::target::Chosen;
use super::watch::Watch;
use crate::app::App;
use crate::ctx::Call;
use crate::error::Error;
use crate::net::BoxError;
use crate::net::deadline::late_request;
use crate::pb::wire;
use crate::role::Role;
use crate::rpc::complete::Complete;
use crate::rpc::request_body::HeldBody;
use crate::upstream::generation::Generation;
use crate::upstream::message::{self, Read};

/// A call whose gateway is not reached yet.
pub(super) struct Early<'a> {
    pub(super) app: &'a App,
    pub(super) call: &'a Call,
    pub(super) rows: Rows,
    pub(super) chosen: &'a Chosen,
    /// What the gateway was last.
    pub(super) generation: Generation,
    pub(super) watch: &'a Watch,
}

impl Early<'_> {
    /// Reads the request where its message may ask for more than its method and the caller may not do all. What can be
    /// found wrong with it otherwise is found later.
    ///
    /// # Errors
    /// `ROLE_TOO_LOW`, or that the message could not be read.
    pub(super) async fn read<B>(
        &self,
        headers: &HeaderMap,
        body: &mut B,
    ) -> Result<Option<Read>, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let asks = governed::may_ask_for_more(self.rows.path) && self.chosen.role < Role::Admin;
        if !asks || message::identity(headers).is_err() {
            return Ok(None);
        }
        let guard = self.rows.of_generation(self.generation);
        let judged = self.judged(body).await.map_err(|(error, place)| {
            record::refuse(self.call, guard, &place, Some(self.chosen), &error);
            error
        });
        judged.map(Some)
    }

    async fn judged<B>(&self, body: &mut B) -> Result<Read, (Error, Place)>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let nowhere = |error| (error, Place::default());
        let held = self.call.held.clone();
        let mut body = Complete::new(body);
        let mut body = HeldBody::new(&mut body, held.as_ref());
        let arriving = timeout(self.app.config.limits.body(), message::whole(&mut body));
        let read =
            self.watch.within(arriving).await.and_then(|read| read.map_err(|_| late_request())?);
        let read = read.map_err(nowhere)?;
        let role = governed::role_of(self.rows.path, read.message()).unwrap_or(Role::None);
        match enough(self.chosen, role) {
            Ok(()) => Ok(read),
            Err(error) => Err((error, self.place(read.message()))),
        }
    }

    /// What the message names, if that is a name.
    fn place(&self, message: &[u8]) -> Place {
        let Some(guard) = self.rows.of_generation(self.generation) else {
            return Place::default();
        };
        let at = |path| wire::text_at(message, path).unwrap_or_default().to_owned();
        let place = Place { workspace: at(guard.workspace_path), sandbox: at(guard.sandbox_path) };
        if place.bounded().is_ok() { place } else { Place::default() }
    }
}
