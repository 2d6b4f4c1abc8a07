//! `shoreguard admin unlock`: removes the rules of exactly one scope while the server is stopped.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use diesel_async::RunQueryDsl;
use shoreguard::app::App;
use shoreguard::db::{Engine, on_conn};
use shoreguard::pb::v1 as pb;
use shoreguard::server::listen::RunningServer;
use tonic::transport::Endpoint;

use crate::commands::{shoreguard_command, text};
use crate::policy_pins;
use crate::support::DbLocation;
use crate::support::limit;
use crate::support::server::{Bearer, Caller, boot, config};

/// A server that can be stopped and started again on its database.
struct Stoppable {
    place: DbLocation,
    data: tempfile::TempDir,
    key: String,
}

impl Stoppable {
    async fn start(&self) -> (Arc<App>, RunningServer, Caller) {
        self.place.wait_closed().await;
        let (app, running) = boot(config(&self.place, self.data.path(), |_| {})).await;
        let channel = Endpoint::new(format!("http://{}", running.address())).unwrap();
        let bearer = Bearer(Some(self.key.clone()));
        (app, running, Caller { channel: channel.connect_lazy(), bearer })
    }

    /// Runs the command on the database. The configuration names the keys of the server.
    fn unlock(&self, file: &Path, arguments: &[&str]) -> Output {
        let text = format!(
            "[server]\ndata_dir = \"{}\"\n[database]\nurl = \"{}\"\n[keys]\nmaster_key = \"{}\"\n",
            self.data.path().display(),
            self.place.url(),
            "5a".repeat(32),
        );
        std::fs::write(file, text).unwrap();
        let mut command = shoreguard_command(&["admin", "--config", file.to_str().unwrap()]);
        command.arg("unlock").args(arguments).output().unwrap()
    }
}

async fn stop(app: Arc<App>, running: RunningServer) {
    app.stop.cancel();
    running.stopped().await;
    app.drain().await;
}

async fn sql(app: &App, statement: &str) -> usize {
    let mut conn = app.db.write().await.unwrap();
    on_conn!(&mut conn, |c| diesel::sql_query(statement).execute(c).await).unwrap()
}

/// Registers a gateway on which nothing listens, pins two of its sandboxes, and adds a rule to each kind of scope.
async fn lock(app: &App, admin: &Caller) {
    let gateway = pb::RegisterGatewayRequest {
        name: "edge".to_owned(),
        endpoint: "127.0.0.1:1".to_owned(),
        scheme: pb::GatewayScheme::Http.into(),
        ..Default::default()
    };
    admin.gateways().register_gateway(gateway).await.unwrap();
    for sandbox in ["coder", "other"] {
        let request = pb::PinPolicyRequest {
            gateway: "edge".to_owned(),
            sandbox: sandbox.to_owned(),
            ..Default::default()
        };
        policy_pins::pin(admin, request).await.unwrap();
    }
    for scope in ["NULL, NULL", "'default', NULL", "'default', 'coder'", "'default', 'other'"] {
        let statement = format!(
            "INSERT INTO approval_workflows (gateway_name, workspace, sandbox_name, required_approvals, \
             created_by, created_at, updated_at) \
             SELECT 'edge', {scope}, 1, 'root', registered_at, registered_at FROM gateways"
        );
        assert_eq!(sql(app, &statement).await, 1);
    }
}

async fn count_workflows(app: &App) -> usize {
    sql(app, "UPDATE approval_workflows SET version = version").await
}

async fn entries(admin: &Caller, action: &str) -> Vec<pb::AuditEntry> {
    let request = pb::ListAuditEntriesRequest { action: action.to_owned(), ..Default::default() };
    admin.audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries
}

async fn unlock_removes_the_rules_of_exactly_one_scope(engine: Engine) {
    let Some((place, key)) = DbLocation::with_admin(engine).await else { return };
    let server = Stoppable { place, data: tempfile::tempdir().unwrap(), key };
    let file = server.data.path().join("unlock.toml");
    let (app, running, admin) = server.start().await;
    lock(&app, &admin).await;
    if engine == Engine::Sqlite {
        let refused =
            server.unlock(&file, &["--gateway", "edge", "--sandbox", "coder", "--reason", "x"]);
        assert!(text(&refused.stderr).contains("in use by another Shoreguard"), "{refused:?}");
    }
    drop(admin);
    stop(app, running).await;

    let of_coder = ["--gateway", "edge", "--sandbox", "coder", "--reason"];
    for (arguments, why) in [
        (vec!["--gateway", "edge", "--sandbox", "coder"], "--reason"),
        ([&of_coder[..], &[" "]].concat(), "`reason` is required"),
        ([&of_coder[..], &["a\nb"]].concat(), "`reason` must be free of control characters"),
        (vec!["--gateway", "west", "--reason", "x"], "gateway `west` does not exist"),
        (vec!["--gateway", "edge", "--workspace", "team", "--reason", "x"], "has neither a pin"),
    ] {
        let refused = server.unlock(&file, &arguments);
        assert!(!refused.status.success(), "{refused:?}");
        assert!(text(&refused.stderr).contains(why), "{why}: {refused:?}");
    }
    let done = server.unlock(&file, &[&of_coder[..], &["no approver is left"]].concat());
    assert!(done.status.success(), "{done:?}");
    let shown = text(&done.stdout);
    assert!(shown.contains("the pin and the approval workflow of sandbox `coder`"), "{shown}");
    let again = server.unlock(&file, &[&of_coder[..], &["again"]].concat());
    assert!(!again.status.success() && text(&again.stderr).contains("has neither"), "{again:?}");

    let (app, running, admin) = server.start().await;
    assert_refused!(policy_pins::get(&admin, "edge", "coder").await, NotFound, "NOT_FOUND");
    policy_pins::get(&admin, "edge", "other").await.expect("another scope");
    assert_eq!(count_workflows(&app).await, 3, "wider and other scopes keep theirs");
    for (action, target) in [("policy.unpin", "coder"), ("approval_workflow.delete", "coder")] {
        let found = entries(&admin, action).await;
        let [entry] = found.as_slice() else { panic!("{action}: {found:?}") };
        assert_eq!((entry.actor.as_str(), entry.resource_id.as_str()), ("system:host", target));
        assert_eq!((entry.gateway.as_str(), entry.outcome()), ("edge", pb::AuditOutcome::Ok));
        assert!(entry.detail_json.contains("no approver is left"), "{entry:?}");
    }
    for event in ["policy.unpinned", "approval_workflow.deleted"] {
        crate::boot_hooks::last_event(&admin, event).await;
    }
    drop(admin);
    stop(app, running).await;

    for scope in [vec!["--workspace", "default"], vec![]] {
        let arguments = [vec!["--gateway", "edge", "--reason", "x"], scope].concat();
        let done = server.unlock(&file, &arguments);
        assert!(text(&done.stdout).starts_with("the approval workflow of"), "{done:?}");
    }
    let (app, running, admin) = server.start().await;
    assert_eq!(count_workflows(&app).await, 1);
    policy_pins::get(&admin, "edge", "other").await.expect("pins are of sandboxes");
    drop(admin);
    stop(app, running).await;
    server.place.remove();
}

async fn unlock_removes_both_rules_or_neither(engine: Engine) {
    let Some((place, key)) = DbLocation::with_admin(engine).await else { return };
    let server = Stoppable { place, data: tempfile::tempdir().unwrap(), key };
    let file = server.data.path().join("unlock.toml");
    let (app, running, admin) = server.start().await;
    lock(&app, &admin).await;
    // The database refuses to delete the workflow, which is removed after the pin.
    sql(&app, "CREATE TABLE holder (id BIGINT REFERENCES approval_workflows (id))").await;
    let hold = "INSERT INTO holder SELECT id FROM approval_workflows WHERE sandbox_name = 'coder'";
    assert_eq!(sql(&app, hold).await, 1);
    drop(admin);
    stop(app, running).await;

    let arguments = ["--gateway", "edge", "--sandbox", "coder", "--reason", "x"];
    let failed = server.unlock(&file, &arguments);
    assert!(!failed.status.success(), "{failed:?}");
    let (app, running, admin) = server.start().await;
    policy_pins::get(&admin, "edge", "coder").await.expect("the pin stays, too");
    assert_eq!(count_workflows(&app).await, 4);
    for action in ["policy.unpin", "approval_workflow.delete"] {
        let found = entries(&admin, action).await;
        let [entry] = found.as_slice() else { panic!("{action}: {found:?}") };
        assert_eq!(entry.outcome(), pb::AuditOutcome::Failed);
    }
    sql(&app, "DROP TABLE holder").await;
    drop(admin);
    stop(app, running).await;
    server.place.remove();
}

#[test]
fn unlock_removes_both_rules_or_neither_sqlite() {
    limit::block_on(unlock_removes_both_rules_or_neither(Engine::Sqlite));
}

#[test]
fn unlock_removes_both_rules_or_neither_postgres() {
    limit::block_on(unlock_removes_both_rules_or_neither(Engine::Postgres));
}

#[test]
fn unlock_removes_the_rules_of_exactly_one_scope_sqlite() {
    limit::block_on(unlock_removes_the_rules_of_exactly_one_scope(Engine::Sqlite));
}

#[test]
fn unlock_removes_the_rules_of_exactly_one_scope_postgres() {
    limit::block_on(unlock_removes_the_rules_of_exactly_one_scope(Engine::Postgres));
}
