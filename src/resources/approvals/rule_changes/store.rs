//! Rows of rules that a round changes: each only in the version that was reviewed.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::schema::{approval_workflows as w, policy_pins as p};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::RuleColumns;

/// Replaces the rule of a workflow. Returns whether it had the version.
pub async fn replace_workflow(
    conn: &mut Conn,
    id: i64,
    version: i64,
    rule: &RuleColumns,
    at: Timestamp,
) -> Result<bool, Error> {
    let row = w::table.filter(w::id.eq(id).and(w::version.eq(version)));
    let set = (
        w::required_approvals.eq(rule.required_approvals),
        w::required_roles_json.eq(&rule.required_roles_json),
        w::distinct_actors.eq(rule.distinct_actors),
        w::escalation_timeout_minutes.eq(rule.escalation_timeout_minutes),
        w::rule_json.eq(&rule.rule_json),
        w::updated_at.eq(at),
        w::version.eq(version + 1),
    );
    Ok(on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)? == 1)
}

/// Deletes a workflow. Returns whether it had the version.
pub async fn delete_workflow(conn: &mut Conn, id: i64, version: i64) -> Result<bool, Error> {
    let row = w::table.filter(w::id.eq(id).and(w::version.eq(version)));
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}

/// Shortens a pin. Returns whether it had the version.
pub async fn shorten_pin(
    conn: &mut Conn,
    id: i64,
    version: i64,
    ends_at: Timestamp,
) -> Result<bool, Error> {
    let row = p::table.filter(p::id.eq(id).and(p::version.eq(version)));
    let set = (p::expires_at.eq(ends_at), p::version.eq(version + 1));
    Ok(on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)? == 1)
}

/// Removes a pin. Returns whether it had the version.
pub async fn delete_pin(conn: &mut Conn, id: i64, version: i64) -> Result<bool, Error> {
    let row = p::table.filter(p::id.eq(id).and(p::version.eq(version)));
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}
