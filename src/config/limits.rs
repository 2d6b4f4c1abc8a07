//! `[limits]`: how much one address or caller may ask for, and how much a password check may cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// How much one address or caller may ask for. An IPv6 address counts by its /64.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Calls per second from one address, known callers included. Default 2000: far above any client or office, far
    /// below what one server can refuse.
    #[serde(default = "address_requests_per_second")]
    pub address_requests_per_second: u32,
    /// Calls that one address may make at once before the rate counts. Default 4000, two seconds' worth: an SDK that
    /// reconnects opens all its streams together.
    #[serde(default = "address_burst")]
    pub address_burst: u32,
    /// Calls per minute from one address to public methods, such as logging in. Default 60: one a second is more than
    /// people need, and slow for guessing.
    #[serde(default = "anonymous_requests_per_minute")]
    pub anonymous_requests_per_minute: u32,
    /// Such calls that one address may make at once before the rate counts. Default 20: several people behind one
    /// address log in as the day begins.
    #[serde(default = "anonymous_burst")]
    pub anonymous_burst: u32,
    /// Requests per minute, and at once, from one address to the token service of the stock client; 0 is no limit.
    /// Default 60: a client that waits for its device code asks twelve times a minute, one with a key once a day.
    #[serde(default = "token_requests_per_minute")]
    pub token_requests_per_minute: u32,
    /// Credentials that one known caller may make a minute, and at once: API keys, sessions and tokens together; 0 is no
    /// limit. Default 30: a rollout makes a handful, and whoever needs hundreds has time.
    #[serde(default = "credentials_per_minute")]
    pub credentials_per_minute: u32,
    /// Calls that may be open at one time in all. Default 16384: a call holds up to 26 KiB before its body is read, so
    /// they hold at most 0.5 GiB.
    #[serde(default = "calls_max")]
    pub calls_max: u32,
    /// Calls that may be open at one time from one address, with or without a credential. Default 2048: two callers at
    /// their own bound.
    #[serde(default = "calls_per_address")]
    pub calls_per_address: u32,
    /// Calls that one known caller may have open at one time, proxied ones included. Default 1024: a service with a
    /// thousand open calls needs a larger bound; one with a key that leaked does not get it.
    #[serde(default = "calls_per_principal")]
    pub calls_per_principal: u32,
    /// Calls without a credential that may be open at one time from one address, plain HTTP included. Default 32: logins
    /// and health checks are over at once.
    #[serde(default = "anonymous_calls_per_address")]
    pub anonymous_calls_per_address: u32,
    /// Streams of `shoreguard.v1`, health and reflection that one known caller, or one address without a credential, may
    /// have open at one time. Default 64: each watch reads what happens in the fleet once more.
    #[serde(default = "streams_per_caller")]
    pub streams_per_caller: u32,
    /// Memory that the requests and answers of open calls may hold in all, in MiB. Default 256.
    #[serde(default = "held_mib_max")]
    pub held_mib_max: u64,
    /// Memory that the requests and answers of one known caller, or of one address without a credential, may hold, in
    /// MiB. Default 16: four messages of the largest size.
    #[serde(default = "held_mib_per_caller")]
    pub held_mib_per_caller: u64,
    /// Time that the body of a request may take to arrive, in seconds; of a stream of `shoreguard.v1`, each message.
    /// Default 30.
    #[serde(default = "body_seconds")]
    pub body_seconds: u64,
    /// Time in which a caller must take 16 KiB of an answer, or what is left of it, in seconds; the call is reset then.
    /// Streams of gateways have none: who pages through the output of a command stops the command. Default 30.
    #[serde(default = "answer_seconds")]
    pub answer_seconds: u64,
    /// Password checks at one time. Default 2: each takes a core for a quarter of a second, and calls must go on.
    #[serde(default = "bcrypt_parallel")]
    pub bcrypt_parallel: u32,
    /// The cost of a new password's hash, as a power of two. Default 12: a quarter of a second, what the predecessor's
    /// hashes have.
    #[serde(default = "bcrypt_cost")]
    pub bcrypt_cost: u32,
    /// What must stay free on the disk of the data directory, in MiB; below it only audit entries and admins' writes
    /// are taken. Default 256: enough for days of audit entries while somebody makes room.
    #[serde(default = "disk_reserve_mib")]
    pub disk_reserve_mib: u64,
    /// Most connections of callers at one time. Default 8192: some hundred MiB of memory when all are idle. The limit of
    /// open files (`ulimit -n`) may leave room for fewer, since database and gateways come first; the log tells the bound
    /// at start. At the bound a new connection takes the place of the one that has been idle for the longest, and is
    /// closed where none is idle.
    #[serde(default = "connections_max")]
    pub connections_max: u32,
    /// The same from one address. Default 512: an office behind one address. At most half of the bound in all, so that no
    /// address keeps all others out. Addresses in `server.trusted_proxies` have no such bound.
    #[serde(default = "address_connections_max")]
    pub address_connections_max: u32,
    /// How long a connection without a call in flight stays open, in seconds. Default 600: clients connect anew by
    /// themselves, and one that calls every few minutes need not.
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
    /// How long a connection without a call in flight stays open.
    #[must_use]
    pub fn connection_idle(&self) -> Duration {
        Duration::from_secs(self.connection_idle_seconds)
    }
}

impl Section for Limits {
    const KEYS: &'static [Key] = &[
        Key::new("address_requests_per_second", Kind::Number),
        Key::new("address_burst", Kind::Number),
        Key::new("anonymous_requests_per_minute", Kind::Number),
        Key::new("anonymous_burst", Kind::Number),
        Key::new("token_requests_per_minute", Kind::Number),
        Key::new("credentials_per_minute", Kind::Number),
        Key::new("calls_max", Kind::Number),
        Key::new("calls_per_address", Kind::Number),
        Key::new("calls_per_principal", Kind::Number),
        Key::new("anonymous_calls_per_address", Kind::Number),
        Key::new("streams_per_caller", Kind::Number),
        Key::new("held_mib_max", Kind::Number),
        Key::new("held_mib_per_caller", Kind::Number),
        Key::new("body_seconds", Kind::Number),
        Key::new("answer_seconds", Kind::Number),
        Key::new("bcrypt_parallel", Kind::Number),
        Key::new("bcrypt_cost", Kind::Number),
        Key::new("disk_reserve_mib", Kind::Number),
        Key::new("connections_max", Kind::Number),
        Key::new("address_connections_max", Kind::Number),
        Key::new("connection_idle_seconds", Kind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        let rate = 1..=10_000_000;
        let per_second = self.address_requests_per_second;
        faults.range("limits.address_requests_per_second", per_second, &rate);
        faults.range("limits.address_burst", self.address_burst, &rate);
        let per_minute = self.anonymous_requests_per_minute;
        faults.range("limits.anonymous_requests_per_minute", per_minute, &rate);
        faults.range("limits.anonymous_burst", self.anonymous_burst, &rate);
        let per_minute = self.token_requests_per_minute;
        faults.range("limits.token_requests_per_minute", per_minute, &(0..=10_000_000));
        let per_minute = self.credentials_per_minute;
        faults.range("limits.credentials_per_minute", per_minute, &(0..=10_000_000));
        self.check_in_flight(faults);
        faults.range("limits.bcrypt_parallel", self.bcrypt_parallel, &(1..=64));
        // Below 10 a stolen hash is cheap to guess; above 16 one login takes four seconds of a core.
        faults.range("limits.bcrypt_cost", self.bcrypt_cost, &(10..=16));
        faults.range("limits.connections_max", self.connections_max, &(16..=1_000_000));
        let each = self.address_connections_max;
        faults.range("limits.address_connections_max", each, &(1..=1_000_000));
        let idle = self.connection_idle_seconds;
        faults.range("limits.connection_idle_seconds", idle, &(10..=86_400));
    }
}

impl Limits {
    fn check_in_flight(&self, faults: &mut Faults) {
        let calls = 1..=1_000_000;
        faults.range("limits.calls_max", self.calls_max, &calls);
        faults.range("limits.calls_per_address", self.calls_per_address, &calls);
        faults.range("limits.calls_per_principal", self.calls_per_principal, &calls);
        let anonymous = self.anonymous_calls_per_address;
        faults.range("limits.anonymous_calls_per_address", anonymous, &calls);
        faults.range("limits.streams_per_caller", self.streams_per_caller, &calls);
        let mib = 1..=1_048_576;
        faults.range("limits.held_mib_max", self.held_mib_max, &mib);
        faults.range("limits.held_mib_per_caller", self.held_mib_per_caller, &mib);
        let seconds = 1..=3600;
        faults.range("limits.body_seconds", self.body_seconds, &seconds);
        faults.range("limits.answer_seconds", self.answer_seconds, &seconds);
    }

    /// Checks that a message of the largest size fits into what one caller may hold.
    pub(super) fn check_message(&self, message_bytes_max: u64, faults: &mut Faults) {
        let held = self.held_mib_per_caller.min(self.held_mib_max).saturating_mul(1 << 20);
        if held < message_bytes_max {
            let why = format!("must be at least `server.message_bytes_max`, {message_bytes_max}");
            faults.add("limits.held_mib_per_caller", why);
        }
    }

    /// Time that the body of a request may take to arrive.
    #[must_use]
    pub fn body(&self) -> Duration {
        Duration::from_secs(self.body_seconds)
    }

    /// Time in which a caller must take a part of an answer.
    #[must_use]
    pub fn answer(&self) -> Duration {
        Duration::from_secs(self.answer_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults of a section with one key set.
    fn faults(key: &str, value: u64) -> Vec<String> {
        let limits: Limits = toml::from_str(&format!("{key} = {value}")).unwrap();
        let mut faults = Faults::none();
        limits.check(&mut faults);
        limits.check_message(4 << 20, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_bound_of_open_calls_has_its_own_bounds() {
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
                let expected = format!("`limits.{key}` must be {least}..={most}, got {past}");
                assert_eq!(faults(key, past), [expected]);
            }
        }
    }

    #[test]
    fn what_one_caller_may_hold_takes_the_largest_message() {
        for key in ["held_mib_per_caller", "held_mib_max"] {
            assert!(faults(key, 4).is_empty(), "{key}");
            let found = faults(key, 3);
            assert!(found[0].contains("must be at least `server.message_bytes_max`"), "{found:?}");
        }
    }
}
