//! Leases: of all replicas, only one runs a background job at a time.
//!
//! A lease is a row with an owner, an expiry, and a fence: a number that grows with each takeover. The expiry, on the
//! database's clock, decides when another replica can take the lease over. The fence decides who can write: a holder
//! that was suspended past its expiry still believes that it holds the lease, and [`check_held`] detects that it does
//! not.
//!
//! Invariants
//! - only an expired lease is taken over, even by its own owner. On SQLite all leases expire when the process starts,
//!   since no other process can use the file;
//! - the fence of a name never decreases: rows are never deleted, and a release only expires the lease;
//! - a worker calls [`check_held`] in every transaction in which it writes; until that transaction ends, no replica can
//!   take the lease over.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::leases;
use crate::db::{Conn, Db, on_conn};
use crate::error::{Error, ResourceKind};

/// An acquired lease. It may have been taken over since: see [`check_held`].
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    name: String,
    owner: String,
    fence: i64,
}

impl Lease {
    /// Returns the name of the job.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the replica that acquired it.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Returns the number of this takeover.
    #[must_use]
    pub fn fence(&self) -> i64 {
        self.fence
    }
}

/// The result of [`try_acquire`].
#[derive(Debug, PartialEq, Eq)]
pub enum Acquisition {
    /// The lease was free and is held now.
    Acquired(Lease),
    /// It is held, and expires after this time unless it is renewed.
    Held(Duration),
}

/// Acquires the lease for `ttl`. `None` if it has not expired.
pub async fn acquire(
    db: &Db,
    name: &str,
    owner: &str,
    ttl: Duration,
) -> Result<Option<Lease>, Error> {
    Ok(match try_acquire(db, name, owner, ttl).await? {
        Acquisition::Acquired(lease) => Some(lease),
        Acquisition::Held(_) => None,
    })
}

/// Acquires the lease for `ttl`, or returns when it expires.
pub async fn try_acquire(
    db: &Db,
    name: &str,
    owner: &str,
    ttl: Duration,
) -> Result<Acquisition, Error> {
    db.transaction(async |conn| {
        let now = db.now(conn).await?;
        Ok(match acquire_in(conn, name, owner, now, now.plus(ttl)).await? {
            Some(lease) => Acquisition::Acquired(lease),
            None => Acquisition::Held(expiry(conn, name).await?.since(now)),
        })
    })
    .await
}

/// Acquires the lease until a time, in a transaction. `None` if it has not expired.
pub(super) async fn acquire_in(
    conn: &mut Conn,
    name: &str,
    owner: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Lease>, Error> {
    let fence = match take_over(conn, name, owner, now, until).await? {
        Some(fence) => Some(fence),
        None => insert(conn, name, owner, until).await?,
    };
    Ok(fence.map(|fence| Lease { name: name.to_owned(), owner: owner.to_owned(), fence }))
}

async fn expiry(conn: &mut Conn, name: &str) -> Result<Timestamp, Error> {
    let query = leases::table.find(name).select(leases::expires_at);
    Ok(on_conn!(conn, |c| query.first(c).await)?)
}

/// Expires every lease. Only for a database that no other process uses: their owners are dead.
pub async fn expire_all(conn: &mut Conn, now: Timestamp) -> Result<usize, Error> {
    let held = leases::table.filter(leases::expires_at.gt(now));
    Ok(on_conn!(conn, |c| diesel::update(held).set(leases::expires_at.eq(now)).execute(c).await)?)
}

/// A single statement decides, so the second of two replicas no longer finds an expired row.
async fn take_over(
    conn: &mut Conn,
    name: &str,
    owner: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<i64>, Error> {
    let expired = leases::table.filter(leases::name.eq(name)).filter(leases::expires_at.le(now));
    let to = (
        leases::owner.eq(owner),
        leases::fence.eq(leases::fence + 1),
        leases::expires_at.eq(until),
    );
    let update = diesel::update(expired).set(to).returning(leases::fence);
    Ok(on_conn!(conn, |c| cached(update).get_result(c).await.optional())?)
}

const FIRST_FENCE: i64 = 1;

async fn insert(
    conn: &mut Conn,
    name: &str,
    owner: &str,
    until: Timestamp,
) -> Result<Option<i64>, Error> {
    let values = (
        leases::name.eq(name),
        leases::owner.eq(owner),
        leases::fence.eq(FIRST_FENCE),
        leases::expires_at.eq(until),
    );
    let insert = diesel::insert_into(leases::table).values(values).on_conflict_do_nothing();
    let inserted = on_conn!(conn, |c| cached(insert).execute(c).await)?;
    Ok((inserted == 1).then_some(FIRST_FENCE))
}

/// Extends the lease.
///
/// # Errors
/// `Conflict` if another replica has taken it over.
pub async fn renew(db: &Db, lease: &Lease, ttl: Duration) -> Result<(), Error> {
    let mut conn = db.write().await?;
    let until = db.now(&mut conn).await?.plus(ttl);
    set_expiry(&mut conn, lease, until).await
}

/// Releases the lease, so that another replica can acquire it at once.
///
/// # Errors
/// `Conflict` if another replica has taken it over; no action is needed then.
pub async fn release(db: &Db, lease: Lease) -> Result<(), Error> {
    let mut conn = db.write().await?;
    let now = db.now(&mut conn).await?;
    set_expiry(&mut conn, &lease, now).await
}

async fn set_expiry(conn: &mut Conn, lease: &Lease, until: Timestamp) -> Result<(), Error> {
    let of_owner = leases::table
        .filter(leases::name.eq(&lease.name))
        .filter(leases::owner.eq(&lease.owner))
        .filter(leases::fence.eq(lease.fence));
    let update = diesel::update(of_owner).set(leases::expires_at.eq(until));
    let held = on_conn!(conn, |c| cached(update).execute(c).await)?;
    if held == 1 { Ok(()) } else { Err(lease_lost(lease)) }
}

/// Checks, inside the transaction in which a worker writes, that no replica has taken the lease over, and prevents a
/// takeover until the transaction ends.
///
/// An expiry in the past does not matter here: without a takeover, no other replica has written.
///
/// # Errors
/// `Conflict` if it was taken over; returned with `?`, it rolls the worker's transaction back.
pub async fn check_held(conn: &mut Conn, lease: &Lease) -> Result<(), Error> {
    let query = leases::table.find(&lease.name).select((leases::owner, leases::fence));
    let found: Option<(String, i64)> = match conn {
        Conn::Pg(c) => query.for_update().first(c).await.optional()?,
        // The transaction already holds the database's only write lock.
        Conn::Sqlite(c) => query.first(c).await.optional()?,
    };
    match found {
        Some((owner, fence)) if owner == lease.owner && fence == lease.fence => Ok(()),
        Some(_) | None => Err(lease_lost(lease)),
    }
}

fn lease_lost(lease: &Lease) -> Error {
    Error::conflict(ResourceKind::Lease, &lease.name)
}
