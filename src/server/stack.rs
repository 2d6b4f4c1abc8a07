//! The layer stack: what every call passes, in this order, whether it is unary, a stream or proxied.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::IntoResponse;
use futures_util::FutureExt;
use http::header::HeaderName;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tonic::Code;
use tower::ServiceExt;
use tracing::{Instrument, info, info_span};

use super::answer;
use super::body::Body;
use super::in_flight::InFlight;
use super::layers::gate::Route;
use super::layers::open_calls::{OpenCalls, Shares};
use super::layers::telemetry::Measured;
use super::layers::{address_limit, audit, authn, cross, gate, limits};
use super::plain::{self, Plain};
use super::until::Until;
use crate::access::authn::PeerCertificate;
use crate::access::policy::{Access, Method, Streaming};
use crate::access::standing::Place;
use crate::app::App;
use crate::ctx::Call;
use crate::error::{Error, Reason};
use crate::net::deadline;
use crate::net::taking::Taking;
use crate::proxy::Proxy;
use crate::role::Role;
use crate::rpc::complete::Complete;
use crate::rpc::request_body::{RequestBody, Shape};
use crate::rpc::request_id;
use crate::status::{self, code_name};
use crate::telemetry::traces::CallSpan;
use crate::upstream::generation::Generation;

/// Stands in for the method of a path that no table has.
const UNKNOWN_METHOD: &str = "unknown";

/// Ours that touch memory only and are over at once: answered where they arrive. On main they would take two threads
/// and wake each of them.
const IN_MEMORY: [&str; 1] = ["/shoreguard.v1.AuthService/GetCurrentIdentity"];

/// How long a stream of health or reflection goes on after a stop: who watches is told first that we don't serve.
const OPEN_STREAM_LINGER: Duration = Duration::from_millis(500);

/// What one core answers calls with.
pub(super) struct Stack {
    pub(super) app: Arc<App>,
    pub(super) address_limit: Arc<address_limit::AddressLimit>,
    /// For methods that anyone may call, such as logging in: far lower, since each guess costs us work.
    pub(super) public_limit: Arc<address_limit::AddressLimit>,
    /// What calls hold while they are open.
    pub(super) open_calls: Arc<OpenCalls>,
    pub(super) router: axum::Router,
    /// Reflection for whoever selects a gateway of generation 0.0.
    pub(super) reflection_v0_0: axum::Router,
    pub(super) proxy: Proxy,
    /// What is no call.
    pub(super) plain: Plain,
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: std::net::SocketAddr,
    pub(super) certificate: Option<PeerCertificate>,
    /// What a drain of its connection waits for.
    pub(super) in_flight: Arc<InFlight>,
}

impl Stack {
    /// Answers one call.
    pub(super) async fn answer(
        &self,
        peer: &Peer,
        taking: Arc<Taking>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let app = &self.app;
        let headers = request.headers();
        let ip = self.address_limit.client_ip(peer.address.ip(), headers);
        // 1. What is no gRPC is no call: it has no status and no method, and nothing of it is forwarded.
        if let Err(code) = limits::check_grpc(&request) {
            let counted = peer.in_flight.enter();
            let response = self.no_call(ip, taking, request, code).await;
            return response.map(|body| body.counted(Some(counted)));
        }
        let route = gate::route(request.uri().path());
        let method = route.as_ref().map_or(UNKNOWN_METHOD, Route::path);
        let streams = route.as_ref().is_ok_and(Route::streams);
        let counted = (!streams).then(|| peer.in_flight.enter());
        let mut call = Call {
            // 2. The id, so that everything after can name it.
            request_id: request_id::of(headers, || app.new_id()),
            at: app.clock.now(),
            started: Instant::now(),
            deadline: None,
            client_ip: Some(ip),
            caller: None,
            method,
            note: Arc::default(),
            traceparent: None,
            held: None,
            taking: Some(taking),
        };
        // 3. Metrics and log outside everything that may refuse, so that refusals show.
        let span = app.traces.as_ref().and_then(|traces| traces.begin(headers, method));
        call.traceparent = span.as_ref().map(CallSpan::traceparent);
        let (request_id, started) = (call.request_id, call.started);
        let measured = Measured { method, gateway: None, started, request_id, span };
        // 4. Audit outside authentication, so that a refused credential counts; 5. the panic catch inside both.
        let inner =
            AssertUnwindSafe(self.admitted(peer, &mut call, route, request)).catch_unwind().await;
        let mut response = match inner {
            Ok(Ok(response)) => response,
            Ok(Err((error, route))) => {
                // A write that has begun records itself, and a read that is late was not refused.
                let write = writes(route.as_ref());
                let late = matches!(error, Error::Late { .. });
                let ended =
                    late || matches!(error, Error::Unavailable { reason: Reason::Draining, .. });
                let recorded = if write && ended { call.note.lock().give_up() } else { !late };
                if recorded {
                    audit::refused(app, &call, route.as_ref(), &error);
                }
                status::response(error)
            }
            Err(_) => status::response(Error::internal("a panic while answering")),
        };
        Self::finish(&call, measured, &mut response);
        response.map(|body| body.counted(counted))
    }

    /// Answers what is no gRPC call: one of the paths for plain HTTP, else nothing but `code` where it should have been
    /// a call. It counts as a call of nobody.
    async fn no_call(
        &self,
        ip: IpAddr,
        taking: Arc<Taking>,
        request: Request<Incoming>,
        code: StatusCode,
    ) -> Response<Body> {
        let known = gate::route(request.uri().path()).is_ok();
        let multiplexed = request.version() == Version::HTTP_2;
        let mut shares = Shares::default();
        let mut admit = || {
            self.address_limit.admit(ip)?;
            self.open_calls.arrived(&mut shares, ip)?;
            self.open_calls.identified(&mut shares, ip, None)
        };
        let mut response = if admit().is_err() {
            StatusCode::TOO_MANY_REQUESTS.into_response()
        } else if known || code == StatusCode::HTTP_VERSION_NOT_SUPPORTED {
            code.into_response()
        } else {
            self.plain.answer(&self.app, ip, request).await
        };
        plain::finish(response.headers_mut());
        response.map(|body| {
            let body = Body::own(tonic::body::Body::new(body)).holding(shares, None);
            // HTTP/1 has no windows: the socket takes the answer.
            if multiplexed { body.taken_by(&taking) } else { body }
        })
    }

    /// The layers that refuse, and what lies behind them.
    async fn admitted(
        &self,
        peer: &Peer,
        call: &mut Call,
        route: Result<Route, Error>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, (Error, Option<Route>)> {
        let app = &self.app;
        let known = route.as_ref().ok().copied();
        let refuse = |error| (error, known);
        let mut shares = Shares::default();
        let ip = call.client_ip.unwrap_or(peer.address.ip());
        // The address limiter before any work that a flood could buy: hashing, signatures, bodies.
        self.address_limit.admit(ip).map_err(refuse)?;
        self.open_calls.arrived(&mut shares, ip).map_err(refuse)?;
        // Who calls.
        let certificate = peer.certificate.as_ref();
        call.caller = authn::caller(app, request.headers(), certificate).await.map_err(refuse)?;
        audit::begin(app, call);
        let caller = call.caller.as_ref();
        self.open_calls.identified(&mut shares, ip, caller).map_err(refuse)?;
        // What is called, and whether this caller ever could: before a byte of the body is read.
        let route = route.map_err(refuse)?;
        if let Route::Own(Method { access: Access::Public, .. }) = &route {
            self.public_limit.admit(ip).map_err(refuse)?;
        }
        gate::admit(app, &route, caller).map_err(refuse)?;
        self.open_calls.routed(&mut shares, ip, caller, &route).map_err(refuse)?;
        call.held = Some(self.open_calls.held(ip, caller).map_err(refuse)?);
        // How long it may take.
        call.deadline = deadline::deadline(request.headers(), call.started).map_err(refuse)?;
        if app.stop.is_cancelled() {
            return Err(refuse(Error::unavailable(Reason::Draining, "the server is stopping")));
        }
        let response = match &route {
            Route::Proxied { path, v0_0, v0_1 } => {
                let forwarded = self.proxy.forward(call.clone(), path, *v0_0, *v0_1, request);
                let response = forwarded.await.map(Body::proxied);
                // Who pages through the output of a command stops the command, as without us; streams have bounds of
                // their own.
                if let Some(taking) = call.taking.as_ref().filter(|_| route.streams()) {
                    taking.be_patient();
                }
                Self::taken(call, response)
            }
            Route::Own(_) => self.own(call, &route, request).await.map_err(refuse)?,
            Route::Open(_) => {
                let after_stop = route.streams().then_some(OPEN_STREAM_LINGER);
                let mut until = Until::of(app, call.deadline, after_stop);
                // Nobody has to say who calls; who does is answered for as long as the credential is good (T14).
                if let Some(caller) = call.caller.clone() {
                    until = until.or_ended(app.live.enter(caller, Place::Anywhere, Role::None));
                }
                let response = self.own(call, &route, request).await.map_err(refuse)?;
                response.map(|body| body.until(until))
            }
        };
        Ok(response.map(|body| body.holding(shares, call.held.take())))
    }

    /// One of our own rpcs, on main unless it touches memory only. The beginning of a drain ends it where its answer
    /// streams and has not begun.
    async fn own(
        &self,
        call: &Call,
        route: &Route,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Error> {
        request.extensions_mut().insert(call.clone());
        let held = call.held.clone().ok_or_else(|| Error::internal("a call without an account"))?;
        let streaming = match route {
            Route::Own(method) => method.streaming,
            Route::Open(_) | Route::Proxied { .. } => Streaming::Both,
        };
        let shape = match streaming {
            Streaming::Unary | Streaming::Server => Shape::One,
            Streaming::Client | Streaming::Both => Shape::Many,
        };
        let within = self.app.config.limits.body();
        let (body_held, done) = (held.clone(), gate::writes(route));
        let request = request.map(|body| match shape {
            Shape::One => axum::body::Body::new(RequestBody::new(
                Complete::new(body),
                shape,
                body_held,
                call.started,
                within,
            )),
            Shape::Many => axum::body::Body::new(RequestBody::new(
                body,
                shape,
                body_held,
                call.started,
                within,
            )),
        });
        let span = info_span!("call", request_id = %call.request_id, method = call.method);
        let router = self.router_for(call, request.headers());
        let answered = async move {
            let Ok(response) = router.oneshot(request).await;
            match streaming {
                Streaming::Unary | Streaming::Client => answer::whole(response, &held, done).await,
                Streaming::Server | Streaming::Both => Ok(response.map(answer::streamed)),
            }
        };
        let answered = answered.instrument(span);
        let answer = async {
            if IN_MEMORY.contains(&call.method) {
                Ok(answered.await)
            } else {
                cross::run(self.app.main(), answered).await
            }
        };
        let after_stop = route.streams().then_some(Duration::ZERO);
        let until = Until::of(&self.app, call.deadline, after_stop);
        let answer = tokio::select! {
            biased;
            answer = answer => answer?,
            why = until => return Err(why),
        };
        let response = answer?;
        if let Some(error) = status::of_the_framework(response.headers()) {
            return Err(error);
        }
        Ok(Self::taken(call, response))
    }

    /// Notes whether the caller takes the answer.
    fn taken(call: &Call, response: Response<Body>) -> Response<Body> {
        match &call.taking {
            Some(taking) => response.map(|body| body.taken_by(taking)),
            None => response,
        }
    }

    /// The router, or for reflection with a selected gateway of generation 0.0 the one that shows that generation.
    fn router_for(&self, call: &Call, headers: &HeaderMap) -> axum::Router {
        let old = || {
            let caller = call.caller.as_ref()?;
            let name = headers.get("x-shoreguard-gateway")?.to_str().ok()?;
            let (id, _, role) = self.app.snapshot.gateway(caller.principal(), name)?;
            let shown = role > Role::None && caller.bound().is_none_or(|bound| bound == id);
            let target = self.app.fleet.targets.get(id).filter(|_| shown)?;
            Some(target.generation == Generation::V0_0)
        };
        if call.method.starts_with("/grpc.reflection.") && old() == Some(true) {
            return self.reflection_v0_0.clone();
        }
        self.router.clone()
    }

    /// Counts, logs and records what became of a call.
    fn finish(call: &Call, mut measured: Measured, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        // The proxy says so itself, and takes out what a gateway says.
        let gateway = headers.get("x-shoreguard-gateway").and_then(|name| name.to_str().ok());
        measured.gateway = gateway.map(Arc::from);
        let id = request_id::value(call.request_id);
        headers.insert(HeaderName::from_static(request_id::HEADER), id);
        let in_headers = headers.get("grpc-status").map(|v| Code::from_bytes(v.as_bytes()));
        if let Some(code) = in_headers {
            measured.finish(code);
            if code != Code::Ok {
                let caller = call.caller.as_ref().map(|c| c.principal().to_string());
                let (id, method) = (call.request_id, call.method);
                info!(request_id = %id, method, code = code_name(code), caller, "refused or failed");
            }
        } else {
            let body = std::mem::take(response.body_mut());
            *response.body_mut() = body.measured(measured);
        }
        audit::finish(call);
    }
}

fn writes(route: Option<&Route>) -> bool {
    route.is_some_and(gate::writes)
}
