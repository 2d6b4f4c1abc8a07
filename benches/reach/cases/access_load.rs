//! Measures how long the access data of a large fleet takes to load, from the database to the first check.

use std::time::{Duration, Instant};

use diesel_async::RunQueryDsl as _;
use shoreguard::access::principal::PrincipalId;
use shoreguard::access::snapshot::Snapshot;
use shoreguard::clock::Clock;
use shoreguard::clock::Timestamp;
use shoreguard::db::types::{GatewayId, UserId};
use shoreguard::db::{Db, Engine, on_conn};
use shoreguard::feed;
use shoreguard::role::Role;

use crate::figure::{Figure, Target};
use crate::place::{self, ENGINES, ServerSetup};
use crate::{Bench, BoxError};

const LOAD_MS_MAX: f64 = 2_000.0;

/// 10,000 users, 1,000 gateways and 100 groups. Roles on named gateways: 90,000 of users and 1,000 of groups. Selector
/// bindings: 9,000 of users.
const ROWS: [(&str, u32, &str); 7] = [
    (
        "gateways (id, name, endpoint, scheme, labels_json, registered_at)",
        1_000,
        "i + 1, 'gateway-' || i, '192.0.2.1:443', 'https', \
         '{\"access/env\":\"' || (i % 10) || '\",\"access/zone\":\"' || (i / 10 % 10) || '\"}', :at",
    ),
    ("groups (id, name, role, created_at)", 100, "i + 1, 'group-' || i, 'none', :at"),
    (
        "users (id, email, role, is_active, created_at)",
        10_000,
        "i + 1, 'user-' || i || '@example.com', 'viewer', :true, :at",
    ),
    ("group_members (group_id, user_id)", 20_000, "(i / 2 + i % 2 * 37) % 100 + 1, i / 2 + 1"),
    (
        "user_gateway_roles (user_id, gateway_id, role)",
        90_000,
        "i / 9 + 1, (i / 9 * 7 + i % 9 * 101) % 1000 + 1, 'operator'",
    ),
    (
        "group_gateway_roles (group_id, gateway_id, role)",
        1_000,
        "i / 10 + 1, (i / 10 * 7 + i % 10 * 101) % 1000 + 1, 'operator'",
    ),
    (
        "selector_bindings (subject_kind, user_id, selector, role, created_at)",
        9_000,
        "'user', i + 1, 'access/env=' || (i % 10) || ',access/zone in (' || (i % 7) || ',x)', 'operator', :at",
    ),
];

/// Measures both engines.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        let figure = bench.runtime.block_on(async {
            let db = setup.open_db().await?;
            fill(&db, engine).await?;
            let mut figure = Figure::default();
            for _ in 0..bench.options.rounds {
                figure.add(load(&db).await?.as_secs_f64() * 1e3);
            }
            Ok::<_, BoxError>(figure)
        })?;
        let name = format!("{}, 100,000 bindings loaded", place::engine_name(engine));
        figure.print(&name, "ms", Target::AtMost(LOAD_MS_MAX))?;
    }
    Ok(())
}

async fn fill(db: &Db, engine: Engine) -> Result<(), BoxError> {
    let yes = if engine == Engine::Sqlite { "1" } else { "true" };
    let mut conn = db.write().await?;
    for (table, rows, row) in ROWS {
        // `table` is the name of the table with its columns. One row is inserted per number.
        let row = row.replace(":at", "'2026-01-01 00:00:00.000000'").replace(":true", yes);
        let numbers = format!("SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {}", rows - 1);
        let sql =
            format!("WITH RECURSIVE n(i) AS ({numbers}) INSERT INTO {table} SELECT {row} FROM n");
        on_conn!(&mut conn, |c| diesel::sql_query(sql).execute(c).await)?;
    }
    Ok(())
}

/// Loads the data as a server does when it starts.
async fn load(db: &Db) -> Result<Duration, BoxError> {
    let snapshot = Snapshot::new(Clock::system(), Duration::from_hours(1));
    let begun = Instant::now();
    let (revision, everything) = feed::read_all(&mut db.read().await?, Timestamp::EPOCH).await?;
    snapshot.replace(revision, everything, Clock::system().since_boot());
    let role = snapshot.role_on(PrincipalId::User(UserId(1)), GatewayId(1));
    let took = begun.elapsed();
    // The first role of the first user is on the first gateway.
    if role != Role::Operator {
        return Err(format!("the first check gave `{role}`").into());
    }
    Ok(took)
}
