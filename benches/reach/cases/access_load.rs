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

/// Number of users.
const USERS: u32 = 10_000;
/// Roles on gateways of all groups.
const BINDINGS_OF_GROUPS: u32 = 1_000;
/// Roles on gateways of ten users.
const BINDINGS_OF_TEN_USERS: u32 = 99;

/// The rows of a table.
struct Rows {
    /// Name of the table, with its columns.
    table: &'static str,
    /// Number of rows for 10,000 users.
    count: u32,
    /// Whether the number depends on the number of users.
    by_users: bool,
    /// The values of row `i`.
    row: &'static str,
}

/// 10,000 users, 1,000 gateways and 100 groups. Roles on named gateways: 90,000 of users and 1,000 of groups. Selector
/// bindings: 9,000 of users.
const ROWS: [Rows; 7] = [
    Rows {
        table: "gateways (id, name, endpoint, scheme, labels_json, registered_at)",
        count: 1_000,
        by_users: false,
        row: "i + 1, 'gateway-' || i, '192.0.2.1:443', 'https', \
              '{\"access/env\":\"' || (i % 10) || '\",\"access/zone\":\"' || (i / 10 % 10) || '\"}', :at",
    },
    Rows {
        table: "groups (id, name, role, created_at)",
        count: 100,
        by_users: false,
        row: "i + 1, 'group-' || i, 'none', :at",
    },
    Rows {
        table: "users (id, email, role, is_active, created_at)",
        count: USERS,
        by_users: true,
        row: "i + 1, 'user-' || i || '@example.com', 'viewer', :true, :at",
    },
    Rows {
        table: "group_members (group_id, user_id)",
        count: 20_000,
        by_users: true,
        row: "(i / 2 + i % 2 * 37) % 100 + 1, i / 2 + 1",
    },
    Rows {
        table: "user_gateway_roles (user_id, gateway_id, role)",
        count: 90_000,
        by_users: true,
        row: "i / 9 + 1, (i / 9 * 7 + i % 9 * 101) % 1000 + 1, 'operator'",
    },
    Rows {
        table: "group_gateway_roles (group_id, gateway_id, role)",
        count: 1_000,
        by_users: false,
        row: "i / 10 + 1, (i / 10 * 7 + i % 10 * 101) % 1000 + 1, 'operator'",
    },
    Rows {
        table: "selector_bindings (subject_kind, user_id, selector, role, created_at)",
        count: 9_000,
        by_users: true,
        row: "'user', i + 1, 'access/env=' || (i % 10) || ',access/zone in (' || (i % 7) || ',x)', 'operator', :at",
    },
];

impl Rows {
    fn count_for(&self, users: u32) -> u32 {
        if self.by_users { self.count / (USERS / users) } else { self.count }
    }
}

/// Measures both engines.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        let (_, figure) = measure(bench, &setup, USERS)?;
        let name = format!("{}, 100,000 bindings loaded", place::engine_name(engine));
        figure.print(&name, "ms", Target::AtMost(LOAD_MS_MAX))?;
    }
    Ok(())
}

/// Measures the load with 10,000 users, or a part of them. Returns the number of bindings, and the milliseconds.
pub(super) fn measure(
    bench: &Bench,
    setup: &ServerSetup,
    users: u32,
) -> Result<(u32, Figure), BoxError> {
    let bindings = BINDINGS_OF_GROUPS + users / 10 * BINDINGS_OF_TEN_USERS;
    let figure = bench.runtime.block_on(async {
        let db = setup.open_db().await?;
        fill(&db, setup.engine, users).await?;
        let mut figure = Figure::default();
        for _ in 0..bench.options.rounds {
            figure.add(load(&db).await?.as_secs_f64() * 1e3);
        }
        Ok::<_, BoxError>(figure)
    })?;
    Ok((bindings, figure))
}

async fn fill(db: &Db, engine: Engine, users: u32) -> Result<(), BoxError> {
    let yes = if engine == Engine::Sqlite { "1" } else { "true" };
    let mut conn = db.write().await?;
    for rows in &ROWS {
        let (table, row, last) = (rows.table, rows.row, rows.count_for(users) - 1);
        // One row is inserted per number.
        let row = row.replace(":at", "'2026-01-01 00:00:00.000000'").replace(":true", yes);
        let numbers = format!("SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last}");
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
    let read = feed::read_all(&mut db.read().await?, Timestamp::EPOCH).await?;
    snapshot.replace(read.revision, read.facts, Clock::system().since_boot());
    let role = snapshot.role_on(PrincipalId::User(UserId(1)), GatewayId(1));
    let took = begun.elapsed();
    // The first role of the first user is on the first gateway.
    if role != Role::Operator {
        return Err(format!("the first check gave `{role}`").into());
    }
    Ok(took)
}
