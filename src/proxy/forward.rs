//! The way of one call: which gateway, may the caller, what does it ask for, recorded, sent, answered.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use tokio::time::sleep_until;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::body::{Passing, ProxiedBody};
use super::connection::{Connection, Lease};
use super::headers::{self, Ours};
use super::message::{self, Read};
use super::record::{self, Closing, Place};
use super::sandboxes::{self, Learn};
use super::scan::{Schema, Unknown};
use super::target::{self, Chosen};
use super::upstream::{Answer, Exchange, Failed, Meter, Part, Source};
use super::watch::Watch;
use super::{BoxError, Proxy, governed, rewrite, wire};
use crate::access::policy::{
    Audit, Guard, PolicyEffect, SandboxKey, Streaming, UpstreamMethod,
};
use crate::access::roles::Role;
use crate::ctx::{Call, Digest};
use crate::error::{Error, Reason};
use crate::resources::gateways::targets::{Generation, Target};
use crate::transport::layers::{limits, request_id};

/// How long a request that is read may take to arrive.
const READ_TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// How a method is guarded in each generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// In generation 0.0.
    pub(crate) v0_0: Option<&'static UpstreamMethod>,
    /// In generation 0.1.
    pub(crate) v0_1: Option<&'static UpstreamMethod>,
}

impl Rows {
    /// The row and guard of a method in a gateway's generation.
    fn of(
        self,
        generation: Generation,
        gateway: &str,
        path: &'static str,
    ) -> Result<(&'static UpstreamMethod, &'static Guard), Error> {
        let row = match generation {
            Generation::V0_0 => self.v0_0,
            Generation::V0_1 => self.v0_1,
            Generation::Unknown | Generation::Unsupported => {
                let why = format!("gateway `{gateway}` speaks a wire that is not supported");
                return Err(Error::refused(Reason::WireUnsupported, why));
            }
        };
        let row = row.ok_or_else(|| Error::Unimplemented { path: path.to_owned() })?;
        let guard = row.guard.as_ref().ok_or_else(|| {
            Error::refused(Reason::MethodNotForwarded, format!("`{path}` is never forwarded"))
        })?;
        Ok((row, guard))
    }

    /// The guard before the generation is known: the one that asks for less.
    fn any(self) -> Option<&'static Guard> {
        let guards = [self.v0_0, self.v0_1].into_iter().filter_map(|row| row?.guard.as_ref());
        guards.min_by_key(|guard| guard.role)
    }
}

/// A call that was let through to its gateway.
struct Admitted<'a> {
    proxy: &'a Proxy,
    call: Call,
    chosen: Chosen,
    target: Arc<Target>,
    row: &'static UpstreamMethod,
    guard: &'static Guard,
    generation: Generation,
    lease: Lease,
    watch: Watch,
}

/// What was found out of a request before it is sent.
struct Prepared {
    read: Option<Read>,
    meter: Option<Arc<Meter>>,
    closing: Option<Closing>,
}

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
    let mut admitted = admit(proxy, call, rows, &parts).await?;
    let prepared = prepare(&mut admitted, &parts.headers, &mut body).await?;
    let ended = prepared.read.as_ref().is_some_and(|read| read.ended);
    let source = Source::new(
        prepared.read.map(|read| read.bytes),
        (!ended).then_some(body),
        prepared.meter.clone(),
    );
    let Admitted { call, .. } = &admitted;
    let request_id = request_id::value(call.request_id);
    let mut closing = prepared.closing;
    let sent = send(&mut admitted, &parts.headers, request_id.clone(), source).await;
    let answered = match sent {
        Ok(Some(answer)) => pass(admitted, answer, request_id, prepared.meter, &mut closing).await,
        // Nobody will see the answer; the audit log gets what is true.
        Ok(None) => {
            drop(closing.take());
            Err(Error::Late { why: "the caller has hung up".to_owned() })
        }
        Err(error) => Err(error),
    };
    answered.inspect_err(|error| {
        if let Some(closing) = closing.take() {
            closing.finish(crate::transport::status::code_of(error).0 as i32);
        }
    })
}

/// Which gateway, and may the caller there: before a byte of the body is read.
async fn admit<'a>(
    proxy: &'a Proxy,
    call: Call,
    rows: Rows,
    parts: &http::request::Parts,
) -> Result<Admitted<'a>, Error> {
    let app = &proxy.app;
    let caller = call.caller.clone();
    let caller = caller.ok_or(Error::Unauthenticated { reason: Reason::CredentialMissing })?;
    app.snapshot.check_fresh()?;
    let domain = app.config.server.gateway_domain.as_deref();
    let chosen = target::named(&parts.headers, parts.uri.authority(), domain)
        .and_then(|named| target::choose(&app.snapshot, caller.principal(), named))
        .inspect_err(|_| record::refuse(&call, rows.any(), &Place::default(), None))?;
    let refused = |guard: Option<&'static Guard>, error: Error| {
        record::refuse(&call, guard, &Place::default(), Some(&chosen));
        error
    };
    let away = || Connection::unreachable(&chosen.name);
    // Before anything is asked of the gateway, so that who may not call it can't make us connect either.
    if let Some(guard) = rows.any() {
        enough(&chosen, guard.role).map_err(|error| refused(Some(guard), error))?;
    }
    let target = app.targets.get(chosen.id).ok_or_else(away)?;
    let mut watch =
        Watch::new(app, caller, chosen.id, rows.any().map_or(Role::Admin, |g| g.role), call.deadline);
    let lease = watch.within(proxy.channels.lease(&target)).await??;
    let generation = lease.probe().generation;
    let (row, guard) = rows
        .of(generation, &chosen.name, call.method)
        .map_err(|error| refused(rows.any(), error))?;
    enough(&chosen, guard.role).map_err(|error| refused(Some(guard), error))?;
    watch.needs(guard.role);
    if row.streaming != Streaming::Unary {
        watch.register();
    }
    Ok(Admitted { proxy, call, chosen, target, row, guard, generation, lease, watch })
}

fn enough(chosen: &Chosen, needed: Role) -> Result<(), Error> {
    if chosen.role >= needed {
        return Ok(());
    }
    let (held, name) = (chosen.role, &chosen.name);
    let why = format!("role `{needed}` is needed on gateway `{name}`, the caller has `{held}`");
    Err(Error::Denied { why })
}

/// Reads what has to be read, and records what has to be recorded.
async fn prepare<B>(
    admitted: &mut Admitted<'_>,
    headers: &HeaderMap,
    body: &mut B,
) -> Result<Prepared, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (guard, app) = (admitted.guard, &admitted.proxy.app);
    let (read, place) = match read(admitted, headers, body).await {
        Ok(read) => read,
        Err((error, place)) => {
            record::refuse(&admitted.call, Some(guard), &place, Some(&admitted.chosen));
            return Err(error);
        }
    };
    if guard.audit == Audit::None {
        return Ok(Prepared { read, meter: None, closing: None });
    }
    let digest = || (!guard.secret).then(|| app.streamed_digest());
    let whole = read.as_ref().filter(|_| admitted.row.streaming != Streaming::Both);
    let (digest, meter): (Digest, _) = match whole.filter(|read| read.ended) {
        Some(read) => {
            let of = |mut digest: crate::digest::Streamed| {
                digest.update(read.message());
                digest.finish()
            };
            let streams = admitted.row.streaming != Streaming::Unary;
            (digest().and_then(of), streams.then(|| Arc::new(Meter::new(None))))
        }
        None => (None, Some(Arc::new(Meter::new(digest())))),
    };
    let opened =
        record::open(app, &admitted.call, &admitted.chosen, guard, &place, digest);
    let mut closing = admitted.watch.within(opened).await??;
    if let Some(meter) = &meter {
        closing.metered(meter, admitted.row.streaming);
    }
    Ok(Prepared { read, meter, closing: Some(closing) })
}

/// Reads the request where it is governed or names a sandbox: checks it, and finds what it is about.
async fn read<B>(
    admitted: &mut Admitted<'_>,
    headers: &HeaderMap,
    body: &mut B,
) -> Result<(Option<Read>, Place), (Error, Place)>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let guard = admitted.guard;
    let governed = guard.effect != PolicyEffect::None;
    if !governed && guard.sandbox_key == SandboxKey::None {
        return Ok((None, Place::default()));
    }
    let nowhere = |error| (error, Place::default());
    message::identity(headers).map_err(nowhere)?;
    let streams = matches!(admitted.row.streaming, Streaming::Client | Streaming::Both);
    let arriving = async {
        if streams { message::first(body).await } else { message::whole(body).await }
    };
    let read = admitted.watch.within(tokio::time::timeout(READ_TIME, arriving)).await;
    let late = |_| Error::Late { why: "the request has not arrived in time".to_owned() };
    let read = read.and_then(|read| read.map_err(late)?).map_err(nowhere)?;
    let message = read.message();
    let schema = Schema::of(admitted.generation).ok_or_else(|| Error::internal("no schema"));
    schema
        .and_then(|schema| schema.check(admitted.row.request, message, Unknown::Passed))
        .map_err(nowhere)?;
    let text = |path| wire::text_at(message, path).unwrap_or_default().to_owned();
    let mut place =
        Place { workspace: text(guard.workspace_path), sandbox: text(guard.sandbox_path) };
    let role = governed::role_of(admitted.call.method, message);
    let role = role.map_err(|error| (error, place.clone()))?;
    enough(&admitted.chosen, role).map_err(|error| (error, place.clone()))?;
    admitted.watch.needs(role);
    // The request may have taken long to arrive, and the right to it may have gone meanwhile.
    admitted.watch.recheck().map_err(|error| (error, place.clone()))?;
    if guard.sandbox_key == SandboxKey::Id {
        let ids = &admitted.proxy.app.sandbox_ids;
        let found = ids.place(admitted.chosen.id, &admitted.lease, &place.sandbox);
        let found = admitted.watch.within(found).await.and_then(|found| found);
        place = found.map_err(|error| (error, place))?.as_ref().clone();
    }
    Ok((Some(read), place))
}

/// Sends the request and waits for the answer's beginning; none where the caller has gone. What the gateway has not
/// looked at is sent once more.
async fn send<B>(
    admitted: &mut Admitted<'_>,
    from: &HeaderMap,
    request_id: HeaderValue,
    mut source: Source<B>,
) -> Result<Option<Answer<B>>, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let name = Arc::clone(&admitted.chosen.name);
    let path = admitted.row.path;
    let read = rewrite::applies(path);
    for again in [true, false] {
        let deadline = admitted.call.deadline;
        let ours = Ours {
            authorization: admitted.lease.authorization(),
            timeout: deadline.map(|at| limits::remaining(at, std::time::Instant::now())),
            request_id: request_id.clone(),
            read: read || admitted.learns(),
        };
        let headers = headers::request(from, &ours);
        source = match Exchange::start(admitted.lease.again(), path, headers, source) {
            Err((error, unsent)) => {
                warn!(gateway = %name, %error, again, "a connection takes no more calls");
                unsent
            }
            Ok(exchange) => match answer(exchange, &mut admitted.watch).await? {
                Ok(answer) => return Ok(Some(answer)),
                Err(Failed::Unprocessed(unprocessed)) => *unprocessed,
                Err(Failed::Broken(why)) => {
                    warn!(gateway = %name, why, "a gateway did not answer");
                    return Err(Connection::unreachable(&name));
                }
                Err(Failed::CallerGone) => return Ok(None),
            },
        };
        if again {
            admitted.lease.retire();
            admitted.renew().await?;
        }
    }
    Err(Connection::unreachable(&name))
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

impl Admitted<'_> {
    /// Another connection, which must speak what the request was read in.
    async fn renew(&mut self) -> Result<(), Error> {
        self.lease = self.watch.within(self.proxy.channels.lease(&self.target)).await??;
        if self.lease.probe().generation == self.generation {
            return Ok(());
        }
        let why = format!("gateway `{}` has changed, call again", self.chosen.name);
        Err(Error::unavailable(Reason::GatewayUnreachable, why))
    }

    fn learns(&self) -> bool {
        self.generation == Generation::V0_0 && sandboxes::tells(self.row.path)
    }
}

/// Makes the answer's beginning fit for the caller and lets the rest follow.
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
    let name = &admitted.chosen.name;
    if !headers::is_grpc(head.status, &head.headers) {
        warn!(gateway = %name, status = %head.status, "an answer is not gRPC");
        return Err(Connection::unreachable(name));
    }
    headers::response(&mut head.headers, admitted.lease.gateway_header(), request_id);
    head.version = http::Version::HTTP_2;
    head.extensions.clear();
    let code = headers::code(&head.headers);
    if answer.body.is_end() {
        let code = code.ok_or_else(|| Connection::unreachable(name))?;
        if let Some(closing) = closing.take() {
            closing.finish(code);
        }
        return Ok(Response::from_parts(head, ProxiedBody::default()));
    }
    let version = admitted.lease.version();
    let learn = admitted.learns().then(|| {
        Learn::new(&admitted.proxy.app, admitted.chosen.id, version)
    });
    let passing = Box::new(Passing {
        receiving: answer.body,
        request: answer.pump.map(|pump| AbortOnDropHandle::new(super::own(pump))),
        watch: admitted.watch,
        closing: closing.take(),
        meter,
        learn,
        code,
    });
    let body = if rewrite::applies(admitted.row.path) {
        rewritten(passing, admitted.proxy).await?
    } else {
        ProxiedBody::passing(passing)
    };
    Ok(Response::from_parts(head, body))
}

/// Reads an answer whole and rewrites it.
async fn rewritten(mut passing: Box<Passing>, proxy: &Proxy) -> Result<ProxiedBody, Error> {
    let gateway = Arc::clone(passing.receiving.lease().gateway());
    let mut bytes = BytesMut::new();
    loop {
        match std::future::poll_fn(|cx| passing.poll(cx)).await {
            Part::Data(data) if bytes.len() + data.len() <= rewrite::ANSWER_BYTES_MAX => {
                bytes.extend_from_slice(&data);
            }
            Part::Data(_) => return Err(Connection::unreachable(&gateway)),
            Part::End(trailers) => {
                let failed = trailers.as_ref().and_then(headers::code) != Some(0);
                let ours = message::single(bytes.freeze())
                    .and_then(|answer| proxy.public.rewrite(&answer))
                    .map(|answer| message::framed(&answer));
                return match ours {
                    Some(data) => Ok(ProxiedBody::whole(Some(data), trailers)),
                    // An error has no message, and what can't be rewritten does not pass.
                    None if failed => Ok(ProxiedBody::whole(None, trailers)),
                    None => Err(Connection::unreachable(&gateway)),
                };
            }
        }
    }
}
