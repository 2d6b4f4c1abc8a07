//! A change of a policy as a caller describes it, the policy that it leads to, and its stored form.
//!
//! Invariant: the result is computed on a base and keeps its marks, of every kind of change.

use serde::{Deserialize, Serialize};

use super::ProposalMode;
use crate::error::{Error, ResourceKind};
use crate::openshell::Generation;
use crate::policy::{DOCUMENT_BYTES_MAX, Edit, EditTarget, PathAccess, Policy, Presets};

/// Maximum size of a stored change, in bytes.
pub const STORED_BYTES_MAX: usize = 2 << 20;

/// A change of a policy, as a caller describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "change", rename_all = "snake_case")]
pub enum PolicyChange {
    /// A document replaces the policy.
    Replace(String),
    /// A document is merged into the policy.
    Merge(String),
    /// Edits of rules and paths.
    Edits(Vec<EditInput>),
    /// Presets are added, by their names.
    Presets(Vec<String>),
    /// The content of a revision becomes the policy again, by its version.
    Revert(u32),
    /// A stock client replaces the policy: the encoded policy.
    Encoded(Vec<u8>),
    /// A stock client sends merge operations: an encoded `UpdateConfigRequest` that has nothing else.
    Operations(Vec<u8>),
}

/// An edit, before the generation of the policy is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditInput {
    /// The field of the request that has it.
    pub field: String,
    /// The edit.
    pub content: EditContent,
}

/// Content of an edit. `yaml` is a part of a policy document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditContent {
    /// Adds or extends a rule.
    AddRule {
        /// Name of the rule.
        rule_name: String,
        /// The rule.
        yaml: String,
    },
    /// Removes a rule, by its name.
    RemoveRule(String),
    /// Removes a port of a host.
    RemoveEndpoint {
        /// Name of the rule; empty for all rules.
        rule_name: String,
        /// The host.
        host: String,
        /// The port.
        port: u32,
    },
    /// Adds deny rules to an endpoint.
    AddDenyRules(EditTarget, String),
    /// Adds allow rules to an endpoint.
    AddAllowRules(EditTarget, String),
    /// Removes a binary.
    RemoveBinary {
        /// Name of the rule.
        rule_name: String,
        /// Path of the binary.
        path: String,
    },
    /// Adds paths.
    AddPaths(PathAccess, Vec<String>),
}

impl EditInput {
    /// Returns the size of what is parsed, in bytes.
    fn bytes(&self) -> usize {
        match &self.content {
            EditContent::AddRule { yaml, .. }
            | EditContent::AddDenyRules(_, yaml)
            | EditContent::AddAllowRules(_, yaml) => yaml.len(),
            EditContent::AddPaths(_, paths) => paths.iter().map(String::len).sum(),
            EditContent::RemoveRule(_)
            | EditContent::RemoveEndpoint { .. }
            | EditContent::RemoveBinary { .. } => 0,
        }
    }

    /// Returns the edit of policies of a generation.
    fn edit(&self, generation: Generation) -> Result<Edit, Error> {
        let field = self.field.as_str();
        match &self.content {
            EditContent::AddRule { rule_name, yaml } => {
                Edit::add_rule(generation, field, rule_name, yaml)
            }
            EditContent::RemoveRule(rule_name) => Edit::remove_rule(field, rule_name),
            EditContent::RemoveEndpoint { rule_name, host, port } => {
                Edit::remove_endpoint(field, rule_name, host, *port)
            }
            EditContent::AddDenyRules(target, yaml) => {
                Edit::add_deny_rules(generation, field, target.clone(), yaml)
            }
            EditContent::AddAllowRules(target, yaml) => {
                Edit::add_allow_rules(generation, field, target.clone(), yaml)
            }
            EditContent::RemoveBinary { rule_name, path } => {
                Edit::remove_binary(field, rule_name, path)
            }
            EditContent::AddPaths(access, paths) => Edit::add_paths(field, *access, paths.clone()),
        }
    }
}

impl PolicyChange {
    /// Returns the field of the request that has the change.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Replace(_) | Self::Merge(_) => "yaml",
            Self::Edits(_) => "policy_edits",
            Self::Presets(_) => "policy_preset",
            Self::Revert(_) => "version",
            Self::Encoded(_) => "policy",
            Self::Operations(_) => "merge_operations",
        }
    }

    /// Returns the size of what is parsed, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Replace(text) | Self::Merge(text) => text.len(),
            Self::Edits(inputs) => inputs.iter().map(EditInput::bytes).sum(),
            Self::Presets(_) | Self::Revert(_) => 0,
            Self::Encoded(bytes) | Self::Operations(bytes) => bytes.len(),
        }
    }

    /// Returns how the change becomes a policy, in the terms of proposals.
    #[must_use]
    pub fn mode(&self) -> ProposalMode {
        match self {
            Self::Replace(_) | Self::Revert(_) | Self::Encoded(_) => ProposalMode::Replace,
            Self::Merge(_) | Self::Edits(_) | Self::Presets(_) | Self::Operations(_) => {
                ProposalMode::Merge
            }
        }
    }

    /// Returns the document that is stored with a proposal: that of the caller or, without one, the policy that the
    /// change leads to. It is for readers, and empty if it is too long.
    #[must_use]
    pub fn document(&self, candidate: &Policy) -> String {
        let text = match self {
            Self::Replace(text) | Self::Merge(text) => text.clone(),
            Self::Edits(_)
            | Self::Presets(_)
            | Self::Revert(_)
            | Self::Encoded(_)
            | Self::Operations(_) => candidate.to_yaml(),
        };
        if text.len() > DOCUMENT_BYTES_MAX { String::new() } else { text }
    }

    /// Returns the change as JSON, for the proposal: what is computed again if the policy moves, and what is restored.
    /// `None` for a complete policy, which is never computed again.
    ///
    /// # Errors
    /// `Invalid` if it is above the limit.
    pub fn to_stored(&self) -> Result<Option<String>, Error> {
        match self {
            Self::Replace(_) | Self::Encoded(_) => Ok(None),
            Self::Merge(_)
            | Self::Edits(_)
            | Self::Presets(_)
            | Self::Revert(_)
            | Self::Operations(_) => {
                let stored = serde_json::to_string(self).map_err(Error::internal)?;
                if stored.len() > STORED_BYTES_MAX {
                    let why = format!("must have at most {STORED_BYTES_MAX} bytes, stored as JSON");
                    return Err(Error::invalid(self.field(), why));
                }
                Ok(Some(stored))
            }
        }
    }

    /// Parses a stored change.
    ///
    /// # Errors
    /// `Internal` if it was not stored by [`Self::to_stored`].
    pub fn from_stored(stored: &str) -> Result<Self, Error> {
        serde_json::from_str(stored).map_err(Error::internal)
    }

    /// Returns whether the change is computed again if the policy has moved: it says what is added and removed, and not
    /// what the whole policy is.
    #[must_use]
    pub fn is_computed_again(&self) -> bool {
        self.mode() == ProposalMode::Merge
    }

    /// Returns the version of the revision that is restored.
    #[must_use]
    pub fn restored_version(&self) -> Option<u32> {
        match self {
            Self::Revert(version) => Some(*version),
            Self::Replace(_)
            | Self::Merge(_)
            | Self::Edits(_)
            | Self::Presets(_)
            | Self::Encoded(_)
            | Self::Operations(_) => None,
        }
    }
}

/// Returns the edits that add presets to policies of a generation.
fn preset_edits(
    names: &[String],
    presets: &Presets,
    generation: Generation,
) -> Result<Vec<Edit>, Error> {
    let (mut edits, field) = (Vec::new(), "policy_preset");
    for name in names {
        let missing = || Error::not_found(ResourceKind::PolicyPreset, name);
        let found = presets.find(name).ok_or_else(missing)?.edits(generation, field)?;
        let why = || format!("cannot be added to policies of generation {generation}");
        edits.extend(found.ok_or_else(|| Error::invalid(field, why()))?);
    }
    Ok(edits)
}

/// Computes the result of a change. `restored` is the policy of the revision that it restores.
///
/// # Errors
/// `Invalid` if the change does not apply, `NOT_FOUND` for an unknown preset.
pub fn result(
    base: &Policy,
    change: &PolicyChange,
    restored: Option<&Policy>,
    presets: &Presets,
) -> Result<Policy, Error> {
    let (generation, field) = (base.generation(), change.field());
    match change {
        PolicyChange::Replace(text) => {
            Policy::from_yaml(generation, field, text)?.with_marks_of(base)
        }
        PolicyChange::Merge(text) => {
            let document = Policy::from_yaml(generation, field, text)?;
            base.edited(&Edit::of_document(field, &document)?)
        }
        PolicyChange::Edits(inputs) => {
            let edits = inputs.iter().map(|input| input.edit(generation));
            base.edited(&edits.collect::<Result<Vec<Edit>, Error>>()?)
        }
        PolicyChange::Presets(names) => base.edited(&preset_edits(names, presets, generation)?),
        PolicyChange::Encoded(encoded) => {
            Policy::decode(generation, encoded)?.require_known()?.with_marks_of(base)
        }
        PolicyChange::Operations(request) => {
            base.edited(&Edit::of_update_config(generation, request)?)
        }
        PolicyChange::Revert(_) => match restored {
            Some(restored) => restored.with_marks_of(base),
            None => Err(Error::internal("a revert without a revision")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "
version: 1
process: {run_as_user: sandbox}
network_policies:
  web: {name: web, endpoints: [{host: a.example, port: 443}], binaries: [{path: /bin/x}]}
";

    fn read(generation: Generation, text: &str) -> Policy {
        Policy::from_yaml(generation, "yaml", text).unwrap()
    }

    fn computed(generation: Generation, change: &PolicyChange) -> Result<String, Error> {
        let restored = read(generation, "version: 7");
        let presets = Presets::load(None).unwrap();
        let result = result(&read(generation, BASE), change, Some(&restored), &presets);
        result.map(|policy| policy.to_yaml())
    }

    #[test]
    fn each_kind_of_change_leads_to_its_policy() {
        let remove = EditContent::RemoveRule("web".to_owned());
        let remove = EditInput { field: "policy_edits[0]".to_owned(), content: remove };
        for generation in Generation::ALL {
            for (change, has, lacks) in [
                (PolicyChange::Replace("version: 3".to_owned()), "version: 3", "process"),
                (PolicyChange::Merge("version: 3".to_owned()), "process", "version: 1"),
                (PolicyChange::Edits(vec![remove.clone()]), "process", "a.example"),
                (PolicyChange::Presets(vec!["pypi".to_owned()]), "host: pypi.org", "@"),
                (PolicyChange::Revert(1), "version: 7", "a.example"),
            ] {
                let yaml = computed(generation, &change).unwrap();
                assert!(yaml.contains(has) && !yaml.contains(lacks), "{change:?}: {yaml}");
            }
        }
    }

    #[test]
    fn a_change_that_does_not_apply_is_refused_with_its_field() {
        let rule = |field: &str, yaml: &str| EditInput {
            field: field.to_owned(),
            content: EditContent::AddRule { rule_name: "x".to_owned(), yaml: yaml.to_owned() },
        };
        let edits = vec![rule("policy_edits[0].add_rule", "a: 1")];
        for (change, said) in [
            (PolicyChange::Replace("a: 1".to_owned()), "`yaml` is not valid"),
            (PolicyChange::Merge("a: 1".to_owned()), "`yaml` is not valid"),
            (PolicyChange::Edits(edits), "`policy_edits[0].add_rule.yaml` is not valid"),
            (PolicyChange::Presets(vec!["none".to_owned()]), "policy preset `none` does not exist"),
        ] {
            let why = computed(Generation::V0_1, &change).unwrap_err().to_string();
            assert!(why.starts_with(said), "{why}");
        }
    }

    #[test]
    fn a_stored_change_is_read_as_it_was_and_a_complete_policy_is_not_stored() {
        let rule = EditContent::AddRule { rule_name: "x".to_owned(), yaml: "a: 1".to_owned() };
        let edit = EditInput { field: "policy_edits[0]".to_owned(), content: rule };
        for change in [
            PolicyChange::Merge("version: 3".to_owned()),
            PolicyChange::Edits(vec![edit]),
            PolicyChange::Presets(vec!["pypi".to_owned()]),
            PolicyChange::Revert(3),
            PolicyChange::Operations(vec![0, 255]),
        ] {
            let stored = change.to_stored().unwrap().unwrap();
            assert_eq!(PolicyChange::from_stored(&stored).unwrap(), change);
            let is_again = !matches!(change, PolicyChange::Revert(_));
            assert_eq!(change.is_computed_again(), is_again, "{change:?}");
        }
        for change in [PolicyChange::Replace(String::new()), PolicyChange::Encoded(Vec::new())] {
            assert_eq!(change.to_stored().unwrap(), None);
            assert!(!change.is_computed_again());
        }
        assert!(PolicyChange::Operations(vec![255; STORED_BYTES_MAX]).to_stored().is_err());
    }
}
