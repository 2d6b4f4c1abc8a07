//! Documents as edits: a policy that is merged into another one, and single rules.

use prost_reflect::{DynamicMessage, MapKey, Value};
use shoreguard_proto::release::Generation;

use super::super::tree::{Node, Path};
use super::super::{Policy, parse, read, schema};
use super::{Change, Edit, EditTarget, PathAccess, check, fragment, parts, sections};
use crate::error::Error;

impl Edit {
    /// Returns the edit that adds a rule, or extends the rule with that name or one with the same endpoint. `yaml` is a
    /// rule as policy documents have it. `field` is the field of the request that has the edit.
    ///
    /// # Errors
    /// `Invalid` if the name is missing or reserved, or the rule is not valid.
    pub fn add_rule(
        generation: Generation,
        field: &str,
        rule_name: &str,
        yaml: &str,
    ) -> Result<Self, Error> {
        let read = |node: Node| {
            let rule = read::message(generation, schema::RULE, node, &Path::ROOT)?;
            fragment::rule(generation, rule)
        };
        let rule = parse_yaml(field, yaml, read)?;
        let rule_name = rule_name.trim().to_owned();
        Self::checked(Some(generation), field, Change::AddRule(rule_name, rule))
    }

    /// Returns the edit that adds deny rules to an endpoint. `yaml` is a list of `deny_rules` as policy documents have
    /// it.
    ///
    /// # Errors
    /// `Invalid` if the target is incomplete, or a rule is not valid.
    pub fn add_deny_rules(
        generation: Generation,
        field: &str,
        target: EditTarget,
        yaml: &str,
    ) -> Result<Self, Error> {
        let rules = parse_rules(generation, field, "deny_rules", yaml)?;
        Self::checked(Some(generation), field, Change::AddDenyRules(target, rules))
    }

    /// Returns the edit that adds allow rules to an endpoint. `yaml` is a list of `rules` as policy documents have it.
    ///
    /// # Errors
    /// `Invalid` if the target is incomplete, or a rule is not valid.
    pub fn add_allow_rules(
        generation: Generation,
        field: &str,
        target: EditTarget,
        yaml: &str,
    ) -> Result<Self, Error> {
        let rules = parse_rules(generation, field, "rules", yaml)?;
        Self::checked(Some(generation), field, Change::AddAllowRules(target, rules))
    }

    /// Returns the edits that merge a policy into another one: its rules are added in the order of their names, then
    /// its paths, and the values of its other sections are set. `field` is the field of the request that has the
    /// document.
    ///
    /// # Errors
    /// `Invalid` with the path in the document, such as for a rule without endpoints.
    pub fn of_document(field: &str, document: &Policy) -> Result<Vec<Self>, Error> {
        let mut rest = document.message.clone();
        let mut edits = Vec::new();
        let edit = |path: String, change: Change| Self {
            generation: Some(document.generation),
            field: field.to_owned(),
            within: Some(path),
            change,
        };
        let (root, rules) = (Path::ROOT, rest.take_field_by_name("network_policies"));
        let mut named: Vec<(String, DynamicMessage)> = Vec::new();
        if let Some(Value::Map(entries)) = rules {
            named.extend(entries.into_iter().filter_map(named_rule));
        }
        named.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, rule) in named {
            let path = root.key("network_policies").key(&name).to_string();
            edits.push(edit(path, Change::AddRule(name, rule)));
        }
        for access in [PathAccess::ReadOnly, PathAccess::ReadWrite] {
            let paths = sections::take_paths(&mut rest, access);
            if !paths.is_empty() {
                let path = format!("filesystem_policy.{}", access.field());
                edits.push(edit(path, Change::AddPaths(access, paths)));
            }
        }
        if rest.fields().next().is_some() {
            edits.push(edit(Path::ROOT.to_string(), Change::SetSections(rest)));
        }
        for edit in &edits {
            check::change(&edit.change).map_err(|fault| edit.refusal(fault))?;
        }
        Ok(edits)
    }
}

fn named_rule((key, rule): (MapKey, Value)) -> Option<(String, DynamicMessage)> {
    match (key, rule) {
        (MapKey::String(name), Value::Message(rule)) => Some((name, rule)),
        (_, _) => None,
    }
}

fn parse_yaml<T>(
    field: &str,
    yaml: &str,
    read: impl FnOnce(Node) -> Result<T, String>,
) -> Result<T, Error> {
    let field = format!("{field}.yaml");
    let node = parse::parse(yaml).map_err(|why| Error::invalid(&field, why))?;
    read(node).map_err(|why| Error::invalid(&field, format!("is not valid: {why}")))
}

/// Reads a list of allow or deny rules. `list` is their field in an endpoint.
fn parse_rules(
    generation: Generation,
    field: &str,
    list: &str,
    yaml: &str,
) -> Result<Vec<Value>, Error> {
    let read = |node: Node| {
        let whole = Node::Map(vec![(list.to_owned(), node)]);
        let endpoint = read::message(generation, schema::ENDPOINT, whole, &Path::ROOT)?;
        let rules = parts::list(&endpoint, list).to_vec();
        fragment::endpoint_rules(generation, list, rules)
    };
    parse_yaml(field, yaml, read)
}
