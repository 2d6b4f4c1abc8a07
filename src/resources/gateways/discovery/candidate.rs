//! DNS records of a domain, and the gateways built from them. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::error::Error;
use crate::labels::Labels;
use crate::names::GATEWAY_NAME_CHARACTERS_MAX;
use crate::net::names::SrvRecord;
use crate::resources::gateways::domain::NewGateway;
use crate::resources::gateways::input;
use crate::seal::hex;
use crate::upstream::credentials::{AuthMode, Credentials};
use crate::upstream::endpoint::{Endpoint, Scheme};

/// Ports that are not added to the first name: HTTPS, and the default port of gateways.
const USUAL_PORTS: [u16; 2] = [HTTPS_PORT, 30051];
const HTTPS_PORT: u16 = 443;
/// Number of possible names of a candidate.
pub const NAMES: usize = 3;
/// Length of the digest in the last name, in bytes.
const DIGEST_BYTES: usize = 4;
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

/// Returns for each candidate the index of the first of its [`Candidate::names`] that no other endpoint among the
/// candidates can have. It does not depend on their order, so that a name is the same in each run.
#[must_use]
pub fn name_indexes(candidates: &[Candidate]) -> Vec<usize> {
    let mut endpoints: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for candidate in candidates {
        for name in candidate.names() {
            let of_name = endpoints.entry(name.to_lowercase()).or_default();
            of_name.insert(candidate.endpoint().to_lowercase());
        }
    }
    let is_unique = |name: &String| endpoints[&name.to_lowercase()].len() == 1;
    let index = |candidate: &Candidate| candidate.names().iter().position(is_unique);
    candidates.iter().map(|candidate| index(candidate).unwrap_or(NAMES - 1)).collect()
}

/// Joins a host, or a part of one, and a suffix to a name with valid characters that is not too long.
fn join_name(host: &str, suffix: Option<String>) -> String {
    let mut name = String::new();
    for c in host.chars() {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches('-');
    let name = if name.is_empty() { NAMELESS } else { name };
    let suffix = suffix.map(|suffix| format!("-{suffix}")).unwrap_or_default();
    let room = GATEWAY_NAME_CHARACTERS_MAX - suffix.len();
    name.chars().take(room).collect::<String>() + &suffix
}

impl Candidate {
    /// Returns `host:port` from the record.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.record.host, self.record.port)
    }

    /// Returns the possible names of the gateway, shortest first: the first label of the host, with the port if that is
    /// an unusual one; the whole host with `-` for dots, with the port unless it is that of HTTPS; and the latter with
    /// a digest of the endpoint, which no other endpoint has. They depend only on the record.
    #[must_use]
    pub fn names(&self) -> [String; NAMES] {
        let SrvRecord { host, port, .. } = &self.record;
        let label = host.split('.').next().filter(|label| !label.is_empty()).unwrap_or(host);
        let short = join_name(label, (!USUAL_PORTS.contains(port)).then(|| port.to_string()));
        let long_host = host.replace('.', "-");
        let long = join_name(&long_host, (*port != HTTPS_PORT).then(|| port.to_string()));
        let digest = Sha256::digest(self.endpoint().to_lowercase());
        let unique = join_name(&long_host, Some(hex(&digest[..DIGEST_BYTES])));
        [short, long, unique]
    }

    /// Builds the gateway as an admin would register it. It has no credentials, since none are configured for it.
    ///
    /// # Errors
    /// `Invalid` if the name or the endpoint is invalid.
    pub fn to_new_gateway(
        &self,
        name: &str,
        scheme: Scheme,
        now: Timestamp,
    ) -> Result<NewGateway, Error> {
        let metadata = json!({
            "discovered_via": "dns_srv",
            "discovered_at": now.to_string(),
            "srv_priority": self.record.priority,
            "srv_weight": self.record.weight,
        });
        let labels = [("source", "discovery"), ("domain", self.domain.as_str())];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(NewGateway {
            name: input::name("name", name)?,
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
            (long.as_str(), 443, &long[..GATEWAY_NAME_CHARACTERS_MAX]),
            (long.as_str(), 1, &*format!("{}-1", &long[..GATEWAY_NAME_CHARACTERS_MAX - 2])),
        ] {
            assert_eq!(candidate(host, port).names()[0], name, "{host}:{port}");
        }
    }

    fn named(hosts: &[(&str, u16)]) -> BTreeMap<String, String> {
        let candidates: Vec<Candidate> =
            hosts.iter().map(|&(host, port)| candidate(host, port)).collect();
        let indexes = name_indexes(&candidates);
        let name = |(candidate, index): (&Candidate, usize)| {
            (candidate.endpoint(), candidate.names()[index].clone())
        };
        candidates.iter().zip(indexes).map(name).collect()
    }

    #[test]
    fn endpoints_with_the_same_first_label_have_names_of_their_own_in_any_order() {
        let mut hosts = [
            ("gw.eu.fleet.example", 443),
            ("gw.us.fleet.example", 443),
            ("h.fleet.example", 443),
            ("h.fleet.example", 30051),
            ("a-b.fleet.example", 8443),
            ("a.b.fleet.example", 8443),
            ("a.c.fleet.example", 443),
            ("edge.fleet.example", 443),
            ("edge.fleet.example", 443),
        ];
        let first = named(&hosts);
        let names: BTreeSet<&String> = first.values().collect();
        assert_eq!((first.len(), names.len()), (8, 8), "{first:?}");
        for (endpoint, name) in [
            ("gw.eu.fleet.example:443", "gw-eu-fleet-example"),
            ("gw.us.fleet.example:443", "gw-us-fleet-example"),
            ("h.fleet.example:443", "h-fleet-example"),
            ("h.fleet.example:30051", "h-fleet-example-30051"),
            ("a-b.fleet.example:8443", "a-b-8443"),
            ("a.c.fleet.example:443", "a"),
            ("edge.fleet.example:443", "edge"),
        ] {
            assert_eq!(first[endpoint], name);
        }
        for _ in 0..hosts.len() {
            hosts.rotate_left(1);
            assert_eq!(named(&hosts), first);
        }
    }

    #[test]
    fn endpoints_whose_long_names_are_equal_are_told_apart_by_a_digest() {
        // Both first labels are taken by another host.
        let hosts = [
            ("a-b.x.example", 443),
            ("a.b-x.example", 443),
            ("a.y.example", 443),
            ("a-b.y.example", 443),
        ];
        let named = named(&hosts);
        let (one, two) = (&named["a-b.x.example:443"], &named["a.b-x.example:443"]);
        assert!(one.starts_with("a-b-x-example-") && two.starts_with("a-b-x-example-"));
        assert_ne!(one, two);
        for name in named.values() {
            assert!(input::name("name", name).is_ok(), "{name}");
        }
    }

    #[test]
    fn t07_a_discovered_gateway_has_no_access_labels_and_no_credentials() {
        let mut candidate = candidate("edge.fleet.example", 443);
        candidate.domain = "access/env".into();
        let now = Timestamp::from_unix_seconds(0);
        let new = candidate.to_new_gateway("edge", Scheme::Https, now).unwrap();
        assert_eq!(new.labels.access_labels().iter().count(), 0);
        let labels: Vec<(&str, &str)> = new.labels.iter().collect();
        assert_eq!(labels, [("domain", "access/env"), ("source", "discovery")]);
        assert!(new.credentials.bearer_token.is_none() && new.credentials.client_key.is_none());
    }

    #[test]
    fn a_candidate_with_an_invalid_host_or_port_is_refused() {
        for (host, port) in [("edge.example", 0), ("_edge.example", 443), ("ed ge.example", 443)] {
            let (candidate, now) = (candidate(host, port), Timestamp::from_unix_seconds(0));
            let refused = candidate.to_new_gateway(&candidate.names()[0], Scheme::Https, now);
            assert!(matches!(refused, Err(Error::Invalid { .. })), "{host}:{port}");
        }
    }
}
