//! Sandboxes that are created through the proxied API. The same rules hold as for Shoreguard's own API: hooks run, and
//! an operation shows the progress.
//!
//! Invariants
//! - the gateway gets the client's own bytes, with nothing but annotations added, unless a rule applies (`forwarded`),
//!   and the client gets the gateway's own response;
//! - a client that disconnects does not stop a creation that has begun. A deadline that passes before the request is
//!   sent does;
//! - the client gets the gateway's response within seconds, even if the sandbox cannot be recorded here yet;
//! - if the gateway does not respond, fails or reports an uncertain outcome, the sandbox is searched by its annotation,
//!   since it may have been created anyway;
//! - once the request was sent, another replica can take over, and a canceled creation is undone.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::after_create::{self, PostCreateHooks};
use super::create::{CREATED, CREATING, RECORDED, reject_taken_name, run_pre_create_hooks};
use super::forwarded::{ForwardedCall, connect};
use super::lost_response::{CreateFailure, CreationMark, LostCreation, find_outcome, with_retries};
use super::undo::undo;
use super::{domain, input, leftovers};
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::{Error, Reason};
use crate::labels::Labels;
use crate::openshell::Gateway;
use crate::openshell::gateway::ForwardedResponse;
use crate::openshell::sandbox::{NewSandbox, Sandbox};
use crate::resources::approvals::gate::{self, Passed};
use crate::resources::boot_hooks::run::HookResults;
use crate::resources::operations::retry::is_final;
use crate::resources::operations::{
    self, Failure, FailureCode, NewOperation, OperationKind, RunningOperation,
};

/// How long the gateway's response waits until the sandbox is recorded.
const RECORD_TIMEOUT: Duration = Duration::from_secs(2);

/// Forwards a creation. The operation takes over the open audit entry of the call.
pub(crate) async fn create(ctx: Ctx, call: ForwardedCall) -> Result<ForwardedResponse, Error> {
    let workspace = input::workspace(&call.workspace)?;
    let begun = NewOperation {
        kind: OperationKind::Sandbox,
        workspace: &workspace,
        sandbox: &call.sandbox,
        // The gateway reports a name conflict itself, in the form that its clients know.
        exclusive: false,
        key: None,
        keeps_output: false,
        input: None,
    };
    let running = operations::begin(&ctx, begun).await?;
    match create_on_gateway(&running, call, &workspace).await {
        Ok(SentCreate { answer, next }) => {
            let (noted, is_noted) = oneshot::channel();
            ctx.app().spawn(async move {
                let mut noted = Some(noted);
                let result = continue_after_send(&running, next, &mut noted).await;
                // The error was already logged.
                let _ = running.finish(result).await;
            });
            // The sandbox is recorded, the operation has ended or the wait timed out. The response is the gateway's in
            // any case.
            let _ = ctx.app().clock.timeout(RECORD_TIMEOUT, is_noted).await;
            answer
        }
        Err(NotCreated { error, failure }) => {
            running.finish(Err(failure)).await?;
            Err(error)
        }
    }
}

/// A request that was sent.
struct SentCreate {
    /// Response for the caller.
    answer: Result<ForwardedResponse, Error>,
    next: CreateResult,
}

enum CreateResult {
    /// The gateway created the sandbox; the remaining steps follow.
    Created(Box<CreatedSandbox>),
    /// The gateway did not create it.
    Refused(Failure),
    /// The outcome is unknown.
    Unknown(Box<UnknownOutcome>),
}

struct CreatedSandbox {
    gateway: Gateway,
    sandbox: Sandbox,
    state: CreationState,
}

/// State for finding out whether the sandbox was created.
struct UnknownOutcome {
    gateway: Gateway,
    call: ForwardedCall,
    place: SandboxName,
    state: CreationState,
    /// The gateway's error, or why there was no response.
    why: Option<CreateFailure>,
}

async fn continue_after_send(
    running: &RunningOperation,
    next: CreateResult,
    noted: &mut Option<oneshot::Sender<()>>,
) -> Result<Value, Failure> {
    match next {
        CreateResult::Created(rest) => finish_creation(running, *rest, "", noted.take()).await,
        CreateResult::Refused(failure) => Err(failure),
        CreateResult::Unknown(unknown) => {
            // The caller gets its response without waiting any longer.
            drop(noted.take());
            let UnknownOutcome { gateway, place, state, why, .. } = *unknown;
            resolve_unknown(running, gateway, &place, why, state).await
        }
    }
}

/// Finds out whether the sandbox was created although the response was lost, and continues with it.
async fn resolve_unknown(
    running: &RunningOperation,
    gateway: Gateway,
    place: &SandboxName,
    why: Option<CreateFailure>,
    state: CreationState,
) -> Result<Value, Failure> {
    let mark = &state.mark;
    let became = find_outcome(running, &LostCreation { gateway: &gateway, place, mark, why }).await;
    let sandbox =
        became.map_err(|failure| failure.with_result(partial_result(&state.pre_create)))?;
    finish_creation(
        running,
        CreatedSandbox { gateway, state: state.with_sandbox(&sandbox), sandbox },
        "",
        None,
    )
    .await
}

/// Input of the operation, for a takeover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CreationState {
    workspace: String,
    /// Empty until the gateway has chosen a name, if the client gave none.
    sandbox: String,
    /// Empty until the gateway has created the sandbox.
    sandbox_id: String,
    pre_create: Value,
    details: Value,
    /// Annotation that identifies the sandbox. Older builds always used the operation's id.
    #[serde(default)]
    mark: CreationMark,
}

impl CreationState {
    /// Creates the input before the request is sent.
    fn new(place: &SandboxName, mark: CreationMark, pre_create: Value, details: Value) -> Self {
        let SandboxName { workspace, name: sandbox } = place.clone();
        Self { workspace, sandbox, sandbox_id: String::new(), pre_create, details, mark }
    }

    /// Adds the name and id of the created sandbox.
    fn with_sandbox(self, sandbox: &Sandbox) -> Self {
        let SandboxName { workspace, name } = sandbox.full_name.clone();
        Self { workspace, sandbox: name, sandbox_id: sandbox.id.clone(), ..self }
    }
}

/// Why nothing was created, as the caller's error and as the operation's failure.
struct NotCreated {
    error: Error,
    failure: Failure,
}

impl NotCreated {
    fn with_result(self, partial: Value) -> Self {
        Self { failure: self.failure.with_result(partial), ..self }
    }
}

impl From<Error> for NotCreated {
    fn from(error: Error) -> Self {
        let code = if matches!(error, Error::DeadlineExceeded { .. }) {
            FailureCode::Timeout
        } else if is_final(&error) {
            FailureCode::Refused
        } else {
            FailureCode::GatewayUnreachable
        };
        let failure = Failure::new(code, error.to_string());
        Self { error, failure }
    }
}

impl From<Failure> for NotCreated {
    fn from(failure: Failure) -> Self {
        let error = Error::refused(Reason::OperationFailed, failure.message.clone());
        Self { error, failure }
    }
}

async fn create_on_gateway(
    running: &RunningOperation,
    mut call: ForwardedCall,
    workspace: &str,
) -> Result<SentCreate, NotCreated> {
    let ctx = running.ctx();
    let gateway = connect(ctx, call.generation).await?;
    ctx.recheck()?;
    // Before hooks run for a creation that a rule refuses.
    gate::check(ctx, &gateway, &call.gate).await?;
    let new = gateway.parse_create_request(&call.message).unwrap_or_default();
    let NewSandbox { image, gpu, providers, log_level, .. } = &new;
    let details =
        json!({ "image": image, "gpu": gpu, "providers": providers, "log_level": log_level });
    let mark = CreationMark::from_request_id(&new.request_id);
    let (key, value) = mark.annotation(running);
    call.message = gateway.with_annotation(call.message, key, value);
    let place = SandboxName { workspace: workspace.to_owned(), name: call.sandbox.clone() };
    if !place.name.is_empty() {
        leftovers::delete_leftovers_of(ctx, &gateway, &place).await?;
    }
    reject_taken_name(running, &gateway, &place, &mark).await?;
    let ran: HookResults = run_pre_create_hooks(running, &gateway, &place, &new).await?;
    let pre_create = after_create::outcomes_to_json(&ran);
    let state = CreationState::new(&place, mark, pre_create.clone(), details);
    let unknown = UnknownOutcome { gateway, call, place, state, why: None };
    let sent = send_request(running, Box::new(unknown)).await;
    sent.map_err(|stopped| stopped.with_result(partial_result(&pre_create)))
}

/// Builds the partial result of a creation: the outcome of the pre-create hooks.
fn partial_result(pre_create: &Value) -> Value {
    json!({ "hooks": { "pre_create": pre_create }, "proxied": true })
}

/// Sends the request, once.
async fn send_request(
    running: &RunningOperation,
    mut unknown: Box<UnknownOutcome>,
) -> Result<SentCreate, NotCreated> {
    let UnknownOutcome { gateway, call, state, .. } = unknown.as_ref();
    if call.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        let why = "the deadline passed before the sandbox was created, while pre-create hooks ran";
        return Err(Error::DeadlineExceeded { why: why.to_owned() }.into());
    }
    after_create::report_progress(running, 30, "making the sandbox").await?;
    // After a takeover, the sandbox is searched by its annotation.
    let kept = serde_json::to_vec(state).map_err(Error::internal)?;
    running.step_with(CREATING, &kept).await?;
    running.check_can_begin()?;
    let ctx = running.ctx();
    let passed = gate::pass(ctx, gateway, &call.gate).await?;
    // A canceled operation still waits for the response, since a created sandbox must be deleted.
    let sent = forward_create(ctx, gateway, call, &passed).await;
    gate::finish(ctx, passed).await;
    let response = match sent {
        Err(error) if is_final(&error) || !gateway.may_have_processed() => return Err(error.into()),
        Err(error) => {
            let NotCreated { error, failure } = error.into();
            unknown.why = Some(CreateFailure::new(&error, failure));
            return Ok(SentCreate { answer: Err(error), next: CreateResult::Unknown(unknown) });
        }
        Ok((response, Some(sandbox))) => {
            let UnknownOutcome { gateway, state, .. } = *unknown;
            let rest = CreatedSandbox { gateway, state: state.with_sandbox(&sandbox), sandbox };
            let next = CreateResult::Created(Box::new(rest));
            return Ok(SentCreate { answer: Ok(response), next });
        }
        Ok((response, None)) => response,
    };
    let why = |refused: &Error| Failure::new(FailureCode::Refused, refused.to_string());
    let next = match &response.error {
        Some(refused) if is_final(refused) => CreateResult::Refused(
            why(refused).with_result(partial_result(&unknown.state.pre_create)),
        ),
        // A gateway that fails may have created the sandbox anyway.
        refused => {
            unknown.why = refused.as_ref().map(|error| CreateFailure::new(error, why(error)));
            CreateResult::Unknown(unknown)
        }
    };
    Ok(SentCreate { answer: Ok(response), next })
}

async fn forward_create(
    ctx: &Ctx,
    gateway: &Gateway,
    call: &ForwardedCall,
    passed: &Passed,
) -> Result<(ForwardedResponse, Option<Sandbox>), Error> {
    let message = call.message_after(passed, gateway, ctx)?;
    // The operation is stopped when its caller loses its access.
    let forwarding = call.forwarding(passed.until, None);
    gateway.forward_create(forwarding, &message, passed.time_left()?).await
}

/// Resumes a creation whose request may have been sent, or whose sandbox exists.
pub(super) async fn resume(
    running: RunningOperation,
    step: &str,
    state: CreationState,
) -> Result<Value, Failure> {
    running.set_undo_time(super::create::UNDO_TIME);
    let place = SandboxName { workspace: state.workspace.clone(), name: state.sandbox.clone() };
    if state.sandbox_id.is_empty() {
        let gateway = with_retries(&running, || domain::connect(running.ctx())).await?;
        return resolve_unknown(&running, gateway, &place, None, state).await;
    }
    let (gateway, sandbox) = with_retries(&running, || async {
        let gateway = domain::connect(running.ctx()).await?;
        let sandbox = gateway.get_sandbox(&place).await?;
        Ok((gateway, sandbox))
    })
    .await?;
    if sandbox.id != state.sandbox_id {
        let why = format!("sandbox `{}` was deleted, and another one has its name", place.name);
        return Err(Failure::new(FailureCode::Refused, why));
    }
    finish_creation(&running, CreatedSandbox { gateway, sandbox, state }, step, None).await
}

/// Records the sandbox, drops `noted` to release the response, waits until the sandbox is ready and runs the
/// post-create hooks. Skips the parts that `step` marks as done.
async fn finish_creation(
    running: &RunningOperation,
    CreatedSandbox { gateway, sandbox, state }: CreatedSandbox,
    step: &str,
    noted: Option<oneshot::Sender<()>>,
) -> Result<Value, Failure> {
    let (word, done) = step.split_once(' ').unwrap_or((step, ""));
    let kept = serde_json::to_vec(&state).map_err(Error::internal)?;
    if word != RECORDED {
        with_retries(running, || running.step_with(CREATED, &kept)).await?;
        with_retries(running, || running.set_sandbox(&sandbox.full_name.name)).await?;
        let (ctx, labels) = (running.ctx(), Labels::default());
        let note = || after_create::record_created(ctx, &sandbox, None, &labels, &state.details);
        with_retries(running, note).await?;
        with_retries(running, || running.step(RECORDED)).await?;
    }
    drop(noted);
    let followed = after_create::wait_and_run_hooks(
        running,
        &gateway,
        sandbox.clone(),
        &[],
        PostCreateHooks::Run(done),
    )
    .await;
    let undone = undo(running, &gateway, &sandbox).await?;
    undone.check().map_err(|failure| failure.with_result(partial_result(&state.pre_create)))?;
    let followed =
        followed.map_err(|failure| failure.with_result(partial_result(&state.pre_create)))?;
    after_create::build_result(followed, &state.pre_create, json!({ "proxied": true }))
}
