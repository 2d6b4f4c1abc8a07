//! What a follower has reported: pins whose sandbox has moved, workflows whose gateway approves by itself, and gateways
//! with a policy for all sandboxes.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::schema::{
    approval_rounds as r, approval_workflows as w, followed_gateways as g, policy_pins as p,
};
use crate::db::types::{ApprovalWorkflowId, GatewayId, PolicyPinId};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::resources::stored_rules::domain::{Pin, PinRow};

/// A policy: its newest version, and the gateway's hash of the policy in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The newest version.
    pub version: i64,
    /// The hash.
    pub hash: String,
}

/// A pin with the policy that was reported last because it differs from the pinned one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedPin {
    /// The pin.
    pub pin: Pin,
    /// The policy; `None` if it did not differ.
    pub drift: Option<Position>,
}

type Row = (PinRow, Option<i64>, Option<String>);

/// Returns the pins of a gateway that are in force and whose version is known, with an id above `after`, at most
/// `limit`.
pub async fn pins(
    conn: &mut Conn,
    gateway: &str,
    now: Timestamp,
    after: i64,
    limit: i64,
) -> Result<Vec<FollowedPin>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| p::table
        .filter(p::gateway_name.eq(gateway))
        .filter(p::id.gt(after).and(p::pinned_version.gt(0_i64)))
        .filter(p::expires_at.is_null().or(p::expires_at.gt(now)))
        .select((PinRow::as_select(), p::drift_version, p::drift_hash))
        .order(p::id)
        .limit(limit)
        .load(c)
        .await)?;
    let to_pin = |(row, version, hash): Row| {
        let drift = version.zip(hash).map(|(version, hash)| Position { version, hash });
        Ok(FollowedPin { pin: row.into_pin(None)?, drift })
    };
    rows.into_iter().map(to_pin).collect()
}

/// Stores the policy that was reported for a pin, or that it does not differ any more. Returns false if the pin was
/// changed or removed meanwhile, or the same was stored already.
pub async fn set_drift(
    conn: &mut Conn,
    id: PolicyPinId,
    version: i64,
    drift: Option<&Position>,
    now: Timestamp,
) -> Result<bool, Error> {
    let stored: Option<(Option<i64>, Option<String>)> = on_conn!(conn, |c| p::table
        .filter(p::id.eq(id.get()).and(p::version.eq(version)))
        .select((p::drift_version, p::drift_hash))
        .first(c)
        .await
        .optional())?;
    let new = (drift.map(|drift| drift.version), drift.map(|drift| drift.hash.clone()));
    if stored.is_none_or(|stored| stored == new) {
        return Ok(false);
    }
    let row = p::table.filter(p::id.eq(id.get()).and(p::version.eq(version)));
    let set = (
        p::drift_version.eq(new.0),
        p::drift_hash.eq(new.1),
        p::drift_since.eq(drift.map(|_| now)),
    );
    Ok(on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)? == 1)
}

/// Returns those of these workflows whose gateway was seen to approve by itself.
pub async fn auto_workflows(conn: &mut Conn, ids: &[i64]) -> Result<Vec<i64>, Error> {
    Ok(on_conn!(conn, |c| w::table
        .filter(w::id.eq_any(ids).and(w::auto_since.is_not_null()))
        .select(w::id)
        .load(c)
        .await)?)
}

/// Stores since when the gateway of a workflow approves by itself; `None` if it does not. Returns false if that was
/// stored already, or the workflow was removed.
pub async fn set_auto(
    conn: &mut Conn,
    id: ApprovalWorkflowId,
    since: Option<Timestamp>,
) -> Result<bool, Error> {
    let row = w::table.filter(w::id.eq(id.get()));
    let set = w::auto_since.eq(since);
    let stored = if since.is_some() {
        let row = row.filter(w::auto_since.is_null());
        on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)?
    } else {
        let row = row.filter(w::auto_since.is_not_null());
        on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)?
    };
    Ok(stored == 1)
}

/// Returns whether a change of the policy of a sandbox is under review on a gateway, or is being written.
pub async fn has_reviews(conn: &mut Conn, gateway: GatewayId) -> Result<bool, Error> {
    // The change of a rule names no sandbox.
    let found: Option<i64> = on_conn!(conn, |c| r::table
        .filter(r::gateway_id.eq(gateway.get()).and(r::closed_at.is_null()))
        .filter(r::sandbox_id.is_not_null())
        .select(r::id)
        .first(c)
        .await
        .optional())?;
    Ok(found.is_some())
}

/// Returns since when a gateway was seen to have a policy for all sandboxes; `None` if it was not.
pub async fn global_policy_since(
    conn: &mut Conn,
    gateway: GatewayId,
) -> Result<Option<Timestamp>, Error> {
    let row = g::table.find(gateway.get()).select(g::global_policy_since);
    let found: Option<Option<Timestamp>> = on_conn!(conn, |c| row.first(c).await.optional())?;
    Ok(found.flatten())
}

/// Stores since when a gateway has a policy for all sandboxes; `None` if it has none.
pub async fn set_global_policy(
    conn: &mut Conn,
    gateway: GatewayId,
    since: Option<Timestamp>,
) -> Result<(), Error> {
    let (row, set) = (g::table.find(gateway.get()), g::global_policy_since.eq(since));
    on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)?;
    Ok(())
}
