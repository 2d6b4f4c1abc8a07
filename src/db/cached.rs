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
use diesel::{QueryResult, RunQueryDsl};

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

#[cfg(test)]
mod tests {
    use diesel::pg::Pg;
    use diesel::prelude::*;
    use diesel::sqlite::Sqlite;

    use super::*;
    use crate::db::schema::event_head;

    fn is_kept<DB: Backend + Default>(query: &impl QueryFragment<DB>) -> bool {
        query.is_safe_to_cache_prepared(&DB::default()).unwrap()
    }

    #[test]
    fn an_update_is_kept_only_if_it_is_cached() {
        let update = || diesel::update(event_head::table).set(event_head::sequence.eq(1));
        assert!(!is_kept::<Pg>(&update()) && !is_kept::<Sqlite>(&update()));
        assert!(is_kept::<Pg>(&cached(update())) && is_kept::<Sqlite>(&cached(update())));
    }
}
