//! DNS records of a domain, and the gateways built from them. No I/O.

use serde_json::json;

use crate::clock::Timestamp;
use crate::error::Error;
use crate::labels::Labels;
use crate::names::GATEWAY_NAME_CHARACTERS_MAX;
use crate::net::names::SrvRecord;
use crate::resources::gateways::domain::NewGateway;
use crate::resources::gateways::input;
use crate::upstream::credentials::{AuthMode, Credentials};
use crate::upstream::endpoint::{Endpoint, Scheme};

/// Ports that are not added to a name: HTTPS, and the default port of gateways.
const USUAL_PORTS: [u16; 2] = [443, 30051];
/// Name of a gateway whose host has no usable characters.
const NAMELESS: &str = "discovered";

/// A gateway that a domain advertises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The domain.
    pub domain: String,
    /// SRV record.
    pub record: SrvRecord,
}

/// Sorts records by priority (ascending), weight (descending), host and port. Drops records with an empty host, which
/// mean that there is no service.
#[must_use]
pub fn sort_records(mut services: Vec<SrvRecord>) -> Vec<SrvRecord> {
    services.retain(|service| !service.host.is_empty());
    services.sort_by(|a, b| {
        let of_same_priority = b.weight.cmp(&a.weight).then_with(|| a.host.cmp(&b.host));
        a.priority.cmp(&b.priority).then(of_same_priority).then(a.port.cmp(&b.port))
    });
    services
}

impl Candidate {
    /// Returns `host:port` from the record.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.record.host, self.record.port)
    }

    /// Returns the name of the gateway: the first label of the host, with the port if that is an unusual one.
    #[must_use]
    pub fn name(&self) -> String {
        let host = self.record.host.as_str();
        let label = host.split('.').next().filter(|label| !label.is_empty()).unwrap_or(host);
        let mut name = String::new();
        for c in label.chars() {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                name.push(c);
            } else if !name.ends_with('-') {
                name.push('-');
            }
        }
        let name = name.trim_matches('-');
        let mut name = if name.is_empty() { NAMELESS } else { name }.to_owned();
        if !USUAL_PORTS.contains(&self.record.port) {
            name = format!("{name}-{}", self.record.port);
        }
        name.chars().take(GATEWAY_NAME_CHARACTERS_MAX).collect()
    }

    /// Builds the gateway as an admin would register it. It has no credentials, since none are configured for it.
    ///
    /// # Errors
    /// `Invalid` if the name or the endpoint is invalid.
    pub fn to_new_gateway(&self, scheme: Scheme, now: Timestamp) -> Result<NewGateway, Error> {
        let metadata = json!({
            "discovered_via": "dns_srv",
            "discovered_at": now.to_string(),
            "srv_priority": self.record.priority,
            "srv_weight": self.record.weight,
        });
        let labels = [("source", "discovery"), ("domain", self.domain.as_str())];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(NewGateway {
            name: input::name("name", &self.name())?,
            endpoint: Endpoint::parse("endpoint", &self.endpoint())?,
            scheme,
            auth_mode: AuthMode::None,
            oidc_client: None,
            ca_cert: None,
            credentials: Credentials::default(),
            metadata_json: input::metadata("metadata_json", &metadata.to_string())?,
            description: Some(format!("discovered in `{}`", self.domain)),
            labels: Labels::parse("labels", labels)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, host: &str, port: u16) -> SrvRecord {
        SrvRecord { priority, weight, host: host.to_owned(), port }
    }

    fn candidate(host: &str, port: u16) -> Candidate {
        Candidate { domain: "fleet.example".into(), record: service(0, 0, host, port) }
    }

    #[test]
    fn services_are_sorted_by_priority_and_weight_and_need_a_host() {
        let found = sort_records(vec![
            service(20, 9, "a", 1),
            service(10, 1, "c", 1),
            service(10, 1, "b", 2),
            service(10, 1, "b", 1),
            service(0, 0, "", 0),
            service(10, 5, "d", 1),
        ]);
        let order: Vec<(&str, u16)> = found.iter().map(|s| (s.host.as_str(), s.port)).collect();
        assert_eq!(order, [("d", 1), ("b", 1), ("b", 2), ("c", 1), ("a", 1)]);
    }

    #[test]
    fn a_gateway_name_is_the_first_host_label_and_an_unusual_port() {
        let long = "x".repeat(300);
        for (host, port, name) in [
            ("edge.fleet.example", 443, "edge"),
            ("edge.fleet.example", 30051, "edge"),
            ("Edge_1.fleet.example", 8443, "Edge_1-8443"),
            ("ed  ge!.x", 443, "ed-ge"),
            ("*.x", 443, "discovered"),
            ("*.x", 1, "discovered-1"),
            ("-a-.x", 443, "a"),
            (long.as_str(), 1, &long[..GATEWAY_NAME_CHARACTERS_MAX]),
        ] {
            assert_eq!(candidate(host, port).name(), name, "{host}:{port}");
        }
    }

    #[test]
    fn t07_a_discovered_gateway_has_no_access_labels_and_no_credentials() {
        let mut candidate = candidate("edge.fleet.example", 443);
        candidate.domain = "access/env".into();
        let new = candidate.to_new_gateway(Scheme::Https, Timestamp::from_unix_seconds(0)).unwrap();
        assert_eq!(new.labels.access_labels().iter().count(), 0);
        let labels: Vec<(&str, &str)> = new.labels.iter().collect();
        assert_eq!(labels, [("domain", "access/env"), ("source", "discovery")]);
        assert!(new.credentials.bearer_token.is_none() && new.credentials.client_key.is_none());
    }

    #[test]
    fn a_candidate_with_an_invalid_host_or_port_is_refused() {
        for (host, port) in [("edge.example", 0), ("_edge.example", 443), ("ed ge.example", 443)] {
            let refused = candidate(host, port)
                .to_new_gateway(Scheme::Https, Timestamp::from_unix_seconds(0));
            assert!(matches!(refused, Err(Error::Invalid { .. })), "{host}:{port}");
        }
    }
}
