//! Sandboxes that are made and deleted through the proxied API: the same rules hold as for those that are made here. Hooks
//! run, an operation shows how it goes, and what hangs on a name goes with the sandbox.
//!
//! Invariants
//! - the gateway gets the caller's own bytes, with no more than annotations, and the caller the gateway's own answer;
//! - whoever hangs up does not stop what was begun; whoever's time is over before anything was sent does;
//! - what the gateway has answered reaches the caller soon, whatever keeps it from being noted here;
//! - one that the gateway did not answer, failed at, or calls uncertain is looked for by its annotation: it may have been
//!   made all the same;
//! - once it has answered, another replica can go on, and what is cancelled is undone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::create::{CREATED, CREATING, NOTED, before};
use super::lost::{Lost, Mark, patiently, what_became};
use super::made::{self, Hooks};
use super::undo::undo;
use super::{domain, former, input};
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::{Error, Reason};
use crate::labels::Labels;
use crate::openshell::gateway::Passed;
use crate::openshell::sandbox::{NewSandbox, Sandbox};
use crate::openshell::{Gateway, Generation};
use crate::resources::boot_hooks::run::Ran;
use crate::resources::operations::patience::is_final;
use crate::resources::operations::{self, Code, Failure, New, OperationKind, Running};
use crate::upstream::connection::Connection;

/// How long a caller waits for what its sandbox is noted as, once the gateway has answered.
const NOTED_WITHIN: Duration = Duration::from_secs(2);

/// A call that was let through and checked.
#[derive(Debug)]
pub struct Forwarded {
    /// The generation that it was read in.
    pub generation: Generation,
    /// Its headers, as the gateway gets them.
    pub headers: HeaderMap,
    /// Its message.
    pub message: Bytes,
    /// Where its sandbox is to be or is; the name may be empty in a creation.
    pub workspace: String,
    /// Its name.
    pub sandbox: String,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
}

async fn reach(ctx: &Ctx, generation: Generation) -> Result<Gateway, Error> {
    let gateway = domain::reach(ctx).await?;
    if gateway.generation() != generation {
        return Err(Connection::changed(gateway.name()));
    }
    Ok(gateway)
}

/// A creation. The intent of the call goes along with the operation.
pub(crate) async fn create(ctx: Ctx, call: Forwarded) -> Result<Passed, Error> {
    let workspace = input::workspace(&call.workspace)?;
    let begun = New {
        kind: OperationKind::Sandbox,
        workspace: &workspace,
        sandbox: &call.sandbox,
        // Whether the name is taken is for the gateway to say, in the words that its clients know.
        exclusive: false,
        keeps_output: false,
        input: None,
    };
    let running = operations::begin(&ctx, begun).await?;
    match made(&running, call, &workspace).await {
        Ok(Sent { answer, next }) => {
            let (noted, is_noted) = oneshot::channel();
            ctx.app().spawn(async move {
                let mut noted = Some(noted);
                let result = go_on(&running, next, &mut noted).await;
                // What stands in the way was told where it was met.
                let _ = running.finish(result).await;
            });
            // It is noted, or ended, or late: the answer is the gateway's in any case.
            let _ = timeout(NOTED_WITHIN, is_noted).await;
            answer
        }
        Err(Stopped { error, failure }) => {
            running.finish(Err(failure)).await?;
            Err(error)
        }
    }
}

/// One that was sent.
struct Sent {
    /// What its caller gets.
    answer: Result<Passed, Error>,
    next: Next,
}

enum Next {
    /// It was made, and the rest is left to be done.
    Made(Box<Rest>),
    /// It was not.
    Refused(Failure),
    /// Nobody said.
    Unknown(Box<Unknown>),
}

struct Rest {
    gateway: Gateway,
    sandbox: Sandbox,
    left: Left,
}

/// What it takes to find out what became of it.
struct Unknown {
    gateway: Gateway,
    call: Forwarded,
    place: SandboxName,
    left: Left,
    /// What was answered instead, or why nothing was.
    why: Option<Failure>,
}

async fn go_on(
    running: &Running,
    next: Next,
    noted: &mut Option<oneshot::Sender<()>>,
) -> Result<Value, Failure> {
    match next {
        Next::Made(rest) => follow(running, *rest, "", noted.take()).await,
        Next::Refused(failure) => Err(failure),
        Next::Unknown(unknown) => {
            // Its caller waits for nothing more.
            drop(noted.take());
            let Unknown { gateway, place, left, why, .. } = *unknown;
            found(running, gateway, &place, why, left).await
        }
    }
}

/// Finds one whose answer was lost, and goes on with it.
async fn found(
    running: &Running,
    gateway: Gateway,
    place: &SandboxName,
    why: Option<Failure>,
    left: Left,
) -> Result<Value, Failure> {
    let mark = &left.mark;
    let became = what_became(running, &Lost { gateway: &gateway, place, mark, why }).await;
    let sandbox = became.map_err(|failure| failure.with(by_then(&left.pre_create)))?;
    follow(running, Rest { gateway, left: left.made(&sandbox), sandbox }, "", None).await
}

/// What a takeover needs to go on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Left {
    workspace: String,
    /// Empty where the gateway is to name it, and has not said.
    sandbox: String,
    /// Empty until the gateway has said that it is made.
    sandbox_id: String,
    pre_create: Value,
    details: Value,
    /// What it is known by; an older build has noted operations alone.
    #[serde(default)]
    mark: Mark,
}

impl Left {
    /// Before it is made.
    fn of(place: &SandboxName, mark: Mark, pre_create: Value, details: Value) -> Self {
        let SandboxName { workspace, name: sandbox } = place.clone();
        Self { workspace, sandbox, sandbox_id: String::new(), pre_create, details, mark }
    }

    /// The gateway has made it.
    fn made(self, sandbox: &Sandbox) -> Self {
        let SandboxName { workspace, name } = sandbox.place.clone();
        Self { workspace, sandbox: name, sandbox_id: sandbox.id.clone(), ..self }
    }
}

/// Why nothing was made, for the caller and for the operation.
struct Stopped {
    error: Error,
    failure: Failure,
}

impl Stopped {
    fn with(self, by_then: Value) -> Self {
        Self { failure: self.failure.with(by_then), ..self }
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        let code = if matches!(error, Error::Late { .. }) {
            Code::Timeout
        } else if is_final(&error) {
            Code::Refused
        } else {
            Code::GatewayUnreachable
        };
        let failure = Failure::new(code, error.to_string());
        Self { error, failure }
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        let error = Error::refused(Reason::OperationFailed, failure.message.clone());
        Self { error, failure }
    }
}

async fn made(running: &Running, mut call: Forwarded, workspace: &str) -> Result<Sent, Stopped> {
    let ctx = running.ctx();
    let gateway = reach(ctx, call.generation).await?;
    ctx.recheck()?;
    let new = gateway.asked_for(&call.message).unwrap_or_default();
    let NewSandbox { image, gpu, providers, log_level, .. } = &new;
    let details =
        json!({ "image": image, "gpu": gpu, "providers": providers, "log_level": log_level });
    let mark = Mark::of(&new.request_id);
    let (key, value) = mark.annotation(running);
    call.message = gateway.with_annotation(call.message, key, value);
    let place = SandboxName { workspace: workspace.to_owned(), name: call.sandbox.clone() };
    if !place.name.is_empty() {
        former::forget_before(ctx, &gateway, &place).await?;
    }
    let ran: Ran = before(running, &gateway, &place, &new).await?;
    let pre_create = made::outcomes(&ran);
    let left = Left::of(&place, mark, pre_create.clone(), details);
    let unknown = Unknown { gateway, call, place, left, why: None };
    let sent = send(running, Box::new(unknown)).await;
    sent.map_err(|stopped| stopped.with(by_then(&pre_create)))
}

/// What there is to tell of one that went no further than its hooks.
fn by_then(pre_create: &Value) -> Value {
    json!({ "hooks": { "pre_create": pre_create }, "proxied": true })
}

/// Sends it on, once.
async fn send(running: &Running, mut unknown: Box<Unknown>) -> Result<Sent, Stopped> {
    let Unknown { gateway, call, left, .. } = unknown.as_ref();
    if call.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        let why = "the hooks before the creation took longer than the caller waits".to_owned();
        return Err(Error::Late { why }.into());
    }
    made::tell(running, 30, "making the sandbox").await?;
    // Another replica finds it by its annotation.
    let kept = serde_json::to_vec(left).map_err(Error::internal)?;
    running.step_with(CREATING, &kept).await?;
    running.may_begin()?;
    // Whoever cancels waits for the answer, since what was made is to be deleted.
    let headers = (call.headers.clone(), call.deadline);
    let passed = match gateway.pass_create(headers, &call.message).await {
        Err(error) if is_final(&error) || !gateway.may_have_seen() => return Err(error.into()),
        Err(error) => {
            let Stopped { error, failure } = error.into();
            unknown.why = Some(failure);
            return Ok(Sent { answer: Err(error), next: Next::Unknown(unknown) });
        }
        Ok((passed, Some(sandbox))) => {
            let Unknown { gateway, left, .. } = *unknown;
            let rest = Rest { gateway, left: left.made(&sandbox), sandbox };
            let next = Next::Made(Box::new(rest));
            return Ok(Sent { answer: Ok(passed), next });
        }
        Ok((passed, None)) => passed,
    };
    let why = |refused: &Error| Failure::new(Code::Refused, refused.to_string());
    let next = match &passed.refused {
        Some(refused) if is_final(refused) => {
            Next::Refused(why(refused).with(by_then(&unknown.left.pre_create)))
        }
        // A gateway that fails may have made it all the same.
        refused => {
            unknown.why = refused.as_ref().map(why);
            Next::Unknown(unknown)
        }
    };
    Ok(Sent { answer: Ok(passed), next })
}

/// Goes on with one that was sent to the gateway, or that it has made.
pub(super) async fn resume(running: Running, step: &str, left: Left) -> Result<Value, Failure> {
    running.may_undo_for(super::create::UNDO_TIME);
    let place = SandboxName { workspace: left.workspace.clone(), name: left.sandbox.clone() };
    if left.sandbox_id.is_empty() {
        let gateway = patiently(&running, || domain::reach(running.ctx())).await?;
        return found(&running, gateway, &place, None, left).await;
    }
    let (gateway, sandbox) = patiently(&running, || async {
        let gateway = domain::reach(running.ctx()).await?;
        let sandbox = gateway.get_sandbox(&place).await?;
        Ok((gateway, sandbox))
    })
    .await?;
    if sandbox.id != left.sandbox_id {
        let why = format!("sandbox `{}` is gone, and there is another", place.name);
        return Err(Failure::new(Code::Refused, why));
    }
    follow(&running, Rest { gateway, sandbox, left }, step, None).await
}

/// Notes it, tells `noted` so, waits until it is ready and runs the hooks after the creation; but for what its step says is
/// done.
async fn follow(
    running: &Running,
    Rest { gateway, sandbox, left }: Rest,
    step: &str,
    noted: Option<oneshot::Sender<()>>,
) -> Result<Value, Failure> {
    let (word, done) = step.split_once(' ').unwrap_or((step, ""));
    let kept = serde_json::to_vec(&left).map_err(Error::internal)?;
    if word != NOTED {
        patiently(running, || running.step_with(CREATED, &kept)).await?;
        patiently(running, || running.named(&sandbox.place.name)).await?;
        let (ctx, labels) = (running.ctx(), Labels::default());
        let note = || made::store(ctx, &sandbox, None, &labels, &left.details);
        patiently(running, note).await?;
        patiently(running, || running.step(NOTED)).await?;
    }
    drop(noted);
    let followed = made::follow(running, &gateway, sandbox.clone(), Hooks::Run(done)).await;
    if undo(running, &gateway, &sandbox).await? {
        return Err(Failure::cancelled().with(by_then(&left.pre_create)));
    }
    let followed = followed.map_err(|failure| failure.with(by_then(&left.pre_create)))?;
    made::result(followed, &left.pre_create, json!({ "proxied": true }))
}

/// A deletion.
pub(crate) async fn delete(ctx: Ctx, call: Forwarded) -> Result<Passed, Error> {
    let gateway = reach(&ctx, call.generation).await?;
    ctx.recheck()?;
    let place = SandboxName { workspace: input::workspace(&call.workspace)?, name: call.sandbox };
    let (passed, deleted) =
        gateway.pass_delete((call.headers, call.deadline), &call.message).await?;
    if deleted && let Err(error) = domain::deleted(&ctx, &place).await {
        // It is gone, and that is what the caller is told; the sweep forgets the rest.
        warn!(gateway = %gateway.name(), error = &error as &dyn std::error::Error, "not noted yet");
    }
    Ok(passed)
}
