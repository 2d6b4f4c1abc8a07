//! `[telemetry]`: logs and metrics.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing_subscriber::EnvFilter;

use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// Logs and metrics.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// The form of the log: `json`, one object a line, or `text` for people. Default `json`: a log is read by programs
    /// first.
    #[serde(default = "log_format")]
    pub log_format: LogFormat,
    /// What is logged, as tracing's filters say it: `info`, `warn,shoreguard=debug`. Default `info`: what an operator
    /// acts on, and nothing for each call.
    #[serde(default = "log_level")]
    pub log_level: String,
    /// Address and port of the metrics; empty is off. Default `127.0.0.1:9464`, the port of Prometheus exporters of this
    /// kind: metrics name gateways, so they are open to this host only.
    #[serde(default = "metrics_listen", with = "empty_is_none")]
    pub metrics_listen: Option<SocketAddr>,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
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

#[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
fn metrics_listen() -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], 9464)))
}

/// TOML has no null, so that a default can only be switched off by an empty text.
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

impl Section for Telemetry {
    const KEYS: &'static [Key] = &[
        Key::new("log_format", Kind::Text),
        Key::new("log_level", Kind::Text),
        Key::new("metrics_listen", Kind::Text),
    ];

    fn check(&self, faults: &mut Faults) {
        if let Err(error) = EnvFilter::try_new(&self.log_level) {
            faults.add("telemetry.log_level", format!("is no filter: {error}"));
        }
    }
}
