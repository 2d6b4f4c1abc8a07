//! Imports point down: a module names only modules of the layers below its own.

use std::collections::BTreeSet;

use super::{Faults, code, rust, says};

/// The layers of `src/`, from the bottom to the top. Modules of one layer do not import each other.
const LAYERS: &[&[&str]] = &[
    &["error", "secret"],
    &["role", "names", "etag", "labels", "safe_paths"],
    &["clock"],
    &["seal", "net"],
    &["config"],
    &["telemetry"],
    &["db"],
    &["oidc", "disk", "templates"],
    &["access"],
    &["fair"],
    &["digest"],
    &["audit", "outbox"],
    &["app"],
    &["feed"],
    &["ctx"],
    &["openshell", "workers"],
    &["resources/sessions"],
    &[
        "resources/access_bindings",
        "resources/audit",
        "resources/events",
        "resources/sboms",
        "resources/device_codes",
        "resources/operations",
        "resources/service_principals",
        "resources/users",
    ],
    &["resources/groups", "resources/auth", "resources/boot_hooks", "resources/gateway_tokens"],
    &["resources/sandboxes"],
    &["resources/gateways"],
    &["resources"],
    &["proxy", "token_service"],
    &["transport"],
    &["cli"],
    &["lib", "main"],
];

/// Imports that still point up: of which module, and what it names. Each goes when its target has moved.
const UP: &[(&str, &str)] = &[
    ("app", "feed"),
    ("app", "proxy"),
    ("app", "resources/auth"),
    ("app", "resources/gateways"),
    ("app", "resources/operations"),
    ("app", "resources/sboms"),
    ("app", "transport"),
    ("app", "workers"),
    ("config", "access"),
    ("ctx", "transport"),
    ("feed", "resources/gateways"),
    ("feed", "resources/sessions"),
    ("openshell", "proxy"),
    ("openshell", "resources/gateways"),
    ("openshell", "transport"),
    ("proxy", "transport"),
    ("resources/access_bindings", "resources/users"),
    ("resources/access_bindings", "transport"),
    ("resources/audit", "transport"),
    ("resources/auth", "transport"),
    ("resources/boot_hooks", "transport"),
    ("resources/events", "transport"),
    ("resources/gateways", "proxy"),
    ("resources/gateways", "transport"),
    ("resources/groups", "transport"),
    ("resources/operations", "resources/sandboxes"),
    ("resources/operations", "transport"),
    ("resources/sandboxes", "proxy"),
    ("resources/sandboxes", "resources/gateways"),
    ("resources/sandboxes", "transport"),
    ("resources/sboms", "transport"),
    ("resources/service_principals", "resources/access_bindings"),
    ("resources/service_principals", "transport"),
    ("resources/users", "resources/access_bindings"),
    ("resources/users", "transport"),
    ("token_service", "transport"),
    ("workers", "resources/access_bindings"),
    ("workers", "resources/audit"),
    ("workers", "resources/auth"),
    ("workers", "resources/device_codes"),
    ("workers", "resources/events"),
    ("workers", "resources/gateways"),
    ("workers", "resources/operations"),
    ("workers", "resources/sandboxes"),
    ("workers", "resources/service_principals"),
    ("workers", "transport"),
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The module of a file, as [`LAYERS`] names it.
fn module_of(path: &str) -> &str {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let depth = if path.starts_with("resources/") { 2 } else { 1 };
    let ends = path.match_indices('/').nth(depth - 1).map(|(at, _)| at);
    let module = ends.map_or(path, |at| &path[..at]);
    if module == "resources/mod" { "resources" } else { module }
}

/// The first name of a path.
fn first(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

/// The modules that a path after `crate::` names: of `resources::{a::X, b}` both.
fn named(path: &str) -> Vec<String> {
    let top = first(path);
    let Some(rest) = path.strip_prefix("resources::") else { return vec![top.to_owned()] };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![format!("resources/{}", first(rest))];
    };
    let mut depth = 0;
    let mut names = vec![format!("resources/{}", first(group.trim_start()))];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let next = first(group[at + 1..].trim_start());
                names.extend((!next.is_empty()).then(|| format!("resources/{next}")));
            }
            _ => {}
        }
    }
    names
}

#[test]
fn layers_point_down() {
    let mut faults = Faults::default();
    let mut needed = BTreeSet::new();
    for file in rust(&["src"]) {
        let module = module_of(&file.path);
        let Some(own) = layer(module) else {
            faults.add(&file.path, 1, &format!("give `{module}` its place in LAYERS"));
            continue;
        };
        let text: Vec<&str> = file.lines().map(|(_, line)| code(line).trim()).collect();
        let text = text.join(" ");
        for (at, found) in text.match_indices("crate::") {
            if !says(&text[..at + found.len()][at.saturating_sub(1)..], "crate::") {
                continue;
            }
            for other in named(&text[at + found.len()..]) {
                let below = layer(&other).is_none_or(|other| other < own);
                if below || other == module {
                    continue;
                }
                if let Some(up) = UP.iter().find(|up| **up == (module, other.as_str())) {
                    needed.insert(*up);
                } else {
                    let rule = format!("`{module}` imports `{other}`, which is not below it");
                    faults.add(&file.path, 1, &rule);
                }
            }
        }
    }
    for (from, to) in UP.iter().filter(|up| !needed.contains(*up)) {
        faults.add("tests/it/tidy/layers.rs", 1, &format!("`{from}` no longer imports `{to}`"));
    }
    faults.assert_none();
}

#[test]
fn a_group_of_resources_names_each_of_them() {
    assert_eq!(named("access::roles"), ["access"]);
    assert_eq!(named("resources::users::domain"), ["resources/users"]);
    let group = "resources::{ users::{self, admins}, groups, }; use crate::x";
    assert_eq!(named(group), ["resources/users", "resources/groups"]);
    assert_eq!(module_of("src/resources/users/domain.rs"), "resources/users");
    assert_eq!(module_of("src/resources/mod.rs"), "resources");
    assert_eq!(module_of("src/role.rs"), "role");
}
