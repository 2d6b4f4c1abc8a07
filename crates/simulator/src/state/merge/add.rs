//! Adding a rule: as its own rule, or merged into one with its name or with an endpoint of it.

use tonic::Status;

use super::widening::{MergeError, check_declared};
use super::{OperationAt, endpoint};
use crate::state::policy::is_reserved;
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    NetworkBinary, NetworkPolicyRule, SandboxPolicy,
};

/// Adds a rule, or adds its new parts to another one.
pub(super) fn add_rule(
    policy: &mut SandboxPolicy,
    name: &str,
    rule: &NetworkPolicyRule,
    at: OperationAt,
) -> Result<(), Status> {
    if name.trim().is_empty() {
        return Err(Status::invalid_argument("add-rule operation requires a rule name"));
    }
    if rule.endpoints.is_empty() {
        return Err(Status::invalid_argument(format!(
            "merge operation {} add-rule '{name}' must contain at least one endpoint",
            at.index
        )));
    }
    let mut given = rule.clone();
    endpoint::normalize_rule(&mut given);
    if given.name.is_empty() {
        name.clone_into(&mut given.name);
    }
    if let Some(kept) = policy.network_policies.get_mut(name) {
        return merge_rules(kept, &given, name, at).map_err(MergeError::into_status);
    }
    if let Some((other, mut kept)) = overlapping_rule(policy, &given, at.generation) {
        match merge_rules(&mut kept, &given, name, at) {
            Ok(()) => {
                policy.network_policies.insert(other, kept);
                return Ok(());
            }
            // Only the merge would grant more than the operation declares: the rule is kept on its own.
            Err(MergeError::Widens(_)) if at.generation == Generation::V0_1 => {}
            Err(error) => return Err(error.into_status()),
        }
    }
    policy.network_policies.insert(name.to_owned(), given);
    Ok(())
}

/// Returns the first rule with an endpoint of a new rule. In generation 0.1, what an advisor proposed is not merged
/// into other rules, which would lift its marks.
fn overlapping_rule(
    policy: &SandboxPolicy,
    given: &NetworkPolicyRule,
    generation: Generation,
) -> Option<(String, NetworkPolicyRule)> {
    let is_marked = given.endpoints.iter().any(|endpoint| endpoint.advisor_proposed);
    if generation == Generation::V0_1 && is_marked {
        return None;
    }
    let overlaps = |rule: &NetworkPolicyRule| {
        let mut endpoints = rule.endpoints.iter();
        endpoints.any(|kept| given.endpoints.iter().any(|new| endpoint::overlap(kept, new)))
    };
    let mut rules = policy.network_policies.iter().filter(|(name, _)| !is_reserved(name));
    let (name, rule) = rules.find(|(_, rule)| overlaps(rule))?;
    Some((name.clone(), rule.clone()))
}

fn merge_rules(
    kept: &mut NetworkPolicyRule,
    given: &NetworkPolicyRule,
    name: &str,
    at: OperationAt,
) -> Result<(), MergeError> {
    let mut endpoints = kept.endpoints.clone();
    for new in &given.endpoints {
        match endpoints.iter().position(|known| endpoint::overlap(known, new)) {
            Some(found) => {
                endpoint::merge(&mut endpoints[found], new, at).map_err(MergeError::Refused)?;
            }
            None => endpoints.push(new.clone()),
        }
    }
    check_declared(kept, given, &endpoints, name, at)?;
    kept.endpoints = endpoints;
    merge_binaries(&mut kept.binaries, &given.binaries, at.generation);
    Ok(())
}

/// Merges the programs of two rules. None means every program, which generation 0.0 does not observe.
fn merge_binaries(kept: &mut Vec<NetworkBinary>, given: &[NetworkBinary], generation: Generation) {
    match (generation, kept.is_empty(), given.is_empty()) {
        (Generation::V0_1, true, _) => {}
        (Generation::V0_1, false, true) => kept.clear(),
        (Generation::V0_1, false, false) | (Generation::V0_0, _, _) => {
            endpoint::append_binaries(kept, given);
        }
    }
}
