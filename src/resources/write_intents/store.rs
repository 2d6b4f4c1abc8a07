//! Rows of writes in progress.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::action::Action;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::write_intents as t;
use crate::db::types::{ApprovalRoundId, AuditId, GatewayId, WriteIntentId};
use crate::db::{Conn, on_conn};
use crate::delete_first;
use crate::error::Error;

/// Advisory locks of gateways on PostgreSQL: this number with the id of the gateway.
const GATEWAY_LOCK: i64 = 0x5348_4757_0000_0000;

/// Scope of a write or of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntentScope<'a> {
    /// The gateway.
    pub gateway: GatewayId,
    /// The workspace; `None` is the whole gateway.
    pub workspace: Option<&'a str>,
    /// The sandbox; `None` is the whole workspace.
    pub sandbox: Option<&'a str>,
}

/// A write that is about to be sent.
#[derive(Debug)]
pub struct NewIntent<'a> {
    /// Scope of the write.
    pub scope: IntentScope<'a>,
    /// The audit action of the write.
    pub kind: Action,
    /// The round that it carries out, if any. A sandbox has at most one such write.
    pub round: Option<ApprovalRoundId>,
    /// The replica that sends it.
    pub owner: &'a str,
    /// The caller; `None` for the server's own work.
    pub principal: Option<PrincipalId>,
    /// Newest version of the policy when the write was checked.
    pub base_version: Option<i64>,
    /// Digest of the policy that it leads to.
    pub want_digest: Option<&'a str>,
    /// When it is stored: it is sent right afterwards.
    pub at: Timestamp,
    /// Time after which it is not sent any more.
    pub deadline: Timestamp,
    /// Open audit entry of the call: its outcome is that of the write.
    pub audit: Option<AuditId>,
}

/// A write in progress.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct WriteInFlight {
    /// Id.
    pub id: WriteIntentId,
    /// Workspace; empty for a write to the whole gateway.
    pub workspace: String,
    /// Sandbox; empty for a write to the whole workspace.
    pub sandbox_name: String,
    /// The audit action of the write.
    pub kind: String,
    /// The caller; `None` for the server's own work.
    pub principal: Option<String>,
    /// Time after which it is not sent any more.
    pub deadline: Timestamp,
}

/// Takes the lock of a gateway until the end of the transaction, for a write: other writes are not excluded.
pub async fn lock_shared(conn: &mut Conn, gateway: GatewayId) -> Result<(), Error> {
    conn.shared_advisory_lock(GATEWAY_LOCK ^ gateway.get()).await
}

/// Takes the lock of a gateway until the end of the transaction, for a rule: no write is stored meanwhile.
pub async fn lock_exclusive(conn: &mut Conn, gateway: GatewayId) -> Result<(), Error> {
    conn.advisory_lock(GATEWAY_LOCK ^ gateway.get()).await
}

/// Stores a write. Returns `Exists` if a write of a round to the same sandbox is in progress.
pub async fn insert(conn: &mut Conn, new: &NewIntent<'_>) -> Result<WriteIntentId, Error> {
    let row = (
        t::gateway_id.eq(new.scope.gateway.get()),
        t::workspace.eq(new.scope.workspace.unwrap_or_default()),
        t::sandbox_name.eq(new.scope.sandbox.unwrap_or_default()),
        t::kind.eq(new.kind.as_str()),
        t::round_id.eq(new.round.map(ApprovalRoundId::get)),
        t::owner.eq(new.owner),
        t::principal.eq(new.principal.map(|principal| principal.to_string())),
        t::base_version.eq(new.base_version),
        t::want_digest.eq(new.want_digest),
        t::deadline.eq(new.deadline),
        t::sent_at.eq(new.at),
        t::audit_id.eq(new.audit.map(AuditId::get)),
    );
    let id: i64 = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .returning(t::id)
        .get_result(c)
        .await)?;
    Ok(id.into())
}

/// Extends the deadline of a write. Returns whether it was stored.
pub async fn renew(conn: &mut Conn, id: WriteIntentId, deadline: Timestamp) -> Result<bool, Error> {
    let row = t::table.find(id.get());
    let set = t::deadline.eq(deadline);
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// The write of a round whose outcome is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct RoundWrite {
    /// Id.
    pub id: WriteIntentId,
    /// Newest version of the policy when the write was checked; `None` if there was none.
    pub base_version: Option<i64>,
    /// Time after which it is not sent any more.
    pub deadline: Timestamp,
}

/// Returns the write of a round on a gateway whose outcome is not stored.
pub async fn of_round(
    conn: &mut Conn,
    gateway: GatewayId,
    round: ApprovalRoundId,
) -> Result<Option<RoundWrite>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway.get()).and(t::round_id.eq(round.get())))
        .select(RoundWrite::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Deletes a write whose outcome is known. Returns whether it was stored.
pub async fn delete(conn: &mut Conn, id: WriteIntentId) -> Result<bool, Error> {
    let row = t::table.find(id.get());
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}

/// Returns the writes in progress that can change something in a scope, oldest first.
pub async fn in_flight(
    conn: &mut Conn,
    scope: IntentScope<'_>,
    now: Timestamp,
) -> Result<Vec<WriteInFlight>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = t::table
            .filter(t::gateway_id.eq(scope.gateway.get()))
            .filter(t::round_id.is_not_null().or(t::deadline.gt(now)))
            .select(WriteInFlight::as_select())
            .order(t::id)
            .into_boxed();
        if let Some(workspace) = scope.workspace {
            query = query.filter(t::workspace.eq(workspace).or(t::workspace.eq("")));
        }
        if let Some(sandbox) = scope.sandbox {
            query = query.filter(t::sandbox_name.eq(sandbox).or(t::sandbox_name.eq("")));
        }
        query.load(c).await
    })?)
}

/// Deletes up to `limit` writes without a round whose deadline has passed. Returns their number.
pub async fn delete_expired(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<usize, Error> {
    let expired = t::deadline.le(now).and(t::round_id.is_null());
    Ok(delete_first!(conn, t, expired, t::deadline, limit)?)
}
