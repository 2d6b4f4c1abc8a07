//! Merge operations: changes of single rules, applied in order to a copy of a policy and written as one revision.
//!
//! The rules, their order and their errors are those of the upstream, which differ between the generations: a merge of
//! 0.1 never grants a program what the operation does not declare, and names the endpoint that it changes exactly.
//! Not simulated: MCP revisions of 0.1, and its check for MCP endpoints of one host and port in different rules.
//!
//! Invariants
//! - either all operations are applied or none;
//! - what is to be removed and does not exist is ignored.

mod add;
mod canonical;
mod coverage;
mod endpoint;
mod target;
#[cfg(test)]
mod tests;
mod widening;

use tonic::Status;

use super::policy::is_reserved;
use super::security;
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    L7DenyRule, L7Rule, NetworkPolicyRule, SandboxPolicy,
};

pub(super) use self::canonical::{canonical_rule, free_name};
pub(super) use self::coverage::covers_rule;
pub(super) use self::endpoint::ports;
pub(crate) use self::target::{ExactTarget, RuleTarget};

/// Maximum number of operations per request.
const OPERATIONS_MAX: usize = 256;

/// A change of a rule.
#[derive(Debug, Clone)]
pub(crate) enum MergeOperation {
    /// Adds a rule, or extends the rule with that name or one with the same endpoint.
    AddRule(String, NetworkPolicyRule),
    /// Removes a rule.
    RemoveRule(String),
    /// Removes a port of a host from a rule, or from all rules without a name.
    RemoveEndpoint(Option<String>, String, u32),
    /// Adds deny rules.
    AddDenyRules(RuleTarget, Vec<L7DenyRule>),
    /// Adds allow rules.
    AddAllowRules(RuleTarget, Vec<L7Rule>),
    /// Removes a program from a rule, and the rule if no program is left.
    RemoveBinary(String, String),
}

/// The position of an operation in its request, and the generation whose rules apply.
#[derive(Debug, Clone, Copy)]
pub(super) struct OperationAt {
    /// The position, from 0.
    index: usize,
    /// The generation of the gateway.
    generation: Generation,
}

impl MergeOperation {
    /// Refuses an incomplete operation of a request, and trims its names.
    pub(crate) fn parse(self, index: usize) -> Result<Self, Status> {
        let refuse =
            |why: &str| Err(Status::invalid_argument(format!("merge_operations[{index}]{why}")));
        let trimmed = |name: &str| name.trim().to_owned();
        match self {
            Self::AddRule(name, _) if name.trim().is_empty() => {
                refuse(".add_rule.rule_name is required")
            }
            Self::AddRule(_, rule) if rule.endpoints.is_empty() => {
                refuse(".add_rule.rule must contain at least one endpoint")
            }
            Self::AddRule(name, rule) => Ok(Self::AddRule(trimmed(&name), rule)),
            Self::RemoveEndpoint(_, host, port) if host.trim().is_empty() || port == 0 => {
                refuse(".remove_endpoint requires host and non-zero port")
            }
            Self::RemoveEndpoint(name, host, port) => {
                let name = name.filter(|name| !name.trim().is_empty());
                Ok(Self::RemoveEndpoint(name.as_deref().map(trimmed), trimmed(&host), port))
            }
            Self::RemoveRule(name) if name.trim().is_empty() => {
                refuse(".remove_rule.rule_name is required")
            }
            Self::RemoveRule(name) => Ok(Self::RemoveRule(trimmed(&name))),
            Self::AddDenyRules(target, rules) => {
                target.check(index, "add_deny_rules", "deny rule", rules.len())?;
                Ok(Self::AddDenyRules(target, rules))
            }
            Self::AddAllowRules(target, rules) => {
                target.check(index, "add_allow_rules", "allow rule", rules.len())?;
                if rules.iter().any(|rule| rule.allow.is_none()) {
                    return refuse(".add_allow_rules rules must include allow payloads");
                }
                Ok(Self::AddAllowRules(target, rules))
            }
            Self::RemoveBinary(name, path) if name.trim().is_empty() || path.trim().is_empty() => {
                refuse(".remove_binary requires rule_name and binary_path")
            }
            Self::RemoveBinary(name, path) => {
                Ok(Self::RemoveBinary(trimmed(&name), trimmed(&path)))
            }
        }
    }

    /// Refuses an operation that no caller may request, in any policy.
    fn check_permitted(&self) -> Result<(), Status> {
        match self {
            Self::AddRule(name, _) if is_reserved(name) => Err(Status::invalid_argument(format!(
                "merge operation add_rule rule_name '{name}' uses reserved '_provider_' prefix for provider composition"
            ))),
            Self::AddRule(_, rule) => check_not_blocked(rule),
            Self::AddAllowRules(target, _) => endpoint::check_not_blocked(target.host()),
            Self::RemoveRule(_)
            | Self::RemoveEndpoint(..)
            | Self::AddDenyRules(..)
            | Self::RemoveBinary(..) => Ok(()),
        }
    }
}

/// Refuses a rule with endpoints that a sandbox never connects to.
fn check_not_blocked(rule: &NetworkPolicyRule) -> Result<(), Status> {
    for endpoint in &rule.endpoints {
        endpoint::check_not_blocked(&endpoint.host)?;
        for entry in &endpoint.allowed_ips {
            if security::network_address(entry).is_some_and(security::is_always_blocked) {
                return Err(Status::invalid_argument(format!(
                    "proposed rule contains always-blocked `allowed_ips` entry '{entry}'; SSRF hardening prevents \
                     traffic to these destinations regardless of policy"
                )));
            }
        }
    }
    Ok(())
}

/// Applies the operations of a request, after the checks that do not depend on the policy.
pub(crate) fn apply_permitted(
    policy: &SandboxPolicy,
    operations: &[MergeOperation],
    generation: Generation,
) -> Result<SandboxPolicy, Status> {
    if operations.len() > OPERATIONS_MAX {
        let why = format!("more than {OPERATIONS_MAX} merge operations");
        return Err(Status::invalid_argument(why));
    }
    operations.iter().try_for_each(MergeOperation::check_permitted)?;
    apply(policy, operations, generation)
}

/// Applies operations.
pub(super) fn apply(
    policy: &SandboxPolicy,
    operations: &[MergeOperation],
    generation: Generation,
) -> Result<SandboxPolicy, Status> {
    let mut next = policy.clone();
    for (index, operation) in operations.iter().enumerate() {
        apply_one(&mut next, operation, OperationAt { index, generation })?;
    }
    Ok(next)
}

fn apply_one(
    policy: &mut SandboxPolicy,
    operation: &MergeOperation,
    at: OperationAt,
) -> Result<(), Status> {
    match operation {
        MergeOperation::AddRule(name, rule) => add::add_rule(policy, name, rule, at),
        MergeOperation::RemoveRule(name) => {
            policy.network_policies.remove(name);
            Ok(())
        }
        MergeOperation::RemoveEndpoint(name, host, port) => {
            remove_endpoint(policy, name.as_deref(), host, *port);
            Ok(())
        }
        MergeOperation::AddDenyRules(target, rules) => {
            let (endpoint, port) = target.find(policy)?;
            endpoint::check_has_methods(endpoint, target.host(), port)?;
            if endpoint.access.is_empty() && endpoint.rules.is_empty() {
                return Err(precondition(format!(
                    "endpoint {}:{port} has no base allow set; configure access or explicit allow rules before adding \
                     deny rules",
                    target.host()
                )));
            }
            endpoint::append_new(&mut endpoint.deny_rules, rules);
            Ok(())
        }
        MergeOperation::AddAllowRules(target, rules) => {
            let (endpoint, port) = target.find(policy)?;
            endpoint::check_has_methods(endpoint, target.host(), port)?;
            endpoint::expand_access(endpoint, target.host(), port)?;
            endpoint::append_new(&mut endpoint.rules, rules);
            Ok(())
        }
        MergeOperation::RemoveBinary(name, path) => remove_binary(policy, name, path, at),
    }
}

fn remove_endpoint(policy: &mut SandboxPolicy, name: Option<&str>, host: &str, port: u32) {
    let is_meant = |rule: &str| name.is_none_or(|name| name == rule);
    policy.network_policies.retain(|rule_name, rule| {
        if !is_meant(rule_name) {
            return true;
        }
        rule.endpoints.retain_mut(|endpoint| {
            if !endpoint::has_address(endpoint, host, port) {
                return true;
            }
            let mut left = ports(endpoint);
            left.retain(|other| *other != port);
            endpoint::set_ports(endpoint, left);
            !endpoint.ports.is_empty()
        });
        !rule.endpoints.is_empty()
    });
}

fn remove_binary(
    policy: &mut SandboxPolicy,
    name: &str,
    path: &str,
    at: OperationAt,
) -> Result<(), Status> {
    let Some(rule) = policy.network_policies.get_mut(name) else { return Ok(()) };
    if rule.binaries.is_empty() {
        return match at.generation {
            Generation::V0_0 => Ok(()),
            Generation::V0_1 => Err(precondition(format!(
                "merge operation {} cannot remove binary '{path}' from rule '{name}' because the rule authorizes any \
                 binary; replace the policy with an explicit binary list or remove the rule",
                at.index
            ))),
        };
    }
    rule.binaries.retain(|binary| binary.path != path);
    // A rule without binaries would apply to every program.
    if rule.binaries.is_empty() {
        policy.network_policies.remove(name);
    }
    Ok(())
}

fn precondition(why: String) -> Status {
    Status::failed_precondition(why)
}
