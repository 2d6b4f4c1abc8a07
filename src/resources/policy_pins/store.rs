//! Rows of pins. Every query filters by gateway, workspace and sandbox (T08), except for the list and the job.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{policy_pins as t, sandbox_meta as m};
use crate::db::types::{PolicyPinId, SandboxName, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::resources::stored_rules::domain::{Pin, PinRow};
use crate::role::Role;

type RowWithLiveId = (PinRow, Option<String>);

fn to_pin((row, live_id): RowWithLiveId) -> Result<Pin, Error> {
    row.into_pin(live_id)
}

/// Selects pins with the id of the present sandbox of their name.
macro_rules! pins {
    () => {
        t::table
            .left_join(
                m::table.on(m::gateway_name
                    .eq(t::gateway_name)
                    .and(m::workspace.eq(t::workspace))
                    .and(m::sandbox_name.eq(t::sandbox_name))),
            )
            .select((PinRow::as_select(), m::sandbox_id.nullable()))
    };
}

/// Returns the pin of a sandbox, even if it has expired.
pub async fn by_place(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
) -> Result<Option<Pin>, Error> {
    let found: Option<RowWithLiveId> = on_conn!(conn, |c| pins!()
        .filter(t::gateway_name.eq(gateway))
        .filter(t::workspace.eq(&sandbox.workspace))
        .filter(t::sandbox_name.eq(&sandbox.name))
        .first(c)
        .await
        .optional())?;
    found.map(to_pin).transpose()
}

/// Which pins a list contains.
#[derive(Debug, Clone, Copy)]
pub struct PinQuery<'a> {
    /// Only pins on these gateways; `None`: on all.
    pub gateways: Option<&'a [String]>,
    /// Only pins in this workspace.
    pub workspace: Option<&'a str>,
    /// The present time: expired pins are left out.
    pub now: Timestamp,
}

/// Returns a page of the pins in force, in the order in which they were set, after an id.
pub async fn page(
    conn: &mut Conn,
    wanted: PinQuery<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<Pin>, Error> {
    let rows: Vec<RowWithLiveId> = on_conn!(conn, |c| {
        let mut query = pins!()
            .filter(t::id.gt(after))
            .filter(t::expires_at.is_null().or(t::expires_at.gt(wanted.now)))
            .order(t::id)
            .limit(limit)
            .into_boxed();
        if let Some(gateways) = wanted.gateways {
            query = query.filter(t::gateway_name.eq_any(gateways));
        }
        if let Some(workspace) = wanted.workspace {
            query = query.filter(t::workspace.eq(workspace));
        }
        query.load(c).await
    })?;
    rows.into_iter().map(to_pin).collect()
}

/// Returns pins that have expired, at most `limit`.
pub async fn expired(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<Vec<Pin>, Error> {
    let rows: Vec<RowWithLiveId> = on_conn!(conn, |c| pins!()
        .filter(t::expires_at.le(now))
        .order(t::expires_at)
        .limit(limit)
        .load(c)
        .await)?;
    rows.into_iter().map(to_pin).collect()
}

/// Returns pins in force whose version is not known, ordered by id, after an id, at most `limit`.
pub async fn incomplete(
    conn: &mut Conn,
    now: Timestamp,
    after: i64,
    limit: i64,
) -> Result<Vec<Pin>, Error> {
    let rows: Vec<RowWithLiveId> = on_conn!(conn, |c| pins!()
        .filter(t::id.gt(after).and(t::pinned_version.eq(0_i64)))
        .filter(t::expires_at.is_null().or(t::expires_at.gt(now)))
        .order(t::id)
        .limit(limit)
        .load(c)
        .await)?;
    rows.into_iter().map(to_pin).collect()
}

/// A pin to store.
#[derive(Debug)]
pub struct NewPin<'a> {
    /// The sandbox, which need not exist.
    pub place: &'a SandboxRef,
    /// Name of the setter.
    pub pinned_by: &'a str,
    /// The setter.
    pub principal: Option<PrincipalId>,
    /// Role of the setter.
    pub setter_role: Role,
    /// Why it is pinned.
    pub reason: Option<&'a str>,
    /// Current time.
    pub at: Timestamp,
    /// When it ends; `None` if it does not.
    pub expires_at: Option<Timestamp>,
}

/// Stores a pin, without what only the gateway knows. Returns `Exists` if the sandbox has one.
pub async fn insert(conn: &mut Conn, new: &NewPin<'_>) -> Result<(), Error> {
    let row = (
        t::gateway_name.eq(&*new.place.gateway.name),
        t::workspace.eq(new.place.workspace()),
        t::sandbox_name.eq(new.place.sandbox()),
        t::pinned_version.eq(0_i64),
        t::pinned_by.eq(new.pinned_by),
        t::reason.eq(new.reason),
        t::pinned_at.eq(new.at),
        t::expires_at.eq(new.expires_at),
        t::principal.eq(new.principal.map(|principal| principal.to_string())),
        t::setter_role.eq(new.setter_role.as_str()),
    );
    let stored: Result<usize, _> =
        on_conn!(conn, |c| diesel::insert_into(t::table).values(row).execute(c).await);
    stored.map_err(|error| crate::db::error::with_name(error.into(), new.place.sandbox()))?;
    Ok(())
}

/// Stores expiry, reason, setter and role of a pin if its stored version is `pin.version - 1`. Returns whether it was
/// stored.
pub async fn update(conn: &mut Conn, pin: &Pin) -> Result<bool, Error> {
    let row = t::table.filter(t::id.eq(pin.id.get()).and(t::version.eq(pin.version - 1)));
    let set = (
        t::expires_at.eq(pin.expires_at),
        t::reason.eq(pin.reason.as_deref()),
        t::principal.eq(pin.principal.as_deref()),
        t::setter_role.eq(pin.setter_role.as_str()),
        t::version.eq(pin.version),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Facts of a gateway about a pinned sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedState {
    /// Newest version of its policy; 0 if it has none yet.
    pub version: i64,
    /// The gateway's hash of its policy in force.
    pub hash: Option<String>,
    /// The gateway's id of the sandbox.
    pub sandbox_id: String,
}

impl PinnedState {
    /// Returns whether a pin has it.
    #[must_use]
    pub fn is_of(&self, pin: &Pin) -> bool {
        pin.pinned_version == self.version
            && pin.pinned_hash == self.hash
            && pin.sandbox_id.as_ref() == Some(&self.sandbox_id)
    }
}

/// Stores what the gateway reports of a pinned sandbox, if the version of the pin is still `version`. Does not
/// increment it. Returns whether it was stored.
pub async fn set_state(
    conn: &mut Conn,
    id: PolicyPinId,
    version: i64,
    state: &PinnedState,
) -> Result<bool, Error> {
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    let set = (
        t::pinned_version.eq(state.version),
        t::pinned_hash.eq(&state.hash),
        t::sandbox_id.eq(&state.sandbox_id),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Records that a gateway has a sandbox, if nothing is stored about it: otherwise its pin would seem to be held.
pub async fn note_sandbox(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
    id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let row = (
        m::gateway_name.eq(gateway),
        m::workspace.eq(&sandbox.workspace),
        m::sandbox_name.eq(&sandbox.name),
        m::sandbox_id.eq(id),
        m::created_at.eq(now),
    );
    on_conn!(conn, |c| diesel::insert_into(m::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    Ok(())
}

/// Returns the number of pins on a gateway, expired ones included.
pub async fn count_on_gateway(conn: &mut Conn, gateway: &str) -> Result<i64, Error> {
    let query = t::table.filter(t::gateway_name.eq(gateway)).count();
    Ok(on_conn!(conn, |c| query.get_result(c).await)?)
}

/// Returns the number of pins on a gateway that a principal has set, expired ones included.
pub async fn count_of_setter(
    conn: &mut Conn,
    gateway: &str,
    setter: PrincipalId,
) -> Result<i64, Error> {
    let of_setter = t::gateway_name.eq(gateway).and(t::principal.eq(setter.to_string()));
    let query = t::table.filter(of_setter).count();
    Ok(on_conn!(conn, |c| query.get_result(c).await)?)
}
