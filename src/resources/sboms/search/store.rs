//! Queries for components of all sandboxes, by name or by package URL.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::Serialize;

use super::SearchCursor;
use crate::access::snapshot::VisibleGateways;
use crate::db::schema::{gateways, sbom_components, sbom_snapshots};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::resources::sboms::lists::SeverityFilter;
use crate::resources::sboms::rows::ComponentRow;
use crate::resources::sboms::store::escape_like;

/// Condition of a search, with its text in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum SearchBy {
    /// The name equals this text.
    Name(String),
    /// The name contains this text.
    NamePart(String),
    /// The package URL begins with this text.
    Purl(String),
    /// The package URL contains this text.
    PurlPart(String),
}

impl SearchBy {
    /// Returns the sort order of the results.
    #[must_use]
    pub fn order(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::NamePart(_) => "name, version",
            Self::Purl(_) | Self::PurlPart(_) => "purl",
        }
    }
}

/// Filter of a search.
#[derive(Debug)]
pub struct SearchFilter<'a> {
    /// Gateways that the caller may see.
    pub visible: &'a VisibleGateways,
    /// Condition on the component.
    pub by: &'a SearchBy,
    /// Key of the lowest version, inclusive.
    pub version_from: Option<&'a str>,
    /// Key of the version that bounds the range, exclusive.
    pub version_below: Option<&'a str>,
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
        let (key, version) = match by {
            SearchBy::Name(_) | SearchBy::NamePart(_) => (&self.name_key, self.version_key.clone()),
            SearchBy::Purl(_) | SearchBy::PurlPart(_) => (&self.purl_key, String::new()),
        };
        SearchCursor { key: key.clone(), version, id: self.id }
    }
}

/// Returns an upper bound of the texts that begin with `prefix`.
fn prefix_end(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}

/// Returns a page of components, sorted by the key of the search.
pub async fn page(
    conn: &mut Conn,
    wanted: &SearchFilter<'_>,
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
        query = match wanted.by {
            SearchBy::Name(name) => query.filter(t::name_key.eq(name)),
            SearchBy::NamePart(part) => {
                query.filter(t::name_key.like(format!("%{}%", escape_like(part))).escape('\\'))
            }
            SearchBy::Purl(prefix) => {
                query.filter(t::purl_key.ge(prefix)).filter(t::purl_key.lt(prefix_end(prefix)))
            }
            SearchBy::PurlPart(part) => {
                query.filter(t::purl_key.like(format!("%{}%", escape_like(part))).escape('\\'))
            }
        };
        query = match wanted.by {
            SearchBy::Name(_) | SearchBy::NamePart(_) => {
                query.order((t::name_key, t::version_key, t::id))
            }
            SearchBy::Purl(_) | SearchBy::PurlPart(_) => query.order((t::purl_key, t::id)),
        };
        // The first condition bounds the index scan; diesel cannot express `(a, b) > (x, y)`.
        if let Some(SearchCursor { key, version, id }) = wanted.after {
            let later = t::version_key.gt(version).or(t::version_key.eq(version).and(t::id.gt(id)));
            query = match wanted.by {
                SearchBy::Name(_) | SearchBy::NamePart(_) => {
                    query.filter(t::name_key.ge(key)).filter(t::name_key.gt(key).or(later))
                }
                SearchBy::Purl(_) | SearchBy::PurlPart(_) => {
                    query.filter(t::purl_key.ge(key)).filter(t::purl_key.gt(key).or(t::id.gt(id)))
                }
            };
        }
        if let Some(from) = wanted.version_from {
            query = query.filter(t::version_key.ge(from));
        }
        if let Some(below) = wanted.version_below {
            // A version that cannot be compared has an empty key.
            query = query.filter(t::version_key.lt(below)).filter(t::version_key.gt(""));
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
