//! `shoreguard migrate`: brings the database's schema up to date and serves nothing, for a rollout that wants it apart.

use super::{Failure, data_dir, output};
use crate::boot::db_options;
use crate::config::Config;
use crate::db::Db;
use crate::telemetry;

/// Opens the database, which brings its schema up to date under a lock.
pub(super) async fn run(config: Config) -> Result<(), Failure> {
    telemetry::init_logging(&config.telemetry)?;
    data_dir::make(&config.server.data_dir)?;
    Db::open(&db_options(&config)).await?;
    output::answer("the schema is up to date")?;
    Ok(())
}
