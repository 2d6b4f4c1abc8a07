//! `[webhooks]`: which receivers are allowed, how many connections they use, and how long deliveries are stored.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};
use crate::net::pem_files;

/// Which receivers of webhooks are allowed, how many connections they use, and how long deliveries are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// Networks in which receivers and mail servers are allowed although the addresses are not public, and in which
    /// receivers are allowed without TLS. Default: none, since an admin of Shoreguard need not have access to the
    /// services of its network.
    #[serde(default)]
    pub allowed_networks: Vec<IpNet>,
    /// Path of CAs of receivers and mail servers, PEM, in addition to those of the system. Default: none.
    #[serde(default)]
    pub ca_path: Option<PathBuf>,
    /// Maximum number of open connections to receivers and mail servers, including those that are kept for the next
    /// message. Each active webhook has an equal share of it, at least one connection, and the tests of webhooks have
    /// the share of one more; with more webhooks than that, they take turns. The open file limit (`ulimit -n`) can
    /// lower this limit to a third of the descriptors that the server does not need itself; the effective limit is
    /// logged at startup. Range 1 to 65,536. Default 1024: five for each of 200 webhooks, whose default
    /// `max_in_flight` is 4.
    #[serde(default = "connections_max")]
    pub connections_max: u32,
    /// Time that finished deliveries are stored, in days. Range 1 to 365. Default 7: a receiver that was down for a
    /// week is repaired by other means.
    #[serde(default = "retention_days")]
    pub retention_days: u32,
}

fn connections_max() -> u32 {
    1024
}

fn retention_days() -> u32 {
    7
}

impl Section for Webhooks {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("allowed_networks", ValueKind::List),
        ConfigKey::new("ca_path", ValueKind::Text),
        ConfigKey::new("connections_max", ValueKind::Number),
        ConfigKey::new("retention_days", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        if let Some(Err(why)) = self.ca_path.as_deref().map(pem_files::read_roots) {
            faults.add("webhooks.ca_path", why);
        }
        faults.check_range("webhooks.connections_max", self.connections_max, &(1..=65_536));
        faults.check_range("webhooks.retention_days", self.retention_days, &(1..=365));
    }
}
