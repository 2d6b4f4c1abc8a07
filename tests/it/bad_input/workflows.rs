//! Bad fields of the rpcs about approval workflows.

use serde_json::{Value, json};

use super::{
    NOT_FOUND, Row, STALE_ETAG, invalid, long, nested, nothing, page_rows, place_rows,
    request_id_rows, row, scope_rows,
};

/// Returns the rule of one operator.
fn rule() -> Value {
    json!({ "groups": [{ "name": "approvers", "required": 1, "voters": {} }] })
}

/// Returns a valid request about the workflow of `coder`.
pub(super) fn valid(method: &str) -> Value {
    let place = json!({ "gateway": "edge", "sandbox": "coder" });
    match method {
        "ListWorkflows" => nothing(),
        "SetWorkflow" => json!({ "gateway": "edge", "sandbox": "coder", "rule": rule() }),
        _ => place,
    }
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for method in ["SetWorkflow", "GetWorkflow", "DeleteWorkflow"] {
        rows.extend(scope_rows(method));
        rows.extend([
            invalid(method, "selector", "access/env=prod"),
            invalid(method, "selector", long(10_000)),
            invalid(method, "selector", "\0"),
        ]);
    }
    for method in ["SetWorkflow", "DeleteWorkflow"] {
        rows.extend(request_id_rows(method));
        rows.extend([
            row(method, "etag", "v99", STALE_ETAG),
            row(method, "etag", long(10_000), STALE_ETAG),
            invalid(method, "etag", "\0"),
        ]);
    }
    rows.extend(place_rows("ExplainWorkflow"));
    rows.extend(page_rows("ListWorkflows"));
    rows.extend([
        row("GetWorkflow", "sandbox", "unknown", NOT_FOUND),
        row("DeleteWorkflow", "sandbox", "unknown", NOT_FOUND),
        row("ListWorkflows", "gateway", "nowhere", NOT_FOUND),
        row("ListWorkflows", "gateway", long(254), NOT_FOUND),
        invalid("ListWorkflows", "gateway", "\0"),
    ]);
    rows.extend(clocks());
    rows.extend(groups());
    rows.extend(voters());
    rows
}

/// Returns a row of a field of the rule, with a value. NUL is named without the positions of lists.
fn of_rule(field: &str, named: &str, rule: Value) -> Row {
    let is_nul = rule.to_string().contains("\\u0000");
    let path = format!("rule.{field}");
    let named = if is_nul { path.clone() } else { format!("rule{named}") };
    let change = Value::Object([("rule".to_owned(), rule)].into_iter().collect());
    nested("SetWorkflow", &path, &named, change)
}

/// Returns the rule with another value of a field.
fn with(field: &str, value: Value) -> Value {
    let mut rule = rule();
    rule.as_object_mut().unwrap().insert(field.to_owned(), value);
    rule
}

fn clocks() -> Vec<Row> {
    let mut rows = vec![nested("SetWorkflow", "rule", "rule", json!({ "rule": null }))];
    for (field, bad) in [
        ("required_groups", vec![2, u32::MAX]),
        ("escalation_timeout_minutes", vec![0, 10_081, u32::MAX]),
        ("expire_minutes", vec![4, 129_601, u32::MAX]),
        ("apply_window_minutes", vec![4, 10_081, u32::MAX]),
        ("grant_minutes_max", vec![0, 5, u32::MAX]),
    ] {
        for value in bad {
            rows.push(of_rule(field, &format!(".{field}"), with(field, json!(value))));
        }
    }
    let field = "rollback_on_load_failure";
    rows.push(of_rule(field, &format!(".{field}"), with(field, json!(true))));
    let escalation = with("escalation", nothing());
    rows.push(of_rule("escalation.role", ".escalation_timeout_minutes", escalation));
    rows
}

/// Returns a group with another value of a field.
fn group(field: &str, value: Value) -> Value {
    let mut group = json!({ "name": "approvers", "required": 1, "voters": {} });
    group.as_object_mut().unwrap().insert(field.to_owned(), value);
    group
}

fn groups() -> Vec<Row> {
    let of = |groups: Value| with("groups", groups);
    let numbered: Vec<Value> = (0..9).map(|n| group("name", json!(format!("g{n}")))).collect();
    let mut rows = vec![
        of_rule("groups.name", ".groups", of(json!([]))),
        of_rule("groups.name", ".groups", of(json!(numbered))),
        of_rule(
            "groups.name",
            ".groups[1].name",
            of(json!([group("required", json!(1)), group("required", json!(1))])),
        ),
        of_rule(
            "groups.voters.role",
            ".groups[0].voters",
            of(json!([{ "name": "approvers", "required": 1 }])),
        ),
    ];
    for (field, bad) in [
        ("name", vec![json!(""), json!(long(65)), json!("a\nb"), json!("\0")]),
        ("required", vec![json!(0), json!(21), json!(u32::MAX)]),
    ] {
        for value in bad {
            let groups = of(json!([group(field, value)]));
            rows.push(of_rule(&format!("groups.{field}"), &format!(".groups[0].{field}"), groups));
        }
    }
    // Each is within its limit, and together they are not.
    let three: Vec<Value> =
        (0..3).map(|n| json!({ "name": format!("g{n}"), "required": 7, "voters": {} })).collect();
    rows.push(of_rule("groups.required", ".groups", of(json!(three))));
    rows
}

/// Returns the rows of the voters of a group, and of the escalation.
fn voters() -> Vec<Row> {
    let mut rows = Vec::new();
    let in_group = |set: Value| with("groups", json!([group("voters", set)]));
    let in_escalation = |set: Value| {
        let mut rule = with("escalation", set);
        let timeout = json!(60);
        rule.as_object_mut().unwrap().insert("escalation_timeout_minutes".to_owned(), timeout);
        rule
    };
    let mut add = |field: &str, named: &str, set: &Value| {
        let path = format!("groups.voters.{field}");
        rows.push(of_rule(&path, &format!(".groups[0].voters{named}"), in_group(set.clone())));
        let path = format!("escalation.{field}");
        rows.push(of_rule(&path, &format!(".escalation{named}"), in_escalation(set.clone())));
    };
    for role in [json!(99), json!(-1), json!("ROLE_NONE")] {
        add("role", ".role", &json!({ "role": role }));
    }
    for field in ["users", "groups", "service_principals"] {
        for name in ["", "unknown", "unknown@example.com", "\0", &long(10_000)] {
            add(field, &format!(".{field}[0]"), &json!({ (field): [name] }));
        }
        add(field, "", &json!({ (field): vec!["unknown"; 51] }));
    }
    add("users", ".users[1]", &json!({ "users": vec!["ana@example.com"; 2] }));
    rows
}
