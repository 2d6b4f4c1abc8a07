//! Database access for the change log.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::position::LogPosition;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{access_change_retention, access_changes};
use crate::db::{Conn, Engine, PgConn, on_conn};
use crate::error::Error;
use crate::outbox::AccessSubject;
use crate::role::Role;

/// Parses a stored role. Any other value is a database error, never the weakest role.
pub fn parse_role(text: &str) -> Result<Role, Error> {
    text.parse().map_err(Error::internal)
}

/// Returns the newest revision.
pub async fn last_revision(conn: &mut Conn) -> Result<i64, Error> {
    let last: Option<i64> = on_conn!(conn, |c| access_changes::table
        .select(diesel::dsl::max(access_changes::revision))
        .first(c)
        .await)?;
    Ok(last.unwrap_or(0))
}

/// A change in the log.
#[derive(Debug, Clone, Copy)]
pub struct LoggedChange {
    /// Its number.
    pub revision: i64,
    /// Its place, which positions are compared with.
    place: i64,
    /// The subject; `None` if this build does not know its kind.
    pub subject: Option<AccessSubject>,
}

impl LoggedChange {
    fn new(revision: i64, place: i64, kind: &str, id: i64) -> Self {
        let subject = match kind {
            "user" => Some(AccessSubject::User(id.into())),
            "service_principal" => Some(AccessSubject::ServicePrincipal(id.into())),
            "group" => Some(AccessSubject::Group(id.into())),
            "gateway" => Some(AccessSubject::Gateway(id.into())),
            _ => None,
        };
        Self { revision, place, subject }
    }
}

/// The rest of the unread changes, after those that were read.
#[derive(Debug)]
pub struct NextPage {
    /// Place and revision of the last change that was read.
    after: (i64, i64),
    /// The position after the last page.
    position: LogPosition,
}

/// A page of unread changes.
#[derive(Debug)]
pub struct UnreadChanges {
    /// The changes, in no particular order.
    pub changes: Vec<LoggedChange>,
    /// The position after the last page: all changes that were committed before the first page was read are below it.
    pub position: LogPosition,
    /// The next page; `None` if this is the last one.
    pub next: Option<NextPage>,
    /// Whether unread changes may have been deleted.
    pub missed: bool,
}

/// Returns the position of a reader that has read all committed changes.
pub async fn current_position(conn: &mut Conn) -> Result<LogPosition, Error> {
    match conn {
        Conn::Pg(c) => {
            let query = cached(diesel::sql_query("SELECT pg_current_snapshot()::text AS snapshot"));
            let row: SnapshotRow = query.get_result(c).await?;
            LogPosition::from_snapshot(&row.snapshot)
        }
        Conn::Sqlite(_) => Ok(LogPosition::after_revision(last_revision(conn).await?)),
    }
}

/// Returns a page of the changes that a reader at `position` has not read: the first one, or `next`. A page has at most
/// `limit` changes, and on PostgreSQL those of transactions that were open when the position was taken.
pub async fn unread_changes(
    conn: &mut Conn,
    position: &LogPosition,
    next: Option<&NextPage>,
    limit: i64,
) -> Result<UnreadChanges, Error> {
    match conn {
        Conn::Pg(c) => unread_in_transactions(c, position, next, limit).await,
        Conn::Sqlite(_) => unread_revisions(conn, position, next, limit).await,
    }
}

#[derive(QueryableByName)]
struct SnapshotRow {
    #[diesel(sql_type = Text)]
    snapshot: String,
}

/// A change, with the state of the log in the same snapshot. Without changes, there is one row that has only the state.
#[derive(QueryableByName)]
struct UnreadRow {
    #[diesel(sql_type = Text)]
    snapshot: String,
    #[diesel(sql_type = BigInt)]
    deleted_place: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    revision: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    transaction_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    subject_kind: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    subject_id: Option<i64>,
}

/// The snapshot must be that in which the changes are read. Ids that it does not know are those of another cluster.
const UNREAD: &str = "\
    SELECT pg_current_snapshot()::text AS snapshot, deleted_place, revision, transaction_id, subject_kind, subject_id \
    FROM access_change_retention LEFT JOIN (\
      (SELECT revision, transaction_id, subject_kind, subject_id FROM access_changes \
       WHERE transaction_id = ANY($1)) \
      UNION ALL \
      (SELECT revision, transaction_id, subject_kind, subject_id FROM access_changes \
       WHERE (transaction_id, revision) > ($2, $3) \
       AND transaction_id < pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
       ORDER BY transaction_id, revision LIMIT $4)\
    ) AS change ON TRUE";

async fn unread_in_transactions(
    conn: &mut PgConn,
    position: &LogPosition,
    next: Option<&NextPage>,
    limit: i64,
) -> Result<UnreadChanges, Error> {
    // Revisions begin with 1. Changes of transactions that were open are on the first page.
    let (after, open) = match next {
        Some(page) => (page.after, Vec::new()),
        None => ((position.next(), 0), position.open().to_vec()),
    };
    let query = diesel::sql_query(UNREAD)
        .bind::<Array<BigInt>, _>(open)
        .bind::<BigInt, _>(after.0)
        .bind::<BigInt, _>(after.1)
        .bind::<BigInt, _>(limit);
    let rows: Vec<UnreadRow> = cached(query).load(conn).await?;
    let Some(first) = rows.as_slice().first() else {
        return Err(Error::internal("the log of access changes has no row of its retention"));
    };
    let now = LogPosition::from_snapshot(&first.snapshot)?;
    let missed = position.has_missed(first.deleted_place, &now);
    let changes: Vec<LoggedChange> = rows.into_iter().filter_map(UnreadRow::into_change).collect();
    let position = next.map_or(now, |page| page.position.clone());
    let read = changes.iter().map(|change| (change.place, change.revision));
    let read: Vec<(i64, i64)> = read.filter(|place| *place > after).collect();
    let full = i64::try_from(read.len()).is_ok_and(|count| count >= limit);
    let last = read.into_iter().max().filter(|_| full);
    let next = last.map(|after| NextPage { after, position: position.clone() });
    Ok(UnreadChanges { changes, position, next, missed })
}

impl UnreadRow {
    fn into_change(self) -> Option<LoggedChange> {
        let (revision, place) = (self.revision?, self.transaction_id?);
        Some(LoggedChange::new(revision, place, &self.subject_kind?, self.subject_id?))
    }
}

async fn unread_revisions(
    conn: &mut Conn,
    position: &LogPosition,
    next: Option<&NextPage>,
    limit: i64,
) -> Result<UnreadChanges, Error> {
    let after = next.map_or(position.next().saturating_sub(1), |page| page.after.1);
    let rows: Vec<(i64, String, i64)> = on_conn!(conn, |c| access_changes::table
        .filter(access_changes::revision.gt(after))
        .select((
            access_changes::revision,
            access_changes::subject_kind,
            access_changes::subject_id
        ))
        .order(access_changes::revision)
        .limit(limit)
        .load(c)
        .await)?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    let change =
        |(revision, kind, id): (i64, String, i64)| LoggedChange::new(revision, revision, &kind, id);
    let changes: Vec<LoggedChange> = rows.into_iter().map(change).collect();
    let last = changes.last().map_or(after, |change| change.revision);
    let now = LogPosition::after_revision(last);
    // The newest change is never deleted, so deleted changes are a gap before an unread one.
    let missed = match changes.as_slice().first() {
        Some(first) if first.revision > after + 1 => {
            position.has_missed(deleted_place(conn).await?, &now)
        }
        Some(_) | None => false,
    };
    let next = full.then(|| NextPage { after: (last, last), position: now.clone() });
    Ok(UnreadChanges { changes, position: now, next, missed })
}

/// Returns the highest place of a deleted change.
async fn deleted_place(conn: &mut Conn) -> Result<i64, Error> {
    let deleted = access_change_retention::table.select(access_change_retention::deleted_place);
    Ok(on_conn!(conn, |c| deleted.first(c).await)?)
}

/// Deletes the oldest changes, at most `limit`, until it reaches a change that is not older than `before`; the newest
/// change is never deleted. Returns the number of deleted changes. A reader that has not read them detects it by their
/// places.
pub async fn delete_before(conn: &mut Conn, before: Timestamp, limit: i64) -> Result<usize, Error> {
    use access_changes as t;
    let last = last_revision(conn).await?;
    let oldest: Vec<(i64, i64, Timestamp)> = on_conn!(conn, |c| t::table
        .filter(t::revision.lt(last))
        .select((t::revision, t::transaction_id, t::changed_at))
        .order(t::revision)
        .limit(limit)
        .load(c)
        .await)?;
    let old = oldest.into_iter().take_while(|(_, _, at)| *at < before);
    let old: Vec<(i64, i64)> = match conn.engine() {
        Engine::Sqlite => old.map(|(revision, _, _)| (revision, revision)).collect(),
        Engine::Postgres => old.map(|(revision, place, _)| (revision, place)).collect(),
    };
    if old.is_empty() {
        return Ok(0);
    }
    let newest = newest_place(conn, last).await?;
    let here = old.iter().map(|(_, place)| *place).filter(|place| *place <= newest);
    if let Some(deleted) = here.max() {
        use access_change_retention as t;
        // A higher place is one of another cluster, from which the log was restored.
        let lower = t::table.filter(t::deleted_place.lt(deleted).or(t::deleted_place.gt(newest)));
        let to = t::deleted_place.eq(deleted);
        on_conn!(conn, |c| diesel::update(lower).set(to).execute(c).await)?;
    }
    // Only changes that were looked at: one with a lower revision may be committed in the meantime.
    let revisions: Vec<i64> = old.into_iter().map(|(revision, _)| revision).collect();
    let old = t::table.filter(t::revision.eq_any(revisions));
    Ok(on_conn!(conn, |c| diesel::delete(old).execute(c).await)?)
}

/// Returns a place that no change of this cluster is above. Must be called in the transaction of a writer.
async fn newest_place(conn: &mut Conn, last_revision: i64) -> Result<i64, Error> {
    const NEWEST: &str = "\
        SELECT GREATEST(pg_current_xact_id(), pg_snapshot_xmax(pg_current_snapshot()))::text::bigint AS place";
    let Conn::Pg(c) = conn else { return Ok(last_revision) };
    let row: PlaceRow = cached(diesel::sql_query(NEWEST)).get_result(c).await?;
    Ok(row.place)
}

#[derive(QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = BigInt)]
    place: i64,
}
