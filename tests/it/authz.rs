//! The whole API: every method with every kind of caller, and every write with its audit entry.
//!
//! The table is reviewed like code: its diff is the security review of a change.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use futures_util::future::join_all;
use prost::Message;
use prost_reflect::{DynamicMessage, Kind, Value};
use shoreguard::access::policy::{
    AllowedCallers, AuditMode, METHODS, StreamingMode, UPSTREAM_V0_0, UPSTREAM_V0_1, UpstreamMethod,
};
use shoreguard::pb::descriptors::{self, Descriptors};
use shoreguard::pb::v1 as sg_v1;
use shoreguard::resources::sessions::budget;
use shoreguard_simulator::{Generation, Simulator};
use tonic::Status;

use crate::sboms;
use crate::support::eventually;
use crate::support::limit::start_time_limit;
use crate::support::server::{Caller, TestServer, reason};

/// Time in which an accepted stream may still fail. Shoreguard refuses a stream in its response headers.
const STREAM_TIME: Duration = Duration::from_millis(20);
/// The service whose failed calls delay the next login.
const LOGINS: &str = "/shoreguard.v1.AuthService/";

/// Encodes a request. String fields with a known name get a value that exists, and `request_id` is as given.
fn request(descriptors: &Descriptors, message: &str, gateway: &str, request_id: &str) -> Vec<u8> {
    let descriptor = descriptors.pool().get_message_by_name(message).unwrap();
    let mut built = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields().filter(|f| f.kind() == Kind::String && !f.is_list()) {
        let text = match field.name() {
            "gateway" => gateway,
            "name" | "group" | "sandbox" | "sandbox_name" | "service_principal" => "box",
            "request_id" => request_id,
            _ => continue,
        };
        if !text.is_empty() {
            built.set_field(&field, Value::String(text.to_owned()));
        }
    }
    built.encode_to_vec()
}

/// Summarizes a response in one word.
fn cell(answer: &Result<Option<Vec<u8>>, Status>) -> String {
    let Err(status) = answer else { return "yes".to_owned() };
    let (code, reason) = (status.code(), reason(status));
    // Passed the access check: the error is about the invalid request ID, a missing sandbox or account, or comes from
    // the gateway itself.
    let passed = [
        "",
        "INVALID_FIELD",
        "SANDBOX_UNPLACED",
        "SETTING_UNKNOWN",
        "MALFORMED_MESSAGE",
        "LOGIN_FAILED",
        "ALREADY_SET_UP",
    ];
    let words = [
        ("CREDENTIAL_MISSING", "who?"),
        ("ROLE_TOO_LOW", "no"),
        ("NOT_FOUND", "hidden"),
        ("METHOD_NOT_FORWARDED", "never"),
    ];
    if passed.contains(&reason.as_str()) {
        return "yes".to_owned();
    }
    let word = words.iter().find(|(known, _)| *known == reason);
    word.map_or_else(|| format!("{code:?} {reason}"), |(_, word)| (*word).to_owned())
}

async fn callers(sg: &TestServer) -> Vec<(&'static str, Caller)> {
    let admin = sg.admin();
    let nobody = admin.create_key("nobody", sg_v1::Role::None).await;
    let viewer = admin.create_key("viewer", sg_v1::Role::Viewer).await;
    let operator = admin.create_key("operator", sg_v1::Role::Operator).await;
    let here = admin.create_key("here", sg_v1::Role::None).await;
    admin.bind("here", "edge", sg_v1::Role::Admin).await;
    admin.create_key("box", sg_v1::Role::None).await;
    let group = sg_v1::CreateGroupRequest {
        name: "box".into(),
        role: sg_v1::Role::None.into(),
        ..Default::default()
    };
    admin.groups().create_group(group).await.unwrap();
    let other = admin.create_key("other", sg_v1::Role::None).await;
    admin.bind("other", "elsewhere", sg_v1::Role::Admin).await;
    vec![
        ("anonymous", sg.anonymous()),
        ("none", sg.with_token(&nobody)),
        ("viewer", sg.with_token(&viewer)),
        ("operator", sg.with_token(&operator)),
        ("other's admin", sg.with_token(&other)),
        ("its admin", sg.with_token(&here)),
        ("admin", admin),
    ]
}

/// Returns the first line of a table.
fn table_head(callers: &[(&'static str, Caller)]) -> String {
    let names: Vec<&str> = callers.iter().map(|(name, _)| *name).collect();
    format!("{:<64} {}\n", "method", names.join(" | "))
}

/// Calls a method. Returns its response in one word.
async fn call(
    caller: &Caller,
    (path, streaming): (&'static str, StreamingMode),
    bytes: &[u8],
    to: &[(&'static str, &str)],
) -> String {
    cell(&caller.call_raw_within(STREAM_TIME, path, streaming, bytes.to_vec(), to).await)
}

/// Calls a method as each caller. Streams are open at the same time, since an accepted one is waited for.
async fn call_as_each(
    callers: &[(&'static str, Caller)],
    (path, streaming): (&'static str, StreamingMode),
    bytes: &[u8],
    to: &[(&'static str, &str)],
) -> String {
    let cells = match streaming {
        StreamingMode::Server | StreamingMode::Both => {
            let calls =
                callers.iter().map(|(_, caller)| call(caller, (path, streaming), bytes, to));
            join_all(calls).await
        }
        StreamingMode::Unary | StreamingMode::Client => {
            let mut cells = Vec::new();
            for (_, caller) in callers {
                cells.push(call(caller, (path, streaming), bytes, to).await);
            }
            cells
        }
    };
    cells.join(" | ")
}

/// Returns the table of Shoreguard's own methods.
async fn own_table(sg: &TestServer, callers: &[(&'static str, Caller)]) -> String {
    let mut table = table_head(callers);
    for method in METHODS {
        let bytes = request(&descriptors::OWN, method.request, "edge", "not a UUID");
        let cells = call_as_each(callers, (method.path, method.streaming), &bytes, &[]).await;
        // All callers share one address, so the failures of one must not slow down the next.
        if method.path.starts_with(LOGINS) {
            sg.app
                .db
                .transaction(async |conn| budget::clear_account(&sg.app, conn, "").await)
                .await
                .unwrap();
        }
        let public = if method.access == AllowedCallers::Public { " (public)" } else { "" };
        writeln!(table, "{:<64} {cells}{public}", method.path).unwrap();
    }
    table
}

/// Returns the table of the methods that are forwarded to a gateway.
async fn proxied_table(
    callers: &[(&'static str, Caller)],
    gateway: &str,
    rows: &[UpstreamMethod],
    descriptors: &Descriptors,
) -> String {
    let mut table = table_head(callers);
    for row in rows {
        let bytes = request(descriptors, row.request, "", "");
        let to = [("x-shoreguard-gateway", gateway)];
        let cells = call_as_each(callers, (row.path, row.streaming), &bytes, &to).await;
        writeln!(table, "{:<64} {cells}", row.path).unwrap();
    }
    table
}

async fn fleet(sg: &TestServer) -> Vec<Simulator> {
    let mut fleet = Vec::new();
    for (name, generation) in [
        ("edge", Generation::V0_1),
        ("elsewhere", Generation::V0_1),
        ("edge-0-0", Generation::V0_0),
    ] {
        let simulator = sg.start_gateway(name, generation).await;
        fleet.push(simulator);
    }
    sg.admin().upload("edge", "box", sboms::file("python-1.6")).await;
    fleet
}

server_tests! { every_write_leaves_a_closed_audit_entry }

// Access is decided in memory, so one engine is enough.
sqlite_tests! {
    every_method_is_callable_by_exactly_its_documented_roles,
    every_v0_0_method_is_forwarded_for_exactly_its_documented_roles,
    every_v0_1_method_is_forwarded_for_exactly_its_documented_roles,
}

async fn every_method_is_callable_by_exactly_its_documented_roles(sg: TestServer) {
    let fleet = fleet(&sg).await;
    let callers = callers(&sg).await;
    let table = own_table(&sg, &callers).await;
    insta::assert_snapshot!("who_may_call_what", table);
    drop(callers);
    stop(fleet).await;
    sg.finish().await;
}

async fn every_v0_0_method_is_forwarded_for_exactly_its_documented_roles(sg: TestServer) {
    let fleet = fleet(&sg).await;
    let callers = callers(&sg).await;
    let table = proxied_table(&callers, "edge-0-0", UPSTREAM_V0_0, &descriptors::V0_0).await;
    insta::assert_snapshot!("who_may_call_what_on_v0_0", table);
    drop(callers);
    stop(fleet).await;
    sg.finish().await;
}

async fn every_v0_1_method_is_forwarded_for_exactly_its_documented_roles(sg: TestServer) {
    let fleet = fleet(&sg).await;
    let callers = callers(&sg).await;
    let table = proxied_table(&callers, "edge", UPSTREAM_V0_1, &descriptors::V0_1).await;
    insta::assert_snapshot!("who_may_call_what_on_v0_1", table);
    drop(callers);
    stop(fleet).await;
    sg.finish().await;
}

async fn stop(fleet: Vec<Simulator>) {
    for simulator in fleet {
        simulator.stop().await;
    }
}

async fn every_write_leaves_a_closed_audit_entry(sg: TestServer) {
    let fleet = fleet(&sg).await;
    let admin = sg.admin();
    let mut written = Vec::new();
    // Failed calls of public methods are counted, not recorded.
    let recorded = METHODS
        .iter()
        .filter(|m| m.audit == AuditMode::Write && m.access != AllowedCallers::Public)
        .collect::<Vec<_>>();
    sg.register_gateway("box-0", fleet[0].addr()).await;
    sg.copy_gateway("box-0", (1..recorded.len()).map(|n| format!("box-{n}"))).await;
    for (n, method) in recorded.into_iter().enumerate() {
        let bytes = request(&descriptors::OWN, method.request, &format!("box-{n}"), "");
        let _ = admin.call_raw(method.path, method.streaming, bytes, &[]).await;
        written.push(method.path);
    }
    let of_guard = |row: &&UpstreamMethod| {
        row.policy.as_ref().is_some_and(|guard| guard.audit == AuditMode::Write)
    };
    for row in UPSTREAM_V0_1.iter().filter(of_guard) {
        let bytes = request(&descriptors::V0_1, row.request, "", "");
        let _ = admin
            .call_raw(row.path, row.streaming, bytes, &[("x-shoreguard-gateway", "edge")])
            .await;
        written.push(row.path);
    }
    // The outcome of a stream is recorded after its caller has left.
    eventually("each entry is closed", || async {
        let open = sg_v1::ListAuditEntriesRequest {
            outcome: sg_v1::AuditOutcome::Open.into(),
            ..Default::default()
        };
        let open = admin.audit().list_audit_entries(open).await.unwrap();
        open.into_inner().audit_entries.is_empty()
    })
    .await;
    sg.app.audit.wait_settled().await;

    let mut seen: BTreeMap<String, i32> = BTreeMap::new();
    let mut token = String::new();
    loop {
        let request = sg_v1::ListAuditEntriesRequest {
            page_size: 1000,
            page_token: token,
            ..Default::default()
        };
        let page = admin.audit().list_audit_entries(request).await.unwrap().into_inner();
        for entry in page.audit_entries {
            assert_ne!(entry.outcome(), sg_v1::AuditOutcome::Open, "{entry:?}");
            seen.insert(entry.method, entry.outcome);
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let missing: Vec<_> = written.iter().filter(|path| !seen.contains_key(**path)).collect();
    assert!(missing.is_empty(), "no record of {missing:?}");
    stop(fleet).await;
    sg.finish().await;
}

#[test]
fn watch_events_is_classified_as_a_server_stream() {
    let _limit = start_time_limit();
    let watch = METHODS.iter().find(|m| m.path.ends_with("/WatchEvents")).unwrap();
    assert_eq!(watch.streaming, StreamingMode::Server);
}
