//! Migrations: the binary starts only if the schema of the database is its own.
//!
//! Invariants
//! - both engines have the same migrations, tables, columns and constraint names (`migrations/{sqlite,postgres}`);
//! - they run under a lock: on SQLite that of the file, on PostgreSQL an advisory lock;
//! - a schema with a migration that this binary does not know is not changed.

use diesel::backend::Backend;
use diesel::migration::MigrationSource;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tracing::info;

use super::Engine;
use crate::error::{Error, Reason};

pub(super) const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
pub(super) const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Returns the versions of all migrations of this binary for one engine, oldest first.
pub fn versions(engine: Engine) -> Result<Vec<String>, Error> {
    match engine {
        Engine::Sqlite => known_versions::<diesel::sqlite::Sqlite>(&SQLITE),
        Engine::Postgres => known_versions::<diesel::pg::Pg>(&POSTGRES),
    }
}

fn known_versions<B: Backend>(source: &impl MigrationSource<B>) -> Result<Vec<String>, Error> {
    let mut versions: Vec<String> = source
        .migrations()
        .map_err(Error::Internal)?
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    versions.sort();
    Ok(versions)
}

/// Runs pending migrations. Returns their number. Fails if the schema is newer than this binary.
pub(super) fn run<B: Backend>(
    harness: &mut impl MigrationHarness<B>,
    source: EmbeddedMigrations,
) -> Result<usize, Error> {
    let known = known_versions::<B>(&source)?;
    let applied = harness.applied_migrations().map_err(|error| migration_error(&*error))?;
    if let Some(newer) = applied.iter().map(ToString::to_string).find(|v| !known.contains(v)) {
        return Err(Error::unavailable(
            Reason::StorageUnavailable,
            format!(
                "the database has migration `{newer}`, which this version of Shoreguard does not \
                 know: start the newer version, or restore a backup from before it"
            ),
        ));
    }
    // Each of those that were applied is known, so none is pending. To find that out otherwise reads them all again.
    if applied.len() == known.len() {
        return Ok(0);
    }
    let ran = harness.run_pending_migrations(source).map_err(|error| migration_error(&*error))?;
    info!(migrations = ran.len(), "brought the schema up to date");
    Ok(ran.len())
}

/// Checks that exactly the migrations of this binary have run.
///
/// # Errors
/// `Unavailable` if the database has the schema of another version, or is not one of Shoreguard.
pub(super) fn check_current<B: Backend>(
    harness: &mut impl MigrationHarness<B>,
    source: &EmbeddedMigrations,
) -> Result<(), Error> {
    let applied = harness.applied_migrations().map_err(|error| migration_error(&*error))?;
    let mut applied: Vec<String> = applied.iter().map(ToString::to_string).collect();
    applied.sort();
    if applied == known_versions::<B>(source)? {
        return Ok(());
    }
    Err(Error::unavailable(
        Reason::StorageUnavailable,
        "the database has the schema of another version of Shoreguard: use that version, or start \
         this one first, which updates the schema",
    ))
}

fn migration_error(error: &(dyn std::error::Error + Send + Sync)) -> Error {
    Error::unavailable(Reason::StorageUnavailable, format!("the migrations did not run: {error}"))
}
