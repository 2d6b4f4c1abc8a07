//! All metrics with names, units and help texts, and the recorder.
//!
//! Invariants
//! - the values of a label are a closed set (methods of the method tables, codes, reasons, registered gateways), so
//!   that callers cannot create new series;
//! - no value or label reveals a secret, a person or a sandbox.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::Error;

/// Calls that have ended, by `method` and `code`.
pub const RPC_REQUESTS: &str = "shoreguard_rpc_requests_total";
/// Duration of calls, by `method`.
pub const RPC_DURATION: &str = "shoreguard_rpc_duration_seconds";
/// Plain HTTP requests that have ended, by `path` and `status`.
pub const HTTP_REQUESTS: &str = "shoreguard_http_requests_total";
/// Duration of plain HTTP requests, by `path`.
pub const HTTP_DURATION: &str = "shoreguard_http_duration_seconds";
/// Proxied calls that have ended, by `gateway`, `method` and `code`.
pub const PROXIED_REQUESTS: &str = "shoreguard_proxied_requests_total";
/// Proxied calls with a request id, by `gateway` and `outcome`.
pub const GATEWAY_REQUEST_IDS: &str = "shoreguard_gateway_request_ids_total";
/// Seconds until the certificate of the listener expires.
pub const CERTIFICATE_EXPIRY: &str = "shoreguard_server_certificate_expiry_seconds";
/// Audit entries that wait to be stored.
pub const AUDIT_QUEUE: &str = "shoreguard_audit_queue_entries";
/// Audit entries per commit.
pub const AUDIT_BATCH: &str = "shoreguard_audit_batch_entries";
/// Time of one commit of audit entries.
pub const AUDIT_COMMIT: &str = "shoreguard_audit_commit_seconds";
/// Batches of audit entries that could not be stored.
pub const AUDIT_FAILED_BATCHES: &str = "shoreguard_audit_failed_batches_total";
/// Ticks of background jobs, by `worker` and `outcome`.
pub const WORKER_TICKS: &str = "shoreguard_worker_ticks_total";
/// Duration of one tick of a background job, by `worker`.
pub const WORKER_TICK: &str = "shoreguard_worker_tick_seconds";
/// Age of the access data.
pub const SNAPSHOT_AGE: &str = "shoreguard_access_snapshot_age_seconds";
/// Probes of gateways, by `outcome`.
pub const PROBES: &str = "shoreguard_gateway_probes_total";
/// Duration of probes.
pub const PROBE_DURATION: &str = "shoreguard_gateway_probe_duration_seconds";
/// Refused calls without a credential, by `method` and `reason`.
pub const ANONYMOUS_REFUSALS: &str = "shoreguard_anonymous_refusals_total";
/// Operations that have ended, by `type` and `outcome`.
pub const OPERATIONS: &str = "shoreguard_operations_total";
/// Duration of operations, by `type`.
pub const OPERATION_DURATION: &str = "shoreguard_operation_duration_seconds";
/// Operations that are running in this process.
pub const OPERATIONS_RUNNING: &str = "shoreguard_operations_running";

/// Runs of boot hooks that have ended, by `gateway`, `phase` and `status`.
pub const BOOT_HOOK_RUNS: &str = "shoreguard_boot_hook_runs_total";
/// Duration of boot hook runs, by `phase`.
pub const BOOT_HOOK_DURATION: &str = "shoreguard_boot_hook_duration_seconds";
/// Reads of sandbox logs that have missed lines, by `gateway`.
pub const SANDBOX_LOG_GAPS: &str = "shoreguard_sandbox_log_gaps_total";
/// Reads of sandbox logs that were postponed because of the budget of their gateway, by `gateway`.
pub const SANDBOX_LOGS_POSTPONED: &str = "shoreguard_sandbox_logs_postponed_total";
/// Bypass events that are not stored, by `gateway`.
pub const BYPASS_EVENTS_DROPPED: &str = "shoreguard_bypass_events_dropped_total";

/// Attempts to deliver messages of webhooks, by `status`: `success`, `pending` (repeated later) or `failed`.
pub const WEBHOOK_DELIVERIES: &str = "shoreguard_webhook_deliveries_total";
/// Open connections to receivers of webhooks and mail servers.
pub const WEBHOOK_CONNECTIONS: &str = "shoreguard_webhook_connections";

/// Log lines that were dropped, by `reason`.
pub const LOG_LINES_DROPPED: &str = "shoreguard_log_lines_dropped_total";
/// Open connections of callers.
pub const CONNECTIONS: &str = "shoreguard_connections";
/// Connections that were closed right after accepting, by `reason`.
pub const CONNECTIONS_REFUSED: &str = "shoreguard_connections_refused_total";
/// Idle connections that were closed, by `reason`.
pub const CONNECTIONS_ENDED: &str = "shoreguard_connections_ended_total";

/// From the duration of a call served from memory to one at which callers give up.
const DURATION_BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// From the duration of a short command to the longest allowed one.
const OPERATION_BUCKETS: [f64; 9] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 3_600.0];
/// From the duration of a trivial script to the longest allowed duration of a hook.
const BOOT_HOOK_BUCKETS: [f64; 11] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0];

/// Up to the largest configurable batch.
const BATCH_BUCKETS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 4096.0];

/// The description of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name.
    pub name: &'static str,
    /// Type of the metric.
    pub kind: MetricKind,
    /// Unit of its values.
    pub unit: Unit,
    /// Help text.
    pub help: &'static str,
}

/// The type of a metric.
#[derive(Debug, Clone, Copy)]
pub enum MetricKind {
    /// A value that only increases.
    Counter,
    /// A value that increases and decreases.
    Gauge,
    /// A distribution of values in these buckets.
    Histogram(&'static [f64]),
}

/// All metrics.
pub const METRICS: &[Metric] = &[
    counter(RPC_REQUESTS, "Calls that have ended, by method and code."),
    duration(RPC_DURATION, "How long calls took, by method."),
    counter(HTTP_REQUESTS, "Requests by plain HTTP that have ended, by path and status."),
    duration(HTTP_DURATION, "How long requests by plain HTTP took, by path."),
    counter(PROXIED_REQUESTS, "Proxied calls that have ended, by gateway, method and code."),
    counter(GATEWAY_REQUEST_IDS, "Proxied calls with a request id, by gateway and outcome."),
    gauge(CERTIFICATE_EXPIRY, Unit::Seconds, "Time until the certificate of the listener expires."),
    gauge(AUDIT_QUEUE, Unit::Count, "Audit entries that wait to be stored."),
    Metric {
        name: AUDIT_BATCH,
        kind: MetricKind::Histogram(&BATCH_BUCKETS),
        unit: Unit::Count,
        help: "Audit entries in one commit.",
    },
    duration(AUDIT_COMMIT, "Time of one commit of audit entries."),
    counter(AUDIT_FAILED_BATCHES, "Batches of audit entries that could not be stored."),
    counter(WORKER_TICKS, "Ticks of background jobs, by worker and outcome."),
    duration(WORKER_TICK, "Time of one tick of a background job, by worker."),
    gauge(SNAPSHOT_AGE, Unit::Seconds, "How old the access data is."),
    counter(PROBES, "Probes of gateways, by outcome."),
    duration(PROBE_DURATION, "How long probes took."),
    counter(ANONYMOUS_REFUSALS, "Refused calls without a credential, by method and reason."),
    counter(OPERATIONS, "Operations that have ended, by type and outcome."),
    Metric {
        name: OPERATION_DURATION,
        kind: MetricKind::Histogram(&OPERATION_BUCKETS),
        unit: Unit::Seconds,
        help: "How long operations took, by type.",
    },
    gauge(OPERATIONS_RUNNING, Unit::Count, "Operations that run in this process now."),
    counter(BOOT_HOOK_RUNS, "Runs of boot hooks that have ended, by gateway, phase and status."),
    Metric {
        name: BOOT_HOOK_DURATION,
        kind: MetricKind::Histogram(&BOOT_HOOK_BUCKETS),
        unit: Unit::Seconds,
        help: "How long runs of boot hooks took, by phase.",
    },
    counter(WEBHOOK_DELIVERIES, "Attempts to deliver messages of webhooks, by status."),
    gauge(
        WEBHOOK_CONNECTIONS,
        Unit::Count,
        "Connections to receivers of webhooks and mail servers that are open now.",
    ),
    counter(SANDBOX_LOG_GAPS, "Reads of sandbox logs that have missed lines, by gateway."),
    counter(
        SANDBOX_LOGS_POSTPONED,
        "Reads of sandbox logs that were postponed because of the budget of their gateway, by gateway.",
    ),
    counter(BYPASS_EVENTS_DROPPED, "Bypass events that are not stored, by gateway."),
    counter(
        LOG_LINES_DROPPED,
        "Lines of the log that were dropped, by reason: the queue was full, or the write failed.",
    ),
    gauge(CONNECTIONS, Unit::Count, "Connections of callers that are open now."),
    counter(
        CONNECTIONS_REFUSED,
        "Connections that were closed right after accepting, by reason: `total` or `address` (limit reached), `core` (queue full), `descriptors` (no free file descriptor).",
    ),
    counter(
        CONNECTIONS_ENDED,
        "Idle connections that were closed, by reason: `idle` (idle for too long), `displaced` (replaced by a new connection at a limit).",
    ),
];

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, unit: Unit::Count, help }
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, unit, help }
}

const fn duration(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram(&DURATION_BUCKETS), unit: Unit::Seconds, help }
}

/// Installs the recorder; metrics are discarded before that. Can be called once per process.
///
/// The returned handle must be used to run upkeep regularly, as [`super::endpoint::serve`] does: otherwise recorded
/// values accumulate in memory.
pub fn install() -> Result<PrometheusHandle, Error> {
    let handle = builder()?.install_recorder().map_err(Error::internal)?;
    describe();
    start_at_zero();
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, Error> {
    METRICS.iter().try_fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        MetricKind::Counter | MetricKind::Gauge => Ok(builder),
        MetricKind::Histogram(buckets) => builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
            .map_err(Error::internal),
    })
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.unit, metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.unit, metric.help),
            MetricKind::Histogram(_) => describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

/// Exports counters of rare events before the first one: a counter that appears with the value 1 has never increased
/// for Prometheus, so that no alert would fire. Only counters whose labels have few values that are known in advance.
fn start_at_zero() {
    metrics::counter!(AUDIT_FAILED_BATCHES).increment(0);
    for status in ["success", "pending", "failed"] {
        metrics::counter!(WEBHOOK_DELIVERIES, "status" => status).increment(0);
    }
    for reason in ["queue_full", "write_failed"] {
        metrics::counter!(LOG_LINES_DROPPED, "reason" => reason).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_described_once_and_named_after_its_kind() {
        let recorder = builder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            for metric in METRICS {
                match metric.kind {
                    MetricKind::Counter => metrics::counter!(metric.name).increment(1),
                    MetricKind::Gauge => metrics::gauge!(metric.name).set(1.0),
                    MetricKind::Histogram(_) => metrics::histogram!(metric.name).record(1.0),
                }
            }
        });
        let rendered = recorder.handle().render();
        for metric in METRICS {
            let help = format!("# HELP {} {}\n", metric.name, metric.help);
            assert_eq!(rendered.matches(&help).count(), 1, "{rendered}");
            assert!(metric.name.starts_with("shoreguard_"));
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, matches!(metric.kind, MetricKind::Counter), "{}", metric.name);
        }
        assert!(rendered.contains("shoreguard_rpc_duration_seconds_bucket{le=\"0.0001\"}"));
    }

    #[test]
    fn counters_of_rare_events_are_exported_before_the_first_one() {
        let recorder = builder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, start_at_zero);
        let rendered = recorder.handle().render();
        for series in [
            "shoreguard_audit_failed_batches_total",
            "shoreguard_webhook_deliveries_total{status=\"failed\"}",
            "shoreguard_log_lines_dropped_total{reason=\"queue_full\"}",
            "shoreguard_log_lines_dropped_total{reason=\"write_failed\"}",
        ] {
            assert!(rendered.contains(&format!("\n{series} 0\n")), "{series}: {rendered}");
        }
    }

    /// The rules of `promtool check metrics`.
    #[test]
    fn every_metric_is_named_by_the_rules_of_prometheus() {
        let abbreviated = ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "m", "h", "d"];
        let types = ["counter", "gauge", "histogram", "summary"];
        let other_units = ["milliseconds", "minutes", "hours", "days", "kilobytes", "megabytes"];
        let added_by_histograms = ["bucket", "count", "sum"];
        for metric in METRICS {
            let name = metric.name;
            assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{name}");
            assert!(metric.help.len() > 10 && metric.help.ends_with('.'), "{name}");
            let words: Vec<&str> = name.split('_').collect();
            let bad = words.iter().find(|word| {
                abbreviated.contains(word) || types.contains(word) || other_units.contains(word)
            });
            assert!(bad.is_none(), "{name} contains {bad:?}");
            let last = words.last().unwrap();
            assert!(!added_by_histograms.contains(last), "{name}");
            assert_eq!(*last == "seconds", metric.unit == Unit::Seconds, "{name}");
        }
    }
}
