//! `[gateways]`: how gateways are reached and asked whether they are well.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// Most DNS servers.
const DNS_SERVERS_MAX: usize = 8;

/// How gateways are reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateways {
    /// Networks that gateways may be in although they are loopback, link-local, metadata, multicast or unspecified.
    /// Default: none, since whoever registers a gateway could else reach what only this host can.
    #[serde(default = "allowed_networks")]
    pub allowed_networks: Vec<IpNet>,
    /// The DNS servers, as `address:port`, that are asked for the names of gateways and of their identity providers, and
    /// for those of `discovery`. Default: none, which leaves it to the system.
    #[serde(default = "dns_servers")]
    pub dns_servers: Vec<SocketAddr>,
    /// How often a gateway is probed, in seconds. Default 30: an outage is seen within a minute, and a thousand gateways
    /// cost 33 probes a second.
    #[serde(default = "probe_interval_seconds")]
    pub probe_interval_seconds: u64,
    /// How long a probe may take, in seconds. Default 5: a gateway that takes longer is of no use to a caller.
    #[serde(default = "probe_timeout_seconds")]
    pub probe_timeout_seconds: u64,
    /// How long a connection may take to stand, TLS included, in seconds. Default 5, as the probe.
    #[serde(default = "connect_timeout_seconds")]
    pub connect_timeout_seconds: u64,
    /// How long an unused connection stays open, in seconds. Default 300: longer than the pause between two looks of a
    /// person at a page.
    #[serde(default = "idle_seconds")]
    pub idle_seconds: u64,
    /// Most connections to one gateway from each core for unary calls. Default 2: more were slower when measured.
    #[serde(default = "connections_per_core")]
    pub connections_per_core: u32,
    /// Unary calls that one caller may have open to one gateway at one time, in each process; 0 is no bound. Default 320:
    /// half of what the connections of one core carry, so that one caller leaves the other half to the others.
    #[serde(default = "unary_calls_per_caller")]
    pub unary_calls_per_caller: u32,
    /// Most streaming calls that one caller may have open to one gateway at a time, in a process: watches, logs, commands,
    /// uploads. Default 128: a watch of every sandbox that a page shows, and an unread one holds at most 256 KiB.
    #[serde(default = "streams_per_caller")]
    pub streams_per_caller: u32,
    /// How many of these may be calls whose requests stream: uploads, forwarded ports and terminals. Each has a connection to
    /// the gateway of its own. Default 64: what a browser and an editor open over forwarded ports.
    #[serde(default = "uploads_per_caller")]
    pub uploads_per_caller: u32,
    /// Most streaming calls of all callers to one gateway at a time, in a process. Default 1024: unread they hold at most
    /// 256 MiB.
    #[serde(default = "streams_per_gateway")]
    pub streams_per_gateway: u32,
    /// Most connections to one gateway for streaming calls, in a process. Default 256: four callers with all their uploads,
    /// or more streams than are allowed.
    #[serde(default = "stream_connections_per_gateway")]
    pub stream_connections_per_gateway: u32,
    /// Most bytes that a process reads of one gateway in a minute on its own account, which is all but proxied calls.
    /// Default 1 GiB: a hundred times what lists and logs of a large gateway have, and bearable from many at once. Lists,
    /// logs and what commands write take no more than that; for what acts on one thing there is as much again.
    #[serde(default = "bytes_per_minute")]
    pub bytes_per_minute: u64,
    /// The same for messages: lines of logs, events of sandboxes, pieces of output. Default 120,000: 2,000 a second is
    /// more than anybody follows.
    #[serde(default = "messages_per_minute")]
    pub messages_per_minute: u64,
    /// Most request ids of one gateway that a principal may use through each process. Default 500, half of what a gateway
    /// keeps: it takes this server for one caller, keeps the ids of failed calls for good, and then refuses those of all.
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
    const KEYS: &'static [Key] = &[
        Key::new("allowed_networks", Kind::List),
        Key::new("dns_servers", Kind::List),
        Key::new("probe_interval_seconds", Kind::Number),
        Key::new("probe_timeout_seconds", Kind::Number),
        Key::new("connect_timeout_seconds", Kind::Number),
        Key::new("idle_seconds", Kind::Number),
        Key::new("connections_per_core", Kind::Number),
        Key::new("unary_calls_per_caller", Kind::Number),
        Key::new("streams_per_caller", Kind::Number),
        Key::new("uploads_per_caller", Kind::Number),
        Key::new("streams_per_gateway", Kind::Number),
        Key::new("stream_connections_per_gateway", Kind::Number),
        Key::new("bytes_per_minute", Kind::Number),
        Key::new("messages_per_minute", Kind::Number),
        Key::new("request_ids_per_principal", Kind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        if self.dns_servers.len() > DNS_SERVERS_MAX {
            let why = format!("must be at most {DNS_SERVERS_MAX} servers");
            faults.add("gateways.dns_servers", why);
        }
        faults.range("gateways.probe_interval_seconds", self.probe_interval_seconds, &(1..=3600));
        faults.range("gateways.probe_timeout_seconds", self.probe_timeout_seconds, &(1..=60));
        faults.range("gateways.connect_timeout_seconds", self.connect_timeout_seconds, &(1..=60));
        faults.range("gateways.idle_seconds", self.idle_seconds, &(1..=86_400));
        faults.range("gateways.connections_per_core", self.connections_per_core, &(1..=16));
        let streams = 1..=65_536;
        let unary = self.unary_calls_per_caller;
        faults.range("gateways.unary_calls_per_caller", unary, &(0..=1_000_000));
        faults.range("gateways.streams_per_caller", self.streams_per_caller, &streams);
        faults.range("gateways.uploads_per_caller", self.uploads_per_caller, &streams);
        faults.range("gateways.streams_per_gateway", self.streams_per_gateway, &streams);
        let connections = self.stream_connections_per_gateway;
        faults.range("gateways.stream_connections_per_gateway", connections, &(1..=16_384));
        // At least one message as large as one may be.
        let bytes = 32 << 20..=1 << 40;
        faults.range("gateways.bytes_per_minute", self.bytes_per_minute, &bytes);
        let messages = 1_000..=1_000_000_000;
        faults.range("gateways.messages_per_minute", self.messages_per_minute, &messages);
        let ids = 1..=1_000_000;
        faults.range("gateways.request_ids_per_principal", self.request_ids_per_principal, &ids);
    }
}

impl Gateways {
    /// How often a gateway is probed.
    #[must_use]
    pub fn probe_interval(&self) -> Duration {
        Duration::from_secs(self.probe_interval_seconds)
    }

    /// How long a probe may take.
    #[must_use]
    pub fn probe_timeout(&self) -> Duration {
        Duration::from_secs(self.probe_timeout_seconds)
    }

    /// How long a connection may take to stand.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_seconds)
    }

    /// How long an unused connection stays open.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_bounds_of_streams_have_a_range() {
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
                let wanted = format!("`gateways.{key}` must be 1..={most}, got {wrong}");
                assert_eq!(refused, wanted);
            }
        }
    }
}
