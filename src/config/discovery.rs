//! `[discovery]`: gateways that domains offer by DNS SRV records.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// Most domains.
const DOMAINS_MAX: usize = 20;
/// Most characters of a domain: what is asked for stands before it, and a name has at most 253.
const DOMAIN_CHARACTERS_MAX: usize = 237;

/// How gateways are discovered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// Whether domains are looked at again and again. Default false: a look that an admin asks for needs no more than
    /// `domains`.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// The domains that may be looked at, in lower case; nobody can name another. Default: none. At most 20.
    #[serde(default = "domains")]
    pub domains: Vec<String>,
    /// How often they are looked at, in seconds. Default 300: a new gateway can wait for some minutes.
    #[serde(default = "interval_seconds")]
    pub interval_seconds: u64,
    /// How long the records of one domain may take, in seconds. Default 5: so long does a resolver try more than one server.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
    /// Whether what is found is registered. Default false: whoever can write into the zone would choose whom we connect
    /// to, so what would be registered is only told.
    #[serde(default = "auto_register")]
    pub auto_register: bool,
    /// How what is registered is reached, `https` or `http`. Default `https`, under the CAs of the system.
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
    const KEYS: &'static [Key] = &[
        Key::new("enabled", Kind::Flag),
        Key::new("domains", Kind::List),
        Key::new("interval_seconds", Kind::Number),
        Key::new("timeout_seconds", Kind::Number),
        Key::new("auto_register", Kind::Flag),
        Key::new("scheme", Kind::Text),
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
                faults.add(key, "stands there twice");
            }
        }
        if self.enabled && self.domains.is_empty() {
            faults.add("discovery.domains", "must name a domain where discovery is enabled");
        }
        faults.range("discovery.interval_seconds", self.interval_seconds, &(30..=86_400));
        faults.range("discovery.timeout_seconds", self.timeout_seconds, &(1..=60));
        if !["https", "http"].contains(&self.scheme.as_str()) {
            faults.add("discovery.scheme", "must be https or http");
        }
    }
}

impl Discovery {
    /// How often the domains are looked at.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_seconds)
    }

    /// How long the records of one domain may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}
