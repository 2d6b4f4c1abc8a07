//! Statements that are prepared once for each connection.
//!
//! diesel keeps a prepared statement only if the type of the query alone determines its text. It prepares every UPDATE,
//! every upsert and every text of SQL again at each execution, which costs a round trip to PostgreSQL and the work of
//! the parser. [`cached`] keeps such a statement by its text.
//!
//! Invariant: a cached query has few texts, since each text is kept as long as its connection. Lists of values are
//! bound as one array, never as one parameter for each value.

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::BigInt;
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl, SqliteConnection};

/// A query whose prepared statement is kept: see [`cached`].
#[derive(Debug, Clone, Copy)]
pub struct Cached<Q>(Q);

/// Keeps the prepared statement of a query, by its text. Only for queries with few texts.
#[must_use]
pub fn cached<Q>(query: Q) -> Cached<Q> {
    Cached(query)
}

impl<DB: Backend, Q: QueryFragment<DB>> QueryFragment<DB> for Cached<Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    fn is_safe_to_cache_prepared(&self, _backend: &DB) -> QueryResult<bool> {
        Ok(true)
    }
}

// Without a static id, the statement is found by its text.
impl<Q> QueryId for Cached<Q> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Cached<Q> {
    type SqlType = Q::SqlType;
}

impl<Q, C> RunQueryDsl<C> for Cached<Q> {}

/// A statement that returns no rows, as a query: diesel requires a type for the rows of a query.
struct WithoutRows<Q>(Q);

impl<Q: QueryFragment<Sqlite>> QueryFragment<Sqlite> for WithoutRows<Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }
}

impl<Q> Query for WithoutRows<Q> {
    type SqlType = BigInt;
}

/// Executes a statement that returns no rows on a connection of SQLite itself, and keeps it prepared, by its text. Only for
/// statements with few texts.
///
/// diesel's `execute` passes a reference to the statement, which does not say that the statement is [`Cached`]: it would be
/// prepared again. Queries are passed by value.
pub(crate) fn execute_cached<Q>(statement: Q, conn: &mut SqliteConnection) -> QueryResult<()>
where
    Q: QueryFragment<Sqlite>,
{
    RunQueryDsl::load::<i64>(cached(WithoutRows(statement)), conn).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use diesel::connection::{Instrumentation, InstrumentationEvent, SimpleConnection};
    use diesel::pg::Pg;
    use diesel::prelude::*;
    use parking_lot::Mutex;

    use super::*;
    use crate::db::schema::event_head;

    fn is_kept<DB: Backend + Default>(query: &impl QueryFragment<DB>) -> bool {
        query.is_safe_to_cache_prepared(&DB::default()).unwrap()
    }

    /// Records the statements that are prepared to be kept.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Instrumentation for Kept {
        fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
            if let InstrumentationEvent::CacheQuery { sql, .. } = event {
                self.0.lock().push(sql.to_owned());
            }
        }
    }

    #[test]
    fn a_statement_on_sqlite_itself_is_prepared_once() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute(
            "CREATE TABLE event_head (sequence BIGINT); INSERT INTO event_head VALUES (0)",
        )
        .unwrap();
        let kept = Kept::default();
        conn.set_instrumentation(kept.clone());
        for sequence in [3, 4] {
            let update = diesel::update(event_head::table).set(event_head::sequence.eq(sequence));
            execute_cached(update, &mut conn).unwrap();
            let stored: i64 =
                event_head::table.select(event_head::sequence).first(&mut conn).unwrap();
            assert_eq!(stored, sequence);
        }
        let updates = kept.0.lock().iter().filter(|sql| sql.starts_with("UPDATE")).count();
        assert_eq!(updates, 1);
    }

    #[test]
    fn an_update_is_kept_only_if_it_is_cached() {
        let update = || diesel::update(event_head::table).set(event_head::sequence.eq(1));
        assert!(!is_kept::<Pg>(&update()) && !is_kept::<Sqlite>(&update()));
        assert!(is_kept::<Pg>(&cached(update())) && is_kept::<Sqlite>(&cached(update())));
    }
}
