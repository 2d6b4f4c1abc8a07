//! Checks the disk of the database periodically.

use std::sync::Arc;
use std::time::Duration;

use super::{TickResult, Worker};
use crate::ctx::Ctx;
use crate::error::Error;

/// Checks the disk, on each replica.
pub const WORKER: Worker = Worker {
    name: "disk.reserve",
    interval: |_| Duration::from_secs(5),
    lease: false,
    wake: None,
    tick: |ctx, _| Box::pin(tick(ctx)),
};

async fn tick(ctx: &Ctx) -> Result<TickResult, Error> {
    let app = Arc::clone(ctx.app());
    // A network file system may hang.
    tokio::task::spawn_blocking(move || app.disk.refresh()).await.map_err(Error::internal)?;
    Ok(TickResult::IDLE)
}
