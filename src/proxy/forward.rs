//! Forwards one call: admits, parses, audits and sends it, and returns the response.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tokio::time::sleep_until;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::admit::{AdmittedCall, MethodRows, admit};
use super::audit::OpenIntent;
use super::body::{ForwardedBody, ProxiedBody};
use super::read_request::prepare;
use super::revocation::CallWatch;
use super::sandboxes::IdCollector;
use super::{Proxy, governance, rewrite};
use crate::access::policy::{StreamingMode, UpstreamPolicy};
use crate::ctx::Call;
use crate::error::Error;
use crate::fair::{LimitShare, MemoryAccount, too_many_bytes};
use crate::net::BoxError;
use crate::net::deadline;
use crate::net::public_address::PublicAddress;
use crate::rpc::request_id;
use crate::upstream::connection::{Connection, Lease};
use crate::upstream::exchange::{
    Exchange, ExchangeError, Meter, RequestSource, ResponsePart, ResponseStart,
};
use crate::upstream::headers::{self, AddedHeaders};
use crate::upstream::{message, unreachable};

/// Maximum number of connections on which a call is attempted.
const TRIES: u32 = 4;

/// Forwards a call.
pub(crate) async fn run<B>(
    proxy: &Proxy,
    call: Call,
    rows: MethodRows,
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
        if let Some(open_intent) = prepared.open_intent.take() {
            open_intent.finish_refused(&error);
        }
        return Err(error);
    }
    if let Some(change) = admitted.guard.change {
        let request_id = request_id::to_header(admitted.call.request_id);
        return governance::run(change, *admitted, &parts.headers, request_id, prepared).await;
    }
    let ended = prepared.request.as_ref().is_some_and(|read| read.ended);
    let one_message =
        !matches!(admitted.row.streaming, StreamingMode::Client | StreamingMode::Both);
    let source = RequestSource::new(
        prepared.request.map(|read| read.bytes),
        (!ended).then_some(body),
        prepared.meter.clone(),
    )
    .with_guard(admitted.watch.guard())
    .with_arrival_timeout(one_message.then(|| proxy.app.config.limits.body()));
    let request_id = request_id::to_header(admitted.call.request_id);
    let mut open_intent = prepared.open_intent;
    let outcome_unknown = open_intent.as_ref().map(OpenIntent::outcome_unknown);
    let source = source.with_outcome_flag(outcome_unknown);
    if let Some(open_intent) = &mut open_intent {
        open_intent.set_request_id(prepared.request_id);
    }
    let sent = send(&mut admitted, &parts.headers, request_id.clone(), source).await;
    let answered = match sent {
        Ok(Some(answer)) => {
            forward_response(admitted, answer, request_id, prepared.meter, &mut open_intent).await
        }
        // The caller disconnected. Dropping `open_intent` records whether the outcome is known.
        Ok(None) => {
            drop(open_intent.take());
            Err(Error::DeadlineExceeded { why: "the caller has hung up".to_owned() })
        }
        Err(error) => Err(error),
    };
    answered.inspect_err(|error| {
        if let Some(open_intent) = open_intent.take() {
            open_intent.finish_with_error(error);
        }
    })
}

/// Sends the request and waits for the beginning of the response. Returns `None` if the caller disconnected. A request
/// that the gateway refused unprocessed is retried once; a request without send window is moved to another connection.
async fn send<B>(
    admitted: &mut AdmittedCall<'_>,
    from: &HeaderMap,
    request_id: HeaderValue,
    mut source: RequestSource<B>,
) -> Result<Option<ResponseStart<B>>, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let name = Arc::clone(&admitted.selected.gateway.name);
    let path = admitted.row.path;
    let read = admitted.guard.is_response_rewritten();
    let (mut tries, mut resent) = (TRIES, false);
    loop {
        let deadline = admitted.call.deadline;
        let added = AddedHeaders {
            authorization: admitted.lease.authorization(),
            timeout: deadline.map(|at| deadline::remaining_timeout(at, std::time::Instant::now())),
            request_id: request_id.clone(),
            reads_response: read || admitted.reports_sandbox_ids(),
            traceparent: admitted.call.traceparent.clone(),
        };
        let headers = headers::for_forwarding(from, &added);
        tries -= 1;
        source = match Exchange::start(admitted.lease.duplicate(), path, headers, source) {
            // Nothing was sent, for example because the gateway restarts and every connection got a GOAWAY.
            Err((error, unsent)) if tries > 0 => {
                debug!(gateway = %name, %error, "a connection accepts no more calls");
                *unsent
            }
            Err((error, _)) => {
                admitted.lease.log_failure(&error);
                return Err(Connection::unreachable(&name));
            }
            Ok(exchange) => match wait_for_response(exchange, &mut admitted.watch).await? {
                Ok(answer) => return Ok(Some(answer)),
                Err(ExchangeError::Unprocessed(unprocessed)) if !resent && tries > 0 => {
                    resent = true;
                    *unprocessed
                }
                Err(ExchangeError::Stalled(unprocessed)) if tries > 0 => {
                    debug!(gateway = %name, "a connection has no window, the call is moved");
                    *unprocessed
                }
                Err(ExchangeError::Unprocessed(_) | ExchangeError::Stalled(_)) => {
                    return Err(Connection::unreachable(&name));
                }
                Err(ExchangeError::Broken(broken)) => {
                    admitted.lease.log_failure(&broken);
                    return Err(broken.to_error(&name));
                }
                Err(ExchangeError::CallerGone) => return Ok(None),
                Err(ExchangeError::Refused(error)) => return Err(error),
            },
        };
        admitted.lease.retire();
        admitted.renew().await?;
    }
}

async fn wait_for_response<B>(
    mut exchange: Exchange<B>,
    watch: &mut CallWatch,
) -> Result<Result<ResponseStart<B>, ExchangeError<B>>, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut timer = std::pin::pin!(sleep_until(watch.next_deadline()));
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(answer) = exchange.poll_response(cx) {
            return std::task::Poll::Ready(Ok(answer));
        }
        watch.poll_with_timer(timer.as_mut(), cx).map(Err)
    })
    .await
}

/// Rejects a response that is not gRPC, or in which Shoreguard's credential is rejected.
fn check_head(
    lease: &Lease,
    head: &http::response::Parts,
    open_intent: Option<&OpenIntent>,
) -> Result<(), Error> {
    let name = lease.gateway();
    let (error, is_rejected) = if head.status != StatusCode::OK {
        let error = unreachable::error_from_http_status(name, head.status);
        (error, unreachable::is_rejected(head.status))
    } else if let Some(error) = headers::credential_error(name, &head.headers) {
        (error, true)
    } else if headers::is_grpc(head.status, &head.headers) {
        return Ok(());
    } else {
        lease.log_failure("an answer is not gRPC");
        return Err(Connection::unreachable(name));
    };
    lease.log_failure(&error);
    if let Some(open_intent) = open_intent.filter(|_| is_rejected) {
        open_intent.mark_outcome_known();
    }
    Err(error)
}

/// Cleans the headers of the response for the caller and forwards the body.
async fn forward_response<B>(
    admitted: Box<AdmittedCall<'_>>,
    answer: ResponseStart<B>,
    request_id: HeaderValue,
    meter: Option<Arc<Meter>>,
    open_intent: &mut Option<OpenIntent>,
) -> Result<Response<ProxiedBody>, Error>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    let admitted = *admitted;
    let (mut head, ()) = answer.head.into_parts();
    let name = &admitted.selected.gateway.name;
    check_head(&admitted.lease, &head, open_intent.as_ref())?;
    let header_status =
        if answer.body.is_end() { None } else { headers::take_status(&mut head.headers) };
    headers::clean_response(&mut head.headers, admitted.lease.gateway_header(), request_id);
    head.version = http::Version::HTTP_2;
    head.extensions.clear();
    if answer.body.is_end() {
        let Some(code) = headers::status_code([&head.headers]) else {
            admitted.lease.log_failure("an answer has no valid status");
            return Err(Connection::unreachable(name));
        };
        if let Some(open_intent) = open_intent.take() {
            open_intent.finish_with_status(code, Some(&head.headers));
        }
        return Ok(Response::from_parts(head, ProxiedBody::default()));
    }
    let streams = admitted.row.streaming.is_server_streaming();
    if let Some(open_intent) = open_intent.as_mut().filter(|_| streams) {
        open_intent.mark_accepted();
    }
    let version = admitted.lease.version();
    let buffer_share = || admitted.call.memory.as_ref().map(MemoryAccount::new_share);
    let id_collector = admitted.reports_sandbox_ids().then(|| {
        IdCollector::new(&admitted.proxy.app, admitted.selected.gateway.id, version, buffer_share())
    });
    let read_tracker = admitted.call.read_tracker.clone();
    let read_tracker = read_tracker.filter(|_| streams);
    let reset_task = read_tracker
        .map(|read_tracker| crate::net::spawn_owned(admitted.watch.reset_unpolled(read_tracker)));
    let (guard, rewrites) = (admitted.guard, admitted.guard.is_response_rewritten());
    let body = Box::new(ForwardedBody {
        response: answer.body,
        request: answer.pump.map(|pump| AbortOnDropHandle::new(crate::net::spawn_owned(pump))),
        watch: admitted.watch,
        reset_task: reset_task.map(AbortOnDropHandle::new),
        open_intent: open_intent.take(),
        rewrites,
        meter,
        id_collector,
        header_status,
        buffer_share: admitted.unary.is_some().then(buffer_share).flatten(),
        _unary_share: admitted.unary,
    });
    if !rewrites {
        return Ok(Response::from_parts(head, ProxiedBody::forwarding(body)));
    }
    let (mut body, public) = (body, &admitted.proxy.public);
    let rewritten = rewrite_response(&mut body, guard, public, buffer_share()).await;
    let body = rewritten.inspect_err(|_| {
        // The gateway executed the call, but the caller gets an error.
        *open_intent = body.open_intent.take();
    })?;
    Ok(Response::from_parts(head, body))
}

/// Reads a complete response and rewrites it. `share` counts its bytes against the caller.
async fn rewrite_response(
    body: &mut ForwardedBody,
    guard: &UpstreamPolicy,
    public: &PublicAddress,
    mut share: Option<LimitShare>,
) -> Result<ProxiedBody, Error> {
    let gateway = Arc::clone(body.response.lease().gateway());
    let (bytes_max, mut bytes) = (rewrite::answer_bytes_max(guard), BytesMut::new());
    loop {
        match std::future::poll_fn(|cx| body.poll(cx)).await {
            ResponsePart::Data(data) if bytes.len() + data.len() <= bytes_max => {
                let grown = share.as_mut().map(|share| share.grow(data.len() as u64));
                grown.transpose().map_err(|_| too_many_bytes())?;
                bytes.extend_from_slice(&data);
            }
            ResponsePart::Data(_) => return Err(Connection::unreachable(&gateway)),
            ResponsePart::End(trailers) => {
                let failed = headers::status_code(&trailers) != Some(0);
                let ours = message::decode_single(bytes.freeze())
                    .and_then(|answer| rewrite::rewrite(guard, &gateway, public, &answer))
                    .map(|answer| message::encode_frame(&answer));
                return match ours {
                    Some(data) => {
                        body.mark_rewritten();
                        Ok(ProxiedBody::complete(Some(data), trailers))
                    }
                    // An error has no message. A message that cannot be rewritten is not forwarded.
                    None if failed => Ok(ProxiedBody::complete(None, trailers)),
                    None => Err(Connection::unreachable(&gateway)),
                };
            }
        }
    }
}
