//! What is counted and logged of each call, refused ones too. Outside audit and authn, so that it sees their refusals.

use std::time::Instant;

use metrics::{counter, histogram};
use tonic::Code;

use crate::status::code_name;
use crate::telemetry::traces::CallSpan;

/// A call that is being measured.
#[derive(Debug)]
pub struct Measured {
    /// Path in the table's own bytes, so that a caller can't make new series.
    pub method: &'static str,
    /// The gateway, for a proxied call.
    pub gateway: Option<std::sync::Arc<str>>,
    /// When it arrived.
    pub started: Instant,
    /// Its id.
    pub request_id: uuid::Uuid,
    /// Its span, where it is traced.
    pub span: Option<CallSpan>,
}

impl Measured {
    /// The call has ended with this code.
    pub fn finish(self, code: Code) {
        if let Some(span) = self.span {
            span.finish(code, self.gateway.as_deref(), &self.request_id.to_string());
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let code = code_name(code);
        counter!("shoreguard_rpc_requests_total", "method" => self.method, "code" => code)
            .increment(1);
        histogram!("shoreguard_rpc_duration_seconds", "method" => self.method).record(seconds);
        if let Some(gateway) = &self.gateway {
            let labels = [
                ("gateway", metrics::SharedString::from(gateway.to_string())),
                ("method", metrics::SharedString::const_str(self.method)),
                ("code", metrics::SharedString::const_str(code)),
            ];
            counter!("shoreguard_proxied_requests_total", &labels).increment(1);
        }
    }
}

/// Counts a request by plain HTTP. The path is that of a table, so that a caller can't make new series.
pub fn measure_http(path: &'static str, status: http::StatusCode, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let status = status.as_u16().to_string();
    counter!("shoreguard_http_requests_total", "path" => path, "status" => status).increment(1);
    histogram!("shoreguard_http_duration_seconds", "path" => path).record(seconds);
}
