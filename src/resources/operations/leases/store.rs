//! Lease columns of the operations' rows.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::schema::operations;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::resources::operations::state::{IS_ACTIVE, Status};
use crate::resources::operations::{Operation, OperationKind};

/// Extends the leases of these operations and returns id and fence of those that `owner` still holds. Callers do not
/// see this change, so the version stays.
pub async fn renew(
    conn: &mut Conn,
    owner: &str,
    ids: &[String],
    until: Timestamp,
) -> Result<Vec<(String, i64)>, Error> {
    use operations as t;
    let rows = t::table.filter(t::owner.eq(owner)).filter(t::id.eq_any(ids));
    Ok(on_conn!(conn, |c| diesel::update(rows)
        .set(t::lease_expires_at.eq(until))
        .returning((t::id, t::fence))
        .get_results(c)
        .await)?)
}

/// Returns ids and fences of the operations of `owner` that are being canceled.
pub async fn cancelling(conn: &mut Conn, owner: &str) -> Result<Vec<(String, i64)>, Error> {
    use operations as t;
    Ok(on_conn!(conn, |c| t::table
        .filter(t::owner.eq(owner))
        .filter(t::status.eq(Status::Cancelling))
        .select((t::id, t::fence))
        .load(c)
        .await)?)
}

/// Returns active operations whose lease has expired, the oldest expiry first.
pub async fn expired(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<Vec<Operation>, Error> {
    use operations as t;
    Ok(on_conn!(conn, |c| t::table
        .filter(t::lease_expires_at.is_not_null())
        .filter(t::lease_expires_at.le(now))
        .order(t::lease_expires_at)
        .select(Operation::as_select())
        .limit(limit)
        .load(c)
        .await)?)
}

/// Takes over an operation whose lease has expired. Returns `None` if another replica took it over or renewed the lease
/// since it was read.
pub async fn take_over(
    conn: &mut Conn,
    found: &Operation,
    owner: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Operation>, Error> {
    use operations as t;
    let row = t::table
        .filter(t::id.eq(&found.id))
        .filter(t::fence.eq(found.fence))
        .filter(t::lease_expires_at.le(now));
    let set = (t::owner.eq(owner), t::fence.eq(found.fence + 1), t::lease_expires_at.eq(until));
    Ok(on_conn!(conn, |c| diesel::update(row)
        .set(set)
        .returning(Operation::as_returning())
        .get_result(c)
        .await
        .optional())?)
}

/// Releases a lease, so that another replica can take over at once. Returns whether it was held.
pub async fn release(conn: &mut Conn, id: &str, fence: i64, now: Timestamp) -> Result<bool, Error> {
    use operations as t;
    let row = t::table
        .filter(t::id.eq(id))
        .filter(t::fence.eq(fence))
        .filter(t::lease_expires_at.is_not_null());
    let released =
        on_conn!(conn, |c| diesel::update(row).set(t::lease_expires_at.eq(now)).execute(c).await)?;
    Ok(released == 1)
}

/// Expires the lease of every active operation. Only for a database that no other process uses: their owners are dead.
pub async fn expire_all(conn: &mut Conn, now: Timestamp) -> Result<usize, Error> {
    use operations as t;
    let held = t::table.filter(t::lease_expires_at.gt(now));
    Ok(on_conn!(conn, |c| diesel::update(held).set(t::lease_expires_at.eq(now)).execute(c).await)?)
}

/// Returns those of the given keys that an active operation of a kind has.
pub async fn active_keys(
    conn: &mut Conn,
    kind: OperationKind,
    keys: &[String],
) -> Result<Vec<String>, Error> {
    use operations as t;
    Ok(on_conn!(conn, |c| t::table
        .filter(t::resource_type.eq(kind))
        .filter(t::resource_key.eq_any(keys))
        .filter(diesel::dsl::sql::<diesel::sql_types::Bool>(IS_ACTIVE))
        .select(t::resource_key)
        .load(c)
        .await)?)
}
