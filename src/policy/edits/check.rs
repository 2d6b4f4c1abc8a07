//! Checks of an edit that do not depend on the policy.

use std::net::IpAddr;

use prost_reflect::{DynamicMessage, Value};

use super::super::PROVIDER_PREFIX;
use super::rules::Rule;
use super::{Change, endpoint::Endpoint};

/// A fault of an edit: the part of its field, such as `.host`, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) part: &'static str,
    pub(super) why: String,
}

impl Fault {
    pub(super) fn new(part: &'static str, why: impl Into<String>) -> Self {
        Self { part, why: why.into() }
    }
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self { part: "", why }
    }
}

/// Returns whether a name is that of a rule that only the gateway changes.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with(PROVIDER_PREFIX)
}

/// Checks an edit.
///
/// # Errors
/// What is wrong with it.
pub(super) fn change(change: &Change) -> Result<(), Fault> {
    match change {
        Change::AddRule(name, rule) => {
            required(".rule_name", name)?;
            if is_reserved(name) {
                let why = format!("must not begin with `{PROVIDER_PREFIX}`, got `{name}`");
                return Err(Fault::new(".rule_name", why));
            }
            rule_is_possible(rule)
        }
        Change::RemoveRule(name) => required(".rule_name", name),
        Change::RemoveEndpoint { host, port, .. } => address(host, *port),
        Change::AddDenyRules(target, rules) => {
            target.check()?;
            has_rules(rules)
        }
        Change::AddAllowRules(target, rules) => {
            target.check()?;
            has_rules(rules)?;
            let has_content = |rule: &Value| {
                rule.as_message().is_some_and(|rule| rule.has_field_by_name("allow"))
            };
            if !rules.iter().all(has_content) {
                return Err(Fault::new("", "has a rule without `allow`"));
            }
            host_is_reachable(target.host()).map_err(Fault::from)
        }
        Change::RemoveBinary { rule_name, path } => {
            required(".rule_name", rule_name)?;
            required(".binary_path", path)
        }
        Change::AddPaths(_, paths) => match paths.iter().find(|path| !path.starts_with('/')) {
            Some(path) => Err(Fault::new("", format!("has a path that is not absolute: `{path}`"))),
            None => Ok(()),
        },
        Change::SetSections(_) => Ok(()),
    }
}

fn required(part: &'static str, text: &str) -> Result<(), Fault> {
    if text.trim().is_empty() {
        return Err(Fault::new(part, "is required"));
    }
    Ok(())
}

/// Checks host and port of an edit.
pub(super) fn address(host: &str, port: u32) -> Result<(), Fault> {
    required(".host", host)?;
    if port == 0 {
        return Err(Fault::new(".port", "is required"));
    }
    Ok(())
}

fn has_rules(rules: &[Value]) -> Result<(), Fault> {
    if rules.is_empty() {
        return Err(Fault::new("", "must have at least one rule"));
    }
    Ok(())
}

/// Refuses a rule without endpoints, and one with endpoints that a sandbox never connects to.
fn rule_is_possible(rule: &DynamicMessage) -> Result<(), Fault> {
    let rule = Rule::read(rule.clone());
    if rule.endpoints.is_empty() {
        return Err(Fault::new("", "must have at least one endpoint"));
    }
    rule.endpoints.iter().try_for_each(endpoint_is_reachable).map_err(Fault::from)
}

fn endpoint_is_reachable(endpoint: &Endpoint) -> Result<(), String> {
    host_is_reachable(&endpoint.shown_host())?;
    let networks = endpoint.list("allowed_ips").iter().filter_map(Value::as_str);
    for network in networks {
        let address = network.split('/').next().and_then(|text| text.parse::<IpAddr>().ok());
        if address.is_some_and(is_blocked) {
            return Err(format!(
                "has `{network}` in `allowed_ips`: sandboxes never connect to addresses of their own host"
            ));
        }
    }
    Ok(())
}

/// Refuses a host that a sandbox never connects to.
fn host_is_reachable(host: &str) -> Result<(), String> {
    let host = host.trim();
    let name = host.to_lowercase();
    let is_blocked_name =
        ["localhost", "localhost.", "metadata.google.internal"].contains(&name.as_str());
    if is_blocked_name || host.parse::<IpAddr>().is_ok_and(is_blocked) {
        return Err(format!(
            "has the host `{host}`: sandboxes never connect to their own host or to the metadata of a cloud"
        ));
    }
    Ok(())
}

/// Whether no policy allows an address: loopback, link-local and unspecified ones.
fn is_blocked(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_link_local() || address.is_unspecified()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local()
        }
    }
}
