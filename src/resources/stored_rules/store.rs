//! Rows of pins and approval workflows, and how they become what is judged: the only mapping of both. Also their changes
//! that calls and reviews share.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{approval_workflows as w, policy_pins as p};
use crate::db::types::{ApprovalWorkflowId, PolicyPinId, SandboxName};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::governance::{Lock, Rule, RuleColumns, RuleScope};
use crate::role::Role;

/// A pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Permanent id.
    pub id: PolicyPinId,
    /// Name of the gateway.
    pub gateway: String,
    /// The sandbox, which need not exist.
    pub sandbox: SandboxName,
    /// Newest version of the policy when it was pinned; 0 if it is not known.
    pub pinned_version: i64,
    /// The gateway's hash of the policy in force when it was pinned; `None` if it is not known.
    pub pinned_hash: Option<String>,
    /// The gateway's id of the pinned sandbox; `None` if it is not known.
    pub sandbox_id: Option<String>,
    /// The gateway's id of the present sandbox of this name, as far as it was seen.
    pub live_id: Option<String>,
    /// Name of the first setter.
    pub pinned_by: String,
    /// Who may remove it with any role: the first setter, or a later one with a higher role who lengthened it.
    /// `None` if that is not known.
    pub principal: Option<String>,
    /// Highest role of the setters.
    pub setter_role: Role,
    /// The first reason, or that of a setter who lengthened it.
    pub reason: Option<String>,
    /// When it was first set.
    pub pinned_at: Timestamp,
    /// When it ends; `None` if it does not.
    pub expires_at: Option<Timestamp>,
    /// Incremented by each change.
    pub version: i64,
}

impl Pin {
    /// Returns the pin as it is judged.
    #[must_use]
    pub fn lock(&self) -> Lock {
        Lock {
            by: self.pinned_by.as_str().into(),
            setter: self.principal.as_deref().and_then(PrincipalId::parse),
            setter_role: self.setter_role,
            reason: self.reason.clone(),
            expires_at: self.expires_at,
        }
    }

    /// Returns whether the sandbox that was pinned no longer exists: the pin is held for the next one of its name.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.sandbox_id.is_some() && self.sandbox_id != self.live_id
    }
}

/// A row of a pin.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = p)]
pub struct PinRow {
    id: PolicyPinId,
    gateway_name: String,
    workspace: String,
    sandbox_name: String,
    pinned_version: i64,
    pinned_by: String,
    reason: Option<String>,
    pinned_at: Timestamp,
    expires_at: Option<Timestamp>,
    principal: Option<String>,
    setter_role: String,
    sandbox_id: Option<String>,
    pinned_hash: Option<String>,
    version: i64,
}

impl PinRow {
    /// Returns the pin. `live_id` is the gateway's id of the present sandbox of its name, as far as it was seen.
    ///
    /// # Errors
    /// `Internal` if the stored role is not known.
    pub fn into_pin(self, live_id: Option<String>) -> Result<Pin, Error> {
        Ok(Pin {
            id: self.id,
            gateway: self.gateway_name,
            sandbox: SandboxName { workspace: self.workspace, name: self.sandbox_name },
            pinned_version: self.pinned_version,
            pinned_hash: self.pinned_hash,
            sandbox_id: self.sandbox_id,
            live_id,
            pinned_by: self.pinned_by,
            principal: self.principal,
            setter_role: parse_role(&self.setter_role)?,
            reason: self.reason,
            pinned_at: self.pinned_at,
            expires_at: self.expires_at,
            version: self.version,
        })
    }
}

/// Returns the locks on the sandboxes of a gateway, even if they have expired, ordered by sandbox. A workspace or
/// sandbox selects those of it.
pub async fn locks(
    conn: &mut Conn,
    gateway: &str,
    workspace: Option<&str>,
    sandbox: Option<&str>,
) -> Result<Vec<(SandboxName, Lock)>, Error> {
    let rows: Vec<PinRow> = on_conn!(conn, |c| {
        let mut query = p::table
            .filter(p::gateway_name.eq(gateway))
            .select(PinRow::as_select())
            .order((p::workspace, p::sandbox_name))
            .into_boxed();
        if let Some(workspace) = workspace {
            query = query.filter(p::workspace.eq(workspace));
        }
        if let Some(sandbox) = sandbox {
            query = query.filter(p::sandbox_name.eq(sandbox));
        }
        query.load(c).await
    })?;
    // A lock is in force on any sandbox of the name, so the id of the present one is not read.
    let pins = rows.into_iter().map(|row| row.into_pin(None));
    pins.map(|pin| pin.map(|pin| (pin.sandbox.clone(), pin.lock()))).collect()
}

/// Returns the pin of a sandbox, even if it has expired. The id of the present sandbox of its name is not read.
pub async fn pin_of(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
) -> Result<Option<Pin>, Error> {
    let row: Option<PinRow> = on_conn!(conn, |c| p::table
        .filter(p::gateway_name.eq(gateway))
        .filter(p::workspace.eq(&sandbox.workspace))
        .filter(p::sandbox_name.eq(&sandbox.name))
        .select(PinRow::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(|row| row.into_pin(None)).transpose()
}

/// Shortens a pin if its version is still `version`. Returns whether it was stored.
pub async fn shorten_pin(
    conn: &mut Conn,
    id: PolicyPinId,
    version: i64,
    ends_at: Timestamp,
) -> Result<bool, Error> {
    let row = p::table.filter(p::id.eq(id.get()).and(p::version.eq(version)));
    let set = (p::expires_at.eq(ends_at), p::version.eq(version + 1));
    Ok(on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)? == 1)
}

/// Deletes a pin if its version is still `version`. Returns whether it was deleted.
pub async fn delete_pin(conn: &mut Conn, id: PolicyPinId, version: i64) -> Result<bool, Error> {
    let row = p::table.filter(p::id.eq(id.get()).and(p::version.eq(version)));
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}

/// A workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWorkflow {
    /// Permanent id.
    pub id: ApprovalWorkflowId,
    /// Name of the gateway; empty for a workflow of a selector.
    pub gateway: String,
    /// What it applies to. This version does not know which gateways a selector matches: it may be any.
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

impl StoredWorkflow {
    /// Returns the rule; `None` if this version cannot read it or does not know what it applies to.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        if self.gateway.is_empty() {
            return None;
        }
        Rule::from_columns(&self.columns).ok()
    }
}

/// A row of a workflow.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = w)]
pub struct WorkflowRow {
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

impl From<WorkflowRow> for StoredWorkflow {
    fn from(row: WorkflowRow) -> Self {
        let scope = match (row.workspace, row.sandbox_name) {
            (None, _) => RuleScope::Gateway,
            (Some(workspace), None) => RuleScope::Workspace(workspace),
            (Some(workspace), Some(name)) => RuleScope::Sandbox(SandboxName { workspace, name }),
        };
        Self {
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
}

/// Returns the workflows of a gateway, from the widest to the narrowest scope, those of selectors first.
pub async fn workflows_of(conn: &mut Conn, gateway: &str) -> Result<Vec<StoredWorkflow>, Error> {
    workflows_applying(conn, gateway, None, None).await
}

/// Returns the workflows that apply to a gateway, to one of its workspaces or sandboxes, or to something in it, in the
/// order of [`workflows_of`]. `None` is the whole gateway or workspace.
pub async fn workflows_applying(
    conn: &mut Conn,
    gateway: &str,
    workspace: Option<&str>,
    sandbox: Option<&str>,
) -> Result<Vec<StoredWorkflow>, Error> {
    let rows: Vec<WorkflowRow> = on_conn!(conn, |c| {
        let mut query = w::table
            .filter(w::gateway_name.is_null().or(w::gateway_name.eq(gateway)))
            .select(WorkflowRow::as_select())
            .into_boxed();
        if let Some(workspace) = workspace {
            query = query.filter(w::workspace.is_null().or(w::workspace.eq(workspace)));
        }
        if let Some(sandbox) = sandbox {
            query = query.filter(w::sandbox_name.is_null().or(w::sandbox_name.eq(sandbox)));
        }
        query.load(c).await
    })?;
    Ok(sorted(rows))
}

/// Returns the workflows of all gateways, by gateway and scope. Their number is limited.
pub async fn all_workflows(conn: &mut Conn) -> Result<Vec<StoredWorkflow>, Error> {
    let rows: Vec<WorkflowRow> = on_conn!(conn, |c| w::table
        .filter(w::gateway_name.is_not_null())
        .select(WorkflowRow::as_select())
        .load(c)
        .await)?;
    Ok(sorted(rows))
}

/// Returns the workflows of these gateways, and those of selectors, in the order of [`workflows_of`] for each gateway.
pub async fn workflows_on(
    conn: &mut Conn,
    gateways: &[String],
) -> Result<Vec<StoredWorkflow>, Error> {
    let rows: Vec<WorkflowRow> = on_conn!(conn, |c| w::table
        .filter(w::gateway_name.is_null().or(w::gateway_name.eq_any(gateways)))
        .select(WorkflowRow::as_select())
        .load(c)
        .await)?;
    Ok(sorted(rows))
}

/// Stores another rule of a workflow if its version is still `version`. Returns whether it was stored.
pub async fn replace_rule(
    conn: &mut Conn,
    id: ApprovalWorkflowId,
    version: i64,
    columns: &RuleColumns,
    at: Timestamp,
) -> Result<bool, Error> {
    let row = w::table.filter(w::id.eq(id.get()).and(w::version.eq(version)));
    let set = (
        w::required_approvals.eq(columns.required_approvals),
        w::required_roles_json.eq(&columns.required_roles_json),
        w::distinct_actors.eq(columns.distinct_actors),
        w::escalation_timeout_minutes.eq(columns.escalation_timeout_minutes),
        w::rule_json.eq(columns.rule_json.as_deref()),
        w::updated_at.eq(at),
        // Whether the new rule can be met is checked next.
        w::broken_since.eq(None::<Timestamp>),
        w::version.eq(version + 1),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Deletes a workflow if its version is still `version`. Returns whether it was deleted.
pub async fn delete_workflow(
    conn: &mut Conn,
    id: ApprovalWorkflowId,
    version: i64,
) -> Result<bool, Error> {
    let row = w::table.filter(w::id.eq(id.get()).and(w::version.eq(version)));
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}

/// Sorts here, since the engines sort NULL and letters differently.
fn sorted(rows: Vec<WorkflowRow>) -> Vec<StoredWorkflow> {
    let mut workflows: Vec<StoredWorkflow> = rows.into_iter().map(Into::into).collect();
    workflows.sort_by(|one, other| (&one.gateway, &one.scope).cmp(&(&other.gateway, &other.scope)));
    workflows
}
