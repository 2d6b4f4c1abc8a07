//! The innermost layer: passes a call to the proxy, or to Shoreguard's router on main.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tower::ServiceExt;
use tracing::{Instrument, info_span};

use super::answer as answers;
use super::body::Body;
use super::layers::gate::{self, Route};
use super::layers::on_main;
use super::services;
use super::shared::SharedState;
use super::stages::{AdmittedCall, CallFailure, CallState, IncomingBody};
use super::until::EndCondition;
use crate::access::policy::StreamingMode;
use crate::access::principal::{Caller, PrincipalId};
use crate::access::standing::RoleScope;
use crate::ctx::Call;
use crate::db::turns::CallerKey;
use crate::error::Error;
use crate::net::guard::accounting_address;
use crate::net::taking::ReadTracker;
use crate::role::Role;
use crate::rpc::complete::CompleteMessage;
use crate::rpc::request_body::{BodyShape, RequestBody};
use crate::status;
use crate::upstream::generation::Generation;

/// Placeholder if the address of a caller is not known.
const UNSPECIFIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Own methods that only touch memory and return at once. They are served on the core: on main, each would wake two
/// threads.
const IN_MEMORY: [&str; 1] = ["/shoreguard.v1.AuthService/GetCurrentIdentity"];

/// Time that a stream of health or reflection stays open after a stop, so that a health watcher first receives
/// `NOT_SERVING`.
const OPEN_STREAM_LINGER: Duration = Duration::from_millis(500);

/// Answers an admitted call.
pub(super) async fn answer(admitted: AdmittedCall, (): ()) -> Result<Response<Body>, CallFailure> {
    let AdmittedCall { state, route } = admitted;
    let CallState { shared, call, request, .. } = *state;
    let refuse = |error| CallFailure::Refused(error, Some(route));
    match &route {
        Route::Proxied { path, v0_0, v0_1 } => {
            let read_tracker = call.read_tracker.clone();
            let forwarded = shared.proxy.forward(call, path, *v0_0, *v0_1, request);
            let response = forwarded.await.map(Body::from_gateway);
            // A user who pages through the output of a command pauses the command, as without Shoreguard; proxied
            // streams have their own limits.
            if let Some(read_tracker) = read_tracker.as_ref().filter(|_| route.is_streaming()) {
                read_tracker.allow_pause();
            }
            Ok(track_reads(read_tracker.as_ref(), response))
        }
        Route::Own(_) => shared.serve_own(&call, &route, request).await.map_err(refuse),
        Route::Open(_) => {
            let after_stop = route.is_streaming().then_some(OPEN_STREAM_LINGER);
            let mut until = EndCondition::new(&shared.app, call.deadline, after_stop);
            // These methods need no credential. A caller that sends one is served for as long as the credential is
            // valid (T14).
            if let Some(caller) = call.caller.clone() {
                until = until.or_access_lost(shared.app.live.register(
                    caller,
                    RoleScope::Anywhere,
                    Role::None,
                ));
            }
            let response = shared.serve_own(&call, &route, request).await.map_err(refuse)?;
            Ok(response.map(|body| body.with_end_condition(until)))
        }
    }
}

impl SharedState {
    /// Serves one of Shoreguard's own RPCs, on main unless it only touches memory. If its response is a stream that has
    /// not begun, the start of a drain ends the call.
    async fn serve_own(
        &self,
        call: &Call,
        route: &Route,
        mut request: Request<IncomingBody>,
    ) -> Result<Response<Body>, Error> {
        request.extensions_mut().insert(call.clone());
        let memory =
            call.memory.clone().ok_or_else(|| Error::internal("a call without an account"))?;
        let streaming = match route {
            Route::Own(method) => method.streaming,
            Route::Open(_) | Route::Proxied { .. } => StreamingMode::Both,
        };
        let shape = match streaming {
            StreamingMode::Unary | StreamingMode::Server => BodyShape::Unary,
            StreamingMode::Client | StreamingMode::Both => BodyShape::Stream,
        };
        let within = self.app.config.limits.body();
        let (body_memory, done) = (memory.clone(), gate::is_write(route));
        let request = request.map(|body| match shape {
            BodyShape::Unary => axum::body::Body::new(RequestBody::new(
                CompleteMessage::new(body),
                shape,
                body_memory,
                call.started,
                within,
            )),
            BodyShape::Stream => axum::body::Body::new(RequestBody::new(
                body,
                shape,
                body_memory,
                call.started,
                within,
            )),
        });
        let span = info_span!("call", request_id = %call.request_id, method = call.method);
        let router = self.router.clone();
        let reflected = self.reflected_generation(call, request.headers());
        let answered = async move {
            let router = reflected.map_or(router, services::reflection);
            let Ok(response) = router.oneshot(request).await;
            match streaming {
                StreamingMode::Unary | StreamingMode::Client => {
                    answers::encode_unary(response, &memory, done).await
                }
                StreamingMode::Server | StreamingMode::Both => {
                    Ok(response.map(answers::wrap_stream))
                }
            }
        };
        let answered = answered.instrument(span);
        let answer = async {
            if IN_MEMORY.contains(&call.method) {
                Ok(answered.await)
            } else {
                let answered = self.app.db.run_as(db_caller(call), answered);
                on_main::run(self.app.main_runtime(), answered).await
            }
        };
        let after_stop = route.is_streaming().then_some(Duration::ZERO);
        let until = EndCondition::new(&self.app, call.deadline, after_stop);
        let answer = tokio::select! {
            biased;
            answer = answer => answer?,
            why = until => return Err(why),
        };
        let response = answer?;
        if let Some(error) = status::error_from_headers(response.headers()) {
            return Err(error);
        }
        Ok(track_reads(call.read_tracker.as_ref(), response))
    }

    /// Returns the generation that a call of reflection is about: that of the selected gateway if that is known,
    /// otherwise 0.1. `None` for any other call.
    fn reflected_generation(&self, call: &Call, headers: &HeaderMap) -> Option<Generation> {
        if !call.method.starts_with("/grpc.reflection.") {
            return None;
        }
        let of_gateway = || {
            let caller = call.caller.as_ref()?;
            let name = headers.get("x-shoreguard-gateway")?.to_str().ok()?;
            let (gateway, role) = self.app.snapshot.find_gateway(caller.principal(), name)?;
            let shown =
                role > Role::None && caller.bound_gateway().is_none_or(|bound| bound == gateway.id);
            self.app.fleet.targets.get(gateway.id).filter(|_| shown)?.generation.known()
        };
        Some(of_gateway().unwrap_or(Generation::V0_1))
    }
}

/// Returns the caller under which a call takes its turns at the database.
fn db_caller(call: &Call) -> CallerKey {
    match call.caller.as_ref().map(Caller::principal) {
        Some(PrincipalId::User(id)) => CallerKey::User(id.get()),
        Some(PrincipalId::ServicePrincipal(id)) => CallerKey::ServicePrincipal(id.get()),
        None => CallerKey::Address(accounting_address(call.client_ip.unwrap_or(UNSPECIFIED))),
    }
}

/// Tracks whether the caller reads the response.
fn track_reads(
    read_tracker: Option<&Arc<ReadTracker>>,
    response: Response<Body>,
) -> Response<Body> {
    match read_tracker {
        Some(read_tracker) => response.map(|body| body.with_read_tracking(read_tracker)),
        None => response,
    }
}
