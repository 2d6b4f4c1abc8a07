//! Parses a request and stores its audit intent, before it is sent.

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;

use super::admit::{AdmittedCall, check_role};
use super::audit::{self, OpenIntent};
use super::concerned::RequestSubject;
use super::ids::{self, CountedRequestId};
use super::update_config::ConfigChange;
use super::{annotate, generation_check};
use crate::access::policy::{AuditMode, PolicyEffect, SandboxKey, StreamingMode};
use crate::db::types::SandboxName;
use crate::digest::Digest;
use crate::error::Error;
use crate::net::BoxError;
use crate::net::deadline::request_timed_out;
use crate::proxy::SandboxIds;
use crate::rpc::request_body::CountedBody;
use crate::upstream::exchange::Meter;
use crate::upstream::message::{self, Encoding, ReadRequest};

/// A request that is ready to be sent.
pub(super) struct PreparedRequest {
    pub(super) request: Option<ReadRequest>,
    pub(super) sandbox: SandboxName,
    pub(super) meter: Option<Arc<Meter>>,
    pub(super) open_intent: Option<OpenIntent>,
    /// Its request id, if any.
    pub(super) request_id: Option<CountedRequestId>,
}

/// Parses and audits the request as far as its method requires.
pub(super) async fn prepare<B>(
    admitted: &mut AdmittedCall<'_>,
    body: &mut B,
) -> Result<PreparedRequest, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (guard, app) = (admitted.guard, &admitted.proxy.app);
    let (read, subject) = match read_and_check(admitted, body).await {
        Ok(read) => read,
        // A late request of an unaudited method is not a rejection.
        Err((error @ Error::DeadlineExceeded { .. }, _)) if guard.audit == AuditMode::None => {
            return Err(error);
        }
        Err((error, subject)) => {
            audit::record_refusal(
                &admitted.call,
                Some(guard),
                &subject,
                Some(&admitted.selected),
                &error,
            );
            return Err(error);
        }
    };
    let request_id = ids::admit(admitted, read.as_ref()).inspect_err(|error| {
        audit::record_refusal(
            &admitted.call,
            Some(guard),
            &subject,
            Some(&admitted.selected),
            error,
        );
    })?;
    if guard.audit == AuditMode::None {
        let sandbox = subject.sandbox;
        return Ok(PreparedRequest {
            request: read,
            sandbox,
            meter: None,
            open_intent: None,
            request_id,
        });
    }
    let digest = || (!guard.secret).then(|| app.stream_digest());
    let single = read.as_ref().filter(|_| admitted.row.streaming != StreamingMode::Both);
    let (digest, meter): (Option<Digest>, _) = match single.filter(|read| read.ended) {
        Some(read) => {
            let finish = |mut digest: crate::digest::StreamDigest| {
                digest.update(read.message());
                digest.finish()
            };
            let streams = admitted.row.streaming != StreamingMode::Unary;
            (digest().map(finish), streams.then(|| Arc::new(Meter::new(None))))
        }
        None => (None, Some(Arc::new(Meter::new(digest())))),
    };
    let actor = admitted.call.caller.as_ref().map(|caller| Arc::clone(caller.actor()));
    let add_actor =
        |read| annotate::add_actor(admitted.guard, read, actor.as_deref().unwrap_or_default());
    let read = read.map(add_actor).transpose()?;
    let mut open_intent = audit::open(app, admitted, &subject, digest).await?;
    if let Some(meter) = &meter {
        open_intent.set_meter(meter, admitted.row.streaming);
    }
    let sandbox = subject.sandbox;
    Ok(PreparedRequest {
        request: read,
        sandbox,
        meter,
        open_intent: Some(open_intent),
        request_id,
    })
}

/// Parses and checks the request if it is governed or names a sandbox, and finds what it refers to. Other requests are
/// also parsed, with fewer checks, unless they name nothing and stream or are compressed.
async fn read_and_check<B>(
    admitted: &mut AdmittedCall<'_>,
    body: &mut B,
) -> Result<(Option<ReadRequest>, RequestSubject), (Error, RequestSubject)>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let guard = admitted.guard;
    let governed = guard.effect != PolicyEffect::None;
    let without_subject = |error| (error, RequestSubject::default());
    let streams = matches!(admitted.row.streaming, StreamingMode::Client | StreamingMode::Both);
    let encoding = admitted.early_request.encoding;
    let named = guard.sandbox_key != SandboxKey::None;
    let plain = encoding == Encoding::Identity;
    let unnamed = !governed && !named && guard.target_path.is_empty();
    if unnamed && admitted.row.request_id.is_empty() && (streams || !plain) {
        // It names nothing, so parsing would only check its syntax. Streams and compressed messages are forwarded as
        // bytes.
        return Ok((admitted.early_request.read.take(), RequestSubject::default()));
    }
    encoding.check_readable().map_err(without_subject)?;
    let read = match admitted.early_request.read.take() {
        Some(read) => read,
        None => read_first(admitted, body).await.map_err(without_subject)?,
    };
    let message = read.message();
    generation_check::check(
        admitted.row,
        admitted.generation,
        &admitted.selected.gateway.name,
        message,
    )
    .map_err(without_subject)?;
    let change = ConfigChange::parse(guard, message);
    let mut subject = RequestSubject::from_message(guard, message, &change);
    subject.check_lengths().map_err(without_subject)?;
    if !governed && !named {
        return Ok((Some(read), subject));
    }
    let forged = annotate::reject_forged(guard, message);
    let role = forged.and_then(|()| change.required_role());
    let role = role.map_err(|error| (error, subject.clone()))?;
    check_role(&admitted.selected, role).map_err(|error| (error, subject.clone()))?;
    admitted.watch.require_role(role);
    // The request may have taken long to arrive, and the permission may have been lost meanwhile.
    admitted.watch.recheck().map_err(|error| (error, subject.clone()))?;
    if guard.sandbox_key == SandboxKey::Id {
        let ids = &admitted.proxy.app.part::<SandboxIds>();
        let found =
            ids.resolve(admitted.selected.gateway.id, &admitted.lease, &subject.sandbox.name);
        let found = admitted.watch.within(found).await.and_then(|found| found);
        match found {
            Ok(found) => subject.sandbox = found.as_ref().clone(),
            Err(error) => return Err((error, subject)),
        }
    }
    Ok((Some(read), subject))
}

/// Reads the first message of a streaming request. Fails if it takes longer than the configured time, passes the
/// deadline, or its caller loses the permission.
async fn read_first<B>(admitted: &AdmittedCall<'_>, body: &mut B) -> Result<ReadRequest, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let within = admitted.proxy.app.config.limits.body();
    let (memory, encoding) = (admitted.call.memory.as_ref(), admitted.early_request.encoding);
    let mut body = CountedBody::new(body, memory);
    let reading = tokio::time::timeout(within, message::read_first(&mut body, encoding));
    admitted.watch.within(reading).await?.map_err(|_| request_timed_out())?
}
