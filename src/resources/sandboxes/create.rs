//! Creation of a sandbox: an operation whose work is done in steps. Each step is stored before it is executed, so that
//! another replica can resume it.
//!
//! Invariants
//! - the create request is sent once, and without a request id of Shoreguard's. If the response is lost, the gateway is
//!   asked whether it created the sandbox, which carries an annotation with the operation's id;
//! - a canceled creation is undone: if the gateway created the sandbox anyway, it is deleted;
//! - the result reports the outcome of every part.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::after_create::{self, PostCreateHooks};
use super::domain::{connect, connect_for_change};
use super::first_policy::{gate_call, with_first_policy};
use super::lost_response::{
    CreateFailure, CreationMark, LostCreation, find_outcome, wait_handed_over, with_retries,
};
use super::undo::{Undo, undo};
use super::{leftovers, presets, stock_client, templates};
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::{Error, ResourceKind};
use crate::labels::Labels;
use crate::openshell::sandbox::{self, NewSandbox, Sandbox};
use crate::openshell::{Gateway, Generation, annotation};
use crate::policy::Policy;
use crate::resources::approvals::gate;
use crate::resources::boot_hooks::run::{self as hooks, HookResults, SandboxSpec};
use crate::resources::operations::retry::is_final;
use crate::resources::operations::{
    self, Failure, FailureCode, NewOperation, Operation, OperationKind, RunningOperation,
};
use crate::role::Role;

/// Step before anything was sent.
const STARTED: &str = "begun";
/// Step in which the request is about to be sent or was sent. Only the gateway knows whether the sandbox exists.
pub(super) const CREATING: &str = "creating";
/// Step after the gateway has created the sandbox; its name is stored.
pub(super) const CREATED: &str = "created";
/// Step after the sandbox was recorded here and its event was emitted.
pub(super) const RECORDED: &str = "noted";

/// How long a canceled creation may take to find out whether the gateway created the sandbox, and to delete it.
pub(super) const UNDO_TIME: Duration = Duration::from_mins(10);

/// A validated sandbox to create.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxCreation {
    /// Sandbox as sent to the gateway.
    pub new: NewSandbox,
    /// Description, stored by Shoreguard.
    pub description: Option<String>,
    /// Labels, stored by Shoreguard.
    pub labels: BTreeMap<String, String>,
    /// Whether hooks are skipped.
    pub skip_hooks: bool,
    /// Whether the caller gives a policy or providers, besides those of a template of this server. `None` in the
    /// operation of an older build.
    #[serde(default)]
    pub brings_policy: Option<bool>,
    /// Presets of the template, which are added to the policy.
    pub presets: Vec<String>,
}

/// A create request.
#[derive(Debug)]
pub struct CreateRequest {
    /// Values from the request.
    pub create: SandboxCreation,
    /// Template of this server that fills in the values that the request leaves out.
    pub template: String,
    /// Policy as text. Empty for no policy.
    pub policy: String,
    /// Whether to validate only.
    pub validate_only: bool,
}

/// Checks everything that can be checked in advance, and starts the operation. Returns `None` if only validation was
/// requested.
pub async fn create(ctx: &Ctx, asked: CreateRequest) -> Result<Option<Operation>, Error> {
    let CreateRequest { mut create, template, policy, validate_only } = asked;
    if create.skip_hooks && ctx.role() < Role::Admin {
        let why = "`skip_hooks` requires role `admin` on the gateway".to_owned();
        return Err(Error::Denied { why });
    }
    create.brings_policy = Some(!policy.is_empty() || !create.new.providers.is_empty());
    if !template.is_empty() {
        templates::apply(ctx, &mut create, &template)?;
    }
    let gateway = connect_for_change(ctx).await?;
    gateway.check_method(sandbox::CREATE)?;
    gate::check(ctx, &gateway, &gate_call(&create)).await?;
    presets::check(ctx, gateway.generation(), &create.presets)?;
    if gateway.generation() == Generation::V0_0 && !create.new.workload_template.is_empty() {
        let why = "must be empty: a gateway of generation 0.0 has no templates";
        return Err(Error::invalid("gateway_template", why));
    }
    if !policy.is_empty() {
        let turn = ctx.long_work(policy.len()).await?;
        let policy = turn.run(|| Policy::from_yaml(gateway.generation(), "policy", &policy))?;
        create.new.policy = Some(policy.encoded().to_vec());
    }
    let new = &create.new;
    for (key, value) in [
        ("workspace", json!(new.workspace)),
        ("image", json!(new.image)),
        ("gpu", json!(new.gpu)),
        ("providers", json!(new.providers)),
        ("log_level", json!(new.log_level)),
        ("policy", json!(new.policy.is_some())),
        ("skip_hooks", json!(create.skip_hooks)),
    ] {
        ctx.add_audit_detail(key, value);
    }
    if validate_only {
        ctx.add_audit_detail("validate_only", true);
        return Ok(None);
    }
    let input = serde_json::to_vec(&create).map_err(Error::internal)?;
    let (workspace, name) = (new.workspace.clone(), new.name.clone());
    let begun = NewOperation {
        kind: OperationKind::Sandbox,
        workspace: &workspace,
        sandbox: &name,
        exclusive: true,
        key: None,
        keeps_output: false,
        input: Some(input),
    };
    let started = operations::start(ctx, begun, |running| run(running, create, STARTED, ""));
    Ok(Some(started.await?))
}

/// Resumes a creation after a takeover.
#[must_use]
pub fn resume(
    running: RunningOperation,
    step: String,
    input: Vec<u8>,
) -> BoxFuture<'static, Result<Value, Failure>> {
    Box::pin(async move {
        if input.is_empty() {
            // A proxied creation that was not sent yet: its request was lost with the client's connection.
            return Err(Failure::new(
                FailureCode::Orphaned,
                "the replica that forwarded it stopped",
            ));
        }
        if let Ok(left) = serde_json::from_slice::<stock_client::CreationState>(&input) {
            return stock_client::resume(running, &step, left).await;
        }
        let create: SandboxCreation = serde_json::from_slice(&input).map_err(Error::internal)?;
        // The step may come from another build. An unknown step is treated as `creating`, since the gateway may have
        // created the sandbox.
        let (word, done) = step.split_once(' ').unwrap_or((&step, ""));
        let known = [STARTED, CREATING, CREATED, RECORDED].into_iter().find(|known| *known == word);
        let from = if step.is_empty() { STARTED } else { known.unwrap_or(CREATING) };
        run(running, create, from, done).await
    })
}

/// Continues from a step. `done` lists the post-create hooks that have already ended.
async fn run(
    running: RunningOperation,
    mut create: SandboxCreation,
    from: &'static str,
    done: &str,
) -> Result<Value, Failure> {
    running.set_undo_time(UNDO_TIME);
    let annotations = &mut create.new.annotations;
    annotations.insert(annotation::OPERATION.to_owned(), running.id().to_owned());
    annotations.insert(annotation::ACTOR.to_owned(), running.ctx().actor().to_string());
    let gateway = match from {
        // Nothing was created yet: the operation fails at once, and the caller can retry.
        STARTED => connect(running.ctx()).await?,
        _ => with_retries(&running, || connect(running.ctx())).await?,
    };
    let mut pre_create = json!("of a stopped replica");
    if from == STARTED {
        let place =
            SandboxName { workspace: create.new.workspace.clone(), name: create.new.name.clone() };
        if !place.name.is_empty() {
            leftovers::delete_leftovers_of(running.ctx(), &gateway, &place).await?;
        }
        pre_create = run_pre_create(&running, &gateway, &create).await?;
        check_not_stopped(&running)?;
        running.step(CREATING).await?;
    }
    after_create::report_progress(&running, 30, "making the sandbox").await?;
    let by_then = json!({ "hooks": { "pre_create": pre_create } });
    let made = create_on_gateway(&running, &gateway, &create, from).await;
    let sandbox = made.map_err(|failure| failure.with_result(by_then.clone()))?;
    // A short database outage must not lose a sandbox that was created.
    with_retries(&running, || running.set_sandbox(&sandbox.full_name.name)).await?;
    if from != RECORDED {
        with_retries(&running, || running.step(CREATED)).await?;
    }
    let undone = undo(&running, &gateway, &sandbox).await?;
    if let Undo::Deleted = undone {
        return Err(Failure::cancelled().with_result(by_then));
    }
    // A sandbox that a rule keeps is recorded, too.
    if from != RECORDED {
        let labels = Labels::from_json(serde_json::to_string(&create.labels).ok().as_deref());
        let description = create.description.as_deref();
        let details = details(&create);
        let (ctx, sandbox) = (running.ctx(), &sandbox);
        with_retries(&running, || {
            after_create::record_created(ctx, sandbox, description, &labels, &details)
        })
        .await?;
        with_retries(&running, || running.step(RECORDED)).await?;
    }
    undone.check().map_err(|failure| failure.with_result(by_then.clone()))?;
    let hooks =
        if create.skip_hooks { PostCreateHooks::Skipped } else { PostCreateHooks::Run(done) };
    let (created, presets) = (sandbox.clone(), create.presets.as_slice());
    let followed =
        after_create::wait_and_run_hooks(&running, &gateway, created, presets, hooks).await;
    let undone = undo(&running, &gateway, &sandbox).await?;
    undone.check().map_err(|failure| failure.with_result(by_then.clone()))?;
    let followed = followed.map_err(|failure| failure.with_result(by_then))?;
    let described = create.description.is_some() || !create.labels.is_empty();
    after_create::build_result(followed, &pre_create, json!({ "metadata": described }))
}

fn details(create: &SandboxCreation) -> Value {
    let NewSandbox { image, gpu, providers, log_level, .. } = &create.new;
    json!({ "image": image, "gpu": gpu, "providers": providers, "log_level": log_level })
}

/// Runs the pre-create hooks. Returns their outcomes, or `skipped`.
async fn run_pre_create(
    running: &RunningOperation,
    gateway: &Gateway,
    create: &SandboxCreation,
) -> Result<Value, Failure> {
    if create.skip_hooks {
        return Ok(json!("skipped"));
    }
    let new = &create.new;
    let place = SandboxName { workspace: new.workspace.clone(), name: new.name.clone() };
    reject_taken_name(running, gateway, &place, &CreationMark::Operation).await?;
    after_create::report_progress(running, 10, "running the hooks before the creation").await?;
    run_pre_create_hooks(running, gateway, &place, new)
        .await
        .map(|ran| after_create::outcomes_to_json(&ran))
}

/// Rejects a name that is taken if hooks would run before the creation: they would run for a sandbox that cannot be
/// created. A client that repeats its request finds the sandbox of that request, which is not a conflict.
///
/// # Errors
/// `ALREADY_EXISTS`, or the error of the gateway.
pub(super) async fn reject_taken_name(
    running: &RunningOperation,
    gateway: &Gateway,
    place: &SandboxName,
    mark: &CreationMark,
) -> Result<(), Error> {
    let ctx = running.ctx();
    // The gateway chooses the name if it is empty.
    if place.name.is_empty()
        || !hooks::has_pre_create(ctx, &after_create::sandbox_ref(ctx, place)?).await?
    {
        return Ok(());
    }
    match gateway.get_sandbox(place).await {
        Ok(found) if mark.is_on(&found, running) => Ok(()),
        Ok(_) => Err(Error::already_exists(ResourceKind::Sandbox, &place.name)),
        Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Runs the pre-create hooks, for own and proxied creations. Fails if a hook fails whose failure must stop the
/// creation.
pub(super) async fn run_pre_create_hooks(
    running: &RunningOperation,
    gateway: &Gateway,
    place: &SandboxName,
    new: &NewSandbox,
) -> Result<HookResults, Failure> {
    if place.name.is_empty() {
        // Hooks are attached to a sandbox name, and the gateway has not chosen one yet.
        return Ok(HookResults { outcomes: Vec::new(), aborted: false });
    }
    let ctx = running.ctx();
    let on = after_create::sandbox_ref(ctx, place)?;
    if !hooks::has_pre_create(ctx, &on).await? {
        return Ok(HookResults { outcomes: Vec::new(), aborted: false });
    }
    let spec = SandboxSpec {
        image: hook_image(running, gateway, place, new).await?,
        policy_id: String::new(),
        providers: new.providers.clone(),
        gpu: new.gpu,
    };
    let ran = hooks::pre_create(ctx, &on, &spec, running.cancel(), Some(running)).await?;
    check_not_stopped(running)?;
    match ran.outcomes.last().filter(|_| ran.aborted) {
        None => Ok(ran),
        Some(last) => {
            let why = format!("the hook `{}` before the creation: {}", last.name, last.summary);
            let by_then =
                json!({ "hooks": { "pre_create": after_create::outcomes_to_json(&ran) } });
            Err(Failure::new(FailureCode::Refused, why).with_result(by_then))
        }
    }
}

/// Returns the image that hooks get. If only the gateway's template names the image, it is read from there: to hooks,
/// an empty image means that the gateway chooses it. The creation fails if the template cannot be read.
async fn hook_image(
    running: &RunningOperation,
    gateway: &Gateway,
    place: &SandboxName,
    new: &NewSandbox,
) -> Result<String, Failure> {
    let template = &new.workload_template;
    if !new.image.is_empty() || template.is_empty() {
        return Ok(new.image.clone());
    }
    let read = with_retries(running, || gateway.get_template(&place.workspace, template)).await;
    read.map(|template| template.image).map_err(|mut failure| {
        let why = failure.message;
        failure.message = format!(
            "the image for the pre-create hooks could not be read from `gateway_template`: {why}"
        );
        failure
    })
}

fn check_not_stopped(running: &RunningOperation) -> Result<(), Failure> {
    if running.cancel().is_cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
}

async fn create_on_gateway(
    running: &RunningOperation,
    gateway: &Gateway,
    create: &SandboxCreation,
    from: &'static str,
) -> Result<Sandbox, Failure> {
    let mut why = None;
    if from == STARTED {
        // A replica that was frozen must not create a sandbox that its successor has already created.
        running.check_can_begin()?;
        let ctx = running.ctx();
        let passed = gate::pass(ctx, gateway, &gate_call(create)).await?;
        let new = with_first_policy(ctx, gateway, create, &passed)?;
        let creating = gateway.create_sandbox(&new, passed.until);
        let created = tokio::select! {
            created = creating => created,
            // A canceled operation still waits for the response, since a created sandbox must be deleted. Only a
            // shutdown or a lost lease ends the wait.
            () = wait_handed_over(running) => return Err(Failure::cancelled()),
        };
        gate::finish(ctx, passed).await;
        match created {
            Ok(sandbox) => return Ok(sandbox),
            Err(error) if is_final(&error) || !gateway.may_have_processed() => {
                return Err(error.into());
            }
            Err(error) => why = Some(error),
        }
    }
    let new = &create.new;
    let place = SandboxName { workspace: new.workspace.clone(), name: new.name.clone() };
    let why = why.map(CreateFailure::from);
    find_outcome(
        running,
        &LostCreation { gateway, place: &place, mark: &CreationMark::Operation, why },
    )
    .await
}
