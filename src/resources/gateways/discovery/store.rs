//! Rows of discovery runs.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::DomainResult;
use crate::clock::Timestamp;
use crate::db::schema::gateway_discovery_runs as t;
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// A run of discovery.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = t)]
pub struct DiscoveryRun {
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Actor that started it.
    pub actor: String,
    /// Number of candidates.
    pub found: i64,
    /// Candidates that were registered.
    pub registered: i64,
    /// Candidates that were not registered but not rejected either.
    pub skipped: i64,
    /// Candidates that were rejected.
    pub failed: i64,
    /// Results of the domains, as JSON.
    pub domains_json: String,
}

impl DiscoveryRun {
    /// Returns the results of the domains; empty if the stored JSON is invalid.
    #[must_use]
    pub fn domain_results(&self) -> Vec<DomainResult> {
        serde_json::from_str(&self.domains_json).unwrap_or_default()
    }
}

/// Returns the newest run.
pub async fn last(conn: &mut Conn) -> Result<Option<DiscoveryRun>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .select(DiscoveryRun::as_select())
        .order(t::id.desc())
        .first(c)
        .await
        .optional())?)
}

/// Adds a run, and deletes all but the newest `most`.
pub async fn add(conn: &mut Conn, run: &DiscoveryRun, most: i64) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::insert_into(t::table).values(run).execute(c).await)?;
    let beyond: Option<i64> = on_conn!(conn, |c| t::table
        .select(t::id)
        .order(t::id.desc())
        .offset(most)
        .first(c)
        .await
        .optional())?;
    if let Some(id) = beyond {
        on_conn!(conn, |c| diesel::delete(t::table.filter(t::id.le(id))).execute(c).await)?;
    }
    Ok(())
}
