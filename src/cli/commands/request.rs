//! Makes the request of a command out of its arguments.

use clap::ArgMatches;
use prost_reflect::{DynamicMessage, Kind, MethodDescriptor};
use serde_json::{Map, Value};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::fields::{self, Leaf};
use super::flags;
use super::labels;
use super::table::Row;
use super::values::{self, Source};
use crate::cli::{CliError, comments, json, output};

/// Fields that an update does not change by themselves.
const NOT_IN_MASK: [&str; 4] = ["etag", "request_id", "validate_only", "force"];

/// Returns the request, as JSON for questions and as a message.
pub(super) fn build(
    row: &Row,
    method: &MethodDescriptor,
    matches: &ArgMatches,
) -> Result<(Value, DynamicMessage), CliError> {
    let leaves = fields::leaves(row, &method.input());
    let mut object = Map::new();
    for form in fields::forms(row) {
        if let Some(Value::Object(given)) = matches.get_one::<Value>(&flags::form_id(form)) {
            object.extend(given.clone());
        }
    }
    for (field, value) in fields::presets(row) {
        object.insert(field.to_owned(), Value::from(value));
    }
    let is_update = method.input().get_field_by_name("update_mask").is_some();
    let mut changed: Vec<&str> = Vec::new();
    let mut parts: Vec<&Leaf> = Vec::new();
    for leaf in &leaves {
        let Some(value) = given(leaf, matches)?.or_prompted(row, leaf, is_update)? else {
            continue;
        };
        parts.push(leaf);
        let top = leaf.path.split('.').next().unwrap_or_default();
        let is_positional = flags::taken(row).any(|taken| taken.word == leaf.path);
        if !is_positional && !NOT_IN_MASK.contains(&top) && !changed.contains(&top) {
            changed.push(top);
        }
        set(&mut object, &leaf.path, value);
    }
    if labels::is_update(method) {
        let removed = labels::removed(matches);
        check_removed(&object, &removed)?;
        if !changed.contains(&labels::FIELD) && !removed.is_empty() {
            changed.push(labels::FIELD);
        }
    }
    if is_update {
        if changed.is_empty() {
            return Err(CliError::Usage(no_change(row, &leaves)));
        }
        check_parts(&leaves, &parts)?;
        object.insert("update_mask".to_owned(), Value::from(changed.join(",")));
    }
    let value = Value::Object(object);
    let message = json::from_value(&method.input(), value.clone())
        .map_err(|why| CliError::Usage(with_flags(&leaves, &why)))?;
    Ok((value, message))
}

/// The value that was given for a field, if any.
struct Given(Option<Value>);

impl Given {
    /// Returns the value. A secret is prompted for if that was requested, or if it is a text that was not given, unless it
    /// is a change or may be empty.
    fn or_prompted(
        self,
        row: &Row,
        leaf: &Leaf,
        is_update: bool,
    ) -> Result<Option<Value>, CliError> {
        if leaf.source == Source::Secret && self.0 == Some(Value::Null) {
            return values::prompt(&leaf.field).map(Some);
        }
        let is_needed = leaf.source == Source::Secret
            && leaf.field.kind() == Kind::String
            && !leaf.field.is_list()
            && !leaf.path.contains('.')
            && leaf.choices.is_empty()
            && !is_update
            && !comments::may_be_empty(&leaf.field);
        if self.0.is_some() || !is_needed {
            return Ok(self.0);
        }
        let flag = &leaf.flag;
        if !output::can_ask() {
            let why =
                format!("`{}` needs `--{flag}`: `@FILE`, or `-` for standard input", row.command);
            return Err(CliError::Usage(why));
        }
        output::print_error(&format!("`--{flag}` was not given"));
        values::prompt(&leaf.field).map(Some)
    }
}

fn given(leaf: &Leaf, matches: &ArgMatches) -> Result<Given, CliError> {
    if !leaf.is_repeated() {
        return Ok(Given(matches.get_one::<Value>(&leaf.id()).cloned()));
    }
    let Some(all) = matches.get_many::<Value>(&leaf.id()) else { return Ok(Given(None)) };
    if leaf.field.is_map() {
        let mut entries = Map::new();
        for (key, value) in all.filter_map(Value::as_object).flatten() {
            if entries.insert(key.clone(), value.clone()).is_some() {
                let why = format!("`--{}` has the key `{key}` twice", leaf.flag);
                return Err(CliError::Usage(why));
            }
        }
        return Ok(Given(Some(Value::Object(entries))));
    }
    // An item that is JSON can be a list of items.
    let items = all
        .cloned()
        .flat_map(|value| if let Value::Array(items) = value { items } else { vec![value] });
    Ok(Given(Some(Value::Array(items.collect()))))
}

/// Sets a value at a path, inside the objects on the way.
fn set(object: &mut Map<String, Value>, path: &str, value: Value) {
    let Some((first, rest)) = path.split_once('.') else {
        object.insert(path.to_owned(), value);
        return;
    };
    let inner = object.entry(first).or_insert(Value::Null);
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        set(inner, rest, value);
    }
}

/// Refuses a label that is both set and removed.
fn check_removed(object: &Map<String, Value>, removed: &[String]) -> Result<(), CliError> {
    let given = object.get(labels::FIELD).and_then(Value::as_object);
    match removed.iter().find(|key| given.is_some_and(|given| given.contains_key(*key))) {
        None => Ok(()),
        Some(key) => {
            let why = format!("`--label` sets `{key}`, which `--remove-label` removes");
            Err(CliError::Usage(why))
        }
    }
}

fn no_change(row: &Row, leaves: &[Leaf]) -> String {
    let is_positional = |leaf: &Leaf| flags::taken(row).any(|taken| taken.word == leaf.path);
    let can = leaves.iter().filter(|leaf| {
        !leaf.path.contains('.')
            && !NOT_IN_MASK.contains(&leaf.path.as_str())
            && !is_positional(leaf)
    });
    let can: Vec<String> = can.map(|leaf| format!("`--{}`", leaf.flag)).collect();
    format!("`{}` needs something to change: {}", row.command, can.join(", "))
}

/// Refuses an update of a part of a message: the mask names the whole message, so that it would unset the other parts.
/// Which secrets and files go together is known to the server only.
fn check_parts(leaves: &[Leaf], given: &[&Leaf]) -> Result<(), CliError> {
    for part in given {
        let Some((message, _)) = part.path.rsplit_once('.') else { continue };
        if !is_plain(part) {
            continue;
        }
        let missing = leaves.iter().find(|leaf| {
            let is_beside = leaf.path.rsplit_once('.').is_some_and(|(other, _)| other == message);
            is_beside && is_plain(leaf) && !given.iter().any(|other| other.path == leaf.path)
        });
        if let Some(missing) = missing {
            return Err(CliError::Usage(format!(
                "`--{}` is a part of what is replaced as a whole: give `--{}` too, empty for none",
                part.flag, missing.flag
            )));
        }
    }
    Ok(())
}

/// Whether a part of a message can be given for itself, and empty.
fn is_plain(leaf: &Leaf) -> bool {
    let is_single = leaf.choices.is_empty() && !leaf.is_repeated();
    let is_value = !matches!(leaf.field.kind(), Kind::Bytes | Kind::Message(_));
    is_single && is_value && leaf.source != Source::Secret
}

/// Replaces the names of fields by those of their flags.
fn with_flags(leaves: &[Leaf], why: &str) -> String {
    leaves.iter().fold(why.to_owned(), |why, leaf| {
        why.replace(&format!("`{}`", leaf.path), &format!("`--{}`", leaf.flag))
    })
}

/// Adds the flags of the fields that the server has refused.
pub(super) fn explain(row: &Row, method: &MethodDescriptor, failure: CliError) -> CliError {
    let CliError::Call(status) = failure else { return failure };
    let lines = refused_flags(row, method, &status);
    if lines.is_empty() {
        return CliError::Call(status);
    }
    CliError::Fields(status, lines.join("\n"))
}

fn refused_flags(row: &Row, method: &MethodDescriptor, status: &Status) -> Vec<String> {
    if status.code() != Code::InvalidArgument {
        return Vec::new();
    }
    let details = status.get_error_details();
    let Some(refused) = details.bad_request() else { return Vec::new() };
    let leaves = fields::leaves(row, &method.input());
    let flag_of = |field: &str| {
        let path = field.split('[').next().unwrap_or_default();
        let leaf = leaves.iter().find(|leaf| leaf.path == path)?;
        let is_positional = flags::taken(row).any(|taken| taken.word == leaf.path);
        let argument =
            if is_positional { leaf.path.to_ascii_uppercase() } else { format!("--{}", leaf.flag) };
        Some(format!("  `{field}` is `{argument}` on the command line"))
    };
    refused.field_violations.iter().filter_map(|violation| flag_of(&violation.field)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;
    use serde_json::json;

    fn built(arguments: &str) -> Result<Value, CliError> {
        let words: Vec<&str> = ["shoreguard"].into_iter().chain(arguments.split(' ')).collect();
        let matches = crate::cli::definition().try_get_matches_from(words).unwrap();
        let (noun, matches) = matches.subcommand().unwrap();
        let (verb, matches) = matches.subcommand().unwrap();
        let row = table::find(noun, verb).unwrap();
        let method = fields::method(row).unwrap();
        build(row, &method, matches).map(|(value, _)| value)
    }

    #[test]
    fn arguments_become_fields() {
        for (arguments, request) in [
            ("gateway list -l env=prod", json!({"label_selector": "env=prod"})),
            (
                "gw register edge 10.0.0.1:1 --scheme https --label a=1 --label b=2 \
                 --oidc-client.scope s --request-id r",
                json!({"name": "edge", "endpoint": "10.0.0.1:1", "scheme": "GATEWAY_SCHEME_HTTPS",
                    "labels": {"a": "1", "b": "2"}, "oidc_client": {"scope": "s"},
                    "request_id": "r"}),
            ),
            (
                "gateway update edge --description= --address h:1 --etag e",
                json!({"gateway": "edge", "description": "", "endpoint": "h:1", "etag": "e",
                    "update_mask": "endpoint,description"}),
            ),
            (
                "gateway update edge --oidc-client.token-url u --oidc-client.scope= \
                 --oidc-client.audience a",
                json!({"gateway": "edge",
                    "oidc_client": {"token_url": "u", "scope": "", "audience": "a"},
                    "update_mask": "oidc_client"}),
            ),
            (
                "gateway update edge --remove-label env",
                json!({"gateway": "edge", "update_mask": "labels"}),
            ),
            (
                "sandbox run edge/team/box --run-timeout 1h30m -- ls -l",
                json!({"gateway": "edge", "workspace": "team", "sandbox": "box",
                    "command": ["ls", "-l"], "timeout": "5400.000000000s"}),
            ),
            (
                "approval approve 7 --digest d",
                json!({"approval_id": 7, "digest": "d", "decision": "VOTE_DECISION_APPROVE"}),
            ),
            (
                "gateway set edge ocsf_json_enabled --switch",
                json!({"gateway": "edge", "key": "ocsf_json_enabled", "value": {"switch": true}}),
            ),
            (
                "gateway set edge ocsf_json_enabled --switch=false",
                json!({"gateway": "edge", "key": "ocsf_json_enabled", "value": {"switch": false}}),
            ),
            (
                "boot-hook reorder edge/box 3 1 --phase pre-create",
                json!({"gateway": "edge", "sandbox": "box", "boot_hook_ids": [3, 1],
                    "phase": "BOOT_HOOK_PHASE_PRE_CREATE"}),
            ),
            (
                "sp update ci --expires never",
                json!({"service_principal": "ci", "expire_time": null,
                    "update_mask": "expire_time"}),
            ),
            (
                "role set group:ops --gateway edge --role none",
                json!({"subject": {"group": "ops"}, "gateway": "edge", "role": "ROLE_NONE"}),
            ),
        ] {
            assert_eq!(built(arguments).unwrap(), request, "{arguments}");
        }
    }

    #[test]
    fn labels_that_contradict_each_other_are_refused() {
        for (arguments, why) in [
            ("gw register e h:1 --label a=1 --label a=2", "`--label` has the key `a` twice"),
            ("gateway update e --label a=1 --remove-label a", "`--label` sets `a`"),
        ] {
            let refused = built(arguments).unwrap_err();
            assert_eq!(refused.exit_code(), 2);
            assert!(refused.to_string().contains(why), "{refused}");
        }
        assert!(built("gateway update e --label a=1 --remove-label b").is_ok());
    }

    #[test]
    fn a_part_of_a_message_does_not_unset_the_others() {
        let why = built("gateway update edge --oidc-client.token-url u").unwrap_err().to_string();
        assert!(why.contains("`--oidc-client.scope`"), "{why}");
        let registered = built("gateway register edge h:1 --oidc-client.token-url u");
        assert!(registered.is_ok(), "{registered:?}");
    }

    #[test]
    fn members_of_a_oneof_exclude_each_other() {
        let words = "shoreguard gateway set edge key --switch --text a".split(' ');
        let refused = crate::cli::definition().try_get_matches_from(words).unwrap_err();
        let why = refused.to_string();
        assert!(why.contains("--switch") && why.contains("--text"), "{why}");
    }

    #[test]
    fn what_must_be_given_is_required() {
        for (arguments, flag) in [
            ("user invite ana@example.com", "--role"),
            ("group create ops", "--role"),
            ("workflow set edge", "--rule"),
            ("approval approve 7", "--digest"),
        ] {
            let words = ["shoreguard"].into_iter().chain(arguments.split(' '));
            let refused = crate::cli::definition().try_get_matches_from(words).unwrap_err();
            let why = refused.to_string();
            assert!(why.contains(flag), "{why}");
        }
    }

    #[test]
    fn a_missing_change_or_secret_names_its_flags() {
        let why = built("user update ana@example.com").unwrap_err().to_string();
        assert!(why.contains("`--role`, `--is-active`"), "{why}");
        let refused = built("webhook rotate-secret 7 --overlap 1h");
        assert!(refused.is_ok(), "{refused:?}");
    }
}
