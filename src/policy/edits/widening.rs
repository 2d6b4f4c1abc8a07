//! Refuses a merge that grants a program an endpoint that the edit does not declare for it.

use std::borrow::Cow;
use std::collections::HashSet;

use shoreguard_proto::release::Generation;

use super::coverage::{Unit, covers_apart_from_ports, has_ports_of, uncovered};
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
/// The grants of the merge that `given` does not declare.
pub(super) fn check_declared(
    kept: &Rule,
    given: &Rule,
    merged: &[Endpoint],
    generation: Generation,
) -> Result<(), String> {
    let grant = new_binaries(kept, given, generation);
    let missing = undeclared_binaries(kept, given);
    for (at, endpoint) in merged.iter().enumerate() {
        let host = endpoint.shown_host();
        if let Some(grant) = &grant {
            let undeclared = undeclared_units(given, endpoint, generation);
            if !undeclared.is_empty() {
                let ports = shown_ports(endpoint, &undeclared);
                return Err(format!(
                    "would give {grant} access to {host} on ports {ports:?}, which it does not declare"
                ));
            }
        }
        if kept.endpoints.get(at).is_some_and(|before| endpoint.is_unchanged(before)) {
            continue;
        }
        let changed = changed_units(kept, endpoint, generation);
        let unnamed = unnamed_units(given, endpoint, &changed);
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
    let known = kept.binary_paths();
    let new = given.binaries.iter().find(|binary| !known.contains(binary.path.as_str()))?;
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
    let declared = given.binary_paths();
    let missing = kept.binaries.iter().filter(|binary| !declared.contains(binary.path.as_str()));
    missing.map(|binary| format!("`{}`", binary.path)).collect()
}

/// Returns the parts of an endpoint that an edit does not declare.
fn undeclared_units(given: &Rule, merged: &Endpoint, generation: Generation) -> Vec<Unit> {
    uncovered(given.endpoints.iter(), merged, generation, |declared| {
        let declared = as_declared(declared, merged, generation);
        covers_apart_from_ports(&declared, merged, generation)
    })
}

/// Returns the parts of an endpoint that differ from what the rule had before.
fn changed_units(kept: &Rule, merged: &Endpoint, generation: Generation) -> Vec<Unit> {
    uncovered(kept.endpoints.iter(), merged, generation, |known| {
        let has_same_rest = match generation {
            Generation::V0_0 => has_ports_of(merged, known),
            Generation::V0_1 => known.flag(MARK) == merged.flag(MARK),
        };
        has_same_rest
            && covers_apart_from_ports(known, merged, generation)
            && covers_apart_from_ports(merged, known, generation)
    })
}

/// Returns those of these parts of an endpoint that an edit does not name.
fn unnamed_units(given: &Rule, merged: &Endpoint, units: &[Unit]) -> Vec<Unit> {
    if units.is_empty() {
        return Vec::new();
    }
    let mut at_place = given.endpoints.iter().filter(|declared| declared.is_at(merged)).peekable();
    let is_named = at_place.peek().is_some();
    let ports: HashSet<u32> =
        at_place.flat_map(|declared| declared.ports().iter().copied()).collect();
    let names = |unit: Unit| is_named && unit.is_none_or(|port| ports.contains(&port));
    units.iter().copied().filter(|unit| !names(*unit)).collect()
}

/// Returns a declared endpoint as it is compared with the merged one at the same place.
fn as_declared<'a>(
    declared: &'a Endpoint,
    merged: &Endpoint,
    generation: Generation,
) -> Cow<'a, Endpoint> {
    if generation == Generation::V0_0 {
        return Cow::Borrowed(declared);
    }
    let mut declared = declared.clone();
    if declared.list("rules").is_empty() {
        declared.fill(merged, "access");
    }
    for name in KEPT_FIELDS {
        declared.fill(merged, name);
    }
    Cow::Owned(declared)
}
