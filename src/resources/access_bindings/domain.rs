//! Roles on gateways.

use crate::app::App;
use crate::error::Error;

/// Fills the snapshot from the database, at start.
pub async fn load(_app: &App) -> Result<(), Error> {
    Ok(())
}
