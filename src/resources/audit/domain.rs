//! Reading the audit log: what is asked for, and the pages of it.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::store::{self, Closed, Named, Row, Same, Took};
use crate::audit::Ending;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, List};
use crate::db::page::PageSize;
use crate::db::types::{AuditId, GatewayId};
use crate::db::{Conn, Db};
use crate::error::Error;

/// Entries that took less than this are looked for near the time at which they were begun.
const SHORT: Duration = Duration::from_mins(1);
/// How far a clock may have been set back between the begin and the end of a call.
const CLOCK_SLACK: Duration = Duration::from_mins(1);

/// Which entries are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// What must be equal.
    pub same: Same,
    /// How they ended.
    pub state: State,
    /// Begun at or after, in microseconds of Unix time.
    pub since_us: Option<i64>,
    /// Begun before, in microseconds of Unix time.
    pub until_us: Option<i64>,
}

/// How entries that are asked for ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum State {
    /// Anyhow, or not yet.
    #[default]
    Any,
    /// Not yet.
    Open,
    /// In this way.
    #[serde(serialize_with = "word")]
    Ended(Ending),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn word<S: serde::Serializer>(ending: &Ending, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(ending.as_str())
}

/// Where a list goes on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Position {
    /// After an open entry.
    Open { id: i64 },
    /// After a closed entry.
    Closed { at_us: i64, id: i64 },
}

impl Position {
    fn of(row: &Row) -> Self {
        match row.closed_at {
            None => Self::Open { id: row.id.get() },
            Some(at) => Self::Closed { at_us: at.unix_micros(), id: row.id.get() },
        }
    }
}

/// One page of entries, those still open first, then the one closed last first, and the token of the next page.
///
/// An entry that is closed between two pages may be shown on both, and is missing on neither.
pub async fn list(
    ctx: &Ctx,
    filter: &Filter,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Row>, String), Error> {
    let asked = serde_json::to_vec(filter).map_err(Error::internal)?;
    let list = List { method: "ListAuditEntries", filter: &asked, order: "open, closed_at desc" };
    let page = ctx.page::<Position>(list, size, token)?;
    let after = page.after().copied();
    let rows = rows(ctx.db(), filter, after, page.limit()).await?;
    page.finish(rows, Position::of)
}

async fn rows(
    db: &Db,
    filter: &Filter,
    after: Option<Position>,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    let mut conn = db.read().await?;
    let since = filter.since_us.map(Timestamp::from_unix_micros);
    let until = filter.until_us.map(Timestamp::from_unix_micros);
    let (with_open, outcome, with_closed) = match filter.state {
        State::Any => (true, None, true),
        State::Open => (true, None, false),
        State::Ended(ending) => (false, Some(ending), true),
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
        rows = store::open(&mut conn, &filter.same, (since, until), before, limit).await?;
    }
    let room = limit - i64::try_from(rows.len()).unwrap_or(limit);
    if with_closed && room > 0 {
        let which = Closed {
            after,
            outcome,
            begun_from: since,
            begun_before: until,
            closed_from: since.map(|since| since.minus(CLOCK_SLACK)),
            ..Closed::default()
        };
        // As many as without open ones, since some of those may have been closed between the two reads.
        let room = if rows.is_empty() { room } else { limit };
        let found = closed(&mut conn, &filter.same, which, room).await?;
        rows.retain(|open| found.iter().all(|row| row.id != open.id));
        rows.extend(found);
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(rows)
}

/// What is asked for by its name may have got it before or after it happened; each entry has it in one place.
async fn closed(
    conn: &mut Conn,
    same: &Same,
    which: Closed,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    let mut rows = by_begin(conn, same, which, limit).await?;
    if same.resource_id.is_some() {
        let named_after = Closed { named: Named::After, ..which };
        rows.extend(by_begin(conn, same, named_after, limit).await?);
        merge(&mut rows, limit);
    }
    Ok(rows)
}

/// The order is by end, so where entries were begun before some time, all that ended later would be looked at in vain.
/// But nearly every call ends within a minute, and the few others have an index of their own.
async fn by_begin(
    conn: &mut Conn,
    same: &Same,
    which: Closed,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    let Some(until) = which.begun_before else {
        return store::closed(conn, same, which, limit).await;
    };
    let closed_before = Some(until.plus(SHORT).plus(CLOCK_SLACK));
    let short = Closed { closed_before, took: Took::Short, ..which };
    let mut rows = store::closed(conn, same, short, limit).await?;
    let long = Closed { took: Took::Long, ..which };
    rows.extend(store::closed(conn, same, long, limit).await?);
    merge(&mut rows, limit);
    Ok(rows)
}

/// The one closed last first, of several such lists.
fn merge(rows: &mut Vec<Row>, limit: i64) {
    rows.sort_by_key(|row| std::cmp::Reverse((row.closed_at, row.id)));
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
}

/// How many recorded calls about a gateway are going on, on whatever replica.
pub async fn count_open_on(conn: &mut Conn, gateway: GatewayId) -> Result<i64, Error> {
    store::count_open_on(conn, gateway).await
}
