//! Counts and logs each call, including refused ones. Outside audit and authn, so that it sees their refusals.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::Response;
use http::header::HeaderName;
use metrics::{counter, histogram};
use tonic::Code;
use tower::Service;
use tracing::info;

use super::call_metrics::{GatewayMetrics, MethodMetrics};
use crate::ctx::AuditNotes;
use crate::rpc::request_id;
use crate::server::body::Body;
use crate::server::stages::{CallState, StartedCall};
use crate::status::code_name;
use crate::telemetry::metrics::{HTTP_DURATION, HTTP_REQUESTS};
use crate::telemetry::traces::CallSpan;

const REQUEST_ID: HeaderName = HeaderName::from_static(request_id::HEADER);

/// Counts, times, traces and logs a call.
pub(in crate::server) async fn observe<S>(
    mut started: StartedCall,
    mut inner: S,
) -> Result<Response<Body>, Infallible>
where
    S: Service<StartedCall, Response = Response<Body>, Error = Infallible>,
{
    let CallState { shared, call, request, .. } = &mut *started.0;
    let (traces, headers) = (&shared.app.traces, request.headers());
    let span = traces.as_ref().and_then(|traces| traces.start_span(headers, call.method));
    call.traceparent = span.as_ref().map(CallSpan::traceparent);
    let measurement = CallMeasurement {
        method: call.method,
        metrics: shared.call_metrics.method(call.method),
        gateway: None,
        started: call.started,
        request_id: call.request_id,
        span,
    };
    let note = Arc::clone(&call.note);
    let mut response = inner.call(started).await?;
    finish(&note, measurement, &mut response);
    Ok(response)
}

/// Counts and logs the result of a call: now if the response consists of headers only, otherwise at the end of its
/// body.
fn finish(note: &AuditNotes, mut measurement: CallMeasurement, response: &mut Response<Body>) {
    let (id, method) = (measurement.request_id, measurement.method);
    let headers = response.headers_mut();
    // The proxy sets this header itself, and removes that of a gateway.
    let gateway = headers.get("x-shoreguard-gateway").and_then(|name| name.to_str().ok());
    measurement.gateway = gateway.map(|name| measurement.metrics.gateway(name));
    headers.insert(REQUEST_ID, request_id::to_header(id));
    let in_headers = headers.get("grpc-status").map(|v| Code::from_bytes(v.as_bytes()));
    let Some(code) = in_headers else {
        response.body_mut().set_measurement(measurement);
        return;
    };
    measurement.finish(code);
    if code != Code::Ok {
        let caller = note.caller().map(|caller| caller.principal().to_string());
        info!(request_id = %id, method, code = code_name(code), caller, "refused or failed");
    }
}

/// A call that is being measured.
#[derive(Debug)]
pub struct CallMeasurement {
    /// Path as stored in the table, so that a caller cannot create new time series.
    method: &'static str,
    /// Metrics of the method.
    metrics: Arc<MethodMetrics>,
    /// Metrics of the gateway of a proxied call.
    gateway: Option<Arc<GatewayMetrics>>,
    /// Time of arrival.
    started: Instant,
    /// Id of the call.
    request_id: uuid::Uuid,
    /// Span, if the call is traced.
    span: Option<CallSpan>,
}

impl CallMeasurement {
    /// Records the end of the call with this code.
    pub fn finish(self, code: Code) {
        let gateway = self.gateway.as_deref();
        if let Some(span) = self.span {
            span.finish(code, gateway.map(GatewayMetrics::name), &self.request_id.to_string());
        }
        self.metrics.record(code, self.started.elapsed().as_secs_f64(), gateway);
    }
}

/// Counts a plain HTTP request. The path is one of a table, so that a caller cannot create new time series.
pub fn record_http(path: &'static str, status: http::StatusCode, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let status = status.as_u16().to_string();
    counter!(HTTP_REQUESTS, "path" => path, "status" => status).increment(1);
    histogram!(HTTP_DURATION, "path" => path).record(seconds);
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{Fixture, LOGIN, empty_response, grpc_request};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_response_carries_the_request_id_of_the_call() {
        let fixture = Fixture::new("").await;
        let started = fixture.started(grpc_request(LOGIN));
        let id = started.0.call.request_id;
        let inner = service_fn(async |_: StartedCall| Ok::<_, Infallible>(empty_response()));
        let answer = observe(started, inner).await.unwrap();
        assert_eq!(answer.headers()[request_id::HEADER], request_id::to_header(id));
    }
}
