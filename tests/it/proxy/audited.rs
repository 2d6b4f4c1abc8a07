//! Audit entries of forwarded calls.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::db::on_conn;
use shoreguard::db::schema::audit_log;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Script, Times};
use tonic::Code;

use super::raw::{RawClient, RawResponse, encode_framed};
use super::*;

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = audit_log)]
struct Entry {
    actor: String,
    actor_role: String,
    resource_id: String,
    gateway_name: Option<String>,
    detail: Option<String>,
    digest: Option<Vec<u8>>,
    outcome: Option<String>,
    code: Option<i32>,
    outcome_detail: Option<String>,
    bytes_in: Option<i64>,
    bytes_out: Option<i64>,
}

/// Returns the closed entries of an action.
async fn entries(sg: &TestServer, action: &str) -> Vec<Entry> {
    let mut conn = sg.app.db.read().await.unwrap();
    on_conn!(&mut conn, |c| audit_log::table
        .filter(audit_log::action.eq(action).and(audit_log::closed_at.is_not_null()))
        .order(audit_log::id)
        .select(Entry::as_select())
        .load(c)
        .await)
    .unwrap()
}

async fn one(sg: &TestServer, action: &str) -> Entry {
    wait_until(action, || async { !entries(sg, action).await.is_empty() }).await;
    let mut found = entries(sg, action).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_proxied_write_leaves_one_audit_entry_and_a_read_leaves_none() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        let operator = sg.with_token(&admin.create_key("ops", pb::Role::Operator).await);
        create_sandbox(&operator, "alpha", "one").await;
        let made = one(&sg, "sandbox.create").await;
        assert_eq!((made.actor.as_str(), made.actor_role.as_str()), ("sp:ops", "operator"));
        assert_eq!(
            (made.resource_id.as_str(), made.gateway_name.as_deref()),
            ("one", Some("alpha"))
        );
        assert_eq!((made.outcome.as_deref(), made.code), (Some("ok"), Some(0)));
        assert!(made.digest.is_none(), "t17: a sandbox may carry secrets");
        operator
            .openshell_v0_0()
            .get_sandbox(for_gateway("alpha", get_request("one")))
            .await
            .unwrap();

        let name = "nope".to_owned();
        let delete = old::DeleteSandboxRequest { name, workspace: "team".to_owned() };
        let missing = operator.openshell_v0_0().delete_sandbox(for_gateway("alpha", delete)).await;
        let missing = missing.unwrap_err();
        let failed = one(&sg, "sandbox.delete").await;
        assert_eq!(
            (failed.outcome.as_deref(), failed.code),
            (Some("failed"), Some(missing.code() as i32))
        );
        assert_eq!(failed.resource_id, "team/nope");
        assert_eq!(failed.detail.as_deref(), Some(r#"{"workspace":"team"}"#));
        assert_eq!(failed.digest.map(|digest| digest.len()), Some(32));
        assert!(entries(&sg, "sandbox.get").await.is_empty());
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn a_refused_proxied_write_leaves_an_audit_entry() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let viewer = sg.with_token(&sg.admin().create_key("see", pb::Role::Viewer).await);
        sg.admin().bind("see", "alpha", pb::Role::Viewer).await;
        let refused = viewer
            .openshell_v0_0()
            .create_sandbox(for_gateway("alpha", create_request("one")))
            .await;
        assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
        let entry = one(&sg, "sandbox.create").await;
        assert_eq!((entry.outcome.as_deref(), entry.code), (Some("denied"), Some(7)));
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn a_proxied_command_is_audited_with_its_bytes_and_outcome() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        let sandbox_id = create_sandbox(&admin, "alpha", "one").await;
        let ask = |command: &[&str]| old::ExecSandboxRequest {
            sandbox_id: sandbox_id.clone(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..Default::default()
        };
        let ran =
            admin.openshell_v0_0().exec_sandbox(for_gateway("alpha", ask(&["seq", "1000"]))).await;
        let mut events = ran.unwrap().into_inner();
        while events.message().await.unwrap().is_some() {}
        let entry = one(&sg, "sandbox.exec").await;
        assert_eq!(entry.resource_id, "one");
        assert_eq!((entry.outcome.as_deref(), entry.code), (Some("ok"), Some(0)));
        assert!(entry.bytes_in.unwrap() > 40 && entry.bytes_out.unwrap() > 3_893, "{entry:?}");
        assert!(entry.outcome_detail.is_none(), "t17: a command may carry secrets");

        let ran =
            admin.openshell_v0_0().exec_sandbox(for_gateway("alpha", ask(&["sleep", "60"]))).await;
        drop(ran.unwrap());
        wait_until("it is closed", || async { entries(&sg, "sandbox.exec").await.len() == 2 })
            .await;
        let entry = entries(&sg, "sandbox.exec").await.remove(1);
        let cancelled = Some(Code::Cancelled as i32);
        assert_eq!((entry.outcome.as_deref(), entry.code), (Some("failed"), cancelled));
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn a_caller_that_disconnects_before_the_response_leaves_a_closed_entry() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        create_sandbox(&sg.admin(), "alpha", "one").await;
        gateway.script("StopSandbox", Script::Hang, Times::All);
        let mut client = sg.admin().openshell_v0_0();
        let stop = old::StopSandboxRequest { name: "one".to_owned(), ..Default::default() };
        let hanging = client.stop_sandbox(for_gateway("alpha", stop));
        let received = wait_until("the gateway has the call", || async {
            gateway.calls().contains_key("/openshell.v1.OpenShell/StopSandbox")
        });
        tokio::select! {
            answer = hanging => panic!("{answer:?}"),
            () = received => {}
        }
        let entry = one(&sg, "sandbox.stop").await;
        assert_eq!(entry.code, Some(Code::Cancelled as i32));
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn a_write_that_cannot_be_audited_is_not_forwarded() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        sg.app.audit.drain().await;
        let refused = sg
            .admin()
            .openshell_v0_0()
            .create_sandbox(for_gateway("alpha", create_request("one")))
            .await;
        assert_refused!(refused, Unavailable, "AUDIT_UNAVAILABLE");
        assert!(!gateway.calls().contains_key("/openshell.v1.OpenShell/CreateSandbox"));
        // A call that needs no audit entry still works.
        sg.admin()
            .openshell_v0_0()
            .health(for_gateway("alpha", old::HealthRequest {}))
            .await
            .unwrap();
        sg.finish().await;
        gateway.stop().await;
    });
}

/// Opens a call and sends no message.
async fn silent(sg: &TestServer, method: &str) -> tonic::Status {
    let mut raw = RawClient::connect(sg).await;
    let (response, _request) =
        raw.open(raw.request(method, "alpha").header("grpc-timeout", "500m"));
    RawResponse::read(response).await.status()
}

#[test]
fn a_read_that_times_out_leaves_no_audit_entry() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        for method in ["GetSandbox", "DeleteSandbox"] {
            assert_eq!(silent(&sg, method).await.code(), Code::DeadlineExceeded);
        }
        let late = one(&sg, "sandbox.delete").await;
        assert_eq!((late.outcome.as_deref(), late.code), (Some("failed"), Some(4)));
        sg.app.audit.drain().await;
        assert!(entries(&sg, "sandbox.get").await.is_empty());
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn a_write_that_times_out_while_its_entry_is_stored_has_the_returned_outcome() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        // Opens the connection to the gateway.
        let mut raw = RawClient::connect(&sg).await;
        let list = encode_framed(&old::ListSandboxesRequest::default());
        let listed = raw.call(raw.request("ListSandboxes", "alpha"), &[list]).await;
        assert_eq!(listed.code(), "0");
        // Nothing can be stored in the meantime.
        let writer = sg.app.db.write().await.unwrap();
        let stop = old::StopSandboxRequest { name: "one".to_owned(), ..Default::default() };
        let head = raw.request("StopSandbox", "alpha").header("grpc-timeout", "1S");
        let answer = raw.call(head, &[encode_framed(&stop)]).await;
        assert_eq!(answer.status().code(), Code::DeadlineExceeded);
        drop(writer);
        let late = one(&sg, "sandbox.stop").await;
        assert_eq!((late.outcome.as_deref(), late.code), (Some("failed"), Some(4)));
        sg.finish().await;
        gateway.stop().await;
    });
}
