//! Sets, deletes, reads and lists approval workflows.

use futures_util::future;

use super::approval_mode::{self, ApprovalMode};
pub use super::explain::{ExplainedWorkflow, Explanation, explain};
pub use super::input::{NamedRule, scope};
use super::input::{invalid_rule, with_names};
use super::review::{place_of, review};
pub use super::rules::Warning;
use super::rules::{
    check_etag, check_reachable, containing, display_name, find, of_scope, replacement, warnings,
};
use super::store::{self, NewWorkflow};
use crate::clock::Timestamp;
use crate::ctx::{Ctx, FleetCtx, ListKey, Tx};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::{ApprovalWorkflowId, GatewayRef};
use crate::error::{Error, Reason, ResourceKind};
use crate::feed;
use crate::governance::{People, Rule, RuleColumns, RuleScope};
use crate::outbox::event_types;
use crate::resources::approvals::rule_changes::outdated::end_outdated;
use crate::resources::approvals::rule_changes::propose::Change;
use crate::resources::approvals::rules::store::{VotingRounds, voting_in};
pub use crate::resources::stored_rules::domain::StoredWorkflow;
use crate::resources::stored_rules::domain::{
    all_workflows, caller_facts, delete_workflow, needs_review, replace_rule,
    workflow_change_payload, workflows_of,
};
use crate::resources::write_intents::domain::{self as write_intents, IntentScope, WriteInFlight};

/// Maximum number of workflows.
pub const WORKFLOWS_MAX: i64 = 1_000;
/// Maximum number of open rounds that a response names.
pub const APPROVALS_NAMED_MAX: usize = 100;

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
    /// Scope to which it applies.
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
    /// Weaknesses of the workflow.
    pub warnings: Vec<Warning>,
    /// Open rounds in its scope, of which at most [`APPROVALS_NAMED_MAX`] are named.
    pub rounds: VotingRounds,
}

/// State that a transaction found and stored.
struct Stored {
    workflow: StoredWorkflow,
    in_flight: Vec<WriteInFlight>,
    warnings: Vec<Warning>,
    rounds: VotingRounds,
}

fn intent_scope<'a>(gateway: &GatewayRef, scope: &'a RuleScope) -> IntentScope<'a> {
    IntentScope { gateway: gateway.id, workspace: scope.workspace(), sandbox: scope.sandbox() }
}

pub(super) fn shown(ctx: &Ctx, stored: StoredWorkflow) -> ShownWorkflow {
    let rule = stored.rule().map(|rule| with_names(&rule, &ctx.app().snapshot));
    ShownWorkflow { stored, rule }
}

/// Sets the rule of a scope. It is stored before the gateway is called, and in force from then on.
pub async fn set(ctx: &Ctx, new: NewRule) -> Result<SetOutcome, Error> {
    let gateway = ctx.required_gateway()?.clone();
    note_scope(ctx, &new.scope);
    let stored = store_current(ctx, &gateway, &new).await?.made(ctx).await?;
    let Stored { workflow, in_flight, mut warnings, rounds } = stored;
    let waiting = write_intents::wait_for_end(ctx, intent_scope(&gateway, &new.scope), in_flight);
    let (in_flight, mode) = future::join(waiting, approval_mode::read(ctx, &new.scope)).await;
    match mode {
        ApprovalMode::Manual => {}
        ApprovalMode::Auto => warnings.insert(0, Warning::ApprovalModeAuto),
        ApprovalMode::Unknown => warnings.insert(0, Warning::ApprovalModeUnknown),
    }
    ctx.add_audit_detail("writes_in_flight", in_flight.len());
    ctx.add_audit_detail("approval_mode_is_auto", mode == ApprovalMode::Auto);
    ctx.add_audit_detail("open_approvals", rounds.count);
    Ok(SetOutcome { workflow: shown(ctx, workflow), in_flight, warnings, rounds })
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
    feed::until_current(ctx.app(), move |read_to| {
        Box::pin(async move {
            let snapshot = &ctx.app().snapshot;
            let people = People::on_gateway(snapshot, gateway.id);
            let rule = new.rule.resolve(snapshot)?;
            ctx.transaction(async |tx| {
                write_intents::lock_exclusive(tx, gateway.id).await?;
                if !feed::is_current(tx, &read_to).await? {
                    return Ok(None);
                }
                store_rule(ctx, tx, gateway, new, &rule, &people).await.map(Some)
            })
            .await
        })
    })
    .await
}

async fn store_rule(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    new: &NewRule,
    rule: &Rule,
    people: &People,
) -> Result<Change<Stored>, Error> {
    check_mode(tx, gateway).await?;
    let workflows = workflows_of(tx, &gateway.name).await?;
    let before = of_scope(&workflows, &gateway.name, &new.scope);
    let now = ctx.db().now(tx).await?;
    check_etag(&new.etag, before, &display_name(&gateway.name, &new.scope))?;
    let reviewed = match before {
        Some(before) if is_reviewed(ctx, gateway, &workflows, before, Some(rule), now)? => {
            Some(before)
        }
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
    if let Some(before) = before.filter(|before| before.columns != columns && !new.validate_only) {
        replace(ctx, tx, gateway, before, (&columns, now)).await?;
    }
    // Under the lock of the gateway: a round that is opened later is opened under the rule.
    let limit = i64::try_from(APPROVALS_NAMED_MAX).map_err(Error::internal)?;
    let rounds = voting_in(tx, gateway.id, &new.scope, now, limit).await?;
    let outcome =
        |workflow, in_flight| Change::Made(Stored { workflow, in_flight, warnings, rounds });
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
            let version = before.version + 1;
            let (updated_at, broken_since) = (now, None);
            let after =
                StoredWorkflow { columns, updated_at, broken_since, version, ..before.clone() };
            finish(ctx, tx, gateway, after).await.map(|(after, open)| outcome(after, open))
        }
        None => {
            let created = create(ctx, tx, gateway, new, (&columns, now)).await?;
            finish(ctx, tx, gateway, created).await.map(|(created, open)| outcome(created, open))
        }
    }
}

/// Replaces a stored rule, and ends the reviews of its former version.
async fn replace(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    before: &StoredWorkflow,
    (columns, now): (&RuleColumns, Timestamp),
) -> Result<(), Error> {
    if !replace_rule(tx, before.id, before.version, columns, now).await? {
        let name = display_name(&gateway.name, &before.scope);
        return Err(Error::conflict(ResourceKind::ApprovalWorkflow, name));
    }
    end_outdated(ctx, tx, &place_of(gateway, &before.scope)).await
}

/// Refuses a rule on a gateway that is known to approve drafts by itself: no rule would be asked.
async fn check_mode(conn: &mut Conn, gateway: &GatewayRef) -> Result<(), Error> {
    if !store::approves_automatically(conn, gateway.id).await? {
        return Ok(());
    }
    let why = "the setting `proposal_approval_mode` of the gateway is `auto`, so that it approves drafts by itself: \
               set it to `manual` first";
    let setting = "proposal_approval_mode".to_owned();
    let facts = [("gateway", gateway.name.to_string()), ("setting", setting)];
    Err(Error::explained(Reason::ApprovalModeAuto, why, facts))
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
    let created_by = ctx.stored_actor();
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
    let payload = workflow_change_payload(ctx, gateway, &stored);
    let event = ctx.new_event(event_types::APPROVAL_WORKFLOW_SET, payload);
    tx.emit(event.with_gateway(gateway.clone())).await?;
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

/// Returns whether a review must decide about a rule, or none, that replaces a stored one.
///
/// # Errors
/// `GOVERNED` if a rule cannot be read, or it is not known who holds the key of the caller.
fn is_reviewed(
    ctx: &Ctx,
    gateway: &GatewayRef,
    workflows: &[StoredWorkflow],
    before: &StoredWorkflow,
    new: Option<&Rule>,
    now: Timestamp,
) -> Result<bool, Error> {
    let in_force = containing(workflows, &before.scope);
    let caller = caller_facts(ctx, gateway.id, &in_force.workflows)?;
    needs_review(replacement(before, new), &in_force, &caller, now)
}

/// Deletes the workflow of a scope, unless a rule forbids it.
pub async fn delete(ctx: &Ctx, scope: &RuleScope, given_etag: &str) -> Result<(), Error> {
    let gateway = ctx.required_gateway()?;
    note_scope(ctx, scope);
    let deleted = ctx
        .transaction(async |tx| {
            write_intents::lock_exclusive(tx, gateway.id).await?;
            let workflows = workflows_of(tx, &gateway.name).await?;
            let found = find(&workflows, &gateway.name, scope)?;
            check_etag(given_etag, Some(found), &display_name(&gateway.name, scope))?;
            let now = ctx.db().now(tx).await?;
            if is_reviewed(ctx, gateway, &workflows, found, None, now)? {
                return review(ctx, tx, gateway, found, None).await.map(Change::InReview);
            }
            remove(ctx, tx, gateway, found, None).await.map(Change::Made)
        })
        .await?;
    deleted.made(ctx).await
}

/// Removes the workflow of a scope on the server's host, in a transaction that holds the lock of the gateway. Neither a
/// role nor a rule is checked.
pub async fn remove_on_host(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    scope: &RuleScope,
    reason: &str,
) -> Result<(), Error> {
    let gateway = ctx.required_gateway()?;
    let workflows = workflows_of(tx, &gateway.name).await?;
    let found = find(&workflows, &gateway.name, scope)?;
    remove(ctx, tx, gateway, found, Some(reason)).await
}

async fn remove(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    found: &StoredWorkflow,
    reason: Option<&str>,
) -> Result<(), Error> {
    if !delete_workflow(tx, found.id, found.version).await? {
        let name = display_name(&gateway.name, &found.scope);
        return Err(Error::conflict(ResourceKind::ApprovalWorkflow, name));
    }
    let mut payload = workflow_change_payload(ctx, gateway, found);
    if let Some(reason) = reason {
        payload["reason"] = reason.into();
    }
    let event = ctx.new_event(event_types::APPROVAL_WORKFLOW_DELETED, payload);
    tx.emit(event.with_gateway(gateway.clone())).await?;
    end_outdated(ctx, tx, &place_of(gateway, &found.scope)).await
}

/// Returns the workflow of a scope.
pub async fn get(ctx: &Ctx, scope: &RuleScope) -> Result<ShownWorkflow, Error> {
    let gateway = ctx.required_gateway()?;
    let workflows = workflows_of(&mut ctx.db().read().await?, &gateway.name).await?;
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
        "" => ctx.visible_gateway_names(),
        name => Some(vec![ctx.require_gateway(name)?.name.to_string()]),
    };
    let list = ListKey {
        method: "ListWorkflows",
        filter: gateway.as_bytes(),
        order: "gateway,workspace,sandbox",
    };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let mut rows = all_workflows(&mut ctx.db().read().await?).await?;
    rows.retain(|row| only.as_ref().is_none_or(|names| names.contains(&row.gateway)));
    rows.sort_by_cached_key(position);
    if let Some(after) = page.after() {
        rows.retain(|row| position(row) > *after);
    }
    rows.truncate(usize::try_from(page.limit()).unwrap_or(usize::MAX));
    let (rows, next) = page.finish(rows, position)?;
    Ok((rows.into_iter().map(|row| shown(ctx, row)).collect(), next))
}
