//! Changes of single rules, applied to a copy of a policy and written as one revision.

use tonic::Status;

use super::policy::RESERVED_PREFIX;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    L7DenyRule, L7Rule, NetworkEndpoint, NetworkPolicyRule, SandboxPolicy,
};

/// Maximum number of changes per request.
pub(super) const MERGES_MAX: usize = 256;

/// Selects the endpoints whose rules are changed. Every field that is set must match.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuleTarget {
    /// Name of the rule; empty for any.
    pub(crate) rule_name: String,
    /// Host of the endpoint.
    pub(crate) host: String,
    /// Ports of the endpoint; empty for any.
    pub(crate) ports: Vec<u32>,
    /// Path of the endpoint; `None` for any.
    pub(crate) path: Option<String>,
}

/// A change of a rule.
#[derive(Debug, Clone)]
pub(crate) enum MergeOperation {
    /// Adds a rule, or extends the rule with that name.
    AddRule(String, NetworkPolicyRule),
    /// Removes a rule.
    RemoveRule(String),
    /// Removes the endpoints with a host and port from a rule, and the rule if no endpoint is left.
    RemoveEndpoint(String, String, u32),
    /// Adds deny rules.
    AddDenyRules(RuleTarget, Vec<L7DenyRule>),
    /// Adds allow rules.
    AddAllowRules(RuleTarget, Vec<L7Rule>),
    /// Removes a program from a rule, and the rule if no program is left.
    RemoveBinary(String, String),
}

/// Applies all changes or none.
pub(super) fn apply_merges(
    policy: &SandboxPolicy,
    changes: &[MergeOperation],
) -> Result<SandboxPolicy, Status> {
    if changes.len() > MERGES_MAX {
        return Err(Status::invalid_argument(format!("more than {MERGES_MAX} merge operations")));
    }
    let mut next = policy.clone();
    for change in changes {
        match change {
            MergeOperation::AddRule(name, rule) => add_rule(&mut next, name, rule)?,
            MergeOperation::RemoveRule(name) => {
                next.network_policies.remove(name).ok_or_else(|| rule_not_found(name))?;
            }
            MergeOperation::RemoveEndpoint(name, host, port) => {
                remove_endpoint(&mut next, name, host, *port)?;
            }
            MergeOperation::AddDenyRules(target, rules) => {
                for endpoint in matching_endpoints(&mut next, target)? {
                    add_new(&mut endpoint.deny_rules, rules);
                }
            }
            MergeOperation::AddAllowRules(target, rules) => {
                for endpoint in matching_endpoints(&mut next, target)? {
                    add_new(&mut endpoint.rules, rules);
                }
            }
            MergeOperation::RemoveBinary(name, path) => remove_binary(&mut next, name, path)?,
        }
    }
    Ok(next)
}

/// Adds a rule, or adds its new parts to the rule with that name.
pub(super) fn add_rule(
    policy: &mut SandboxPolicy,
    name: &str,
    rule: &NetworkPolicyRule,
) -> Result<(), Status> {
    if name.is_empty() {
        return Err(Status::invalid_argument("rule_name is required"));
    }
    if name.starts_with(RESERVED_PREFIX) {
        return Err(Status::invalid_argument(format!("network policy name '{name}' is reserved")));
    }
    if rule.endpoints.is_empty() {
        return Err(Status::invalid_argument(format!("rule '{name}' has no endpoints")));
    }
    if let Some(endpoint) = rule
        .endpoints
        .iter()
        .find(|endpoint| endpoint.host.is_empty() && endpoint.allowed_ips.is_empty())
    {
        return Err(Status::invalid_argument(format!(
            "rule '{name}' has an endpoint without host (port {})",
            endpoint.port
        )));
    }
    let kept = policy.network_policies.entry(name.to_owned()).or_insert_with(|| {
        NetworkPolicyRule { name: rule.name.clone(), ..NetworkPolicyRule::default() }
    });
    add_new(&mut kept.endpoints, &rule.endpoints);
    add_new(&mut kept.binaries, &rule.binaries);
    Ok(())
}

/// Removes the endpoints of a rule from the policy, and the rule if no endpoint is left.
pub(super) fn remove_rule_endpoints(
    policy: &mut SandboxPolicy,
    name: &str,
    rule: &NetworkPolicyRule,
) {
    let Some(kept) = policy.network_policies.get_mut(name) else { return };
    kept.endpoints.retain(|endpoint| !rule.endpoints.contains(endpoint));
    if kept.endpoints.is_empty() {
        policy.network_policies.remove(name);
    }
}

/// Whether an endpoint has a port.
pub(super) fn has_port(endpoint: &NetworkEndpoint, port: u32) -> bool {
    endpoint.port == port || endpoint.ports.contains(&port)
}

fn remove_endpoint(
    policy: &mut SandboxPolicy,
    name: &str,
    host: &str,
    port: u32,
) -> Result<(), Status> {
    let rule = policy.network_policies.get_mut(name).ok_or_else(|| rule_not_found(name))?;
    let before = rule.endpoints.len();
    rule.endpoints.retain(|endpoint| endpoint.host != host || !has_port(endpoint, port));
    if rule.endpoints.len() == before {
        return Err(Status::not_found(format!("rule '{name}' has no endpoint {host}:{port}")));
    }
    if rule.endpoints.is_empty() {
        policy.network_policies.remove(name);
    }
    Ok(())
}

fn remove_binary(policy: &mut SandboxPolicy, name: &str, path: &str) -> Result<(), Status> {
    let rule = policy.network_policies.get_mut(name).ok_or_else(|| rule_not_found(name))?;
    let before = rule.binaries.len();
    rule.binaries.retain(|binary| binary.path != path);
    if rule.binaries.len() == before {
        return Err(Status::not_found(format!("rule '{name}' has no binary '{path}'")));
    }
    // A rule without binaries would apply to every program.
    if rule.binaries.is_empty() {
        policy.network_policies.remove(name);
    }
    Ok(())
}

fn matching_endpoints<'a>(
    policy: &'a mut SandboxPolicy,
    target: &RuleTarget,
) -> Result<Vec<&'a mut NetworkEndpoint>, Status> {
    let found: Vec<_> = policy
        .network_policies
        .iter_mut()
        .filter(|(name, _)| target.rule_name.is_empty() || **name == target.rule_name)
        .flat_map(|(_, rule)| rule.endpoints.iter_mut())
        .filter(|endpoint| {
            endpoint.host == target.host
                && target.ports.iter().all(|port| has_port(endpoint, *port))
                && target.path.as_ref().is_none_or(|path| *path == endpoint.path)
        })
        .collect();
    if found.is_empty() {
        return Err(Status::not_found(format!("no endpoint matches host '{}'", target.host)));
    }
    Ok(found)
}

fn add_new<T: Clone + PartialEq>(to: &mut Vec<T>, from: &[T]) {
    for item in from {
        if !to.contains(item) {
            to.push(item.clone());
        }
    }
}

fn rule_not_found(name: &str) -> Status {
    Status::not_found(format!("rule '{name}' not found"))
}
