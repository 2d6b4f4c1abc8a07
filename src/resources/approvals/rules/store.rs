//! Workflows and pins as they are stored.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::schema::{approval_workflows as t, policy_pins as p};
use crate::db::types::{ApprovalWorkflowId, SandboxName};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::governance::{Lock, Rule, RuleColumns, RuleFault, RuleScope};

/// A stored workflow.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct WorkflowRow {
    id: ApprovalWorkflowId,
    gateway_name: Option<String>,
    workspace: Option<String>,
    sandbox_name: Option<String>,
    required_approvals: i32,
    required_roles_json: String,
    distinct_actors: bool,
    escalation_timeout_minutes: Option<i32>,
    rule_json: Option<String>,
}

impl WorkflowRow {
    /// Returns its scope.
    #[must_use]
    pub fn scope(&self) -> RuleScope {
        match (&self.workspace, &self.sandbox_name) {
            // The table allows no sandbox without a workspace.
            (None, _) => RuleScope::Gateway,
            (Some(workspace), None) => RuleScope::Workspace(workspace.clone()),
            (Some(workspace), Some(name)) => {
                let (workspace, name) = (workspace.clone(), name.clone());
                RuleScope::Sandbox(SandboxName { workspace, name })
            }
        }
    }

    /// Returns whether it is a workflow of this gateway.
    #[must_use]
    pub fn is_on(&self, gateway: &str) -> bool {
        self.gateway_name.as_deref() == Some(gateway)
    }

    /// Returns its id and rule.
    ///
    /// # Errors
    /// A fault if this version cannot read the rule.
    pub fn rule(&self) -> Result<(ApprovalWorkflowId, Rule), RuleFault> {
        let rule = Rule::from_columns(&RuleColumns {
            required_approvals: self.required_approvals,
            required_roles_json: self.required_roles_json.clone(),
            distinct_actors: self.distinct_actors,
            escalation_timeout_minutes: self.escalation_timeout_minutes,
            rule_json: self.rule_json.clone(),
        })?;
        Ok((self.id, rule))
    }
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = p)]
struct PinRow {
    pinned_by: String,
    principal: Option<String>,
    setter_role: String,
    reason: Option<String>,
    expires_at: Option<Timestamp>,
}

/// Returns the pin of a sandbox, which may have ended.
pub async fn pin(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
) -> Result<Option<Lock>, Error> {
    let row: Option<PinRow> = on_conn!(conn, |c| p::table
        .filter(p::gateway_name.eq(gateway))
        .filter(p::workspace.eq(&sandbox.workspace))
        .filter(p::sandbox_name.eq(&sandbox.name))
        .select(PinRow::as_select())
        .first(c)
        .await
        .optional())?;
    let lock = row.map(|row| {
        Ok(Lock {
            by: row.pinned_by.into(),
            setter: row.principal.as_deref().and_then(PrincipalId::parse),
            setter_role: parse_role(&row.setter_role)?,
            reason: row.reason,
            expires_at: row.expires_at,
        })
    });
    lock.transpose()
}

/// Returns the version that the pin of a sandbox names, and the gateway's id of that sandbox; `None` without a pin.
pub async fn pinned_revision(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
) -> Result<Option<(i64, Option<String>)>, Error> {
    Ok(on_conn!(conn, |c| p::table
        .filter(p::gateway_name.eq(gateway))
        .filter(p::workspace.eq(&sandbox.workspace))
        .filter(p::sandbox_name.eq(&sandbox.name))
        .select((p::pinned_version, p::sandbox_id))
        .first(c)
        .await
        .optional())?)
}

/// Returns the workflows of these gateways.
pub async fn on_gateways(conn: &mut Conn, gateways: &[String]) -> Result<Vec<WorkflowRow>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::gateway_name.eq_any(gateways))
        .select(WorkflowRow::as_select())
        .order(t::id)
        .load(c)
        .await)?)
}

/// Returns the workflows that apply to a sandbox of a gateway: its own, that of its workspace and that of the gateway.
pub async fn applying(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
) -> Result<Vec<WorkflowRow>, Error> {
    let workspace = t::workspace.is_null().or(t::workspace.eq(&sandbox.workspace));
    let name = t::sandbox_name.is_null().or(t::sandbox_name.eq(&sandbox.name));
    let applying = t::gateway_name.eq(gateway).and(workspace).and(name);
    Ok(on_conn!(conn, |c| t::table
        .filter(applying)
        .select(WorkflowRow::as_select())
        .order(t::id)
        .load(c)
        .await)?)
}
