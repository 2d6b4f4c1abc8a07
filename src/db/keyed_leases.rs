//! Leases of many keys of one kind: which are free, their acquisition, and the renewal and release of all that an owner
//! holds.
//!
//! Invariants
//! - renewal and release name the leases, since a released lease keeps the name of its last owner;
//! - a transaction acquires leases in the order of their names, so that two of them do not wait for each other.

use std::collections::HashMap;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::leases::{self, Lease};
use super::schema::{leases as t, replicas};
use super::{Conn, Db, on_conn};
use crate::clock::Timestamp;
use crate::error::Error;

/// Acquires those of these leases that are free, for `ttl`, in one transaction.
pub async fn acquire_all(
    db: &Db,
    owner: &str,
    mut names: Vec<String>,
    ttl: Duration,
) -> Result<Vec<Lease>, Error> {
    names.sort_unstable();
    db.transaction(async |conn| {
        let now = db.now(conn).await?;
        let mut acquired = Vec::with_capacity(names.len());
        for name in &names {
            acquired.extend(leases::acquire_in(conn, name, owner, now, now.plus(ttl)).await?);
        }
        Ok(acquired)
    })
    .await
}

/// Extends leases of one owner for `ttl`, by one statement. Returns those that it has lost.
pub async fn renew_all<'a>(
    db: &Db,
    owner: &str,
    held: impl IntoIterator<Item = &'a Lease>,
    ttl: Duration,
) -> Result<Vec<String>, Error> {
    let fences: HashMap<&str, i64> =
        held.into_iter().map(|lease| (lease.name(), lease.fence())).collect();
    if fences.is_empty() {
        return Ok(Vec::new());
    }
    let mut conn = db.write().await?;
    let until = db.now(&mut conn).await?.plus(ttl);
    let names: Vec<&str> = fences.keys().copied().collect();
    let rows = t::table.filter(t::owner.eq(owner).and(t::name.eq_any(&names)));
    let set = t::expires_at.eq(until);
    let renewed: Vec<(String, i64)> = on_conn!(&mut conn, |c| diesel::update(rows)
        .set(set)
        .returning((t::name, t::fence))
        .get_results(c)
        .await)?;
    let renewed: HashMap<String, i64> = renewed.into_iter().collect();
    let is_lost = |(name, fence): &(&str, i64)| renewed.get(*name) != Some(fence);
    Ok(fences.into_iter().filter(is_lost).map(|(name, _)| name.to_owned()).collect())
}

/// Releases leases of one owner, so that other replicas can acquire them at once. Those that it has lost stay as they
/// are.
pub async fn release_all(db: &Db, owner: &str, names: &[String]) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let mut conn = db.write().await?;
    let now = db.now(&mut conn).await?;
    let rows = t::table.filter(t::owner.eq(owner).and(t::name.eq_any(names)));
    let set = t::expires_at.eq(now);
    on_conn!(&mut conn, |c| diesel::update(rows).set(set).execute(c).await)?;
    Ok(())
}

/// Returns the leases of these names that have not expired, with the time until they do unless they are renewed.
pub async fn unexpired(
    db: &Db,
    conn: &mut Conn,
    names: &[String],
) -> Result<HashMap<String, Duration>, Error> {
    let now = db.now(conn).await?;
    let query = t::table
        .filter(t::name.eq_any(names).and(t::expires_at.gt(now)))
        .select((t::name, t::expires_at));
    let rows: Vec<(String, Timestamp)> = on_conn!(conn, |c| query.load(c).await)?;
    Ok(rows.into_iter().map(|(name, expires_at)| (name, expires_at.since(now))).collect())
}

/// Returns the number of replicas with a heartbeat within a time.
pub async fn live_replicas(db: &Db, conn: &mut Conn, within: Duration) -> Result<usize, Error> {
    let since = db.now(conn).await?.minus(within);
    let query = replicas::table.filter(replicas::heartbeat_at.gt(since)).count();
    let count: i64 = on_conn!(conn, |c| query.get_result(c).await)?;
    Ok(usize::try_from(count).unwrap_or_default())
}
