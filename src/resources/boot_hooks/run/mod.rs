//! Runs hooks one at a time and stores their results.
//!
//! Invariants
//! - in both phases, a failure stops the remaining hooks unless the failed hook has `continue_on_failure`; a canceled
//!   run always stops them;
//! - each run that started is stored with its hook, counted, and emitted as an event. A run that ended because its
//!   replica is shutting down or lost its lease is not: another replica runs that hook again and stores the result.

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
use super::input::{HookPhase, HookStatus};
use super::store::{self, Hook};
use crate::ctx::Ctx;
use crate::db::types::{BootHookId, SandboxRef};
use crate::error::{Error, Reason};
use crate::outbox::event_types;
use crate::resources::operations::{RunningOperation, retry};
use crate::telemetry::metrics::{BOOT_HOOK_DURATION, BOOT_HOOK_RUNS};

pub use host::folder;
pub use inside::{CommandResult, GatewaySandbox, SandboxExec};
pub use output::CHARACTERS_MAX;
pub use progress::HookProgress;

/// Limits how many hooks run on this host concurrently.
#[derive(Debug)]
pub struct HookSlots(pub Semaphore);

/// Properties of the sandbox to be created that are passed to a hook before the creation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Image; empty means the default of the gateway.
    pub image: String,
    /// Policy.
    pub policy_id: String,
    /// Names of the providers.
    pub providers: Vec<String>,
    /// Whether it gets a GPU.
    pub gpu: bool,
}

/// Result of one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookOutcome {
    /// Id of the hook.
    pub hook_id: BootHookId,
    /// Name of the hook.
    pub name: String,
    /// Phase of the hook.
    pub phase: HookPhase,
    /// Status.
    pub status: HookStatus,
    /// Description of the result.
    pub summary: String,
    /// Output, truncated, with the values of variables masked.
    pub output: String,
}

/// Results of the hooks of a phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookResults {
    /// Hooks that ran, in order.
    pub outcomes: Vec<HookOutcome>,
    /// Whether the last hook stopped what follows: the remaining hooks, and the creation if it ran before it.
    pub aborted: bool,
}

/// One attempt to run a hook.
struct Attempt {
    status: HookStatus,
    summary: String,
    output: String,
    /// Whether it was canceled.
    stopped: bool,
}

impl Attempt {
    fn new(good: bool, summary: String, output: String) -> Self {
        let status = if good { HookStatus::Success } else { HookStatus::Failure };
        Self { status, summary, output, stopped: false }
    }

    /// Result of a canceled run.
    fn cancelled(output: String) -> Self {
        Self { stopped: true, ..Self::new(false, "cancelled".to_owned(), output) }
    }

    /// Returns whether another replica will run the hook again.
    fn is_handed_over(&self, running: Option<&RunningOperation>) -> bool {
        self.stopped && running.is_some_and(retry::is_handed_over)
    }

    /// Result of a failed run without output.
    fn failed(summary: String) -> Self {
        Self::new(false, summary, String::new())
    }

    /// Result of a hook that could not run because of an error of Shoreguard. The message of the error is safe for
    /// callers.
    fn from_error(error: &Error) -> Self {
        if let Error::Internal(source) = error {
            error!(error = &**source, "a boot hook could not be run");
        }
        Self::failed(error.to_string())
    }
}

/// Returns whether a sandbox has enabled hooks before its creation.
pub async fn has_pre_create(ctx: &Ctx, place: &SandboxRef) -> Result<bool, Error> {
    Ok(!list_enabled(ctx, place, HookPhase::PreCreate).await?.is_empty())
}

/// Runs the enabled hooks before a creation. If the result is `aborted`, the sandbox must not be created.
pub async fn pre_create(
    ctx: &Ctx,
    place: &SandboxRef,
    spec: &SandboxSpec,
    cancel: &CancellationToken,
    running: Option<&RunningOperation>,
) -> Result<HookResults, Error> {
    let mut ran = HookResults { outcomes: Vec::new(), aborted: false };
    for hook in list_enabled(ctx, place, HookPhase::PreCreate).await? {
        let turn = acquire_slot(&ctx.app().part::<HookSlots>().0, cancel).await;
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
        let failed = attempt.status == HookStatus::Failure;
        let fence = running.map(|running| (running, None));
        ran.outcomes.push(store_result(ctx, place, &hook, attempt, begun, fence).await?);
        ran.aborted = cancel.is_cancelled() || (failed && !hook.continue_on_failure);
        if ran.aborted {
            break;
        }
    }
    Ok(ran)
}

/// Runs the enabled hooks after a creation, in a sandbox that is ready. When taking over from a crashed replica, hooks
/// that finished there are not run again; the hook that was running when it crashed is.
pub async fn post_create(
    ctx: &Ctx,
    place: &SandboxRef,
    inside: &impl SandboxExec,
    cancel: &CancellationToken,
    mut progress: Option<&mut HookProgress<'_>>,
) -> Result<HookResults, Error> {
    let mut ran = HookResults { outcomes: Vec::new(), aborted: false };
    for hook in list_enabled(ctx, place, HookPhase::PostCreate).await? {
        let before = progress.as_deref().and_then(|progress| progress.finished(&hook));
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
            store_result(ctx, place, &hook, attempt, begun, fence).await?
        };
        let failed = outcome.status == HookStatus::Failure;
        ran.outcomes.push(outcome);
        ran.aborted = cancel.is_cancelled() || (failed && !hook.continue_on_failure);
        if ran.aborted {
            break;
        }
    }
    Ok(ran)
}

/// Runs one hook of the phase before the creation now, with an empty [`SandboxSpec`].
///
/// # Errors
/// `BUSY` if the maximum number of hooks is running: the caller of a manual run can retry.
pub(super) async fn run_on_host(
    ctx: &Ctx,
    place: &SandboxRef,
    hook: &Hook,
    cancel: &CancellationToken,
) -> Result<HookOutcome, Error> {
    let busy = |_| Error::Exhausted { reason: Reason::Busy, retry_in: Duration::from_secs(1) };
    let turn = ctx.app().part::<HookSlots>().0.try_acquire().map_err(busy)?;
    let begun = Instant::now();
    let attempt = host::run(ctx.app(), place, hook, &SandboxSpec::default(), cancel).await;
    drop(turn);
    store_result(ctx, place, hook, attempt, begun, None).await
}

/// Runs one hook of the phase after the creation now.
pub(super) async fn run_in_sandbox(
    ctx: &Ctx,
    place: &SandboxRef,
    hook: &Hook,
    inside: &impl SandboxExec,
    cancel: &CancellationToken,
) -> Result<HookOutcome, Error> {
    let begun = Instant::now();
    let attempt = inside::run(ctx.app(), hook, inside, cancel).await;
    store_result(ctx, place, hook, attempt, begun, None).await
}

/// Waits for a slot; returns `None` if the run is canceled.
async fn acquire_slot<'a>(
    turns: &'a Semaphore,
    cancel: &CancellationToken,
) -> Option<tokio::sync::SemaphorePermit<'a>> {
    cancel.run_until_cancelled(turns.acquire()).await?.ok()
}

async fn list_enabled(ctx: &Ctx, place: &SandboxRef, phase: HookPhase) -> Result<Vec<Hook>, Error> {
    let mut conn = ctx.db().read().await?;
    let hooks = store::page(&mut conn, place, Some(phase), None, HOOKS_MAX).await?;
    Ok(hooks.into_iter().filter(|hook| hook.enabled).collect())
}

/// Stores the result of a run and emits its event. For an operation, only while its lease is held.
async fn store_result(
    ctx: &Ctx,
    place: &SandboxRef,
    hook: &Hook,
    attempt: Attempt,
    begun: Instant,
    fence: Option<(&RunningOperation, Option<String>)>,
) -> Result<HookOutcome, Error> {
    let Attempt { status, summary, output, .. } = attempt;
    let (gateway, phase) = (place.gateway.name.to_string(), hook.phase.as_str());
    counter!(BOOT_HOOK_RUNS, "gateway" => gateway, "phase" => phase, "status" => status.as_str())
        .increment(1);
    histogram!(BOOT_HOOK_DURATION, "phase" => phase).record(begun.elapsed());
    let now = ctx.now();
    // After a failure without output, the reason is stored instead.
    let written =
        if output.is_empty() && status == HookStatus::Failure { &summary } else { &output };
    // Without output and reason: these may contain text from a gateway.
    let payload = json!({
        "sandbox": place.sandbox(), "workspace": place.workspace(), "boot_hook_id": hook.id.get(),
        "name": hook.name, "phase": phase, "status": status.as_str(),
    });
    let store = || async {
        ctx.record_change(async |tx| {
            let version = match &fence {
                Some((running, step)) => Some(running.step_in(tx, step.as_deref()).await?),
                None => None,
            };
            // The event is emitted even if the hook was deleted while it ran.
            store::store_run(tx, place, hook.id, now, status, written).await?;
            let event = ctx.new_event(event_types::BOOT_HOOK_RUN, payload.clone());
            tx.emit(event.with_gateway(place.gateway.clone())).await?;
            Ok(version)
        })
        .await
    };
    let version = match &fence {
        // Retried: the result of a hook of a creation must not be lost because of a short outage of the database.
        Some((running, _)) => retry::with_retries(running, store).await?,
        None => store().await?,
    };
    if let (Some((running, _)), Some(version)) = (&fence, version) {
        running.notify_committed(version);
    }
    let (hook_id, name) = (hook.id, hook.name.clone());
    Ok(HookOutcome { hook_id, name, phase: hook.phase, status, summary, output })
}
