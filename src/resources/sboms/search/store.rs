//! Queries for components of all sandboxes, by name or by package URL.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::SearchCursor;
use super::condition::SearchBy;
use crate::access::snapshot::VisibleGateways;
use crate::db::schema::{gateways, sbom_components, sbom_names, sbom_snapshots};
use crate::db::{Conn, PgConn, SqliteConn, on_conn};
use crate::error::Error;
use crate::resources::sboms::lists::SeverityFilter;
use crate::resources::sboms::rows::ComponentRow;
use crate::resources::sboms::version::KeyRanges;

diesel::define_sql_function! {
    /// Returns the position of a text in another, or 0 if it is not in it. In PostgreSQL.
    fn strpos(whole: diesel::sql_types::Text, part: diesel::sql_types::Text) -> diesel::sql_types::Integer;
}

diesel::define_sql_function! {
    /// Returns the position of a text in another, or 0 if it is not in it. In SQLite.
    fn instr(whole: diesel::sql_types::Text, part: diesel::sql_types::Text) -> diesel::sql_types::Integer;
}

/// Filter of a search.
#[derive(Debug)]
pub struct SearchFilter<'a> {
    /// Gateways that the caller may see.
    pub visible: &'a VisibleGateways,
    /// Condition on the component.
    pub by: &'a SearchBy,
    /// Ranges of the key of the version, of which it must be in one.
    pub versions: Option<&'a KeyRanges>,
    /// Severity of the worst vulnerability.
    pub severity: SeverityFilter,
    /// Only sandboxes of this gateway.
    pub gateway: Option<&'a str>,
    /// Position after which the page begins.
    pub after: Option<&'a SearchCursor>,
}

/// A component and its sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct FoundComponent {
    /// The gateway.
    pub gateway: String,
    /// The workspace.
    pub workspace: String,
    /// The sandbox.
    pub sandbox: String,
    /// The component.
    pub component: ComponentRow,
    id: i64,
    name_key: String,
    version_key: String,
    purl_key: String,
}

impl FoundComponent {
    /// Returns the size of its texts in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.gateway.len() + self.workspace.len() + self.sandbox.len() + self.component.bytes()
    }

    /// Returns the position after this component.
    #[must_use]
    pub fn cursor(&self, by: &SearchBy) -> SearchCursor {
        let (key, version) = if by.is_name() {
            (&self.name_key, self.version_key.clone())
        } else {
            (&self.purl_key, String::new())
        };
        SearchCursor { key: key.clone(), version, id: self.id }
    }
}

/// Returns an upper bound of the texts that begin with `prefix`.
fn prefix_end(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}

/// Returns up to `limit` blocks of names in which a name contains one of `texts`.
pub(super) async fn blocks_with(
    conn: &mut Conn,
    texts: &[String],
    limit: usize,
) -> Result<Vec<String>, Error> {
    use sbom_names as t;
    let limit = i64::try_from(limit).map_err(Error::internal)?;
    Ok(match conn {
        Conn::Pg(pooled) => {
            let c: &mut PgConn = pooled;
            let mut query = t::table.select(t::names).limit(limit).into_boxed();
            for text in texts {
                query = query.or_filter(strpos(t::names, text).gt(0));
            }
            query.load(c).await?
        }
        Conn::Sqlite(pooled) => {
            let c: &mut SqliteConn = pooled;
            let mut query = t::table.select(t::names).limit(limit).into_boxed();
            for text in texts {
                query = query.or_filter(instr(t::names, text).gt(0));
            }
            query.load(c).await?
        }
    })
}

/// Returns a page of components, sorted by the key of the search. With `keys`, only components whose name has one of
/// these keys.
#[expect(clippy::too_many_lines, reason = "one query")]
pub async fn page(
    conn: &mut Conn,
    wanted: &SearchFilter<'_>,
    keys: &[String],
    limit: i64,
) -> Result<Vec<FoundComponent>, Error> {
    use sbom_components as t;
    Ok(on_conn!(conn, |c| {
        let mut query = t::table
            .inner_join(sbom_snapshots::table)
            .select((
                sbom_snapshots::gateway_name,
                sbom_snapshots::workspace,
                sbom_snapshots::sandbox_name,
                ComponentRow::as_select(),
                t::id,
                t::name_key,
                t::version_key,
                t::purl_key,
            ))
            .limit(limit)
            .into_boxed();
        query = match keys {
            [] => query,
            // Only this form is read in the order of the index.
            [key] => query.filter(t::name_key.eq(key)),
            keys => query.filter(t::name_key.eq_any(keys.to_vec())),
        };
        let like = |pattern: &String| t::search_key.like(pattern.clone()).escape('\\');
        query = match wanted.by {
            SearchBy::Name { patterns: [one, two, three], .. } => {
                query.filter(like(one).or(like(two)).or(like(three)))
            }
            SearchBy::NamePart { patterns, .. } => match patterns.as_slice() {
                [one, two] => query.filter(like(one).or(like(two))),
                patterns => patterns.iter().fold(query, |query, one| query.filter(like(one))),
            },
            SearchBy::Purl { prefix, pattern } => {
                let query = query.filter(like(pattern)).filter(t::purl_key.ge(prefix));
                query.filter(t::purl_key.lt(prefix_end(prefix)))
            }
            SearchBy::PurlPart { pattern } => query.filter(like(pattern)),
        };
        query = if wanted.by.is_name() {
            query.order((t::name_key, t::version_key, t::id))
        } else {
            query.order((t::purl_key, t::id))
        };
        // The first condition bounds the index scan; diesel cannot express `(a, b) > (x, y)`.
        if let Some(SearchCursor { key, version, id }) = wanted.after {
            let later = t::version_key.gt(version).or(t::version_key.eq(version).and(t::id.gt(id)));
            query = if wanted.by.is_name() {
                query.filter(t::name_key.ge(key)).filter(t::name_key.gt(key).or(later))
            } else {
                query.filter(t::purl_key.ge(key)).filter(t::purl_key.gt(key).or(t::id.gt(id)))
            };
        }
        if let Some(ranges) = wanted.versions.cloned() {
            // A version that cannot be compared has an empty key, which is in no range.
            let all = ranges.map(|(low, high)| t::version_key.ge(low).and(t::version_key.lt(high)));
            let [apk, deb, gem, nuget, rpm, semver, other] = all;
            query = query.filter(apk.or(deb).or(gem).or(nuget).or(rpm).or(semver).or(other));
        }
        query = match wanted.severity {
            SeverityFilter::Any => query,
            SeverityFilter::Exactly(severity) => query.filter(t::max_severity.eq(severity)),
            SeverityFilter::Clean => query.filter(t::max_severity.is_null()),
        };
        // The empty text keeps SQLite from using the index on the gateway name. With it, SQLite would read all
        // components of the gateways and sort them, instead of reading components in the order of the results.
        let on = || sbom_snapshots::gateway_name.concat("");
        if let Some(gateway) = wanted.gateway {
            query = query.filter(on().eq(gateway));
        }
        if let VisibleGateways::Only(ids) = wanted.visible {
            let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
            let names = gateways::table.filter(gateways::id.eq_any(ids)).select(gateways::name);
            query = query.filter(on().eq_any(names));
        }
        query.load(c).await
    })?)
}
