//! Rows of device codes and of wrong attempts.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::decide::PendingCode;
use super::domain::CodeState;
use crate::clock::Timestamp;
use crate::db::schema::{device_codes, device_tries};
use crate::db::types::{DeviceCodeId, GatewayId, SessionId, UserId};
use crate::db::{Conn, on_conn};
use crate::delete_first;
use crate::error::Error;

/// Advisory lock on PostgreSQL that serializes requests for codes, so that they cannot exceed the limits.
const CODES_LOCK: i64 = 0x5348_4f52_4445_5649;

/// A code to store.
pub struct NewCodeRow<'a> {
    /// SHA-256 of the device code.
    pub device_hash: &'a str,
    /// HMAC of the user code.
    pub user_hash: &'a str,
    /// Name of the gateway, which need not exist; `None` for a session.
    pub gateway: Option<&'a str>,
    /// Client address of the request.
    pub client_ip: Option<&'a str>,
    /// Network that the client address is counted as.
    pub network: &'a str,
    /// IPv6 /48 network of the client address; empty for others.
    pub site: &'a str,
    /// Current time.
    pub now: Timestamp,
    /// When the code expires.
    pub expires_at: Timestamp,
}

/// Numbers of codes.
#[derive(Debug, Clone, Copy)]
pub struct CodeCounts {
    /// Of the network that have not expired.
    pub network: i64,
    /// Of the IPv6 /48 network that have not expired.
    pub site: i64,
    /// All codes for gateways.
    pub gateways: i64,
    /// All codes for sessions.
    pub sessions: i64,
}

/// Keeps other codes from being stored until the end of the transaction, so that the numbers stay exact.
///
/// # Errors
/// Those of the database.
pub async fn lock_codes(conn: &mut Conn) -> Result<(), Error> {
    conn.advisory_lock(CODES_LOCK).await
}

/// Returns the numbers of codes.
///
/// # Errors
/// Those of the database.
pub async fn count(
    conn: &mut Conn,
    network: &str,
    site: &str,
    now: Timestamp,
) -> Result<CodeCounts, Error> {
    use device_codes as t;
    let counts = on_conn!(conn, |c| {
        let of_network = t::table.filter(t::network.eq(network).and(t::expires_at.gt(now)));
        let of_site = t::table.filter(t::site.eq(site).and(t::expires_at.gt(now)));
        let network: i64 = of_network.count().get_result(c).await?;
        let site: i64 = of_site.count().get_result(c).await?;
        let for_gateways = t::table.filter(t::gateway.is_not_null());
        let gateways: i64 = for_gateways.count().get_result(c).await?;
        let for_sessions = t::table.filter(t::gateway.is_null());
        let sessions: i64 = for_sessions.count().get_result(c).await?;
        Ok::<_, diesel::result::Error>(CodeCounts { network, site, gateways, sessions })
    })?;
    Ok(counts)
}

/// Stores a code. Returns `Exists` if its hash is in use.
pub async fn insert(conn: &mut Conn, new: &NewCodeRow<'_>) -> Result<(), Error> {
    use device_codes as t;
    let row = (
        t::device_hash.eq(new.device_hash),
        t::user_hash.eq(new.user_hash),
        t::gateway.eq(new.gateway),
        t::client_ip.eq(new.client_ip),
        t::network.eq(new.network),
        t::site.eq(new.site),
        t::state.eq(CodeState::Pending),
        t::created_at.eq(new.now),
        t::expires_at.eq(new.expires_at),
    );
    on_conn!(conn, |c| diesel::insert_into(t::table).values(row).execute(c).await)?;
    Ok(())
}

/// A code as polled by its client.
#[derive(Queryable, Selectable)]
#[diesel(table_name = device_codes)]
pub struct PolledCode {
    /// Id.
    pub id: i64,
    /// State.
    pub state: CodeState,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Name of the gateway that it was requested for; `None` for a session.
    pub gateway: Option<String>,
    /// Gateway of the decision.
    pub gateway_id: Option<i64>,
    /// User who decided.
    pub user_id: Option<i64>,
    /// Session in which the user decided.
    pub session_id: Option<i64>,
}

/// Returns the code of a client.
pub async fn by_device_hash(conn: &mut Conn, hash: &str) -> Result<Option<PolledCode>, Error> {
    use device_codes as t;
    let row = on_conn!(conn, |c| t::table
        .filter(t::device_hash.eq(hash))
        .select(PolledCode::as_select())
        .first(c)
        .await
        .optional())?;
    Ok(row)
}

/// Records a poll; returns `false` without recording if the last poll was after `since`.
pub async fn record_poll(
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

type PendingRow = (i64, Option<String>, Option<String>, String, Timestamp, Timestamp);

/// Returns a pending code by the hash of its user code.
pub async fn by_user_hash(
    conn: &mut Conn,
    hash: &str,
    now: Timestamp,
) -> Result<Option<PendingCode>, Error> {
    use device_codes as t;
    let row: Option<PendingRow> = on_conn!(conn, |c| t::table
        .filter(t::user_hash.eq(hash))
        .filter(t::state.eq(CodeState::Pending).and(t::expires_at.gt(now)))
        .select((t::id, t::gateway, t::client_ip, t::network, t::created_at, t::expires_at))
        .first(c)
        .await
        .optional())?;
    let pending = |(id, gateway, client_ip, network, created_at, expires_at): PendingRow| {
        let id = DeviceCodeId(id);
        PendingCode { id, gateway, client_ip, network, created_at, expires_at }
    };
    Ok(row.map(pending))
}

/// A decision to store.
pub struct NewDecision {
    /// New state.
    pub state: CodeState,
    /// Gateway; `None` for a session.
    pub gateway: Option<GatewayId>,
    /// User who decided.
    pub user: UserId,
    /// Session in which the user decided.
    pub session: SessionId,
}

/// Stores a decision if the code is pending. Returns whether it was stored.
pub async fn decide(conn: &mut Conn, id: DeviceCodeId, by: &NewDecision) -> Result<bool, Error> {
    use device_codes as t;
    let decided = on_conn!(conn, |c| diesel::update(
        t::table.filter(t::id.eq(id.get()).and(t::state.eq(CodeState::Pending)))
    )
    .set((
        t::state.eq(by.state),
        t::gateway_id.eq(by.gateway.map(GatewayId::get)),
        t::user_id.eq(by.user.get()),
        t::session_id.eq(by.session.get()),
    ))
    .execute(c)
    .await)?;
    Ok(decided == 1)
}

/// Consumes an approved code that is unused. Returns whether it was consumed.
pub async fn consume(conn: &mut Conn, id: DeviceCodeId) -> Result<bool, Error> {
    use device_codes as t;
    let consumed = on_conn!(conn, |c| diesel::update(
        t::table.filter(t::id.eq(id.get()).and(t::state.eq(CodeState::Approved)))
    )
    .set(t::state.eq(CodeState::Consumed))
    .execute(c)
    .await)?;
    Ok(consumed == 1)
}

/// Deletes codes that expired before `before`. Returns their number.
pub async fn delete_expired(
    conn: &mut Conn,
    before: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    use device_codes as t;
    Ok(delete_first!(conn, t, t::expires_at.lt(before), t::id, limit)?)
}

/// Counts an attempt of a user to decide about a device by its user code, in a new window if the current one began at
/// or before `since`. Returns the number of attempts and the beginning of the window.
pub async fn count_attempt(
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

/// Refunds the attempt of a correct user code.
pub async fn refund_attempt(conn: &mut Conn, user: UserId) -> Result<(), Error> {
    use device_tries as t;
    on_conn!(conn, |c| diesel::update(
        t::table.filter(t::user_id.eq(user.get()).and(t::tries.gt(0)))
    )
    .set(t::tries.eq(t::tries - 1))
    .execute(c)
    .await)?;
    Ok(())
}

/// Deletes the counts of attempts whose window began before `before`.
pub async fn delete_old_attempts(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    use device_tries as t;
    on_conn!(conn, |c| diesel::delete(t::table.filter(t::since.lt(before))).execute(c).await)?;
    Ok(())
}
