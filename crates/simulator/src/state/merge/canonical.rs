//! The rule that results from a refused connection: it has the inspection that its destination already has.

use super::coverage::has_binary;
use super::endpoint::{self, normalize, ports, set_ports};
use crate::state::policy::is_reserved;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    NetworkEndpoint, NetworkPolicyRule, SandboxPolicy,
};

/// Returns name and content of the rule for an observed connection. If the destination already has an endpoint, the
/// result has its inspection, and the name of its rule if that applies to the programs. Fails if the destination has
/// several different endpoints.
pub(in crate::state) fn canonical_rule(
    base: &SandboxPolicy,
    effective: &SandboxPolicy,
    name: &str,
    observed: &NetworkPolicyRule,
) -> Result<(String, NetworkPolicyRule), String> {
    let unchanged = || Ok((name.to_owned(), observed.clone()));
    let [wanted] = observed.endpoints.as_slice() else { return unchanged() };
    let all = ports(wanted);
    let [port] = all[..] else { return unchanged() };
    if observed.binaries.is_empty() || wanted.host.trim().is_empty() {
        return unchanged();
    }
    let known = effective.network_policies.values().flat_map(|rule| &rule.endpoints);
    let mut contracts = Vec::new();
    for endpoint in known.filter(|known| endpoint::has_address(known, &wanted.host, port)) {
        let mut contract = contract_of(endpoint);
        set_ports(&mut contract, vec![port]);
        endpoint::append_new(&mut contracts, &[contract]);
    }
    let mut contract = match contracts.as_slice() {
        [] => return unchanged(),
        [only] => only.clone(),
        _ => {
            return Err(format!(
                "cannot infer one existing endpoint contract for {}:{port}",
                wanted.host
            ));
        }
    };
    let applies = |rule: &NetworkPolicyRule| {
        observed.binaries.iter().all(|binary| has_binary(rule, Some(binary)))
    };
    let owner = base.network_policies.iter().find_map(|(owner, rule)| {
        let mut endpoints = rule.endpoints.iter();
        let same = endpoints.find(|known| contract_of(known) == contract)?;
        (!is_reserved(owner) && applies(rule)).then(|| (owner.clone(), same.advisor_proposed))
    });
    let (name, is_marked) =
        owner.unwrap_or_else(|| (free_name(name, base, effective), wanted.advisor_proposed));
    contract.advisor_proposed = is_marked;
    let rule = NetworkPolicyRule {
        name: name.clone(),
        endpoints: vec![contract],
        binaries: observed.binaries.clone(),
    };
    Ok((name, rule))
}

/// Returns an endpoint without the marks, which do not belong to its inspection.
fn contract_of(endpoint: &NetworkEndpoint) -> NetworkEndpoint {
    let mut contract = NetworkEndpoint {
        advisor_proposed: false,
        provider_credentialed: false,
        ..endpoint.clone()
    };
    normalize(&mut contract);
    contract
}

/// Returns a name that no rule has: the name itself, or the name with a number.
pub(in crate::state) fn free_name(
    name: &str,
    base: &SandboxPolicy,
    effective: &SandboxPolicy,
) -> String {
    let is_used = |name: &str| {
        base.network_policies.contains_key(name) || effective.network_policies.contains_key(name)
    };
    if !is_used(name) {
        return name.to_owned();
    }
    let mut numbered = (2_u32..).map(|number| format!("{name}_{number}"));
    numbered.find(|name| !is_used(name)).unwrap_or_else(|| name.to_owned())
}
