//! What follows once a gateway has made a sandbox, whoever asked it to: it is noted here, and its hooks run when it is
//! ready.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::create::{NOTED, is_final};
use super::domain::about;
use super::{cleanup, store};
use crate::ctx::Ctx;
use crate::error::Error;
use crate::labels::Labels;
use crate::openshell::Gateway;
use crate::openshell::sandbox::{Phase, Place, Sandbox};
use crate::openshell::watch::{Follow, Seen};
use crate::resources::boot_hooks::input::Place as HookPlace;
use crate::resources::boot_hooks::run::{self as boot_hooks, Progress, Ran};
use crate::resources::events::domain::{self as events, NewEvent};
use crate::resources::operations::keeper::Stop;
use crate::resources::operations::{Code, Failure, Running};

/// How often what is known of a sandbox that was made is tried to be kept: a minute, while the database is away.
const KEEP_TRIES: u32 = 60;
/// How long it rests in between.
const KEEP_REST: Duration = Duration::from_secs(1);
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
}

/// Where a hook's sandbox is.
pub(super) fn hook_place(ctx: &Ctx, place: &Place) -> Result<HookPlace, Error> {
    let gateway = ctx.on_gateway()?.clone();
    let (workspace, sandbox) = (place.workspace.clone(), place.name.clone());
    Ok(HookPlace { gateway, workspace, sandbox })
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

/// A sandbox, for a result.
pub(super) fn ready_json(sandbox: &Sandbox) -> Value {
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

/// Keeps what must not be lost once a sandbox was made: tried again for a minute, or until another replica is to go on.
pub(super) async fn kept<F, Fut>(running: &Running, mut keep: F) -> Result<(), Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    let mut tries = 1;
    loop {
        match keep().await {
            Ok(()) => return Ok(()),
            Err(error) if tries >= KEEP_TRIES || is_final(&error) => return Err(error.into()),
            Err(error) => {
                let operation = running.id();
                warn!(operation, error = &error as &dyn std::error::Error, tries, "not kept yet");
            }
        }
        sleep(KEEP_REST).await;
        tries += 1;
        if matches!(running.why(), Some(Stop::Draining | Stop::LeaseLost)) {
            return Err(Failure::cancelled());
        }
    }
}

/// Notes that a sandbox was made, with its description and labels. What was kept of another of its name, which went away
/// unnoticed, is forgotten, but for its hooks: those that have just run were written for this one.
pub async fn store(
    ctx: &Ctx,
    sandbox: &Sandbox,
    (description, labels): (Option<&str>, &Labels),
    details: &Value,
) -> Result<(), Error> {
    let (_, gateway) = ctx.on_gateway()?;
    let (place, now) = (&sandbox.place, ctx.now());
    ctx.db()
        .transaction(async |conn| {
            let mut meta = store::see(conn, gateway, place, &sandbox.id, now).await?;
            if meta.sandbox_id.as_ref().is_some_and(|id| *id != sandbox.id) {
                cleanup::forget_but_hooks(conn, gateway, place).await?;
                meta = store::see(conn, gateway, place, &sandbox.id, now).await?;
            }
            store::seen_as(conn, meta.id, &sandbox.id).await?;
            if description.is_some() || labels.iter().next().is_some() {
                let at = (meta.id, meta.version);
                store::describe(conn, at, description, labels, now).await?;
            }
            let payload = about(place, details.clone());
            events::enqueue(conn, NewEvent::of(ctx, "sandbox.created", payload)).await
        })
        .await?;
    ctx.app().feed.written();
    Ok(())
}

/// Waits until it is ready, and runs the hooks after the creation.
pub async fn follow(
    running: &Running,
    gateway: &Gateway,
    sandbox: Sandbox,
    hooks: Hooks<'_>,
) -> Result<Followed, Failure> {
    running.progress(50, "waiting until the sandbox is ready").await?;
    let within = running.ctx().app().config.sandboxes.ready_timeout();
    let (sandbox, settled) = tokio::select! {
        settled = settle(gateway, sandbox, Instant::now() + within) => settled,
        () = running.cancel().cancelled() => return Err(Failure::cancelled()),
    };
    let warning = match settled {
        Settled::Ready => None,
        Settled::Ended => Some("its command has ended already".to_owned()),
        Settled::Late => Some(format!("it was not ready within {} s", within.as_secs())),
        Settled::Failed(why) => return Err(Failure::new(Code::Refused, why)),
    };
    if let Some(warning) = warning {
        let post_create = json!(format!("not run: {warning}"));
        return Ok(Followed { sandbox, ready: false, post_create, warning: Some(warning) });
    }
    let Hooks::Run(done) = hooks else {
        return Ok(Followed { sandbox, ready: true, post_create: json!("skipped"), warning: None });
    };
    running.progress(80, "running the hooks after the creation").await?;
    let place = hook_place(running.ctx(), &sandbox.place)?;
    let inside = boot_hooks::Reached::new(running.ctx().app(), &place);
    let mut progress = Progress::of(running, NOTED, done);
    let (ctx, cancel) = (running.ctx(), running.cancel());
    let ran = boot_hooks::post_create(ctx, &place, &inside, cancel, Some(&mut progress)).await?;
    if ran.aborted && matches!(running.why(), Some(Stop::Draining | Stop::LeaseLost)) {
        return Err(Failure::cancelled());
    }
    let stopped = ran.outcomes.last().filter(|_| ran.aborted);
    let warning = stopped.map(|last| format!("the hook `{}`: {}", last.name, last.summary));
    Ok(Followed { sandbox, ready: true, post_create: outcomes(&ran), warning })
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
async fn next(gateway: &Gateway, place: &Place) -> Result<Sandbox, Error> {
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
