//! Bad input on every field of every rpc of policies, approvals and approval workflows: each is refused with the field
//! or a reason, and nothing is stored. A new rpc, or a new field of a request, fails until it has a row here.

mod approvals;
mod policies;
mod workflows;

use std::collections::BTreeSet;

use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor};
use serde_json::{Value, json};
use shoreguard::access::policy::{METHODS, Method};
use shoreguard::pb::descriptors;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::Simulator;
use tonic::Code;

use crate::approval_workflows::{operators, request as workflow_request, set};
use crate::policies::{GATEWAYS, seeded};
use crate::policy_pins::{pin, pin_request};
use crate::policy_writes::merge;
use crate::support::dump;
use crate::support::server::{TestServer, reason};

/// Tables in which a refused call must store nothing.
const TABLES: [&str; 7] = [
    "approval_decisions",
    "approval_rounds",
    "approval_workflows",
    "operations",
    "policy_apply_proposals",
    "policy_pins",
    "write_intents",
];

const INVALID: &str = "INVALID_FIELD";
const NOT_FOUND: &str = "NOT_FOUND";
const STALE_ETAG: &str = "CONCURRENT_CHANGE";

/// A request with one bad field.
struct Row {
    /// Name of the rpc.
    method: &'static str,
    /// Path of the bad field in the descriptor of the request.
    field: String,
    /// Fields of the request that replace those of the valid one.
    change: Value,
    /// Reason of the refusal.
    reason: &'static str,
    /// What the message names if the reason is [`INVALID`].
    named: String,
}

/// Returns a row whose field is refused as invalid under its own name.
fn invalid(method: &'static str, field: &str, value: impl Into<Value>) -> Row {
    row(method, field, value, INVALID)
}

/// Returns a row of a field of the request itself, with a reason.
fn row(method: &'static str, field: &str, value: impl Into<Value>, reason: &'static str) -> Row {
    let mut change = serde_json::Map::new();
    change.insert(field.to_owned(), value.into());
    let change = Value::Object(change);
    Row { method, field: field.to_owned(), change, reason, named: field.to_owned() }
}

/// Returns a row of a nested field, which the message names in another way, with the whole change of the request.
fn nested(method: &'static str, field: &str, named: &str, change: Value) -> Row {
    Row { method, field: field.to_owned(), change, reason: INVALID, named: named.to_owned() }
}

/// Returns a text of a number of characters.
fn long(characters: usize) -> String {
    "a".repeat(characters)
}

/// Returns the rows of the fields that name a sandbox which must exist.
fn sandbox_rows(method: &'static str) -> Vec<Row> {
    let mut rows = place_rows(method);
    rows.push(row(method, "sandbox", "nowhere", NOT_FOUND));
    rows
}

/// Returns the rows of the fields that name a sandbox, which need not exist.
fn place_rows(method: &'static str) -> Vec<Row> {
    let mut rows = scope_rows(method);
    rows.push(invalid(method, "sandbox", ""));
    rows
}

/// Returns the rows of the fields that name a gateway, a workspace or a sandbox.
fn scope_rows(method: &'static str) -> Vec<Row> {
    vec![
        invalid(method, "gateway", ""),
        invalid(method, "gateway", "a\0"),
        row(method, "gateway", "nowhere", NOT_FOUND),
        row(method, "gateway", long(254), NOT_FOUND),
        invalid(method, "workspace", "-a"),
        invalid(method, "workspace", "a b"),
        invalid(method, "workspace", long(254)),
        invalid(method, "workspace", "a\0"),
        invalid(method, "sandbox", "a/b"),
        invalid(method, "sandbox", long(254)),
        invalid(method, "sandbox", "a\0"),
    ]
}

/// Returns the rows of the fields of a page.
fn page_rows(method: &'static str) -> Vec<Row> {
    vec![
        invalid(method, "page_size", -1),
        invalid(method, "page_size", i32::MIN),
        invalid(method, "page_token", "not a token"),
        invalid(method, "page_token", long(100_000)),
        invalid(method, "page_token", "a\0"),
    ]
}

/// Returns the rows of the idempotency key.
fn request_id_rows(method: &'static str) -> Vec<Row> {
    vec![
        invalid(method, "request_id", "not a UUID"),
        invalid(method, "request_id", long(10_000)),
        invalid(method, "request_id", "\0"),
    ]
}

/// Returns the method of a service with this name.
fn method(service: &str, name: &str) -> &'static Method {
    let path = format!("/shoreguard.v1.{service}/{name}");
    METHODS.iter().find(|method| method.path == path).unwrap_or_else(|| panic!("{path}"))
}

/// Adds the paths of all fields of a message whose values can be wrong. Every value of a flag is valid.
fn collect_fields(message: &MessageDescriptor, prefix: &str, found: &mut BTreeSet<String>) {
    for field in message.fields() {
        let (path, kind) = (format!("{prefix}{}", field.name()), field.kind());
        let inner = kind.as_message().filter(|inner| inner.full_name().starts_with("shoreguard."));
        if let Some(inner) = inner {
            collect_fields(inner, &format!("{path}."), found);
        } else if kind != Kind::Bool {
            found.insert(path);
        }
    }
}

/// Asserts that each field of each rpc of a service has a row, and that each row has a field.
fn assert_complete(service: &str, rows: &[Row]) {
    let pool = descriptors::OWN.pool();
    let described = pool.get_service_by_name(&format!("shoreguard.v1.{service}")).unwrap();
    let (mut missing, mut known) = (Vec::new(), BTreeSet::new());
    for rpc in described.methods() {
        let mut fields = BTreeSet::new();
        collect_fields(&rpc.input(), "", &mut fields);
        for field in fields {
            let is_tested = rows.iter().any(|row| row.method == rpc.name() && row.field == field);
            if !is_tested {
                missing.push(format!("{}.{field}", rpc.name()));
            }
        }
        known.insert(rpc.name().to_owned());
    }
    assert!(missing.is_empty(), "without bad input: {missing:?}");
    for row in rows {
        assert!(known.contains(row.method), "{service} has no rpc {}", row.method);
    }
}

/// Encodes a valid request with the change of a row.
fn encode(method: &Method, valid: &Value, row: &Row) -> Vec<u8> {
    let mut content = valid.clone();
    let changed = row.change.as_object().unwrap().clone();
    content.as_object_mut().unwrap().extend(changed);
    let descriptor = descriptors::OWN.pool().get_message_by_name(method.request).unwrap();
    let built = DynamicMessage::deserialize(descriptor, &content);
    built.unwrap_or_else(|error| panic!("{content}: {error}")).encode_to_vec()
}

async fn stored(sg: &TestServer) -> Vec<String> {
    let mut tables = Vec::new();
    for table in TABLES {
        tables.push(dump::table(&sg.app.db, table).await);
    }
    tables
}

/// Calls each rpc of a service with each bad field. `valid` returns a valid request of an rpc.
async fn refuse_all(sg: &TestServer, service: &str, rows: &[Row], valid: impl Fn(&str) -> Value) {
    assert_complete(service, rows);
    refuse_each(sg, service, rows, valid).await;
}

/// Does the same as [`refuse_all`] with some of the rows.
async fn refuse_each(sg: &TestServer, service: &str, rows: &[Row], valid: impl Fn(&str) -> Value) {
    let admin = sg.admin();
    let before = stored(sg).await;
    let mut faults = Vec::new();
    for row in rows {
        let method = method(service, row.method);
        let message = encode(method, &valid(row.method), row);
        let answer = admin.call_raw(method.path, method.streaming, message, &[]).await;
        let is_expected = |status: &tonic::Status| {
            let is_invalid = status.code() == Code::InvalidArgument;
            let names = status.message().contains(&format!("`{}`", row.named));
            reason(status) == row.reason && (row.reason != INVALID || (is_invalid && names))
        };
        if !answer.as_ref().is_err_and(is_expected) {
            let change: String = row.change.to_string().chars().take(120).collect();
            let answer = answer.map(|_| "it is accepted");
            faults.push(format!("{} {change}: {answer:?}", row.method));
        }
    }
    assert!(faults.is_empty(), "{} rows:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(stored(sg).await, before, "nothing is stored");
}

/// Starts `edge`. Its sandbox `coder` is under a workflow, has a proposal, and is pinned. Returns the gateway, and the
/// approval with its digest.
async fn scene(sg: &TestServer) -> (Simulator, i64, String) {
    let simulator = seeded(sg, "edge", GATEWAYS[1].1).await;
    sg.create_user("ana@example.com", pb::Role::Operator).await;
    let admin = sg.admin();
    set(&admin, workflow_request("", "coder", operators(1))).await.unwrap();
    let proposed = merge(&admin, "edge", "one.example").await.unwrap();
    let pinned = pin(&admin, pin_request(None)).await.unwrap().policy_pin.unwrap();
    assert_ne!(pinned.pinned_version, 0, "no job completes it later");
    (simulator, proposed.approval_id, proposed.approval_digest)
}

server_tests! {
    bad_input_to_approvals_is_refused_with_its_field,
    bad_input_to_approval_workflows_is_refused_with_its_field,
}

/// The policy service has so many fields that its rows are tested in two parts.
mod bad_input_to_policies_is_refused_with_its_field {
    use super::*;

    server_tests! { reads, changes }

    async fn reads(sg: TestServer) {
        refuse(sg, true).await;
    }

    async fn changes(sg: TestServer) {
        refuse(sg, false).await;
    }

    async fn refuse(sg: TestServer, reads: bool) {
        let (simulator, ..) = scene(&sg).await;
        let mut rows = policies::rows();
        assert_complete("PolicyService", &rows);
        let is_read = |row: &Row| {
            ["Get", "List", "Diff", "Export"].iter().any(|of| row.method.starts_with(of))
        };
        rows.retain(|row| is_read(row) == reads);
        refuse_each(&sg, "PolicyService", &rows, policies::valid).await;
        simulator.stop().await;
        sg.finish().await;
    }
}

async fn bad_input_to_approvals_is_refused_with_its_field(sg: TestServer) {
    let (simulator, approval, digest) = scene(&sg).await;
    let valid = |method: &str| approvals::valid(method, approval, &digest);
    refuse_all(&sg, "ApprovalService", &approvals::rows(&digest), valid).await;
    simulator.stop().await;
    sg.finish().await;
}

async fn bad_input_to_approval_workflows_is_refused_with_its_field(sg: TestServer) {
    let (simulator, ..) = scene(&sg).await;
    refuse_all(&sg, "ApprovalWorkflowService", &workflows::rows(), workflows::valid).await;
    simulator.stop().await;
    sg.finish().await;
}

/// Returns an empty object, for requests that are valid without a field.
fn nothing() -> Value {
    json!({})
}
