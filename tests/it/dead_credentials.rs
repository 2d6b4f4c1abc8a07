//! T14: a call whose credential ends while the call is in progress has no further effect.

use h2::SendStream;
use h2::client::ResponseFuture;
use prost::bytes::Bytes;
use shoreguard::access::policy::{
    AllowedCallers, AuditMode, METHODS, UPSTREAM_V0_0, UPSTREAM_V0_1,
};
use shoreguard::pb::v1 as pb;
use shoreguard::role::Role;
use shoreguard_simulator::{Generation, Script, Simulator, SimulatorOptions, Times};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::proxy::raw::{RawClient, RawResponse, add_length_prefix, encode_framed};
use crate::support::server::{TestServer, reason};
use crate::support::{eventually, soon};

const CREATE: &str = "/shoreguard.v1.ServicePrincipalService/CreateServicePrincipal";
const IDENTITY: &str = "/shoreguard.v1.AuthService/GetCurrentIdentity";

const EXEC: &str = "/shoreguard.v1.SandboxService/ExecSandbox";
const HEALTH: &str = "/openshell.v1.OpenShell/Health";

/// A call whose request headers were sent.
struct Begun {
    path: &'static str,
    response: ResponseFuture,
    body: SendStream<Bytes>,
}

impl RawClient {
    fn begin(&mut self, path: &'static str, gateway: Option<&str>) -> Begun {
        let mut head = self.post(path);
        if let Some(gateway) = gateway {
            head = head.header("x-shoreguard-gateway", gateway);
        }
        let (response, body) = self.open(head);
        Begun { path, response, body }
    }

    /// Waits until the server has received all request headers that were sent before.
    async fn seen(&mut self) {
        let head = self.post(IDENTITY);
        assert_eq!(self.call(head, &[add_length_prefix(&[])]).await.code(), "0");
    }
}

async fn rotate(sg: &TestServer, name: &str) {
    let request = pb::RotateServicePrincipalRequest {
        service_principal: name.to_owned(),
        ..Default::default()
    };
    sg.admin().service_principals().rotate_service_principal(request).await.unwrap();
}

async fn names(sg: &TestServer) -> Vec<String> {
    let request = pb::ListServicePrincipalsRequest::default();
    let listed = sg.admin().service_principals().list_service_principals(request).await.unwrap();
    listed.into_inner().service_principals.into_iter().map(|sp| sp.name).collect()
}

/// Returns the audit entries of the callers whose names begin with `actor`.
async fn entries_of(sg: &TestServer, actor: &str) -> Vec<pb::AuditEntry> {
    sg.app.audit.wait_settled().await;
    let request = pb::ListAuditEntriesRequest { page_size: 1000, ..Default::default() };
    let listed = sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
    listed.audit_entries.into_iter().filter(|entry| entry.actor.starts_with(actor)).collect()
}

fn create(name: &str) -> Bytes {
    encode_framed(&pb::CreateServicePrincipalRequest {
        name: name.to_owned(),
        role: pb::Role::Admin.into(),
        ..Default::default()
    })
}

/// A request to run a command on the first gateway.
fn exec() -> Bytes {
    encode_framed(&pb::ExecSandboxRequest {
        gateway: "edge".to_owned(),
        sandbox: "box".to_owned(),
        command: vec!["true".to_owned()],
        ..Default::default()
    })
}

/// Waits until at least `most` entries of a method exist and all of them are closed. Returns these entries.
async fn closed(sg: &TestServer, actor: &str, method: &str, most: usize) -> Vec<pb::AuditEntry> {
    let open = i32::from(pb::AuditOutcome::Open);
    loop {
        let mut entries = entries_of(sg, actor).await;
        entries.retain(|entry| entry.method == method);
        if entries.len() >= most && entries.iter().all(|entry| entry.outcome != open) {
            return entries;
        }
        crate::support::pause().await;
    }
}

/// Ways in which a credential or its role ends, with the reason that the caller gets.
const WAYS: [(&str, &str); 7] = [
    ("rotated", "CREDENTIAL_INVALID"),
    ("deleted", "CREDENTIAL_INVALID"),
    ("demoted", "ROLE_TOO_LOW"),
    ("revoked", "CREDENTIAL_INVALID"),
    ("reset", "CREDENTIAL_INVALID"),
    ("deactivated", "CREDENTIAL_INVALID"),
    ("removed", "CREDENTIAL_INVALID"),
];

/// Creates an admin whose credential will end in the given way. Returns the credential.
async fn holder(sg: &TestServer, way: &str) -> String {
    match way {
        "rotated" | "deleted" | "demoted" => sg.admin().create_key(way, pb::Role::Admin).await,
        _ => sg.create_user(&format!("{way}@example.com"), pb::Role::Admin).await,
    }
}

/// Ends the credential, or the role that it needs.
async fn end(sg: &TestServer, way: &str) {
    let (admin, user) = (sg.admin(), format!("{way}@example.com"));
    let (mut keys, mut users) = (admin.service_principals(), admin.users());
    let name = way.to_owned();
    match way {
        "rotated" => rotate(sg, way).await,
        "deleted" => {
            let request =
                pb::DeleteServicePrincipalRequest { service_principal: name, ..Default::default() };
            keys.delete_service_principal(request).await.unwrap();
        }
        "demoted" => {
            let request = pb::UpdateServicePrincipalRequest {
                service_principal: name,
                role: pb::Role::Operator.into(),
                update_mask: Some(prost_types::FieldMask { paths: vec!["role".to_owned()] }),
                ..Default::default()
            };
            keys.update_service_principal(request).await.unwrap();
        }
        "revoked" => {
            let request = pb::RevokeUserSessionsRequest { user, ..Default::default() };
            users.revoke_user_sessions(request).await.unwrap();
        }
        "reset" => {
            let request = pb::ResetPasswordRequest { user, ..Default::default() };
            users.reset_password(request).await.unwrap();
        }
        "deactivated" => sg.deactivate(&user).await,
        _ => {
            let request = pb::DeleteUserRequest { user, ..Default::default() };
            users.delete_user(request).await.unwrap();
        }
    }
}

async fn fleet(sg: &TestServer) -> Vec<(&'static str, Simulator)> {
    let mut fleet = Vec::new();
    for (name, generation) in [("edge", Generation::V0_1), ("edge-0-0", Generation::V0_0)] {
        let simulator = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
        simulator.seed_demo().unwrap();
        sg.register_gateway(name, simulator.addr()).await;
        fleet.push((name, simulator));
    }
    fleet
}

/// Sends the headers of a call of each of Shoreguard's own methods that `selects`, and of each proxied method.
fn begin_each(raw: &mut RawClient, selects: impl Fn(AllowedCallers) -> bool) -> Vec<Begun> {
    let own = METHODS.iter().filter(|method| selects(method.access));
    let mut begun: Vec<Begun> = own.map(|method| raw.begin(method.path, None)).collect();
    for (gateway, rows) in [("edge", UPSTREAM_V0_1), ("edge-0-0", UPSTREAM_V0_0)] {
        for row in rows.iter().filter(|row| row.policy.is_some()) {
            begun.push(raw.begin(row.path, Some(gateway)));
        }
    }
    begun
}

/// Ends each request with an empty message.
fn send_messages(begun: &mut [Begun]) {
    for call in begun {
        // The server may already have ended the stream.
        let _ = call.body.send_data(add_length_prefix(&[]), true);
    }
}

/// Returns how often a method that changes something was called on the gateways.
fn count_writes(fleet: &[(&str, Simulator)]) -> u64 {
    let rows = UPSTREAM_V0_0.iter().chain(UPSTREAM_V0_1);
    let is_write = |path: &str| {
        rows.clone().any(|row| {
            row.path == path
                && row.policy.as_ref().is_some_and(|policy| policy.audit == AuditMode::Write)
        })
    };
    let calls = fleet.iter().flat_map(|(_, simulator)| simulator.calls());
    calls.filter(|(path, _)| is_write(path)).map(|(_, count)| count).sum()
}

server_tests! {
    t14_a_call_whose_credential_ends_before_its_message_does_nothing,
    t14_every_method_refuses_a_credential_that_ended_after_the_headers,
    t14_every_method_refuses_a_role_that_ended_after_the_headers,
    t14_an_upload_and_a_command_end_with_their_credential,
    an_audit_entry_has_the_time_at_which_it_was_opened,
    a_write_that_times_out_before_it_starts_leaves_one_audit_entry_and_a_read_none,
    a_command_that_times_out_before_it_starts_leaves_one_audit_entry,
    a_command_that_a_drain_ends_during_its_start_leaves_one_audit_entry,
}

async fn t14_a_call_whose_credential_ends_before_its_message_does_nothing(sg: TestServer) {
    for (way, told) in WAYS {
        let token = holder(&sg, way).await;
        let before = names(&sg).await;
        let mut raw = RawClient::connect_as(&sg, &token).await;
        let mut begun = raw.begin(CREATE, None);
        raw.seen().await;
        end(&sg, way).await;
        begun.body.send_data(create("backdoor"), true).unwrap();
        let status = RawResponse::read(begun.response).await.status();
        assert_eq!(reason(&status), told, "{way}: {status:?}");
        assert!(!names(&sg).await.contains(&"backdoor".to_owned()), "{way}: {before:?}");
    }
    sg.finish().await;
}

async fn t14_every_method_refuses_a_credential_that_ended_after_the_headers(sg: TestServer) {
    let fleet = fleet(&sg).await;
    let key = sg.admin().create_key("leaked", pb::Role::Admin).await;
    let mut raw = RawClient::connect_as(&sg, &key).await;
    let others =
        |access: AllowedCallers| !matches!(access, AllowedCallers::Public | AllowedCallers::User);
    let mut begun = begin_each(&mut raw, others);
    let mut person = RawClient::connect_as(&sg, &holder(&sg, "deactivated").await).await;
    for method in METHODS.iter().filter(|method| method.access == AllowedCallers::User) {
        begun.push(person.begin(method.path, None));
    }
    raw.seen().await;
    person.seen().await;
    rotate(&sg, "leaked").await;
    end(&sg, "deactivated").await;
    send_messages(&mut begun);
    for call in begun {
        let status = RawResponse::read(call.response).await.status();
        let told = (status.code(), reason(&status));
        assert_eq!(
            told,
            (Code::Unauthenticated, "CREDENTIAL_INVALID".to_owned()),
            "{}: {status:?}",
            call.path
        );
    }
    eventually("each entry is closed as denied", || async {
        let entries = entries_of(&sg, "sp:leaked").await;
        entries.iter().all(|entry| entry.outcome() == pb::AuditOutcome::Denied)
    })
    .await;
    assert_eq!(count_writes(&fleet), 0);
    for (_, simulator) in fleet {
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn t14_every_method_refuses_a_role_that_ended_after_the_headers(sg: TestServer) {
    let fleet = fleet(&sg).await;
    let key = sg.admin().create_key("locked-out", pb::Role::Admin).await;
    let mut raw = RawClient::connect_as(&sg, &key).await;
    let mut begun = begin_each(
        &mut raw,
        |access| matches!(access, AllowedCallers::Role(role) if role > Role::None),
    );
    raw.seen().await;
    let request = pb::UpdateServicePrincipalRequest {
        service_principal: "locked-out".to_owned(),
        role: pb::Role::None.into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["role".to_owned()] }),
        ..Default::default()
    };
    sg.admin().service_principals().update_service_principal(request).await.unwrap();
    send_messages(&mut begun);
    for call in begun {
        let status = RawResponse::read(call.response).await.status();
        // A gateway on which the caller has no role any more is not visible to it.
        let refused = [Code::PermissionDenied, Code::NotFound, Code::Unavailable];
        assert!(refused.contains(&status.code()), "{}: {status:?}", call.path);
    }
    assert_eq!(count_writes(&fleet), 0);
    for (_, simulator) in fleet {
        simulator.stop().await;
    }
    sg.finish().await;
}

/// Their callers send nothing more: neither waits for the next message.
async fn t14_an_upload_and_a_command_end_with_their_credential(sg: TestServer) {
    let fleet = fleet(&sg).await;
    let caller = sg.with_token(&sg.admin().create_key("leaked", pb::Role::Admin).await);
    let (chunks, input) = mpsc::channel(1);
    let first = pb::UploadSbomRequest {
        gateway: "edge".to_owned(),
        sandbox: "coder".to_owned(),
        ..Default::default()
    };
    chunks.send(first).await.unwrap();
    let leaked = caller.clone();
    let upload =
        sg.app.spawn(async move { leaked.sboms().upload_sbom(ReceiverStream::new(input)).await });
    eventually("the upload is registered", || async { sg.app.live.count() >= 1 }).await;
    let (typed, input) = mpsc::channel(1);
    let start = pb::ExecSandboxRequest {
        gateway: "edge".to_owned(),
        sandbox: "coder".to_owned(),
        command: vec!["cat".to_owned()],
        ..Default::default()
    };
    typed.send(start).await.unwrap();
    let command = caller.sandboxes().exec_sandbox(ReceiverStream::new(input)).await;
    let mut outputs = command.unwrap().into_inner();
    rotate(&sg, "leaked").await;
    let uploaded = soon("the upload ends", upload).await.unwrap();
    assert_refused!(uploaded, Unauthenticated, "CREDENTIAL_INVALID");
    let ended = soon("the command ends", async {
        loop {
            let output = outputs.message().await;
            if !matches!(output, Ok(Some(_))) {
                break output;
            }
        }
    });
    assert_refused!(ended.await, Unauthenticated, "CREDENTIAL_INVALID");
    drop((chunks, typed));
    for (_, simulator) in fleet {
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn an_audit_entry_has_the_time_at_which_it_was_opened(sg: TestServer) {
    let mut raw = RawClient::connect(&sg).await;
    let mut begun = raw.begin(CREATE, None);
    raw.seen().await;
    // Less than the time after which unconfirmed access data is stale.
    sg.app.clock.advance(std::time::Duration::from_secs(3));
    let after = sg.app.clock.now();
    begun.body.send_data(create("later"), true).unwrap();
    assert_eq!(RawResponse::read(begun.response).await.code(), "0");
    let made = entries_of(&sg, "sp:root").await;
    let made = made.iter().find(|entry| entry.resource_id == "later").unwrap();
    let at = made.create_time.as_ref().unwrap();
    assert!(at.seconds >= after.unix_seconds(), "{made:?}");
    sg.finish().await;
}

async fn a_write_that_times_out_before_it_starts_leaves_one_audit_entry_and_a_read_none(
    sg: TestServer,
) {
    let list = "/shoreguard.v1.GatewayService/ListGateways";
    for n in 0..8 {
        let name = format!("late-{n}");
        // Each call has a caller of its own, since repeated refusals of one caller are counted in one entry.
        let key = sg.admin().create_key(&format!("caller-{n}"), pb::Role::Admin).await;
        let mut raw = RawClient::connect_as(&sg, &key).await;
        let head = raw.post(CREATE).header("grpc-timeout", "1n");
        // The write may end before the timer of its deadline fires.
        let code = raw.call(head, &[create(&name)]).await.status().code();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Ok), "{code:?}");
        let head = raw.post(list).header("grpc-timeout", "1n");
        raw.call(head, &[add_length_prefix(&[])]).await;
    }
    let entries = loop {
        let entries = entries_of(&sg, "sp:caller-").await;
        let open = i32::from(pb::AuditOutcome::Open);
        let writes: Vec<_> = entries.iter().filter(|entry| entry.method == CREATE).collect();
        if writes.len() >= 8 && writes.iter().all(|entry| entry.outcome != open) {
            break entries;
        }
        crate::support::pause().await;
    };
    let reads = entries.iter().filter(|entry| entry.method == list).count();
    assert_eq!(reads, 0);
    let writes: Vec<_> = entries.iter().filter(|entry| entry.method == CREATE).collect();
    let made = names(&sg).await.iter().filter(|name| name.starts_with("late-")).count();
    let ok = i32::from(pb::AuditOutcome::Ok);
    let recorded = writes.iter().filter(|entry| entry.outcome == ok).count();
    // Each call has one entry, with the outcome that it really had.
    assert_eq!((writes.len(), recorded), (8, made), "{writes:?}");
    sg.finish().await;
}

async fn a_command_that_times_out_before_it_starts_leaves_one_audit_entry(sg: TestServer) {
    let fleet = fleet(&sg).await;
    for n in 0..8 {
        let key = sg.admin().create_key(&format!("caller-{n}"), pb::Role::Admin).await;
        let mut raw = RawClient::connect_as(&sg, &key).await;
        let head = raw.post(EXEC).header("grpc-timeout", "1n");
        let code = raw.call(head, &[exec()]).await.status().code();
        assert_eq!(code, Code::DeadlineExceeded);
    }
    let entries = closed(&sg, "sp:caller-", EXEC, 8).await;
    assert_eq!(entries.len(), 8, "one call, one record: {entries:?}");
    for (_, simulator) in fleet {
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_command_that_a_drain_ends_during_its_start_leaves_one_audit_entry(sg: TestServer) {
    let fleet = fleet(&sg).await;
    let simulator = &fleet[0].1;
    let probes = |simulator: &Simulator| simulator.calls().get(HEALTH).copied().unwrap_or_default();
    let before = probes(simulator);
    simulator.script("Health", Script::Hang, Times::All);
    let mut raw =
        RawClient::connect_as(&sg, &sg.admin().create_key("caller", pb::Role::Admin).await).await;
    let (response, mut body) = raw.open(raw.post(EXEC));
    body.send_data(exec(), true).unwrap();
    while probes(simulator) == before {
        crate::support::pause().await;
    }
    sg.app.stop.cancel();
    assert_eq!(RawResponse::read(response).await.status().code(), Code::Unavailable);
    sg.app.audit.drain().await;
    let rows = crate::support::dump::table(&sg.app.db, "audit_log").await;
    assert_eq!(rows.lines().filter(|row| row.contains(EXEC)).count(), 1, "{rows}");
    for (_, simulator) in fleet {
        simulator.stop().await;
    }
    sg.finish().await;
}
