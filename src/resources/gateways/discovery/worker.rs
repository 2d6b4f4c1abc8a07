//! Runs discovery periodically if it is enabled.

use super::run;
use crate::ctx::Ctx;
use crate::error::{Error, Reason};
use crate::workers::{Worked, Worker};

/// Worker that runs discovery, on one replica at a time.
pub const DISCOVERY: Worker = Worker {
    name: "gateway.discovery",
    every: |config| config.discovery.interval(),
    lease: true,
    wake: None,
    tick: |ctx, _| Box::pin(tick(ctx)),
};

async fn tick(ctx: &Ctx) -> Result<Worked, Error> {
    let config = &ctx.app().config.discovery;
    if !config.enabled {
        return Ok(Worked::NOTHING);
    }
    let Some(found) = run::run(ctx, &config.domains).await? else { return Ok(Worked::NOTHING) };
    let answers = found.run.answers();
    if !answers.is_empty() && answers.iter().all(|answer| answer.error.is_some()) {
        let why = "the gateways of no domain could be looked up";
        return Err(Error::unavailable(Reason::HostUnreachable, why.to_owned()));
    }
    Ok(Worked { done: usize::try_from(found.run.registered).unwrap_or_default(), more: false })
}
