//! The steps before the method of a call: it is counted, its script is applied, and its caller is authenticated.
//!
//! Invariants
//! - a call is counted before any other step;
//! - Health needs no caller; every other method needs a caller whose roles permit it;
//! - a method for sandboxes, peers or operators is never carried out for a caller on the network.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use prost_reflect::Value;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::body::{SlowBody, TruncatedBody, error_response, trailers_only_response};
use super::script::{ReceivedCall, Script, Scripts};
use super::{Caller, ClientAuth, Generation, TokenPermissions};
use shoreguard_proto::descriptors::Descriptors;

/// The number of `FORWARD_NEVER`.
const NEVER: i32 = 2;

/// The steps before the methods.
#[derive(Debug)]
pub(super) struct Interceptor {
    /// The scripts, and the calls that were received.
    pub(super) scripts: Scripts,
    /// The accepted bearer tokens with their permissions; empty if no token is required.
    pub(super) bearers: RwLock<Vec<(String, TokenPermissions)>>,
    /// How callers without a token are identified.
    pub(super) client_auth: ClientAuth,
    /// The methods that no caller may use.
    pub(super) reserved: HashSet<String>,
}

impl Interceptor {
    /// Handles a call, or applies its script. `None` drops the connection.
    pub(super) async fn call(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        routes: Routes,
        peer: Option<String>,
        stop: CancellationToken,
    ) -> Option<Response<Body>> {
        let path = request.uri().path().to_owned();
        let authority = request.uri().authority().map(ToString::to_string);
        let call = ReceivedCall { headers: request.headers().clone(), authority };
        let script = self.scripts.next(&path, call);
        match &script {
            Some(Script::Hang) => {
                stop.cancelled().await;
                return None;
            }
            Some(Script::Delay(time)) => tokio::time::sleep(*time).await,
            Some(Script::Until(token)) => token.cancelled().await,
            Some(Script::Fail { code, message, details }) => {
                return Some(error_response(*code, message.clone(), details.clone()));
            }
            Some(Script::TrailersOnly { code, message }) => {
                return Some(trailers_only_response(Status::new(*code, message.clone())));
            }
            Some(Script::DisconnectBefore) => return None,
            Some(Script::HoldBefore(hold)) => {
                if !hold.pass(&stop).await {
                    return None;
                }
            }
            Some(
                Script::Reset
                | Script::Disconnect
                | Script::Drip { .. }
                | Script::ReplaceAnswer { .. }
                | Script::HoldAfter(_),
            )
            | None => {}
        }
        match self.admit(&path, request.headers(), peer) {
            Ok(caller) => request.extensions_mut().insert(caller),
            Err(status) => return Some(trailers_only_response(status)),
        };
        let answer = routes.oneshot(request).await.unwrap_or_else(|never| match never {});
        match script {
            Some(Script::Reset) => Some(answer.map(TruncatedBody::wrap)),
            Some(Script::Disconnect) => None,
            Some(Script::Drip { bytes, every }) => {
                Some(answer.map(|body| SlowBody::wrap(body, bytes, every)))
            }
            Some(Script::ReplaceAnswer { code, message, details }) => {
                Some(error_response(code, message, details))
            }
            Some(Script::HoldAfter(hold)) => hold.pass(&stop).await.then_some(answer),
            _ => Some(answer),
        }
    }

    /// Returns the caller if the call is permitted.
    fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: Option<String>,
    ) -> Result<Caller, Status> {
        if path == "/openshell.v1.OpenShell/Health" {
            return Ok(Caller::Unidentified);
        }
        let caller = self.identify(headers, peer)?;
        if self.reserved.contains(path) {
            return Err(Status::permission_denied("this method requires a sandbox principal"));
        }
        caller.check_permission(path)?;
        Ok(caller)
    }

    /// Identifies the caller. A token that cannot be verified is refused even if no token is required, as in the
    /// gateway's own sandbox authenticator.
    fn identify(&self, headers: &HeaderMap, peer: Option<String>) -> Result<Caller, Status> {
        let values = headers.get_all(header::AUTHORIZATION).iter();
        let bearer = values.filter_map(|value| value.to_str().ok()).find_map(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token)
        });
        let known = self.bearers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = bearer {
            let same = |(known, _): &&(String, TokenPermissions)| {
                bool::from(token.as_bytes().ct_eq(known.as_bytes()))
            };
            return match known.iter().find(same) {
                None => Err(Status::unauthenticated("invalid token")),
                Some((_, TokenPermissions::Expired)) => {
                    Err(Status::unauthenticated("invalid token: ExpiredSignature"))
                }
                Some((_, power)) => Ok(Caller::Bearer(*power)),
            };
        }
        match (self.client_auth, peer, known.is_empty()) {
            (ClientAuth::Certificate, Some(name), _) => Ok(Caller::Certificate(name)),
            (ClientAuth::None, _, true) => Ok(Caller::Local),
            (_, _, _) => Err(Status::unauthenticated("missing authorization header")),
        }
    }
}

/// Returns the paths of the methods that are never forwarded, according to the descriptors.
pub(super) fn reserved_methods(generation: Generation) -> HashSet<String> {
    let pool = Descriptors::for_generation(generation).pool();
    let guard = pool
        .get_extension_by_name("shoreguard.options.v1.upstream")
        .expect("the descriptors hold our options");
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .filter(|method| {
            let options = method.options();
            let guard = options.get_extension(&guard).into_owned();
            let forward = guard
                .as_message()
                .map(|guard| guard.get_field_by_name("forward").map(std::borrow::Cow::into_owned));
            forward == Some(Some(Value::EnumNumber(NEVER)))
        })
        .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
        .collect()
}
