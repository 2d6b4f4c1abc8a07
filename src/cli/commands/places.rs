//! Positional arguments that set several fields of a request.

use serde_json::{Map, Value, json};

/// A form of an argument, by its name in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A sandbox.
    Place,
    /// A second sandbox, for comparisons.
    Other,
    /// A gateway, a workspace or a sandbox.
    Scope,
    /// A sandbox that does not exist yet, or only where it will be.
    New,
    /// A user, a service principal or a group.
    Holder,
}

impl Form {
    /// Returns the form of a word in capitals.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        match word {
            "PLACE" => Some(Self::Place),
            "OTHER" => Some(Self::Other),
            "SCOPE" => Some(Self::Scope),
            "NEW" => Some(Self::New),
            "HOLDER" => Some(Self::Holder),
            _ => None,
        }
    }

    /// Returns how the usage shows it.
    pub(super) fn value_name(self) -> &'static str {
        match self {
            Self::Place => "GATEWAY/[WORKSPACE/]SANDBOX",
            Self::Other => "OTHER",
            Self::Scope => "GATEWAY[/[WORKSPACE/]SANDBOX]",
            Self::New => "GATEWAY[/[WORKSPACE/]NAME]",
            Self::Holder => "HOLDER",
        }
    }

    /// Returns its help.
    pub(super) fn help(self) -> &'static str {
        match self {
            Self::Place => "The sandbox. Without a workspace, that in `default`",
            Self::Other => "The sandbox to compare with, in the same form",
            Self::Scope => {
                "The gateway, or a sandbox on it; `GATEWAY/WORKSPACE/` is a whole workspace"
            }
            Self::New => {
                "Gateway of the sandbox, and its name; without one, the gateway chooses it"
            }
            Self::Holder => "An e-mail address, `sp:NAME` for a service principal, or `group:NAME`",
        }
    }

    /// Returns the fields of the request that it sets.
    pub(super) fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Place | Self::Scope => &["gateway", "workspace", "sandbox"],
            Self::Other => &["other_gateway", "other_workspace", "other_sandbox"],
            Self::New => &["gateway", "workspace", "name"],
            Self::Holder => &["subject"],
        }
    }

    /// Parses an argument to an object with the fields that it sets.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        if self == Self::Holder {
            return parse_holder(text);
        }
        let parts: Vec<&str> = text.split('/').collect();
        let may_be_short = matches!(self, Self::Scope | Self::New);
        let (gateway, workspace, sandbox) = match *parts.as_slice() {
            [gateway] if may_be_short => (gateway, "", ""),
            [gateway, sandbox] => (gateway, "", sandbox),
            [gateway, workspace, sandbox] => (gateway, workspace, sandbox),
            _ => return Err(self.fault()),
        };
        // `GATEWAY/WORKSPACE/` names no sandbox.
        let ends_early = may_be_short && parts.len() == 3;
        let is_missing = parts.len() > 1 && sandbox.is_empty() && !ends_early;
        if gateway.is_empty() || is_missing || (parts.len() == 3 && workspace.is_empty()) {
            return Err(self.fault());
        }
        let given = self.fields().iter().zip([gateway, workspace, sandbox]);
        let given = given.filter(|(_, value)| !value.is_empty());
        let object: Map<String, Value> =
            given.map(|(field, value)| ((*field).to_owned(), Value::from(value))).collect();
        Ok(Value::Object(object))
    }

    fn fault(self) -> String {
        let form = if self == Self::Other { Self::Place } else { self };
        format!("must be `{}`", form.value_name())
    }
}

fn parse_holder(text: &str) -> Result<Value, String> {
    let (field, name) = if let Some(name) = text.strip_prefix("sp:") {
        ("service_principal", name)
    } else if let Some(name) = text.strip_prefix("group:") {
        ("group", name)
    } else if text.contains('@') {
        ("user", text.strip_prefix("user:").unwrap_or(text))
    } else {
        return Err("must be an e-mail address, `sp:NAME` or `group:NAME`".to_owned());
    };
    if name.is_empty() {
        return Err("must have a name".to_owned());
    }
    Ok(json!({ "subject": { field: name } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_gateway_and_a_sandbox_and_may_have_a_workspace() {
        let place = json!({"gateway": "edge", "sandbox": "box"});
        assert_eq!(Form::Place.parse("edge/box"), Ok(place));
        let place = json!({"gateway": "edge", "workspace": "team", "sandbox": "box"});
        assert_eq!(Form::Place.parse("edge/team/box"), Ok(place));
        for wrong in ["edge", "", "/box", "edge/", "edge//box", "edge/team/", "a/b/c/d"] {
            let why = Form::Place.parse(wrong).unwrap_err();
            assert_eq!(why, "must be `GATEWAY/[WORKSPACE/]SANDBOX`", "{wrong}");
        }
        let other = json!({"other_gateway": "edge", "other_sandbox": "box"});
        assert_eq!(Form::Other.parse("edge/box"), Ok(other));
    }

    #[test]
    fn a_scope_can_be_a_gateway_or_a_workspace() {
        assert_eq!(Form::Scope.parse("edge"), Ok(json!({"gateway": "edge"})));
        let workspace = json!({"gateway": "edge", "workspace": "team"});
        assert_eq!(Form::Scope.parse("edge/team/"), Ok(workspace));
        let new = json!({"gateway": "edge", "name": "box"});
        assert_eq!(Form::New.parse("edge/box"), Ok(new));
        for wrong in ["", "edge/", "/", "edge//"] {
            assert!(Form::Scope.parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_holder_is_a_user_a_service_principal_or_a_group() {
        for (text, field, name) in [
            ("ana@example.com", "user", "ana@example.com"),
            ("user:ana@example.com", "user", "ana@example.com"),
            ("sp:ci", "service_principal", "ci"),
            ("group:ops", "group", "ops"),
        ] {
            assert_eq!(Form::Holder.parse(text), Ok(json!({"subject": {field: name}})));
        }
        for wrong in ["ana", "sp:", "group:", ""] {
            assert!(Form::Holder.parse(wrong).is_err(), "{wrong}");
        }
    }
}
