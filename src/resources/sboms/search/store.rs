//! Components of all sandboxes, by name or by package URL.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::Serialize;

use super::After;
use crate::access::snapshot::Visible;
use crate::db::schema::{gateways, sbom_components, sbom_snapshots};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::resources::sboms::lists::SeverityFilter;
use crate::resources::sboms::rows::ComponentRow;
use crate::resources::sboms::store::literal;

/// By what components are found; folded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum By {
    /// The name is this.
    Name(String),
    /// The name contains this.
    NamePart(String),
    /// The package URL begins with this.
    Purl(String),
    /// The package URL contains this.
    PurlPart(String),
}

impl By {
    /// The order of what is found.
    #[must_use]
    pub fn order(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::NamePart(_) => "name, version",
            Self::Purl(_) | Self::PurlPart(_) => "purl",
        }
    }
}

/// What is asked for.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// On which gateways.
    pub visible: &'a Visible,
    /// Which components.
    pub by: &'a By,
    /// The key of the lowest version.
    pub version_from: Option<&'a str>,
    /// The key of the version that is above all of them.
    pub version_below: Option<&'a str>,
    /// With which worst vulnerability.
    pub severity: SeverityFilter,
    /// On this gateway alone.
    pub gateway: Option<&'a str>,
    /// After this one.
    pub after: Option<&'a After>,
}

/// A component, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct Found {
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

impl Found {
    /// Bytes of its texts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.gateway.len() + self.workspace.len() + self.sandbox.len() + self.component.bytes()
    }

    /// Where a search goes on after it.
    #[must_use]
    pub fn after(&self, by: &By) -> After {
        let (key, version) = match by {
            By::Name(_) | By::NamePart(_) => (&self.name_key, self.version_key.clone()),
            By::Purl(_) | By::PurlPart(_) => (&self.purl_key, String::new()),
        };
        After { key: key.clone(), version, id: self.id }
    }
}

/// Above every text that begins with this one.
fn end_of(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}

/// A page of them, in the order of what they are found by.
pub async fn page(conn: &mut Conn, wanted: &Wanted<'_>, limit: i64) -> Result<Vec<Found>, Error> {
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
            By::Name(name) => query.filter(t::name_key.eq(name)),
            By::NamePart(part) => {
                query.filter(t::name_key.like(format!("%{}%", literal(part))).escape('\\'))
            }
            By::Purl(prefix) => {
                query.filter(t::purl_key.ge(prefix)).filter(t::purl_key.lt(end_of(prefix)))
            }
            By::PurlPart(part) => {
                query.filter(t::purl_key.like(format!("%{}%", literal(part))).escape('\\'))
            }
        };
        query = match wanted.by {
            By::Name(_) | By::NamePart(_) => query.order((t::name_key, t::version_key, t::id)),
            By::Purl(_) | By::PurlPart(_) => query.order((t::purl_key, t::id)),
        };
        // The first condition bounds the index; `(a, b) > (x, y)` is nothing that diesel can say.
        if let Some(After { key, version, id }) = wanted.after {
            let later = t::version_key.gt(version).or(t::version_key.eq(version).and(t::id.gt(id)));
            query = match wanted.by {
                By::Name(_) | By::NamePart(_) => {
                    query.filter(t::name_key.ge(key)).filter(t::name_key.gt(key).or(later))
                }
                By::Purl(_) | By::PurlPart(_) => {
                    query.filter(t::purl_key.ge(key)).filter(t::purl_key.gt(key).or(t::id.gt(id)))
                }
            };
        }
        if let Some(from) = wanted.version_from {
            query = query.filter(t::version_key.ge(from));
        }
        if let Some(below) = wanted.version_below {
            // What cannot be compared has the empty key.
            query = query.filter(t::version_key.lt(below)).filter(t::version_key.gt(""));
        }
        query = match wanted.severity {
            SeverityFilter::Any => query,
            SeverityFilter::Is(severity) => query.filter(t::max_severity.eq(severity)),
            SeverityFilter::Clean => query.filter(t::max_severity.is_null()),
        };
        // Joined to nothing it is in no index: SQLite would begin with the gateways and sort all that is on them, where
        // the components come in the order that is asked for.
        let on = || sbom_snapshots::gateway_name.concat("");
        if let Some(gateway) = wanted.gateway {
            query = query.filter(on().eq(gateway));
        }
        if let Visible::Only(ids) = wanted.visible {
            let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
            let names = gateways::table.filter(gateways::id.eq_any(ids)).select(gateways::name);
            query = query.filter(on().eq_any(names));
        }
        query.load(c).await
    })?)
}
