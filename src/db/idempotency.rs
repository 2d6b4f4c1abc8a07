//! Rows of `idempotency_keys`. `rpc::idempotency` documents their meaning.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::schema::idempotency_keys;
use super::{Conn, on_conn};
use crate::clock::Timestamp;
use crate::error::Error;

/// A key to claim.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = idempotency_keys)]
pub struct NewIdempotencyKey<'a> {
    /// The caller.
    pub principal: &'a str,
    /// Path of the method.
    pub method: &'a str,
    /// Id that the caller gave to the call.
    pub request_id: &'a str,
    /// Keyed digest of the request.
    pub digest: &'a [u8],
    /// `running`, until the response is stored.
    pub state: &'static str,
    /// Whether the response contains a secret.
    pub secret: bool,
    /// Version of the credential of the call.
    pub credential: Option<String>,
    /// When it was claimed.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// A stored key.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = idempotency_keys)]
pub struct IdempotencyKey {
    /// Id of the row.
    pub id: i64,
    /// Keyed digest of the request.
    pub digest: Vec<u8>,
    /// The sealed response, once it is known.
    pub response: Option<Vec<u8>>,
    /// Whether the response contains a secret.
    pub secret: bool,
    /// Version of the credential of the first call.
    pub credential: Option<String>,
}

/// Claims a key. Returns the row and whether it is new. An expired key of the same name is deleted first.
pub async fn claim(
    conn: &mut Conn,
    new: &NewIdempotencyKey<'_>,
) -> Result<(IdempotencyKey, bool), Error> {
    let same = || {
        idempotency_keys::principal
            .eq(new.principal)
            .and(idempotency_keys::method.eq(new.method))
            .and(idempotency_keys::request_id.eq(new.request_id))
    };
    on_conn!(conn, |c| diesel::delete(
        idempotency_keys::table
            .filter(same())
            .filter(idempotency_keys::expires_at.le(new.created_at))
    )
    .execute(c)
    .await)?;
    let inserted = on_conn!(conn, |c| diesel::insert_into(idempotency_keys::table)
        .values(new)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    let row = on_conn!(conn, |c| idempotency_keys::table
        .filter(same())
        .select(IdempotencyKey::as_select())
        .first(c)
        .await)?;
    Ok((row, inserted == 1))
}

/// Stores the response of a claimed key.
pub async fn finish(
    conn: &mut Conn,
    id: i64,
    sealed: &[u8],
    until: Timestamp,
) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::update(idempotency_keys::table.find(id))
        .set((
            idempotency_keys::state.eq("done"),
            idempotency_keys::response.eq(sealed),
            idempotency_keys::expires_at.eq(until),
        ))
        .execute(c)
        .await)?;
    Ok(())
}

/// Deletes a claimed key, since the call did nothing.
pub async fn release(conn: &mut Conn, id: i64) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::delete(idempotency_keys::table.find(id)).execute(c).await)?;
    Ok(())
}

/// Deletes up to `limit` expired keys.
pub async fn delete_expired(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<usize, Error> {
    let old: Vec<i64> = on_conn!(conn, |c| idempotency_keys::table
        .filter(idempotency_keys::expires_at.le(now))
        .select(idempotency_keys::id)
        .order(idempotency_keys::expires_at)
        .limit(limit)
        .load(c)
        .await)?;
    let gone = on_conn!(conn, |c| diesel::delete(
        idempotency_keys::table.filter(idempotency_keys::id.eq_any(&old))
    )
    .execute(c)
    .await)?;
    Ok(gone)
}
