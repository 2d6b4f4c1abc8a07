//! Running hooks, one after the other, and keeping how each went.
//!
//! Invariants
//! - a failure stops what follows, in both phases, unless the hook that failed says to go on; a cancelled run always does;
//! - each run that began is kept with its hook, counted, and told as an event; but one that ended because its replica
//!   stops or has lost its lease is none: another replica runs that hook, and keeps how it went.

mod host;
mod inside;
mod output;
mod process;
mod progress;

use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::domain::HOOKS_MAX;
use super::input::{Phase, Status};
use super::store::{self, Hook};
use crate::ctx::Ctx;
use crate::db::types::{BootHookId, SandboxRef};
use crate::error::{Error, Reason};
use crate::outbox::event_types;
use crate::resources::operations::{Running, patience};
use crate::telemetry::metrics::{BOOT_HOOK_DURATION, BOOT_HOOK_RUNS};

pub use host::folder;
pub use inside::{Finished, Inside, Reached};
pub use output::CHARACTERS_MAX;
pub use progress::Progress;

/// Turns of boot hooks on this host.
#[derive(Debug)]
pub struct HookTurns(pub Semaphore);

/// What a hook before the creation may know of the sandbox that is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// The image; empty is the gateway's own.
    pub image: String,
    /// The policy.
    pub policy_id: String,
    /// Names of the providers.
    pub providers: Vec<String>,
    /// Whether it gets a GPU.
    pub gpu: bool,
}

/// How one hook went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The hook.
    pub hook_id: BootHookId,
    /// Its name.
    pub name: String,
    /// Its phase.
    pub phase: Phase,
    /// How it ended.
    pub status: Status,
    /// The same in words.
    pub summary: String,
    /// What it wrote, cut, without the values of its variables.
    pub output: String,
}

/// How the hooks of a phase went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Those that ran, in their order.
    pub outcomes: Vec<Outcome>,
    /// Whether the last of them has stopped what follows: the hooks after it, and before the creation the creation.
    pub aborted: bool,
}

/// One try of a hook.
struct Attempt {
    status: Status,
    summary: String,
    output: String,
    /// It was told to stop before its end.
    stopped: bool,
}

impl Attempt {
    fn new(good: bool, summary: String, output: String) -> Self {
        let status = if good { Status::Success } else { Status::Failure };
        Self { status, summary, output, stopped: false }
    }

    /// It was told to stop.
    fn cancelled(output: String) -> Self {
        Self { stopped: true, ..Self::new(false, "cancelled".to_owned(), output) }
    }

    /// Whether another replica is to run it anew.
    fn is_handed_over(&self, running: Option<&Running>) -> bool {
        self.stopped && running.is_some_and(patience::is_anothers)
    }

    /// It did not run.
    fn failed(summary: String) -> Self {
        Self::new(false, summary, String::new())
    }

    /// Something of ours stood in its way. What an error says of itself is fit for callers.
    fn broken(error: &Error) -> Self {
        if let Error::Internal(source) = error {
            error!(error = &**source, "a boot hook could not be run");
        }
        Self::failed(error.to_string())
    }
}

/// Whether a sandbox has enabled hooks before its creation.
pub async fn has_pre_create(ctx: &Ctx, place: &SandboxRef) -> Result<bool, Error> {
    Ok(!enabled(ctx, place, Phase::PreCreate).await?.is_empty())
}

/// Runs the enabled hooks before a creation. Where the answer is `aborted` there must be none.
pub async fn pre_create(
    ctx: &Ctx,
    place: &SandboxRef,
    spec: &Spec,
    cancel: &CancellationToken,
    running: Option<&Running>,
) -> Result<Ran, Error> {
    let mut ran = Ran { outcomes: Vec::new(), aborted: false };
    for hook in enabled(ctx, place, Phase::PreCreate).await? {
        let turn = turn(&ctx.app().part::<HookTurns>().0, cancel).await;
        let begun = Instant::now();
        let attempt = match &turn {
            Some(_) => host::run(ctx.app(), place, &hook, spec, cancel).await,
            None => Attempt::cancelled(String::new()),
        };
        drop(turn);
        if attempt.is_handed_over(running) {
            ran.aborted = true;
            break;
        }
        let failed = attempt.status == Status::Failure;
        let fence = running.map(|running| (running, None));
        ran.outcomes.push(keep(ctx, place, &hook, attempt, begun, fence).await?);
        ran.aborted = cancel.is_cancelled() || (failed && !hook.continue_on_failure);
        if ran.aborted {
            break;
        }
    }
    Ok(ran)
}

/// Runs the enabled hooks after a creation, in a sandbox that is ready. Where a replica that is gone has begun with it, those
/// that have ended there are not run again; the one that it died in is.
pub async fn post_create(
    ctx: &Ctx,
    place: &SandboxRef,
    inside: &impl Inside,
    cancel: &CancellationToken,
    mut progress: Option<&mut Progress<'_>>,
) -> Result<Ran, Error> {
    let mut ran = Ran { outcomes: Vec::new(), aborted: false };
    for hook in enabled(ctx, place, Phase::PostCreate).await? {
        let before = progress.as_deref().and_then(|progress| progress.ended(&hook));
        let outcome = if let Some(outcome) = before {
            outcome
        } else {
            let begun = Instant::now();
            let attempt = inside::run(ctx.app(), &hook, inside, cancel).await;
            let running = progress.as_deref().map(|progress| progress.running);
            if attempt.is_handed_over(running) {
                ran.aborted = true;
                break;
            }
            let fence = progress
                .as_deref_mut()
                .map(|progress| (progress.running, Some(progress.step(hook.id, attempt.status))));
            keep(ctx, place, &hook, attempt, begun, fence).await?
        };
        let failed = outcome.status == Status::Failure;
        ran.outcomes.push(outcome);
        ran.aborted = cancel.is_cancelled() || (failed && !hook.continue_on_failure);
        if ran.aborted {
            break;
        }
    }
    Ok(ran)
}

/// Runs one hook before the creation, now, told of nothing.
///
/// # Errors
/// `BUSY` where as many run as may: who asks by hand can ask again.
pub(super) async fn on_host(
    ctx: &Ctx,
    place: &SandboxRef,
    hook: &Hook,
    cancel: &CancellationToken,
) -> Result<Outcome, Error> {
    let busy = |_| Error::Exhausted { reason: Reason::Busy, retry_in: Duration::from_secs(1) };
    let turn = ctx.app().part::<HookTurns>().0.try_acquire().map_err(busy)?;
    let begun = Instant::now();
    let attempt = host::run(ctx.app(), place, hook, &Spec::default(), cancel).await;
    drop(turn);
    keep(ctx, place, hook, attempt, begun, None).await
}

/// Runs one hook after the creation, now.
pub(super) async fn in_sandbox(
    ctx: &Ctx,
    place: &SandboxRef,
    hook: &Hook,
    inside: &impl Inside,
    cancel: &CancellationToken,
) -> Result<Outcome, Error> {
    let begun = Instant::now();
    let attempt = inside::run(ctx.app(), hook, inside, cancel).await;
    keep(ctx, place, hook, attempt, begun, None).await
}

/// None where the caller no longer waits.
async fn turn<'a>(
    turns: &'a Semaphore,
    cancel: &CancellationToken,
) -> Option<tokio::sync::SemaphorePermit<'a>> {
    cancel.run_until_cancelled(turns.acquire()).await?.ok()
}

async fn enabled(ctx: &Ctx, place: &SandboxRef, phase: Phase) -> Result<Vec<Hook>, Error> {
    let mut conn = ctx.db().read().await?;
    let hooks = store::page(&mut conn, place, Some(phase), None, HOOKS_MAX).await?;
    Ok(hooks.into_iter().filter(|hook| hook.enabled).collect())
}

/// Keeps how a run went, and tells of it; of an operation only as long as its lease is held.
async fn keep(
    ctx: &Ctx,
    place: &SandboxRef,
    hook: &Hook,
    attempt: Attempt,
    begun: Instant,
    fence: Option<(&Running, Option<String>)>,
) -> Result<Outcome, Error> {
    let Attempt { status, summary, output, .. } = attempt;
    let (gateway, phase) = (place.gateway.name.to_string(), hook.phase.as_str());
    counter!(BOOT_HOOK_RUNS, "gateway" => gateway, "phase" => phase, "status" => status.as_str())
        .increment(1);
    histogram!(BOOT_HOOK_DURATION, "phase" => phase).record(begun.elapsed());
    let now = ctx.now();
    // Of one that could not begin there is nothing but why.
    let written = if output.is_empty() && status == Status::Failure { &summary } else { &output };
    // Without what it wrote and why it failed: these may be words of a gateway.
    let payload = json!({
        "sandbox": place.sandbox(), "workspace": place.workspace(), "boot_hook_id": hook.id.get(),
        "name": hook.name, "phase": phase, "status": status.as_str(),
    });
    let store = || async {
        ctx.record(async |tx| {
            let version = match &fence {
                Some((running, step)) => Some(running.step_in(tx, step.as_deref()).await?),
                None => None,
            };
            // The event is emitted even if the hook was deleted while it ran.
            store::ran(tx, place, hook.id, now, status, written).await?;
            let event = ctx.event(event_types::BOOT_HOOK_RUN, payload.clone());
            tx.emit(event.on(place.gateway.clone())).await?;
            Ok(version)
        })
        .await
    };
    let version = match &fence {
        // What has run in a creation is not lost because the database is away for a moment.
        Some((running, _)) => patience::patiently(running, store).await?,
        None => store().await?,
    };
    if let (Some((running, _)), Some(version)) = (&fence, version) {
        running.committed(version);
    }
    let (hook_id, name) = (hook.id, hook.name.clone());
    Ok(Outcome { hook_id, name, phase: hook.phase, status, summary, output })
}
