//! Rows of bypass events, and when they were last announced.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::classify::{BypassLine, Technique};
use super::ocsf::{Class, Disposition, Severity};
use crate::clock::Timestamp;
use crate::db::rows_by_gateway::RowsByGateway;
use crate::db::schema::{bypass_events as t, bypass_notices as n};
use crate::db::types::{GatewayId, Json, SandboxName, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::delete_first;
use crate::error::Error;
use crate::rows_by_gateway;

/// The lines, which are old by the time at which they were read.
pub const LINES: RowsByGateway =
    rows_by_gateway!(t, |before| t::created_at.lt(before), t::created_at);

/// The notices, which are old by their last event. A notice with lines that are not announced is not old.
pub const NOTICES: RowsByGateway = rows_by_gateway!(
    n,
    |before| n::announced_at.lt(before).and(n::waiting.eq(0_i64)),
    n::announced_at
);

/// A stored bypass event.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct BypassEvent {
    /// Id of the row: a later one was found later.
    pub id: i64,
    /// The gateway's id of the sandbox.
    pub sandbox_uid: String,
    /// Time of the line.
    pub at: Timestamp,
    /// Severity.
    pub severity: Severity,
    /// Technique.
    pub technique: Technique,
    /// Id of the technique in MITRE ATT&CK.
    pub mitre_id: String,
    /// Absolute path of the program.
    pub binary: Option<String>,
    /// Text of the line.
    pub summary: String,
    /// Fields of the line.
    pub fields_json: Json<BTreeMap<String, String>>,
    /// Class of the line.
    pub raw_class: Class,
    /// Disposition of the attempt.
    pub raw_disposition: Option<Disposition>,
    /// When the line was read.
    pub created_at: Timestamp,
}

/// When bypass events of a sandbox and technique were last announced.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = n)]
pub struct Notice {
    /// Id of the row.
    pub id: i64,
    /// Workspace of the sandbox.
    pub workspace: String,
    /// Name of the sandbox.
    pub sandbox_name: String,
    /// The gateway's id of the sandbox.
    pub sandbox_uid: String,
    /// Technique.
    pub technique: Technique,
    /// Time of the last event.
    pub announced_at: Timestamp,
    /// Number of lines that were stored since.
    pub waiting: i64,
}

impl Notice {
    /// Returns the name of the sandbox.
    #[must_use]
    pub fn sandbox(&self) -> SandboxName {
        SandboxName { workspace: self.workspace.clone(), name: self.sandbox_name.clone() }
    }
}

/// Stores a line. Returns false if it is stored already.
pub async fn insert(
    conn: &mut Conn,
    place: &SandboxRef,
    uid: &str,
    found: &BypassLine,
    now: Timestamp,
) -> Result<bool, Error> {
    let line = &found.line;
    let row = (
        t::gateway_id.eq(place.gateway.id.get()),
        t::gateway_name.eq(&*place.gateway.name),
        t::workspace.eq(place.workspace()),
        t::sandbox_name.eq(place.sandbox()),
        t::sandbox_uid.eq(uid),
        t::at.eq(found.at),
        t::severity.eq(found.severity),
        t::technique.eq(found.technique),
        t::mitre_id.eq(found.technique.mitre_id()),
        t::binary.eq(line.binary.as_deref()),
        t::summary.eq(&line.summary),
        t::fields_json.eq(Json(line.fields.clone())),
        t::raw_class.eq(found.class),
        t::raw_disposition.eq(line.disposition),
        t::line_hash.eq(&found.line_hash),
        t::created_at.eq(now),
    );
    let stored = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    Ok(stored == 1)
}

/// Deletes all lines of a sandbox but the newest `keep`, at most `limit` at once. Returns how many were deleted.
pub async fn delete_beyond(
    conn: &mut Conn,
    gateway: GatewayId,
    uid: &str,
    keep: i64,
    limit: i64,
) -> Result<usize, Error> {
    let last: Option<i64> = on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway.get()).and(t::sandbox_uid.eq(uid)))
        .select(t::id)
        .order(t::id.desc())
        .offset(keep)
        .limit(1)
        .first(c)
        .await
        .optional())?;
    let Some(last) = last else { return Ok(0) };
    let of_sandbox = t::gateway_id.eq(gateway.get()).and(t::sandbox_uid.eq(uid));
    Ok(delete_first!(conn, t, of_sandbox.and(t::id.le(last)), t::id, limit)?)
}

/// Returns when bypass events of a sandbox and technique were last announced.
pub async fn notice(
    conn: &mut Conn,
    gateway: GatewayId,
    uid: &str,
    technique: Technique,
) -> Result<Option<Notice>, Error> {
    Ok(on_conn!(conn, |c| n::table
        .filter(n::gateway_id.eq(gateway.get()).and(n::sandbox_uid.eq(uid)))
        .filter(n::technique.eq(technique))
        .select(Notice::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Returns notices of a gateway whose last event was at or before a time and that have lines since, at most `limit`.
pub async fn due_notices(
    conn: &mut Conn,
    gateway: GatewayId,
    by: Timestamp,
    limit: i64,
) -> Result<Vec<Notice>, Error> {
    Ok(on_conn!(conn, |c| n::table
        .filter(n::gateway_id.eq(gateway.get()))
        .filter(n::waiting.gt(0_i64).and(n::announced_at.le(by)))
        .select(Notice::as_select())
        .order(n::id)
        .limit(limit)
        .load(c)
        .await)?)
}

/// Stores that bypass events of a sandbox and technique were announced for the first time.
pub async fn insert_notice(
    conn: &mut Conn,
    place: &SandboxRef,
    uid: &str,
    technique: Technique,
    now: Timestamp,
) -> Result<(), Error> {
    let row = (
        n::gateway_id.eq(place.gateway.id.get()),
        n::workspace.eq(place.workspace()),
        n::sandbox_name.eq(place.sandbox()),
        n::sandbox_uid.eq(uid),
        n::technique.eq(technique),
        n::announced_at.eq(now),
        n::waiting.eq(0_i64),
    );
    on_conn!(conn, |c| diesel::insert_into(n::table).values(row).execute(c).await)?;
    Ok(())
}

/// Stores when bypass events were announced, and how many lines were stored since.
pub async fn set_notice(
    conn: &mut Conn,
    id: i64,
    announced_at: Timestamp,
    waiting: i64,
) -> Result<(), Error> {
    let set = (n::announced_at.eq(announced_at), n::waiting.eq(waiting));
    on_conn!(conn, |c| diesel::update(n::table.find(id)).set(set).execute(c).await)?;
    Ok(())
}

/// Returns the newest bypass event of a sandbox and technique.
pub async fn newest(
    conn: &mut Conn,
    gateway: GatewayId,
    uid: &str,
    technique: Technique,
) -> Result<Option<BypassEvent>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(gateway.get()).and(t::sandbox_uid.eq(uid)))
        .filter(t::technique.eq(technique))
        .select(BypassEvent::as_select())
        .order(t::id.desc())
        .first(c)
        .await
        .optional())?)
}

/// Returns the id of the sandbox of a name whose bypass event was found last.
pub async fn newest_uid(conn: &mut Conn, place: &SandboxRef) -> Result<Option<String>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::gateway_id.eq(place.gateway.id.get()))
        .filter(t::workspace.eq(place.workspace()))
        .filter(t::sandbox_name.eq(place.sandbox()))
        .select(t::sandbox_uid)
        .order(t::id.desc())
        .first(c)
        .await
        .optional())?)
}

/// Selects bypass events of one sandbox.
#[derive(Debug, Clone, Copy)]
pub struct BypassQuery<'a> {
    /// Name of the sandbox.
    pub place: &'a SandboxRef,
    /// The gateway's id of the sandbox.
    pub uid: &'a str,
    /// Only lines that are not older.
    pub since: Timestamp,
}

/// Selects the rows of a query.
macro_rules! matching {
    ($query:expr) => {
        t::table
            .filter(t::gateway_id.eq($query.place.gateway.id.get()))
            .filter(t::sandbox_uid.eq($query.uid))
            .filter(t::workspace.eq($query.place.workspace()))
            .filter(t::sandbox_name.eq($query.place.sandbox()))
            .filter(t::at.ge($query.since))
    };
}

/// Returns matching bypass events with an id below `before`, the last found first, at most `limit`.
pub async fn page(
    conn: &mut Conn,
    query: BypassQuery<'_>,
    before: i64,
    limit: i64,
) -> Result<Vec<BypassEvent>, Error> {
    Ok(on_conn!(conn, |c| matching!(query)
        .filter(t::id.lt(before))
        .select(BypassEvent::as_select())
        .order(t::id.desc())
        .limit(limit)
        .load(c)
        .await)?)
}

/// The number of bypass events with one technique and severity, and the time of the newest line.
pub type Count = (Technique, Severity, i64, Option<Timestamp>);

/// Returns the numbers of matching bypass events by technique and severity.
pub async fn counts(conn: &mut Conn, query: BypassQuery<'_>) -> Result<Vec<Count>, Error> {
    Ok(on_conn!(conn, |c| matching!(query)
        .group_by((t::technique, t::severity))
        .select((t::technique, t::severity, diesel::dsl::count_star(), diesel::dsl::max(t::at)))
        .load(c)
        .await)?)
}
