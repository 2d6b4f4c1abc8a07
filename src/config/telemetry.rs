//! `[telemetry]`: logs, metrics and traces.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing_subscriber::EnvFilter;

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// Logs, metrics and traces.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Format of the log: `json`, one object per line, or `text` for people. Default `json`: a log is mostly read by
    /// programs.
    #[serde(default = "log_format")]
    pub log_format: LogFormat,
    /// Log filter in the syntax of `tracing`, such as `info` or `warn,shoreguard=debug`. Default `info`: what an
    /// operator acts on, and of calls those that were refused or failed.
    #[serde(default = "log_level")]
    pub log_level: String,
    /// Address and port of the metrics endpoint; empty turns it off. Default `127.0.0.1:9464`, the port of
    /// OpenTelemetry's Prometheus exporters. Metrics name gateways, so only this host can read them.
    #[serde(default = "metrics_listen", with = "empty_is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// URL of the collector that receives the spans of calls with OTLP over gRPC: `http://host:4317`, or `https`. Empty
    /// turns traces off. Headers for the collector, such as a key, are read from `OTEL_EXPORTER_OTLP_HEADERS`, as
    /// OpenTelemetry defines it. Default: none.
    #[serde(default, with = "empty_text_is_none")]
    pub otlp_endpoint: Option<String>,
    /// Traces one in this many calls; 1 traces all. Range 1 to 1,000,000. Default 20: enough to find slow calls, with
    /// an acceptable load on the collector.
    #[serde(default = "otlp_one_in")]
    pub otlp_one_in: u64,
    /// Uses the trace of the caller's `traceparent` header as the parent, and traces a call if the header says that it
    /// is sampled. Default false: any caller could fill the collector or write into other traces, so the caller's trace
    /// is only linked.
    #[serde(default)]
    pub trust_traceparent: bool,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

fn log_format() -> LogFormat {
    LogFormat::Json
}

fn log_level() -> String {
    "info".to_owned()
}

fn otlp_one_in() -> u64 {
    20
}

#[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
fn metrics_listen() -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], 9464)))
}

/// Reads an address, with an empty text as `None`: TOML has no null, so this is how the default is turned off.
mod empty_is_none {
    use super::{Deserialize, Deserializer, Serializer, SocketAddr};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        address: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&address.map(|address| address.to_string()).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(serde::de::Error::custom)
    }
}

/// Reads a text, with an empty one as `None`.
mod empty_text_is_none {
    use super::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        text: &Option<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text.as_deref().unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<String>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

impl Section for Telemetry {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("log_format", ValueKind::Text),
        ConfigKey::new("log_level", ValueKind::Text),
        ConfigKey::new("metrics_listen", ValueKind::Text),
        ConfigKey::new("otlp_endpoint", ValueKind::Text),
        ConfigKey::new("otlp_one_in", ValueKind::Number),
        ConfigKey::new("trust_traceparent", ValueKind::Flag),
    ];

    fn check(&self, faults: &mut Faults) {
        if let Err(error) = EnvFilter::try_new(&self.log_level) {
            faults.add("telemetry.log_level", format!("is not a valid filter: {error}"));
        }
        faults.check_range("telemetry.otlp_one_in", self.otlp_one_in, &(1..=1_000_000));
        let speaks = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        let is_url = |url: &str| speaks(url) && url.parse::<http::Uri>().is_ok();
        if self.otlp_endpoint.as_deref().is_some_and(|url| !is_url(url)) {
            faults.add("telemetry.otlp_endpoint", "must be an http or https URL".to_owned());
        }
    }
}

impl Telemetry {
    /// Checks that the metrics endpoint and the API can listen at the same time.
    pub(super) fn check_listen(&self, api: SocketAddr, faults: &mut Faults) {
        if self.metrics_listen.is_some_and(|metrics| is_same_socket(metrics, api)) {
            let why = format!("must not be the address of `server.listen`, which is {api}");
            faults.add("telemetry.metrics_listen", why);
        }
    }
}

/// Returns whether only one of two addresses can be listened on. An IPv6 wildcard includes IPv4; port 0 is a free port.
fn is_same_socket(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, narrow: SocketAddr| {
        wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    let overlap = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    one.port() == other.port() && one.port() != 0 && overlap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_listeners_need_two_addresses() {
        for (one, other, same) in [
            ("127.0.0.1:8443", "127.0.0.1:8443", true),
            ("127.0.0.1:8443", "127.0.0.1:9464", false),
            ("127.0.0.1:8443", "127.0.0.2:8443", false),
            ("0.0.0.0:8443", "127.0.0.1:8443", true),
            ("[::]:8443", "127.0.0.1:8443", true),
            ("0.0.0.0:8443", "[::1]:8443", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(is_same_socket(one, other), same, "{one} {other}");
            assert_eq!(is_same_socket(other, one), same, "{other} {one}");
        }
    }
}
