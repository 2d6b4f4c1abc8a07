//! Making a sandbox: an operation whose work is done in steps, each of which is kept before it is taken, so that another
//! replica can go on with it.
//!
//! Invariants
//! - the gateway is asked once, without a request id of ours. Where its answer was lost it is asked what became of the
//!   sandbox, which is known by an annotation with the operation's id (WP23);
//! - what was cancelled is undone: a sandbox that was made all the same is deleted again (WP65);
//! - the result tells how every part went (WP06).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::domain::{reach, reach_to_act};
use super::lost::{Lost, Mark, given_up, patiently, what_became};
use super::made::{self, Hooks};
use super::undo::undo;
use super::{former, input, proxied};
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::labels::Labels;
use crate::openshell::sandbox::{self, NewSandbox, Sandbox};
use crate::openshell::{Gateway, Generation, annotation};
use crate::resources::boot_hooks::run::{self as hooks, Ran, Spec};
use crate::resources::operations::patience::is_final;
use crate::resources::operations::{self, Code, Failure, New, Operation, OperationKind, Running};
use crate::role::Role;
use crate::templates::{self, Templates};

/// Before anything was sent.
const BEGUN: &str = "begun";
/// The request is about to be sent, or was: the gateway knows.
pub(super) const CREATING: &str = "creating";
/// The gateway has made it, under this name.
pub(super) const CREATED: &str = "created";
/// It is noted here, and told of.
pub(super) const NOTED: &str = "noted";

/// How long a creation that was cancelled may take to learn what the gateway has made of it, and to delete that.
pub(super) const UNDO_TIME: Duration = Duration::from_mins(10);

/// A sandbox to be made; valid.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Create {
    /// As the gateway is to get it.
    pub new: NewSandbox,
    /// Its description here.
    pub description: Option<String>,
    /// Its labels here.
    pub labels: BTreeMap<String, String>,
    /// Whether its hooks don't run.
    pub skip_hooks: bool,
    /// Presets that a template names. They come with policies; until then the result says that they were not applied.
    pub presets: Vec<String>,
}

/// A creation as a caller asks for it.
#[derive(Debug)]
pub struct Asked {
    /// What was said.
    pub create: Create,
    /// A template of ours that says the rest.
    pub template: String,
    /// Its policy, as text; empty is none.
    pub policy: String,
    /// Only to be checked.
    pub validate_only: bool,
}

/// Checks everything that can be checked before, and begins. None where only the check was asked for.
pub async fn create(ctx: &Ctx, asked: Asked) -> Result<Option<Operation>, Error> {
    let Asked { mut create, template, policy, validate_only } = asked;
    if create.skip_hooks && ctx.role() < Role::Admin {
        let why = "skipping hooks takes the role `admin` on the gateway".to_owned();
        return Err(Error::Denied { why });
    }
    if !template.is_empty() {
        begin_with(ctx, &mut create, &template)?;
    }
    let gateway = reach_to_act(ctx).await?;
    gateway.permits(sandbox::CREATE)?;
    if gateway.generation() == Generation::V0_0 && !create.new.workload_template.is_empty() {
        let why = "is for gateways of generation 0.1, which have templates of their own";
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

/// What a template says, where the caller has said nothing.
fn begin_with(ctx: &Ctx, create: &mut Create, name: &str) -> Result<(), Error> {
    let template = templates::find(&ctx.app().part::<Templates>().0, name)
        .ok_or_else(|| Error::invalid("template", format!("`{name}` is none of this server's")))?;
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
    // Both together are bounded as what a caller gives alone is.
    input::providers(&new.providers)?;
    new.environment = input::environment(std::mem::take(&mut new.environment))?;
    Ok(())
}

/// Goes on with a creation whose replica is gone.
#[must_use]
pub fn resume(
    running: Running,
    step: String,
    input: Vec<u8>,
) -> BoxFuture<'static, Result<Value, Failure>> {
    Box::pin(async move {
        if input.is_empty() {
            // What a stock client has sent went with the connection that it was sent on.
            return Err(Failure::new(Code::Orphaned, "the server that passed it on is gone"));
        }
        if let Ok(left) = serde_json::from_slice::<proxied::Left>(&input) {
            return proxied::resume(running, &step, left).await;
        }
        let create: Create = serde_json::from_slice(&input).map_err(Error::internal)?;
        // A step of another build is one that nothing is known of.
        let (word, done) = step.split_once(' ').unwrap_or((&step, ""));
        let known = [BEGUN, CREATING, CREATED, NOTED].into_iter().find(|known| *known == word);
        let from = if step.is_empty() { BEGUN } else { known.unwrap_or(CREATING) };
        run(running, create, from, done).await
    })
}

/// Goes on from a step; `done` are the hooks after the creation that have ended before.
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
        // Nothing was made: whoever asked can ask again.
        BEGUN => reach(running.ctx()).await?,
        _ => patiently(&running, || reach(running.ctx())).await?,
    };
    let mut pre_create = json!("of a replica that is gone");
    if from == BEGUN {
        let place =
            SandboxName { workspace: create.new.workspace.clone(), name: create.new.name.clone() };
        if !place.name.is_empty() {
            former::forget_before(running.ctx(), &gateway, &place).await?;
        }
        pre_create = pre(&running, &gateway, &create).await?;
        go_on(&running)?;
        running.step(CREATING).await?;
    }
    made::tell(&running, 30, "making the sandbox").await?;
    let by_then = json!({ "hooks": { "pre_create": pre_create } });
    let made = make(&running, &gateway, &create, from).await;
    let sandbox = made.map_err(|failure| failure.with(by_then.clone()))?;
    // A moment without the database must not lose what was made.
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
        patiently(&running, || made::store(ctx, sandbox, description, &labels, &details)).await?;
        patiently(&running, || running.step(NOTED)).await?;
    }
    let hooks = if create.skip_hooks { Hooks::Skipped } else { Hooks::Run(done) };
    let followed = made::follow(&running, &gateway, sandbox.clone(), hooks).await;
    if undo(&running, &gateway, &sandbox).await? {
        return Err(Failure::cancelled().with(by_then));
    }
    let followed = followed.map_err(|failure| failure.with(by_then))?;
    let described = create.description.is_some() || !create.labels.is_empty();
    let mut besides = json!({ "metadata": described });
    if !create.presets.is_empty() {
        besides["presets_not_applied"] = json!(create.presets);
    }
    made::result(followed, &pre_create, besides)
}

fn details(create: &Create) -> Value {
    let NewSandbox { image, gpu, providers, log_level, .. } = &create.new;
    json!({ "image": image, "gpu": gpu, "providers": providers, "log_level": log_level })
}

/// Runs the hooks before the creation; what they said, or why there is none.
async fn pre(running: &Running, gateway: &Gateway, create: &Create) -> Result<Value, Failure> {
    if create.skip_hooks {
        return Ok(json!("skipped"));
    }
    made::tell(running, 10, "running the hooks before the creation").await?;
    let new = &create.new;
    let place = SandboxName { workspace: new.workspace.clone(), name: new.name.clone() };
    before(running, gateway, &place, new).await.map(|ran| made::outcomes(&ran))
}

/// Runs the hooks before a creation, here or through the proxy. One that fails and is not to be passed over ends it.
pub(super) async fn before(
    running: &Running,
    gateway: &Gateway,
    place: &SandboxName,
    new: &NewSandbox,
) -> Result<Ran, Failure> {
    if place.name.is_empty() {
        // Hooks are written for a name, and this one has none yet.
        return Ok(Ran { outcomes: Vec::new(), aborted: false });
    }
    let ctx = running.ctx();
    let on = made::hook_place(ctx, place)?;
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
            let by_then = json!({ "hooks": { "pre_create": made::outcomes(&ran) } });
            Err(Failure::new(Code::Refused, why).with(by_then))
        }
    }
}

/// The image as hooks are told it: where the gateway's own template says it, they must not take it for the gateway's
/// choice, and where that can't be read none is made.
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
        failure.message = format!("the hooks before it are to know its image: {why}");
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
        // A replica that was frozen must not make what its successor has made.
        running.may_begin()?;
        let creating = gateway.create_sandbox(&create.new);
        let created = tokio::select! {
            created = creating => created,
            // Whoever cancels waits for the answer, since what was made is to be deleted.
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
