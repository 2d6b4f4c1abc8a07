//! Gateways: what may be registered, and what becomes of it.

use crate::app::App;
use crate::error::Error;

/// Fills the targets from the database, at start.
pub async fn load_targets(_app: &App) -> Result<(), Error> {
    Ok(())
}
