//! Merge operations of a gateway's `UpdateConfig`, in either generation, as edits.
//!
//! Invariant: an operation with a part that this build does not know is refused, since the result would lack it.

use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use shoreguard_proto::descriptors::Descriptors;
use shoreguard_proto::release::Generation;
use shoreguard_proto::wire::{self, FieldReader, FieldValue};

use super::super::walk;
use super::{Change, EDITS_MAX, Edit, EditTarget, ExactTarget, fragment, parts};
use crate::error::Error;

/// A merge operation of `UpdateConfig`.
const OPERATION: &str = "openshell.v1.PolicyMergeOperation";
/// The field of the operations in the request. Both generations have it.
const OPERATIONS_FIELD: u32 = 7;
/// Its name, which messages use.
const OPERATIONS: &str = "merge_operations";
/// Fields of the operation that adds a rule, and of name and rule in it. Both generations have them.
const ADD_RULE: u32 = 1;
const RULE_NAME: u32 = 1;
const RULE: u32 = 2;

impl Edit {
    /// Returns the edits that the merge operations of an encoded `UpdateConfigRequest` make.
    ///
    /// # Errors
    /// `Invalid` for an operation that is malformed, incomplete, or has a part that this build does not know.
    pub fn of_update_config(generation: Generation, request: &[u8]) -> Result<Vec<Self>, Error> {
        let (mut fields, mut edits) = (FieldReader::new(request), Vec::new());
        loop {
            let malformed = |_| Error::invalid(OPERATIONS, "is malformed");
            let Some((number, value)) = fields.next_field().map_err(malformed)? else {
                return Ok(edits);
            };
            let FieldValue::Bytes(encoded) = value else { continue };
            if number != OPERATIONS_FIELD {
                continue;
            }
            if edits.len() == EDITS_MAX {
                let why = format!("must have at most {EDITS_MAX} operations");
                return Err(Error::invalid(OPERATIONS, why));
            }
            let field = format!("{OPERATIONS}[{}]", edits.len());
            edits.push(Self::decode(generation, &field, encoded)?);
        }
    }

    /// Returns the edit by which a gateway merges a rule that an agent proposed, with its marks.
    ///
    /// # Errors
    /// As for [`Edit::of_update_config`].
    pub fn add_proposed_rule(
        generation: Generation,
        name: &str,
        rule: &[u8],
    ) -> Result<Self, Error> {
        let (mut content, mut operation) = (Vec::new(), Vec::new());
        wire::put_bytes(&mut content, RULE_NAME, name.as_bytes());
        wire::put_bytes(&mut content, RULE, rule);
        wire::put_bytes(&mut operation, ADD_RULE, &content);
        Self::decode(generation, "proposed_rule", &operation)
    }

    /// Decodes a merge operation of a gateway. `field` is its place in the request.
    ///
    /// # Errors
    /// As for [`Edit::of_update_config`].
    pub fn decode(generation: Generation, field: &str, encoded: &[u8]) -> Result<Self, Error> {
        let refuse = |why: String| Error::invalid(field, why);
        let kind = Descriptors::for_generation(generation).pool().get_message_by_name(OPERATION);
        let kind = kind.ok_or_else(|| refuse("is unknown".to_owned()))?;
        let decoded = DynamicMessage::decode(kind, encoded);
        let mut message = decoded.map_err(|error| refuse(format!("is malformed: {error}")))?;
        if let Some(part) = walk::unknown_parts(&message).first() {
            return Err(refuse(format!("has a part that this server does not know, at {part}")));
        }
        let found = message.take_fields().next();
        let Some((operation, Value::Message(content))) = found else {
            return Err(refuse("is without an operation".to_owned()));
        };
        let field = format!("{field}.{}", operation.name());
        let change = Operation { generation, content }.change(operation.name());
        let change = change.map_err(|why| Error::invalid(&field, why))?;
        Self::checked(Some(generation), &field, change)
    }
}

/// The content of a merge operation.
struct Operation {
    generation: Generation,
    content: DynamicMessage,
}

impl Operation {
    fn change(&self, name: &str) -> Result<Change, String> {
        match name {
            "add_rule" => {
                let rule = parts::value(&self.content, "rule").and_then(Value::as_message);
                let rule = rule.ok_or_else(|| "must have a rule".to_owned())?.clone();
                let rule = fragment::rule(self.generation, rule)?;
                Ok(Change::AddRule(self.text("rule_name"), rule))
            }
            "remove_rule" => Ok(Change::RemoveRule(self.text("rule_name"))),
            "remove_endpoint" => Ok(Change::RemoveEndpoint {
                rule_name: Some(self.text("rule_name")).filter(|name| !name.is_empty()),
                host: self.text("host"),
                port: parts::number(&self.content, "port"),
            }),
            "add_deny_rules" => {
                let rules = parts::list(&self.content, "deny_rules").to_vec();
                let rules = fragment::endpoint_rules(self.generation, "deny_rules", rules)?;
                Ok(Change::AddDenyRules(self.target()?, rules))
            }
            "add_allow_rules" => {
                let rules = parts::list(&self.content, "rules").to_vec();
                let rules = fragment::endpoint_rules(self.generation, "rules", rules)?;
                Ok(Change::AddAllowRules(self.target()?, rules))
            }
            "remove_binary" => Ok(Change::RemoveBinary {
                rule_name: self.text("rule_name"),
                path: self.text("binary_path"),
            }),
            _ => Err("is an operation that this server does not know".to_owned()),
        }
    }

    fn text(&self, name: &str) -> String {
        parts::text(&self.content, name).trim().to_owned()
    }

    /// Reads the endpoint: host and port in generation 0.0, a message in generation 0.1.
    fn target(&self) -> Result<EditTarget, String> {
        if self.content.descriptor().get_field_by_name("target").is_none() {
            let port = parts::number(&self.content, "port");
            return Ok(EditTarget::First { host: self.text("host"), port });
        }
        let target = parts::value(&self.content, "target").and_then(Value::as_message);
        let target = target.ok_or_else(|| "must have a `target`".to_owned())?;
        let named = parts::list(target, "binaries").iter().filter_map(Value::as_message);
        let named: Vec<String> = named.map(|binary| parts::text(binary, "path")).collect();
        let binaries = match (parts::flag(target, "any_binary"), named.is_empty()) {
            (true, true) => None,
            (false, false) => Some(named),
            (_, _) => {
                return Err("must have either `any_binary` or `binaries` in `target`".to_owned());
            }
        };
        let ports = parts::list(target, "ports").iter().filter_map(Value::as_u32).collect();
        let path = parts::value(target, "path").and_then(Value::as_str).map(str::to_owned);
        Ok(EditTarget::Exact(ExactTarget {
            rule_name: parts::text(target, "rule_name"),
            host: parts::text(target, "host"),
            ports,
            path,
            binaries,
        }))
    }
}
