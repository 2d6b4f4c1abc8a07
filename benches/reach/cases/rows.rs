//! Measures reads beside many audit entries and events: their latency must not grow with the rows.

use std::time::Duration;

use diesel_async::RunQueryDsl as _;
use shoreguard::db::{Engine, on_conn};
use shoreguard::pb::v1 as pb;

use super::{Subject, audit_list, run_rounds_with};
use crate::figure::{Figure, Target};
use crate::fleet::{self, Admin};
use crate::load::{self, Call, ONE_CALLER};
use crate::place::{self, ENGINES, ServerSetup};
use crate::{Bench, BoxError};

/// Number of rows of each table.
const TOTALS: [u32; 2] = [1_000, 100_000];
/// Maximum of the latency at the larger total, divided by that at the smaller one.
const GROWTH_MAX: f64 = 1.5;
/// Longest load of a round.
const LOAD_MAX: Duration = Duration::from_secs(1);
/// Name of the gateway that is read. Its address is never called.
pub(super) const GATEWAY: &str = "edge-00";

const SQLITE_NOW: &str = "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'";
const POSTGRES_NOW: &str = "timezone('utc', now())";

/// Measures both engines.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        run_engine(bench, &setup)?;
    }
    Ok(())
}

fn run_engine(bench: &Bench, setup: &ServerSetup) -> Result<(), BoxError> {
    let key = setup.create_admin_key()?;
    let (server, _) = fleet::start_server(bench, setup)?;
    bench.runtime.block_on(async {
        let admin = Admin::connect(server.address, &key).await?;
        admin.register(GATEWAY.to_owned(), server.address).await
    })?;
    drop(server);
    let mut latencies: [Vec<Figure>; 2] = [Vec::new(), Vec::new()];
    let mut filled = 0;
    for total in TOTALS {
        bench.runtime.block_on(async {
            audit_list::fill(setup, filled + 1..=total, TOTALS[1]).await?;
            fill_events(setup, filled + 1, total).await
        })?;
        filled = total;
        let (server, _) = fleet::start_server(bench, setup)?;
        let path = "/shoreguard.v1.GatewayService/GetGateway";
        let get =
            Call::new(path, &pb::GetGatewayRequest { gateway: GATEWAY.to_owned() }, Some(&key))?;
        let mut subjects = [
            Subject::new("GetGateway", &server, vec![get]),
            Subject::new("ListAuditEntries", &server, audit_list::page_call(&key, String::new())?),
        ];
        let time = bench.options.load_duration().min(LOAD_MAX);
        run_rounds_with(bench, &mut subjects, &|subject| {
            load::run(subject.process.address, &subject.calls, ONE_CALLER, time)
        })?;
        for (subject, latency) in subjects.iter().zip(&mut latencies) {
            let name =
                format!("{}, {}, {total} rows", place::engine_name(setup.engine), subject.name);
            subject.p50.print(&format!("{name}, p50"), "us", Target::None)?;
            subject.p99.print(&format!("{name}, p99"), "us", Target::None)?;
            latency.push(subject.p50.clone());
        }
    }
    for (name, latency) in ["GetGateway", "ListAuditEntries"].iter().zip(&latencies) {
        let [few, many] = latency.as_slice() else { continue };
        let engine = place::engine_name(setup.engine);
        let name = format!("{engine}, {name}, {} by {} rows", TOTALS[1], TOTALS[0]);
        many.divided_by(few).print(&name, "times", Target::AtMost(GROWTH_MAX))?;
    }
    Ok(())
}

/// Inserts numbered events of the gateway, directly in SQL. The numbers follow those that the server has assigned.
pub(super) async fn fill_events(setup: &ServerSetup, from: u32, to: u32) -> Result<(), BoxError> {
    let (with, series, now) = match setup.engine {
        Engine::Sqlite => (
            format!(
                "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to}) "
            ),
            "n".to_owned(),
            SQLITE_NOW,
        ),
        Engine::Postgres => {
            (String::new(), format!("generate_series({from}, {to}) AS n(i)"), POSTGRES_NOW)
        }
    };
    let count = to - from + 1;
    let insert = format!(
        "{with}INSERT INTO events (sequence, name, gateway_id, gateway_name, actor, payload_json, occurred_at) \
         SELECT head.sequence + n.i - {from} + 1, 'gateway.updated', g.id, g.name, 'reach', '{{}}', {now} \
         FROM {series} CROSS JOIN event_head AS head CROSS JOIN gateways AS g WHERE g.name = '{GATEWAY}'"
    );
    let advance = format!("UPDATE event_head SET sequence = sequence + {count}");
    // An event that the stopped server has not numbered would get a number in between.
    let unnumbered = "DELETE FROM events WHERE sequence IS NULL".to_owned();
    let db = setup.open_db().await?;
    let mut conn = db.write().await?;
    for sql in [unnumbered, insert, advance] {
        on_conn!(&mut conn, |c| diesel::sql_query(sql).execute(c).await)?;
    }
    if setup.engine == Engine::Postgres {
        // The server's autovacuum does this some time after such a load.
        on_conn!(&mut conn, |c| diesel::sql_query("ANALYZE events").execute(c).await)?;
    }
    Ok(())
}
