//! Sandboxes that are made and deleted through the proxied API: the same rules hold as for those that are made here. Hooks
//! run, an operation shows how it goes, and what hangs on a name goes with the sandbox.
//!
//! Invariants
//! - the gateway gets the caller's own bytes, and the caller the gateway's own answer;
//! - whoever hangs up does not stop what was begun; whoever's time is over before anything was sent does;
//! - what the gateway has answered reaches the caller soon, whatever keeps it from being noted here;
//! - once it has answered, another replica can go on, and what is cancelled is undone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::create::{CREATED, NOTED, before, is_final};
use super::made::{self, Hooks, ready_json};
use super::undo::undo;
use super::{domain, former, input};
use crate::ctx::Ctx;
use crate::error::{Error, Reason};
use crate::labels::Labels;
use crate::openshell::gateway::Passed;
use crate::openshell::sandbox::{NewSandbox, Place, Sandbox};
use crate::openshell::{Gateway, Wire};
use crate::proxy::connection::Connection;
use crate::resources::boot_hooks::run::{Ran, Spec};
use crate::resources::operations::{self, Code, Failure, New, OperationKind, Running};

/// How long a caller waits for what its sandbox is noted as, once the gateway has answered.
const NOTED_WITHIN: Duration = Duration::from_secs(2);

/// A call that was let through and checked.
#[derive(Debug)]
pub struct Forwarded {
    /// The generation that it was read in.
    pub wire: Wire,
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

async fn reach(ctx: &Ctx, wire: Wire) -> Result<Gateway, Error> {
    let gateway = domain::reach(ctx).await?;
    if gateway.wire() != wire {
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
    match made(&running, &call, &workspace).await {
        Ok(Made { passed, rest }) => {
            let why = passed.refused.as_ref().map(ToString::to_string).unwrap_or_default();
            let (noted, is_noted) = oneshot::channel();
            ctx.app().spawn(async move {
                let result = match rest {
                    Some(rest) => follow(&running, rest, "", Some(noted)).await,
                    None => Err(Failure::new(Code::Refused, why)),
                };
                // What stands in the way was told where it was met.
                let _ = running.finish(result).await;
            });
            // It is noted, or ended, or late: the answer is the gateway's in any case.
            let _ = timeout(NOTED_WITHIN, is_noted).await;
            Ok(passed)
        }
        Err(Stopped { error, failure }) => {
            running.finish(Err(failure)).await?;
            Err(error)
        }
    }
}

struct Made {
    passed: Passed,
    /// What is left to be done, where it was made.
    rest: Option<Rest>,
}

struct Rest {
    gateway: Gateway,
    sandbox: Sandbox,
    left: Left,
}

/// What a takeover needs to go on once the gateway has made the sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    workspace: String,
    sandbox: String,
    sandbox_id: String,
    pre_create: Value,
    details: Value,
}

/// Why nothing was made, for the caller and for the operation.
struct Stopped {
    error: Error,
    failure: Failure,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        let code = if is_final(&error) { Code::Refused } else { Code::GatewayUnreachable };
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

async fn made(running: &Running, call: &Forwarded, workspace: &str) -> Result<Made, Stopped> {
    let ctx = running.ctx();
    let gateway = reach(ctx, call.wire).await?;
    let NewSandbox { image, gpu, providers, log_level, .. } =
        gateway.asked_for(&call.message).unwrap_or_default();
    let details =
        json!({ "image": image, "gpu": gpu, "providers": providers, "log_level": log_level });
    let spec = Spec { image, policy_id: String::new(), providers, gpu };
    if !call.sandbox.is_empty() {
        let place = Place { workspace: workspace.to_owned(), name: call.sandbox.clone() };
        former::forget_before(ctx, &gateway, &place).await?;
    }
    let ran: Ran = before(running, (workspace, &call.sandbox), &spec).await?;
    if call.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        let why = "the hooks before the creation took longer than the caller waits".to_owned();
        return Err(Error::Late { why }.into());
    }
    running.progress(30, "making the sandbox").await?;
    running.still_mine()?;
    // Whoever cancels waits for the answer, since what was made is to be deleted.
    let (passed, sandbox) =
        gateway.pass_create((call.headers.clone(), call.deadline), &call.message).await?;
    let Some(sandbox) = sandbox else { return Ok(Made { passed, rest: None }) };
    let left = Left {
        workspace: sandbox.place.workspace.clone(),
        sandbox: sandbox.place.name.clone(),
        sandbox_id: sandbox.id.clone(),
        pre_create: made::outcomes(&ran),
        details,
    };
    Ok(Made { passed, rest: Some(Rest { gateway, sandbox, left }) })
}

/// Goes on with one that the gateway has made.
pub(super) async fn resume(running: Running, step: &str, left: Left) -> Result<Value, Failure> {
    running.may_undo_for(super::create::UNDO_TIME);
    let gateway = domain::reach(running.ctx()).await?;
    let place = Place { workspace: left.workspace.clone(), name: left.sandbox.clone() };
    let sandbox = gateway.get_sandbox(&place).await?;
    if sandbox.id != left.sandbox_id {
        let why = format!("sandbox `{}` is gone, and there is another", place.name);
        return Err(Failure::new(Code::Refused, why));
    }
    let (_, done) = step.split_once(' ').unwrap_or((step, ""));
    follow(&running, Rest { gateway, sandbox, left }, done, None).await
}

/// Notes it, tells `noted` so, waits until it is ready and runs the hooks after the creation that are not done yet.
async fn follow(
    running: &Running,
    Rest { gateway, sandbox, left }: Rest,
    done: &str,
    noted: Option<oneshot::Sender<()>>,
) -> Result<Value, Failure> {
    let kept = serde_json::to_vec(&left).map_err(Error::internal)?;
    if done.is_empty() {
        made::kept(running, || running.step_with(CREATED, &kept)).await?;
        made::kept(running, || running.named(&sandbox.place.name)).await?;
        let (ctx, labels) = (running.ctx(), Labels::default());
        made::kept(running, || made::store(ctx, &sandbox, (None, &labels), &left.details)).await?;
        made::kept(running, || running.step(NOTED)).await?;
    }
    drop(noted);
    let followed = made::follow(running, &gateway, sandbox.clone(), Hooks::Run(done)).await;
    if undo(running, &gateway, &sandbox).await? {
        return Err(Failure::cancelled());
    }
    let followed = followed?;
    let mut result = json!({
        "sandbox": ready_json(&followed.sandbox),
        "ready": followed.ready,
        "hooks": { "pre_create": left.pre_create, "post_create": followed.post_create },
        "proxied": true,
    });
    if let Some(warning) = followed.warning {
        result["warning"] = warning.into();
    }
    Ok(result)
}

/// A deletion.
pub(crate) async fn delete(ctx: Ctx, call: Forwarded) -> Result<Passed, Error> {
    let gateway = reach(&ctx, call.wire).await?;
    let place = Place { workspace: input::workspace(&call.workspace)?, name: call.sandbox };
    let (passed, deleted) =
        gateway.pass_delete((call.headers, call.deadline), &call.message).await?;
    if deleted && let Err(error) = domain::deleted(&ctx, &place).await {
        // It is gone, and that is what the caller is told; the sweep forgets the rest.
        warn!(gateway = %gateway.name(), error = &error as &dyn std::error::Error, "not noted yet");
    }
    Ok(passed)
}
