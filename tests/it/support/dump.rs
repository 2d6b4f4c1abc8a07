//! A table as text, for whoever looks for what must not be in it.

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use shoreguard::db::{Db, Engine};
use shoreguard::on_conn;

#[derive(diesel::QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Every row of a table, a line each, with all its columns.
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
    // PostgreSQL gives rows in the order in which they lie, which an update changes.
    lines.sort();
    lines.join("\n")
}
