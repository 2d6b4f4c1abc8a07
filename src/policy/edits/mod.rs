//! Edits: changes of single rules, and additional paths, computed on a base.
//!
//! Six of them are the merge operations of the gateways. Their rules, their order and what is refused are those of the
//! gateways, which differ between the generations: a merge of 0.1 never grants a program what the edit does not
//! declare.
//!
//! Invariants
//! - either all edits are applied or none;
//! - the result is what a gateway makes of the same operations, except that no edit lifts a mark of the base;
//! - what is to be removed and does not exist is ignored;
//! - the time of a change is bounded: see `work`;
//! - a refusal names the field of the edit, or the document and the path in it.

mod add;
mod check;
mod coverage;
mod document;
mod endpoint;
mod fragment;
mod parts;
mod rules;
mod sections;
mod target;
mod widening;
mod wire;
mod work;

use prost_reflect::{DynamicMessage, Value};
use serde::{Deserialize, Serialize};
use shoreguard_proto::release::Generation;

pub use self::target::{EditTarget, ExactTarget};

use self::check::Fault;
use self::endpoint::Endpoint;
use self::rules::Rules;
use self::work::Work;
use super::Policy;
use crate::error::Error;

/// Maximum number of edits at once: the limit of the gateways.
pub const EDITS_MAX: usize = 256;
/// Maximum size of an edited policy in its canonical form, in bytes: the limit of the gateways.
pub const EDITED_BYTES_MAX: usize = 256 << 10;

/// A change of a policy. It is complete and possible in itself; whether it applies is known when it meets a base.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The generation of the policies to which it applies; `None` if it applies to both.
    generation: Option<Generation>,
    /// The field of the request that has it.
    field: String,
    /// The path in the document that has it.
    within: Option<String>,
    change: Change,
}

/// How a sandbox accesses a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathAccess {
    /// It reads.
    ReadOnly,
    /// It reads and writes.
    ReadWrite,
}

impl PathAccess {
    /// The field of the paths in the filesystem section.
    fn field(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::ReadWrite => "read_write",
        }
    }
}

/// Content of an edit.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// Adds a rule, or extends the rule with that name or one with the same endpoint.
    AddRule(String, DynamicMessage),
    /// Removes a rule.
    RemoveRule(String),
    /// Removes a port of a host from a rule, or from all rules without a name.
    RemoveEndpoint { rule_name: Option<String>, host: String, port: u32 },
    /// Adds deny rules to an endpoint.
    AddDenyRules(EditTarget, Vec<Value>),
    /// Adds allow rules to an endpoint.
    AddAllowRules(EditTarget, Vec<Value>),
    /// Removes a binary from a rule, and the rule if it has no other.
    RemoveBinary { rule_name: String, path: String },
    /// Adds paths to the filesystem section.
    AddPaths(PathAccess, Vec<String>),
    /// Sets the values of sections other than rules and paths, and adds the entries of their mappings.
    SetSections(DynamicMessage),
}

impl Edit {
    /// Returns the edit that removes a rule. `field` is the field of the request that has it.
    ///
    /// # Errors
    /// `Invalid` if the name is empty.
    pub fn remove_rule(field: &str, rule_name: &str) -> Result<Self, Error> {
        Self::checked(None, field, Change::RemoveRule(rule_name.trim().to_owned()))
    }

    /// Returns the edit that removes a port of a host from a rule, or from all rules if the name is empty.
    ///
    /// # Errors
    /// `Invalid` if host or port are missing.
    pub fn remove_endpoint(
        field: &str,
        rule_name: &str,
        host: &str,
        port: u32,
    ) -> Result<Self, Error> {
        let rule_name = Some(rule_name.trim().to_owned()).filter(|name| !name.is_empty());
        let host = host.trim().to_owned();
        Self::checked(None, field, Change::RemoveEndpoint { rule_name, host, port })
    }

    /// Returns the edit that removes a binary from a rule, and the rule if it has no other binary: without binaries it
    /// would apply to every program.
    ///
    /// # Errors
    /// `Invalid` if name or path are empty.
    pub fn remove_binary(field: &str, rule_name: &str, path: &str) -> Result<Self, Error> {
        let (rule_name, path) = (rule_name.trim().to_owned(), path.trim().to_owned());
        Self::checked(None, field, Change::RemoveBinary { rule_name, path })
    }

    /// Returns the edit that adds paths. A running sandbox can access them after its next start.
    ///
    /// # Errors
    /// `Invalid` if a path is not absolute.
    pub fn add_paths(field: &str, access: PathAccess, paths: Vec<String>) -> Result<Self, Error> {
        Self::checked(None, field, Change::AddPaths(access, paths))
    }

    fn checked(generation: Option<Generation>, field: &str, change: Change) -> Result<Self, Error> {
        let edit = Self { generation, field: field.to_owned(), within: None, change };
        check::change(&edit.change).map_err(|fault| edit.refusal(fault))?;
        Ok(edit)
    }

    fn refusal(&self, fault: Fault) -> Error {
        let Fault { part, why } = fault;
        match &self.within {
            Some(path) => Error::invalid(&self.field, format!("is refused: `{path}` {why}")),
            None => Error::invalid(format!("{}{part}", self.field), why),
        }
    }

    fn apply(
        &self,
        rules: &mut Rules,
        generation: Generation,
        work: &mut Work,
    ) -> Result<(), String> {
        match &self.change {
            Change::AddRule(name, rule) => add::add_rule(rules, name, rule, generation, work)?,
            Change::RemoveRule(name) => {
                rules.by_name.remove(name);
            }
            Change::RemoveEndpoint { rule_name, host, port } => {
                remove_endpoint(rules, rule_name.as_deref(), host, *port);
            }
            Change::AddDenyRules(target, given) => {
                let (endpoint, port) = target.find(rules)?;
                endpoint.check_has_methods(port)?;
                if endpoint.value("access").is_none() && endpoint.list("rules").is_empty() {
                    let host = endpoint.shown_host();
                    return Err(format!(
                        "has a target that allows nothing by method ({host}:{port}): add `access` or allow rules first"
                    ));
                }
                work.count_addition(endpoint)?;
                endpoint.append_new("deny_rules", given);
            }
            Change::AddAllowRules(target, given) => {
                let (endpoint, port) = target.find(rules)?;
                endpoint.check_has_methods(port)?;
                endpoint.expand_access(port)?;
                work.count_addition(endpoint)?;
                endpoint.append_new("rules", given);
            }
            Change::RemoveBinary { rule_name, path } => {
                remove_binary(rules, rule_name, path, generation)?;
            }
            Change::AddPaths(access, paths) => {
                sections::add_paths(&mut rules.policy, *access, paths);
            }
            Change::SetSections(given) => sections::overlay(&mut rules.policy, given),
        }
        Ok(())
    }
}

impl Policy {
    /// Returns the policy that edits make of this one, which is their base. It keeps the marks of the base.
    ///
    /// # Errors
    /// `Invalid` for the field of an edit that does not apply; `POLICY_UNREADABLE` if the base has a part that this
    /// build does not know, which the result would lack.
    pub fn edited(&self, edits: &[Edit]) -> Result<Self, Error> {
        let base = self.clone().require_known()?;
        let mut rules = Rules::of(&base.message);
        let mut work = Work::of_change();
        for edit in edits {
            let refuse = |why: String| edit.refusal(Fault::from(why));
            if let Some(generation) = edit.generation.filter(|known| *known != self.generation) {
                let own = self.generation;
                let why = format!("is of generation {generation}, and the policy is of {own}");
                return Err(refuse(why));
            }
            edit.apply(&mut rules, self.generation, &mut work).map_err(refuse)?;
        }
        let edited = Self::canonical(self.generation, rules.into_policy());
        let edited = edited.map_err(Error::internal)?.with_marks_of(&base)?;
        if let (Some(edit), true) = (edits.last(), edited.encoded.len() > EDITED_BYTES_MAX) {
            let why = format!("makes the policy larger than {EDITED_BYTES_MAX} bytes, encoded");
            return Err(edit.refusal(Fault::from(why)));
        }
        Ok(edited)
    }
}

fn remove_endpoint(rules: &mut Rules, rule_name: Option<&str>, host: &str, port: u32) {
    let is_left = |endpoint: &mut Endpoint| {
        if !endpoint.has_address(host, port) {
            return true;
        }
        let left: Vec<u32> =
            endpoint.ports().iter().copied().filter(|other| *other != port).collect();
        endpoint.set_ports(left);
        !endpoint.ports().is_empty()
    };
    rules.by_name.retain(|name, rule| {
        if rule_name.is_some_and(|meant| meant != name) {
            return true;
        }
        rule.endpoints.retain_mut(is_left);
        !rule.endpoints.is_empty()
    });
}

fn remove_binary(
    rules: &mut Rules,
    rule_name: &str,
    path: &str,
    generation: Generation,
) -> Result<(), String> {
    let Some(rule) = rules.by_name.get_mut(rule_name) else { return Ok(()) };
    if rule.binaries.is_empty() {
        return match generation {
            Generation::V0_0 => Ok(()),
            Generation::V0_1 => Err(format!(
                "names the rule `{rule_name}`, which applies to every program: replace the policy by a version that \
                 lists the binaries, or remove the rule"
            )),
        };
    }
    rule.binaries.retain(|binary| binary.path != path);
    if rule.binaries.is_empty() {
        rules.by_name.remove(rule_name);
    }
    Ok(())
}
