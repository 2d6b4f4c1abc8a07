//! Rows of `idempotency_keys`. `rpc::idempotency` documents their meaning.

use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

use super::cached::cached;
use super::schema::idempotency_keys;
use super::{Conn, Engine, error, on_conn};
use crate::clock::Timestamp;
use crate::error::{Error, ResourceKind};

/// A key to claim.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = idempotency_keys, treat_none_as_default_value = false)]
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

/// Times that a key is claimed: between the two statements of [`claim`], the call that holds it can release it.
const ATTEMPTS: u32 = 2;

/// Claims a key, or a key that has expired. Returns the row and whether it was claimed. One statement decides, so that
/// no transaction is needed.
///
/// # Errors
/// In doubt if the connection was lost while the key was claimed: the key may be claimed. `Conflict` if the key was
/// claimed and released repeatedly in the meantime.
pub async fn claim(
    conn: &mut Conn,
    new: &NewIdempotencyKey<'_>,
) -> Result<(IdempotencyKey, bool), Error> {
    for _ in 0..ATTEMPTS {
        if let Some(row) = try_claim(conn, new).await? {
            return Ok((row, true));
        }
        if let Some(row) = find(conn, new).await? {
            return Ok((row, false));
        }
    }
    Err(Error::conflict(ResourceKind::Request, new.request_id))
}

/// Returns `None` if the key is claimed already.
async fn try_claim(
    conn: &mut Conn,
    new: &NewIdempotencyKey<'_>,
) -> Result<Option<IdempotencyKey>, Error> {
    use idempotency_keys as t;
    let claimed: QueryResult<Option<IdempotencyKey>> = on_conn!(&mut *conn, |c| {
        let insert = diesel::insert_into(t::table).values(new);
        let upsert =
            insert.on_conflict((t::principal, t::method, t::request_id)).do_update().set((
                t::digest.eq(excluded(t::digest)),
                t::state.eq(excluded(t::state)),
                t::response.eq(None::<Vec<u8>>),
                t::secret.eq(excluded(t::secret)),
                t::credential.eq(excluded(t::credential)),
                t::created_at.eq(excluded(t::created_at)),
                t::expires_at.eq(excluded(t::expires_at)),
            ));
        let expired = t::expires_at.le(excluded(t::created_at));
        let upsert = diesel::query_dsl::methods::FilterDsl::filter(upsert, expired);
        cached(upsert.returning(IdempotencyKey::as_returning())).get_result(c).await.optional()
    });
    match conn.engine() {
        Engine::Sqlite => Ok(claimed?),
        Engine::Postgres => claimed.map_err(error::of_commit),
    }
}

async fn find(
    conn: &mut Conn,
    new: &NewIdempotencyKey<'_>,
) -> Result<Option<IdempotencyKey>, Error> {
    use idempotency_keys as t;
    let same = t::principal
        .eq(new.principal)
        .and(t::method.eq(new.method))
        .and(t::request_id.eq(new.request_id));
    Ok(on_conn!(conn, |c| t::table
        .filter(same)
        .select(IdempotencyKey::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Stores the response of a claimed key, unless the claim has expired and the key was claimed again.
pub async fn finish(
    conn: &mut Conn,
    id: i64,
    claimed_at: Timestamp,
    sealed: &[u8],
    until: Timestamp,
) -> Result<(), Error> {
    use idempotency_keys as t;
    let row = t::table.filter(t::id.eq(id).and(t::created_at.eq(claimed_at)));
    let set = (t::state.eq("done"), t::response.eq(sealed), t::expires_at.eq(until));
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Deletes a claimed key, since the call did nothing, unless the claim has expired and the key was claimed again.
pub async fn release(conn: &mut Conn, id: i64, claimed_at: Timestamp) -> Result<(), Error> {
    use idempotency_keys as t;
    let row = t::table.filter(t::id.eq(id).and(t::created_at.eq(claimed_at)));
    on_conn!(conn, |c| diesel::delete(row).execute(c).await)?;
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
