//! `[discovery]`: discovery of gateways with DNS SRV records.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// Maximum number of domains.
const DOMAINS_MAX: usize = 20;
/// Maximum number of characters of a domain: a DNS name has at most 253, including the prefix of the SRV record.
const DOMAIN_CHARACTERS_MAX: usize = 237;

/// How gateways are discovered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// Looks up `domains` periodically; it then needs at least one domain. Default false: discovery on request of an
    /// admin needs only `domains`.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Domains to look up, in lower case and without a trailing dot, each at most 237 characters; at most 20. A request
    /// cannot name any other domain. Default: none.
    #[serde(default = "domains")]
    pub domains: Vec<String>,
    /// Interval between two lookups, in seconds. Range 30 to 86,400. Default 300: a new gateway can wait a few minutes.
    #[serde(default = "interval_seconds")]
    pub interval_seconds: u64,
    /// Timeout of the lookup of one domain, in seconds. Range 1 to 60. Default 5: long enough for a resolver to try
    /// more than one server.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
    /// Registers the gateways that are found. Default false: they are only reported, since anyone who can write to the
    /// DNS zone could otherwise choose which hosts the server connects to.
    #[serde(default = "auto_register")]
    pub auto_register: bool,
    /// Scheme of registered gateways, `https` or `http`. Default `https`, verified with the CAs of the system.
    #[serde(default = "scheme")]
    pub scheme: String,
}

fn enabled() -> bool {
    false
}

fn domains() -> Vec<String> {
    Vec::new()
}

fn interval_seconds() -> u64 {
    300
}

fn timeout_seconds() -> u64 {
    5
}

fn auto_register() -> bool {
    false
}

fn scheme() -> String {
    "https".to_owned()
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= DOMAIN_CHARACTERS_MAX && text.split('.').all(label)
}

impl Section for Discovery {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("enabled", ValueKind::Flag),
        ConfigKey::new("domains", ValueKind::List),
        ConfigKey::new("interval_seconds", ValueKind::Number),
        ConfigKey::new("timeout_seconds", ValueKind::Number),
        ConfigKey::new("auto_register", ValueKind::Flag),
        ConfigKey::new("scheme", ValueKind::Text),
    ];

    fn check(&self, faults: &mut Faults) {
        if self.domains.len() > DOMAINS_MAX {
            faults.add("discovery.domains", format!("must be at most {DOMAINS_MAX} domains"));
        }
        let mut seen = BTreeSet::new();
        for (i, domain) in self.domains.iter().enumerate() {
            let key = format!("discovery.domains[{i}]");
            if !is_domain(domain) {
                let why = format!(
                    "must be a domain in lower case of at most {DOMAIN_CHARACTERS_MAX} characters, without a dot at its end"
                );
                faults.add(key, why);
            } else if !seen.insert(domain) {
                faults.add(key, "is listed twice");
            }
        }
        if self.enabled && self.domains.is_empty() {
            faults.add("discovery.domains", "must name a domain where discovery is enabled");
        }
        faults.check_range("discovery.interval_seconds", self.interval_seconds, &(30..=86_400));
        faults.check_range("discovery.timeout_seconds", self.timeout_seconds, &(1..=60));
        if !["https", "http"].contains(&self.scheme.as_str()) {
            faults.add("discovery.scheme", "must be https or http");
        }
    }
}

impl Discovery {
    /// Returns the interval between two lookups.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_seconds)
    }

    /// Returns the timeout of the lookup of one domain.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}
