//! Refuses a merge that grants a program an endpoint that the operation does not declare for it.

use tonic::Status;

use super::coverage::{Unit, covers, units};
use super::endpoint::ports;
use super::{OperationAt, precondition};
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{NetworkEndpoint, NetworkPolicyRule};

/// Why a rule cannot be merged into another one.
pub(super) enum MergeError {
    /// Only the merge would grant more than the operation declares.
    Widens(Status),
    /// Any other reason.
    Refused(Status),
}

impl MergeError {
    /// Returns the status for the caller.
    pub(super) fn into_status(self) -> Status {
        match self {
            Self::Widens(status) | Self::Refused(status) => status,
        }
    }
}

/// Refuses the merge of `given` into `kept`, with the endpoints `merged`, if it grants what `given` does not declare.
pub(super) fn check_declared(
    kept: &NetworkPolicyRule,
    given: &NetworkPolicyRule,
    merged: &[NetworkEndpoint],
    name: &str,
    at: OperationAt,
) -> Result<(), MergeError> {
    let grant = new_binaries(kept, given, at.generation);
    let missing = undeclared_binaries(kept, given);
    let refuse = |why: String| {
        let why = format!("merge operation {} add-rule '{name}' would {why}", at.index);
        Err(MergeError::Widens(precondition(why)))
    };
    for endpoint in merged {
        let host = &endpoint.host;
        let declared = declarations(given, endpoint, at.generation);
        let is_declared =
            |unit: Unit| declared.iter().any(|known| covers(known, endpoint, unit, at.generation));
        let undeclared = select_units(endpoint, at.generation, |unit| !is_declared(unit));
        if let Some(grant) = grant.as_ref().filter(|_| !undeclared.is_empty()) {
            let shown = shown_ports(endpoint, &undeclared);
            return refuse(format!(
                "grant {grant} undeclared authorization for {host} on ports {shown:?}"
            ));
        }
        let changed =
            select_units(endpoint, at.generation, |unit| is_changed(kept, endpoint, unit, at));
        let unnamed: Vec<_> =
            changed.iter().copied().filter(|unit| !names_unit(given, endpoint, *unit)).collect();
        if at.generation == Generation::V0_1 && !unnamed.is_empty() {
            let shown = shown_ports(endpoint, &unnamed);
            return refuse(format!(
                "change authorization for {host} on undeclared ports {shown:?}; declare every port of the endpoint it \
                 modifies"
            ));
        }
        if !changed.is_empty() && !missing.is_empty() {
            let shown = shown_ports(endpoint, &changed);
            return refuse(format!(
                "grant existing binaries new or changed authorization for {host} on ports {shown:?}; also declare {}",
                missing.join(", ")
            ));
        }
    }
    Ok(())
}

fn select_units(
    endpoint: &NetworkEndpoint,
    generation: Generation,
    is_meant: impl Fn(Unit) -> bool,
) -> Vec<Unit> {
    units(endpoint, generation).into_iter().filter(|unit| is_meant(*unit)).collect()
}

/// Returns the ports that a message shows for parts of an endpoint.
fn shown_ports(endpoint: &NetworkEndpoint, units: &[Unit]) -> Vec<u32> {
    if units.contains(&None) { ports(endpoint) } else { units.iter().copied().flatten().collect() }
}

/// Returns the programs that a rule gets by the merge, as messages show them; `None` if it gets none.
fn new_binaries(
    kept: &NetworkPolicyRule,
    given: &NetworkPolicyRule,
    generation: Generation,
) -> Option<String> {
    if kept.binaries.is_empty() {
        return None;
    }
    if given.binaries.is_empty() {
        return (generation == Generation::V0_1).then(|| "any binary".to_owned());
    }
    let is_known = |path: &str| kept.binaries.iter().any(|known| known.path == path);
    let new = given.binaries.iter().find(|binary| !is_known(&binary.path))?;
    Some(match generation {
        Generation::V0_0 => format!("new binary '{}'", new.path),
        Generation::V0_1 => format!("binary '{}'", new.path),
    })
}

/// Returns the programs of a rule that an operation does not declare.
fn undeclared_binaries(kept: &NetworkPolicyRule, given: &NetworkPolicyRule) -> Vec<String> {
    if given.binaries.is_empty() {
        return Vec::new();
    }
    if kept.binaries.is_empty() {
        return vec!["the existing any-binary scope".to_owned()];
    }
    let is_declared = |path: &str| given.binaries.iter().any(|binary| binary.path == path);
    let missing = kept.binaries.iter().filter(|binary| !is_declared(&binary.path));
    missing.map(|binary| binary.path.clone()).collect()
}

/// Whether a part of an endpoint differs from what the rule had before.
fn is_changed(
    kept: &NetworkPolicyRule,
    merged: &NetworkEndpoint,
    unit: Unit,
    at: OperationAt,
) -> bool {
    let is_same = |known: &NetworkEndpoint| {
        let same_mark = match at.generation {
            Generation::V0_0 => true,
            Generation::V0_1 => known.advisor_proposed == merged.advisor_proposed,
        };
        same_mark
            && covers(known, merged, unit, at.generation)
            && covers(merged, known, unit, at.generation)
    };
    !kept.endpoints.iter().any(is_same)
}

/// Whether an operation names a port of an endpoint.
fn names_unit(given: &NetworkPolicyRule, merged: &NetworkEndpoint, unit: Unit) -> bool {
    given.endpoints.iter().any(|declared| {
        declared.host.eq_ignore_ascii_case(&merged.host)
            && declared.path == merged.path
            && unit.is_none_or(|port| ports(declared).contains(&port))
    })
}

/// Returns the endpoints that an operation declares, as they are compared with an endpoint: in generation 0.1, values
/// that are not set and that a merge keeps are those of the endpoint.
fn declarations(
    given: &NetworkPolicyRule,
    merged: &NetworkEndpoint,
    generation: Generation,
) -> Vec<NetworkEndpoint> {
    let mut declared = given.endpoints.clone();
    if generation == Generation::V0_1 {
        for endpoint in &mut declared {
            adopt_unset(endpoint, merged);
        }
    }
    declared
}

fn adopt_unset(declared: &mut NetworkEndpoint, merged: &NetworkEndpoint) {
    let adopt = |declared: &mut String, merged: &str| {
        if declared.is_empty() {
            merged.clone_into(declared);
        }
    };
    let adopt_size = |declared: &mut u32, merged: u32| {
        if *declared == 0 {
            *declared = merged;
        }
    };
    if declared.rules.is_empty() {
        adopt(&mut declared.access, &merged.access);
    }
    adopt(&mut declared.protocol, &merged.protocol);
    adopt(&mut declared.tls, &merged.tls);
    adopt(&mut declared.enforcement, &merged.enforcement);
    adopt(&mut declared.persisted_queries, &merged.persisted_queries);
    adopt(&mut declared.credential_signing, &merged.credential_signing);
    adopt(&mut declared.signing_service, &merged.signing_service);
    adopt(&mut declared.signing_region, &merged.signing_region);
    adopt_size(&mut declared.graphql_max_body_bytes, merged.graphql_max_body_bytes);
    adopt_size(&mut declared.json_rpc_max_body_bytes, merged.json_rpc_max_body_bytes);
    if declared.graphql_persisted_queries.is_empty() {
        declared.graphql_persisted_queries.clone_from(&merged.graphql_persisted_queries);
    }
}
