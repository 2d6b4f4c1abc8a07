//! The presets of a template of this server, which are added to the policy of a created sandbox.
//!
//! Under a rule they are part of the first policy that the server gives it. Otherwise they are its first change, which
//! the creator of the sandbox decides by calling.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tracing::warn;

use crate::ctx::Ctx;
use crate::db::types::{ApprovalRoundId, SandboxName, SandboxRef};
use crate::error::Error;
use crate::openshell::Generation;
use crate::policy::{InitialPolicy, Policy, Presets};
use crate::resources::approvals::RoundState;
use crate::resources::approvals::proposals::change::{self, PolicyChange};
use crate::resources::approvals::rounds::store as rounds;
use crate::resources::policies::changes::make::{ChangeOptions, Outcome, make};

/// Time in which the presets are usually written. The hooks after the creation may need them.
const WRITE_TIME: Duration = Duration::from_secs(20);
/// Pause between two looks at the write.
const PAUSE: Duration = Duration::from_millis(100);

/// Refuses presets that this server does not have, or that a generation cannot express.
///
/// # Errors
/// `Invalid` for the template.
pub(super) fn check(ctx: &Ctx, generation: Generation, names: &[String]) -> Result<(), Error> {
    match first_policy(ctx, generation, names) {
        Ok(_) => Ok(()),
        Err(error @ (Error::NotFound { .. } | Error::Invalid { .. })) => {
            Err(Error::invalid("template", format!("cannot be used: {error}")))
        }
        Err(error) => Err(error),
    }
}

/// Returns the first policy of a sandbox under a rule, with presets.
///
/// # Errors
/// `NOT_FOUND` for a preset that this server does not have, `Invalid` if the generation cannot express one.
pub(super) fn first_policy(
    ctx: &Ctx,
    generation: Generation,
    names: &[String],
) -> Result<Policy, Error> {
    let initial = ctx.app().part::<InitialPolicy>().policy(generation);
    if names.is_empty() {
        return Ok(initial.clone());
    }
    let presets = ctx.app().part::<Presets>();
    change::result(initial, &PolicyChange::Presets(names.to_vec()), None, presets)
}

/// Adds presets to the policy of a sandbox that is ready. Returns what was done, for the result of the creation: a
/// sandbox that exists is not reported as failed.
pub(super) fn apply<'a>(
    ctx: &'a Ctx,
    sandbox: &'a SandboxName,
    names: &'a [String],
) -> BoxFuture<'a, Value> {
    Box::pin(async move {
        let done = apply_to(ctx, sandbox, names).await;
        let mut done = done.unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "presets were not applied");
            json!({ "outcome": "failed", "error": error.to_string() })
        });
        done["presets"] = json!(names);
        done
    })
}

async fn apply_to(ctx: &Ctx, sandbox: &SandboxName, names: &[String]) -> Result<Value, Error> {
    let place = SandboxRef { gateway: ctx.required_gateway()?.clone(), name: sandbox.clone() };
    let change = PolicyChange::Presets(names.to_vec());
    let changed = make(ctx, &place, &change, &ChangeOptions::default()).await?;
    Ok(match changed.outcome {
        // They are part of its first policy.
        Outcome::UpToDate | Outcome::Validated(_) => json!({ "outcome": "applied" }),
        Outcome::Proposed(round) => {
            json!({ "outcome": "proposed", "approval": round.id.get() })
        }
        Outcome::Applying(round, _) => {
            let state = wait_until_written(ctx, round.id).await?;
            let is_written = matches!(state, RoundState::Written | RoundState::Applied);
            let outcome = if is_written { "applied" } else { state.as_str() };
            json!({ "outcome": outcome, "approval": round.id.get() })
        }
    })
}

/// Waits until a round is written or has ended, for a limited time. Returns its state.
async fn wait_until_written(ctx: &Ctx, id: ApprovalRoundId) -> Result<RoundState, Error> {
    let clock = &ctx.app().clock;
    let until = clock.since_boot().saturating_add(WRITE_TIME);
    loop {
        let round = rounds::by_id(&mut ctx.db().read().await?, id).await?;
        let state = round.ok_or_else(|| Error::internal("a round was deleted"))?.state;
        let is_pending = matches!(state, RoundState::Approved | RoundState::Sending);
        if !is_pending || clock.since_boot() >= until {
            return Ok(state);
        }
        clock.sleep(PAUSE).await;
    }
}
