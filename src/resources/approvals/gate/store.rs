//! Pins and workflows of a part of a gateway, as the gate reads them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::asked::Place;
use super::rules::Rules;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::schema::{approval_workflows as w, policy_pins as p};
use crate::db::types::SandboxName;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::governance::{Doubt, Lock, Rule, RuleColumns, RuleScope, Workflow};

#[derive(Queryable, Selectable)]
#[diesel(table_name = p)]
struct PinRow {
    workspace: String,
    sandbox_name: String,
    pinned_by: String,
    principal: Option<String>,
    setter_role: String,
    reason: Option<String>,
    expires_at: Option<Timestamp>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = w)]
struct WorkflowRow {
    id: i64,
    workspace: Option<String>,
    sandbox_name: Option<String>,
    required_approvals: i32,
    required_roles_json: String,
    distinct_actors: bool,
    escalation_timeout_minutes: Option<i32>,
    rule_json: Option<String>,
}

impl PinRow {
    fn into_lock(self) -> Result<(SandboxName, Lock), Error> {
        let sandbox = SandboxName { workspace: self.workspace, name: self.sandbox_name };
        let lock = Lock {
            by: self.pinned_by.into(),
            setter: self.principal.as_deref().and_then(PrincipalId::parse),
            setter_role: parse_role(&self.setter_role)?,
            reason: self.reason,
            expires_at: self.expires_at,
        };
        Ok((sandbox, lock))
    }
}

impl WorkflowRow {
    fn scope(&self) -> RuleScope {
        match (self.workspace.clone(), self.sandbox_name.clone()) {
            (Some(workspace), Some(name)) => RuleScope::Sandbox(SandboxName { workspace, name }),
            (Some(workspace), None) => RuleScope::Workspace(workspace),
            // The table allows no sandbox without a workspace.
            (None, _) => RuleScope::Gateway,
        }
    }

    /// Returns the workflow, or its scope if this version cannot read its rule.
    fn into_workflow(self) -> Result<Workflow, RuleScope> {
        let scope = self.scope();
        let columns = RuleColumns {
            required_approvals: self.required_approvals,
            required_roles_json: self.required_roles_json,
            distinct_actors: self.distinct_actors,
            escalation_timeout_minutes: self.escalation_timeout_minutes,
            rule_json: self.rule_json,
        };
        match Rule::from_columns(&columns) {
            Ok(rule) => Ok(Workflow { id: self.id.into(), scope, rule }),
            Err(_) => Err(scope),
        }
    }
}

/// Returns the pins and workflows that apply to a part of a gateway or to something in it.
pub(super) async fn rules_of(
    conn: &mut Conn,
    gateway: &str,
    place: &Place,
) -> Result<Rules, Error> {
    let mut rules = Rules::default();
    for row in pins(conn, gateway, place).await? {
        rules.pins.push(row.into_lock()?);
    }
    for row in workflows(conn, gateway, place).await? {
        match row.into_workflow() {
            Ok(workflow) => rules.workflows.push(workflow),
            Err(scope) => rules.doubt = Some(Doubt::UnreadableRule(scope)),
        }
    }
    rules.workflows.sort_by_key(|workflow| workflow.scope.clone());
    Ok(rules)
}

async fn pins(conn: &mut Conn, gateway: &str, place: &Place) -> Result<Vec<PinRow>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = p::table
            .filter(p::gateway_name.eq(gateway))
            .select(PinRow::as_select())
            .order((p::workspace, p::sandbox_name))
            .into_boxed();
        if let Some(workspace) = place.workspace() {
            query = query.filter(p::workspace.eq(workspace));
        }
        if let Some(sandbox) = place.sandbox() {
            query = query.filter(p::sandbox_name.eq(sandbox));
        }
        query.load(c).await
    })?)
}

/// Returns the rows of the wider scopes too.
async fn workflows(
    conn: &mut Conn,
    gateway: &str,
    place: &Place,
) -> Result<Vec<WorkflowRow>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = w::table
            .filter(w::gateway_name.eq(gateway))
            .select(WorkflowRow::as_select())
            .order(w::id)
            .into_boxed();
        if let Some(workspace) = place.workspace() {
            query = query.filter(w::workspace.is_null().or(w::workspace.eq(workspace)));
        }
        if let Some(sandbox) = place.sandbox() {
            query = query.filter(w::sandbox_name.is_null().or(w::sandbox_name.eq(sandbox)));
        }
        query.load(c).await
    })?)
}
