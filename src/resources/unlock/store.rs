//! Approval workflows of exactly one scope.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::db::schema::approval_workflows as t;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Returns the id of the approval workflow whose scope is exactly this gateway, workspace or sandbox.
pub async fn workflow_of(
    conn: &mut Conn,
    gateway: &str,
    workspace: Option<&str>,
    sandbox: Option<&str>,
) -> Result<Option<i64>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = t::table.filter(t::gateway_name.eq(gateway)).select(t::id).into_boxed();
        query = match workspace {
            Some(workspace) => query.filter(t::workspace.eq(workspace)),
            None => query.filter(t::workspace.is_null()),
        };
        query = match sandbox {
            Some(sandbox) => query.filter(t::sandbox_name.eq(sandbox)),
            None => query.filter(t::sandbox_name.is_null()),
        };
        query.first(c).await.optional()
    })?)
}

/// Deletes an approval workflow. Returns whether it existed.
pub async fn delete_workflow(conn: &mut Conn, id: i64) -> Result<bool, Error> {
    let row = t::table.find(id);
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}
