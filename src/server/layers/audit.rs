//! Records refused calls. Outside authn, so that it sees its refusals; outside the panic catch, so that a panic is an
//! outcome like any other.
//!
//! A refused call of an authenticated caller is one closed entry, and its repeats within a minute are one more entry
//! with their count. Refused calls without a caller are counted and written once a minute (T16). `handle_write` and the
//! proxy record admitted calls themselves, before they act. The record belongs to the note of the call: it is made when
//! the note is dropped, even if the caller hangs up and the call is never finished.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use http::Response;
use tower::Service;

use super::gate::{self, Route};
use crate::access::action::Action;
use crate::access::policy::{AuditSubject, Method};
use crate::app::App;
use crate::ctx::{AuditNotes, Refusal};
use crate::error::{Error, Reason};
use crate::role::Role;
use crate::server::body::Body;
use crate::server::stages::{CallFailure, StartedCall};
use crate::status::{self, code_and_reason};

/// Answers a failed call with the status of its error, and records a refusal.
pub(in crate::server) async fn record<S>(
    started: StartedCall,
    mut inner: S,
) -> Result<Response<Body>, Infallible>
where
    S: Service<StartedCall, Response = Response<Body>, Error = CallFailure>,
{
    let call = &started.0.call;
    let refused = RefusedCall {
        note: Arc::clone(&call.note),
        client_ip: call.client_ip,
        method: call.method,
    };
    let shared = Arc::clone(&started.0.shared);
    let response = match inner.call(started).await {
        Ok(response) => response,
        Err(CallFailure::Panic) => status::to_response(Error::internal("a panic while answering")),
        Err(CallFailure::Refused(error, route)) => {
            // A write that has begun is recorded by its own entry, and a read that exceeded its deadline is not a
            // refusal.
            let write = route.as_ref().is_some_and(gate::is_write);
            let timed_out = matches!(error, Error::DeadlineExceeded { .. });
            let ended =
                timed_out || matches!(error, Error::Unavailable { reason: Reason::Draining, .. });
            let recorded = if write && ended { refused.note.lock().expire() } else { !timed_out };
            if recorded {
                refused.note_refusal(&shared.app, route.as_ref(), &error);
            }
            status::to_response(error)
        }
    };
    refused.note.record_refusal();
    Ok(response)
}

/// Facts of a call that the record of its refusal needs.
struct RefusedCall {
    note: Arc<AuditNotes>,
    client_ip: Option<IpAddr>,
    method: &'static str,
}

impl RefusedCall {
    /// Notes that the call was refused before it reached its handler: by authentication, by the gate, or by a limit.
    fn note_refusal(&self, app: &App, route: Option<&Route>, error: &Error) {
        if self.note.caller().is_none() {
            let (_, reason) = code_and_reason(error);
            app.audit.count_anonymous(self.client_ip, self.method, reason.as_str());
            return;
        }
        let action = match route {
            Some(Route::Own(Method { action, .. })) => *action,
            Some(Route::Proxied { v0_0, v0_1, .. }) => {
                let mut guards =
                    [v0_1, v0_0].into_iter().filter_map(|row| row.as_ref()?.policy.as_ref());
                guards.next().map_or(Action::AUTH_REFUSE, |guard| guard.action)
            }
            Some(Route::Open(_)) | None => Action::AUTH_REFUSE,
        };
        let about = AuditSubject::new(action, "");
        let gateway = self.note.lock().selected_gateway.take();
        let refusal = Refusal { about, gateway, role: Role::None, reason: error.into() };
        self.note.lock().refusal.get_or_insert(refusal);
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{Fixture, LIST_GATEWAYS, LOGIN, grpc_request};

    #[tokio::test(flavor = "multi_thread")]
    async fn an_inner_failure_is_returned_as_its_grpc_status() {
        let fixture = Fixture::new("").await;
        let inner = service_fn(async |started: StartedCall| match started.0.call.method {
            LOGIN => Err(CallFailure::Panic),
            _ => Err(started
                .0
                .into_failure(Error::Unauthenticated { reason: Reason::CredentialMissing })),
        });
        for (method, code) in [(LOGIN, Code::Internal), (LIST_GATEWAYS, Code::Unauthenticated)] {
            let answer = record(fixture.started(grpc_request(method)), inner).await.unwrap();
            let status = tonic::Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), code, "{method}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_that_times_out_before_it_starts_is_never_started() {
        let fixture = Fixture::new("").await;
        let started = fixture.started(grpc_request("/shoreguard.v1.GroupService/CreateGroup"));
        let note = Arc::clone(&started.0.call.note);
        let late = || Error::DeadlineExceeded { why: "the deadline has passed".to_owned() };
        let inner = service_fn(async |started: StartedCall| Err(started.0.into_failure(late())));
        record(started, inner).await.unwrap();
        assert!(!note.lock().begin_write());
    }
}
