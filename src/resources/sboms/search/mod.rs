//! Fleet-wide search for components: search keys and pages.
//!
//! Invariants
//! - search texts and keys are both in lower case: `fold` lowers both;
//! - only sandboxes of gateways that the caller may see are found, with any filter;
//! - a search is refused while rows of older rules are stored, since it could miss components.

pub mod condition;
pub mod keys;
pub(super) mod names;
pub mod store;

use serde::{Deserialize, Serialize};

use self::condition::SearchBy;
use self::store::{FoundComponent, SearchFilter};
use super::cyclonedx::VERSION_CHARACTERS_MAX;
use super::lists::{SeverityFilter, cut_to_page};
use super::recompute;
use super::version::{self, KeyRanges, Scheme};
use crate::ctx::{FleetCtx, ListKey};
use crate::db::page::PageSize;
use crate::error::Error;
use crate::resources::sboms::intake::SbomLimits;
use crate::texts::{check_length, check_search};

/// Longest search text, in characters.
pub const SEARCH_CHARACTERS_MAX: usize = 256;
/// Checks a search text and converts it to lower case. `None` if it is blank.
pub fn parse_text(field: &str, text: &str) -> Result<Option<String>, Error> {
    check_search(field, text, SEARCH_CHARACTERS_MAX)?;
    Ok((!text.trim().is_empty()).then(|| keys::fold(text.trim())))
}

/// Filter of a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SearchQuery {
    by: SearchBy,
    versions: Option<KeyRanges>,
    severity: SeverityFilter,
    gateway: Option<String>,
}

impl SearchQuery {
    /// Parses the request. `by` creates the condition for the search text.
    pub fn parse(
        by: (&str, &str, fn(&str) -> SearchBy),
        versions: (&str, &str),
        severity: SeverityFilter,
        gateway: String,
    ) -> Result<Self, Error> {
        let (field, text, by) = by;
        let text = parse_text(field, text)?.ok_or_else(|| Error::invalid(field, "is required"))?;
        let from = bound("version_from", versions.0)?;
        let versions = version::ranges(from, bound("version_below", versions.1)?);
        let gateway = (!gateway.is_empty()).then_some(gateway);
        Ok(Self { by: by(&text), versions, severity, gateway })
    }
}

/// Checks a version that bounds a range. `None` if the field is empty.
fn bound<'a>(field: &str, text: &'a str) -> Result<Option<&'a str>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    check_length(field, text, VERSION_CHARACTERS_MAX)?;
    if version::key(text, Scheme::Generic).is_empty() || text.contains(char::is_control) {
        return Err(Error::invalid(field, "must be a version that begins with a number"));
    }
    Ok(Some(text))
}

/// Position of a page token: the last component of the page.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SearchCursor {
    /// Its name's or package URL's key.
    pub key: String,
    /// Its version's key. Empty if the order is by package URL.
    pub version: String,
    /// Its id.
    pub id: i64,
}

/// Returns a page of components on the gateways that the caller may see.
pub async fn page(
    ctx: &FleetCtx,
    query: &SearchQuery,
    size: PageSize,
    token: &str,
) -> Result<(Vec<FoundComponent>, String), Error> {
    if let Some(gateway) = &query.gateway {
        ctx.require_gateway(gateway)?;
    }
    let principal = ctx.principal_text();
    let asked = serde_json::to_vec(query).map_err(Error::internal)?;
    let list = ListKey { method: "SearchComponents", filter: &asked, order: query.by.order() };
    let page = ctx.page_request::<SearchCursor>(list, size, token)?;
    let visible = ctx.visible_gateways();
    let wanted = SearchFilter {
        visible: &visible,
        by: &query.by,
        versions: query.versions.as_ref(),
        severity: query.severity,
        gateway: query.gateway.as_deref(),
        after: page.after(),
    };
    let _turn = ctx.app().part::<SbomLimits>().acquire_search(&principal).await?;
    let mut conn = ctx.db().read().await?;
    recompute::check_all_current(ctx.app(), &mut conn).await?;
    let rows = match &query.by {
        SearchBy::NamePart { texts, .. } => {
            names::page(&mut conn, &wanted, texts, page.limit()).await?
        }
        SearchBy::Name { keys, .. } => store::page(&mut conn, &wanted, keys, page.limit()).await?,
        SearchBy::Purl { .. } | SearchBy::PurlPart { .. } => {
            store::page(&mut conn, &wanted, &[], page.limit()).await?
        }
    };
    page.finish_truncated(cut_to_page(size, rows, FoundComponent::bytes), |last| {
        last.cursor(&query.by)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_terms_are_validated() {
        assert_eq!(parse_text("name", " Log4J ").unwrap().as_deref(), Some("log4j"));
        assert_eq!(parse_text("name", " ").unwrap(), None);
        assert!(parse_text("name", &"a".repeat(SEARCH_CHARACTERS_MAX)).is_ok());
        for bad in ["a\0b", "a\nb", &"a".repeat(SEARCH_CHARACTERS_MAX + 1)] {
            assert!(parse_text("name", bad).is_err(), "{bad:?}");
        }
        assert_eq!(bound("version_below", "").unwrap(), None);
        assert!(bound("version_below", "2.17").unwrap().is_some());
        for bad in ["latest", "1\u{7}", &"1".repeat(VERSION_CHARACTERS_MAX + 1)] {
            assert!(bound("version_below", bad).is_err(), "{bad:?}");
        }
    }
}
