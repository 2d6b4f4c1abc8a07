//! `shoreguard migrate`: updates the database schema and exits, for rollouts that migrate in a separate step.

use super::{CliError, data_dir, output};
use crate::boot::db_options;
use crate::config::Config;
use crate::db::Db;
use crate::telemetry;

/// Opens the database, which updates its schema under a lock.
pub(super) async fn run(config: Config) -> Result<(), CliError> {
    telemetry::init_logging(&config.telemetry)?;
    data_dir::create(&config.server.data_dir)?;
    Db::open(&db_options(&config)).await?;
    output::print_result("the schema is up to date")?;
    Ok(())
}
