//! `[limits]`: limits on the requests, connections and memory of one address or caller, and on the cost of password
//! checks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// Limits on what one address or caller can use. An IPv6 address counts by its /64.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Calls per second from one address, including authenticated ones. Range 1 to 10,000,000. Default 2000: far above
    /// any client or office, and far below what one server can reject.
    #[serde(default = "address_requests_per_second")]
    pub address_requests_per_second: u32,
    /// Calls that one address can make at once before `address_requests_per_second` applies. Range 1 to 10,000,000.
    /// Default 4000, two seconds' worth: an SDK that reconnects opens all its streams together.
    #[serde(default = "address_burst")]
    pub address_burst: u32,
    /// Calls per minute from one address to public methods, such as login. Range 1 to 10,000,000. Default 60: more than
    /// people need, and slow for guessing.
    #[serde(default = "anonymous_requests_per_minute")]
    pub anonymous_requests_per_minute: u32,
    /// Calls to public methods that one address can make at once before `anonymous_requests_per_minute` applies. Range
    /// 1 to 10,000,000. Default 20: several people behind one address log in as the day begins.
    #[serde(default = "anonymous_burst")]
    pub anonymous_burst: u32,
    /// Requests per minute from one address to the token service of the stock client; also the burst. 0 means no limit.
    /// Range 0 to 10,000,000. Default 60: a client that polls for its device code sends twelve requests a minute, a
    /// client with an API key one a day.
    #[serde(default = "token_requests_per_minute")]
    pub token_requests_per_minute: u32,
    /// Credentials (API keys, sessions and tokens together) that one authenticated caller can create per minute; also
    /// the burst. 0 means no limit. Range 0 to 10,000,000. Default 30: a rollout creates a few, and a caller that needs
    /// hundreds can wait.
    #[serde(default = "credentials_per_minute")]
    pub credentials_per_minute: u32,
    /// Maximum number of open calls in total. Range 1 to 1,000,000. Default 16384: a call holds up to 26 KiB before its
    /// body is read, so together they hold at most 0.5 GiB.
    #[serde(default = "calls_max")]
    pub calls_max: u32,
    /// Maximum number of open calls from one address, with or without a credential. Range 1 to 1,000,000. Default 2048:
    /// two callers at their own limit.
    #[serde(default = "calls_per_address")]
    pub calls_per_address: u32,
    /// Maximum number of open calls of one authenticated caller, including proxied ones. Range 1 to 1,000,000. Default
    /// 1024: a service that needs more than a thousand open calls must raise it; it also bounds what a leaked key can
    /// use.
    #[serde(default = "calls_per_principal")]
    pub calls_per_principal: u32,
    /// Maximum number of open calls without a credential from one address, including plain HTTP. Range 1 to 1,000,000.
    /// Default 32: logins and health checks end at once.
    #[serde(default = "anonymous_calls_per_address")]
    pub anonymous_calls_per_address: u32,
    /// Maximum number of open streams of `shoreguard.v1`, health and reflection for one authenticated caller, or for
    /// one address without a credential. Range 1 to 1,000,000. Default 64: each event stream reads all events of the
    /// fleet separately.
    #[serde(default = "streams_per_caller")]
    pub streams_per_caller: u32,
    /// Memory for the requests and responses of all open calls, in MiB. It must hold at least one message of
    /// `server.message_bytes_max`. Range 1 to 1,048,576. Default 256.
    #[serde(default = "held_mib_max")]
    pub held_mib_max: u64,
    /// Memory for the requests and responses of one authenticated caller, or of one address without a credential, in
    /// MiB. It must hold at least one message of `server.message_bytes_max`. Range 1 to 1,048,576. Default 16: four
    /// messages of the default maximum size.
    #[serde(default = "held_mib_per_caller")]
    pub held_mib_per_caller: u64,
    /// Time in which the body of a request must arrive, in seconds; for a stream of `shoreguard.v1`, in which each
    /// message must arrive. Range 1 to 3600. Default 30.
    #[serde(default = "body_seconds")]
    pub body_seconds: u64,
    /// Time in which a caller must read the next 16 KiB of a response, or the rest if less is left, in seconds;
    /// otherwise the call is reset. Proxied streams have no such limit, since a user who pages through the output of a
    /// command pauses the command. Range 1 to 3600. Default 30.
    #[serde(default = "answer_seconds")]
    pub answer_seconds: u64,
    /// Maximum number of password checks at one time; a short queue of others waits up to 5 seconds, in which addresses
    /// take turns and accounts at an address from which they have logged in before come first. Range 1 to 64. Default
    /// 2: each uses a core for a quarter of a second, and other calls must not wait for them.
    #[serde(default = "bcrypt_parallel")]
    pub bcrypt_parallel: u32,
    /// bcrypt cost of new password hashes, as a power of two. Range 10 to 16. Default 12: a quarter of a second, as the
    /// hashes of the predecessor have.
    #[serde(default = "bcrypt_cost")]
    pub bcrypt_cost: u32,
    /// Space that must stay free on the disk of the data directory, in MiB. Below it, audit entries are still stored,
    /// but only admins can write. 0 turns the check off. Default 256: enough for days of audit entries while an
    /// operator frees space.
    #[serde(default = "disk_reserve_mib")]
    pub disk_reserve_mib: u64,
    /// Maximum number of open connections of callers. At the limit, a new connection replaces the connection with the
    /// longest idle time; if none is idle, the new connection is closed. The open file limit (`ulimit -n`) can lower
    /// this limit, since the database and the gateways need descriptors too; the effective limit is logged at startup.
    /// Range 16 to 1,000,000. Default 8192: some hundred MiB of memory if all are idle.
    #[serde(default = "connections_max")]
    pub connections_max: u32,
    /// Maximum number of open connections from one address, and at most half of the total limit, so that one address
    /// cannot lock out all others. Addresses in `server.trusted_proxies` have no such limit. Range 1 to 1,000,000.
    /// Default 512: an office behind one address.
    #[serde(default = "address_connections_max")]
    pub address_connections_max: u32,
    /// Time after which a connection without a call in flight is closed, in seconds. Range 10 to 86,400. Default 600:
    /// clients reconnect on their own, and a client that calls every few minutes keeps its connection.
    #[serde(default = "connection_idle_seconds")]
    pub connection_idle_seconds: u64,
}

fn address_requests_per_second() -> u32 {
    2000
}

fn address_burst() -> u32 {
    4000
}

fn anonymous_requests_per_minute() -> u32 {
    60
}

fn anonymous_burst() -> u32 {
    20
}

fn token_requests_per_minute() -> u32 {
    60
}

fn credentials_per_minute() -> u32 {
    30
}

fn calls_max() -> u32 {
    16384
}

fn calls_per_address() -> u32 {
    2048
}

fn calls_per_principal() -> u32 {
    1024
}

fn anonymous_calls_per_address() -> u32 {
    32
}

fn streams_per_caller() -> u32 {
    64
}

fn held_mib_max() -> u64 {
    256
}

fn held_mib_per_caller() -> u64 {
    16
}

fn body_seconds() -> u64 {
    30
}

fn answer_seconds() -> u64 {
    30
}

fn bcrypt_parallel() -> u32 {
    2
}

fn bcrypt_cost() -> u32 {
    12
}

fn disk_reserve_mib() -> u64 {
    256
}

fn connections_max() -> u32 {
    8192
}

fn address_connections_max() -> u32 {
    512
}

fn connection_idle_seconds() -> u64 {
    600
}

impl Limits {
    /// Returns the time after which a connection without a call in flight is closed.
    #[must_use]
    pub fn connection_idle(&self) -> Duration {
        Duration::from_secs(self.connection_idle_seconds)
    }
}

impl Section for Limits {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("address_requests_per_second", ValueKind::Number),
        ConfigKey::new("address_burst", ValueKind::Number),
        ConfigKey::new("anonymous_requests_per_minute", ValueKind::Number),
        ConfigKey::new("anonymous_burst", ValueKind::Number),
        ConfigKey::new("token_requests_per_minute", ValueKind::Number),
        ConfigKey::new("credentials_per_minute", ValueKind::Number),
        ConfigKey::new("calls_max", ValueKind::Number),
        ConfigKey::new("calls_per_address", ValueKind::Number),
        ConfigKey::new("calls_per_principal", ValueKind::Number),
        ConfigKey::new("anonymous_calls_per_address", ValueKind::Number),
        ConfigKey::new("streams_per_caller", ValueKind::Number),
        ConfigKey::new("held_mib_max", ValueKind::Number),
        ConfigKey::new("held_mib_per_caller", ValueKind::Number),
        ConfigKey::new("body_seconds", ValueKind::Number),
        ConfigKey::new("answer_seconds", ValueKind::Number),
        ConfigKey::new("bcrypt_parallel", ValueKind::Number),
        ConfigKey::new("bcrypt_cost", ValueKind::Number),
        ConfigKey::new("disk_reserve_mib", ValueKind::Number),
        ConfigKey::new("connections_max", ValueKind::Number),
        ConfigKey::new("address_connections_max", ValueKind::Number),
        ConfigKey::new("connection_idle_seconds", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        let rate = 1..=10_000_000;
        let per_second = self.address_requests_per_second;
        faults.check_range("limits.address_requests_per_second", per_second, &rate);
        faults.check_range("limits.address_burst", self.address_burst, &rate);
        let per_minute = self.anonymous_requests_per_minute;
        faults.check_range("limits.anonymous_requests_per_minute", per_minute, &rate);
        faults.check_range("limits.anonymous_burst", self.anonymous_burst, &rate);
        let per_minute = self.token_requests_per_minute;
        faults.check_range("limits.token_requests_per_minute", per_minute, &(0..=10_000_000));
        let per_minute = self.credentials_per_minute;
        faults.check_range("limits.credentials_per_minute", per_minute, &(0..=10_000_000));
        self.check_in_flight(faults);
        faults.check_range("limits.bcrypt_parallel", self.bcrypt_parallel, &(1..=64));
        // A stolen hash with a cost below 10 is cheap to guess; with a cost above 16, one login uses a core for four
        // seconds.
        faults.check_range("limits.bcrypt_cost", self.bcrypt_cost, &(10..=16));
        faults.check_range("limits.connections_max", self.connections_max, &(16..=1_000_000));
        let each = self.address_connections_max;
        faults.check_range("limits.address_connections_max", each, &(1..=1_000_000));
        let idle = self.connection_idle_seconds;
        faults.check_range("limits.connection_idle_seconds", idle, &(10..=86_400));
    }
}

impl Limits {
    fn check_in_flight(&self, faults: &mut Faults) {
        let calls = 1..=1_000_000;
        faults.check_range("limits.calls_max", self.calls_max, &calls);
        faults.check_range("limits.calls_per_address", self.calls_per_address, &calls);
        faults.check_range("limits.calls_per_principal", self.calls_per_principal, &calls);
        let anonymous = self.anonymous_calls_per_address;
        faults.check_range("limits.anonymous_calls_per_address", anonymous, &calls);
        faults.check_range("limits.streams_per_caller", self.streams_per_caller, &calls);
        let mib = 1..=1_048_576;
        faults.check_range("limits.held_mib_max", self.held_mib_max, &mib);
        faults.check_range("limits.held_mib_per_caller", self.held_mib_per_caller, &mib);
        let seconds = 1..=3600;
        faults.check_range("limits.body_seconds", self.body_seconds, &seconds);
        faults.check_range("limits.answer_seconds", self.answer_seconds, &seconds);
    }

    /// Checks that one caller can hold a message of the maximum size.
    pub(super) fn check_message(&self, message_bytes_max: u64, faults: &mut Faults) {
        let held = self.held_mib_per_caller.min(self.held_mib_max).saturating_mul(1 << 20);
        if held < message_bytes_max {
            let why = format!("must be at least `server.message_bytes_max`, {message_bytes_max}");
            faults.add("limits.held_mib_per_caller", why);
        }
    }

    /// Returns the time in which the body of a request must arrive.
    #[must_use]
    pub fn body(&self) -> Duration {
        Duration::from_secs(self.body_seconds)
    }

    /// Returns the time in which a caller must read a part of a response.
    #[must_use]
    pub fn answer(&self) -> Duration {
        Duration::from_secs(self.answer_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the faults of a section with only this key set.
    fn faults(key: &str, value: u64) -> Vec<String> {
        let limits: Limits = toml::from_str(&format!("{key} = {value}")).unwrap();
        let mut faults = Faults::new();
        limits.check(&mut faults);
        limits.check_message(4 << 20, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_limit_of_open_calls_has_a_valid_range() {
        for (key, least, most) in [
            ("calls_max", 1, 1_000_000),
            ("calls_per_address", 1, 1_000_000),
            ("calls_per_principal", 1, 1_000_000),
            ("anonymous_calls_per_address", 1, 1_000_000),
            ("streams_per_caller", 1, 1_000_000),
            ("body_seconds", 1, 3_600),
            ("answer_seconds", 1, 3_600),
        ] {
            assert!(faults(key, least).is_empty() && faults(key, most).is_empty(), "{key}");
            for past in [least - 1, most + 1] {
                let expected = format!("`limits.{key}` must be {least} to {most}, got {past}");
                assert_eq!(faults(key, past), [expected]);
            }
        }
    }

    #[test]
    fn the_memory_limits_must_allow_the_largest_message() {
        for key in ["held_mib_per_caller", "held_mib_max"] {
            assert!(faults(key, 4).is_empty(), "{key}");
            let found = faults(key, 3);
            assert!(found[0].contains("must be at least `server.message_bytes_max`"), "{found:?}");
        }
    }
}
