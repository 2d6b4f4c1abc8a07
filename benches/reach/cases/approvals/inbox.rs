//! Measures the inbox of many open reviews, and what open reviews cost while nothing happens.

use std::time::Duration;

use diesel_async::RunQueryDsl as _;
use shoreguard::db::{Engine, on_conn};
use shoreguard::pb::v1 as pb;

use super::people::{addition, govern, hire, propose};
use crate::cases::{Subject, run_rounds_with};
use crate::child::Child;
use crate::figure::{Figure, Target, print_line};
use crate::fleet::{self, Admin};
use crate::load::{self, Call, ONE_CALLER};
use crate::place::{self, ENGINES, ServerSetup};
use crate::roles::simulated_address;
use crate::{Bench, BoxError};

/// Number of gateways, half of them of each generation.
const GATEWAYS: u16 = 100;
/// Open reviews of the inbox.
const INBOX_ROUNDS: u32 = 10_000;
/// Open reviews on gateways where nothing happens.
const IDLE_ROUNDS: u32 = 1_000;
const PAGE_P99_US_MAX: f64 = 20_000.0;
const IDLE_PERCENT_MAX: f64 = 1.0;
/// Longest load of a round.
const LOAD_MAX: Duration = Duration::from_secs(2);
/// Time of a round in which nothing happens: an interval of followers, so that each gateway is asked once in every round.
const IDLE_TIME: Duration = Duration::from_secs(15);
/// Wait after a start, before nothing happens.
const SETTLE: Duration = Duration::from_secs(5);

/// The columns of a review that its copies have, too.
const COPIED: &str = "action, workspace, sandbox_id, chunk_id, state, digest, generation, base_version, base_digest, \
     effective_hash, content, rules_json, authors_json, owner, summary_json, grant_minutes, opened_at, escalates_at, \
     escalated_at, expires_at, decided_at, apply_by, due_at, closed_at, close_reason, gateway_told, operation_id, \
     attempts, written_version, written_hash, previous_id, override_id, version";

/// Measures the first page for an admin, who sees all gateways.
pub(in crate::cases) fn first_page(bench: &Bench) -> Result<(), BoxError> {
    let gateways = Child::start("simulators", &[&GATEWAYS.to_string()])?;
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        let key = open_rounds(bench, &setup, gateways.address.port(), INBOX_ROUNDS)?;
        let (server, _) = fleet::start_server(bench, &setup)?;
        let path = "/shoreguard.v1.ApprovalService/ListApprovals";
        let call = Call::new(path, &pb::ListApprovalsRequest::default(), Some(&key))?;
        let name = place::engine_name(engine);
        let name = format!("{name}, the first page of {INBOX_ROUNDS} open reviews");
        let mut subjects = [Subject::new(name, &server, vec![call])];
        let time = bench.options.load_duration().min(LOAD_MAX);
        run_rounds_with(bench, &mut subjects, &|subject| {
            load::run(subject.process.address, &subject.calls, ONE_CALLER, time)
        })?;
        let [subject] = subjects;
        subject.p50.print(&format!("{}, p50", subject.name), "us", Target::None)?;
        let target = Target::AtMost(PAGE_P99_US_MAX);
        subject.p99.print(&format!("{}, p99", subject.name), "us", target)?;
    }
    Ok(())
}

/// Measures the processor time of a server that no caller calls.
pub(in crate::cases) fn idle(bench: &Bench) -> Result<(), BoxError> {
    let gateways = Child::start("simulators", &[&GATEWAYS.to_string()])?;
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        open_rounds(bench, &setup, gateways.address.port(), IDLE_ROUNDS)?;
        let (server, _) = fleet::start_server(bench, &setup)?;
        std::thread::sleep(SETTLE);
        let mut figure = Figure::default();
        for _ in 0..bench.options.rounds {
            let before = server.processor_time()?;
            std::thread::sleep(IDLE_TIME);
            let used = server.processor_time()?.saturating_sub(before);
            figure.add(used.as_secs_f64() * 100.0 / IDLE_TIME.as_secs_f64());
        }
        let name = place::engine_name(engine);
        let name = format!("{name}, {IDLE_ROUNDS} open reviews on {GATEWAYS} idle gateways");
        figure.print(&name, "% of a core", Target::AtMost(IDLE_PERCENT_MAX))?;
    }
    Ok(())
}

/// Registers the gateways, each with a rule, and opens reviews on them. The server is stopped afterwards. Returns the
/// key of an admin.
fn open_rounds(
    bench: &Bench,
    setup: &ServerSetup,
    port: u16,
    rounds: u32,
) -> Result<String, BoxError> {
    let key = setup.create_admin_key()?;
    let (server, _) = fleet::start_server(bench, setup)?;
    let id = bench.runtime.block_on(async {
        let admin = Admin::connect(server.address, &key).await?;
        let ana = hire(&admin, server.address, "ana").await?;
        hire(&admin, server.address, "ben").await?;
        hire(&admin, server.address, "cleo").await?;
        let name = |number: u16| format!("fleet-{number:03}");
        for number in 0..GATEWAYS {
            admin.register(name(number), simulated_address(number, port)).await?;
            govern(&admin, &name(number), 2).await?;
        }
        let merge = pb::PolicyApplyMode::Merge;
        let opened = propose(&ana, &name(0), addition("host.example"), merge).await?;
        Ok::<_, BoxError>(opened.0)
    })?;
    drop(server);
    let begun = std::time::Instant::now();
    bench.runtime.block_on(copy(setup, id, rounds - 1))?;
    let (name, took) = (place::engine_name(setup.engine), begun.elapsed().as_millis());
    print_line(&format!("  {name}: {rounds} reviews, filled in {took} ms"))?;
    Ok(key)
}

/// Copies an open review to other sandboxes of all gateways, directly in SQL, without Shoreguard's code.
async fn copy(setup: &ServerSetup, id: i64, copies: u32) -> Result<(), BoxError> {
    let (with, series) = match setup.engine {
        Engine::Sqlite => (
            format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {copies}) "
            ),
            "n".to_owned(),
        ),
        Engine::Postgres => (String::new(), format!("generate_series(1, {copies}) AS n(i)")),
    };
    let values = COPIED.split(", ").map(|column| format!("r.{column}"));
    let values = values.collect::<Vec<_>>().join(", ");
    let sql = format!(
        "{with}INSERT INTO approval_rounds (gateway_id, gateway_name, sandbox_name, {COPIED}) \
         SELECT g.id, g.name, 'box-' || n.i, {values} FROM {series} \
         JOIN (SELECT id, name, row_number() OVER (ORDER BY id) - 1 AS place FROM gateways) AS g \
         ON g.place = n.i % {GATEWAYS} CROSS JOIN approval_rounds AS r WHERE r.id = {id}"
    );
    let db = setup.open_db().await?;
    let mut conn = db.write().await?;
    let inserted = on_conn!(&mut conn, |c| diesel::sql_query(sql).execute(c).await)?;
    if inserted != usize::try_from(copies)? {
        return Err(format!("{inserted} reviews were copied, not {copies}").into());
    }
    if setup.engine == Engine::Postgres {
        // The server's autovacuum does this some time after such a load.
        on_conn!(&mut conn, |c| diesel::sql_query("ANALYZE approval_rounds").execute(c).await)?;
    }
    Ok(())
}
