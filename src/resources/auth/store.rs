//! Rows of signing keys and of the setup token.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::schema::{setup_tokens, signing_keys};
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Advisory lock on PostgreSQL that serializes replicas starting at the same time, so that only one of them generates
/// the first key.
const KEYS_LOCK: i64 = 0x5348_4f52_454b_4559;

/// Blocks other callers that generate keys until the end of the transaction.
pub async fn lock_keys(conn: &mut Conn) -> Result<(), Error> {
    conn.advisory_lock(KEYS_LOCK).await
}

/// Returns key id and sealed secret of each key of a purpose that is not retired, newest first.
pub async fn keys(conn: &mut Conn, purpose: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let rows = on_conn!(conn, |c| signing_keys::table
        .filter(signing_keys::purpose.eq(purpose).and(signing_keys::retired_at.is_null()))
        .select((signing_keys::key_id, signing_keys::sealed))
        .order((signing_keys::created_at.desc(), signing_keys::id.desc()))
        .load(c)
        .await)?;
    Ok(rows)
}

/// Returns whether a key of any purpose is stored, also a retired one.
pub async fn has_keys(conn: &mut Conn) -> Result<bool, Error> {
    let keys = signing_keys::table.select(signing_keys::id);
    Ok(on_conn!(conn, |c| diesel::select(diesel::dsl::exists(keys)).get_result(c).await)?)
}

/// Stores a key.
pub async fn insert_key(
    conn: &mut Conn,
    purpose: &str,
    key_id: &str,
    sealed: &[u8],
    at: Timestamp,
) -> Result<(), Error> {
    let row = (
        signing_keys::purpose.eq(purpose),
        signing_keys::key_id.eq(key_id),
        signing_keys::sealed.eq(sealed),
        signing_keys::created_at.eq(at),
    );
    on_conn!(conn, |c| diesel::insert_into(signing_keys::table).values(row).execute(c).await)?;
    Ok(())
}

/// Returns the SHA-256 of the setup token, in hexadecimal digits; `None` if there is no token.
pub async fn setup_token_hash(conn: &mut Conn) -> Result<Option<String>, Error> {
    let hash = on_conn!(conn, |c| setup_tokens::table
        .select(setup_tokens::token_hash)
        .first(c)
        .await
        .optional())?;
    Ok(hash)
}

/// Inserts or replaces the setup token.
pub async fn put_setup_token(conn: &mut Conn, hash: &str, at: Timestamp) -> Result<(), Error> {
    let row = (
        setup_tokens::id.eq(1_i64),
        setup_tokens::token_hash.eq(hash),
        setup_tokens::created_at.eq(at),
    );
    on_conn!(conn, |c| diesel::insert_into(setup_tokens::table)
        .values(row)
        .on_conflict(setup_tokens::id)
        .do_update()
        .set((setup_tokens::token_hash.eq(hash), setup_tokens::created_at.eq(at)))
        .execute(c)
        .await)?;
    Ok(())
}

/// Deletes the setup token, and returns whether it existed. Only one call can succeed.
pub async fn take_setup_token(conn: &mut Conn, hash: &str) -> Result<bool, Error> {
    let gone = on_conn!(conn, |c| diesel::delete(
        setup_tokens::table.filter(setup_tokens::token_hash.eq(hash))
    )
    .execute(c)
    .await)?;
    Ok(gone == 1)
}
