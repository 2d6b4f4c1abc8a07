//! Fixture of the layers' tests: the shared state of one core over its own database, and requests at each stage.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use http::header::CONTENT_TYPE;
use http::request::Builder;
use tempfile::TempDir;

use super::call;
use super::gate::Route;
use crate::access::authn::Authn;
use crate::access::authn::token::TokenKeys;
use crate::app::{App, Parts, Setup};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::{Db, DbOptions};
use crate::feed::{self, FeedState};
use crate::oidc::Oidc;
use crate::seal::MasterKeys;
use crate::secret::Secret;
use crate::server::body::Body;
use crate::server::shared::SharedState;
use crate::server::stages::{
    AdmittedCall, CallFailure, GatedCall, IdentifiedCall, IncomingBody, IncomingRequest, Peer,
    StartedCall,
};

/// An own method that requires a role.
pub(super) const LIST_GATEWAYS: &str = "/shoreguard.v1.GatewayService/ListGateways";
/// A public own method.
pub(super) const LOGIN: &str = "/shoreguard.v1.AuthService/Login";
/// An own streaming method.
pub(super) const WATCH_EVENTS: &str = "/shoreguard.v1.EventService/WatchEvents";
/// A method of a gateway.
pub(super) const LIST_SANDBOXES: &str = "/openshell.v1.OpenShell/ListSandboxes";

/// The shared state of one core.
pub(super) struct Fixture {
    pub(super) shared: Arc<SharedState>,
    _folder: TempDir,
}

impl Fixture {
    /// Starts with a new database and this configuration.
    pub(super) async fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (config, clock) = (Config::from_toml(config).unwrap(), Clock::system());
        let database = folder.path().join("shoreguard.db").display().to_string();
        let authn = Authn {
            tokens: TokenKeys::new(Vec::new(), clock.clone()),
            certificates: Vec::new(),
            oidc: Arc::new(Oidc::new(&config.oidc, &clock).unwrap()),
        };
        let setup = Setup {
            config,
            db: Db::open(&DbOptions::new(Secret::new(database))).await.unwrap(),
            clock,
            master: MasterKeys::load_or_create(&folder.path().join("shoreguard.key")).unwrap(),
            authn,
            parts: Parts::default().with(FeedState::default()),
        };
        let app = App::new(setup).await.unwrap();
        feed::load(&app).await.unwrap();
        let shared = SharedState::new(&app, axum::Router::new());
        Self { shared: Arc::new(shared), _folder: folder }
    }

    /// Returns a request as it arrives.
    pub(super) fn incoming(&self, request: Builder) -> IncomingRequest {
        let peer = Peer {
            address: SocketAddr::from(([192, 0, 2, 1], 40_000)),
            certificate: None,
            in_flight: Arc::default(),
        };
        IncomingRequest {
            shared: Arc::clone(&self.shared),
            peer: Arc::new(peer),
            read_tracker: Arc::default(),
            request: request.body(IncomingBody::GrpcWeb(tonic::body::Body::empty())).unwrap(),
        }
    }

    /// Returns a call with an id.
    pub(super) fn started(&self, request: Builder) -> StartedCall {
        call::start_call(self.incoming(request)).0
    }

    /// Returns a call after authentication, without a credential.
    pub(super) fn identified(&self, request: Builder) -> IdentifiedCall {
        IdentifiedCall(self.started(request).0)
    }

    /// Returns a call that passed the gate.
    pub(super) fn gated(&self, request: Builder) -> GatedCall {
        let state = self.started(request).0;
        let route = *state.route.as_ref().unwrap();
        GatedCall { state, route }
    }

    /// Returns a call that counts against the limits of its caller.
    pub(super) fn admitted(&self, request: Builder) -> AdmittedCall {
        let GatedCall { state, route } = self.gated(request);
        AdmittedCall { state, route }
    }
}

/// Starts a gRPC request.
pub(super) fn grpc_request(path: &str) -> Builder {
    let request = Request::post(path).version(http::Version::HTTP_2);
    request.header(CONTENT_TYPE, "application/grpc")
}

/// Returns a response without content.
pub(super) fn empty_response() -> http::Response<Body> {
    http::Response::default()
}

/// Returns the error and the route of a refused call.
pub(super) fn refusal<T>(result: Result<T, CallFailure>) -> (crate::error::Error, Option<Route>) {
    match result {
        Err(CallFailure::Refused(error, route)) => (error, route),
        Err(CallFailure::Panic) => panic!("a panic was caught"),
        Ok(_) => panic!("the call was answered"),
    }
}
