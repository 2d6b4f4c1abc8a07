//! Refused calls of known callers in the audit log: repetitions are counted, and disconnecting does not prevent an
//! entry.

use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::StreamExt;
use prost::Message;
use serde_json::Value;
use shoreguard::access::policy::StreamingMode;
use shoreguard::db::on_conn;
use shoreguard::db::schema::audit_log;
use shoreguard::pb::v0_1::openshell::v1 as v0_1;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::Generation;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::proxy::raw::encode_framed;
use crate::proxy::rogue::{hpack_literal, http2_frame};
use crate::support::server::TestServer;
use crate::support::{eventually, pause, soon};

const LIST_USERS: &str = "/shoreguard.v1.UserService/ListUsers";
/// Number of refused calls in a flood by one principal.
const FLOOD: usize = 400;
/// Maximum number of rows of a flood: two per minute, the first refusal and a count, if it takes less than three
/// minutes.
const ROWS_MAX: usize = 6;
/// Number of calls that are reset.
const HUNG_UP: u32 = 30;
/// Types, flags and an error code of HTTP/2 frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// Returns the number of denied rows of an actor, and the number of calls that they count.
pub(crate) async fn denied_entries(sg: &TestServer, actor: &str) -> (usize, u64) {
    let mut conn = sg.app.db.read().await.unwrap();
    let rows: Vec<Option<String>> = on_conn!(&mut conn, |c| audit_log::table
        .filter(audit_log::actor.eq(actor).and(audit_log::outcome.eq("denied")))
        .select(audit_log::outcome_detail)
        .load(c)
        .await)
    .unwrap();
    (rows.len(), rows.iter().map(|detail| count(detail.as_deref())).sum())
}

/// Returns how many calls of an action were denied. The recorder must have stored its counts.
pub(crate) async fn denied_count(sg: &TestServer, action: &str) -> u64 {
    let mut conn = sg.app.db.read().await.unwrap();
    let rows: Vec<Option<String>> = on_conn!(&mut conn, |c| audit_log::table
        .filter(audit_log::action.eq(action).and(audit_log::outcome.eq("denied")))
        .select(audit_log::outcome_detail)
        .load(c)
        .await)
    .unwrap();
    rows.iter().map(|detail| count(detail.as_deref())).sum()
}

fn count(detail: Option<&str>) -> u64 {
    let detail: Value = serde_json::from_str(detail.unwrap_or("{}")).unwrap();
    detail["count"].as_u64().unwrap_or(1)
}

/// Waits a moment until the server has no more tasks than before.
async fn tasks_are_over(sg: &TestServer, before: usize) {
    let until = Instant::now() + Duration::from_secs(2);
    while sg.app.main_runtime().metrics().num_alive_tasks() > before && Instant::now() < until {
        pause().await;
    }
}

/// Calls a method `HUNG_UP` times, and resets each stream right after its message.
async fn hang_up(
    sg: &TestServer,
    key: &str,
    (path, gateway): (&str, &str),
    message: &impl Message,
) {
    let mut socket = TcpStream::connect(sg.address).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(http2_frame(SETTINGS, 0, 0, &[]));
    // Method and scheme are entries of HPACK's static table.
    let mut headers = vec![0x83, 0x86];
    for (name, value) in [
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &format!("Bearer {key}")),
        ("x-shoreguard-gateway", gateway),
    ] {
        headers.extend(hpack_literal(name, value));
    }
    for n in 0..HUNG_UP {
        let stream = 2 * n + 1;
        // Half of them end their request first.
        let ended = if n % 2 == 0 { END_STREAM } else { 0 };
        bytes.extend(http2_frame(HEADERS, END_HEADERS, stream, &headers));
        bytes.extend(http2_frame(DATA, ended, stream, &encode_framed(message)));
        bytes.extend(http2_frame(RESET, 0, stream, &CANCEL));
    }
    // The server handles streams in order: when the last call has its response, all others were received.
    let last = 2 * HUNG_UP + 1;
    bytes.extend(http2_frame(HEADERS, END_HEADERS, last, &headers));
    bytes.extend(http2_frame(DATA, END_STREAM, last, &encode_framed(message)));
    socket.write_all(&bytes).await.unwrap();
    soon("the last call has a response", answered(&mut socket, last)).await;
}

/// Waits for the response headers on a stream.
async fn answered(socket: &mut TcpStream, stream: u32) {
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        socket.read_exact(&mut payload).await.unwrap();
        let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if head[3] == HEADERS && of == stream {
            return;
        }
    }
}

server_tests! {
    t16_repeated_refusals_of_a_known_caller_are_counted,
    the_first_refusal_of_each_method_and_reason_is_audited_immediately,
    t16_a_refusal_is_recorded_even_if_the_caller_disconnects,
}

async fn t16_repeated_refusals_of_a_known_caller_are_counted(sg: TestServer) {
    let nobody = sg.with_token(&sg.admin().create_key("nobody", pb::Role::None).await);
    let calls = futures_util::stream::iter(0..FLOOD).map(|_| {
        let nobody = nobody.clone();
        async move {
            let refused = nobody.call_raw(LIST_USERS, StreamingMode::Unary, Vec::new(), &[]).await;
            assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
        }
    });
    calls.buffer_unordered(32).collect::<Vec<()>>().await;
    // Stores the counts, as a shutdown does.
    sg.app.audit.drain().await;
    let (rows, total) = denied_entries(&sg, "sp:nobody").await;
    assert_eq!(total, FLOOD as u64);
    assert!(rows <= ROWS_MAX, "{rows} rows");
    sg.finish().await;
}

async fn the_first_refusal_of_each_method_and_reason_is_audited_immediately(sg: TestServer) {
    let nobody = sg.with_token(&sg.admin().create_key("nobody", pb::Role::None).await);
    let groups = "/shoreguard.v1.GroupService/ListGroups";
    for path in [LIST_USERS, groups, LIST_USERS, groups] {
        let refused = nobody.call_raw(path, StreamingMode::Unary, Vec::new(), &[]).await;
        assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
    }
    eventually("two entries", || async { denied_entries(&sg, "sp:nobody").await == (2, 2) }).await;
    sg.app.audit.drain().await;
    assert_eq!(denied_entries(&sg, "sp:nobody").await, (4, 4));
    sg.finish().await;
}

async fn t16_a_refusal_is_recorded_even_if_the_caller_disconnects(sg: TestServer) {
    let mut fleet = Vec::new();
    for name in ["edge", "elsewhere"] {
        let simulator = sg.start_gateway(name, Generation::V0_1).await;
        fleet.push(simulator);
    }
    let admin = sg.admin();
    let before = sg.app.main_runtime().metrics().num_alive_tasks();
    // Each caller has the role on another gateway, so that only the message shows that the call must be refused.
    let read = admin.create_key("read", pb::Role::None).await;
    admin.bind("read", "edge", pb::Role::Admin).await;
    hang_up(&sg, &read, (LIST_USERS, ""), &pb::ListUsersRequest::default()).await;

    let write = admin.create_key("write", pb::Role::None).await;
    admin.bind("write", "edge", pb::Role::Admin).await;
    let unregister =
        pb::UnregisterGatewayRequest { gateway: "elsewhere".into(), ..Default::default() };
    let path = "/shoreguard.v1.GatewayService/UnregisterGateway";
    hang_up(&sg, &write, (path, ""), &unregister).await;

    // Refused before the body is read.
    let gate = admin.create_key("gate", pb::Role::None).await;
    hang_up(&sg, &gate, (LIST_USERS, ""), &pb::ListUsersRequest::default()).await;

    // Proxied: refused because of the content of the message, before and after a connection to the gateway is open.
    let setting_key = "proposal_approval_mode".to_owned();
    let update =
        v0_1::UpdateConfigRequest { sandbox: "box".into(), setting_key, ..Default::default() };
    let path = "/openshell.v1.OpenShell/UpdateConfig";
    for name in ["cold", "warm"] {
        let operator = admin.create_key(name, pb::Role::None).await;
        admin.bind(name, "edge", pb::Role::Operator).await;
        hang_up(&sg, &operator, (path, "edge"), &update).await;
        // On every core.
        for _ in 0..4 {
            let list = "/openshell.v1.OpenShell/ListSandboxes";
            let edge = [("x-shoreguard-gateway", "edge")];
            let caller = sg.connect_as(&operator);
            caller.call_raw(list, StreamingMode::Unary, Vec::new(), &edge).await.unwrap();
        }
    }

    // Proxied: refused because of the named gateway.
    let viewer = admin.create_key("viewer", pb::Role::None).await;
    admin.bind("viewer", "edge", pb::Role::Viewer).await;
    admin.bind("viewer", "elsewhere", pb::Role::Admin).await;
    let delete = v0_1::DeleteSandboxRequest { name: "box".into(), ..Default::default() };
    let path = "/openshell.v1.OpenShell/DeleteSandbox";
    hang_up(&sg, &viewer, (path, "edge"), &delete).await;

    tasks_are_over(&sg, before).await;
    sg.app.audit.drain().await;
    for actor in ["sp:read", "sp:write", "sp:gate", "sp:viewer", "sp:cold", "sp:warm"] {
        let (rows, total) = denied_entries(&sg, actor).await;
        // The call whose caller waited was refused as well.
        assert_eq!(total, u64::from(HUNG_UP) + 1, "{actor}: {rows} rows");
        assert!(rows <= ROWS_MAX, "{actor}: {rows} rows");
    }
    for simulator in fleet {
        simulator.stop().await;
    }
    sg.finish().await;
}
