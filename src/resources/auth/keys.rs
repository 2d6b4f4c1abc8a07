//! The keys that session tokens are signed with: made once, sealed in the database, shared by replicas.

use uuid::Uuid;

use super::store;
use crate::clock::Clock;
use crate::db::Db;
use crate::error::{Error, Reason};
use crate::seal::{Aad, KEY_BYTES, MasterKeys, fill_random};

const PURPOSE: &str = "session";

fn aad(key_id: &str) -> Aad<'_> {
    Aad { table: "signing_keys", column: "sealed", row: key_id, destination: PURPOSE }
}

/// Key id and secret of each session key, the current one first; made where there is none.
///
/// # Errors
/// `Unavailable` where the stored ones don't open: the master key is not the one that they were sealed under.
pub async fn session_keys(
    db: &Db,
    master: &MasterKeys,
    clock: &Clock,
    new_id: Uuid,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let now = clock.now();
    let rows = db
        .transaction(async |conn| {
            let rows = store::keys(conn, PURPOSE).await?;
            if !rows.is_empty() {
                return Ok(rows);
            }
            let mut secret = [0; KEY_BYTES];
            fill_random(&mut secret)?;
            let key_id = new_id.to_string();
            let sealed = master.seal(&aad(&key_id), &secret)?;
            store::insert_key(conn, PURPOSE, &key_id, &sealed, now).await?;
            Ok(vec![(key_id, sealed)])
        })
        .await?;
    let open = |(key_id, sealed): (String, Vec<u8>)| {
        let opened = master.open(&aad(&key_id), &sealed).map_err(|_| {
            let why = "the master key is not the one that this database was sealed under";
            Error::unavailable(Reason::StorageUnavailable, why)
        })?;
        Ok((key_id, opened.to_vec()))
    };
    rows.into_iter().map(open).collect()
}
