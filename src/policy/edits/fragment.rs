//! Parts of a policy that an edit carries, in their canonical form: comparable, and without fields of the gateway.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, MapKey, Value};
use shoreguard_proto::release::Generation;

use super::super::{Policy, schema};
use super::parts;

/// The key of the rule in the policy that is made for the conversion.
const KEY: &str = "rule";

/// Returns a rule in its canonical form.
///
/// # Errors
/// It has a part that this build does not know.
pub(super) fn rule(generation: Generation, rule: DynamicMessage) -> Result<DynamicMessage, String> {
    let mut policy = DynamicMessage::new(schema::policy(generation));
    let key = MapKey::String(KEY.to_owned());
    let entries = HashMap::from([(key.clone(), Value::Message(rule))]);
    parts::set(&mut policy, "network_policies", Value::Map(entries));
    let canonical = Policy::canonical(generation, policy).map_err(|error| error.to_string())?;
    if let Some(part) = canonical.unknown.first() {
        return Err(format!("has a part that this server does not know, at {part}"));
    }
    let mut message = canonical.message;
    let rules = message.take_field_by_name("network_policies");
    let rule = if let Some(Value::Map(mut rules)) = rules { rules.remove(&key) } else { None };
    let rule = rule.and_then(|rule| rule.as_message().cloned());
    rule.ok_or_else(|| "has no rule".to_owned())
}

/// Returns allow or deny rules in their canonical form. `field` is their field in an endpoint.
///
/// # Errors
/// They have a part that this build does not know.
pub(super) fn endpoint_rules(
    generation: Generation,
    field: &str,
    rules: Vec<Value>,
) -> Result<Vec<Value>, String> {
    let missing = || format!("has no `{field}`");
    let policy = schema::policy(generation);
    let message = |name: &str| policy.parent_pool().get_message_by_name(name);
    let mut endpoint = DynamicMessage::new(message(schema::ENDPOINT).ok_or_else(missing)?);
    let mut whole = DynamicMessage::new(message(schema::RULE).ok_or_else(missing)?);
    parts::set(&mut endpoint, field, Value::List(rules));
    parts::set(&mut whole, "endpoints", Value::List(vec![Value::Message(endpoint)]));
    let whole = rule(generation, whole)?;
    let endpoint = parts::list(&whole, "endpoints").first().and_then(Value::as_message);
    Ok(endpoint.map(|endpoint| parts::list(endpoint, field).to_vec()).unwrap_or_default())
}
