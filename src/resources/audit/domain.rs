//! Reading the audit log: filters and pages.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::store::{self, AuditEntry, ClosedFilter, ColumnFilter, DurationFilter, NamingTime};
use crate::audit::Ending;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, ListKey};
use crate::db::page::PageSize;
use crate::db::types::{AuditId, GatewayId};
use crate::db::{Conn, Db};
use crate::error::Error;

/// Calls shorter than this are found by their closing time, which is close to their start. Longer calls have an index
/// of their own.
const SHORT: Duration = Duration::from_mins(1);
/// Maximum time by which a clock may have been set back between the beginning and the end of a call.
const CLOCK_SLACK: Duration = Duration::from_mins(1);

/// Filter of entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// Columns that must be equal.
    pub same: ColumnFilter,
    /// State.
    pub state: StateFilter,
    /// Begun at or after, in microseconds of Unix time.
    pub since_us: Option<i64>,
    /// Begun before, in microseconds of Unix time.
    pub until_us: Option<i64>,
}

/// State of the entries to return.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum StateFilter {
    /// Open or closed.
    #[default]
    Any,
    /// Open.
    Open,
    /// Closed with this outcome.
    #[serde(serialize_with = "serialize_ending")]
    Ended(Ending),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn serialize_ending<S: serde::Serializer>(ending: &Ending, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(ending.as_str())
}

/// Cursor of a list.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Position {
    /// After an open entry.
    Open { id: i64 },
    /// After a closed entry.
    Closed { at_us: i64, id: i64 },
}

impl Position {
    fn from_row(row: &AuditEntry) -> Self {
        match row.closed_at {
            None => Self::Open { id: row.id.get() },
            Some(at) => Self::Closed { at_us: at.unix_micros(), id: row.id.get() },
        }
    }
}

/// Returns a page of entries and the token of the next page. Open entries come first, then closed ones, most recently
/// closed first.
///
/// An entry that is closed between two pages may be on both, but is never missing.
pub async fn list(
    ctx: &Ctx,
    filter: &Filter,
    size: PageSize,
    token: &str,
) -> Result<(Vec<AuditEntry>, String), Error> {
    let asked = serde_json::to_vec(filter).map_err(Error::internal)?;
    let list =
        ListKey { method: "ListAuditEntries", filter: &asked, order: "open, closed_at desc" };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let after = page.after().copied();
    let rows = read_rows(ctx.db(), filter, after, page.limit()).await?;
    page.finish(rows, Position::from_row)
}

async fn read_rows(
    db: &Db,
    filter: &Filter,
    after: Option<Position>,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    let mut conn = db.read().await?;
    let since = filter.since_us.map(Timestamp::from_unix_micros);
    let until = filter.until_us.map(Timestamp::from_unix_micros);
    let (with_open, outcome, with_closed) = match filter.state {
        StateFilter::Any => (true, None, true),
        StateFilter::Open => (true, None, false),
        StateFilter::Ended(ending) => (false, Some(ending), true),
    };
    let (before, after) = match after {
        None => (None, None),
        Some(Position::Open { id }) => (Some(AuditId(id)), None),
        Some(Position::Closed { at_us, id }) => {
            (None, Some((Timestamp::from_unix_micros(at_us), AuditId(id))))
        }
    };
    let mut rows = Vec::new();
    if with_open && after.is_none() {
        rows = store::list_open(&mut conn, &filter.same, (since, until), before, limit).await?;
    }
    let room = limit - i64::try_from(rows.len()).unwrap_or(limit);
    if with_closed && room > 0 {
        let which = ClosedFilter {
            after,
            outcome,
            begun_from: since,
            begun_before: until,
            closed_from: since.map(|since| since.minus(CLOCK_SLACK)),
            ..ClosedFilter::default()
        };
        // Not reduced by the number of open entries, since some of these may have been closed between both reads.
        let room = if rows.is_empty() { room } else { limit };
        let found = list_closed(&mut conn, &filter.same, which, room).await?;
        rows.retain(|open| found.iter().all(|row| row.id != open.id));
        rows.extend(found);
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(rows)
}

/// Returns closed entries. A filter on the resource matches the name recorded before or after the call; each entry has
/// only one of them.
async fn list_closed(
    conn: &mut Conn,
    same: &ColumnFilter,
    which: ClosedFilter,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    let mut rows = list_closed_by_start(conn, same, which, limit).await?;
    if same.resource_id.is_some() {
        let named_after = ClosedFilter { named: NamingTime::After, ..which };
        rows.extend(list_closed_by_start(conn, same, named_after, limit).await?);
        merge(&mut rows, limit);
    }
    Ok(rows)
}

/// Returns closed entries that began before a time, if the filter has one. Since the order is by the time of closing,
/// one query would scan all entries closed later. But nearly all calls end within a minute, and the longer ones have
/// their own index.
async fn list_closed_by_start(
    conn: &mut Conn,
    same: &ColumnFilter,
    which: ClosedFilter,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    let Some(until) = which.begun_before else {
        return store::list_closed(conn, same, which, limit).await;
    };
    // SQLite stores no time beyond the year 9999, and no entry was closed there.
    let closed_before =
        Some(until.plus(SHORT).plus(CLOCK_SLACK)).filter(|end| end.to_offset().is_some());
    let short = ClosedFilter { closed_before, duration: DurationFilter::Short, ..which };
    let mut rows = store::list_closed(conn, same, short, limit).await?;
    let long = ClosedFilter { duration: DurationFilter::Long, ..which };
    rows.extend(store::list_closed(conn, same, long, limit).await?);
    merge(&mut rows, limit);
    Ok(rows)
}

/// Sorts the entries of several lists, most recently closed first, and truncates the result.
fn merge(rows: &mut Vec<AuditEntry>, limit: i64) {
    rows.sort_by_key(|row| std::cmp::Reverse((row.closed_at, row.id)));
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
}

/// Returns the number of calls with open entries about a gateway, on all replicas.
pub async fn count_open_on_gateway(conn: &mut Conn, gateway: GatewayId) -> Result<i64, Error> {
    store::count_open_on_gateway(conn, gateway).await
}
