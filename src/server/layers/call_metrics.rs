//! Metrics of calls. Their handles are kept, so that a call that ends looks up no series by its labels.
//!
//! Invariants
//! - a series is registered when the first call with its labels ends;
//! - labels are methods of the method tables, codes, and gateways that the proxy has selected.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use metrics::{Counter, Histogram, SharedString, counter, histogram};
use parking_lot::Mutex;
use tonic::Code;

use crate::status::code_name;
use crate::telemetry::metrics::{PROXIED_REQUESTS, RPC_DURATION, RPC_REQUESTS};

/// Number of gRPC status codes.
const CODES: usize = Code::Unauthenticated as usize + 1;

/// The metrics of the calls of one core.
#[derive(Debug, Default)]
pub struct CallMetrics {
    methods: Mutex<HashMap<&'static str, Arc<MethodMetrics>>>,
}

impl CallMetrics {
    /// Returns the metrics of a method, whose path is stored in a table.
    #[must_use]
    pub fn method(&self, path: &'static str) -> Arc<MethodMetrics> {
        let mut methods = self.methods.lock();
        let metrics = methods.entry(path).or_insert_with(|| Arc::new(MethodMetrics::new(path)));
        Arc::clone(metrics)
    }
}

/// The metrics of one method.
#[derive(Debug)]
pub struct MethodMetrics {
    path: &'static str,
    requests: CodeCounters,
    duration: OnceLock<Histogram>,
    gateways: Mutex<HashMap<Arc<str>, Arc<GatewayMetrics>>>,
}

impl MethodMetrics {
    fn new(path: &'static str) -> Self {
        let (requests, duration) = (CodeCounters::default(), OnceLock::new());
        Self { path, requests, duration, gateways: Mutex::default() }
    }

    /// Returns the metrics of this method on a gateway.
    #[must_use]
    pub fn gateway(&self, name: &str) -> Arc<GatewayMetrics> {
        let mut gateways = self.gateways.lock();
        if let Some(metrics) = gateways.get(name) {
            return Arc::clone(metrics);
        }
        let name = Arc::<str>::from(name);
        let metrics = GatewayMetrics { name: Arc::clone(&name), requests: CodeCounters::default() };
        Arc::clone(gateways.entry(name).or_insert_with(|| Arc::new(metrics)))
    }

    /// Counts a call that has ended. `gateway` is set for a proxied call.
    pub fn record(&self, code: Code, seconds: f64, gateway: Option<&GatewayMetrics>) {
        let method = self.path;
        let requests =
            |code: &'static str| counter!(RPC_REQUESTS, "method" => method, "code" => code);
        self.requests.get(code, requests).increment(1);
        let duration = || histogram!(RPC_DURATION, "method" => method);
        self.duration.get_or_init(duration).record(seconds);
        let Some(gateway) = gateway else { return };
        let requests = |code: &'static str| {
            let labels = [
                ("gateway", SharedString::from(gateway.name.to_string())),
                ("method", SharedString::const_str(method)),
                ("code", SharedString::const_str(code)),
            ];
            counter!(PROXIED_REQUESTS, &labels)
        };
        gateway.requests.get(code, requests).increment(1);
    }
}

/// The metrics of one method on one gateway.
#[derive(Debug)]
pub struct GatewayMetrics {
    name: Arc<str>,
    requests: CodeCounters,
}

impl GatewayMetrics {
    /// Returns the name of the gateway.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One counter for each gRPC status code.
#[derive(Debug)]
struct CodeCounters([OnceLock<Counter>; CODES]);

impl Default for CodeCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl CodeCounters {
    /// Returns the counter of a code; `register` makes it, given the name of the code.
    fn get(&self, code: Code, register: impl FnOnce(&'static str) -> Counter) -> &Counter {
        self.0[code as usize].get_or_init(|| register(code_name(code)))
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn calls_are_counted_by_method_code_and_gateway() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            let all = CallMetrics::default();
            for code in [Code::Ok, Code::Ok, Code::Unauthenticated] {
                let method = all.method("/a.B/C");
                let edge = method.gateway("edge");
                method.record(code, 0.5, Some(&edge));
            }
            all.method("/a.B/D").record(Code::Ok, 0.5, None);
        });
        let rendered = recorder.handle().render();
        for line in [
            "shoreguard_rpc_requests_total{method=\"/a.B/C\",code=\"OK\"} 2",
            "shoreguard_rpc_requests_total{method=\"/a.B/C\",code=\"UNAUTHENTICATED\"} 1",
            "shoreguard_rpc_requests_total{method=\"/a.B/D\",code=\"OK\"} 1",
            "shoreguard_rpc_duration_seconds_count{method=\"/a.B/C\"} 3",
            "shoreguard_proxied_requests_total{gateway=\"edge\",method=\"/a.B/C\",code=\"OK\"} 2",
        ] {
            assert!(rendered.contains(line), "{line} is missing in:\n{rendered}");
        }
        assert_eq!(rendered.matches("shoreguard_proxied_requests_total{").count(), 2, "{rendered}");
    }
}
