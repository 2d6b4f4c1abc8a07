//! Parses a request and stores its audit intent, before it is sent.

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;

use super::admit::{Admitted, enough};
use super::audit::{self, Closing};
use super::concerned::Concerned;
use super::ids::{self, Counted};
use super::{annotate, generation_check, governed};
use crate::access::policy::{Audit, PolicyEffect, SandboxKey, Streaming};
use crate::db::types::SandboxName;
use crate::digest::Digest;
use crate::error::Error;
use crate::net::BoxError;
use crate::net::deadline::late_request;
use crate::proxy::SandboxIds;
use crate::rpc::request_body::HeldBody;
use crate::upstream::exchange::Meter;
use crate::upstream::message::{self, Encoding, Read};

/// A request that is ready to be sent.
pub(super) struct Prepared {
    pub(super) read: Option<Read>,
    pub(super) place: SandboxName,
    pub(super) meter: Option<Arc<Meter>>,
    pub(super) closing: Option<Closing>,
    /// Its request id, if any.
    pub(super) ids: Option<Counted>,
}

/// Parses and audits the request as far as its method requires.
pub(super) async fn prepare<B>(admitted: &mut Admitted<'_>, body: &mut B) -> Result<Prepared, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (guard, app) = (admitted.guard, &admitted.proxy.app);
    let (read, concerned) = match read(admitted, body).await {
        Ok(read) => read,
        // A late request of an unaudited method is not a rejection.
        Err((error @ Error::Late { .. }, _)) if guard.audit == Audit::None => return Err(error),
        Err((error, concerned)) => {
            audit::refuse(&admitted.call, Some(guard), &concerned, Some(&admitted.chosen), &error);
            return Err(error);
        }
    };
    let ids = ids::admit(admitted, read.as_ref()).inspect_err(|error| {
        audit::refuse(&admitted.call, Some(guard), &concerned, Some(&admitted.chosen), error);
    })?;
    if guard.audit == Audit::None {
        let place = concerned.place;
        return Ok(Prepared { read, place, meter: None, closing: None, ids });
    }
    let digest = || (!guard.secret).then(|| app.streamed_digest());
    let whole = read.as_ref().filter(|_| admitted.row.streaming != Streaming::Both);
    let (digest, meter): (Option<Digest>, _) = match whole.filter(|read| read.ended) {
        Some(read) => {
            let of = |mut digest: crate::digest::Streamed| {
                digest.update(read.message());
                digest.finish()
            };
            let streams = admitted.row.streaming != Streaming::Unary;
            (digest().map(of), streams.then(|| Arc::new(Meter::new(None))))
        }
        None => (None, Some(Arc::new(Meter::new(digest())))),
    };
    let actor = admitted.call.caller.as_ref().map(|caller| Arc::clone(caller.actor()));
    let signed =
        |read| annotate::signed(admitted.guard, read, actor.as_deref().unwrap_or_default());
    let read = read.map(signed).transpose()?;
    let mut closing = audit::open(app, admitted, &concerned, digest).await?;
    if let Some(meter) = &meter {
        closing.metered(meter, admitted.row.streaming);
    }
    let place = concerned.place;
    Ok(Prepared { read, place, meter, closing: Some(closing), ids })
}

/// Parses and checks the request if it is governed or names a sandbox, and finds what it refers to. Other requests are
/// also parsed, with fewer checks, unless they name nothing and stream or are compressed.
async fn read<B>(
    admitted: &mut Admitted<'_>,
    body: &mut B,
) -> Result<(Option<Read>, Concerned), (Error, Concerned)>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let guard = admitted.guard;
    let governed = guard.effect != PolicyEffect::None;
    let nowhere = |error| (error, Concerned::default());
    let streams = matches!(admitted.row.streaming, Streaming::Client | Streaming::Both);
    let encoding = admitted.arrived.encoding;
    let named = guard.sandbox_key != SandboxKey::None;
    let plain = encoding == Encoding::Identity;
    let unnamed = !governed && !named && guard.target_path.is_empty();
    if unnamed && admitted.row.request_id.is_empty() && (streams || !plain) {
        // It names nothing, so parsing would only check its syntax. Streams and compressed messages are forwarded as
        // bytes.
        return Ok((admitted.arrived.read.take(), Concerned::default()));
    }
    encoding.readable().map_err(nowhere)?;
    let read = match admitted.arrived.read.take() {
        Some(read) => read,
        None => first(admitted, body).await.map_err(nowhere)?,
    };
    if !governed && !named {
        generation_check::sound(admitted.row, admitted.generation, read.message())
            .map_err(nowhere)?;
        let concerned = Concerned::read(guard, read.message());
        concerned.bounded().map_err(nowhere)?;
        return Ok((Some(read), concerned));
    }
    let message = read.message();
    generation_check::check(
        admitted.row,
        admitted.generation,
        &admitted.chosen.gateway.name,
        message,
    )
    .map_err(nowhere)?;
    let mut concerned = Concerned::read(guard, message);
    concerned.bounded().map_err(nowhere)?;
    let forged = annotate::refuse_forged(admitted.guard, message);
    let role = forged.and_then(|()| governed::role_of(admitted.guard, message));
    let role = role.map_err(|error| (error, concerned.clone()))?;
    enough(&admitted.chosen, role).map_err(|error| (error, concerned.clone()))?;
    admitted.watch.needs(role);
    // The request may have taken long to arrive, and the permission may have been lost meanwhile.
    admitted.watch.recheck().map_err(|error| (error, concerned.clone()))?;
    if guard.sandbox_key == SandboxKey::Id {
        let ids = &admitted.proxy.app.part::<SandboxIds>();
        let found = ids.place(admitted.chosen.gateway.id, &admitted.lease, &concerned.place.name);
        let found = admitted.watch.within(found).await.and_then(|found| found);
        match found {
            Ok(found) => concerned.place = found.as_ref().clone(),
            Err(error) => return Err((error, concerned)),
        }
    }
    Ok((Some(read), concerned))
}

/// Reads the first message of a streaming request. Fails if it takes longer than the configured time, passes the
/// deadline, or its caller loses the permission.
async fn first<B>(admitted: &Admitted<'_>, body: &mut B) -> Result<Read, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let within = admitted.proxy.app.config.limits.body();
    let (held, encoding) = (admitted.call.held.as_ref(), admitted.arrived.encoding);
    let mut body = HeldBody::new(body, held);
    let arriving = tokio::time::timeout(within, message::first(&mut body, encoding));
    admitted.watch.within(arriving).await?.map_err(|_| late_request())?
}
