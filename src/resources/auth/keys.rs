//! Keys that sign Shoreguard's tokens: generated once, sealed in the database, shared by all replicas.

use uuid::Uuid;

use super::store;
use crate::access::authn::token::TokenKind;
use crate::clock::{Clock, Timestamp};
use crate::db::Db;
use crate::error::{Error, Reason};
use crate::seal::{Aad, KEY_BYTES, MasterKeys, fill_random};

fn aad<'a>(purpose: &'a str, key_id: &'a str) -> Aad<'a> {
    Aad { table: "signing_keys", column: "sealed", row: key_id, destination: purpose }
}

/// Returns kind, key id and secret of each key, for each kind the current key first. Generates missing keys.
///
/// # Errors
/// `Unavailable` if a stored key cannot be unsealed because it was sealed with another master key.
pub async fn token_keys(
    db: &Db,
    master: &MasterKeys,
    clock: &Clock,
    new_id: fn() -> Uuid,
) -> Result<Vec<(TokenKind, String, Vec<u8>)>, Error> {
    let mut keys = Vec::new();
    for kind in TokenKind::ALL {
        let of_kind = load_keys(db, master, clock, kind.purpose(), new_id()).await?;
        keys.extend(of_kind.into_iter().map(|(id, secret)| (kind, id, secret)));
    }
    Ok(keys)
}

/// Returns whether a key is stored, so that the database was sealed under a master key.
///
/// # Errors
/// Those of the database.
pub async fn exist(db: &Db) -> Result<bool, Error> {
    store::has_keys(&mut db.read().await?).await
}

async fn load_keys(
    db: &Db,
    master: &MasterKeys,
    clock: &Clock,
    purpose: &'static str,
    new_id: Uuid,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut rows = store::keys(&mut db.read().await?, purpose).await?;
    if rows.is_empty() {
        rows = generate_key(db, master, clock.now(), purpose, new_id).await?;
    }
    let open = |(key_id, sealed): (String, Vec<u8>)| {
        let opened = master.open(&aad(purpose, &key_id), &sealed).map_err(|_| {
            let why = "the database was sealed under another master key";
            Error::unavailable(Reason::StorageUnavailable, why)
        })?;
        Ok((key_id, opened.to_vec()))
    };
    rows.into_iter().map(open).collect()
}

/// Generates the first key of a purpose, unless another replica does so meanwhile. Returns the stored keys.
async fn generate_key(
    db: &Db,
    master: &MasterKeys,
    now: Timestamp,
    purpose: &'static str,
    new_id: Uuid,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    db.transaction(async |conn| {
        store::lock_keys(conn).await?;
        let rows = store::keys(conn, purpose).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
        let mut secret = [0; KEY_BYTES];
        fill_random(&mut secret)?;
        let key_id = new_id.to_string();
        let sealed = master.seal(&aad(purpose, &key_id), &secret)?;
        store::insert_key(conn, purpose, &key_id, &sealed, now).await?;
        Ok(vec![(key_id, sealed)])
    })
    .await
}
