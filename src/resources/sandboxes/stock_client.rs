//! Sandboxes that are created and deleted through the proxied API. The same rules hold as for Shoreguard's own API:
//! hooks run, an operation shows the progress, and what is stored under a sandbox's name is deleted with it.
//!
//! Invariants
//! - the gateway gets the client's own bytes, with nothing but annotations added, and the client gets the gateway's own
//!   response;
//! - a client that disconnects does not stop a creation that has begun. A deadline that passes before the request is
//!   sent does;
//! - the client gets the gateway's response within seconds, even if the sandbox cannot be recorded here yet;
//! - if the gateway does not respond, fails or reports an uncertain outcome, the sandbox is searched by its annotation,
//!   since it may have been created anyway;
//! - once the request was sent, another replica can take over, and a canceled creation is undone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::after_create::{self, Hooks};
use super::create::{CREATED, CREATING, NOTED, before};
use super::lost_response::{Lost, Mark, patiently, what_became};
use super::undo::undo;
use super::{domain, input, leftovers};
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::{Error, Reason};
use crate::labels::Labels;
use crate::openshell::gateway::Passed;
use crate::openshell::sandbox::{NewSandbox, Sandbox};
use crate::openshell::{Gateway, Generation};
use crate::resources::boot_hooks::run::Ran;
use crate::resources::operations::retry::is_final;
use crate::resources::operations::{self, Code, Failure, New, OperationKind, Running};
use crate::upstream::connection::Connection;

/// How long the gateway's response waits until the sandbox is recorded.
const NOTED_WITHIN: Duration = Duration::from_secs(2);

/// A call that was authorized and checked.
#[derive(Debug)]
pub struct Forwarded {
    /// Generation of the API in which the message was read.
    pub generation: Generation,
    /// Headers for the gateway.
    pub headers: HeaderMap,
    /// Encoded request message.
    pub message: Bytes,
    /// Workspace of the sandbox.
    pub workspace: String,
    /// Name of the sandbox. It may be empty in a creation.
    pub sandbox: String,
    /// Deadline of the caller.
    pub deadline: Option<Instant>,
}

async fn reach(ctx: &Ctx, generation: Generation) -> Result<Gateway, Error> {
    let gateway = domain::reach(ctx).await?;
    if gateway.generation() != generation {
        return Err(Connection::changed(gateway.name()));
    }
    Ok(gateway)
}

/// Forwards a creation. The operation takes over the open audit entry of the call.
pub(crate) async fn create(ctx: Ctx, call: Forwarded) -> Result<Passed, Error> {
    let workspace = input::workspace(&call.workspace)?;
    let begun = New {
        kind: OperationKind::Sandbox,
        workspace: &workspace,
        sandbox: &call.sandbox,
        // The gateway reports a name conflict itself, in the form that its clients know.
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
                // The error was already logged.
                let _ = running.finish(result).await;
            });
            // The sandbox is recorded, the operation has ended or the wait timed out. The response is the gateway's in
            // any case.
            let _ = timeout(NOTED_WITHIN, is_noted).await;
            answer
        }
        Err(Stopped { error, failure }) => {
            running.finish(Err(failure)).await?;
            Err(error)
        }
    }
}

/// A request that was sent.
struct Sent {
    /// Response for the caller.
    answer: Result<Passed, Error>,
    next: Next,
}

enum Next {
    /// The gateway created the sandbox; the remaining steps follow.
    Made(Box<Rest>),
    /// The gateway did not create it.
    Refused(Failure),
    /// The outcome is unknown.
    Unknown(Box<Unknown>),
}

struct Rest {
    gateway: Gateway,
    sandbox: Sandbox,
    left: Left,
}

/// State for finding out whether the sandbox was created.
struct Unknown {
    gateway: Gateway,
    call: Forwarded,
    place: SandboxName,
    left: Left,
    /// The gateway's error, or why there was no response.
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
            // The caller gets its response without waiting any longer.
            drop(noted.take());
            let Unknown { gateway, place, left, why, .. } = *unknown;
            found(running, gateway, &place, why, left).await
        }
    }
}

/// Finds out whether the sandbox was created although the response was lost, and continues with it.
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

/// Input of the operation, for a takeover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Left {
    workspace: String,
    /// Empty until the gateway has chosen a name, if the client gave none.
    sandbox: String,
    /// Empty until the gateway has created the sandbox.
    sandbox_id: String,
    pre_create: Value,
    details: Value,
    /// Annotation that identifies the sandbox. Older builds always used the operation's id.
    #[serde(default)]
    mark: Mark,
}

impl Left {
    /// Creates the input before the request is sent.
    fn of(place: &SandboxName, mark: Mark, pre_create: Value, details: Value) -> Self {
        let SandboxName { workspace, name: sandbox } = place.clone();
        Self { workspace, sandbox, sandbox_id: String::new(), pre_create, details, mark }
    }

    /// Adds the name and id of the created sandbox.
    fn made(self, sandbox: &Sandbox) -> Self {
        let SandboxName { workspace, name } = sandbox.place.clone();
        Self { workspace, sandbox: name, sandbox_id: sandbox.id.clone(), ..self }
    }
}

/// Why nothing was created, as the caller's error and as the operation's failure.
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
        leftovers::forget_before(ctx, &gateway, &place).await?;
    }
    let ran: Ran = before(running, &gateway, &place, &new).await?;
    let pre_create = after_create::outcomes(&ran);
    let left = Left::of(&place, mark, pre_create.clone(), details);
    let unknown = Unknown { gateway, call, place, left, why: None };
    let sent = send(running, Box::new(unknown)).await;
    sent.map_err(|stopped| stopped.with(by_then(&pre_create)))
}

/// Builds the partial result of a creation: the outcome of the pre-create hooks.
fn by_then(pre_create: &Value) -> Value {
    json!({ "hooks": { "pre_create": pre_create }, "proxied": true })
}

/// Sends the request, once.
async fn send(running: &Running, mut unknown: Box<Unknown>) -> Result<Sent, Stopped> {
    let Unknown { gateway, call, left, .. } = unknown.as_ref();
    if call.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        let why = "the deadline passed before the sandbox was created, while pre-create hooks ran";
        return Err(Error::Late { why: why.to_owned() }.into());
    }
    after_create::tell(running, 30, "making the sandbox").await?;
    // After a takeover, the sandbox is searched by its annotation.
    let kept = serde_json::to_vec(left).map_err(Error::internal)?;
    running.step_with(CREATING, &kept).await?;
    running.may_begin()?;
    // A canceled operation still waits for the response, since a created sandbox must be deleted.
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
        // A gateway that fails may have created the sandbox anyway.
        refused => {
            unknown.why = refused.as_ref().map(why);
            Next::Unknown(unknown)
        }
    };
    Ok(Sent { answer: Ok(passed), next })
}

/// Resumes a creation whose request may have been sent, or whose sandbox exists.
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
        let why = format!("sandbox `{}` was deleted, and another one has its name", place.name);
        return Err(Failure::new(Code::Refused, why));
    }
    follow(&running, Rest { gateway, sandbox, left }, step, None).await
}

/// Records the sandbox, drops `noted` to release the response, waits until the sandbox is ready and runs the
/// post-create hooks. Skips the parts that `step` marks as done.
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
        let note = || after_create::store(ctx, &sandbox, None, &labels, &left.details);
        patiently(running, note).await?;
        patiently(running, || running.step(NOTED)).await?;
    }
    drop(noted);
    let followed = after_create::follow(running, &gateway, sandbox.clone(), Hooks::Run(done)).await;
    if undo(running, &gateway, &sandbox).await? {
        return Err(Failure::cancelled().with(by_then(&left.pre_create)));
    }
    let followed = followed.map_err(|failure| failure.with(by_then(&left.pre_create)))?;
    after_create::result(followed, &left.pre_create, json!({ "proxied": true }))
}

/// Forwards a deletion.
pub(crate) async fn delete(ctx: Ctx, call: Forwarded) -> Result<Passed, Error> {
    let gateway = reach(&ctx, call.generation).await?;
    ctx.recheck()?;
    let place = SandboxName { workspace: input::workspace(&call.workspace)?, name: call.sandbox };
    let (passed, deleted) =
        gateway.pass_delete((call.headers, call.deadline), &call.message).await?;
    if deleted && let Err(error) = domain::deleted(&ctx, &place).await {
        // The gateway has deleted the sandbox, so the caller gets its response. The sweep deletes what is stored here.
        warn!(gateway = %gateway.name(), error = &error as &dyn std::error::Error, "not noted yet");
    }
    Ok(passed)
}
