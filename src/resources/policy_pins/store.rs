//! Rows of pins. Every query filters by gateway, workspace and sandbox (T08), except for the list and the job.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{approval_workflows, policy_pins as t, sandbox_meta as m};
use crate::db::types::{PolicyPinId, SandboxName, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::role::Role;

/// A pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Permanent id.
    pub id: PolicyPinId,
    /// Name of the gateway.
    pub gateway: String,
    /// The sandbox, which need not exist.
    pub sandbox: SandboxName,
    /// Newest version of the policy when it was pinned; 0 if it is not known.
    pub pinned_version: i64,
    /// The gateway's hash of the policy in force when it was pinned; `None` if it is not known.
    pub pinned_hash: Option<String>,
    /// The gateway's id of the pinned sandbox; `None` if it is not known.
    pub sandbox_id: Option<String>,
    /// The gateway's id of the present sandbox of this name, as far as it was seen.
    pub live_id: Option<String>,
    /// Name of the first setter.
    pub pinned_by: String,
    /// The first setter; `None` if it is not known.
    pub principal: Option<String>,
    /// Highest role of the setters.
    pub setter_role: Role,
    /// Reason of the newest setter who gave one.
    pub reason: Option<String>,
    /// When it was first set.
    pub pinned_at: Timestamp,
    /// When it ends; `None` if it does not.
    pub expires_at: Option<Timestamp>,
    /// Incremented by each change.
    pub version: i64,
}

impl Pin {
    /// Returns whether the sandbox that was pinned no longer exists: the pin is held for the next one of its name.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.sandbox_id.is_some() && self.sandbox_id != self.live_id
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = t)]
struct Row {
    id: PolicyPinId,
    gateway_name: String,
    workspace: String,
    sandbox_name: String,
    pinned_version: i64,
    pinned_by: String,
    reason: Option<String>,
    pinned_at: Timestamp,
    expires_at: Option<Timestamp>,
    principal: Option<String>,
    setter_role: String,
    sandbox_id: Option<String>,
    pinned_hash: Option<String>,
    version: i64,
}

type RowWithLiveId = (Row, Option<String>);

fn to_pin((row, live_id): RowWithLiveId) -> Result<Pin, Error> {
    Ok(Pin {
        id: row.id,
        gateway: row.gateway_name,
        sandbox: SandboxName { workspace: row.workspace, name: row.sandbox_name },
        pinned_version: row.pinned_version,
        pinned_hash: row.pinned_hash,
        sandbox_id: row.sandbox_id,
        live_id,
        pinned_by: row.pinned_by,
        principal: row.principal,
        setter_role: parse_role(&row.setter_role)?,
        reason: row.reason,
        pinned_at: row.pinned_at,
        expires_at: row.expires_at,
        version: row.version,
    })
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
            .select((Row::as_select(), m::sandbox_id.nullable()))
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

/// Stores expiry, reason and role of a pin if its stored version is `pin.version - 1`. Returns whether it was stored.
pub async fn update(conn: &mut Conn, pin: &Pin) -> Result<bool, Error> {
    let row = t::table.filter(t::id.eq(pin.id.get()).and(t::version.eq(pin.version - 1)));
    let set = (
        t::expires_at.eq(pin.expires_at),
        t::reason.eq(pin.reason.as_deref()),
        t::setter_role.eq(pin.setter_role.as_str()),
        t::version.eq(pin.version),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// What a gateway reports of a sandbox that is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedState {
    /// Newest version of its policy; 0 if it has none yet.
    pub version: i64,
    /// The gateway's hash of its policy in force.
    pub hash: Option<String>,
    /// The gateway's id of the sandbox.
    pub sandbox_id: String,
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

/// Deletes a pin if its version is still `version`. Returns whether it was deleted.
pub async fn delete(conn: &mut Conn, id: PolicyPinId, version: i64) -> Result<bool, Error> {
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}

/// Returns whether an approval workflow applies to a sandbox. One with a selector counts for every sandbox.
pub async fn is_governed(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
) -> Result<bool, Error> {
    use approval_workflows as w;
    let count: i64 = on_conn!(conn, |c| w::table
        .filter(w::gateway_name.is_null().or(w::gateway_name.eq(gateway)))
        .filter(w::workspace.is_null().or(w::workspace.eq(&sandbox.workspace)))
        .filter(w::sandbox_name.is_null().or(w::sandbox_name.eq(&sandbox.name)))
        .count()
        .get_result(c)
        .await)?;
    Ok(count > 0)
}
