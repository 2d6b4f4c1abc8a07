//! `[webhooks]`: which receivers are allowed, and how long deliveries are stored.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};
use crate::net::pem_files;

/// Which receivers of webhooks are allowed, and how long deliveries are stored.
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
    /// Time that finished deliveries are stored, in days. Range 1 to 365. Default 7: a receiver that was down for a
    /// week is repaired by other means.
    #[serde(default = "retention_days")]
    pub retention_days: u32,
}

fn retention_days() -> u32 {
    7
}

impl Section for Webhooks {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("allowed_networks", ValueKind::List),
        ConfigKey::new("ca_path", ValueKind::Text),
        ConfigKey::new("retention_days", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        if let Some(Err(why)) = self.ca_path.as_deref().map(pem_files::read_roots) {
            faults.add("webhooks.ca_path", why);
        }
        faults.check_range("webhooks.retention_days", self.retention_days, &(1..=365));
    }
}
