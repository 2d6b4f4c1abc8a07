//! The endpoint whose rules an operation changes: the first of a host and port in generation 0.0, exactly one in 0.1.

use tonic::Status;

use super::{endpoint, precondition};
use crate::state::policy::is_reserved;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    NetworkBinary, NetworkEndpoint, SandboxPolicy,
};

/// The text for a rule that applies to every program.
const ANY_BINARY: &str = "any binary";

/// The highest port.
const PORT_MAX: u32 = 65_535;

/// Selects an endpoint.
#[derive(Debug, Clone)]
pub(crate) enum RuleTarget {
    /// The first endpoint with this host and port; only in generation 0.0.
    First(String, u32),
    /// The only endpoint that matches; only in generation 0.1.
    Exact(ExactTarget),
}

/// An endpoint and everything that shares its rules.
#[derive(Debug, Clone)]
pub(crate) struct ExactTarget {
    /// Name of the rule.
    pub(crate) rule_name: String,
    /// Host of the endpoint.
    pub(crate) host: String,
    /// All ports of the endpoint.
    pub(crate) ports: Vec<u32>,
    /// Path of the endpoint; `None` if host and ports are unique.
    pub(crate) path: Option<String>,
    /// All programs of the rule; `None` for a rule that applies to every program.
    pub(crate) binaries: Option<Vec<String>>,
}

impl RuleTarget {
    /// The host of the endpoint.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::First(host, _) => host,
            Self::Exact(target) => &target.host,
        }
    }

    /// Refuses an incomplete target, or an operation without rules.
    pub(super) fn check(
        &self,
        index: usize,
        operation: &str,
        what: &str,
        rules: usize,
    ) -> Result<(), Status> {
        let needs = match self {
            Self::First(host, port) if host.trim().is_empty() || *port == 0 || rules == 0 => {
                "host, non-zero port, and "
            }
            Self::Exact(_) if rules == 0 => "",
            Self::First(..) => return Ok(()),
            Self::Exact(target) => return target.check(index),
        };
        Err(Status::invalid_argument(format!(
            "merge_operations[{index}].{operation} requires {needs}at least one {what}"
        )))
    }

    /// Returns the endpoint in a policy, and the port by which messages name it.
    pub(super) fn find<'a>(
        &self,
        policy: &'a mut SandboxPolicy,
    ) -> Result<(&'a mut NetworkEndpoint, u32), Status> {
        match self {
            Self::First(host, port) => {
                let host = host.trim();
                let found = policy
                    .network_policies
                    .iter_mut()
                    .filter(|(name, _)| !is_reserved(name))
                    .flat_map(|(_, rule)| rule.endpoints.iter_mut())
                    .find(|endpoint| endpoint::has_address(endpoint, host, *port));
                let missing = || {
                    let why = "was not found in the current policy";
                    precondition(format!("endpoint {host}:{port} {why}"))
                };
                Ok((found.ok_or_else(missing)?, *port))
            }
            Self::Exact(target) => {
                let port = target.ports.first().copied().unwrap_or_default();
                target.find(policy).map(|endpoint| (endpoint, port))
            }
        }
    }
}

impl ExactTarget {
    /// Refuses a target that names no endpoint, or one of the gateway's own rules.
    fn check(&self, index: usize) -> Result<(), Status> {
        let is_bad_name = self.rule_name.is_empty()
            || self.rule_name.trim() != self.rule_name
            || self.rule_name.chars().any(char::is_control);
        let is_bad_host = self.host.is_empty()
            || self
                .host
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | '?' | '#' | '@'));
        let is_bad_port = |port: &u32| !(1..=PORT_MAX).contains(port);
        let has_no_path = |paths: &Vec<String>| {
            paths.is_empty() || paths.iter().any(|path| path.trim().is_empty())
        };
        let why = if is_bad_name {
            "rule_name must name a sandbox-owned rule"
        } else if is_reserved(&self.rule_name) {
            "provider-owned rules cannot receive L7 appends"
        } else if is_bad_host {
            "host must be a nonempty endpoint host selector"
        } else if self.ports.is_empty() || self.ports.iter().any(is_bad_port) {
            "ports must declare a nonempty set in 1..=65535"
        } else if self.binaries.as_ref().is_some_and(has_no_path) {
            "restricted binary scope must contain nonempty binary paths; use Any for an any-binary rule"
        } else {
            return Ok(());
        };
        Err(Status::invalid_argument(format!(
            "merge operation {index} has an invalid L7 target: {why}"
        )))
    }

    fn find<'a>(&self, policy: &'a mut SandboxPolicy) -> Result<&'a mut NetworkEndpoint, Status> {
        let (name, host, ports) = (&self.rule_name, &self.host, &self.ports);
        let not_found = || {
            Status::not_found(format!(
                "L7 target in rule '{name}' for {host} on ports {ports:?} with endpoint path {:?} was not found",
                self.path
            ))
        };
        let rule = policy.network_policies.get_mut(name).ok_or_else(not_found)?;
        self.check_binaries_of(&rule.binaries, self.paths_of(&rule.endpoints))?;
        let found = rule.endpoints.iter_mut().find(|endpoint| self.matches(endpoint));
        let endpoint = found.ok_or_else(not_found)?;
        let (affected, declared) = (sorted(endpoint::ports(endpoint)), sorted(ports.clone()));
        if affected != declared {
            return Err(precondition(format!(
                "L7 target in rule '{name}' for {host} declares ports {declared:?}, but the append affects \
                 {affected:?}; declare the complete endpoint port set"
            )));
        }
        Ok(endpoint)
    }

    fn matches(&self, endpoint: &NetworkEndpoint) -> bool {
        endpoint.host.eq_ignore_ascii_case(&self.host)
            && endpoint::ports(endpoint).iter().any(|port| self.ports.contains(port))
            && self.path.as_ref().is_none_or(|path| endpoint.path == *path)
    }

    /// Returns the paths of the endpoints that match.
    fn paths_of(&self, endpoints: &[NetworkEndpoint]) -> Vec<String> {
        let matching = endpoints.iter().filter(|endpoint| self.matches(endpoint));
        matching.map(|endpoint| endpoint.path.clone()).collect()
    }

    /// Refuses a target that matches several endpoints, or that does not name all programs of the rule. A target
    /// without an endpoint passes.
    fn check_binaries_of(
        &self,
        binaries: &[NetworkBinary],
        mut paths: Vec<String>,
    ) -> Result<(), Status> {
        let name = &self.rule_name;
        if paths.len() > 1 {
            paths.sort();
            return Err(precondition(format!(
                "L7 target in rule '{name}' for {} on ports {:?} matches endpoint paths {paths:?}; declare the exact \
                 endpoint path",
                self.host, self.ports
            )));
        }
        let affected = sorted(binaries.iter().map(|binary| binary.path.clone()).collect());
        let declared = sorted(self.binaries.clone().unwrap_or_default());
        if paths.is_empty()
            || (binaries.is_empty() == self.binaries.is_none() && affected == declared)
        {
            return Ok(());
        }
        let or_any = |paths: Vec<String>| {
            if paths.is_empty() { vec![ANY_BINARY.to_owned()] } else { paths }
        };
        Err(precondition(format!(
            "L7 target in rule '{name}' declares binary scope {:?}, but the append affects {:?}; declare the complete \
             binary scope",
            or_any(declared),
            or_any(affected)
        )))
    }
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items.dedup();
    items
}
