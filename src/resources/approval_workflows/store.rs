//! Changes of rows of approval workflows, the owner of a sandbox, and what is known of the approval mode of a gateway.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{approval_workflows as t, gateways, sandbox_meta};
use crate::db::types::{ApprovalWorkflowId, GatewayId, SandboxName};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::{RuleColumns, RuleScope};
use crate::resources::stored_rules::domain::{StoredWorkflow, WorkflowRow};

/// Advisory lock on PostgreSQL for creating workflows, so that their number stays within the limit.
const COUNT_LOCK: i64 = 0x5348_4f52_4157_464c;

/// A workflow to store.
#[derive(Debug)]
pub struct NewWorkflow<'a> {
    /// Name of the gateway.
    pub gateway: &'a str,
    /// Scope to which it applies.
    pub scope: &'a RuleScope,
    /// The rule.
    pub columns: &'a RuleColumns,
    /// Name of its creator.
    pub created_by: &'a str,
    /// The creator.
    pub principal: Option<PrincipalId>,
    /// The current time.
    pub at: Timestamp,
}

/// Takes the lock for creating workflows, until the end of the transaction.
pub async fn lock_count(conn: &mut Conn) -> Result<(), Error> {
    conn.advisory_lock(COUNT_LOCK).await
}

/// Returns the number of workflows, those of selectors included.
pub async fn count(conn: &mut Conn) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| t::table.count().get_result(c).await)?)
}

/// Stores a new workflow; the database assigns its id. Returns `Exists` if the scope has one.
pub async fn insert(conn: &mut Conn, new: &NewWorkflow<'_>) -> Result<StoredWorkflow, Error> {
    let row = (
        (
            t::gateway_name.eq(new.gateway),
            t::workspace.eq(new.scope.workspace()),
            t::sandbox_name.eq(new.scope.sandbox()),
            t::required_approvals.eq(new.columns.required_approvals),
            t::required_roles_json.eq(&new.columns.required_roles_json),
            t::distinct_actors.eq(new.columns.distinct_actors),
            t::escalation_timeout_minutes.eq(new.columns.escalation_timeout_minutes),
        ),
        (
            t::rule_json.eq(new.columns.rule_json.as_deref()),
            t::created_by.eq(new.created_by),
            t::principal.eq(new.principal.map(|principal| principal.to_string())),
            t::created_at.eq(new.at),
            t::updated_at.eq(new.at),
        ),
    );
    let stored: Result<WorkflowRow, _> = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .returning(WorkflowRow::as_returning())
        .get_result(c)
        .await);
    Ok(stored?.into())
}

/// Notes that the rule of a version cannot be met since a time. Returns whether that was not noted before.
pub async fn set_broken(
    conn: &mut Conn,
    id: ApprovalWorkflowId,
    version: i64,
    since: Timestamp,
) -> Result<bool, Error> {
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    let row = row.filter(t::broken_since.is_null());
    let set = t::broken_since.eq(since);
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Notes that the rule of a version can be met again.
pub async fn clear_broken(
    conn: &mut Conn,
    id: ApprovalWorkflowId,
    version: i64,
) -> Result<(), Error> {
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    let set = t::broken_since.eq(None::<Timestamp>);
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Returns whether a gateway is known to approve drafts by itself: the finding of the check of its settings.
pub async fn approves_automatically(conn: &mut Conn, gateway: GatewayId) -> Result<bool, Error> {
    let since: Option<Option<Timestamp>> = on_conn!(conn, |c| gateways::table
        .filter(gateways::id.eq(gateway.get()))
        .select(gateways::automatic_approvals_since)
        .first(c)
        .await
        .optional())?;
    Ok(since.flatten().is_some())
}

/// Returns the principal that created a sandbox, as text; `None` if it is not known.
pub async fn owner_of(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
) -> Result<Option<String>, Error> {
    use sandbox_meta as m;
    let of = m::gateway_name.eq(gateway).and(m::workspace.eq(&sandbox.workspace));
    let of = of.and(m::sandbox_name.eq(&sandbox.name));
    let found: Option<Option<String>> =
        on_conn!(conn, |c| m::table.filter(of).select(m::owner).first(c).await.optional())?;
    Ok(found.flatten())
}
