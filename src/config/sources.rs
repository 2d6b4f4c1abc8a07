//! The three sources of a key: the file, the environment, which overrides the file, and flags, which override both.

use std::ffi::OsString;

use toml::{Table, Value};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};
use super::{
    Access, Approvals, Audit, Auth, BootHooks, Database, Discovery, Events, Followers, Gateways,
    Keys, Limits, Oidc, Operations, Policies, Sandboxes, Server, Telemetry, TokenService, Webhooks,
};

/// Prefix of Shoreguard's environment variables.
const PREFIX: &str = "SHOREGUARD_";

/// Variables that are not keys: the path of the file, and the settings of `shoreguard call`.
const NO_KEYS: [&str; 3] = ["SHOREGUARD_CONFIG", "SHOREGUARD_KEY", "SHOREGUARD_ENDPOINT"];

/// Each section with its keys.
pub(super) const SECTIONS: [(&str, &[ConfigKey]); 20] = [
    ("server", Server::KEYS),
    ("database", Database::KEYS),
    ("keys", Keys::KEYS),
    ("limits", Limits::KEYS),
    ("gateways", Gateways::KEYS),
    ("discovery", Discovery::KEYS),
    ("access", Access::KEYS),
    ("auth", Auth::KEYS),
    ("oidc", Oidc::KEYS),
    ("token_service", TokenService::KEYS),
    ("audit", Audit::KEYS),
    ("events", Events::KEYS),
    ("operations", Operations::KEYS),
    ("sandboxes", Sandboxes::KEYS),
    ("approvals", Approvals::KEYS),
    ("policies", Policies::KEYS),
    ("followers", Followers::KEYS),
    ("boot_hooks", BootHooks::KEYS),
    ("webhooks", Webhooks::KEYS),
    ("telemetry", Telemetry::KEYS),
];

/// Parses the file.
pub(super) fn parse_file(text: &str, faults: &mut Faults) -> Table {
    text.parse().unwrap_or_else(|error: toml::de::Error| {
        // The error's own Display quotes the line, which may hold a secret.
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        faults.add(format!("line {line}"), format!("is not valid TOML: {}", error.message()));
        Table::new()
    })
}

/// Overrides values of the file with environment variables.
pub(super) fn apply_environment(
    sections: &mut Table,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    faults: &mut Faults,
) {
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if NO_KEYS.contains(&name) || is_service_link(name) {
            continue;
        }
        let Some((section, key)) = find_key(|section, key| variable_name(section, key) == name)
        else {
            faults.add(name, "is not a variable of the configuration");
            continue;
        };
        match value.into_string() {
            Ok(text) => set_value(sections, section, *key, name, text, faults),
            Err(_) => faults.add(name, "is not UTF-8"),
        }
    }
}

/// Overrides values of the file and the environment with flags.
pub(super) fn apply_flags(sections: &mut Table, flags: &[(String, String)], faults: &mut Faults) {
    for (name, text) in flags {
        let Some((section, key)) =
            find_key(|section, key| format!("{section}.{}", key.path) == *name)
        else {
            faults.add(name, "is not a key of the configuration");
            continue;
        };
        if matches!(key.kind, ValueKind::Secret | ValueKind::Secrets) {
            let variable = variable_name(section, key);
            faults.add(
                name,
                format!("is a secret, and flags can be read by others: set `{variable}`"),
            );
            continue;
        }
        set_value(sections, section, *key, name, text.clone(), faults);
    }
}

fn find_key(
    matches: impl Fn(&str, &ConfigKey) -> bool,
) -> Option<(&'static str, &'static ConfigKey)> {
    SECTIONS.iter().find_map(|(section, keys)| {
        keys.iter().find(|key| matches(section, key)).map(|key| (*section, key))
    })
}

/// Returns the variable of a key: `server.tls.cert_path` is `SHOREGUARD_SERVER_TLS_CERT_PATH`.
fn variable_name(section: &str, key: &ConfigKey) -> String {
    format!("{PREFIX}{section}_{}", key.path.replace('.', "_")).to_ascii_uppercase()
}

/// Returns whether Kubernetes set this variable: it sets such variables in each container for every service of the
/// namespace, and those of a service named `shoreguard` would prevent the start.
fn is_service_link(name: &str) -> bool {
    let is_port = |rest: &str| rest.is_empty() || rest.starts_with('_');
    name.ends_with("_SERVICE_HOST")
        || name.rsplit_once("_SERVICE_PORT").is_some_and(|(_, rest)| is_port(rest))
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| {
            rest.split('_').next().is_some_and(|port| port.parse::<u16>().is_ok())
        })
}

fn set_value(
    sections: &mut Table,
    section: &str,
    key: ConfigKey,
    said_as: &str,
    text: String,
    faults: &mut Faults,
) {
    let Some(value) = parse_value(key.kind, text) else {
        faults.add(said_as, expected_form(key.kind));
        return;
    };
    let path: Vec<&str> = std::iter::once(section).chain(key.path.split('.')).collect();
    let (last, parents) = path.split_last().expect("a path has its section");
    let mut table = sections;
    for parent in parents {
        let inner = table.entry(*parent).or_insert_with(|| Value::Table(Table::new()));
        // A value that is not a table is reported when the section is read.
        let Value::Table(inner) = inner else { return };
        table = inner;
    }
    table.insert((*last).to_owned(), value);
}

fn parse_value(kind: ValueKind, text: String) -> Option<Value> {
    match kind {
        ValueKind::Text | ValueKind::Secret => Some(Value::String(text)),
        ValueKind::Number => text.trim().parse().ok().map(Value::Integer),
        ValueKind::Flag => text.trim().parse().ok().map(Value::Boolean),
        ValueKind::List | ValueKind::Secrets => Some(Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        )),
        ValueKind::Tables => None,
    }
}

fn expected_form(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Text | ValueKind::Secret => "must be text",
        ValueKind::Number => "must be a whole number",
        ValueKind::Flag => "must be `true` or `false`",
        ValueKind::List | ValueKind::Secrets => "must be a list separated by commas",
        ValueKind::Tables => "can only be set in the file",
    }
}
