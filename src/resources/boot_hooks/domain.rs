//! Boot hooks: creation, lookup, updates, reordering, deletion and manual runs.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::input::{Environment, HookPhase};
use super::run::{self, GatewaySandbox, HookOutcome};
use super::sealed::{self, destination};
use super::store::{self, Hook};
use crate::app::App;
use crate::ctx::{Ctx, ListKey, Tx};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::{BootHookId, Json, SandboxRef};
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::outbox::{EventType, event_types};
use crate::role::Role;
use crate::seal::join_parts;

/// Maximum number of hooks of one sandbox, both phases together.
pub const HOOKS_MAX: i64 = 32;
/// Maximum number of hooks of all sandboxes of one gateway; the sandboxes need not exist.
pub const HOOKS_OF_GATEWAY_MAX: i64 = 20_000;

/// A validated hook to create.
#[derive(Debug, Clone)]
pub struct NewHook {
    /// Name, unique in the sandbox and phase.
    pub name: String,
    /// When and where it runs.
    pub phase: HookPhase,
    /// Command.
    pub command: String,
    /// Working directory inside the sandbox.
    pub workdir: String,
    /// Variables.
    pub environment: Environment,
    /// Timeout, in seconds.
    pub timeout_seconds: i64,
    /// Whether it runs when a sandbox is created.
    pub enabled: bool,
    /// Whether the creation continues after it has failed.
    pub continue_on_failure: bool,
}

/// A partial update of a hook. `None` leaves the field unchanged.
#[derive(Debug, Clone, Default)]
pub struct HookUpdate {
    /// New command.
    pub command: Option<String>,
    /// New working directory.
    pub workdir: Option<String>,
    /// New variables; they replace all stored ones.
    pub environment: Option<Environment>,
    /// New timeout, in seconds.
    pub timeout_seconds: Option<i64>,
    /// Whether it runs when a sandbox is created.
    pub enabled: Option<bool>,
    /// Whether the creation continues after it has failed.
    pub continue_on_failure: Option<bool>,
}

/// Requires a global admin for hooks that run on Shoreguard's host: the admin of one gateway has no rights on this
/// host.
fn check_may_write(ctx: &Ctx, phase: HookPhase) -> Result<(), Error> {
    if phase == HookPhase::PostCreate || ctx.is_global_admin() {
        return Ok(());
    }
    let why = "hooks before the creation run on the server's host: only a global admin writes them";
    Err(Error::Denied { why: why.to_owned() })
}

/// Returns an error if hooks of the phase are disabled.
fn check_enabled(ctx: &Ctx, phase: HookPhase) -> Result<(), Error> {
    match phase {
        HookPhase::PreCreate => run::folder(ctx.app()).map(|_| ()),
        HookPhase::PostCreate => Ok(()),
    }
}

/// Validates the combination of phase, working directory and variables.
fn check_phase(phase: HookPhase, workdir: &str, environment: &Environment) -> Result<(), Error> {
    if phase == HookPhase::PreCreate && !workdir.is_empty() {
        return Err(Error::invalid("workdir", "must be empty for a pre-create hook"));
    }
    environment.check_phase("environment", phase)
}

fn add_to_audit(ctx: &Ctx, place: &SandboxRef, hook: &Hook) {
    ctx.add_audit_detail("workspace", place.workspace());
    ctx.add_audit_detail("boot_hook_id", hook.id.get());
    ctx.add_audit_detail("name", hook.name.as_str());
    ctx.add_audit_detail("phase", hook.phase.as_str());
}

async fn emit_event(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    event_type: EventType,
    mut payload: Value,
) -> Result<(), Error> {
    payload["sandbox"] = place.sandbox().into();
    payload["workspace"] = place.workspace().into();
    tx.emit(ctx.new_event(event_type, payload).with_gateway(place.gateway.clone())).await
}

fn event_payload(hook: &Hook) -> Value {
    json!({ "boot_hook_id": hook.id.get(), "name": hook.name, "phase": hook.phase.as_str() })
}

/// Creates a hook as the last one of its phase.
pub async fn create(ctx: &Ctx, place: &SandboxRef, new: NewHook) -> Result<Hook, Error> {
    ctx.add_audit_detail("workspace", place.workspace());
    ctx.add_audit_detail("name", new.name.as_str());
    ctx.add_audit_detail("phase", new.phase.as_str());
    check_may_write(ctx, new.phase)?;
    check_enabled(ctx, new.phase)?;
    check_phase(new.phase, &new.workdir, &new.environment)?;
    let now = ctx.now();
    let mut hook = Hook {
        id: BootHookId(0),
        gateway_name: place.gateway.name.to_string(),
        workspace: place.workspace().to_owned(),
        sandbox_name: place.sandbox().to_owned(),
        name: new.name,
        phase: new.phase,
        command: new.command,
        workdir: new.workdir,
        env_json: None,
        env_names: Json(Vec::new()),
        timeout_seconds: new.timeout_seconds,
        order: 0,
        enabled: new.enabled,
        continue_on_failure: new.continue_on_failure,
        created_by: ctx.stored_actor(),
        created_at: now,
        updated_at: now,
        last_run_at: None,
        last_status: None,
        last_output: None,
        version: 1,
    };
    sealed::seal(ctx.app(), &mut hook, &new.environment)?;
    let created = ctx
        .transaction(async |tx| {
            store::lock(tx).await?;
            hook.order = store::next_order(tx, place, hook.phase).await?;
            let created = store::insert(tx, &hook).await?;
            if store::count(tx, place).await? > HOOKS_MAX {
                let why = format!("a sandbox may have at most {HOOKS_MAX} hooks");
                return Err(Error::refused(Reason::LimitReached, why));
            }
            if store::count_on_gateway(tx, &place.gateway.name).await? > HOOKS_OF_GATEWAY_MAX {
                let why = format!("a gateway may have at most {HOOKS_OF_GATEWAY_MAX} hooks");
                return Err(Error::refused(Reason::LimitReached, why));
            }
            emit_event(ctx, tx, place, event_types::BOOT_HOOK_CREATED, event_payload(&created))
                .await?;
            Ok(created)
        })
        .await?;
    ctx.add_audit_detail("boot_hook_id", created.id.get());
    Ok(created)
}

async fn find(conn: &mut Conn, place: &SandboxRef, id: BootHookId) -> Result<Hook, Error> {
    store::by_id(conn, place, id).await?.ok_or_else(|| Error::not_found(ResourceKind::BootHook, id))
}

/// Returns a hook of a sandbox.
pub async fn get(ctx: &Ctx, place: &SandboxRef, id: BootHookId) -> Result<Hook, Error> {
    Ok(hide_output(ctx, find(&mut ctx.db().read().await?, place, id).await?))
}

/// Removes the last output unless the caller is an admin. The caller of a manual run gets the output in its response.
fn hide_output(ctx: &Ctx, hook: Hook) -> Hook {
    let last_output = hook.last_output.filter(|_| ctx.role() >= Role::Admin);
    Hook { last_output, ..hook }
}

/// Returns a page of the hooks of a sandbox in the order in which they run.
pub async fn list(
    ctx: &Ctx,
    place: &SandboxRef,
    phase: Option<HookPhase>,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Hook>, String), Error> {
    let filter = join_parts(&[
        place.gateway.name.as_bytes(),
        place.workspace().as_bytes(),
        place.sandbox().as_bytes(),
        phase.map_or("", HookPhase::as_str).as_bytes(),
    ]);
    let list = ListKey { method: "ListBootHooks", filter: &filter, order: "phase,order,id" };
    let page = ctx.page_request::<(String, i64, i64)>(list, size, token)?;
    let after = page.after();
    let after =
        after.and_then(|(phase, order, id)| Some((HookPhase::from_word(phase)?, *order, *id)));
    let mut conn = ctx.db().read().await?;
    let rows = store::page(&mut conn, place, phase, after, page.limit()).await?;
    let position = |last: &Hook| (last.phase.as_str().to_owned(), last.order, last.id.get());
    let (hooks, next) = page.finish(rows, position)?;
    Ok((hooks.into_iter().map(|hook| hide_output(ctx, hook)).collect(), next))
}

/// Applies a change. Stored variables are never passed to a different command.
fn apply(app: &App, hook: &mut Hook, change: HookUpdate) -> Result<(), Error> {
    let before = destination(hook);
    hook.command = change.command.unwrap_or_else(|| std::mem::take(&mut hook.command));
    hook.workdir = change.workdir.unwrap_or_else(|| std::mem::take(&mut hook.workdir));
    hook.timeout_seconds = change.timeout_seconds.unwrap_or(hook.timeout_seconds);
    hook.enabled = change.enabled.unwrap_or(hook.enabled);
    hook.continue_on_failure = change.continue_on_failure.unwrap_or(hook.continue_on_failure);
    match change.environment {
        Some(environment) => {
            check_phase(hook.phase, &hook.workdir, &environment)?;
            sealed::seal(app, hook, &environment)
        }
        None if hook.env_json.is_some() && destination(hook) != before => {
            let why = "must be set again with `command` or `workdir`: its values are bound to them";
            Err(Error::invalid("environment", why))
        }
        None => check_phase(hook.phase, &hook.workdir, &Environment::default()),
    }
}

/// Updates a hook.
pub async fn update(
    ctx: &Ctx,
    place: &SandboxRef,
    id: BootHookId,
    change: HookUpdate,
    given_etag: &str,
) -> Result<Hook, Error> {
    let (app, now) = (ctx.app(), ctx.now());
    let updated = ctx
        .transaction(async |tx| {
            let mut hook = find(tx, place, id).await?;
            add_to_audit(ctx, place, &hook);
            check_may_write(ctx, hook.phase)?;
            check_enabled(ctx, hook.phase)?;
            etag::check(given_etag, hook.version, ResourceKind::BootHook, id)?;
            apply(app, &mut hook, change)?;
            hook.updated_at = now;
            hook.version += 1;
            if !store::update(tx, place, &hook).await? {
                return Err(Error::conflict(ResourceKind::BootHook, id));
            }
            emit_event(ctx, tx, place, event_types::BOOT_HOOK_UPDATED, event_payload(&hook))
                .await?;
            Ok(hook)
        })
        .await?;
    Ok(updated)
}

/// Deletes a hook, even if hooks of its phase are disabled.
pub async fn delete(
    ctx: &Ctx,
    place: &SandboxRef,
    id: BootHookId,
    given_etag: &str,
) -> Result<(), Error> {
    ctx.transaction(async |tx| {
        let hook = find(tx, place, id).await?;
        add_to_audit(ctx, place, &hook);
        check_may_write(ctx, hook.phase)?;
        etag::check(given_etag, hook.version, ResourceKind::BootHook, id)?;
        if !store::delete(tx, place, id, hook.version).await? {
            return Err(Error::conflict(ResourceKind::BootHook, id));
        }
        emit_event(ctx, tx, place, event_types::BOOT_HOOK_DELETED, event_payload(&hook)).await
    })
    .await?;
    Ok(())
}

/// Reorders all hooks of a phase.
pub async fn reorder(
    ctx: &Ctx,
    place: &SandboxRef,
    phase: HookPhase,
    ids: &[BootHookId],
) -> Result<Vec<Hook>, Error> {
    ctx.add_audit_detail("workspace", place.workspace());
    ctx.add_audit_detail("phase", phase.as_str());
    ctx.add_audit_detail("count", ids.len());
    check_may_write(ctx, phase)?;
    let now = ctx.now();
    let ordered = ctx
        .transaction(async |tx| {
            store::lock(tx).await?;
            let mut hooks = store::page(tx, place, Some(phase), None, HOOKS_MAX).await?;
            let given: HashSet<BootHookId> = ids.iter().copied().collect();
            let stored: HashSet<BootHookId> = hooks.iter().map(|hook| hook.id).collect();
            if given != stored || ids.len() != hooks.len() {
                let why =
                    format!("must be the ids of the phase's {} hooks, each once", hooks.len());
                return Err(Error::invalid("boot_hook_ids", why));
            }
            hooks.sort_by_key(|hook| ids.iter().position(|id| *id == hook.id));
            for (order, hook) in (0..).zip(&mut hooks).filter(|(order, hook)| hook.order != *order)
            {
                (hook.order, hook.updated_at, hook.version) = (order, now, hook.version + 1);
                if !store::update(tx, place, hook).await? {
                    return Err(Error::conflict(ResourceKind::BootHook, hook.id));
                }
            }
            let payload = json!({ "phase": phase.as_str(), "count": hooks.len() });
            emit_event(ctx, tx, place, event_types::BOOT_HOOK_REORDERED, payload).await?;
            Ok(hooks)
        })
        .await?;
    Ok(ordered)
}

/// Runs a hook now, even if it is disabled. A failure of the hook is a result, not an error.
pub async fn run_now(ctx: &Ctx, place: &SandboxRef, id: BootHookId) -> Result<HookOutcome, Error> {
    let hook = get(ctx, place, id).await?;
    add_to_audit(ctx, place, &hook);
    check_enabled(ctx, hook.phase)?;
    let stop = ctx.app().stop.child_token();
    let _live = ctx.register_work(Role::Operator, &stop);
    let outcome = match hook.phase {
        HookPhase::PreCreate => run::run_on_host(ctx, place, &hook, &stop).await?,
        HookPhase::PostCreate => {
            let inside = GatewaySandbox::new(ctx.app(), place);
            run::run_in_sandbox(ctx, place, &hook, &inside, &stop).await?
        }
    };
    ctx.add_audit_detail("status", outcome.status.as_str());
    Ok(outcome)
}

/// Returns the number of hooks that are deleted with a gateway.
pub async fn count_on_gateway(conn: &mut Conn, gateway: &str) -> Result<i64, Error> {
    store::count_on_gateway(conn, gateway).await
}
