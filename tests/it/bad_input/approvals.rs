//! Bad fields of the rpcs about approvals and votes.

use serde_json::{Value, json};

use super::{
    INVALID, NOT_FOUND, Row, invalid, long, nested, nothing, page_rows, place_rows,
    request_id_rows, row,
};

/// The rpcs about one approval.
const OF_ONE: [&str; 5] =
    ["EditChunk", "GetApproval", "ListApprovalDecisions", "Vote", "WithdrawProposal"];

/// Returns a valid request about an approval.
pub(super) fn valid(method: &str, approval: i64, digest: &str) -> Value {
    let ballot = json!({
        "approval_id": approval, "digest": digest, "decision": "VOTE_DECISION_APPROVE"
    });
    match method {
        "ListApprovals" | "WatchApprovals" => nothing(),
        "ClearChunks" | "GetApprovalHistory" => json!({ "gateway": "edge", "sandbox": "coder" }),
        "Vote" => ballot,
        "EditChunk" => json!({ "approval_id": approval, "rule": "endpoints: []" }),
        "UndoChunk" => json!({ "gateway": "edge", "sandbox": "coder", "chunk_id": "chunk" }),
        "VoteMany" => json!({ "gateway": "edge", "ballots": [ballot] }),
        _ => json!({ "approval_id": approval }),
    }
}

pub(super) fn rows(digest: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(page_rows("ListApprovals"));
    rows.extend(page_rows("ListApprovalDecisions"));
    rows.extend(page_rows("GetApprovalHistory"));
    rows.extend(place_rows("GetApprovalHistory"));
    for method in ["ListApprovals", "WatchApprovals"] {
        rows.extend(filters(method));
    }
    rows.push(invalid("WatchApprovals", "cursor", -1));
    rows.push(invalid("WatchApprovals", "cursor", i64::MIN));
    for method in OF_ONE {
        rows.extend([
            invalid(method, "approval_id", 0),
            invalid(method, "approval_id", -1),
            row(method, "approval_id", i64::MAX, NOT_FOUND),
        ]);
    }
    for method in ["UndoChunk", "ClearChunks"] {
        rows.extend(place_rows(method));
    }
    for chunk in [String::new(), "a:b".to_owned(), long(101), "a\0".to_owned()] {
        rows.push(invalid("UndoChunk", "chunk_id", chunk));
    }
    for comment in [long(1_001), "\u{7}".to_owned(), "\0".to_owned()] {
        rows.push(invalid("UndoChunk", "comment", comment));
    }
    for rule in [String::new(), "\0".to_owned(), long(65 * 1024)] {
        rows.push(invalid("EditChunk", "rule", rule));
    }
    rows.push(invalid("EditChunk", "etag", "\0"));
    for method in ["ClearChunks", "EditChunk", "UndoChunk", "Vote", "VoteMany", "WithdrawProposal"]
    {
        rows.extend(request_id_rows(method));
    }
    for (field, value, reason) in ballots() {
        let change = json!({ field: value });
        let named = if reason == INVALID { field } else { "" };
        rows.push(Row { reason, ..nested("Vote", field, named, change) });
    }
    rows.push(nested(
        "Vote",
        "comment",
        "comment",
        json!({ "decision": "VOTE_DECISION_REJECT", "comment": " " }),
    ));
    rows.extend([
        invalid("WithdrawProposal", "comment", long(1_001)),
        invalid("WithdrawProposal", "comment", "\u{7}"),
        invalid("WithdrawProposal", "comment", "\0"),
    ]);
    rows.extend(vote_many(digest));
    rows
}

/// Returns bad values of the fields of a vote other than its approval, and the reasons of their refusal.
fn ballots() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("digest", json!(""), INVALID),
        ("digest", json!("g".repeat(64)), INVALID),
        ("digest", json!(long(65)), INVALID),
        ("digest", json!("\0"), INVALID),
        ("digest", json!("0".repeat(64)), "REVIEW_STALE"),
        ("decision", json!(0), INVALID),
        ("decision", json!(99), INVALID),
        ("decision", json!(-1), INVALID),
        ("comment", json!(long(1_001)), INVALID),
        ("comment", json!("\u{1b}[2J"), INVALID),
        ("comment", json!("\0"), INVALID),
        ("grant_duration", json!("0s"), INVALID),
        ("grant_duration", json!("-60s"), INVALID),
        ("grant_duration", json!("3600s"), INVALID),
    ]
}

fn filters(method: &'static str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |field: &str, value: Value, reason: &'static str| {
        let path = format!("filter.{field}");
        let change = json!({ "filter": { field: value } });
        rows.push(Row { reason, ..nested(method, &path, &path, change) });
    };
    for field in ["gateway", "workspace", "sandbox"] {
        add(field, json!(long(254)), INVALID);
    }
    for field in ["author", "owner"] {
        add(field, json!(long(301)), INVALID);
    }
    for field in ["gateway", "workspace", "sandbox", "author", "owner"] {
        add(field, json!("a\nb"), INVALID);
        add(field, json!("\0"), INVALID);
    }
    add("gateway", json!("nowhere"), NOT_FOUND);
    for value in [99, -1] {
        add("action", json!(value), INVALID);
        add("state", json!(value), INVALID);
    }
    add("state", json!("APPROVAL_STATE_APPLIED"), INVALID);
    rows
}

fn vote_many(digest: &str) -> Vec<Row> {
    let method = "VoteMany";
    let ballot = |id: i64| json!({ "approval_id": id, "digest": digest, "decision": "VOTE_DECISION_APPROVE" });
    let many: Vec<Value> = (1..=101).map(ballot).collect();
    let mut rows = vec![
        invalid(method, "gateway", ""),
        invalid(method, "gateway", "\0"),
        row(method, "gateway", "nowhere", NOT_FOUND),
        row(method, "gateway", long(254), NOT_FOUND),
        nested(method, "ballots", "ballots", json!({ "ballots": [] })),
        nested(method, "ballots", "ballots", json!({ "ballots": many })),
    ];
    let unknown = json!({ "ballots": [ballot(i64::MAX)] });
    let id = "ballots.approval_id";
    rows.push(Row { reason: NOT_FOUND, ..nested(method, id, "", unknown) });
    for bad in [0, -1] {
        let change = json!({ "ballots": [ballot(bad)] });
        rows.push(nested(method, id, "ballots[0].approval_id", change));
    }
    let twice = json!({ "ballots": [ballot(1), ballot(1)] });
    rows.push(nested(method, id, "ballots[1].approval_id", twice));
    // A digest that is well-formed is compared with that of an approval, which the rows of Vote do.
    for (field, value, reason) in ballots().into_iter().filter(|(.., reason)| *reason == INVALID) {
        let is_nul = value == json!("\0");
        let mut bad = ballot(1);
        bad.as_object_mut().unwrap().insert(field.to_owned(), value);
        let path = format!("ballots.{field}");
        let named = if is_nul { path.clone() } else { format!("ballots[0].{field}") };
        let change = json!({ "ballots": [bad] });
        rows.push(Row { reason, ..nested(method, &path, &named, change) });
    }
    rows
}
