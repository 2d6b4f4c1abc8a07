//! Forwards one call: admits, parses, audits and sends it, and returns the response.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use tokio::time::sleep_until;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::admit::{Admitted, Rows, admit};
use super::audit::Closing;
use super::body::{Passing, ProxiedBody};
use super::read_request::prepare;
use super::revocation::Watch;
use super::sandboxes::Learn;
use super::{Proxy, create_delete, rewrite};
use crate::access::policy::Streaming;
use crate::ctx::Call;
use crate::error::Error;
use crate::fair::Held;
use crate::net::BoxError;
use crate::net::deadline;
use crate::rpc::request_id;
use crate::upstream::connection::Connection;
use crate::upstream::exchange::{Answer, Exchange, Failed, Meter, Part, Source};
use crate::upstream::headers::{self, Ours};
use crate::upstream::message;

/// Maximum number of connections on which a call is attempted.
const TRIES: u32 = 4;

/// Forwards a call.
pub(crate) async fn run<B>(
    proxy: &Proxy,
    call: Call,
    rows: Rows,
    request: Request<B>,
) -> Result<Response<ProxiedBody>, Error>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, mut body) = request.into_parts();
    let mut admitted = admit(proxy, call, rows, &parts, &mut body).await?;
    let mut prepared = prepare(&mut admitted, &mut body).await?;
    // The permission may have changed while the connection was opened and the intent stored.
    if let Err(error) = admitted.watch.recheck() {
        if let Some(closing) = prepared.closing.take() {
            closing.refused(&error);
        }
        return Err(error);
    }
    if let Some(change) = admitted.guard.lifecycle {
        let request_id = request_id::value(admitted.call.request_id);
        return create_delete::run(change, admitted, &parts.headers, request_id, prepared).await;
    }
    let ended = prepared.read.as_ref().is_some_and(|read| read.ended);
    let one_message = !matches!(admitted.row.streaming, Streaming::Client | Streaming::Both);
    let source = Source::new(
        prepared.read.map(|read| read.bytes),
        (!ended).then_some(body),
        prepared.meter.clone(),
    )
    .guarded(admitted.watch.guard())
    .arriving_within(one_message.then(|| proxy.app.config.limits.body()));
    let request_id = request_id::value(admitted.call.request_id);
    let mut closing = prepared.closing;
    let unanswered = closing.as_ref().map(Closing::unanswered).unwrap_or_default();
    let source = source.telling(unanswered);
    if let Some(closing) = &mut closing {
        closing.counts(prepared.ids);
    }
    let sent = send(&mut admitted, &parts.headers, request_id.clone(), source).await;
    let answered = match sent {
        Ok(Some(answer)) => pass(admitted, answer, request_id, prepared.meter, &mut closing).await,
        // The caller disconnected. Dropping `closing` records whether the outcome is known.
        Ok(None) => {
            drop(closing.take());
            Err(Error::Late { why: "the caller has hung up".to_owned() })
        }
        Err(error) => Err(error),
    };
    answered.inspect_err(|error| {
        if let Some(closing) = closing.take() {
            closing.ended(error);
        }
    })
}

/// Sends the request and waits for the beginning of the response. Returns `None` if the caller disconnected. A request
/// that the gateway refused unprocessed is retried once; a request without send window is moved to another connection.
async fn send<B>(
    admitted: &mut Admitted<'_>,
    from: &HeaderMap,
    request_id: HeaderValue,
    mut source: Source<B>,
) -> Result<Option<Answer<B>>, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let name = Arc::clone(&admitted.chosen.gateway.name);
    let path = admitted.row.path;
    let read = admitted.guard.answers_address;
    let (mut tries, mut resent) = (TRIES, false);
    loop {
        let deadline = admitted.call.deadline;
        let ours = Ours {
            authorization: admitted.lease.authorization(),
            timeout: deadline.map(|at| deadline::remaining(at, std::time::Instant::now())),
            request_id: request_id.clone(),
            read: read || admitted.learns(),
            traceparent: admitted.call.traceparent.clone(),
        };
        let headers = headers::request(from, &ours);
        tries -= 1;
        source = match Exchange::start(admitted.lease.again(), path, headers, source) {
            // Nothing was sent, for example because the gateway restarts and every connection got a GOAWAY.
            Err((error, unsent)) if tries > 0 => {
                debug!(gateway = %name, %error, "a connection takes no more calls");
                *unsent
            }
            Err((error, _)) => {
                warn!(gateway = %name, %error, "no connection takes the call");
                return Err(Connection::unreachable(&name));
            }
            Ok(exchange) => match answer(exchange, &mut admitted.watch).await? {
                Ok(answer) => return Ok(Some(answer)),
                Err(Failed::Unprocessed(unprocessed)) if !resent && tries > 0 => {
                    resent = true;
                    *unprocessed
                }
                Err(Failed::Stalled(unprocessed)) if tries > 0 => {
                    debug!(gateway = %name, "a connection gives no window, the call is moved");
                    *unprocessed
                }
                Err(Failed::Unprocessed(_) | Failed::Stalled(_)) => {
                    return Err(Connection::unreachable(&name));
                }
                Err(Failed::Broken(why)) => {
                    warn!(gateway = %name, why, "a gateway did not answer");
                    return Err(Connection::unreachable(&name));
                }
                Err(Failed::CallerGone) => return Ok(None),
                Err(Failed::Refused(error)) => return Err(error),
            },
        };
        admitted.lease.retire();
        admitted.renew().await?;
    }
}

async fn answer<B>(
    mut exchange: Exchange<B>,
    watch: &mut Watch,
) -> Result<Result<Answer<B>, Failed<B>>, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut timer = std::pin::pin!(sleep_until(watch.next()));
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(answer) = exchange.poll_answer(cx) {
            return std::task::Poll::Ready(Ok(answer));
        }
        watch.poll_with(timer.as_mut(), cx).map(Err)
    })
    .await
}

/// Cleans the headers of the response for the caller and forwards the body.
async fn pass<B>(
    admitted: Admitted<'_>,
    answer: Answer<B>,
    request_id: HeaderValue,
    meter: Option<Arc<Meter>>,
    closing: &mut Option<Closing>,
) -> Result<Response<ProxiedBody>, Error>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    let (mut head, ()) = answer.head.into_parts();
    let name = &admitted.chosen.gateway.name;
    if let Some(error) = headers::credential_refusal(name, head.status, &head.headers) {
        warn!(gateway = %name, "a gateway does not accept our credential");
        if let Some(closing) = closing {
            closing.told();
        }
        return Err(error);
    }
    if !headers::is_grpc(head.status, &head.headers) {
        warn!(gateway = %name, status = %head.status, "an answer is not gRPC");
        return Err(Connection::unreachable(name));
    }
    let early = if answer.body.is_end() { None } else { headers::take_status(&mut head.headers) };
    headers::response(&mut head.headers, admitted.lease.gateway_header(), request_id);
    head.version = http::Version::HTTP_2;
    head.extensions.clear();
    if answer.body.is_end() {
        let Some(code) = headers::verdict([&head.headers]) else {
            warn!(gateway = %name, "an answer has no status, or none that is one");
            return Err(Connection::unreachable(name));
        };
        if let Some(closing) = closing.take() {
            closing.answered(code, Some(&head.headers));
        }
        return Ok(Response::from_parts(head, ProxiedBody::default()));
    }
    let streams = admitted.row.streaming.answer_streams();
    if let Some(closing) = closing.as_mut().filter(|_| streams) {
        closing.begun();
    }
    let version = admitted.lease.version();
    let share = || admitted.call.held.as_ref().map(Held::beside);
    let learn = admitted
        .learns()
        .then(|| Learn::new(&admitted.proxy.app, admitted.chosen.gateway.id, version, share()));
    let taking = admitted.call.taking.clone();
    let taking = taking.filter(|_| streams);
    let outside = taking.map(|taking| crate::net::own(admitted.watch.reset_unpolled(taking)));
    let rewrites = admitted.guard.answers_address;
    let passing = Box::new(Passing {
        receiving: answer.body,
        request: answer.pump.map(|pump| AbortOnDropHandle::new(crate::net::own(pump))),
        watch: admitted.watch,
        outside: outside.map(AbortOnDropHandle::new),
        closing: closing.take(),
        rewrites,
        meter,
        learn,
        early,
        share: admitted.unary.is_some().then(share).flatten(),
        _unary: admitted.unary,
    });
    if !rewrites {
        return Ok(Response::from_parts(head, ProxiedBody::passing(passing)));
    }
    let mut passing = passing;
    let body = rewritten(&mut passing, admitted.proxy).await.inspect_err(|_| {
        // The gateway executed the call, but the caller gets an error.
        *closing = passing.closing.take();
    })?;
    Ok(Response::from_parts(head, body))
}

/// Reads a complete response and rewrites it.
async fn rewritten(passing: &mut Passing, proxy: &Proxy) -> Result<ProxiedBody, Error> {
    let gateway = Arc::clone(passing.receiving.lease().gateway());
    let mut bytes = BytesMut::new();
    loop {
        match std::future::poll_fn(|cx| passing.poll(cx)).await {
            Part::Data(data) if bytes.len() + data.len() <= rewrite::ANSWER_BYTES_MAX => {
                bytes.extend_from_slice(&data);
            }
            Part::Data(_) => return Err(Connection::unreachable(&gateway)),
            Part::End(trailers) => {
                let failed = headers::verdict(&trailers) != Some(0);
                let ours = message::single(bytes.freeze())
                    .and_then(|answer| rewrite::rewrite(&proxy.public, &answer))
                    .map(|answer| message::framed(&answer));
                return match ours {
                    Some(data) => {
                        passing.is_rewritten();
                        Ok(ProxiedBody::whole(Some(data), trailers))
                    }
                    // An error has no message. A message that cannot be rewritten is not forwarded.
                    None if failed => Ok(ProxiedBody::whole(None, trailers)),
                    None => Err(Connection::unreachable(&gateway)),
                };
            }
        }
    }
}
