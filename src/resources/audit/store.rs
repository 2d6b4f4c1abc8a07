//! Reads, closes and deletes rows of `audit_log`. `batch` writes them.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;

use crate::access::action::Action;
use crate::audit::Ending;
use crate::clock::Timestamp;
use crate::db::schema::{audit_log, replicas};
use crate::db::types::{AuditId, GatewayId};
use crate::db::{Conn, on_conn};
use crate::error::Error;

// Must equal the expression of the index `audit_log_long`, otherwise the database cannot use the index.
const LONG: &str = "COALESCE(duration_us, 60000000) >= 60000000";
const SHORT: &str = "COALESCE(duration_us, 60000000) < 60000000";
// The same for the index `audit_log_not_ok`: a bound value does not match its condition.
const NOT_OK: &str = "outcome <> 'ok'";

/// An entry.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = audit_log)]
#[expect(missing_docs, reason = "the columns; the migration and the proto document them")]
pub struct AuditEntry {
    pub id: AuditId,
    pub timestamp: Timestamp,
    pub actor: String,
    pub actor_role: String,
    pub action: String,
    pub resource_type: String,
    pub resource_id: String,
    pub gateway_name: Option<String>,
    pub detail: Option<String>,
    pub client_ip: Option<String>,
    pub principal: Option<String>,
    pub request_id: String,
    pub method: String,
    pub digest: Option<Vec<u8>>,
    pub digest_key_id: Option<String>,
    pub closed_at: Option<Timestamp>,
    pub outcome: Option<Ending>,
    pub code: Option<i32>,
    pub outcome_detail: Option<String>,
    pub duration_us: Option<i64>,
    pub bytes_in: Option<i64>,
    pub bytes_out: Option<i64>,
    pub outcome_target: Option<String>,
}

/// Column filters; `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[expect(missing_docs, reason = "the columns that must be equal")]
pub struct ColumnFilter {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
    pub gateway: Option<String>,
    pub request_id: Option<String>,
}

/// Filter of closed entries by the times of their beginning and end.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClosedFilter {
    /// After this entry of the list.
    pub after: Option<(Timestamp, AuditId)>,
    /// With this outcome.
    pub outcome: Option<Ending>,
    /// Began at or after this time.
    pub begun_from: Option<Timestamp>,
    /// Began before this time.
    pub begun_before: Option<Timestamp>,
    /// Closed at or after this time; derived from the beginning, to bound the scan.
    pub closed_from: Option<Timestamp>,
    /// Closed before this time; likewise.
    pub closed_before: Option<Timestamp>,
    /// Duration.
    pub duration: DurationFilter,
    /// Where the filtered resource was named.
    pub named: NamingTime,
}

/// When an entry got the name of its resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NamingTime {
    /// Before the call.
    #[default]
    Before,
    /// After the call: the name was not known before.
    After,
}

/// Duration of entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DurationFilter {
    /// Any duration.
    #[default]
    Any,
    /// Less than a minute.
    Short,
    /// A minute or more, or unknown.
    Long,
}

/// Adds the column filters, except for the id of the resource, which may be in either of two columns.
macro_rules! same {
    ($query:ident, $same:expr) => {{
        let same: &ColumnFilter = $same;
        if let Some(value) = &same.actor {
            $query = $query.filter(audit_log::actor.eq(value));
        }
        if let Some(value) = &same.action {
            $query = $query.filter(audit_log::action.eq(value));
        }
        if let Some(value) = &same.resource_type {
            $query = $query.filter(audit_log::resource_type.eq(value));
        }
        if let Some(value) = &same.gateway {
            $query = $query.filter(audit_log::gateway_name.eq(value));
        }
        if let Some(value) = &same.request_id {
            $query = $query.filter(audit_log::request_id.eq(value));
        }
    }};
}

/// Returns open entries with ids below `before`, most recently begun first.
pub async fn list_open(
    conn: &mut Conn,
    same: &ColumnFilter,
    begun: (Option<Timestamp>, Option<Timestamp>),
    before: Option<AuditId>,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = audit_log::table
            .select(AuditEntry::as_select())
            .filter(audit_log::closed_at.is_null())
            .order(audit_log::id.desc())
            .limit(limit)
            .into_boxed();
        same!(query, same);
        if let Some(id) = &same.resource_id {
            query = query.filter(audit_log::resource_id.eq(id));
        }
        if let Some(from) = begun.0 {
            query = query.filter(audit_log::timestamp.ge(from));
        }
        if let Some(until) = begun.1 {
            query = query.filter(audit_log::timestamp.lt(until));
        }
        if let Some(before) = before {
            query = query.filter(audit_log::id.lt(before));
        }
        query.load(c).await
    })?)
}

/// Returns closed entries, most recently closed first.
pub async fn list_closed(
    conn: &mut Conn,
    same: &ColumnFilter,
    which: ClosedFilter,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = audit_log::table
            .select(AuditEntry::as_select())
            .filter(audit_log::closed_at.is_not_null())
            .order((audit_log::closed_at.desc(), audit_log::id.desc()))
            .limit(limit)
            .into_boxed();
        same!(query, same);
        query = match (&same.resource_id, which.named) {
            (None, _) => query,
            (Some(id), NamingTime::Before) => query.filter(audit_log::resource_id.eq(id)),
            (Some(id), NamingTime::After) => {
                query.filter(audit_log::outcome_target.eq(id)).filter(audit_log::resource_id.eq(""))
            }
        };
        if let Some(outcome) = which.outcome {
            query = query.filter(audit_log::outcome.eq(outcome));
            if outcome != Ending::Ok {
                query = query.filter(sql::<Bool>(NOT_OK));
            }
        }
        if let Some(from) = which.begun_from {
            query = query.filter(audit_log::timestamp.ge(from));
        }
        if let Some(before) = which.begun_before {
            query = query.filter(audit_log::timestamp.lt(before));
        }
        if let Some(from) = which.closed_from {
            query = query.filter(audit_log::closed_at.ge(from));
        }
        if let Some(before) = which.closed_before {
            query = query.filter(audit_log::closed_at.lt(before));
        }
        query = match which.duration {
            DurationFilter::Any => query,
            DurationFilter::Short => query.filter(sql::<Bool>(SHORT)),
            DurationFilter::Long => query.filter(sql::<Bool>(LONG)),
        };
        if let Some((at, id)) = which.after {
            // The first condition bounds the index scan; diesel does not support `(a, b) < (x, y)`.
            query = query
                .filter(audit_log::closed_at.le(at))
                .filter(audit_log::closed_at.lt(at).or(audit_log::id.lt(id)));
        }
        query.load(c).await
    })?)
}

/// Closes up to `limit` entries of crashed processes as `unknown`. A single statement: a process writes its heartbeat
/// before it opens entries, so a statement that sees an entry also sees that heartbeat.
pub async fn close_orphans(
    conn: &mut Conn,
    alive_since: Timestamp,
    now: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    const GRPC_UNKNOWN: i32 = 2;
    Ok(on_conn!(conn, |c| {
        let alive =
            replicas::table.filter(replicas::heartbeat_at.ge(alive_since)).select(replicas::id);
        let owner = diesel::alias!(audit_log as orphan);
        let orphans = owner
            .filter(owner.field(audit_log::closed_at).is_null())
            .filter(owner.field(audit_log::owner).ne_all(alive))
            .order(owner.field(audit_log::id))
            .select(owner.field(audit_log::id))
            .limit(limit);
        let open = audit_log::table
            .filter(audit_log::id.eq_any(orphans))
            .filter(audit_log::closed_at.is_null());
        diesel::update(open)
            .set((
                audit_log::closed_at.eq(now),
                audit_log::outcome.eq(Ending::Unknown),
                audit_log::code.eq(GRPC_UNKNOWN),
            ))
            .execute(c)
            .await
    })?)
}

/// Deletes up to `limit` entries that were closed before `cutoff`.
pub async fn delete_old(conn: &mut Conn, cutoff: Timestamp, limit: i64) -> Result<usize, Error> {
    let old: Vec<AuditId> = on_conn!(conn, |c| audit_log::table
        .filter(audit_log::closed_at.is_not_null())
        .filter(audit_log::closed_at.lt(cutoff))
        .select(audit_log::id)
        .order((audit_log::closed_at, audit_log::id))
        .limit(limit)
        .load(c)
        .await)?;
    let old = audit_log::table.filter(audit_log::id.eq_any(old));
    Ok(on_conn!(conn, |c| diesel::delete(old).execute(c).await)?)
}

/// Returns the number of open entries about a gateway: calls in progress on all replicas, apart from those that unregister
/// it.
pub async fn count_open_on_gateway(conn: &mut Conn, gateway: GatewayId) -> Result<i64, Error> {
    let open = audit_log::closed_at
        .is_null()
        .and(audit_log::gateway_id.eq(gateway.get()))
        .and(audit_log::action.ne(Action::GATEWAY_UNREGISTER.as_str()));
    Ok(on_conn!(conn, |c| audit_log::table.filter(open).count().get_result(c).await)?)
}
