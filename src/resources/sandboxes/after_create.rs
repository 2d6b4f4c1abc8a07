//! Steps after a gateway has created a sandbox, for own and proxied creations: the sandbox is recorded, and its hooks
//! run once it is ready.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::cleanup::{self, DeleteScope};
use super::create::RECORDED;
use super::domain::event_payload;
use super::positions::store as positions;
use super::{leftovers, presets, store};
use crate::clock::Timestamp;
use crate::ctx::{Ctx, GatewayRef};
use crate::db::types::{SandboxName, SandboxRef};
use crate::error::Error;
use crate::labels::Labels;
use crate::openshell::Gateway;
use crate::openshell::sandbox::{Phase, Sandbox};
use crate::openshell::watch::{WatchEvent, WatchOptions};
use crate::outbox::event_types;
use crate::resources::boot_hooks::run::{self as boot_hooks, HookProgress, HookResults};
use crate::resources::operations::retry::is_handed_over;
use crate::resources::operations::{Failure, FailureCode, RunningOperation};

/// Pause before a sandbox is read again after its watch has ended.
const READ_PAUSE: Duration = Duration::from_secs(2);

/// How to handle the post-create hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostCreateHooks<'a> {
    /// Run the hooks, except those in this list, which ended before a takeover. The list is part of the stored step,
    /// and empty without a takeover.
    Run(&'a str),
    /// Run no hooks.
    Skipped,
}

/// Outcome of the steps after a creation.
#[derive(Debug)]
pub struct CreateOutcome {
    /// Current state of the sandbox.
    pub sandbox: Sandbox,
    /// Whether it is ready.
    pub ready: bool,
    /// Outcomes of the post-create hooks, or why none ran.
    pub post_create: Value,
    /// Outcome of the presets of its template; `None` if it names none.
    pub presets: Option<Value>,
    /// Warning for the caller.
    pub warning: Option<String>,
    /// Why the sandbox will never be ready.
    pub failed: Option<String>,
}

/// Returns the place of a sandbox for its hooks.
pub(super) fn sandbox_ref(ctx: &Ctx, place: &SandboxName) -> Result<SandboxRef, Error> {
    let gateway = ctx.required_gateway()?.clone();
    Ok(SandboxRef { gateway, name: place.clone() })
}

/// Converts outcomes of hooks for the operation's result.
pub(super) fn outcomes_to_json(ran: &HookResults) -> Value {
    let outcome = |outcome: &boot_hooks::HookOutcome| {
        json!({
            "boot_hook_id": outcome.hook_id.get(),
            "name": outcome.name,
            "status": outcome.status.as_str(),
            "summary": outcome.summary,
            "output": outcome.output,
        })
    };
    ran.outcomes.iter().map(outcome).collect()
}

/// Builds the result of a creation with the outcome of every part. If the sandbox has failed, the failure carries this
/// result.
pub(super) fn build_result(
    followed: CreateOutcome,
    pre_create: &Value,
    mut result: Value,
) -> Result<Value, Failure> {
    result["sandbox"] = sandbox_json(&followed.sandbox);
    result["ready"] = followed.ready.into();
    result["hooks"] = json!({ "pre_create": pre_create, "post_create": followed.post_create });
    if let Some(presets) = followed.presets {
        result["presets"] = presets;
    }
    if let Some(warning) = followed.warning {
        result["warning"] = warning.into();
    }
    match followed.failed {
        None => Ok(result),
        Some(why) => Err(Failure::new(FailureCode::Refused, why).with_result(result)),
    }
}

fn sandbox_json(sandbox: &Sandbox) -> Value {
    json!({
        "workspace": sandbox.full_name.workspace,
        "sandbox": sandbox.full_name.name,
        "id": sandbox.id,
        "phase": sandbox.phase.as_str(),
        "image": sandbox.image,
        "gpu": sandbox.gpu,
        "providers": sandbox.providers,
    })
}

/// Stores the progress of an operation. A database outage does not stop the work.
pub(super) async fn report_progress(
    running: &RunningOperation,
    percent: u8,
    message: &str,
) -> Result<(), Error> {
    match running.progress(percent, message).await {
        Err(error) if !matches!(error, Error::Conflict { .. }) => {
            warn!(
                operation = running.id(),
                error = &error as &dyn std::error::Error,
                "not reported"
            );
            Ok(())
        }
        told => told,
    }
}

/// Records a created sandbox with its owner, who is the caller, its description and labels. If metadata of a former
/// sandbox of its name is still stored, because its deletion was not noticed, it is deleted with its SBOM. Hooks stay:
/// those that have just run were written for the new sandbox.
pub async fn record_created(
    ctx: &Ctx,
    sandbox: &Sandbox,
    description: Option<&str>,
    labels: &Labels,
    details: &Value,
) -> Result<(), Error> {
    let GatewayRef { id, name: gateway } = ctx.required_gateway()?;
    let (place, now) = (&sandbox.full_name, ctx.now());
    ctx.record_change(async |tx| {
        let mut meta = store::insert_seen(tx, gateway, place, &sandbox.id, now).await?;
        if meta.sandbox_id.as_ref().is_some_and(|id| *id != sandbox.id) {
            let sbom = DeleteScope::WrittenBy(leftovers::last_seen(ctx, &meta));
            cleanup::delete_dependents(tx, gateway, place, DeleteScope::None, sbom).await?;
            meta = store::insert_seen(tx, gateway, place, &sandbox.id, now).await?;
        }
        store::set_sandbox_id(tx, meta.id, &sandbox.id).await?;
        if let Some(owner) = ctx.principal() {
            store::set_owner(tx, meta.id, owner).await?;
        }
        if description.is_some() || labels.iter().next().is_some() {
            store::update_meta(tx, &meta, description, labels, now).await?;
        }
        // A follower has reported the sandbox if this call was slow.
        if !positions::insert(tx, *id, sandbox, Some(Timestamp::EPOCH)).await? {
            return Ok(());
        }
        let payload = event_payload(place, details.clone());
        tx.emit(ctx.new_event(event_types::SANDBOX_CREATED, payload)).await
    })
    .await?;
    Ok(())
}

/// Waits until the sandbox is ready, adds presets to its policy, and runs the post-create hooks.
pub async fn wait_and_run_hooks(
    running: &RunningOperation,
    gateway: &Gateway,
    sandbox: Sandbox,
    preset_names: &[String],
    hooks: PostCreateHooks<'_>,
) -> Result<CreateOutcome, Failure> {
    report_progress(running, 50, "waiting until the sandbox is ready").await?;
    let within = running.ctx().app().config.sandboxes.ready_timeout();
    let (sandbox, settled) = tokio::select! {
        settled = wait_until_settled(gateway, sandbox, Instant::now() + within) => settled,
        () = running.cancel().cancelled() => return Err(Failure::cancelled()),
    };
    let (warning, failed) = match settled {
        SettledState::Ready => (None, None),
        SettledState::Ended => (Some("its command has ended already".to_owned()), None),
        SettledState::TimedOut => {
            (Some(format!("it was not ready within {} s", within.as_secs())), None)
        }
        SettledState::Failed(why) => (None, Some(why)),
    };
    if let Some(why) = warning.as_ref().or(failed.as_ref()) {
        let post_create = json!(format!("not run: {why}"));
        let presets = (!preset_names.is_empty())
            .then(|| json!({ "presets": preset_names, "outcome": "failed", "error": why }));
        return Ok(CreateOutcome { sandbox, ready: false, post_create, presets, warning, failed });
    }
    let mut presets = None;
    if !preset_names.is_empty() {
        report_progress(running, 70, "adding the presets of the template to the policy").await?;
        presets = Some(presets::apply(running.ctx(), &sandbox.full_name, preset_names).await);
    }
    let PostCreateHooks::Run(done) = hooks else {
        let post_create = json!("skipped");
        return Ok(CreateOutcome { sandbox, ready: true, post_create, presets, warning, failed });
    };
    report_progress(running, 80, "running the hooks after the creation").await?;
    let place = sandbox_ref(running.ctx(), &sandbox.full_name)?;
    let inside = boot_hooks::GatewaySandbox::new(running.ctx().app(), &place);
    let mut progress = HookProgress::restore(running, RECORDED, done);
    let (ctx, cancel) = (running.ctx(), running.cancel());
    let ran = boot_hooks::post_create(ctx, &place, &inside, cancel, Some(&mut progress)).await?;
    if ran.aborted && is_handed_over(running) {
        return Err(Failure::cancelled());
    }
    let stopped = ran.outcomes.last().filter(|_| ran.aborted);
    let warning = stopped.map(|last| format!("the hook `{}`: {}", last.name, last.summary));
    let post_create = outcomes_to_json(&ran);
    Ok(CreateOutcome { sandbox, ready: true, post_create, presets, warning, failed })
}

enum SettledState {
    Ready,
    Ended,
    TimedOut,
    Failed(String),
}

fn settled_state(sandbox: &Sandbox) -> Option<SettledState> {
    let why = |what: &str| {
        let told = sandbox.conditions.iter().map(|condition| condition.message.as_str());
        let told: Vec<&str> = told.filter(|message| !message.is_empty()).collect();
        format!("sandbox `{}` {what}: {}", sandbox.full_name.name, told.join("; "))
    };
    match sandbox.phase {
        Phase::Ready => Some(SettledState::Ready),
        Phase::Completed => Some(SettledState::Ended),
        Phase::Error => Some(SettledState::Failed(why("has failed"))),
        Phase::Deleting => Some(SettledState::Failed(why("is being deleted"))),
        Phase::Unspecified
        | Phase::Provisioning
        | Phase::Unknown
        | Phase::Stopping
        | Phase::Stopped
        | Phase::Starting => None,
    }
}

/// Watches a sandbox until it is ready, has ended, has failed or the time is up.
async fn wait_until_settled(
    gateway: &Gateway,
    mut sandbox: Sandbox,
    until: Instant,
) -> (Sandbox, SettledState) {
    loop {
        if let Some(settled) = settled_state(&sandbox) {
            return (sandbox, settled);
        }
        match timeout_at(until, next_state(gateway, &sandbox.full_name)).await {
            Err(_) => return (sandbox, SettledState::TimedOut),
            Ok(Ok(seen)) => sandbox = seen,
            Ok(Err(Error::NotFound { .. })) => {
                let why = format!("sandbox `{}` was deleted", sandbox.full_name.name);
                return (sandbox, SettledState::Failed(why));
            }
            // The sandbox is read again until the time is up.
            Ok(Err(_)) => sleep(READ_PAUSE).await,
        }
    }
}

/// Returns the sandbox once it has settled, or its current state after the watch has ended.
async fn next_state(gateway: &Gateway, place: &SandboxName) -> Result<Sandbox, Error> {
    let mut watching = gateway.watch_sandbox(place, &WatchOptions::default()).await?;
    // The watch does not report what happened before it began.
    let now = gateway.get_sandbox(place).await?;
    if settled_state(&now).is_some() {
        return Ok(now);
    }
    while let Some(seen) = watching.next().await? {
        if let WatchEvent::Sandbox(sandbox) = seen
            && settled_state(&sandbox).is_some()
        {
            return Ok(*sandbox);
        }
    }
    sleep(READ_PAUSE).await;
    gateway.get_sandbox(place).await
}
