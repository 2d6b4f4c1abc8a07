//! Sets, deletes, reads and lists approval workflows.

use futures_util::future;
use serde_json::{Value, json};

use super::approval_mode::{self, ApprovalMode};
pub use super::explain::{ExplainedWorkflow, Explanation, explain};
pub use super::input::{NamedRule, scope};
use super::input::{invalid_rule, with_names};
use super::review::{Change, review};
pub use super::rules::Warning;
use super::rules::{check_etag, check_reachable, display_name, find, needs_review, warnings};
pub use super::store::StoredWorkflow;
use super::store::{self, NewWorkflow};
use crate::access::snapshot::VisibleGateways;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, FleetCtx, ListKey, Tx};
use crate::db::page::PageSize;
use crate::db::types::{ApprovalWorkflowId, GatewayRef};
use crate::error::{Error, Reason, ResourceKind};
use crate::feed;
use crate::governance::{CallerFacts, People, Rule, RuleColumns, RuleScope};
use crate::outbox::{EventType, event_types};
use crate::resources::write_intents::domain::{self as write_intents, IntentScope, WriteInFlight};

/// Maximum number of workflows.
pub const WORKFLOWS_MAX: i64 = 1_000;
/// How often a call reads the access data again if it changes meanwhile.
const READS_MAX: usize = 3;
/// Maximum length of the stored name of a creator, in characters.
const CREATOR_CHARACTERS_MAX: usize = 254;

/// A workflow as it is shown.
#[derive(Debug, Clone)]
pub struct ShownWorkflow {
    /// The row.
    pub stored: StoredWorkflow,
    /// The rule with the names of its voters; `None` if this version cannot read it.
    pub rule: Option<NamedRule>,
}

/// A request to set a workflow.
#[derive(Debug)]
pub struct NewRule {
    /// What it applies to.
    pub scope: RuleScope,
    /// The rule.
    pub rule: NamedRule,
    /// Etag of the stored rule; empty: any.
    pub etag: String,
    /// Whether nothing is stored.
    pub validate_only: bool,
}

/// A workflow that was set.
#[derive(Debug)]
pub struct SetOutcome {
    /// The workflow.
    pub workflow: ShownWorkflow,
    /// Writes that began before and may still happen.
    pub in_flight: Vec<WriteInFlight>,
    /// What weakens it.
    pub warnings: Vec<Warning>,
}

/// What a transaction found and stored.
struct Stored {
    workflow: StoredWorkflow,
    in_flight: Vec<WriteInFlight>,
    warnings: Vec<Warning>,
}

fn intent_scope<'a>(gateway: &GatewayRef, scope: &'a RuleScope) -> IntentScope<'a> {
    IntentScope { gateway: gateway.id, workspace: scope.workspace(), sandbox: scope.sandbox() }
}

pub(super) fn shown(ctx: &Ctx, stored: StoredWorkflow) -> ShownWorkflow {
    let rule = Rule::from_columns(&stored.columns).ok();
    let rule = rule.map(|rule| with_names(&rule, &ctx.app().snapshot));
    ShownWorkflow { stored, rule }
}

/// Returns the data of an event about a workflow.
pub(super) fn event_payload(gateway: &str, id: ApprovalWorkflowId, scope: &RuleScope) -> Value {
    json!({
        "gateway": gateway,
        "workspace": scope.workspace(),
        "sandbox": scope.sandbox(),
        "approval_workflow_id": id.get(),
    })
}

async fn emit(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    event_type: EventType,
    of: &StoredWorkflow,
) -> Result<(), Error> {
    let mut payload = event_payload(&gateway.name, of.id, &of.scope);
    payload["actor"] = ctx.actor().to_string().into();
    payload["required_approvals"] = of.columns.required_approvals.into();
    tx.emit(ctx.new_event(event_type, payload).with_gateway(gateway.clone())).await
}

/// Sets the rule of a scope. It is stored before the gateway is called, and in force from then on.
pub async fn set(ctx: &Ctx, new: NewRule) -> Result<SetOutcome, Error> {
    let gateway = ctx.required_gateway()?.clone();
    note_scope(ctx, &new.scope);
    let stored = store_current(ctx, &gateway, &new).await?.made(ctx).await?;
    let Stored { workflow, in_flight, mut warnings } = stored;
    let waiting = write_intents::wait_for_end(ctx, intent_scope(&gateway, &new.scope), in_flight);
    let (in_flight, mode) = future::join(waiting, approval_mode::read(ctx, &new.scope)).await;
    match mode {
        ApprovalMode::Manual => {}
        ApprovalMode::Auto => warnings.insert(0, Warning::ApprovalModeAuto),
        ApprovalMode::Unknown => warnings.insert(0, Warning::ApprovalModeUnknown),
    }
    ctx.add_audit_detail("writes_in_flight", in_flight.len());
    ctx.add_audit_detail("approval_mode_is_auto", mode == ApprovalMode::Auto);
    Ok(SetOutcome { workflow: shown(ctx, workflow), in_flight, warnings })
}

fn note_scope(ctx: &Ctx, scope: &RuleScope) {
    ctx.add_audit_detail("workspace", scope.workspace());
}

/// Stores a rule with access data that is current in its transaction.
async fn store_current(
    ctx: &Ctx,
    gateway: &GatewayRef,
    new: &NewRule,
) -> Result<Change<Stored>, Error> {
    let app = ctx.app();
    for _ in 0..READS_MAX {
        let read_to = feed::read_position(app).await;
        let people = People::on_gateway(&app.snapshot, gateway.id);
        let rule = new.rule.resolve(&app.snapshot)?;
        let stored = ctx
            .transaction(async |tx| {
                write_intents::lock_exclusive(tx, gateway.id).await?;
                if !feed::is_current(tx, &read_to).await? {
                    return Ok(None);
                }
                store_rule(ctx, tx, gateway, new, &rule, &people).await.map(Some)
            })
            .await?;
        if let Some(stored) = stored {
            return Ok(stored);
        }
        feed::refresh(app).await?;
    }
    Err(Error::unavailable(Reason::AccessStale, "the access data changes too fast, call again"))
}

async fn store_rule(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    new: &NewRule,
    rule: &Rule,
    people: &People,
) -> Result<Change<Stored>, Error> {
    let workflows = store::of_gateway(tx, &gateway.name).await?;
    let before = workflows.iter().find(|workflow| workflow.scope == new.scope);
    let now = ctx.db().now(tx).await?;
    check_etag(&new.etag, before, &display_name(&gateway.name, &new.scope))?;
    let caller = caller_facts(ctx, people)?;
    let reviewed = match before {
        Some(before) if needs_review(&workflows, before, Some(rule), &caller, now)? => Some(before),
        Some(_) | None => None,
    };
    check_reachable(rule, people)?;
    let columns = rule.to_columns().map_err(invalid_rule)?;
    let mut warnings = warnings(rule, people);
    if let Some(before) = reviewed {
        if !new.validate_only {
            return review(ctx, tx, gateway, before, Some(rule)).await.map(Change::InReview);
        }
        warnings.push(Warning::ReviewRequired);
    }
    let outcome = |workflow, in_flight| Change::Made(Stored { workflow, in_flight, warnings });
    match before {
        Some(before) if before.columns == columns => {
            ctx.add_audit_detail("outcome", "noop");
            let open = write_intents::in_flight(ctx, tx, intent_scope(gateway, &new.scope)).await?;
            Ok(outcome(before.clone(), open))
        }
        _ if new.validate_only => {
            ctx.add_audit_detail("outcome", "dry_run");
            Ok(outcome(validated(ctx, gateway, new, columns, before, now), Vec::new()))
        }
        Some(before) => {
            if !store::update(tx, before.id, before.version, &columns, now).await? {
                let name = display_name(&gateway.name, &new.scope);
                return Err(Error::conflict(ResourceKind::ApprovalWorkflow, name));
            }
            let version = before.version + 1;
            let (updated_at, broken_since) = (now, None);
            let after =
                StoredWorkflow { columns, version, updated_at, broken_since, ..before.clone() };
            finish(ctx, tx, gateway, after).await.map(|(after, open)| outcome(after, open))
        }
        None => {
            let created = create(ctx, tx, gateway, new, (&columns, now)).await?;
            finish(ctx, tx, gateway, created).await.map(|(created, open)| outcome(created, open))
        }
    }
}

async fn create(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    new: &NewRule,
    (columns, now): (&RuleColumns, Timestamp),
) -> Result<StoredWorkflow, Error> {
    store::lock_count(tx).await?;
    if store::count(tx).await? >= WORKFLOWS_MAX {
        let why = format!("there may be at most {WORKFLOWS_MAX} approval workflows");
        return Err(Error::refused(Reason::LimitReached, why));
    }
    let created_by: String = ctx.actor().chars().take(CREATOR_CHARACTERS_MAX).collect();
    let row = NewWorkflow {
        gateway: &gateway.name,
        scope: &new.scope,
        columns,
        created_by: &created_by,
        principal: ctx.principal(),
        at: now,
    };
    store::insert(tx, &row).await
}

/// Emits the event of a stored rule, and returns the writes in progress.
async fn finish(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    stored: StoredWorkflow,
) -> Result<(StoredWorkflow, Vec<WriteInFlight>), Error> {
    emit(ctx, tx, gateway, event_types::APPROVAL_WORKFLOW_SET, &stored).await?;
    let open = write_intents::in_flight(ctx, tx, intent_scope(gateway, &stored.scope)).await?;
    Ok((stored, open))
}

/// Returns the workflow that would be stored.
fn validated(
    ctx: &Ctx,
    gateway: &GatewayRef,
    new: &NewRule,
    columns: RuleColumns,
    before: Option<&StoredWorkflow>,
    now: Timestamp,
) -> StoredWorkflow {
    if let Some(before) = before {
        return StoredWorkflow { columns, ..before.clone() };
    }
    StoredWorkflow {
        id: ApprovalWorkflowId(0),
        gateway: gateway.name.to_string(),
        scope: new.scope.clone(),
        columns,
        created_by: ctx.actor().to_string(),
        created_at: now,
        updated_at: now,
        broken_since: None,
        version: 0,
    }
}

fn caller_facts(ctx: &Ctx, people: &People) -> Result<CallerFacts, Error> {
    let unknown = || Error::Denied { why: "only a known caller changes rules".to_owned() };
    let principal = ctx.principal().ok_or_else(unknown)?;
    let is_maker_known = people.is_holder_known(principal);
    Ok(CallerFacts { principal, role: ctx.role(), is_maker_known })
}

/// Deletes the workflow of a scope, unless a rule forbids it.
pub async fn delete(ctx: &Ctx, scope: &RuleScope, given_etag: &str) -> Result<(), Error> {
    let gateway = ctx.required_gateway()?;
    note_scope(ctx, scope);
    let people = People::on_gateway(&ctx.app().snapshot, gateway.id);
    let deleted = ctx
        .transaction(async |tx| {
            write_intents::lock_exclusive(tx, gateway.id).await?;
            let workflows = store::of_gateway(tx, &gateway.name).await?;
            let found = find(&workflows, &gateway.name, scope)?;
            check_etag(given_etag, Some(found), &display_name(&gateway.name, scope))?;
            let now = ctx.db().now(tx).await?;
            if needs_review(&workflows, found, None, &caller_facts(ctx, &people)?, now)? {
                return review(ctx, tx, gateway, found, None).await.map(Change::InReview);
            }
            remove(ctx, tx, gateway, found).await.map(Change::Made)
        })
        .await?;
    deleted.made(ctx).await
}

async fn remove(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    found: &StoredWorkflow,
) -> Result<(), Error> {
    if !store::delete(tx, found.id, found.version).await? {
        let name = display_name(&gateway.name, &found.scope);
        return Err(Error::conflict(ResourceKind::ApprovalWorkflow, name));
    }
    emit(ctx, tx, gateway, event_types::APPROVAL_WORKFLOW_DELETED, found).await
}

/// Returns the workflow of a scope.
pub async fn get(ctx: &Ctx, scope: &RuleScope) -> Result<ShownWorkflow, Error> {
    let gateway = ctx.required_gateway()?;
    let workflows = store::of_gateway(&mut ctx.db().read().await?, &gateway.name).await?;
    Ok(shown(ctx, find(&workflows, &gateway.name, scope)?.clone()))
}

/// The position of a workflow in a list: gateway, workspace and sandbox; empty for a wider scope.
type Position = (String, String, String);

fn position(of: &StoredWorkflow) -> Position {
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    (of.gateway.clone(), text(of.scope.workspace()), text(of.scope.sandbox()))
}

/// Returns a page of the workflows on the gateways that the caller can see, wider scopes first.
pub async fn list(
    ctx: &FleetCtx,
    gateway: &str,
    size: PageSize,
    token: &str,
) -> Result<(Vec<ShownWorkflow>, String), Error> {
    let only = match gateway {
        "" => visible_names(ctx),
        name => Some(vec![ctx.require_gateway(name)?.name.to_string()]),
    };
    let list = ListKey {
        method: "ListWorkflows",
        filter: gateway.as_bytes(),
        order: "gateway,workspace,sandbox",
    };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let mut rows = store::all(&mut ctx.db().read().await?).await?;
    rows.retain(|row| only.as_ref().is_none_or(|names| names.contains(&row.gateway)));
    rows.sort_by_cached_key(position);
    if let Some(after) = page.after() {
        rows.retain(|row| position(row) > *after);
    }
    rows.truncate(usize::try_from(page.limit()).unwrap_or(usize::MAX));
    let (rows, next) = page.finish(rows, position)?;
    Ok((rows.into_iter().map(|row| shown(ctx, row)).collect(), next))
}

/// Returns the names of the gateways that the caller can see; `None` if it can see all of them.
fn visible_names(ctx: &FleetCtx) -> Option<Vec<String>> {
    let VisibleGateways::Only(ids) = ctx.visible_gateways() else { return None };
    let name = |id| ctx.app().snapshot.gateway_name(id).map(|name| name.to_string());
    Some(ids.into_iter().filter_map(name).collect())
}
