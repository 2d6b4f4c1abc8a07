//! Rows of approval workflows, and the owner of a sandbox. Workflows of selectors are not read.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{approval_workflows as t, sandbox_meta};
use crate::db::types::{ApprovalWorkflowId, SandboxName};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::{RuleColumns, RuleScope};

/// Advisory lock on PostgreSQL for creating workflows, so that their number stays within the limit.
const COUNT_LOCK: i64 = 0x5348_4f52_4157_464c;

/// A workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWorkflow {
    /// Permanent id.
    pub id: ApprovalWorkflowId,
    /// Name of the gateway.
    pub gateway: String,
    /// What it applies to.
    pub scope: RuleScope,
    /// The rule, as stored.
    pub columns: RuleColumns,
    /// Name of its creator.
    pub created_by: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Since when it cannot be met.
    pub broken_since: Option<Timestamp>,
    /// Incremented by each change of the rule.
    pub version: i64,
}

/// A workflow to store.
#[derive(Debug)]
pub struct NewWorkflow<'a> {
    /// Name of the gateway.
    pub gateway: &'a str,
    /// What it applies to.
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

#[derive(Queryable, Selectable)]
#[diesel(table_name = t)]
struct Row {
    id: ApprovalWorkflowId,
    gateway_name: Option<String>,
    workspace: Option<String>,
    sandbox_name: Option<String>,
    required_approvals: i32,
    required_roles_json: String,
    distinct_actors: bool,
    escalation_timeout_minutes: Option<i32>,
    created_by: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    rule_json: Option<String>,
    broken_since: Option<Timestamp>,
    version: i64,
}

fn to_workflow(row: Row) -> StoredWorkflow {
    let scope = match (row.workspace, row.sandbox_name) {
        (None, _) => RuleScope::Gateway,
        (Some(workspace), None) => RuleScope::Workspace(workspace),
        (Some(workspace), Some(name)) => RuleScope::Sandbox(SandboxName { workspace, name }),
    };
    StoredWorkflow {
        id: row.id,
        gateway: row.gateway_name.unwrap_or_default(),
        scope,
        columns: RuleColumns {
            required_approvals: row.required_approvals,
            required_roles_json: row.required_roles_json,
            distinct_actors: row.distinct_actors,
            escalation_timeout_minutes: row.escalation_timeout_minutes,
            rule_json: row.rule_json,
        },
        created_by: row.created_by,
        created_at: row.created_at,
        updated_at: row.updated_at,
        broken_since: row.broken_since,
        version: row.version,
    }
}

/// Takes the lock for creating workflows, until the end of the transaction.
pub async fn lock_count(conn: &mut Conn) -> Result<(), Error> {
    conn.advisory_lock(COUNT_LOCK).await
}

/// Returns the number of workflows, those of selectors included.
pub async fn count(conn: &mut Conn) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| t::table.count().get_result(c).await)?)
}

/// Returns the workflows of a gateway, from the widest to the narrowest scope.
pub async fn of_gateway(conn: &mut Conn, gateway: &str) -> Result<Vec<StoredWorkflow>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| t::table
        .filter(t::gateway_name.eq(gateway))
        .select(Row::as_select())
        .load(c)
        .await)?;
    Ok(sorted(rows))
}

/// Returns the workflows of all gateways, by gateway and scope. Their number is limited.
pub async fn all(conn: &mut Conn) -> Result<Vec<StoredWorkflow>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| t::table
        .filter(t::gateway_name.is_not_null())
        .select(Row::as_select())
        .load(c)
        .await)?;
    Ok(sorted(rows))
}

/// Sorts here, since the engines sort NULL and letters differently.
fn sorted(rows: Vec<Row>) -> Vec<StoredWorkflow> {
    let mut workflows: Vec<StoredWorkflow> = rows.into_iter().map(to_workflow).collect();
    workflows.sort_by(|one, other| (&one.gateway, &one.scope).cmp(&(&other.gateway, &other.scope)));
    workflows
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
    let stored: Result<Row, _> = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .returning(Row::as_returning())
        .get_result(c)
        .await);
    Ok(to_workflow(stored?))
}

/// Stores another rule if the stored version is still `version`. Returns whether it was stored.
pub async fn update(
    conn: &mut Conn,
    id: ApprovalWorkflowId,
    version: i64,
    columns: &RuleColumns,
    at: Timestamp,
) -> Result<bool, Error> {
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    let set = (
        t::required_approvals.eq(columns.required_approvals),
        t::required_roles_json.eq(&columns.required_roles_json),
        t::distinct_actors.eq(columns.distinct_actors),
        t::escalation_timeout_minutes.eq(columns.escalation_timeout_minutes),
        t::rule_json.eq(columns.rule_json.as_deref()),
        t::updated_at.eq(at),
        t::broken_since.eq(None::<Timestamp>),
        t::version.eq(version + 1),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Deletes a workflow if its version is still `version`. Returns whether it was deleted.
pub async fn delete(conn: &mut Conn, id: ApprovalWorkflowId, version: i64) -> Result<bool, Error> {
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
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
