//! Imports point down: a module imports only modules of the layers below its own.

use super::{Faults, contains_word, read_file, rust_files, without_comment};

/// The layers of `src/`, from the bottom to the top. Modules of one layer do not import each other.
const LAYERS: &[&[&str]] = &[
    &["error", "secret", "characters"],
    &[
        "role",
        "names",
        "texts",
        "etag",
        "labels",
        "private_files",
        "safe_paths",
        "status",
        "yaml_files",
    ],
    &["clock"],
    &["seal", "net"],
    &["config"],
    &["telemetry"],
    &["db"],
    &["oidc", "disk", "policy", "templates"],
    &["access"],
    &["fair", "governance"],
    &["digest"],
    &["upstream"],
    &["audit", "outbox"],
    &["app"],
    &["feed"],
    &["ctx"],
    &["openshell", "workers"],
    &["rpc"],
    &["resources/sessions"],
    &["resources/access_bindings"],
    &[
        "resources/audit",
        "resources/bypass_events",
        "resources/events",
        "resources/sboms",
        "resources/device_codes",
        "resources/operations",
        "resources/service_principals",
        "resources/stored_rules",
        "resources/users",
        "resources/write_intents",
    ],
    &["resources/approvals"],
    &["resources/policy_pins", "resources/approval_workflows", "resources/webhooks"],
    &[
        "resources/groups",
        "resources/auth",
        "resources/boot_hooks",
        "resources/gateway_tokens",
        "resources/policies",
        "resources/unlock",
    ],
    &["resources/sandboxes"],
    &["resources/gateways"],
    &["resources/followers"],
    &["resources"],
    &["proxy", "token_service"],
    &["server"],
    &["boot"],
    &["cli"],
    &["lib", "main"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Returns the module of a file, as named in [`LAYERS`].
fn module_of(path: &str) -> &str {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let depth = if path.starts_with("resources/") { 2 } else { 1 };
    let ends = path.match_indices('/').nth(depth - 1).map(|(at, _)| at);
    let module = ends.map_or(path, |at| &path[..at]);
    if module == "resources/mod" { "resources" } else { module }
}

/// Returns the first name of a path.
fn first(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

/// Returns the modules that a path after `crate::` names. For `resources::{a::X, b}`, both are returned.
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
fn the_architecture_lists_every_layer_in_order() {
    let text = read_file("ARCHITECTURE.md").text;
    let table = text.split("| layer | what |").nth(1).unwrap();
    let mut rows = table.lines().filter(|line| line.starts_with("| `"));
    for layer in LAYERS.iter().filter(|layer| !layer[0].starts_with("resources")) {
        let row = rows.by_ref().find(|row| !row.starts_with("| `resources/")).unwrap();
        let shown = row.split('|').nth(1).unwrap();
        for module in *layer {
            let is_there =
                ["/`", ".rs`"].iter().any(|end| shown.contains(&format!("`{module}{end}")));
            assert!(is_there, "`{module}` is not in the row{shown}");
        }
    }
}

#[test]
fn modules_import_only_from_lower_layers() {
    let mut faults = Faults::default();
    for file in rust_files(&["src"]) {
        let module = module_of(&file.path);
        let Some(own) = layer(module) else {
            faults.add(&file.path, 1, &format!("give `{module}` its place in LAYERS"));
            continue;
        };
        let text: Vec<&str> = file.lines().map(|(_, line)| without_comment(line).trim()).collect();
        let text = text.join(" ");
        for (at, found) in text.match_indices("crate::") {
            if !contains_word(&text[..at + found.len()][at.saturating_sub(1)..], "crate::") {
                continue;
            }
            for other in named(&text[at + found.len()..]) {
                let below = layer(&other).is_none_or(|other| other < own);
                if below || other == module {
                    continue;
                }
                let rule = format!("`{module}` imports `{other}`, which is not below it");
                faults.add(&file.path, 1, &rule);
            }
        }
    }
    faults.assert_none();
}

#[test]
fn the_layer_check_parses_grouped_imports() {
    assert_eq!(named("access::roles"), ["access"]);
    assert_eq!(named("resources::users::domain"), ["resources/users"]);
    let group = "resources::{ users::{self, admins}, groups, }; use crate::x";
    assert_eq!(named(group), ["resources/users", "resources/groups"]);
    assert_eq!(module_of("src/resources/users/domain.rs"), "resources/users");
    assert_eq!(module_of("src/resources/mod.rs"), "resources");
    assert_eq!(module_of("src/role.rs"), "role");
}
