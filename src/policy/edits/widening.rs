//! Refuses a merge that grants a program an endpoint that the edit does not declare for it.

use shoreguard_proto::release::Generation;

use super::coverage::{Unit, covers, units};
use super::endpoint::{Endpoint, MARK};
use super::rules::Rule;

/// Fields whose value an edit of generation 0.1 need not repeat: a merge keeps that of the policy.
const KEPT_FIELDS: [&str; 10] = [
    "protocol",
    "tls",
    "enforcement",
    "persisted_queries",
    "credential_signing",
    "signing_service",
    "signing_region",
    "graphql_max_body_bytes",
    "json_rpc_max_body_bytes",
    "graphql_persisted_queries",
];

/// Refuses the merge of `given` into `kept`, with the endpoints `merged`, if it grants what `given` does not declare.
///
/// # Errors
/// What the merge would grant.
pub(super) fn check_declared(
    kept: &Rule,
    given: &Rule,
    merged: &[Endpoint],
    generation: Generation,
) -> Result<(), String> {
    let grant = new_binaries(kept, given, generation);
    let missing = undeclared_binaries(kept, given);
    for endpoint in merged {
        let host = endpoint.shown_host();
        let units = units(endpoint, generation);
        let declared = declarations(given, endpoint, generation);
        let is_declared =
            |unit: Unit| declared.iter().any(|known| covers(known, endpoint, unit, generation));
        let undeclared: Vec<Unit> =
            units.iter().copied().filter(|unit| !is_declared(*unit)).collect();
        if let Some(grant) = grant.as_ref().filter(|_| !undeclared.is_empty()) {
            let ports = shown_ports(endpoint, &undeclared);
            return Err(format!(
                "would give {grant} access to {host} on ports {ports:?}, which it does not declare"
            ));
        }
        let changed: Vec<Unit> = units
            .into_iter()
            .filter(|unit| is_changed(kept, endpoint, *unit, generation))
            .collect();
        let unnamed: Vec<Unit> =
            changed.iter().copied().filter(|unit| !names_unit(given, endpoint, *unit)).collect();
        if generation == Generation::V0_1 && !unnamed.is_empty() {
            let ports = shown_ports(endpoint, &unnamed);
            return Err(format!(
                "would change the access to {host} on ports {ports:?}, which it does not declare: declare every port \
                 of the endpoint"
            ));
        }
        if !changed.is_empty() && !missing.is_empty() {
            let ports = shown_ports(endpoint, &changed);
            return Err(format!(
                "would give programs of the rule new access to {host} on ports {ports:?}: also declare {}",
                missing.join(", ")
            ));
        }
    }
    Ok(())
}

/// Returns the ports that a message shows for parts of an endpoint.
fn shown_ports(endpoint: &Endpoint, units: &[Unit]) -> Vec<u32> {
    if units.contains(&None) {
        return endpoint.ports().to_vec();
    }
    units.iter().copied().flatten().collect()
}

/// Returns the programs that a rule gets by the merge, as messages show them; `None` if it gets none.
fn new_binaries(kept: &Rule, given: &Rule, generation: Generation) -> Option<String> {
    if kept.binaries.is_empty() {
        return None;
    }
    if given.binaries.is_empty() {
        return (generation == Generation::V0_1).then(|| "every binary".to_owned());
    }
    let new = given.binaries.iter().find(|binary| !kept.names(&binary.path))?;
    Some(format!("the binary `{}`", new.path))
}

/// Returns the programs of a rule that an edit does not declare, as messages show them.
fn undeclared_binaries(kept: &Rule, given: &Rule) -> Vec<String> {
    if given.binaries.is_empty() {
        return Vec::new();
    }
    if kept.binaries.is_empty() {
        return vec!["that the rule applies to every binary".to_owned()];
    }
    let missing = kept.binaries.iter().filter(|binary| !given.names(&binary.path));
    missing.map(|binary| format!("`{}`", binary.path)).collect()
}

/// Whether a part of an endpoint differs from what the rule had before.
fn is_changed(kept: &Rule, merged: &Endpoint, unit: Unit, generation: Generation) -> bool {
    let is_same = |known: &Endpoint| {
        let has_same_mark = match generation {
            Generation::V0_0 => true,
            Generation::V0_1 => known.flag(MARK) == merged.flag(MARK),
        };
        has_same_mark
            && covers(known, merged, unit, generation)
            && covers(merged, known, unit, generation)
    };
    !kept.endpoints.iter().any(is_same)
}

/// Whether an edit names a port of an endpoint.
fn names_unit(given: &Rule, merged: &Endpoint, unit: Unit) -> bool {
    given.endpoints.iter().any(|declared| {
        declared.is_at(merged) && unit.is_none_or(|port| declared.ports().contains(&port))
    })
}

/// Returns the endpoints that an edit declares at the place of an endpoint, as they are compared with it.
fn declarations(given: &Rule, merged: &Endpoint, generation: Generation) -> Vec<Endpoint> {
    let same = given.endpoints.iter().filter(|declared| declared.is_at(merged));
    let mut declared: Vec<Endpoint> = same.cloned().collect();
    if generation == Generation::V0_1 {
        for endpoint in &mut declared {
            if endpoint.list("rules").is_empty() {
                endpoint.fill(merged, "access");
            }
            for name in KEPT_FIELDS {
                endpoint.fill(merged, name);
            }
        }
    }
    declared
}
