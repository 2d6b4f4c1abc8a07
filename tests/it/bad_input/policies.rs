//! Bad fields of the rpcs about policies, presets and pins.

use serde_json::{Value, json};
use shoreguard::policy::DOCUMENT_BYTES_MAX;

use super::{
    NOT_FOUND, Row, STALE_ETAG, invalid, long, nested, nothing, page_rows, place_rows,
    request_id_rows, row, sandbox_rows,
};

/// The rpcs that change a policy.
const CHANGES: [&str; 4] = ["ApplyPolicy", "EditPolicy", "ApplyPolicyPreset", "RevertPolicy"];

/// Returns a valid request. Changes are validated only, so that a row that is accepted by mistake changes nothing.
pub(super) fn valid(method: &str) -> Value {
    let place = json!({ "gateway": "edge", "sandbox": "coder" });
    let with = |fields: Value| {
        let mut request = place.clone();
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        request
    };
    match method {
        "ListPolicyPresets" | "ListPolicyPins" => nothing(),
        "GetPolicyPreset" => json!({ "policy_preset": "pypi" }),
        "DiffPolicies" => with(json!({ "from": { "version": 1 }, "to": { "version": 2 } })),
        "ApplyPolicy" => with(json!({ "yaml": "version: 1", "validate_only": true })),
        "EditPolicy" => {
            let edit = json!({ "remove_rule": { "rule_name": "web" } });
            with(json!({ "policy_edits": [edit], "validate_only": true }))
        }
        "ApplyPolicyPreset" => with(json!({ "policy_preset": "pypi", "validate_only": true })),
        "RevertPolicy" => with(json!({ "version": 1, "validate_only": true })),
        _ => place,
    }
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = reads();
    for method in CHANGES {
        rows.extend(sandbox_rows(method));
        rows.extend(request_id_rows(method));
        rows.extend([
            invalid(method, "etag", long(1_025)),
            invalid(method, "etag", "\0"),
            row(method, "etag", "stale", STALE_ETAG),
            invalid(method, "comment", long(1_001)),
            invalid(method, "comment", "a\nb"),
            invalid(method, "comment", "\0"),
            invalid(method, "grant_duration", "0s"),
            invalid(method, "grant_duration", "-60s"),
            invalid(method, "grant_duration", "3600s"),
        ]);
    }
    rows.extend([
        invalid("ApplyPolicy", "yaml", ""),
        invalid("ApplyPolicy", "yaml", "a: 1"),
        invalid("ApplyPolicy", "yaml", "- a"),
        invalid("ApplyPolicy", "yaml", "\0"),
        invalid("ApplyPolicy", "yaml", long(DOCUMENT_BYTES_MAX + 1)),
        invalid("ApplyPolicy", "mode", 9),
        invalid("ApplyPolicy", "mode", -1),
        invalid("ApplyPolicyPreset", "policy_preset", ""),
        invalid("ApplyPolicyPreset", "policy_preset", long(10_000)),
        invalid("ApplyPolicyPreset", "policy_preset", "\0"),
        row("ApplyPolicyPreset", "policy_preset", "pip", NOT_FOUND),
        invalid("RevertPolicy", "version", 0),
        row("RevertPolicy", "version", 9, NOT_FOUND),
        row("RevertPolicy", "version", u32::MAX, NOT_FOUND),
    ]);
    rows.extend(edits());
    rows.extend(pins());
    rows
}

fn reads() -> Vec<Row> {
    let mut rows = Vec::new();
    for method in ["GetPolicy", "ListPolicyRevisions", "DiffPolicies", "ExportPolicy"] {
        rows.extend(sandbox_rows(method));
    }
    for method in ["ListPolicyRevisions", "ListPolicyPresets", "ListPolicyPins"] {
        rows.extend(page_rows(method));
    }
    let base = json!({ "view": "POLICY_VIEW_BASE", "version": 1 });
    rows.extend([
        invalid("GetPolicy", "view", 9),
        invalid("GetPolicy", "view", -1),
        nested("GetPolicy", "view", "view", base),
        row("GetPolicy", "version", 9, NOT_FOUND),
        row("GetPolicy", "version", u32::MAX, NOT_FOUND),
        row("ExportPolicy", "version", 9, NOT_FOUND),
        invalid("GetPolicyPreset", "policy_preset", ""),
        invalid("GetPolicyPreset", "policy_preset", "\0"),
        row("GetPolicyPreset", "policy_preset", "pip", NOT_FOUND),
        row("GetPolicyPreset", "policy_preset", long(10_000), NOT_FOUND),
    ]);
    for side in ["from", "to"] {
        let (version, yaml) = (format!("{side}.version"), format!("{side}.yaml"));
        let with = |operand: Value| json!({ side: operand });
        let unknown = Row {
            reason: NOT_FOUND,
            ..nested("DiffPolicies", &version, side, with(json!({ "version": 9 })))
        };
        rows.push(unknown);
        rows.push(nested("DiffPolicies", &version, side, with(nothing())));
        let approval = format!("{side}.approval_id");
        let of = |id: i64| {
            nested("DiffPolicies", &approval, &approval, with(json!({ "approval_id": id })))
        };
        rows.extend([of(0), of(-1), of(i64::MIN)]);
        rows.push(Row { reason: NOT_FOUND, ..of(i64::MAX) });
        for bad in
            ["a: 1".to_owned(), "- a".to_owned(), "\0".to_owned(), long(DOCUMENT_BYTES_MAX + 1)]
        {
            rows.push(nested("DiffPolicies", &yaml, &yaml, with(json!({ "yaml": bad }))));
        }
    }
    rows
}

/// Returns a row of a field of the only edit.
fn edit(kind: &str, field: &str, named: &str, content: &Value) -> Row {
    let change = json!({ "policy_edits": [{ kind: content }] });
    let named = format!("policy_edits[0].{kind}{named}");
    nested("EditPolicy", &format!("policy_edits.{kind}.{field}"), &named, change)
}

/// Returns a row of a field of the only edit, with NUL, which is found before the request is parsed.
fn edit_with_nul(kind: &str, field: &str, content: &Value) -> Row {
    let path = format!("policy_edits.{kind}.{field}");
    let change = json!({ "policy_edits": [{ kind: content }] });
    nested("EditPolicy", &path, &path, change)
}

fn edits() -> Vec<Row> {
    let many = vec![json!({ "remove_rule": { "rule_name": "web" } }); 257];
    let rule = "{endpoints: [{host: a.example, port: 443}], binaries: [{path: /bin/x}]}";
    let mut rows = vec![
        nested("EditPolicy", "policy_edits", "policy_edits", json!({ "policy_edits": [] })),
        nested("EditPolicy", "policy_edits", "policy_edits", json!({ "policy_edits": many })),
        nested("EditPolicy", "policy_edits", "policy_edits[0]", json!({ "policy_edits": [{}] })),
        edit("add_rule", "rule_name", ".rule_name", &json!({ "rule_name": " ", "yaml": rule })),
        edit(
            "add_rule",
            "rule_name",
            ".rule_name",
            &json!({ "rule_name": "_provider_a", "yaml": rule }),
        ),
        edit_with_nul("add_rule", "rule_name", &json!({ "rule_name": "\0", "yaml": rule })),
        edit("add_rule", "yaml", ".yaml", &json!({ "rule_name": "a", "yaml": "a: 1" })),
        edit_with_nul("add_rule", "yaml", &json!({ "rule_name": "a", "yaml": "\0" })),
        edit("remove_rule", "rule_name", ".rule_name", &nothing()),
        edit_with_nul("remove_rule", "rule_name", &json!({ "rule_name": "\0" })),
        edit_with_nul(
            "remove_endpoint",
            "rule_name",
            &json!({ "rule_name": "\0", "host": "a", "port": 1 }),
        ),
        edit("remove_endpoint", "host", ".host", &json!({ "port": 443 })),
        edit_with_nul("remove_endpoint", "host", &json!({ "host": "\0", "port": 443 })),
        edit("remove_endpoint", "port", ".port", &json!({ "host": "a.example" })),
        edit("remove_binary", "rule_name", ".rule_name", &json!({ "binary_path": "/bin/x" })),
        edit_with_nul(
            "remove_binary",
            "rule_name",
            &json!({ "rule_name": "\0", "binary_path": "/bin/x" }),
        ),
        edit("remove_binary", "binary_path", ".binary_path", &json!({ "rule_name": "web" })),
        edit_with_nul(
            "remove_binary",
            "binary_path",
            &json!({ "rule_name": "web", "binary_path": "\0" }),
        ),
        edit("add_paths", "read_only", "", &nothing()),
    ];
    for list in ["read_only", "read_write"] {
        rows.push(edit("add_paths", list, &format!(".{list}"), &json!({ list: ["a"] })));
        rows.push(edit("add_paths", list, &format!(".{list}"), &json!({ list: [""] })));
        rows.push(edit_with_nul("add_paths", list, &json!({ list: ["/a\0"] })));
    }
    for kind in ["add_deny_rules", "add_allow_rules"] {
        rows.extend(targets(kind));
    }
    rows
}

/// Returns the rows of an edit that extends an endpoint.
fn targets(kind: &str) -> Vec<Row> {
    let allow = "[{allow: {method: GET, path: /**}}]";
    let deny = "[{method: GET, path: /**}]";
    let yaml = if kind == "add_allow_rules" { allow } else { deny };
    let with = |target: Value| json!({ "target": target, "yaml": yaml });
    let first = json!({ "host": "a.example", "ports": [443] });
    let mut rows = vec![
        edit(kind, "target.host", ".target", &json!({ "yaml": yaml })),
        edit(kind, "target.host", ".target.host", &with(json!({ "ports": [443] }))),
        edit(
            kind,
            "target.rule_name",
            ".target",
            &with(json!({ "rule_name": "web", "host": "a" })),
        ),
        edit(kind, "target.ports", ".target", &with(json!({ "host": "a.example" }))),
        edit(kind, "target.ports", ".target", &with(json!({ "host": "a", "ports": [1, 2] }))),
        edit(kind, "yaml", ".yaml", &json!({ "target": first, "yaml": "a: 1" })),
        edit_with_nul(kind, "yaml", &json!({ "target": first, "yaml": "\0" })),
    ];
    let of_first = |field: &str, value: Value| {
        let mut target = first.clone();
        target.as_object_mut().unwrap().insert(field.to_owned(), value);
        with(target)
    };
    for (field, value) in [("path", json!("/v1")), ("binaries", json!(["/bin/x"]))] {
        let path = format!("target.{field}");
        rows.push(edit(kind, &path, ".target", &of_first(field, value)));
    }
    for (field, value) in [
        ("rule_name", json!("\0")),
        ("host", json!("\0")),
        ("path", json!("\0")),
        ("binaries", json!(["\0"])),
    ] {
        rows.push(edit_with_nul(kind, &format!("target.{field}"), &of_first(field, value)));
    }
    rows
}

fn pins() -> Vec<Row> {
    let mut rows = Vec::new();
    for method in ["PinPolicy", "UnpinPolicy", "GetPolicyPin"] {
        rows.extend(place_rows(method));
    }
    for method in ["PinPolicy", "UnpinPolicy"] {
        rows.extend(request_id_rows(method));
    }
    rows.extend([
        invalid("PinPolicy", "reason", long(1_001)),
        invalid("PinPolicy", "reason", "a\nb"),
        invalid("PinPolicy", "reason", "\0"),
        invalid("PinPolicy", "expire_time", "1970-01-01T00:00:00Z"),
        invalid("PinPolicy", "expire_time", "2001-02-03T04:05:06Z"),
        row("UnpinPolicy", "etag", "v99", STALE_ETAG),
        row("UnpinPolicy", "etag", long(10_000), STALE_ETAG),
        invalid("UnpinPolicy", "etag", "\0"),
        row("UnpinPolicy", "sandbox", "unknown", NOT_FOUND),
        row("GetPolicyPin", "sandbox", "unknown", NOT_FOUND),
        row("ListPolicyPins", "gateway", "nowhere", NOT_FOUND),
        invalid("ListPolicyPins", "gateway", long(254)),
        invalid("ListPolicyPins", "gateway", "\0"),
        invalid("ListPolicyPins", "workspace", long(254)),
        invalid("ListPolicyPins", "workspace", "\0"),
    ]);
    rows
}
