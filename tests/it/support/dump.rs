//! Dumps a table as text, to search it for content that it must not have.

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use shoreguard::db::{Db, Engine};
use shoreguard::on_conn;

#[derive(diesel::QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Returns every row of a table with all columns, one row per line.
pub(crate) async fn table(db: &Db, table: &str) -> String {
    let sql = match db.engine() {
        Engine::Postgres => format!("SELECT row_to_json(t)::text AS line FROM {table} t"),
        Engine::Sqlite => {
            let columns = format!(
                "SELECT group_concat('quote(\"' || name || '\")', '||'' ''||') AS line \
                 FROM pragma_table_info('{table}')"
            );
            let quoted = lines(db, &columns).await;
            format!("SELECT {quoted} AS line FROM {table}")
        }
    };
    lines(db, &sql).await
}

async fn lines(db: &Db, sql: &str) -> String {
    let mut conn = db.read().await.unwrap();
    let rows: Vec<Line> = on_conn!(&mut conn, |c| diesel::sql_query(sql).load(c).await).unwrap();
    let mut lines: Vec<String> = rows.into_iter().map(|row| row.line).collect();
    // PostgreSQL returns rows in physical order, which changes with updates.
    lines.sort();
    lines.join("\n")
}
