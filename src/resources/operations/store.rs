//! Rows of operations. Secrets are sealed by the callers.
//!
//! Each write of an owner filters on the fence of its lease. Each transition also filters on the states from which it
//! is possible.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::state::{IS_ACTIVE, Status, Transition, active};
use super::{FailureCode, OperationKind};
use crate::access::principal::PrincipalId;
use crate::access::snapshot::VisibleGateways;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{gateways, operations};
use crate::db::types::{GatewayId, GatewayRef, SandboxName};
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// An operation, without its result and its input.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = operations)]
pub struct Operation {
    /// A UUID.
    pub id: String,
    /// Its state.
    pub status: Status,
    /// Its kind.
    #[diesel(column_name = resource_type)]
    pub kind: OperationKind,
    /// Progress in percent.
    #[diesel(column_name = progress_pct)]
    pub percent: i32,
    /// Progress message.
    #[diesel(column_name = progress_msg)]
    pub message: Option<String>,
    /// Failure message for people.
    pub error_message: Option<String>,
    /// Machine-readable reason of the failure.
    pub error_code: Option<FailureCode>,
    /// Name of the actor that began it.
    pub actor: String,
    /// Name of the gateway.
    pub gateway_name: String,
    /// Time of its creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
    /// Time of its end.
    pub completed_at: Option<Timestamp>,
    /// The workspace.
    pub workspace: String,
    /// The sandbox. Empty until the gateway has chosen the name.
    #[diesel(column_name = sandbox_name)]
    pub sandbox: String,
    /// Id of the principal that began it. It never changes.
    pub principal: Option<String>,
    /// Role of the actor when the operation was created.
    pub actor_role: String,
    /// The gateway.
    pub gateway_id: GatewayId,
    /// Request id of the call that began it.
    pub request_id: String,
    /// Replica that holds the lease.
    pub owner: Option<String>,
    /// Fence of its lease, incremented by each takeover.
    pub fence: i64,
    /// Last stored step of the work.
    pub step: String,
    /// Whether its result is the output of a command.
    pub keeps_output: bool,
    /// Incremented by each change that a caller can see.
    pub version: i64,
}

impl Operation {
    /// Returns the sandbox of the operation.
    #[must_use]
    pub fn sandbox_name(&self) -> SandboxName {
        SandboxName { workspace: self.workspace.clone(), name: self.sandbox.clone() }
    }

    /// Returns the gateway, under the name that it had when the operation was created.
    #[must_use]
    pub fn gateway_ref(&self) -> GatewayRef {
        GatewayRef { id: self.gateway_id, name: self.gateway_name.as_str().into() }
    }

    /// Returns the principal that began it. `None` if the server began it itself.
    #[must_use]
    pub fn principal_id(&self) -> Option<PrincipalId> {
        self.principal.as_deref().and_then(PrincipalId::parse)
    }
}

/// An operation to store.
#[derive(Debug, Insertable)]
#[diesel(table_name = operations)]
#[expect(missing_docs, reason = "the columns; the migration documents them")]
pub struct NewOperationRow<'a> {
    pub id: &'a str,
    pub status: Status,
    pub resource_type: OperationKind,
    pub resource_key: &'a str,
    pub idempotency_key: Option<&'a str>,
    pub actor: &'a str,
    pub gateway_name: &'a str,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub workspace: &'a str,
    pub sandbox_name: &'a str,
    pub principal: Option<&'a str>,
    pub actor_role: &'a str,
    pub gateway_id: GatewayId,
    pub request_id: &'a str,
    pub owner: &'a str,
    pub lease_expires_at: Timestamp,
    pub input: Option<&'a [u8]>,
    pub keeps_output: bool,
}

/// Inserts an operation. `Exists` if one of the same kind and key is active.
pub async fn insert(conn: &mut Conn, row: &NewOperationRow<'_>) -> Result<Operation, Error> {
    Ok(on_conn!(conn, |c| {
        let insert = diesel::insert_into(operations::table).values(row);
        cached(insert.returning(Operation::as_returning())).get_result(c).await
    })?)
}

/// Returns an operation by its id.
pub async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<Operation>, Error> {
    Ok(on_conn!(conn, |c| operations::table
        .find(id)
        .select(Operation::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Returns the sealed result of an operation.
pub async fn result(conn: &mut Conn, id: &str) -> Result<Option<Vec<u8>>, Error> {
    let found: Option<Option<Vec<u8>>> = on_conn!(conn, |c| operations::table
        .find(id)
        .select(operations::result_json)
        .first(c)
        .await
        .optional())?;
    Ok(found.flatten())
}

/// Returns the sealed input of an operation.
pub async fn input(conn: &mut Conn, id: &str) -> Result<Option<Vec<u8>>, Error> {
    let found: Option<Option<Vec<u8>>> = on_conn!(conn, |c| operations::table
        .find(id)
        .select(operations::input)
        .first(c)
        .await
        .optional())?;
    Ok(found.flatten())
}

/// Returns the id of the active operation of a kind and key.
pub async fn find_active(
    conn: &mut Conn,
    kind: OperationKind,
    key: &str,
) -> Result<Option<String>, Error> {
    Ok(on_conn!(conn, |c| operations::table
        .filter(operations::resource_type.eq(kind))
        .filter(operations::resource_key.eq(key))
        .filter(diesel::dsl::sql::<diesel::sql_types::Bool>(IS_ACTIVE))
        .select(operations::id)
        .first(c)
        .await
        .optional())?)
}

/// Filter of a list of operations. `None` matches all.
#[derive(Debug)]
pub struct OperationQuery<'a> {
    /// Gateways on which the caller can see the operations of other callers.
    pub visible: &'a VisibleGateways,
    /// Principal whose own operations are listed on all gateways.
    pub own: Option<&'a str>,
    /// Whether to include other callers' operations on removed gateways.
    pub removed_gateways: bool,
    /// Only the operations of `own`.
    pub own_only: bool,
    /// Only operations on this gateway.
    pub gateway: Option<&'a str>,
    /// Only operations in this state.
    pub status: Option<Status>,
    /// Only operations of this kind.
    pub kind: Option<OperationKind>,
}

/// Returns a page of operations, newest first, after a time and an id.
pub async fn page(
    conn: &mut Conn,
    wanted: &OperationQuery<'_>,
    after: Option<(Timestamp, &str)>,
    limit: i64,
) -> Result<Vec<Operation>, Error> {
    use operations as t;
    Ok(on_conn!(conn, |c| {
        let mut query = t::table
            .select(Operation::as_select())
            .order((t::created_at.desc(), t::id.desc()))
            .limit(limit)
            .into_boxed();
        match (wanted.own, wanted.own_only, wanted.visible) {
            (own, true, _) => {
                query = query.filter(t::principal.is_not_null().and(t::principal.eq(own)));
            }
            (_, false, VisibleGateways::All) if wanted.removed_gateways => {}
            (own, false, VisibleGateways::All) => {
                let there = gateways::table.select(gateways::id);
                let seen = t::gateway_id.eq_any(there).nullable();
                query = query.filter(seen.or(t::principal.is_not_null().and(t::principal.eq(own))));
            }
            (None, false, VisibleGateways::Only(ids)) => {
                query = query.filter(t::gateway_id.eq_any(ids));
            }
            (Some(own), false, VisibleGateways::Only(ids)) => {
                let seen = t::gateway_id.eq_any(ids).nullable();
                query = query.filter(seen.or(t::principal.eq(own)));
            }
        }
        if let Some(gateway) = wanted.gateway {
            query = query.filter(t::gateway_name.eq(gateway));
        }
        if let Some(status) = wanted.status {
            query = query.filter(t::status.eq(status));
        }
        if let Some(kind) = wanted.kind {
            query = query.filter(t::resource_type.eq(kind));
        }
        if let Some((at, id)) = after {
            // The first condition bounds the index scan; diesel cannot express `(a, b) < (x, y)`.
            query =
                query.filter(t::created_at.le(at)).filter(t::created_at.lt(at).or(t::id.lt(id)));
        }
        query.load(c).await
    })?)
}

/// Returns the versions of the given operations that exist.
pub async fn versions(conn: &mut Conn, ids: &[String]) -> Result<Vec<(String, i64)>, Error> {
    Ok(on_conn!(conn, |c| operations::table
        .filter(operations::id.eq_any(ids))
        .select((operations::id, operations::version))
        .load(c)
        .await)?)
}

/// A partial update by the owner. `None` leaves the column unchanged.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = operations)]
#[expect(missing_docs, reason = "the columns")]
pub struct ProgressUpdate<'a> {
    pub progress_pct: Option<i32>,
    pub progress_msg: Option<&'a str>,
    pub step: Option<&'a str>,
    pub sandbox_name: Option<&'a str>,
    pub input: Option<&'a [u8]>,
}

/// Stores a partial update of the owner. Returns the new version, or `None` if the lease was lost or the operation has
/// ended.
pub async fn update_progress(
    conn: &mut Conn,
    id: &str,
    fence: i64,
    mark: &ProgressUpdate<'_>,
    now: Timestamp,
) -> Result<Option<i64>, Error> {
    use operations as t;
    let row =
        t::table.filter(t::id.eq(id)).filter(t::fence.eq(fence)).filter(t::status.eq_any(active()));
    let moved = (t::updated_at.eq(now), t::version.eq(t::version + 1));
    Ok(on_conn!(conn, |c| {
        let update = diesel::update(row).set((mark, moved)).returning(t::version);
        cached(update).get_result(c).await.optional()
    })?)
}

/// Marks an operation as running. Returns the new version, or `None` if the lease was lost or it is no longer pending.
pub async fn mark_running(
    conn: &mut Conn,
    id: &str,
    fence: i64,
    now: Timestamp,
) -> Result<Option<i64>, Error> {
    use operations as t;
    let row = t::table
        .filter(t::id.eq(id))
        .filter(t::fence.eq(fence))
        .filter(t::status.eq_any(Transition::Run.from()));
    let set = (t::status.eq(Status::Running), t::updated_at.eq(now), t::version.eq(t::version + 1));
    Ok(on_conn!(conn, |c| {
        let update = diesel::update(row).set(set).returning(t::version);
        cached(update).get_result(c).await.optional()
    })?)
}

/// End of an operation.
#[derive(Debug)]
pub struct OperationEnd<'a> {
    /// Succeeded or failed.
    pub status: Status,
    /// The sealed result.
    pub result: Option<&'a [u8]>,
    /// Machine-readable reason of the failure.
    pub code: Option<FailureCode>,
    /// Failure message for people.
    pub message: Option<&'a str>,
    /// Time of the end.
    pub at: Timestamp,
}

/// Ends an operation, releases its lease and deletes its input and progress message. Returns `None` if the lease was
/// lost or it has already ended.
pub async fn end(
    conn: &mut Conn,
    id: &str,
    fence: i64,
    end: &OperationEnd<'_>,
) -> Result<Option<Operation>, Error> {
    use operations as t;
    let what = if end.code.is_none() { Transition::Succeed } else { Transition::Fail };
    let row = t::table
        .filter(t::id.eq(id))
        .filter(t::fence.eq(fence))
        .filter(t::status.eq_any(what.from()));
    let ended = (
        t::status.eq(end.status),
        t::result_json.eq(end.result),
        t::error_code.eq(end.code),
        t::error_message.eq(end.message),
        t::progress_msg.eq(None::<&str>),
        t::completed_at.eq(end.at),
        t::updated_at.eq(end.at),
        end.code.is_none().then(|| t::progress_pct.eq(100)),
    );
    let free = (
        t::owner.eq(None::<&str>),
        t::lease_expires_at.eq(None::<Timestamp>),
        t::input.eq(None::<&[u8]>),
        t::version.eq(t::version + 1),
    );
    Ok(on_conn!(conn, |c| {
        let update = diesel::update(row).set((ended, free)).returning(Operation::as_returning());
        cached(update).get_result(c).await.optional()
    })?)
}

/// Marks an operation of a gateway as `cancelling`. Returns `None` if it has ended or is already being canceled.
pub async fn mark_cancelling(
    conn: &mut Conn,
    id: &str,
    gateway: GatewayId,
    now: Timestamp,
) -> Result<Option<Operation>, Error> {
    use operations as t;
    let row = t::table
        .filter(t::id.eq(id))
        .filter(t::gateway_id.eq(gateway))
        .filter(t::status.eq_any(Transition::Cancel.from()));
    let set =
        (t::status.eq(Status::Cancelling), t::updated_at.eq(now), t::version.eq(t::version + 1));
    Ok(on_conn!(conn, |c| {
        let update = diesel::update(row).set(set).returning(Operation::as_returning());
        cached(update).get_result(c).await.optional()
    })?)
}

/// Deletes up to `limit` operations that ended before `cutoff`, oldest first.
pub async fn delete_old(conn: &mut Conn, cutoff: Timestamp, limit: i64) -> Result<usize, Error> {
    use operations as t;
    let old: Vec<String> = on_conn!(conn, |c| t::table
        .filter(t::completed_at.is_not_null())
        .filter(t::completed_at.lt(cutoff))
        .order(t::completed_at)
        .select(t::id)
        .limit(limit)
        .load(c)
        .await)?;
    let old = t::table.filter(t::id.eq_any(old));
    Ok(on_conn!(conn, |c| diesel::delete(old).execute(c).await)?)
}
