//! A server that is killed at each point of a write: the next one continues, and nothing is written twice.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::clock::Timestamp;
use shoreguard::db::schema::{events, leases, operations, write_intents};
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::db::{Db, Engine, on_conn};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::apply::fail_points::FailPoint;
use shoreguard::resources::approvals::rounds::store;
use shoreguard::resources::approvals::{Round, RoundState};
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tokio::sync::OnceCell;

use super::{open_round, revisions, writes};
use crate::commands::ChildProcess;
use crate::crash::{ServerProcess, serve_command, start_by, start_server, write_config};
use crate::support::server::{Bearer, Caller, build, config, with_server};
use crate::support::work::OperationSpec;
use crate::support::{DbLocation, eventually, limit};

/// How often a server is killed at each point, with `just soak` and otherwise.
const KILLS: [usize; 2] = [20, 1];
/// The signal of a killed process.
pub(super) const SIGKILL: i32 = 9;

/// Returns how often a server is killed at a point.
pub(super) fn kills() -> usize {
    if std::env::var_os("SOAK").is_some() { KILLS[0] } else { KILLS[1] }
}

/// Lists fail points. Each becomes two tests, `name::sqlite` and `name::postgres`, that call a function with an engine
/// and the point.
macro_rules! each_point {
    ($killed_at:ident, $($name:ident: $point:ident),+ $(,)?) => {$(
        mod $name {
            use super::*;

            #[test]
            fn sqlite() {
                limit::block_on($killed_at(Engine::Sqlite, FailPoint::$point));
            }

            #[test]
            fn postgres() {
                limit::block_on($killed_at(Engine::Postgres, FailPoint::$point));
            }
        }
    )+};
}
pub(super) use each_point;

/// A database, a gateway with the sandbox `coder`, and a configuration with which servers start.
pub(super) struct Scene {
    pub(super) place: DbLocation,
    pub(super) simulator: Simulator,
    folder: tempfile::TempDir,
    config: PathBuf,
    key: String,
    /// The open database, on PostgreSQL.
    opened: OnceCell<Db>,
}

impl Scene {
    /// Registers the gateway by a server of this process, which then stops. Returns `None` if this host has no
    /// PostgreSQL server programs.
    pub(super) async fn start(engine: Engine, generation: Generation) -> Option<Self> {
        let started = Self::start_with(engine, generation, async |_: &Caller| {}).await;
        started.map(|(scene, ())| scene)
    }

    /// Does the same, and prepares more through that server.
    pub(super) async fn start_with<T>(
        engine: Engine,
        generation: Generation,
        prepare: impl AsyncFnOnce(&Caller) -> T,
    ) -> Option<(Self, T)> {
        let (place, key) = DbLocation::with_admin(engine).await?;
        let folder = tempfile::tempdir().unwrap();
        let in_process = config(&place, folder.path(), |_| {});
        let config = write_config(folder.path(), &place);
        let simulator = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
        simulator.seed_demo().unwrap();
        let register = pb::RegisterGatewayRequest {
            name: "edge".into(),
            endpoint: simulator.addr().to_string(),
            scheme: pb::GatewayScheme::Http.into(),
            ..Default::default()
        };
        let bearer = Bearer(Some(key.clone()));
        let prepared = Box::pin(with_server(in_process, async |_, anonymous| {
            let caller = Caller { bearer, ..anonymous };
            caller.gateways().register_gateway(register).await.unwrap();
            prepare(&caller).await
        }))
        .await;
        let scene = Self { place, simulator, folder, config, key, opened: OnceCell::new() };
        Some((scene, prepared))
    }

    /// Starts a server.
    pub(super) async fn serve(&self) -> ServerProcess {
        self.place.wait_closed().await;
        start_server(&self.config, &self.key)
    }

    /// Returns the command that starts a server that a fail point kills or stops.
    async fn command_until(&self, point: FailPoint, what: &str) -> Command {
        self.place.wait_closed().await;
        let mut command = serve_command(&self.config);
        command.env("TEST_FAIL_POINT", format!("{point}={what}"));
        // A process can be frozen within a transaction, whose locks then last this long.
        command.env("SHOREGUARD_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT_SECONDS", "2");
        command
    }

    /// Starts a server that a fail point kills or stops.
    pub(super) async fn serve_until(&self, point: FailPoint, what: &str) -> ChildProcess {
        let mut command = self.command_until(point, what).await;
        ChildProcess(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Starts a server that a fail point kills when it is called.
    pub(super) async fn serve_until_killed(&self, point: FailPoint) -> ServerProcess {
        start_by(self.command_until(point, "kill").await, &self.key)
    }

    /// Opens a round while no server runs. Without a workflow it is approved, as if its server was killed after the
    /// decision.
    pub(super) async fn open_round(&self, host: &str) -> ApprovalRoundId {
        self.place.wait_closed().await;
        let app = build(config(&self.place, self.folder.path(), |_| {})).await;
        let proposal = OperationSpec {
            key: self.key.clone(),
            gateway: "edge".to_owned(),
            sandbox: "coder".to_owned(),
            ..OperationSpec::default()
        };
        let id = open_round(&app, &proposal, host).await;
        app.stop.cancel();
        app.drain().await;
        id
    }

    /// Opens the database while no server runs. On PostgreSQL it stays open: opening it again would start three
    /// processes of the database server.
    pub(super) async fn open(&self) -> Db {
        self.place.wait_closed().await;
        let open = || async { Db::open(&self.place.options()).await.unwrap() };
        match &self.place {
            DbLocation::Sqlite(_) => open().await,
            DbLocation::Postgres(_) => self.opened.get_or_init(open).await.clone(),
        }
    }

    /// Ends the leases of killed servers, and the deadlines of their writes.
    pub(super) async fn pass_time(&self) {
        let db = self.open().await;
        let mut conn = db.write().await.unwrap();
        let past = Timestamp::EPOCH;
        on_conn!(&mut conn, |c| diesel::update(write_intents::table)
            .set(write_intents::deadline.eq(past))
            .execute(c)
            .await)
        .unwrap();
        let held = operations::table.filter(operations::owner.is_not_null());
        on_conn!(&mut conn, |c| diesel::update(held)
            .set(operations::lease_expires_at.eq(Some(past)))
            .execute(c)
            .await)
        .unwrap();
        on_conn!(&mut conn, |c| diesel::update(leases::table)
            .set(leases::expires_at.eq(past))
            .execute(c)
            .await)
        .unwrap();
    }

    /// Ends the time in which approved rounds can be written.
    async fn pass_apply_window(&self) {
        let db = self.open().await;
        let mut conn = db.write().await.unwrap();
        let past = "'2020-01-01 00:00:00.000000'";
        let sql = format!("UPDATE approval_rounds SET apply_by = {past}, due_at = {past}");
        on_conn!(&mut conn, |c| diesel::sql_query(sql).execute(c).await).unwrap();
    }

    pub(super) async fn round(&self, id: ApprovalRoundId) -> Round {
        let db = self.open().await;
        let mut conn = db.read().await.unwrap();
        store::by_id(&mut conn, id).await.unwrap().unwrap()
    }

    /// Returns the number of events of a type about a round, while no server runs.
    pub(super) async fn count_events(&self, name: &str, id: ApprovalRoundId) -> i64 {
        let db = self.open().await;
        let mut conn = db.read().await.unwrap();
        let of_it = events::payload_json.like(format!("%\"approval\":{id},%"));
        let found = events::table.filter(events::name.eq(name).and(of_it)).count();
        on_conn!(&mut conn, |c| found.get_result(c).await).unwrap()
    }

    /// Returns the numbers of revisions and of writes of the policy.
    pub(super) fn written(&self) -> (u64, u64) {
        (revisions(&self.simulator), writes(&self.simulator))
    }

    /// Kills a server at this point while it writes a round, which is the last one of `count`, and lets the next server
    /// finish. Checks that the round is written once: `before` are the numbers before it was approved.
    pub(super) async fn kill_and_finish(
        &self,
        point: FailPoint,
        (id, count): (ApprovalRoundId, usize),
        before: (u64, u64),
    ) {
        // The server before it was killed, too, and held leases.
        self.pass_time().await;
        let status = self.serve_until(point, "kill").await.wait_exit();
        assert_eq!(status.signal(), Some(SIGKILL), "{point}: {status:?}");
        self.pass_time().await;
        let next = self.serve().await;
        wait_written(&next.caller, count).await;
        drop(next);
        assert_eq!(self.round(id).await.state, RoundState::Applied, "{point}");
        let once = (before.0 + 1, before.1 + 1);
        assert_eq!(self.written(), once, "{point}: it is written once");
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

/// Waits until this number of operations has written a policy that is loaded.
pub(super) async fn wait_written(caller: &Caller, count: usize) {
    let succeeded = || async {
        let list = pb::ListOperationsRequest {
            page_size: 100,
            r#type: pb::OperationType::Policy.into(),
            status: pb::OperationStatus::Succeeded.into(),
            ..Default::default()
        };
        let listed = caller.operations().list_operations(list).await.unwrap().into_inner();
        listed.operations.len() >= count
    };
    eventually("the policy is written", succeeded).await;
}

/// Kills servers at a point while they write a policy.
async fn killed_at(engine: Engine, point: FailPoint) {
    let Some(scene) = Scene::start(engine, Generation::V0_1).await else { return };
    for count in 1..=kills() {
        let before = scene.written();
        let id = scene.open_round(&format!("h{count}.example")).await;
        scene.kill_and_finish(point, (id, count), before).await;
    }
    scene.place.remove();
}

/// Kills a server in the transaction that ends a review whose time is over.
async fn killed_at_the_end_of_a_review(engine: Engine) {
    let Some(scene) = Scene::start(engine, Generation::V0_1).await else { return };
    let id = scene.open_round("late.example").await;
    scene.pass_time().await;
    scene.pass_apply_window().await;
    let status = scene.serve_until(FailPoint::ExpiryRecorded, "kill").await.wait_exit();
    assert_eq!(status.signal(), Some(SIGKILL), "{status:?}");
    assert_eq!(scene.round(id).await.state, RoundState::Approved, "it was not committed");
    scene.pass_time().await;
    let next = scene.serve().await;
    eventually("it has expired", || async {
        let found = next.caller.approval(id.get()).await.approval.unwrap();
        // It is shown as expired before its end is stored, which has a reason.
        found.state() == pb::ApprovalState::Expired && !found.close_reason.is_empty()
    })
    .await;
    assert_eq!(next.caller.audit_entries("coder", "approval.expire").await.len(), 1);
    drop(next);
    assert_eq!(scene.round(id).await.state, RoundState::Expired);
    assert_eq!(writes(&scene.simulator), 0);
    scene.place.remove();
}

mod g14_killed_at_the_end_of_a_review_records_the_end_once {
    use super::*;

    #[test]
    fn sqlite() {
        limit::block_on(killed_at_the_end_of_a_review(Engine::Sqlite));
    }

    #[test]
    fn postgres() {
        limit::block_on(killed_at_the_end_of_a_review(Engine::Postgres));
    }
}

mod g02_killed_before_the_answer_is_written_once {
    use super::*;

    each_point! {
        killed_at,
        dispatch_started: DispatchStarted,
        apply_fetched: ApplyFetched,
        intent_stored: IntentStored,
        apply_sent: ApplySent,
    }
}

mod g02_killed_after_the_answer_is_written_once {
    use super::*;

    each_point! {
        killed_at,
        apply_answered: ApplyAnswered,
        written_stored: WrittenStored,
        load_seen: LoadSeen,
        applied_stored: AppliedStored,
    }
}
