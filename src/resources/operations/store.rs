//! Operations as rows. What is secret is sealed before it comes here.
//!
//! Each write of an owner asks for the fence of its lease; whatever moves an operation on also asks for the states that
//! the move is possible from.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::state::{Move, Status, active};
use super::{Code, OperationKind};
use crate::access::principal::PrincipalId;
use crate::access::snapshot::Visible;
use crate::clock::Timestamp;
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
    /// How far it is.
    pub status: Status,
    /// What it does.
    #[diesel(column_name = resource_type)]
    pub kind: OperationKind,
    /// How much of it is done, in per cent.
    #[diesel(column_name = progress_pct)]
    pub percent: i32,
    /// What it is doing.
    #[diesel(column_name = progress_msg)]
    pub message: Option<String>,
    /// Why it failed, for people.
    pub error_message: Option<String>,
    /// Why it failed, for programs.
    pub error_code: Option<Code>,
    /// Name of whoever began it.
    pub actor: String,
    /// Name of the gateway.
    pub gateway_name: String,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// The workspace.
    pub workspace: String,
    /// The sandbox; empty as long as the gateway has not named it.
    #[diesel(column_name = sandbox_name)]
    pub sandbox: String,
    /// What identifies whoever began it for good.
    pub principal: Option<String>,
    /// The role that they had then.
    pub actor_role: String,
    /// The gateway.
    pub gateway_id: GatewayId,
    /// Id of the call that began it.
    pub request_id: String,
    /// The replica that works on it.
    pub owner: Option<String>,
    /// The number of its lease, which grows with each takeover.
    pub fence: i64,
    /// Where the work is.
    pub step: String,
    /// Whether its result is what a command has said.
    pub keeps_output: bool,
    /// Moves with everything that a caller may see.
    pub version: i64,
}

impl Operation {
    /// The sandbox that it is about.
    #[must_use]
    pub fn name(&self) -> SandboxName {
        SandboxName { workspace: self.workspace.clone(), name: self.sandbox.clone() }
    }

    /// The gateway that it runs on, as it was when it was begun.
    #[must_use]
    pub fn gateway(&self) -> GatewayRef {
        GatewayRef { id: self.gateway_id, name: self.gateway_name.as_str().into() }
    }

    /// Whoever began it; none where that was no caller.
    #[must_use]
    pub fn owned_by(&self) -> Option<PrincipalId> {
        self.principal.as_deref().and_then(PrincipalId::parse)
    }
}

/// An operation to store.
#[derive(Debug, Insertable)]
#[diesel(table_name = operations)]
#[expect(missing_docs, reason = "the columns, whose meaning stands above and in the migration")]
pub struct NewRow<'a> {
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

/// Stores a new one; `Exists` where one of its kind and key is active.
pub async fn insert(conn: &mut Conn, row: &NewRow<'_>) -> Result<Operation, Error> {
    Ok(on_conn!(conn, |c| diesel::insert_into(operations::table)
        .values(row)
        .returning(Operation::as_returning())
        .get_result(c)
        .await)?)
}

/// One by id.
pub async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<Operation>, Error> {
    Ok(on_conn!(conn, |c| operations::table
        .find(id)
        .select(Operation::as_select())
        .first(c)
        .await
        .optional())?)
}

/// The sealed result of one.
pub async fn result(conn: &mut Conn, id: &str) -> Result<Option<Vec<u8>>, Error> {
    let found: Option<Option<Vec<u8>>> = on_conn!(conn, |c| operations::table
        .find(id)
        .select(operations::result_json)
        .first(c)
        .await
        .optional())?;
    Ok(found.flatten())
}

/// The sealed input of one.
pub async fn input(conn: &mut Conn, id: &str) -> Result<Option<Vec<u8>>, Error> {
    let found: Option<Option<Vec<u8>>> = on_conn!(conn, |c| operations::table
        .find(id)
        .select(operations::input)
        .first(c)
        .await
        .optional())?;
    Ok(found.flatten())
}

/// The id of the active one of a kind and key.
pub async fn active_of(
    conn: &mut Conn,
    kind: OperationKind,
    key: &str,
) -> Result<Option<String>, Error> {
    Ok(on_conn!(conn, |c| operations::table
        .filter(operations::resource_type.eq(kind))
        .filter(operations::resource_key.eq(key))
        .filter(operations::status.eq_any(active()))
        .select(operations::id)
        .first(c)
        .await
        .optional())?)
}

/// Which operations a list shows; none is any.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Gateways of which the caller sees the operations of others.
    pub visible: &'a Visible,
    /// Whose own ones are shown wherever they are.
    pub own: Option<&'a str>,
    /// Also of gateways that are gone.
    pub gone: bool,
    /// Only their own.
    pub own_only: bool,
    /// Only on this gateway.
    pub gateway: Option<&'a str>,
    /// Only in this state.
    pub status: Option<Status>,
    /// Only of this kind.
    pub kind: Option<OperationKind>,
}

/// A page, the one begun last first, after a time and an id.
pub async fn page(
    conn: &mut Conn,
    wanted: &Wanted<'_>,
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
            (_, false, Visible::All) if wanted.gone => {}
            (own, false, Visible::All) => {
                let there = gateways::table.select(gateways::id);
                let seen = t::gateway_id.eq_any(there).nullable();
                query = query.filter(seen.or(t::principal.is_not_null().and(t::principal.eq(own))));
            }
            (None, false, Visible::Only(ids)) => {
                query = query.filter(t::gateway_id.eq_any(ids));
            }
            (Some(own), false, Visible::Only(ids)) => {
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
            // The first condition bounds the index; `(a, b) < (x, y)` is nothing that diesel can say.
            query =
                query.filter(t::created_at.le(at)).filter(t::created_at.lt(at).or(t::id.lt(id)));
        }
        query.load(c).await
    })?)
}

/// The versions of those of these that there are.
pub async fn versions(conn: &mut Conn, ids: &[String]) -> Result<Vec<(String, i64)>, Error> {
    Ok(on_conn!(conn, |c| operations::table
        .filter(operations::id.eq_any(ids))
        .select((operations::id, operations::version))
        .load(c)
        .await)?)
}

/// What an owner writes while it works; none is what stays.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = operations)]
#[expect(missing_docs, reason = "the columns")]
pub struct Mark<'a> {
    pub progress_pct: Option<i32>,
    pub progress_msg: Option<&'a str>,
    pub step: Option<&'a str>,
    pub sandbox_name: Option<&'a str>,
    pub input: Option<&'a [u8]>,
}

/// Writes what an owner has to say of its work; answers the new version, none where the lease or the work is gone.
pub async fn mark(
    conn: &mut Conn,
    id: &str,
    fence: i64,
    mark: &Mark<'_>,
    now: Timestamp,
) -> Result<Option<i64>, Error> {
    use operations as t;
    let row =
        t::table.filter(t::id.eq(id)).filter(t::fence.eq(fence)).filter(t::status.eq_any(active()));
    let moved = (t::updated_at.eq(now), t::version.eq(t::version + 1));
    Ok(on_conn!(conn, |c| diesel::update(row)
        .set((mark, moved))
        .returning(t::version)
        .get_result(c)
        .await
        .optional())?)
}

/// The work begins.
pub async fn run(
    conn: &mut Conn,
    id: &str,
    fence: i64,
    now: Timestamp,
) -> Result<Option<i64>, Error> {
    use operations as t;
    let row = t::table
        .filter(t::id.eq(id))
        .filter(t::fence.eq(fence))
        .filter(t::status.eq_any(Move::Run.from()));
    let set = (t::status.eq(Status::Running), t::updated_at.eq(now), t::version.eq(t::version + 1));
    Ok(on_conn!(conn, |c| diesel::update(row)
        .set(set)
        .returning(t::version)
        .get_result(c)
        .await
        .optional())?)
}

/// How an operation ended.
#[derive(Debug)]
pub struct End<'a> {
    /// Succeeded or failed.
    pub status: Status,
    /// The sealed result.
    pub result: Option<&'a [u8]>,
    /// Why it failed, for programs.
    pub code: Option<Code>,
    /// Why it failed, for people.
    pub message: Option<&'a str>,
    /// When.
    pub at: Timestamp,
}

/// Ends one; none where its lease was taken over or it has ended. Nobody owns it any more, and its input is gone.
pub async fn end(
    conn: &mut Conn,
    id: &str,
    fence: i64,
    end: &End<'_>,
) -> Result<Option<Operation>, Error> {
    use operations as t;
    let what = if end.code.is_none() { Move::Succeed } else { Move::Fail };
    let row = t::table
        .filter(t::id.eq(id))
        .filter(t::fence.eq(fence))
        .filter(t::status.eq_any(what.from()));
    let ended = (
        t::status.eq(end.status),
        t::result_json.eq(end.result),
        t::error_code.eq(end.code),
        t::error_message.eq(end.message),
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
    Ok(on_conn!(conn, |c| diesel::update(row)
        .set((ended, free))
        .returning(Operation::as_returning())
        .get_result(c)
        .await
        .optional())?)
}

/// Asks one to stop, of a gateway; none where it has ended or was asked before.
pub async fn cancel(
    conn: &mut Conn,
    id: &str,
    gateway: GatewayId,
    now: Timestamp,
) -> Result<Option<Operation>, Error> {
    use operations as t;
    let row = t::table
        .filter(t::id.eq(id))
        .filter(t::gateway_id.eq(gateway))
        .filter(t::status.eq_any(Move::Cancel.from()));
    let set =
        (t::status.eq(Status::Cancelling), t::updated_at.eq(now), t::version.eq(t::version + 1));
    Ok(on_conn!(conn, |c| diesel::update(row)
        .set(set)
        .returning(Operation::as_returning())
        .get_result(c)
        .await
        .optional())?)
}

/// Deletes up to `limit` that ended before `cutoff`.
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
