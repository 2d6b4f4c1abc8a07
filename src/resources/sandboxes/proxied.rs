//! Sandboxes that are made and deleted through the proxied API: the same rules hold as for those that are made here. Hooks
//! run, an operation shows how it goes, and what hangs on a name goes with the sandbox.
//!
//! Invariants
//! - the gateway gets the caller's own bytes, and the caller the gateway's own answer;
//! - whoever hangs up does not stop what was begun; whoever's time is over before anything was sent does.

use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::create::{before, is_final};
use super::made::{self, Hooks, ready_json};
use super::{domain, former, input};
use crate::ctx::Ctx;
use crate::error::{Error, Reason};
use crate::labels::Labels;
use crate::openshell::gateway::Passed;
use crate::openshell::sandbox::{NewSandbox, Place, Sandbox};
use crate::openshell::{Gateway, Wire};
use crate::resources::boot_hooks::run::{Ran, Spec};
use crate::resources::operations::{self, Code, Failure, New, OperationKind, Running};

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
        let why = format!("gateway `{}` has changed, call again", gateway.name());
        return Err(Error::unavailable(Reason::GatewayUnreachable, why));
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
        Ok(Made { passed, rest: Some((gateway, sandbox, pre_create)) }) => {
            let app = ctx.app().clone();
            app.spawn(async move { follow(running, gateway, sandbox, pre_create).await });
            Ok(passed)
        }
        Ok(Made { passed, rest: None }) => {
            let why = passed.refused.as_ref().map(ToString::to_string).unwrap_or_default();
            running.finish(Err(Failure::new(Code::Refused, why))).await?;
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
    rest: Option<(Gateway, Sandbox, Value)>,
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
    let passing = gateway.pass_create(call.headers.clone(), &call.message);
    let (passed, sandbox) = tokio::select! {
        passed = passing => passed?,
        // Whether the gateway goes on with it is not known; the sweep finds what it has made.
        () = running.cancel().cancelled() => return Err(Failure::cancelled().into()),
    };
    let Some(sandbox) = sandbox else { return Ok(Made { passed, rest: None }) };
    running.named(&sandbox.place.name).await?;
    made::store(ctx, &sandbox, (None, &Labels::default()), &details).await?;
    let pre_create = made::outcomes(&ran);
    Ok(Made { passed, rest: Some((gateway, sandbox, pre_create)) })
}

/// Waits until it is ready and runs the hooks after the creation, while the caller has its answer already.
async fn follow(running: Running, gateway: Gateway, sandbox: Sandbox, pre_create: Value) {
    let followed = made::follow(&running, &gateway, sandbox, Hooks::Run("")).await;
    let result = followed.map(|followed| {
        let mut result = json!({
            "sandbox": ready_json(&followed.sandbox),
            "ready": followed.ready,
            "hooks": { "pre_create": pre_create, "post_create": followed.post_create },
            "proxied": true,
        });
        if let Some(warning) = followed.warning {
            result["warning"] = warning.into();
        }
        result
    });
    // What stands in the way was told where it was met.
    let _ = running.finish(result).await;
}

/// A deletion.
pub(crate) async fn delete(ctx: Ctx, call: Forwarded) -> Result<Passed, Error> {
    let gateway = reach(&ctx, call.wire).await?;
    let (passed, deleted) = gateway.pass_delete(call.headers.clone(), &call.message).await?;
    if deleted {
        let place = Place { workspace: input::workspace(&call.workspace)?, name: call.sandbox };
        domain::deleted(&ctx, &place).await?;
    }
    Ok(passed)
}
