//! Device codes and wrong tries, as rows.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::domain::{Pending, State};
use crate::clock::Timestamp;
use crate::db::schema::{device_codes, device_tries};
use crate::db::types::{DeviceCodeId, GatewayId, SessionId, UserId};
use crate::db::{Conn, on_conn};
use crate::delete_first;
use crate::error::Error;

/// Serialises who asks for codes on PostgreSQL, so that no two take the last place.
const CODES_LOCK: i64 = 0x5348_4f52_4445_5649;

/// A code to store.
pub struct New<'a> {
    /// SHA-256 of what the client polls with.
    pub device_hash: &'a str,
    /// HMAC of what a user types.
    pub user_hash: &'a str,
    /// Name of the gateway, there or not.
    pub gateway: &'a str,
    /// Where it was asked for.
    pub client_ip: Option<&'a str>,
    /// What that address is counted by.
    pub network: &'a str,
    /// Now.
    pub now: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// How many codes there are, of one network and in all; until the end of the transaction nobody else stores one.
pub async fn count(conn: &mut Conn, network: &str, now: Timestamp) -> Result<(i64, i64), Error> {
    use device_codes as t;
    conn.serialise(CODES_LOCK).await?;
    let counted = on_conn!(conn, |c| {
        let pending = t::state.eq(State::Pending).and(t::expires_at.gt(now));
        let ours = t::table.filter(t::network.eq(network).and(pending)).count();
        let ours: i64 = ours.get_result(c).await?;
        let all: i64 = t::table.count().get_result(c).await?;
        Ok::<_, diesel::result::Error>((ours, all))
    })?;
    Ok(counted)
}

/// Stores a code; one that is about already is `Exists`.
pub async fn insert(conn: &mut Conn, new: &New<'_>) -> Result<(), Error> {
    use device_codes as t;
    let row = (
        t::device_hash.eq(new.device_hash),
        t::user_hash.eq(new.user_hash),
        t::gateway.eq(new.gateway),
        t::client_ip.eq(new.client_ip),
        t::network.eq(new.network),
        t::state.eq(State::Pending),
        t::created_at.eq(new.now),
        t::expires_at.eq(new.expires_at),
    );
    on_conn!(conn, |c| diesel::insert_into(t::table).values(row).execute(c).await)?;
    Ok(())
}

/// A code as its client polls it.
#[derive(Queryable, Selectable)]
#[diesel(table_name = device_codes)]
pub struct Polled {
    /// Its id.
    pub id: i64,
    /// What became of it.
    pub state: State,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The gateway that was approved.
    pub gateway_id: Option<i64>,
    /// The user who approved.
    pub user_id: Option<i64>,
    /// The session that it was approved with.
    pub session_id: Option<i64>,
}

/// The code of a client, asked for under the name of this very gateway.
pub async fn by_device_hash(
    conn: &mut Conn,
    hash: &str,
    gateway: &str,
) -> Result<Option<Polled>, Error> {
    use device_codes as t;
    let row = on_conn!(conn, |c| t::table
        .filter(t::device_hash.eq(hash).and(t::gateway.eq(gateway)))
        .select(Polled::as_select())
        .first(c)
        .await
        .optional())?;
    Ok(row)
}

/// Notes that a client polls; answers whether it did not before `since`.
pub async fn note_poll(
    conn: &mut Conn,
    id: i64,
    since: Timestamp,
    now: Timestamp,
) -> Result<bool, Error> {
    use device_codes as t;
    let noted = on_conn!(conn, |c| diesel::update(
        t::table.filter(t::id.eq(id).and(t::polled_at.is_null().or(t::polled_at.le(since))))
    )
    .set(t::polled_at.eq(now))
    .execute(c)
    .await)?;
    Ok(noted == 1)
}

type PendingRow = (i64, String, Option<String>, Timestamp, Timestamp);

/// The code that a user types, while nobody has decided.
pub async fn by_user_hash(
    conn: &mut Conn,
    hash: &str,
    now: Timestamp,
) -> Result<Option<Pending>, Error> {
    use device_codes as t;
    let row: Option<PendingRow> = on_conn!(conn, |c| t::table
        .filter(t::user_hash.eq(hash))
        .filter(t::state.eq(State::Pending).and(t::expires_at.gt(now)))
        .select((t::id, t::gateway, t::client_ip, t::created_at, t::expires_at))
        .first(c)
        .await
        .optional())?;
    let pending = |(id, gateway, client_ip, created_at, expires_at): PendingRow| {
        let id = DeviceCodeId(id);
        Pending { id, gateway, client_ip, created_at, expires_at }
    };
    Ok(row.map(pending))
}

/// Who decided.
pub struct Decided {
    /// What.
    pub state: State,
    /// About which gateway.
    pub gateway: GatewayId,
    /// Who.
    pub user: UserId,
    /// With which session.
    pub session: SessionId,
}

/// Decides; answers whether nobody had.
pub async fn decide(conn: &mut Conn, id: DeviceCodeId, by: &Decided) -> Result<bool, Error> {
    use device_codes as t;
    let decided = on_conn!(conn, |c| diesel::update(
        t::table.filter(t::id.eq(id.get()).and(t::state.eq(State::Pending)))
    )
    .set((
        t::state.eq(by.state),
        t::gateway_id.eq(by.gateway.get()),
        t::user_id.eq(by.user.get()),
        t::session_id.eq(by.session.get()),
    ))
    .execute(c)
    .await)?;
    Ok(decided == 1)
}

/// Uses an approved code up; answers whether it was not yet.
pub async fn consume(conn: &mut Conn, id: DeviceCodeId) -> Result<bool, Error> {
    use device_codes as t;
    let consumed = on_conn!(conn, |c| diesel::update(
        t::table.filter(t::id.eq(id.get()).and(t::state.eq(State::Approved)))
    )
    .set(t::state.eq(State::Consumed))
    .execute(c)
    .await)?;
    Ok(consumed == 1)
}

/// Forgets codes that ended before; answers how many.
pub async fn forget(conn: &mut Conn, before: Timestamp, limit: i64) -> Result<usize, Error> {
    use device_codes as t;
    Ok(delete_first!(conn, t, t::expires_at.lt(before), t::id, limit)?)
}

/// Takes one more try of a user, from nothing where those before `since` were the last; answers how many it has taken
/// and since when.
pub async fn take_try(
    conn: &mut Conn,
    user: UserId,
    since: Timestamp,
    now: Timestamp,
) -> Result<(i64, Timestamp), Error> {
    use device_tries as t;
    on_conn!(conn, |c| diesel::delete(
        t::table.filter(t::user_id.eq(user.get()).and(t::since.le(since)))
    )
    .execute(c)
    .await)?;
    let row = (t::user_id.eq(user.get()), t::tries.eq(1_i64), t::since.eq(now));
    let taken = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .on_conflict(t::user_id)
        .do_update()
        .set(t::tries.eq(t::tries + 1))
        .returning((t::tries, t::since))
        .get_result(c)
        .await)?;
    Ok(taken)
}

/// Gives a try back, of a code that was right.
pub async fn give_back(conn: &mut Conn, user: UserId) -> Result<(), Error> {
    use device_tries as t;
    on_conn!(conn, |c| diesel::update(
        t::table.filter(t::user_id.eq(user.get()).and(t::tries.gt(0)))
    )
    .set(t::tries.eq(t::tries - 1))
    .execute(c)
    .await)?;
    Ok(())
}

/// Forgets tries that count no more.
pub async fn forget_tries(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    use device_tries as t;
    on_conn!(conn, |c| diesel::delete(t::table.filter(t::since.lt(before))).execute(c).await)?;
    Ok(())
}
