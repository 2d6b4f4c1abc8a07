//! Measures the first and the last page of a long audit log.

use std::ops::RangeInclusive;

use diesel_async::RunQueryDsl as _;
use shoreguard::db::{Engine, on_conn};
use shoreguard::pb::v1 as pb;

use super::{Subject, run_rounds};
use crate::figure::{Target, print_line};
use crate::fleet::{self, Admin};
use crate::load::{Call, ONE_CALLER};
use crate::place::{self, ENGINES, ServerSetup};
use crate::{Bench, BoxError};

const P99_US_MAX: f64 = 2_000.0;
/// Rows per statement, few enough to stay within the statement timeout of the server.
const ROWS_PER_STATEMENT: u32 = 100_000;
/// Rows per page while walking to the last page.
const WALK_ROWS: i32 = 1_000;
/// Rows per measured page: the default page size.
const PAGE_ROWS: i32 = 50;
/// Limit of pages before the walk is aborted.
const PAGES_MAX: u32 = 20_000;

/// The columns that are filled. There is one entry per 0.1 s, up to the current time.
const COLUMNS: &str = "timestamp, actor, actor_role, action, resource_type, resource_id, gateway_name, \
     client_ip, principal, request_id, method, owner, closed_at, outcome, code, duration_us";
const SQLITE_ROW: &str = "strftime('%Y-%m-%d %H:%M:%f', unixepoch() - (:rows - i) / 10.0, 'unixepoch') || '000', \
     'user-' || (i % 97) || '@example.com', 'operator', 'sandbox.stop', 'sandbox', 'coder-' || (i % 1009), \
     'edge-' || (i % 64), '192.0.2.1', 'user:' || (i % 97), printf('%032x', i), \
     '/openshell.v1.OpenShell/StopSandbox', 'reach', \
     strftime('%Y-%m-%d %H:%M:%f', unixepoch() - (:rows - i) / 10.0, 'unixepoch') || '000', 'ok', 0, 1500";
const POSTGRES_ROW: &str = "timezone('utc', now()) - (:rows - i) * interval '0.1 s', \
     'user-' || (i % 97) || '@example.com', 'operator', 'sandbox.stop', 'sandbox', 'coder-' || (i % 1009), \
     'edge-' || (i % 64), '192.0.2.1', 'user:' || (i % 97), lpad(to_hex(i), 32, '0'), \
     '/openshell.v1.OpenShell/StopSandbox', 'reach', \
     timezone('utc', now()) - (:rows - i) * interval '0.1 s', 'ok', 0, 1500";

/// Measures both engines.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        let key = setup.create_admin_key()?;
        let begun = std::time::Instant::now();
        let rows = bench.options.audit_rows;
        bench.runtime.block_on(fill(&setup, 1..=rows, rows))?;
        let took = begun.elapsed().as_secs();
        print_line(&format!("  {}: {rows} rows, filled in {took} s", place::engine_name(engine)))?;
        let (server, _) = fleet::start_server(bench, &setup)?;
        let last = bench.runtime.block_on(last_page(server.address, &key))?;
        let named = |page: &str| format!("{}, {page} page", place::engine_name(engine));
        let mut subjects = [
            Subject::new(named("first"), &server, page_call(&key, String::new())?),
            Subject::new(named("last"), &server, page_call(&key, last)?),
        ];
        run_rounds(bench, &mut subjects, ONE_CALLER)?;
        for subject in &subjects {
            subject.p50.print(&format!("{}, p50", subject.name), "us", Target::None)?;
            let name = format!("{}, p99", subject.name);
            subject.p99.print(&name, "us", Target::AtMost(P99_US_MAX))?;
        }
    }
    Ok(())
}

/// Returns the call of the page that a token refers to.
pub(super) fn page_call(key: &str, token: String) -> Result<Vec<Call>, BoxError> {
    let request = pb::ListAuditEntriesRequest {
        page_size: PAGE_ROWS,
        page_token: token,
        ..Default::default()
    };
    let path = "/shoreguard.v1.AuditService/ListAuditEntries";
    Ok(vec![Call::new(path, &request, Some(key))?])
}

/// Inserts rows directly in SQL, without Shoreguard's code. `total` is the number of the newest row.
pub(super) async fn fill(
    setup: &ServerSetup,
    rows: RangeInclusive<u32>,
    total: u32,
) -> Result<(), BoxError> {
    let (series, row) = match setup.engine {
        Engine::Sqlite => (
            "WITH RECURSIVE n(i) AS (SELECT :from UNION ALL SELECT i + 1 FROM n WHERE i < :to)",
            format!("{SQLITE_ROW} FROM n"),
        ),
        Engine::Postgres => {
            ("", format!("{POSTGRES_ROW} FROM generate_series(:from, :to) AS n(i)"))
        }
    };
    let db = setup.open_db().await?;
    let mut conn = db.write().await?;
    let last = *rows.end();
    for from in rows.step_by(ROWS_PER_STATEMENT as usize) {
        let to = last.min(from + ROWS_PER_STATEMENT - 1);
        let sql = format!("{series} INSERT INTO audit_log ({COLUMNS}) SELECT {row}")
            .replace(":from", &from.to_string())
            .replace(":to", &to.to_string())
            .replace(":rows", &total.to_string());
        on_conn!(&mut conn, |c| diesel::sql_query(sql).execute(c).await)?;
    }
    if setup.engine == Engine::Postgres {
        // The server's autovacuum does this some time after such a load.
        on_conn!(&mut conn, |c| diesel::sql_query("ANALYZE audit_log").execute(c).await)?;
    }
    Ok(())
}

/// Returns the page token of the last page.
pub(super) async fn last_page(
    address: std::net::SocketAddr,
    key: &str,
) -> Result<String, BoxError> {
    let admin = Admin::connect(address, key).await?;
    let mut token = admin.audit_page(WALK_ROWS, "").await?;
    for _ in 0..PAGES_MAX {
        let next = admin.audit_page(WALK_ROWS, &token).await?;
        if next.is_empty() {
            return Ok(token);
        }
        token = next;
    }
    Err("the audit log has no end".into())
}
