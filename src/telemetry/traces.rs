//! Spans of calls, sent to a collector as OTLP over gRPC.
//!
//! Invariants
//! - it has no cost if it is disabled, and a call that is not sampled costs one addition;
//! - the configuration determines how many calls are sampled; callers do so only if they are trusted;
//! - a span contains names and ids, never a message, a credential or the caller;
//! - export is batched and bounded: spans are dropped while the collector is unavailable, and no call waits or fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Link, Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span,
};
use tonic::Code;
use tracing::warn;

use crate::config::Telemetry;
use crate::error::Error;

/// Maximum number of spans that wait to be sent; further spans are dropped.
const QUEUE_MAX: usize = 4_096;
/// Maximum number of spans per message.
const BATCH_MAX: usize = 512;
/// How long a span waits for a batch to fill.
const BATCH_DELAY: Duration = Duration::from_secs(2);
/// Timeout of sending, and of waiting for the last spans when the process stops.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Samples calls and exports their spans.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sample_one_in: u64,
    trust_callers: bool,
    calls: AtomicU64,
}

/// The span of one call. It ends when it is finished or dropped.
#[derive(Debug)]
pub struct CallSpan(Box<Span>);

struct HeaderExtractor<'a>(&'a HeaderMap);

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

impl Traces {
    /// Starts the export as configured. Returns `None` if no collector is configured. Must run on the main runtime,
    /// which drives its connection.
    ///
    /// # Errors
    /// `Invalid` if the address of the collector is invalid.
    pub fn start(config: &Telemetry, replica: &str) -> Result<Option<Self>, Error> {
        let Some(endpoint) = config.otlp_endpoint.as_deref() else { return Ok(None) };
        let mut exporter =
            SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(SEND_TIMEOUT);
        if endpoint.starts_with("https://") {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
        }
        let exporter = exporter
            .build()
            .map_err(|error| Error::invalid("telemetry.otlp_endpoint", error.to_string()))?;
        // All limits are set explicitly, so that environment variables cannot change them.
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let sending = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let about = Resource::builder_empty()
            .with_service_name("shoreguard")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", replica.to_owned()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(sending)
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(about)
            .build();
        let tracer = provider.tracer("shoreguard");
        let (sample_one_in, trust_callers) = (config.otlp_one_in, config.trust_traceparent);
        Ok(Some(Self { provider, tracer, sample_one_in, trust_callers, calls: AtomicU64::new(0) }))
    }

    /// Starts the span of a call, if the call is sampled. `method` is a path of the method tables.
    #[must_use]
    pub fn start_span(&self, headers: &HeaderMap, method: &'static str) -> Option<CallSpan> {
        let sampled = self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.sample_one_in);
        if !(sampled || self.trust_callers) {
            return None;
        }
        let remote = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        let context = remote.span().span_context().clone();
        if !(sampled || context.is_sampled()) {
            return None;
        }
        let name = method.trim_start_matches('/');
        let (service, rpc) = name.split_once('/').unwrap_or(("", name));
        let mut span =
            self.tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes([
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", service),
                KeyValue::new("rpc.method", rpc),
            ]);
        // A caller that is not trusted must not add spans to a foreign trace: its context is only linked.
        let parent = if self.trust_callers {
            remote
        } else {
            if context.is_valid() {
                span = span.with_links(vec![Link::with_context(context)]);
            }
            Context::new()
        };
        Some(CallSpan(Box::new(span.start_with_context(&self.tracer, &parent))))
    }

    /// Sends the remaining spans, with a time limit.
    pub async fn shutdown(&self) {
        let provider = self.provider.clone();
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SEND_TIMEOUT)).await;
        if let Ok(Err(error)) = ended {
            warn!(%error, "the last spans were not sent");
        }
    }
}

impl CallSpan {
    /// The `traceparent` for a gateway (W3C Trace Context, level 1).
    ///
    /// # Panics
    /// Never: hexadecimal digits are valid in a header.
    #[must_use]
    pub fn traceparent(&self) -> HeaderValue {
        let context = self.0.span_context();
        let flags = context.trace_flags();
        let text = format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id());
        HeaderValue::try_from(text).expect("hexadecimal digits are valid in a header")
    }

    /// Ends the span with the result of the call.
    pub fn finish(mut self, code: Code, gateway: Option<&str>, request_id: &str) {
        self.0.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(code as i32)));
        self.0.set_attribute(KeyValue::new("shoreguard.request_id", request_id.to_owned()));
        if let Some(gateway) = gateway {
            self.0.set_attribute(KeyValue::new("shoreguard.gateway", gateway.to_owned()));
        }
        // As specified by OpenTelemetry for servers: a refusal is not a server error.
        if matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ) {
            self.0.set_status(Status::error(""));
        }
        self.0.end();
    }
}
