//! What a follower has reported: pins whose sandbox has moved, workflows whose gateway approves by itself, and gateways
//! with a policy for all sandboxes; and what is stored about a gateway, in numbers.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{
    approval_rounds as r, approval_workflows as w, followed_gateways as g, policy_pins as p,
};
use crate::db::types::{ApprovalWorkflowId, GatewayId, GatewayRef, PolicyPinId};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::governance::Action;
use crate::resources::stored_rules::domain::{Pin, PinRow};

/// Counts the rows about a gateway, table by table, since SQLite would store the parts of a join first. The first
/// parameter is the id of the gateway, the second its name, the third the action of drafts: SQLite numbers parameters
/// in the order in which their names occur first.
const COUNT: &str = "\
    SELECT CAST(0 AS BIGINT) AS kind, count(*) AS number, 0 AS ids, 0 AS versions, 0 AS with_sandbox_id, \
           count(global_policy_since) AS marked \
    FROM followed_gateways WHERE gateway_id = $1 \
    UNION ALL SELECT 1, count(*), 0, 0, 0, 0 FROM follow_positions WHERE gateway_id = $1 \
    UNION ALL SELECT 2, count(*), 0, 0, 0, 0 FROM draft_states WHERE gateway_id = $1 \
    UNION ALL SELECT 3, count(*), 0, 0, 0, 0 FROM draft_rejections WHERE gateway_id = $1 \
    UNION ALL SELECT 4, count(*), 0, 0, 0, 0 FROM bypass_notices WHERE gateway_id = $1 AND waiting > 0 \
    UNION ALL SELECT 5, count(*), CAST(COALESCE(sum(id), 0) AS BIGINT), 0, \
                     count(sandbox_id), count(missing_since) \
    FROM sandbox_meta WHERE gateway_name = $2 \
    UNION ALL SELECT 6, count(*), 0, 0, 0, 0 FROM policy_pins WHERE gateway_name = $2 \
    UNION ALL SELECT 7, count(*), 0, 0, 0, 0 FROM approval_workflows WHERE gateway_name = $2 \
    UNION ALL SELECT 8, count(*), CAST(COALESCE(sum(id), 0) AS BIGINT), \
                     CAST(COALESCE(sum(version), 0) AS BIGINT), count(sandbox_id), \
                     count(CASE WHEN action = $3 THEN 1 END) \
    FROM approval_rounds WHERE gateway_id = $1 AND closed_at IS NULL";

/// The rows of one table, in numbers. A number that is not of interest is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Counted {
    /// Number of the table, in the order of [`Stamp`].
    #[diesel(sql_type = BigInt)]
    kind: i64,
    /// Number of the rows.
    #[diesel(sql_type = BigInt)]
    pub number: i64,
    /// Sum of their ids. An id is not used again, and new ones are larger.
    #[diesel(sql_type = BigInt)]
    ids: i64,
    /// Sum of their versions, which only grow.
    #[diesel(sql_type = BigInt)]
    versions: i64,
    /// Number of the rows with the gateway's id of a sandbox.
    #[diesel(sql_type = BigInt)]
    pub with_sandbox_id: i64,
    /// Number of the rows that [`Stamp`] calls marked.
    #[diesel(sql_type = BigInt)]
    pub marked: i64,
}

/// What is stored about a gateway, in numbers. As long as they are equal, and the follower has written nothing, its
/// sandboxes have the same metadata and positions, and their drafts the same rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The gateway, if its sandboxes were compared once. It is marked if it has a policy for all sandboxes.
    pub followed: Counted,
    /// Sandboxes with a position.
    pub positions: Counted,
    /// Sandboxes of whose drafts something is stored.
    pub states: Counted,
    /// Rejections that the gateway does not know yet.
    pub rejections: Counted,
    /// Notices with bypasses that were not announced yet.
    pub notices: Counted,
    /// Sandboxes with metadata. Those that the gateway did not list are marked.
    pub metas: Counted,
    /// Pins.
    pub pins: Counted,
    /// Workflows of the gateway itself, without those of selectors.
    pub workflows: Counted,
    /// Rounds that have not ended. Those about the policy of a sandbox have its id, and those about drafts are marked.
    pub rounds: Counted,
}

/// Returns what is stored about a gateway, in numbers, by one statement.
pub async fn stamp(conn: &mut Conn, gateway: &GatewayRef) -> Result<Stamp, Error> {
    let query = diesel::sql_query(COUNT)
        .bind::<BigInt, _>(gateway.id.get())
        .bind::<Text, _>(&*gateway.name)
        .bind::<Text, _>(Action::DraftApprove.as_str());
    let mut tables: Vec<Counted> = on_conn!(conn, |c| cached(query).load(c).await)?;
    tables.sort_unstable_by_key(|table| table.kind);
    let [followed, positions, states, rejections, notices, metas, pins, workflows, rounds] =
        <[Counted; 9]>::try_from(tables)
            .map_err(|_| Error::internal("a table that was not counted"))?;
    Ok(Stamp { followed, positions, states, rejections, notices, metas, pins, workflows, rounds })
}

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
