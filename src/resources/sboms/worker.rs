//! Computes the rows of all SBOMs again that an older version of Shoreguard stored.

use std::time::Duration;

use super::place::SandboxPlace;
use super::recompute::{self, RULES, RulesCheck};
use super::store;
use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::workers::{TickResult, Worker};

/// SBOMs per tick.
const AT_ONCE: usize = 10;

/// Worker that computes rows of older rules again. It continues to look for them, since a replica of the older version
/// may still store SBOMs during an upgrade.
pub const RECOMPUTE: Worker = Worker {
    name: "sbom-recompute",
    interval: |_| Duration::from_mins(1),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(recompute_some(ctx, lease)),
};

async fn recompute_some(ctx: &Ctx, lease: Option<&Lease>) -> Result<TickResult, Error> {
    let limit = i64::try_from(AT_ONCE).unwrap_or(i64::MAX);
    let found_at = ctx.app().clock.since_boot();
    let outdated = store::outdated(&mut ctx.db().read().await?, RULES, limit).await?;
    ctx.app().part::<RulesCheck>().record(outdated.is_empty(), found_at);
    let done = outdated.len();
    for (gateway, workspace, name) in outdated {
        let place = SandboxPlace { gateway, name: SandboxName { workspace, name } };
        recompute::recompute(ctx, lease, &place).await?;
    }
    Ok(TickResult::batch(done, AT_ONCE))
}
