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

use super::after_create::{self, Hooks};
use super::domain::{reach, reach_to_act};
use super::lost_response::{Lost, Mark, given_up, patiently, what_became};
use super::undo::undo;
use super::{input, leftovers, stock_client};
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::labels::Labels;
use crate::openshell::sandbox::{self, NewSandbox, Sandbox};
use crate::openshell::{Gateway, Generation, annotation};
use crate::resources::boot_hooks::run::{self as hooks, Ran, Spec};
use crate::resources::operations::retry::is_final;
use crate::resources::operations::{self, Code, Failure, New, Operation, OperationKind, Running};
use crate::role::Role;
use crate::templates::{self, Templates};

/// Step before anything was sent.
const BEGUN: &str = "begun";
/// Step in which the request is about to be sent or was sent. Only the gateway knows whether the sandbox exists.
pub(super) const CREATING: &str = "creating";
/// Step after the gateway has created the sandbox; its name is stored.
pub(super) const CREATED: &str = "created";
/// Step after the sandbox was recorded here and its event was emitted.
pub(super) const NOTED: &str = "noted";

/// How long a canceled creation may take to find out whether the gateway created the sandbox, and to delete it.
pub(super) const UNDO_TIME: Duration = Duration::from_mins(10);

/// A validated sandbox to create.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Create {
    /// Sandbox as sent to the gateway.
    pub new: NewSandbox,
    /// Description, stored by Shoreguard.
    pub description: Option<String>,
    /// Labels, stored by Shoreguard.
    pub labels: BTreeMap<String, String>,
    /// Whether hooks are skipped.
    pub skip_hooks: bool,
    /// Presets that the template names. They are not applied yet, and the result lists them as not applied.
    pub presets: Vec<String>,
}

/// A create request.
#[derive(Debug)]
pub struct Asked {
    /// Values from the request.
    pub create: Create,
    /// Template of this server that fills in the values that the request leaves out.
    pub template: String,
    /// Policy as text. Empty for no policy.
    pub policy: String,
    /// Whether to validate only.
    pub validate_only: bool,
}

/// Checks everything that can be checked in advance, and starts the operation. Returns `None` if only validation was
/// requested.
pub async fn create(ctx: &Ctx, asked: Asked) -> Result<Option<Operation>, Error> {
    let Asked { mut create, template, policy, validate_only } = asked;
    if create.skip_hooks && ctx.role() < Role::Admin {
        let why = "`skip_hooks` requires role `admin` on the gateway".to_owned();
        return Err(Error::Denied { why });
    }
    if !template.is_empty() {
        begin_with(ctx, &mut create, &template)?;
    }
    let gateway = reach_to_act(ctx).await?;
    gateway.permits(sandbox::CREATE)?;
    if gateway.generation() == Generation::V0_0 && !create.new.workload_template.is_empty() {
        let why = "must be empty: a gateway of generation 0.0 has no templates";
        return Err(Error::invalid("gateway_template", why));
    }
    if !policy.is_empty() {
        let policy = crate::openshell::policy_file::encode(gateway.generation(), &policy)?;
        create.new.policy = Some(policy);
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
        ctx.detail(key, value);
    }
    if validate_only {
        ctx.detail("validate_only", true);
        return Ok(None);
    }
    let input = serde_json::to_vec(&create).map_err(Error::internal)?;
    let (workspace, name) = (new.workspace.clone(), new.name.clone());
    let begun = New {
        kind: OperationKind::Sandbox,
        workspace: &workspace,
        sandbox: &name,
        exclusive: true,
        keeps_output: false,
        input: Some(input),
    };
    let started = operations::start(ctx, begun, |running| run(running, create, BEGUN, ""));
    Ok(Some(started.await?))
}

/// Fills in the template's values where the request has none.
fn begin_with(ctx: &Ctx, create: &mut Create, name: &str) -> Result<(), Error> {
    let template = templates::find(&ctx.app().part::<Templates>().0, name).ok_or_else(|| {
        Error::invalid("template", format!("`{name}` is not a template of this server"))
    })?;
    ctx.detail("template", name);
    let new = &mut create.new;
    if new.image.is_empty() {
        new.image.clone_from(&template.image);
    }
    new.gpu |= template.gpu;
    for provider in &template.providers {
        if !new.providers.contains(provider) {
            new.providers.push(provider.clone());
        }
    }
    for (key, value) in &template.environment {
        new.environment.entry(key.clone()).or_insert_with(|| value.clone());
    }
    create.presets.clone_from(&template.presets);
    // The merged values must satisfy the same limits as the values of a request.
    input::providers(&new.providers)?;
    new.environment = input::environment(std::mem::take(&mut new.environment))?;
    Ok(())
}

/// Resumes a creation after a takeover.
#[must_use]
pub fn resume(
    running: Running,
    step: String,
    input: Vec<u8>,
) -> BoxFuture<'static, Result<Value, Failure>> {
    Box::pin(async move {
        if input.is_empty() {
            // A proxied creation that was not sent yet: its request was lost with the client's connection.
            return Err(Failure::new(Code::Orphaned, "the replica that forwarded it stopped"));
        }
        if let Ok(left) = serde_json::from_slice::<stock_client::Left>(&input) {
            return stock_client::resume(running, &step, left).await;
        }
        let create: Create = serde_json::from_slice(&input).map_err(Error::internal)?;
        // The step may come from another build. An unknown step is treated as `creating`, since the gateway may have
        // created the sandbox.
        let (word, done) = step.split_once(' ').unwrap_or((&step, ""));
        let known = [BEGUN, CREATING, CREATED, NOTED].into_iter().find(|known| *known == word);
        let from = if step.is_empty() { BEGUN } else { known.unwrap_or(CREATING) };
        run(running, create, from, done).await
    })
}

/// Continues from a step. `done` lists the post-create hooks that have already ended.
async fn run(
    running: Running,
    mut create: Create,
    from: &'static str,
    done: &str,
) -> Result<Value, Failure> {
    running.may_undo_for(UNDO_TIME);
    let annotations = &mut create.new.annotations;
    annotations.insert(annotation::OPERATION.to_owned(), running.id().to_owned());
    annotations.insert(annotation::ACTOR.to_owned(), running.ctx().actor().to_string());
    let gateway = match from {
        // Nothing was created yet: the operation fails at once, and the caller can retry.
        BEGUN => reach(running.ctx()).await?,
        _ => patiently(&running, || reach(running.ctx())).await?,
    };
    let mut pre_create = json!("of a stopped replica");
    if from == BEGUN {
        let place =
            SandboxName { workspace: create.new.workspace.clone(), name: create.new.name.clone() };
        if !place.name.is_empty() {
            leftovers::forget_before(running.ctx(), &gateway, &place).await?;
        }
        pre_create = pre(&running, &gateway, &create).await?;
        go_on(&running)?;
        running.step(CREATING).await?;
    }
    after_create::tell(&running, 30, "making the sandbox").await?;
    let by_then = json!({ "hooks": { "pre_create": pre_create } });
    let made = make(&running, &gateway, &create, from).await;
    let sandbox = made.map_err(|failure| failure.with(by_then.clone()))?;
    // A short database outage must not lose a sandbox that was created.
    patiently(&running, || running.named(&sandbox.place.name)).await?;
    if from != NOTED {
        patiently(&running, || running.step(CREATED)).await?;
    }
    if undo(&running, &gateway, &sandbox).await? {
        return Err(Failure::cancelled().with(by_then));
    }
    if from != NOTED {
        let labels = Labels::from_json(serde_json::to_string(&create.labels).ok().as_deref());
        let description = create.description.as_deref();
        let details = details(&create);
        let (ctx, sandbox) = (running.ctx(), &sandbox);
        patiently(&running, || after_create::store(ctx, sandbox, description, &labels, &details))
            .await?;
        patiently(&running, || running.step(NOTED)).await?;
    }
    let hooks = if create.skip_hooks { Hooks::Skipped } else { Hooks::Run(done) };
    let followed = after_create::follow(&running, &gateway, sandbox.clone(), hooks).await;
    if undo(&running, &gateway, &sandbox).await? {
        return Err(Failure::cancelled().with(by_then));
    }
    let followed = followed.map_err(|failure| failure.with(by_then))?;
    let described = create.description.is_some() || !create.labels.is_empty();
    let mut besides = json!({ "metadata": described });
    if !create.presets.is_empty() {
        besides["presets_not_applied"] = json!(create.presets);
    }
    after_create::result(followed, &pre_create, besides)
}

fn details(create: &Create) -> Value {
    let NewSandbox { image, gpu, providers, log_level, .. } = &create.new;
    json!({ "image": image, "gpu": gpu, "providers": providers, "log_level": log_level })
}

/// Runs the pre-create hooks. Returns their outcomes, or `skipped`.
async fn pre(running: &Running, gateway: &Gateway, create: &Create) -> Result<Value, Failure> {
    if create.skip_hooks {
        return Ok(json!("skipped"));
    }
    after_create::tell(running, 10, "running the hooks before the creation").await?;
    let new = &create.new;
    let place = SandboxName { workspace: new.workspace.clone(), name: new.name.clone() };
    before(running, gateway, &place, new).await.map(|ran| after_create::outcomes(&ran))
}

/// Runs the pre-create hooks, for own and proxied creations. Fails if a hook fails whose failure must stop the
/// creation.
pub(super) async fn before(
    running: &Running,
    gateway: &Gateway,
    place: &SandboxName,
    new: &NewSandbox,
) -> Result<Ran, Failure> {
    if place.name.is_empty() {
        // Hooks are attached to a sandbox name, and the gateway has not chosen one yet.
        return Ok(Ran { outcomes: Vec::new(), aborted: false });
    }
    let ctx = running.ctx();
    let on = after_create::hook_place(ctx, place)?;
    if !hooks::has_pre_create(ctx, &on).await? {
        return Ok(Ran { outcomes: Vec::new(), aborted: false });
    }
    let spec = Spec {
        image: image(running, gateway, place, new).await?,
        policy_id: String::new(),
        providers: new.providers.clone(),
        gpu: new.gpu,
    };
    let ran = hooks::pre_create(ctx, &on, &spec, running.cancel(), Some(running)).await?;
    go_on(running)?;
    match ran.outcomes.last().filter(|_| ran.aborted) {
        None => Ok(ran),
        Some(last) => {
            let why = format!("the hook `{}` before the creation: {}", last.name, last.summary);
            let by_then = json!({ "hooks": { "pre_create": after_create::outcomes(&ran) } });
            Err(Failure::new(Code::Refused, why).with(by_then))
        }
    }
}

/// Returns the image that hooks get. If only the gateway's template names the image, it is read from there: to hooks,
/// an empty image means that the gateway chooses it. The creation fails if the template cannot be read.
async fn image(
    running: &Running,
    gateway: &Gateway,
    place: &SandboxName,
    new: &NewSandbox,
) -> Result<String, Failure> {
    let template = &new.workload_template;
    if !new.image.is_empty() || template.is_empty() {
        return Ok(new.image.clone());
    }
    let read = patiently(running, || gateway.get_template(&place.workspace, template)).await;
    read.map(|template| template.image).map_err(|mut failure| {
        let why = failure.message;
        failure.message = format!(
            "the image for the pre-create hooks could not be read from `gateway_template`: {why}"
        );
        failure
    })
}

fn go_on(running: &Running) -> Result<(), Failure> {
    if running.cancel().is_cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
}

async fn make(
    running: &Running,
    gateway: &Gateway,
    create: &Create,
    from: &'static str,
) -> Result<Sandbox, Failure> {
    let mut why = None;
    if from == BEGUN {
        // A replica that was frozen must not create a sandbox that its successor has already created.
        running.may_begin()?;
        let creating = gateway.create_sandbox(&create.new);
        let created = tokio::select! {
            created = creating => created,
            // A canceled operation still waits for the response, since a created sandbox must be deleted. Only a
            // shutdown or a lost lease ends the wait.
            () = given_up(running) => return Err(Failure::cancelled()),
        };
        match created {
            Ok(sandbox) => return Ok(sandbox),
            Err(error) if is_final(&error) || !gateway.may_have_seen() => {
                return Err(error.into());
            }
            Err(error) => why = Some(error.into()),
        }
    }
    let new = &create.new;
    let place = SandboxName { workspace: new.workspace.clone(), name: new.name.clone() };
    what_became(running, &Lost { gateway, place: &place, mark: &Mark::Operation, why }).await
}
