//! The endpoint whose allow or deny rules an edit extends.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::check::{self, Fault, is_reserved};
use super::endpoint::Endpoint;
use super::rules::{Rule, Rules};

/// The highest port.
const PORT_MAX: u32 = 65_535;
/// The part of an edit that names its endpoint.
const TARGET: &str = ".target";

/// Selects an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditTarget {
    /// The first endpoint with a host and a port, in the order of the rules' names: as gateways of generation 0.0
    /// select it.
    First {
        /// Host of the endpoint.
        host: String,
        /// A port of the endpoint.
        port: u32,
    },
    /// The only endpoint that matches: as gateways of generation 0.1 select it.
    Exact(ExactTarget),
}

/// An endpoint, and everything that shares its rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactTarget {
    /// Name of the rule.
    pub rule_name: String,
    /// Host of the endpoint.
    pub host: String,
    /// All ports of the endpoint, in any order.
    pub ports: Vec<u32>,
    /// Path of the endpoint; `None` if host and ports are unique in the rule.
    pub path: Option<String>,
    /// All binaries of the rule, in any order; `None` for a rule that applies to every program.
    pub binaries: Option<Vec<String>>,
}

impl EditTarget {
    /// Returns the host of the endpoint.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::First { host, .. } => host,
            Self::Exact(target) => &target.host,
        }
    }

    /// Refuses an incomplete target.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), Fault> {
        match self {
            Self::First { host, port } => check::address(host, *port),
            Self::Exact(target) => target.check(),
        }
    }

    /// Returns the endpoint, and the port by which messages name it.
    ///
    /// # Errors
    /// The policy does not have it, or has several.
    pub(super) fn find<'a>(&self, rules: &'a mut Rules) -> Result<(&'a mut Endpoint, u32), String> {
        match self {
            Self::First { host, port } => {
                let host = host.trim();
                let found = rules
                    .by_name
                    .iter_mut()
                    .filter(|(name, _)| !is_reserved(name))
                    .flat_map(|(_, rule)| rule.endpoints.iter_mut())
                    .find(|endpoint| endpoint.has_address(host, *port));
                let missing = || format!("has an unknown target: the policy has no {host}:{port}");
                Ok((found.ok_or_else(missing)?, *port))
            }
            Self::Exact(target) => {
                let port = target.ports.first().copied().unwrap_or_default();
                target.find(rules).map(|endpoint| (endpoint, port))
            }
        }
    }
}

impl ExactTarget {
    fn check(&self) -> Result<(), Fault> {
        let name = &self.rule_name;
        if name.trim().is_empty() || name.trim() != name || name.contains(char::is_control) {
            return Err(Fault::new(TARGET, "must name a rule in `rule_name`"));
        }
        if is_reserved(name) {
            let why = format!("names the rule `{name}`, which only the gateway changes");
            return Err(Fault::new(TARGET, why));
        }
        let is_bad = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
        if self.host.is_empty() || self.host.contains(is_bad) {
            return Err(Fault::new(TARGET, "must have the host of an endpoint in `host`"));
        }
        let is_port = |port: &u32| (1..=PORT_MAX).contains(port);
        if self.ports.is_empty() || !self.ports.iter().all(is_port) {
            let why =
                format!("must have all ports of the endpoint in `ports`, from 1 to {PORT_MAX}");
            return Err(Fault::new(TARGET, why));
        }
        let has_no_path = |paths: &Vec<String>| {
            paths.is_empty() || paths.iter().any(|path| path.trim().is_empty())
        };
        if self.binaries.as_ref().is_some_and(has_no_path) {
            let why =
                "must have the paths of all binaries of the rule in `binaries`, or `any_binary`";
            return Err(Fault::new(TARGET, why));
        }
        Ok(())
    }

    fn find<'a>(&self, rules: &'a mut Rules) -> Result<&'a mut Endpoint, String> {
        let (name, host, ports) = (&self.rule_name, &self.host, &self.ports);
        let missing = || {
            format!(
                "has an unknown target: the rule `{name}` of the policy has no endpoint {host} with one of the ports \
                 {ports:?} and that path"
            )
        };
        let rule = rules.by_name.get_mut(name).ok_or_else(missing)?;
        let wanted: HashSet<u32> = ports.iter().copied().collect();
        self.check_scope(rule, &wanted)?;
        let found = rule.endpoints.iter_mut().find(|endpoint| self.matches(endpoint, &wanted));
        let endpoint = found.ok_or_else(missing)?;
        let (affected, declared) = (sorted(endpoint.ports().to_vec()), sorted(ports.clone()));
        if affected != declared {
            return Err(format!(
                "has a target with other ports than the endpoint {host} of the rule `{name}`: declare {affected:?}"
            ));
        }
        Ok(endpoint)
    }

    fn matches(&self, endpoint: &Endpoint, ports: &HashSet<u32>) -> bool {
        endpoint.has_host(&self.host)
            && endpoint.ports().iter().any(|port| ports.contains(port))
            && self.path.as_ref().is_none_or(|path| endpoint.path() == path)
    }

    /// Refuses a target that matches several endpoints, or that does not name all binaries of the rule.
    fn check_scope(&self, rule: &Rule, ports: &HashSet<u32>) -> Result<(), String> {
        let name = &self.rule_name;
        let matching = rule.endpoints.iter().filter(|endpoint| self.matches(endpoint, ports));
        let paths = sorted(matching.map(|endpoint| endpoint.path().to_owned()).collect());
        let count = rule.endpoints.iter().filter(|endpoint| self.matches(endpoint, ports)).count();
        if count > 1 {
            return Err(format!(
                "has a target that matches {count} endpoints of the rule `{name}`, with the paths {paths:?}: declare \
                 all ports and the path of one of them"
            ));
        }
        let affected = sorted(rule.binaries.iter().map(|binary| binary.path.clone()).collect());
        let declared = sorted(self.binaries.clone().unwrap_or_default());
        let is_same = affected.is_empty() == self.binaries.is_none() && affected == declared;
        if count == 0 || is_same {
            return Ok(());
        }
        let what = if affected.is_empty() {
            "`any_binary`, since it applies to every program".to_owned()
        } else {
            format!("the binaries {affected:?}")
        };
        Err(format!("has a target with other binaries than the rule `{name}`: declare {what}"))
    }
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items.dedup();
    items
}
