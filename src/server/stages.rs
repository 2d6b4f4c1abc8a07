//! The stages of a call on its way through the stack. Each layer turns one stage into the next.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::in_flight::InFlightCalls;
use super::layers::gate::Route;
use super::layers::open_calls::Shares;
use super::shared::SharedState;
use crate::access::authn::PeerCertificate;
use crate::ctx::Call;
use crate::error::Error;
use crate::net::BoxError;
use crate::net::taking::ReadTracker;

/// Body of a request.
pub(super) enum IncomingBody {
    /// As received from a connection.
    Http(Incoming),
    /// Translated from gRPC-Web.
    GrpcWeb(tonic::body::Body),
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::GrpcWeb(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http(body) => body.is_end_stream(),
            Self::GrpcWeb(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http(body) => body.size_hint(),
            Self::GrpcWeb(body) => body.size_hint(),
        }
    }
}

/// The caller's end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: std::net::SocketAddr,
    pub(super) certificate: Option<PeerCertificate>,
    /// Calls that a drain of the connection waits for.
    pub(super) in_flight: Arc<InFlightCalls>,
}

/// A request as received from a connection or translated from gRPC-Web.
pub(super) struct IncomingRequest {
    pub(super) shared: Arc<SharedState>,
    pub(super) peer: Arc<Peer>,
    /// Tracks whether the caller reads the response.
    pub(super) read_tracker: Arc<ReadTracker>,
    pub(super) request: Request<IncomingBody>,
}

/// State of a call. Boxed once, since each layer passes it on by value.
pub(super) struct CallState {
    pub(super) shared: Arc<SharedState>,
    pub(super) peer: Arc<Peer>,
    /// Address of the caller; a trusted proxy may have forwarded it.
    pub(super) ip: IpAddr,
    pub(super) call: Call,
    /// Row of the method, or the error if no table has its path.
    pub(super) route: Result<Route, Error>,
    pub(super) shares: Shares,
    pub(super) request: Request<IncomingBody>,
}

/// A gRPC call with an id.
pub(super) struct StartedCall(pub(super) Box<CallState>);

/// A call whose caller is known, or that has no credential.
pub(super) struct IdentifiedCall(pub(super) Box<CallState>);

/// A call that its caller may be allowed to make; checked before its body is read.
pub(super) struct GatedCall {
    pub(super) state: Box<CallState>,
    pub(super) route: Route,
}

/// A call that counts against the limits of its caller until its response was read.
pub(super) struct AdmittedCall {
    pub(super) state: Box<CallState>,
    pub(super) route: Route,
}

impl CallState {
    /// Returns the failure of a refused call.
    pub(super) fn into_failure(self, error: Error) -> CallFailure {
        CallFailure::Refused(error, self.route.ok())
    }
}

/// Why a call has no response of its own.
#[derive(Debug)]
pub(super) enum CallFailure {
    /// It was refused, or ended before the response; with its route if a table has its path.
    Refused(Error, Option<Route>),
    /// A layer or handler panicked.
    Panic,
}
