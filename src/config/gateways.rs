//! `[gateways]`: how the server connects to gateways, probes them and limits calls to them.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// Maximum number of DNS servers.
const DNS_SERVERS_MAX: usize = 8;

/// How the server connects to gateways.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateways {
    /// Networks in which gateways and their identity providers are allowed although the addresses are loopback,
    /// link-local, metadata, multicast or unspecified. Default: none, since a caller who registers a gateway could
    /// otherwise reach services that only this host can reach.
    #[serde(default = "allowed_networks")]
    pub allowed_networks: Vec<IpNet>,
    /// DNS servers, as `address:port`, for the names of gateways and of their identity providers and for `discovery`;
    /// at most 8. Default: none, which uses the resolver of the system.
    #[serde(default = "dns_servers")]
    pub dns_servers: Vec<SocketAddr>,
    /// Interval between two probes of a gateway, in seconds. Range 1 to 3600. Default 30: an outage is noticed within a
    /// minute, and a thousand gateways cost 33 probes a second.
    #[serde(default = "probe_interval_seconds")]
    pub probe_interval_seconds: u64,
    /// Timeout of one probe, in seconds. Range 1 to 60. Default 5: a slower gateway is of no use to a caller.
    #[serde(default = "probe_timeout_seconds")]
    pub probe_timeout_seconds: u64,
    /// Timeout of establishing a connection to a gateway, including TLS, in seconds. Range 1 to 60. Default 5, as for a
    /// probe.
    #[serde(default = "connect_timeout_seconds")]
    pub connect_timeout_seconds: u64,
    /// Time after which an unused connection to a gateway is closed, in seconds. Range 1 to 86,400. Default 300: longer
    /// than a person pauses between two requests.
    #[serde(default = "idle_seconds")]
    pub idle_seconds: u64,
    /// Maximum number of connections from each core to one gateway for unary calls. Range 1 to 16. Default 2: more were
    /// slower when measured.
    #[serde(default = "connections_per_core")]
    pub connections_per_core: u32,
    /// Maximum number of open unary calls of one caller to one gateway, in each process; 0 means no limit. Range 0 to
    /// 1,000,000. Default 320: half of the capacity of one core's connections, so that one caller leaves the other half
    /// to the others.
    #[serde(default = "unary_calls_per_caller")]
    pub unary_calls_per_caller: u32,
    /// Maximum number of open streaming calls of one caller to one gateway, in each process: event streams, logs,
    /// commands, uploads. Range 1 to 65,536. Default 128: one stream for each sandbox that a page shows. A stream that
    /// is not read holds at most 256 KiB.
    #[serde(default = "streams_per_caller")]
    pub streams_per_caller: u32,
    /// Maximum number of those streaming calls whose requests stream: uploads, forwarded ports and terminals. Each uses
    /// its own connection to the gateway. Range 1 to 65,536. Default 64: as many as a browser and an editor open over
    /// forwarded ports.
    #[serde(default = "uploads_per_caller")]
    pub uploads_per_caller: u32,
    /// Maximum number of open streaming calls of all callers to one gateway, in each process. Range 1 to 65,536.
    /// Default 1024: streams that are not read hold at most 256 MiB together.
    #[serde(default = "streams_per_gateway")]
    pub streams_per_gateway: u32,
    /// Maximum number of connections to one gateway for streaming calls, in each process. Range 1 to 16,384. Default
    /// 256: enough for the uploads of four callers, or for all streams of `streams_per_gateway` without uploads.
    #[serde(default = "stream_connections_per_gateway")]
    pub stream_connections_per_gateway: u32,
    /// Maximum number of bytes per minute that each process reads from one gateway for Shoreguard's own calls; proxied
    /// calls do not count. Lists, logs and command output can use this amount, calls about a single object can use as
    /// much again; beyond it, calls fail until the minute ends. Range 33,554,432 (32 MiB) to 1,099,511,627,776 (1 TiB).
    /// Default 1,073,741,824 (1 GiB): a hundred times the lists and logs of a large gateway, and bearable from many
    /// gateways at once.
    #[serde(default = "bytes_per_minute")]
    pub bytes_per_minute: u64,
    /// Maximum number of messages per minute that each process reads from one gateway for Shoreguard's own calls: log
    /// lines, sandbox events, pieces of output. As for `bytes_per_minute`, calls about a single object can use as much
    /// again. Range 1000 to 1,000,000,000. Default 120,000: 2,000 a second is more than a person can follow.
    #[serde(default = "messages_per_minute")]
    pub messages_per_minute: u64,
    /// Maximum number of sandboxes that are listed per gateway. A gateway with more is degraded, and its sandboxes are
    /// not followed. Range 100 to 10,000. Default 10,000.
    #[serde(default = "sandboxes_max")]
    pub sandboxes_max: u32,
    /// Maximum number of request ids of one gateway that one principal can use through each process. Range 1 to
    /// 1,000,000. Default 500, half of what a gateway stores: a gateway sees this server as one caller, never deletes
    /// the ids of failed calls, and rejects all further ids when it is full.
    #[serde(default = "request_ids_per_principal")]
    pub request_ids_per_principal: u32,
}

fn request_ids_per_principal() -> u32 {
    500
}

fn bytes_per_minute() -> u64 {
    1 << 30
}

fn messages_per_minute() -> u64 {
    120_000
}

fn sandboxes_max() -> u32 {
    10_000
}

fn allowed_networks() -> Vec<IpNet> {
    Vec::new()
}

fn dns_servers() -> Vec<SocketAddr> {
    Vec::new()
}

fn probe_interval_seconds() -> u64 {
    30
}

fn probe_timeout_seconds() -> u64 {
    5
}

fn connect_timeout_seconds() -> u64 {
    5
}

fn idle_seconds() -> u64 {
    300
}

fn connections_per_core() -> u32 {
    2
}

fn unary_calls_per_caller() -> u32 {
    320
}

fn streams_per_caller() -> u32 {
    128
}

fn uploads_per_caller() -> u32 {
    64
}

fn streams_per_gateway() -> u32 {
    1024
}

fn stream_connections_per_gateway() -> u32 {
    256
}

impl Section for Gateways {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("allowed_networks", ValueKind::List),
        ConfigKey::new("dns_servers", ValueKind::List),
        ConfigKey::new("probe_interval_seconds", ValueKind::Number),
        ConfigKey::new("probe_timeout_seconds", ValueKind::Number),
        ConfigKey::new("connect_timeout_seconds", ValueKind::Number),
        ConfigKey::new("idle_seconds", ValueKind::Number),
        ConfigKey::new("connections_per_core", ValueKind::Number),
        ConfigKey::new("unary_calls_per_caller", ValueKind::Number),
        ConfigKey::new("streams_per_caller", ValueKind::Number),
        ConfigKey::new("uploads_per_caller", ValueKind::Number),
        ConfigKey::new("streams_per_gateway", ValueKind::Number),
        ConfigKey::new("stream_connections_per_gateway", ValueKind::Number),
        ConfigKey::new("bytes_per_minute", ValueKind::Number),
        ConfigKey::new("messages_per_minute", ValueKind::Number),
        ConfigKey::new("sandboxes_max", ValueKind::Number),
        ConfigKey::new("request_ids_per_principal", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        if self.dns_servers.len() > DNS_SERVERS_MAX {
            let why = format!("must be at most {DNS_SERVERS_MAX} servers");
            faults.add("gateways.dns_servers", why);
        }
        faults.check_range(
            "gateways.probe_interval_seconds",
            self.probe_interval_seconds,
            &(1..=3600),
        );
        faults.check_range("gateways.probe_timeout_seconds", self.probe_timeout_seconds, &(1..=60));
        faults.check_range(
            "gateways.connect_timeout_seconds",
            self.connect_timeout_seconds,
            &(1..=60),
        );
        faults.check_range("gateways.idle_seconds", self.idle_seconds, &(1..=86_400));
        faults.check_range("gateways.connections_per_core", self.connections_per_core, &(1..=16));
        let streams = 1..=65_536;
        let unary = self.unary_calls_per_caller;
        faults.check_range("gateways.unary_calls_per_caller", unary, &(0..=1_000_000));
        faults.check_range("gateways.streams_per_caller", self.streams_per_caller, &streams);
        faults.check_range("gateways.uploads_per_caller", self.uploads_per_caller, &streams);
        faults.check_range("gateways.streams_per_gateway", self.streams_per_gateway, &streams);
        let connections = self.stream_connections_per_gateway;
        faults.check_range("gateways.stream_connections_per_gateway", connections, &(1..=16_384));
        // At least one message of the maximum size must fit.
        let bytes = 32 << 20..=1 << 40;
        faults.check_range("gateways.bytes_per_minute", self.bytes_per_minute, &bytes);
        let messages = 1_000..=1_000_000_000;
        faults.check_range("gateways.messages_per_minute", self.messages_per_minute, &messages);
        faults.check_range("gateways.sandboxes_max", self.sandboxes_max, &(100..=10_000));
        let ids = 1..=1_000_000;
        faults.check_range(
            "gateways.request_ids_per_principal",
            self.request_ids_per_principal,
            &ids,
        );
    }
}

impl Gateways {
    /// Returns the interval between two probes of a gateway.
    #[must_use]
    pub fn probe_interval(&self) -> Duration {
        Duration::from_secs(self.probe_interval_seconds)
    }

    /// Returns the timeout of one probe.
    #[must_use]
    pub fn probe_timeout(&self) -> Duration {
        Duration::from_secs(self.probe_timeout_seconds)
    }

    /// Returns the timeout of establishing a connection.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_seconds)
    }

    /// Returns the time after which an unused connection is closed.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_stream_limits_have_a_valid_range() {
        for (key, most) in [
            ("streams_per_caller", 65_536),
            ("uploads_per_caller", 65_536),
            ("streams_per_gateway", 65_536),
            ("stream_connections_per_gateway", 16_384),
        ] {
            let with = |value: u32| Config::from_toml(&format!("[gateways]\n{key} = {value}"));
            assert!(with(1).is_ok() && with(most).is_ok(), "{key}");
            for wrong in [0, most + 1] {
                let refused = with(wrong).unwrap_err().to_string();
                let wanted = format!("`gateways.{key}` must be 1 to {most}, got {wrong}");
                assert_eq!(refused, wanted);
            }
        }
    }
}
