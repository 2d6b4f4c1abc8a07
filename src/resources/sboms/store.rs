//! Rows of SBOMs and their content.

use std::sync::Arc;

use diesel::prelude::*;
use diesel::{QueryResult, SqliteConnection};
use diesel_async::RunQueryDsl;

use super::cyclonedx::Severity;
use super::diff::ComponentIdentity;
use super::lists::{ComponentFilter, SeverityFilter, VulnerabilityFilter};
use super::place::SandboxPlace;
use super::rows::{
    AFFECTS_SHOWN_MAX, ComponentRow, NewContent, NewSnapshot, Snapshot, VulnerabilityColumns,
    VulnerabilityRow,
};
use crate::clock::Timestamp;
use crate::db::schema::{
    sbom_affects, sbom_components, sbom_names, sbom_rules, sbom_snapshots, sbom_vulnerabilities,
};
use crate::db::types::SandboxName;
use crate::db::{Conn, PgConn, on_conn};
use crate::delete_first;
use crate::error::Error;

/// Rows per INSERT statement. With 15 columns each, they use a quarter of the parameters that PostgreSQL allows.
const ROWS_PER_STATEMENT: usize = 1_000;

diesel::define_sql_function! {
    /// Returns `count` bytes of a blob, starting at byte `from`. The first byte is 1.
    fn substr(whole: diesel::sql_types::Binary, from: diesel::sql_types::Integer, count: diesel::sql_types::Integer)
        -> diesel::sql_types::Binary;
}

/// Selects the row of `sbom_snapshots` of one sandbox, of which there is at most one.
macro_rules! of_place {
    ($place:expr) => {{
        let place: &SandboxPlace = $place;
        sbom_snapshots::gateway_name
            .eq(&place.gateway)
            .and(sbom_snapshots::workspace.eq(&place.name.workspace))
            .and(sbom_snapshots::sandbox_name.eq(&place.name.name))
    }};
}

/// Identifies an SBOM by its sandbox and its id.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotRef<'a> {
    /// The sandbox.
    pub place: &'a SandboxPlace,
    /// Id of the SBOM.
    pub id: i64,
}

/// Returns the SBOM of a sandbox.
pub async fn snapshot(conn: &mut Conn, place: &SandboxPlace) -> Result<Option<Snapshot>, Error> {
    Ok(on_conn!(conn, |c| sbom_snapshots::table
        .filter(of_place!(place))
        .select(Snapshot::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Returns the SBOM of a sandbox with the number of the rules by which its rows were computed, if it has one.
pub async fn snapshot_and_rules(
    conn: &mut Conn,
    place: &SandboxPlace,
) -> Result<Option<(Snapshot, Option<i32>)>, Error> {
    Ok(on_conn!(conn, |c| sbom_snapshots::table
        .left_join(sbom_rules::table)
        .filter(of_place!(place))
        .select((Snapshot::as_select(), sbom_rules::rules.nullable()))
        .first(c)
        .await
        .optional())?)
}

/// Serializes the uploads to one sandbox until the transaction ends.
pub async fn lock(conn: &mut Conn, place: &SandboxPlace) -> Result<(), Error> {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("sbom {place}").as_bytes());
    let mut key = [0; 8];
    key.copy_from_slice(&digest[..8]);
    conn.advisory_lock(i64::from_be_bytes(key)).await
}

/// Counts the SBOMs of a sandbox: 0 or 1.
pub async fn count_of_sandbox(
    conn: &mut Conn,
    gateway: &str,
    workspace: &str,
    sandbox: &str,
) -> Result<usize, Error> {
    use sbom_snapshots as t;
    let count: i64 = on_conn!(conn, |c| t::table
        .filter(t::gateway_name.eq(gateway).and(t::workspace.eq(workspace)))
        .filter(t::sandbox_name.eq(sandbox))
        .count()
        .get_result(c)
        .await)?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Counts the SBOMs of a gateway's sandboxes.
pub async fn count_on_gateway(conn: &mut Conn, gateway: &str) -> Result<i64, Error> {
    use sbom_snapshots as t;
    Ok(on_conn!(conn, |c| t::table
        .filter(t::gateway_name.eq(gateway))
        .count()
        .get_result(c)
        .await)?)
}

/// Deletes the SBOM of a sandbox with its content and returns the number of deleted SBOMs. With `uploaded_by`, only if
/// it was uploaded no later than that. For the transaction that deletes the sandbox.
pub async fn delete_of_sandbox(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
    uploaded_by: Option<Timestamp>,
) -> Result<usize, Error> {
    use sbom_snapshots as t;
    let one = t::gateway_name
        .eq(gateway)
        .and(t::workspace.eq(&sandbox.workspace))
        .and(t::sandbox_name.eq(&sandbox.name));
    Ok(match uploaded_by {
        None => on_conn!(conn, |c| diesel::delete(t::table.filter(one)).execute(c).await)?,
        Some(by) => {
            let old = t::table.filter(one.and(t::uploaded_at.le(by)));
            on_conn!(conn, |c| diesel::delete(old).execute(c).await)?
        }
    })
}

/// Deletes up to `limit` SBOMs of a gateway's sandboxes and returns their number.
pub async fn delete_on_gateway(conn: &mut Conn, gateway: &str, limit: i64) -> Result<usize, Error> {
    use sbom_snapshots as t;
    Ok(delete_first!(conn, t, t::gateway_name.eq(gateway), t::id, limit)?)
}

/// Inserts an SBOM without its content and returns its id.
pub async fn insert(conn: &mut Conn, new: &NewSnapshot<'_>) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| diesel::insert_into(sbom_snapshots::table)
        .values(new)
        .returning(sbom_snapshots::id)
        .get_result(c)
        .await)?)
}

/// Stores the number of the rules by which the rows of an SBOM were computed.
pub async fn set_rules(conn: &mut Conn, snapshot: i64, rules: i32) -> Result<(), Error> {
    use sbom_rules as t;
    let before = t::table.filter(t::snapshot_id.eq(snapshot));
    on_conn!(conn, |c| diesel::delete(before).execute(c).await)?;
    let row = (t::snapshot_id.eq(snapshot), t::rules.eq(rules));
    on_conn!(conn, |c| diesel::insert_into(t::table).values(row).execute(c).await)?;
    Ok(())
}

/// Returns gateway, workspace and sandbox of SBOMs whose rows were computed by other rules.
pub async fn outdated(
    conn: &mut Conn,
    rules: i32,
    limit: i64,
) -> Result<Vec<(String, String, String)>, Error> {
    use sbom_snapshots as t;
    Ok(on_conn!(conn, |c| {
        let current = sbom_rules::table
            .filter(sbom_rules::snapshot_id.eq(t::id).and(sbom_rules::rules.eq(rules)));
        t::table
            .filter(diesel::dsl::not(diesel::dsl::exists(current)))
            .select((t::gateway_name, t::workspace, t::sandbox_name))
            .limit(limit)
            .load(c)
            .await
    })?)
}

/// Inserts the content of an SBOM.
pub async fn insert_content(
    conn: &mut Conn,
    snapshot: i64,
    content: &Arc<NewContent>,
) -> Result<(), Error> {
    match conn {
        Conn::Pg(c) => insert_pg(c, snapshot, content).await,
        Conn::Sqlite(c) => {
            let content = Arc::clone(content);
            c.spawn_blocking(move |c| insert_sqlite(c, snapshot, &content)).await?;
            Ok(())
        }
    }
}

/// Inserts row by row with a prepared statement: without network round trips, batches would not be faster.
fn insert_sqlite(c: &mut SqliteConnection, snapshot: i64, content: &NewContent) -> QueryResult<()> {
    for row in &content.components {
        let of = sbom_components::snapshot_id.eq(snapshot);
        diesel::RunQueryDsl::execute(
            diesel::insert_into(sbom_components::table).values((of, row)),
            c,
        )?;
    }
    for row in &content.names {
        let of = sbom_names::snapshot_id.eq(snapshot);
        diesel::RunQueryDsl::execute(diesel::insert_into(sbom_names::table).values((of, row)), c)?;
    }
    for row in &content.vulnerabilities {
        let of = sbom_vulnerabilities::snapshot_id.eq(snapshot);
        diesel::RunQueryDsl::execute(
            diesel::insert_into(sbom_vulnerabilities::table).values((of, row)),
            c,
        )?;
    }
    for row in &content.affects {
        let of = sbom_affects::snapshot_id.eq(snapshot);
        diesel::RunQueryDsl::execute(
            diesel::insert_into(sbom_affects::table).values((of, row)),
            c,
        )?;
    }
    Ok(())
}

/// Inserts many rows per statement, since each statement is a network round trip.
async fn insert_pg(c: &mut PgConn, snapshot: i64, content: &NewContent) -> Result<(), Error> {
    for rows in content.components.chunks(ROWS_PER_STATEMENT) {
        let of = |row| (sbom_components::snapshot_id.eq(snapshot), row);
        let rows: Vec<_> = rows.iter().map(of).collect();
        diesel::insert_into(sbom_components::table).values(rows).execute(c).await?;
    }
    for rows in content.names.chunks(ROWS_PER_STATEMENT) {
        let rows: Vec<_> =
            rows.iter().map(|row| (sbom_names::snapshot_id.eq(snapshot), row)).collect();
        diesel::insert_into(sbom_names::table).values(rows).execute(c).await?;
    }
    for rows in content.vulnerabilities.chunks(ROWS_PER_STATEMENT) {
        let of = |row| (sbom_vulnerabilities::snapshot_id.eq(snapshot), row);
        let rows: Vec<_> = rows.iter().map(of).collect();
        diesel::insert_into(sbom_vulnerabilities::table).values(rows).execute(c).await?;
    }
    for rows in content.affects.chunks(ROWS_PER_STATEMENT) {
        let of = |row| (sbom_affects::snapshot_id.eq(snapshot), row);
        let rows: Vec<_> = rows.iter().map(of).collect();
        diesel::insert_into(sbom_affects::table).values(rows).execute(c).await?;
    }
    Ok(())
}

/// Returns a piece of the document. `None` if that SBOM no longer exists.
pub async fn read_piece(
    conn: &mut Conn,
    SnapshotRef { place, id: snapshot }: SnapshotRef<'_>,
    from: i32,
    count: i32,
) -> Result<Option<Vec<u8>>, Error> {
    Ok(on_conn!(conn, |c| sbom_snapshots::table
        .filter(of_place!(place).and(sbom_snapshots::id.eq(snapshot)))
        .select(substr(sbom_snapshots::raw_json, from, count))
        .first(c)
        .await
        .optional())?)
}

/// Returns the identifying fields of the components of an SBOM.
pub async fn component_identities(
    conn: &mut Conn,
    SnapshotRef { place, id: snapshot }: SnapshotRef<'_>,
) -> Result<Vec<ComponentIdentity>, Error> {
    use sbom_components as t;
    type Columns = (String, Option<String>, Option<String>, Option<String>);
    let rows: Vec<Columns> = on_conn!(conn, |c| t::table
        .inner_join(sbom_snapshots::table)
        .filter(of_place!(place).and(sbom_snapshots::id.eq(snapshot)))
        .select((t::name, t::group_name, t::version, t::purl))
        .load(c)
        .await)?;
    let part = |(name, group, version, purl)| ComponentIdentity { name, group, version, purl };
    Ok(rows.into_iter().map(part).collect())
}

/// Returns the vulnerabilities of an SBOM as id and severity.
pub async fn severities(
    conn: &mut Conn,
    SnapshotRef { place, id: snapshot }: SnapshotRef<'_>,
) -> Result<Vec<(String, Severity)>, Error> {
    use sbom_vulnerabilities as t;
    Ok(on_conn!(conn, |c| t::table
        .inner_join(sbom_snapshots::table)
        .filter(of_place!(place).and(sbom_snapshots::id.eq(snapshot)))
        .select((t::vulnerability, t::severity))
        .load(c)
        .await)?)
}

/// Returns components of an SBOM after a position, sorted by name.
pub async fn components(
    conn: &mut Conn,
    SnapshotRef { place, id: snapshot }: SnapshotRef<'_>,
    filter: &ComponentFilter,
    after: i64,
    limit: i64,
) -> Result<Vec<ComponentRow>, Error> {
    use sbom_components as t;
    Ok(on_conn!(conn, |c| {
        let mut query = t::table
            .inner_join(sbom_snapshots::table)
            .filter(of_place!(place).and(sbom_snapshots::id.eq(snapshot)))
            .filter(t::snapshot_id.eq(snapshot).and(t::position.gt(after)))
            .select(ComponentRow::as_select())
            .order(t::position)
            .limit(limit)
            .into_boxed();
        let like = |pattern: &String| t::search_key.like(pattern.clone()).escape('\\');
        query = match filter.search.as_slice() {
            [one, two, three] => query.filter(like(one).or(like(two)).or(like(three))),
            [one, two] => query.filter(like(one).or(like(two))),
            patterns => patterns.iter().fold(query, |query, one| query.filter(like(one))),
        };
        query = match filter.severity {
            SeverityFilter::Any => query,
            SeverityFilter::Exactly(severity) => query.filter(t::max_severity.eq(severity)),
            SeverityFilter::Clean => query.filter(t::max_severity.is_null()),
        };
        query.load(c).await
    })?)
}

/// Returns vulnerabilities of an SBOM after a position, the worst first, without `affects`.
pub async fn vulnerabilities(
    conn: &mut Conn,
    SnapshotRef { place, id: snapshot }: SnapshotRef<'_>,
    filter: &VulnerabilityFilter,
    after: i64,
    limit: i64,
) -> Result<Vec<VulnerabilityRow>, Error> {
    use sbom_vulnerabilities as t;
    let rows: Vec<VulnerabilityColumns> = on_conn!(conn, |c| {
        let mut query = t::table
            .inner_join(sbom_snapshots::table)
            .filter(of_place!(place).and(sbom_snapshots::id.eq(snapshot)))
            .filter(t::snapshot_id.eq(snapshot).and(t::position.gt(after)))
            .select((
                t::position,
                t::vulnerability,
                t::severity,
                t::cvss_score,
                t::description,
                t::affects_count,
                t::references_json,
                t::analysis_state,
                t::counts,
            ))
            .order(t::position)
            .limit(limit)
            .into_boxed();
        if let Some(severity) = filter.severity {
            query = query.filter(t::severity.eq(severity));
        }
        if let Some(bom_ref) = &filter.bom_ref {
            let affecting = sbom_affects::table
                .filter(sbom_affects::snapshot_id.eq(snapshot))
                .filter(sbom_affects::bom_ref.eq(bom_ref))
                .select(sbom_affects::vulnerability_position);
            query = query.filter(t::position.eq_any(affecting));
        }
        query.load(c).await
    })?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Returns the first references of the vulnerabilities at these positions, in their order.
pub async fn affects(
    conn: &mut Conn,
    SnapshotRef { place, id: snapshot }: SnapshotRef<'_>,
    positions: &[i64],
) -> Result<Vec<(i64, String)>, Error> {
    use sbom_affects as t;
    Ok(on_conn!(conn, |c| t::table
        .inner_join(sbom_snapshots::table)
        .filter(of_place!(place).and(sbom_snapshots::id.eq(snapshot)))
        .filter(t::vulnerability_position.eq_any(positions))
        .filter(t::position.lt(i64::from(AFFECTS_SHOWN_MAX)))
        .select((t::vulnerability_position, t::bom_ref))
        .order((t::vulnerability_position, t::position))
        .load(c)
        .await)?)
}
