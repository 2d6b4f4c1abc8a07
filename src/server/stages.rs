//! The stages of a call on its way through the stack. Each layer turns one stage into the next.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::in_flight::InFlight;
use super::layers::gate::Route;
use super::layers::open_calls::Shares;
use super::shared::Shared;
use crate::access::authn::PeerCertificate;
use crate::ctx::Call;
use crate::error::Error;
use crate::net::BoxError;
use crate::net::taking::Taking;

/// Body of a request.
pub(super) enum Source {
    /// As received from a connection.
    Http(Incoming),
    /// Translated from gRPC-Web.
    Web(tonic::body::Body),
}

impl Body for Source {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Web(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http(body) => body.is_end_stream(),
            Self::Web(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http(body) => body.size_hint(),
            Self::Web(body) => body.size_hint(),
        }
    }
}

/// The caller's end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: std::net::SocketAddr,
    pub(super) certificate: Option<PeerCertificate>,
    /// Calls that a drain of the connection waits for.
    pub(super) in_flight: Arc<InFlight>,
}

/// A request as received from a connection or translated from gRPC-Web.
pub(super) struct Arriving {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
    /// Tracks whether the caller reads the response.
    pub(super) taking: Arc<Taking>,
    pub(super) request: Request<Source>,
}

/// State of a call. Boxed once, since each layer passes it on by value.
pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
    /// Address of the caller; a trusted proxy may have forwarded it.
    pub(super) ip: IpAddr,
    pub(super) call: Call,
    /// Row of the method, or the error if no table has its path.
    pub(super) route: Result<Route, Error>,
    pub(super) shares: Shares,
    pub(super) request: Request<Source>,
}

/// A gRPC call with an id.
pub(super) struct Begun(pub(super) Box<State>);

/// A call whose caller is known, or that has no credential.
pub(super) struct Identified(pub(super) Box<State>);

/// A call that its caller may be allowed to make; checked before its body is read.
pub(super) struct Gated {
    pub(super) state: Box<State>,
    pub(super) route: Route,
}

/// A call that counts against the limits of its caller until its response was read.
pub(super) struct Admitted {
    pub(super) state: Box<State>,
    pub(super) route: Route,
}

impl State {
    /// Returns the failure of a refused call.
    pub(super) fn refused(self, error: Error) -> Failure {
        Failure::Refused(error, self.route.ok())
    }
}

/// Why a call has no response of its own.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was refused, or ended before the response; with its route if a table has its path.
    Refused(Error, Option<Route>),
    /// A layer or handler panicked.
    Panic,
}
