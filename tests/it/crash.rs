//! A server that is killed while it creates sandboxes: the next server on the same database continues.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use diesel_async::RunQueryDsl;
use shoreguard::db::{Db, Engine, on_conn};
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Script, Simulator, SimulatorOptions, Times};
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::Endpoint;

use crate::commands::{CHEAP_HASHES, ChildProcess, shoreguard_command};
use crate::support::child::start_serving;
use crate::support::server::{Bearer, Caller};
use crate::support::{DbLocation, eventually, limit, pause};

/// A server in a process of its own. It is killed when this is dropped.
pub(crate) struct ServerProcess {
    pub(crate) process: ChildProcess,
    pub(crate) caller: Caller,
}

pub(crate) fn start_server(config: &Path, key: &str) -> ServerProcess {
    start_by(serve_command(config), key)
}

/// Returns the command that starts a server.
pub(crate) fn serve_command(config: &Path) -> Command {
    let mut command = shoreguard_command(&["serve", "--config"]);
    command.arg(config);
    command
}

/// Starts a server by its command.
pub(crate) fn start_by(command: Command, key: &str) -> ServerProcess {
    let (process, address) = start_serving(command);
    let endpoint = Endpoint::new(format!("http://{address}")).unwrap();
    let channel = endpoint.timeout(Duration::from_secs(30)).connect_lazy();
    ServerProcess { process, caller: Caller { channel, bearer: Bearer(Some(key.to_owned())) } }
}

/// Ends the leases of the killed server on PostgreSQL, where they would expire after half a minute. On SQLite, the next
/// server does so itself, even if they would never expire.
async fn expire(place: &DbLocation) {
    let until = match place {
        DbLocation::Postgres(_) => "2000-01-01 00:00:00.000000",
        DbLocation::Sqlite(_) => "2999-01-01 00:00:00.000000",
    };
    let held =
        format!("UPDATE operations SET lease_expires_at = '{until}' WHERE owner IS NOT NULL");
    let jobs = format!("UPDATE leases SET expires_at = '{until}'");
    let changed = change_rows(place, &[&held, &jobs]).await;
    assert_eq!(changed[0], 2, "both operations are held");
}

/// Executes statements on the database of a killed server. Returns the number of rows that each has changed.
pub(crate) async fn change_rows(place: &DbLocation, statements: &[&str]) -> Vec<usize> {
    place.wait_closed().await;
    let db = Db::open(&place.options()).await.unwrap();
    let mut conn = db.write().await.unwrap();
    let mut changed = Vec::new();
    for statement in statements {
        let rows = on_conn!(&mut conn, |c| diesel::sql_query(*statement).execute(c).await);
        changed.push(rows.unwrap());
    }
    drop((conn, db));
    place.wait_closed().await;
    changed
}

async fn operations(caller: &Caller) -> Vec<pb::Operation> {
    let list = pb::ListOperationsRequest::default();
    caller.operations().list_operations(list).await.unwrap().into_inner().operations
}

/// Waits until an operation that will be taken over has ended.
async fn ended(caller: &Caller, id: &str) -> pb::Operation {
    for _ in 0..5 {
        let operation = caller.wait_operation(id).await;
        if operation.complete_time.is_some() {
            return operation;
        }
    }
    panic!("operation {id} does not end");
}

/// Waits for the outcome of a creation in the audit log. It is recorded after the operation has ended.
async fn recorded(caller: &Caller, sandbox: &str) {
    eventually("the creation has an outcome", || async {
        let entries = caller.audit_entries(sandbox, "sandbox.create").await;
        entries.iter().any(|entry| entry.outcome() == pb::AuditOutcome::Ok)
    })
    .await;
}

/// Waits until a gateway has received the given number of calls to run a command.
async fn commands(simulator: &Simulator, count: u64) {
    loop {
        let calls = simulator.calls();
        let asked: u64 = calls
            .iter()
            .filter(|(path, _)| path.ends_with("/ExecSandbox"))
            .map(|(_, count)| count)
            .sum();
        if asked >= count {
            return;
        }
        pause().await;
    }
}

/// Makes the gateway delay its next command until the returned token is canceled.
fn delay_the_first(simulator: &Simulator) -> CancellationToken {
    let token = CancellationToken::new();
    simulator.script("ExecSandbox", Script::Until(token.clone()), Times::Next(1));
    token
}

/// Waits until the gateway's command with this number has started, lets it finish, and makes the gateway hang in the
/// next one.
async fn hang_in_the_second(simulator: &Simulator, first: u64, token: &CancellationToken) {
    commands(simulator, first).await;
    simulator.script("ExecSandbox", Script::Hang, Times::Next(1));
    token.cancel();
    commands(simulator, first + 1).await;
}

async fn hook(caller: &Caller, sandbox: &str, command: &str) {
    let request = pb::CreateBootHookRequest {
        gateway: "edge".into(),
        sandbox: sandbox.into(),
        name: command.split(' ').next().unwrap().into(),
        phase: pb::BootHookPhase::PostCreate.into(),
        command: command.into(),
        ..Default::default()
    };
    caller.boot_hooks().create_boot_hook(request).await.unwrap();
}

/// Writes a configuration for a database into a folder.
pub(crate) fn write_config(folder: &Path, place: &DbLocation) -> PathBuf {
    let config = folder.join("shoreguard.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n\
         [telemetry]\nlog_format = \"json\"\nlog_level = \"info\"\nmetrics_listen = \"127.0.0.1:0\"\n\
         [database]\nurl = \"{}\"\nacquire_timeout_seconds = 60\nreaders = 2\npool_size = 5\n\
         [keys]\nmaster_key = \"{}\"\n[gateways]\nallowed_networks = [\"127.0.0.0/8\"]\n\
         {CHEAP_HASHES}",
        folder.join("data").display(),
        place.url(),
        "5a".repeat(32)
    );
    std::fs::write(&config, text).unwrap();
    config
}

/// Creates one sandbox through Shoreguard's API and one as a stock client does, kills the server while the second hook
/// of each is in progress, and starts it again.
async fn killed_in_a_hook(engine: Engine) {
    let Some((place, key)) = DbLocation::with_admin(engine).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &place);
    let simulator = Simulator::start(SimulatorOptions::new(Generation::V0_0)).await.unwrap();
    let first = start_server(&config, &key);
    let caller = &first.caller;
    let register = pb::RegisterGatewayRequest {
        name: "edge".into(),
        endpoint: simulator.addr().to_string(),
        scheme: pb::GatewayScheme::Http.into(),
        ..Default::default()
    };
    caller.gateways().register_gateway(register).await.unwrap();
    for sandbox in ["ours", "theirs"] {
        hook(caller, sandbox, "true").await;
        hook(caller, sandbox, "pwd").await;
    }
    // The first hook of each sandbox runs, and the second gets no response.
    let create = pb::CreateSandboxRequest {
        gateway: "edge".into(),
        name: "ours".into(),
        ..Default::default()
    };
    let token = delay_the_first(&simulator);
    caller.sandboxes().create_sandbox(create).await.unwrap();
    hang_in_the_second(&simulator, 1, &token).await;
    let create = old::CreateSandboxRequest {
        name: "theirs".into(),
        spec: Some(old::SandboxSpec::default()),
        ..Default::default()
    };
    let mut create = Request::new(create);
    create.metadata_mut().insert("x-shoreguard-gateway", "edge".parse().unwrap());
    let token = delay_the_first(&simulator);
    caller.openshell_v0_0().create_sandbox(create).await.unwrap();
    hang_in_the_second(&simulator, 3, &token).await;
    drop(first);
    expire(&place).await;

    let second = start_server(&config, &key);
    went_on(&second.caller, &simulator).await;
    drop(second);
    place.remove();
}

/// Checks that both creations succeeded and that only the hooks without a response ran again.
async fn went_on(caller: &Caller, simulator: &Simulator) {
    let begun = operations(caller).await;
    assert_eq!(begun.len(), 2, "{begun:?}");
    for operation in begun {
        let ended = ended(caller, &operation.id).await;
        assert_eq!(ended.status(), pb::OperationStatus::Succeeded, "{ended:?}");
        let result = format!("{:?}", ended.result);
        assert!(result.contains("its replica stopped"), "the first is not run again: {result}");
        recorded(caller, &operation.sandbox).await;
        let hooks = pb::ListBootHooksRequest {
            gateway: "edge".into(),
            sandbox: operation.sandbox,
            ..Default::default()
        };
        let hooks = caller.boot_hooks().list_boot_hooks(hooks).await.unwrap().into_inner();
        let told: Vec<_> = hooks.boot_hooks.iter().map(pb::BootHook::last_status).collect();
        assert_eq!(told, [pb::BootHookStatus::Success; 2]);
    }
    let calls = simulator.calls();
    assert_eq!(calls["/openshell.v1.OpenShell/CreateSandbox"], 2, "nothing is made twice");
    assert_eq!(
        calls["/openshell.v1.OpenShell/ExecSandbox"], 6,
        "only what was not answered runs again"
    );
}

mod creations_resume_after_kill_9 {
    use super::*;

    fn run(engine: Engine) {
        limit::block_on(killed_in_a_hook(engine));
    }

    #[test]
    fn sqlite() {
        run(Engine::Sqlite);
    }

    #[test]
    fn postgres() {
        run(Engine::Postgres);
    }
}
