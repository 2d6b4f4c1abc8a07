//! What follows once a gateway has made a sandbox, whoever asked it to: it is noted here, and its hooks run when it is
//! ready.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::cleanup::{self, Which};
use super::create::NOTED;
use super::domain::about;
use super::{former, store};
use crate::ctx::Ctx;
use crate::db::types::{SandboxName, SandboxRef};
use crate::error::Error;
use crate::labels::Labels;
use crate::openshell::Gateway;
use crate::openshell::sandbox::{Phase, Sandbox};
use crate::openshell::watch::{Follow, Seen};
use crate::outbox::event_types;
use crate::resources::boot_hooks::run::{self as boot_hooks, Progress, Ran};
use crate::resources::operations::patience::is_anothers;
use crate::resources::operations::{Code, Failure, Running};

/// How long a look at a sandbox rests where watching it broke off.
const LOOK_REST: Duration = Duration::from_secs(2);

/// What becomes of the hooks after a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks<'a> {
    /// Those run that have not ended on a replica that is gone, as its step tells; empty are none.
    Run(&'a str),
    /// None runs.
    Skipped,
}

/// How it went on.
#[derive(Debug)]
pub struct Followed {
    /// As it is now.
    pub sandbox: Sandbox,
    /// Whether it is ready.
    pub ready: bool,
    /// How the hooks after the creation went, or why none ran (WP24).
    pub post_create: Value,
    /// What the caller should know.
    pub warning: Option<String>,
    /// Why it will never be ready.
    pub failed: Option<String>,
}

/// Where a hook's sandbox is.
pub(super) fn hook_place(ctx: &Ctx, place: &SandboxName) -> Result<SandboxRef, Error> {
    let gateway = ctx.on_gateway()?.clone();
    Ok(SandboxRef { gateway, name: place.clone() })
}

/// How hooks went, for a result.
pub(super) fn outcomes(ran: &Ran) -> Value {
    let outcome = |outcome: &boot_hooks::Outcome| {
        json!({
            "hook_id": outcome.hook_id.get(),
            "name": outcome.name,
            "status": outcome.status.as_str(),
            "summary": outcome.summary,
            "output": outcome.output,
        })
    };
    ran.outcomes.iter().map(outcome).collect()
}

/// What comes of a creation, with how every part of it went (WP06); of one whose sandbox has failed, too.
pub(super) fn result(
    followed: Followed,
    pre_create: &Value,
    mut result: Value,
) -> Result<Value, Failure> {
    result["sandbox"] = sandbox_json(&followed.sandbox);
    result["ready"] = followed.ready.into();
    result["hooks"] = json!({ "pre_create": pre_create, "post_create": followed.post_create });
    if let Some(warning) = followed.warning {
        result["warning"] = warning.into();
    }
    match followed.failed {
        None => Ok(result),
        Some(why) => Err(Failure::new(Code::Refused, why).with(result)),
    }
}

fn sandbox_json(sandbox: &Sandbox) -> Value {
    json!({
        "workspace": sandbox.place.workspace,
        "sandbox": sandbox.place.name,
        "id": sandbox.id,
        "phase": phase(sandbox.phase),
        "image": sandbox.image,
        "gpu": sandbox.gpu,
        "providers": sandbox.providers,
    })
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Unspecified => "unspecified",
        Phase::Provisioning => "provisioning",
        Phase::Ready => "ready",
        Phase::Error => "error",
        Phase::Deleting => "deleting",
        Phase::Unknown => "unknown",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
        Phase::Starting => "starting",
        Phase::Completed => "completed",
    }
}

/// Tells how far the work is; that the database is away for a moment stops nothing.
pub(super) async fn tell(running: &Running, percent: u8, message: &str) -> Result<(), Error> {
    match running.progress(percent, message).await {
        Err(error) if !matches!(error, Error::Conflict { .. }) => {
            warn!(operation = running.id(), error = &error as &dyn std::error::Error, "not told");
            Ok(())
        }
        told => told,
    }
}

/// Notes that a sandbox was made, with its description and labels. What was kept of another of its name, which went away
/// unnoticed, is forgotten, but for its hooks: those that have just run were written for this one.
pub async fn store(
    ctx: &Ctx,
    sandbox: &Sandbox,
    description: Option<&str>,
    labels: &Labels,
    details: &Value,
) -> Result<(), Error> {
    let gateway = &ctx.on_gateway()?.name;
    let (place, now) = (&sandbox.place, ctx.now());
    ctx.record(async |tx| {
        let mut meta = store::see(tx, gateway, place, &sandbox.id, now).await?;
        if meta.sandbox_id.as_ref().is_some_and(|id| *id != sandbox.id) {
            let sbom = Which::By(former::last_seen(ctx, &meta));
            cleanup::forget(tx, gateway, place, Which::None, sbom).await?;
            meta = store::see(tx, gateway, place, &sandbox.id, now).await?;
        }
        store::seen_as(tx, meta.id, &sandbox.id).await?;
        if description.is_some() || labels.iter().next().is_some() {
            store::describe(tx, &meta, description, labels, now).await?;
        }
        let payload = about(place, details.clone());
        tx.emit(ctx.event(event_types::SANDBOX_CREATED, payload)).await
    })
    .await?;
    Ok(())
}

/// Waits until it is ready, and runs the hooks after the creation.
pub async fn follow(
    running: &Running,
    gateway: &Gateway,
    sandbox: Sandbox,
    hooks: Hooks<'_>,
) -> Result<Followed, Failure> {
    tell(running, 50, "waiting until the sandbox is ready").await?;
    let within = running.ctx().app().config.sandboxes.ready_timeout();
    let (sandbox, settled) = tokio::select! {
        settled = settle(gateway, sandbox, Instant::now() + within) => settled,
        () = running.cancel().cancelled() => return Err(Failure::cancelled()),
    };
    let (warning, failed) = match settled {
        Settled::Ready => (None, None),
        Settled::Ended => (Some("its command has ended already".to_owned()), None),
        Settled::Late => (Some(format!("it was not ready within {} s", within.as_secs())), None),
        Settled::Failed(why) => (None, Some(why)),
    };
    if let Some(why) = warning.as_ref().or(failed.as_ref()) {
        let post_create = json!(format!("not run: {why}"));
        return Ok(Followed { sandbox, ready: false, post_create, warning, failed });
    }
    let Hooks::Run(done) = hooks else {
        let post_create = json!("skipped");
        return Ok(Followed { sandbox, ready: true, post_create, warning, failed });
    };
    tell(running, 80, "running the hooks after the creation").await?;
    let place = hook_place(running.ctx(), &sandbox.place)?;
    let inside = boot_hooks::Reached::new(running.ctx().app(), &place);
    let mut progress = Progress::of(running, NOTED, done);
    let (ctx, cancel) = (running.ctx(), running.cancel());
    let ran = boot_hooks::post_create(ctx, &place, &inside, cancel, Some(&mut progress)).await?;
    if ran.aborted && is_anothers(running) {
        return Err(Failure::cancelled());
    }
    let stopped = ran.outcomes.last().filter(|_| ran.aborted);
    let warning = stopped.map(|last| format!("the hook `{}`: {}", last.name, last.summary));
    Ok(Followed { sandbox, ready: true, post_create: outcomes(&ran), warning, failed })
}

enum Settled {
    Ready,
    Ended,
    Late,
    Failed(String),
}

fn settled(sandbox: &Sandbox) -> Option<Settled> {
    let why = |what: &str| {
        let told = sandbox.conditions.iter().map(|condition| condition.message.as_str());
        let told: Vec<&str> = told.filter(|message| !message.is_empty()).collect();
        format!("sandbox `{}` {what}: {}", sandbox.place.name, told.join("; "))
    };
    match sandbox.phase {
        Phase::Ready => Some(Settled::Ready),
        Phase::Completed => Some(Settled::Ended),
        Phase::Error => Some(Settled::Failed(why("has failed"))),
        Phase::Deleting => Some(Settled::Failed(why("is being deleted"))),
        Phase::Unspecified
        | Phase::Provisioning
        | Phase::Unknown
        | Phase::Stopping
        | Phase::Stopped
        | Phase::Starting => None,
    }
}

/// Watches a sandbox until it is ready, has failed, or the time is over.
async fn settle(gateway: &Gateway, mut sandbox: Sandbox, until: Instant) -> (Sandbox, Settled) {
    loop {
        if let Some(settled) = settled(&sandbox) {
            return (sandbox, settled);
        }
        match timeout_at(until, next(gateway, &sandbox.place)).await {
            Err(_) => return (sandbox, Settled::Late),
            Ok(Ok(seen)) => sandbox = seen,
            Ok(Err(Error::Missing { .. })) => {
                let why = format!("sandbox `{}` is gone", sandbox.place.name);
                return (sandbox, Settled::Failed(why));
            }
            // It is looked at again until the time is over.
            Ok(Err(_)) => sleep(LOOK_REST).await,
        }
    }
}

/// The sandbox, once it has settled.
async fn next(gateway: &Gateway, place: &SandboxName) -> Result<Sandbox, Error> {
    let mut watching = gateway.watch_sandbox(place, &Follow::default()).await?;
    // What has happened before the watch began is not told by it.
    let now = gateway.get_sandbox(place).await?;
    if settled(&now).is_some() {
        return Ok(now);
    }
    while let Some(seen) = watching.next().await? {
        if let Seen::Sandbox(sandbox) = seen
            && settled(&sandbox).is_some()
        {
            return Ok(*sandbox);
        }
    }
    sleep(LOOK_REST).await;
    gateway.get_sandbox(place).await
}
