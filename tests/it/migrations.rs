//! The schema: equal on both engines and in src/db/schema, reversible, and never newer than the binary.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel::{Connection, SqliteConnection};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use shoreguard::db::{Db, DbOptions, Engine, versions};
use shoreguard::error::Error;
use tokio_postgres::NoTls;

use crate::support::DbLocation;
use crate::support::TestDb;
use crate::support::limit::{self, start_time_limit};
use crate::support::postgres::Database;

/// Columns by table, in order: name, type as in src/db/schema, and whether it is nullable.
type Columns = BTreeMap<String, Vec<(String, String, bool)>>;

/// Tables that are declared in two parts.
const SPLIT: [&str; 1] = ["approval_rounds"];

fn declared() -> Columns {
    let mut tables = Columns::new();
    let (mut table, mut sql_name) = (String::new(), None);
    let files = [
        include_str!("../../src/db/schema/mod.rs"),
        include_str!("../../src/db/schema/governance.rs"),
        include_str!("../../src/db/schema/registry.rs"),
        include_str!("../../src/db/schema/sandboxes.rs"),
        include_str!("../../src/db/schema/webhook_tables.rs"),
    ];
    for line in files.iter().flat_map(|text| text.lines()) {
        if let Some((name, _)) = line.trim().split_once(" (")
            && line.ends_with(") {")
        {
            // A table with more columns than diesel has is declared in two parts with one name.
            table = sql_name.take().unwrap_or_else(|| name.to_owned());
        } else if let Some(name) = line.trim().strip_prefix("#[sql_name = \"") {
            // A column whose name is a keyword of Rust, or a part of a table.
            sql_name = Some(name.trim_end_matches("\"]").to_owned());
        } else if let Some((column, kind)) = line.trim().split_once(" -> ")
            && line.ends_with(',')
        {
            let kind = kind.trim_end_matches(',');
            let inner = kind.strip_prefix("Nullable<").and_then(|kind| kind.strip_suffix('>'));
            let column = sql_name.take().unwrap_or_else(|| column.to_owned());
            let column = (column, inner.unwrap_or(kind).to_owned(), inner.is_some());
            let columns = tables.entry(table.clone()).or_default();
            // Both parts of a table declare its key.
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
    }
    tables
}

fn as_declared(kind: &str) -> &'static str {
    match kind {
        "BIGINT" | "bigint" => "BigInt",
        "INTEGER" | "integer" => "Integer",
        "TEXT" | "text" => "Text",
        "BOOLEAN" | "boolean" => "Bool",
        "BLOB" | "bytea" => "Binary",
        "DOUBLE PRECISION" | "double precision" => "Double",
        "TIMESTAMP" | "timestamp without time zone" => "Timestamp",
        other => panic!("no column is of type {other}"),
    }
}

/// The schema of an engine after the migrations.
#[derive(Debug, Default, PartialEq, Eq)]
struct Schema {
    columns: Columns,
    constraints: BTreeSet<String>,
    indexes: BTreeSet<String>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = diesel::sql_types::Text)]
    a: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    b: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    c: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    d: String,
}

const SQLITE_COLUMNS: &str = "
    SELECT m.name AS a, p.name AS b,
           CASE WHEN p.pk = 1 AND p.type = 'INTEGER' THEN 'BIGINT' ELSE p.type END AS c,
           CASE p.\"notnull\" WHEN 0 THEN 'YES' ELSE 'NO' END AS d
    FROM sqlite_master m JOIN pragma_table_info(m.name) p
    WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name <> '__diesel_schema_migrations'
    ORDER BY m.name, p.cid";
const SQLITE_OBJECTS: &str = "
    SELECT type AS a, name AS b, coalesce(sql, '') AS c, '' AS d FROM sqlite_master
    WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' AND name <> '__diesel_schema_migrations'";

fn sqlite_schema(conn: &mut SqliteConnection) -> Schema {
    let mut schema = Schema::default();
    for row in diesel::sql_query(SQLITE_COLUMNS).load::<Row>(conn).unwrap() {
        let column = (row.b, as_declared(&row.c).to_owned(), row.d == "YES");
        schema.columns.entry(row.a).or_default().push(column);
    }
    for row in diesel::sql_query(SQLITE_OBJECTS).load::<Row>(conn).unwrap() {
        if row.a == "index" {
            schema.indexes.insert(row.b);
        } else {
            let named = row.c.split("CONSTRAINT ").skip(1);
            schema
                .constraints
                .extend(named.map(|rest| rest.split_whitespace().next().unwrap().to_owned()));
        }
    }
    schema
}

const POSTGRES_COLUMNS: &str = "
    SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name <> '__diesel_schema_migrations'
    ORDER BY table_name, ordinal_position";
const POSTGRES_CONSTRAINTS: &str = "
    SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    AND conname NOT LIKE '\\_\\_diesel%'";
const POSTGRES_INDEXES: &str = "
    SELECT indexname FROM pg_indexes WHERE schemaname = 'public'
    AND indexname NOT IN (SELECT conname FROM pg_constraint)";

/// Indexes that SQLite does not use: their migrations say why.
const ONLY_ON_POSTGRES: [&str; 1] = ["events_unnumbered"];

async fn postgres_schema(database: &Database) -> Schema {
    let mut schema = Schema::default();
    for row in database.query(POSTGRES_COLUMNS).await {
        let [table, column, kind, nullable] = <[_; 4]>::try_from(row).unwrap().map(Option::unwrap);
        let column = (column, as_declared(&kind).to_owned(), nullable == "YES");
        schema.columns.entry(table).or_default().push(column);
    }
    let names = |rows: Vec<Vec<Option<String>>>| rows.into_iter().flatten().flatten().collect();
    schema.constraints = names(database.query(POSTGRES_CONSTRAINTS).await);
    schema.indexes = names(database.query(POSTGRES_INDEXES).await);
    schema
}

fn migrations(engine: &str) -> FileBasedMigrations {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/");
    FileBasedMigrations::from_path(format!("{path}{engine}")).unwrap()
}

/// Creates a database and runs the migrations. It is in memory: in a file, each migration would wait for the disk.
fn sqlite_up() -> SqliteConnection {
    let mut conn = SqliteConnection::establish(":memory:").unwrap();
    conn.run_pending_migrations(migrations("sqlite")).unwrap();
    conn
}

fn sqlite_up_down_up() -> Schema {
    let mut conn = sqlite_up();
    let schema = sqlite_schema(&mut conn);
    conn.revert_all_migrations(migrations("sqlite")).unwrap();
    assert_eq!(sqlite_schema(&mut conn), Schema::default(), "down leaves nothing");
    conn.run_pending_migrations(migrations("sqlite")).unwrap();
    assert_eq!(sqlite_schema(&mut conn), schema, "up again is up");
    schema
}

async fn harness(database: &Database) -> AsyncMigrationHarness<AsyncPgConnection> {
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
    AsyncMigrationHarness::new(
        AsyncPgConnection::try_from_client_and_connection(client, connection).await.unwrap(),
    )
}

async fn postgres_up_down_up(database: &Database) -> Schema {
    harness(database).await.run_pending_migrations(migrations("postgres")).unwrap();
    let schema = postgres_schema(database).await;
    harness(database).await.revert_all_migrations(migrations("postgres")).unwrap();
    assert_eq!(postgres_schema(database).await, Schema::default(), "down leaves nothing");
    harness(database).await.run_pending_migrations(migrations("postgres")).unwrap();
    assert_eq!(postgres_schema(database).await, schema, "up again is up");
    schema
}

#[test]
fn sqlite_migrations_up_down_up_produce_the_declared_schema() {
    let _limit = start_time_limit();
    let mut columns = sqlite_up_down_up().columns;
    let mut declared = declared();
    for table in SPLIT {
        // Migrations add columns at the end, also those of its first part.
        columns.get_mut(table).unwrap().sort();
        declared.get_mut(table).unwrap().sort();
    }
    assert_eq!(columns, declared);
}

#[test]
fn postgres_migrations_up_down_up_produce_the_schema_of_sqlite() {
    limit::block_on(async {
        let Some(database) = Database::create_empty().await else { return };
        let mut sqlite = sqlite_up();
        let mut schema = postgres_up_down_up(&database).await;
        for index in ONLY_ON_POSTGRES {
            assert!(schema.indexes.remove(index), "{index}");
        }
        assert_eq!(schema, sqlite_schema(&mut sqlite));
        database.drop_database();
    });
}

#[test]
fn both_engines_have_the_same_migrations() {
    let _limit = start_time_limit();
    assert_eq!(versions(Engine::Sqlite).unwrap(), versions(Engine::Postgres).unwrap());
}

// db/error.rs finds the violated constraint by name on PostgreSQL and by columns on SQLite.
#[test]
fn unique_constraints_are_named_after_their_columns() {
    let _limit = start_time_limit();
    for migration in std::fs::read_dir("migrations/postgres").unwrap() {
        let up = std::fs::read_to_string(migration.unwrap().path().join("up.sql")).unwrap();
        let mut table = "";
        for line in up.lines() {
            if let Some(name) = line.strip_prefix("CREATE TABLE ") {
                table = name.trim_end_matches(" (");
            }
            if let Some((name, columns)) = line.trim().split_once(" UNIQUE (") {
                let columns = columns.trim_end_matches([',', ')']).replace(", ", "_");
                let full = format!("{table}_{columns}_unique");
                // PostgreSQL truncates names over 63 bytes. In such names, `place` replaces the three columns that
                // identify a sandbox.
                let short = full.replace("gateway_name_workspace_sandbox_name", "place");
                let wanted = if full.len() > 63 { short } else { full };
                assert_eq!(name, format!("CONSTRAINT {wanted}"));
            }
        }
    }
}

const NEWER: &str = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000000')";

both_engines! { a_database_with_a_newer_schema_is_refused, reopening_a_database_runs_no_migrations }

async fn a_database_with_a_newer_schema_is_refused(db: TestDb) {
    let place = db.close();
    match &place {
        DbLocation::Sqlite(folder) => {
            let path = folder.path().join("sg.db");
            let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
            diesel::sql_query(NEWER).execute(&mut conn).unwrap();
        }
        DbLocation::Postgres(database) => database.execute_batch(NEWER).await,
    }
    let error = Db::open(&place.options()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("`99991231000000`"), "{error}");
}

async fn reopening_a_database_runs_no_migrations(db: TestDb) {
    let place = db.close();
    for _ in 0..2 {
        place.wait_closed().await;
        Db::open(&place.options()).await.unwrap().ping().await.unwrap();
    }
}

#[test]
fn a_second_process_on_the_same_file_is_refused() {
    limit::block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let first = Db::open(&place.options()).await.unwrap();
        let error = Db::open(&place.options()).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("in use by another Shoreguard"), "{error}");
        let DbLocation::Sqlite(folder) = &place else { unreachable!() };
        let other_name = folder.path().join("other.db");
        std::os::unix::fs::symlink(folder.path().join("sg.db"), &other_name).unwrap();
        let by_other_name = Db::open(&DbOptions::new(other_name.to_str().unwrap())).await;
        assert!(matches!(by_other_name, Err(Error::Unavailable { .. })), "{by_other_name:?}");
        first.ping().await.unwrap();
        drop(first);
        place.wait_closed().await;
        Db::open(&place.options()).await.unwrap();
    });
}

#[test]
fn a_missing_database_folder_is_named_in_the_error() {
    limit::block_on(async {
        let error = Db::open(&DbOptions::new("/no/such/folder/sg.db")).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("/no/such/folder/sg.db"), "{error}");
    });
}

#[test]
fn replicas_that_start_together_run_migrations_once() {
    limit::block_on(async {
        let Some(database) = Database::create_empty().await else { return };
        let mut replicas = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let options = DbOptions::new(database.url());
            replicas.spawn(async move { Db::open(&options).await.unwrap().ping().await.unwrap() });
        }
        replicas.join_all().await;
        database.drop_database();
    });
}

#[test]
fn the_binary_contains_every_migration_and_is_built_again_for_a_new_one() {
    let _limit = start_time_limit();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (engine, folder) in [(Engine::Sqlite, "sqlite"), (Engine::Postgres, "postgres")] {
        let entries = std::fs::read_dir(root.join("migrations").join(folder)).unwrap();
        let version = |name: &str| name.split('_').next().unwrap().replace('-', "");
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut expected: Vec<String> = names.map(|name| version(&name)).collect();
        expected.sort();
        assert_eq!(versions(engine).unwrap(), expected, "{folder}");
    }
    let build = std::fs::read_to_string(root.join("build.rs")).unwrap();
    assert!(build.contains("\"cargo::rerun-if-changed=migrations\""));
}
