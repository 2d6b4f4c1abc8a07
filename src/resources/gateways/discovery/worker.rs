//! Runs discovery periodically if it is enabled.

use super::run;
use crate::ctx::Ctx;
use crate::error::{Error, Reason};
use crate::workers::{TickResult, Worker};

/// Worker that runs discovery, on one replica at a time.
pub const DISCOVERY: Worker = Worker {
    name: "gateway.discovery",
    interval: |config| config.discovery.interval(),
    lease: true,
    wake: None,
    tick: |ctx, _| Box::pin(tick(ctx)),
};

async fn tick(ctx: &Ctx) -> Result<TickResult, Error> {
    let config = &ctx.app().config.discovery;
    if !config.enabled {
        return Ok(TickResult::IDLE);
    }
    let Some(found) = run::run(ctx, &config.domains).await? else { return Ok(TickResult::IDLE) };
    let answers = found.run.domain_results();
    if !answers.is_empty() && answers.iter().all(|answer| answer.error.is_some()) {
        let why = "the gateways of no domain could be looked up";
        return Err(Error::unavailable(Reason::HostUnreachable, why.to_owned()));
    }
    Ok(TickResult { done: usize::try_from(found.run.registered).unwrap_or_default(), more: false })
}
