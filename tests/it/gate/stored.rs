//! Rows of the database that tests of the gate write and read directly.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::db::on_conn;
use shoreguard::db::schema::write_intents as t;

use crate::support::server::TestServer;

/// Stores a workflow of one approval for a sandbox, a workspace, or the whole gateway.
pub(super) async fn add_workflow(
    sg: &TestServer,
    gateway: &str,
    workspace: Option<&str>,
    sandbox: Option<&str>,
) {
    let text = |name: Option<&str>| name.map_or("NULL".to_owned(), |name| format!("'{name}'"));
    let (at, workspace, sandbox) = ("'2020-01-01 00:00:00.000000'", text(workspace), text(sandbox));
    let sql = format!(
        "INSERT INTO approval_workflows (gateway_name, workspace, sandbox_name, required_approvals, \
         required_roles_json, distinct_actors, created_by, created_at, updated_at) VALUES \
         ('{gateway}', {workspace}, {sandbox}, 1, '[]', TRUE, 'a test', {at}, {at})"
    );
    execute(sg, &sql).await;
}

/// Stores a workflow of one approval for the gateways that a selector matches, as a newer version could.
pub(super) async fn add_selector_workflow(sg: &TestServer) {
    let at = "'2020-01-01 00:00:00.000000'";
    let sql = format!(
        "INSERT INTO approval_workflows (selector, required_approvals, created_by, created_at, updated_at) \
         VALUES ('access/env=prod', 1, 'a test', {at}, {at})"
    );
    execute(sg, &sql).await;
}

/// Executes a statement.
pub(super) async fn execute(sg: &TestServer, sql: &str) {
    let mut conn = sg.app.db.write().await.unwrap();
    on_conn!(&mut conn, |c| diesel::sql_query(sql).execute(c).await).unwrap();
}

/// Returns the number of stored write intents.
pub(super) async fn count_intents(sg: &TestServer) -> i64 {
    let mut conn = sg.app.db.read().await.unwrap();
    on_conn!(&mut conn, |c| t::table.count().get_result(c).await).unwrap()
}
