//! Fleet-wide search for components: search keys and pages.
//!
//! Invariants
//! - search texts and keys are both in lower case: `fold` lowers the keys, and `parse_text` the texts;
//! - only sandboxes of gateways that the caller may see are found, with any filter.

pub mod store;

use serde::{Deserialize, Serialize};

use self::store::{FoundComponent, SearchBy, SearchFilter};
use super::cyclonedx::{Component, VERSION_CHARACTERS_MAX};
use super::lists::{SeverityFilter, cut_to_page};
use super::version;
use crate::ctx::{FleetCtx, ListKey};
use crate::db::page::PageSize;
use crate::error::Error;
use crate::resources::sboms::intake::SbomLimits;

/// Longest search text, in characters.
pub const SEARCH_CHARACTERS_MAX: usize = 256;
/// Most bytes of a name's key: together with the other columns it fits in an index.
const NAME_KEY_BYTES_MAX: usize = 512;
/// Most bytes of a package URL's key.
const PURL_KEY_BYTES_MAX: usize = 512;

/// Keys by which a component is found and sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SearchKeys {
    /// Key of the name.
    pub name: String,
    /// Key of the version, which sorts as versions do.
    pub version: String,
    /// Key of the package URL. Empty if it has none.
    pub purl: String,
    /// Group, name and package URL, for a search in all three.
    pub text: String,
}

impl SearchKeys {
    /// Returns the keys of a component.
    #[must_use]
    pub fn from_component(component: &Component) -> Self {
        let name = fold(&component.name, NAME_KEY_BYTES_MAX);
        let purl = component.purl.as_deref().unwrap_or_default();
        let purl = fold(purl, PURL_KEY_BYTES_MAX);
        let group = component.group.as_deref().map(|group| fold(group, NAME_KEY_BYTES_MAX));
        let text = match &group {
            Some(group) => format!("{group}/{name}\n{purl}"),
            None => format!("{name}\n{purl}"),
        };
        let version = component.version.as_deref().map(version::key).unwrap_or_default();
        Self { name, version, purl, text }
    }
}

/// Converts a text to lower case and cuts it to `bytes_max` bytes.
fn fold(text: &str, bytes_max: usize) -> String {
    let mut folded = text.to_lowercase();
    let mut end = folded.len().min(bytes_max);
    while !folded.is_char_boundary(end) {
        end -= 1;
    }
    folded.truncate(end);
    folded
}

/// Checks a search text and converts it to lower case. `None` if it is blank.
pub fn parse_text(field: &str, text: &str) -> Result<Option<String>, Error> {
    let count = text.chars().count();
    if count > SEARCH_CHARACTERS_MAX {
        let why = format!("must be at most {SEARCH_CHARACTERS_MAX} characters, got {count}");
        return Err(Error::invalid(field, why));
    }
    if text.contains(char::is_control) {
        return Err(Error::invalid(field, "must be free of control characters"));
    }
    Ok((!text.trim().is_empty()).then(|| text.trim().to_lowercase()))
}

/// Filter of a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SearchQuery {
    by: SearchBy,
    version_from: Option<String>,
    version_below: Option<String>,
    severity: SeverityFilter,
    gateway: Option<String>,
}

impl SearchQuery {
    /// Parses the request. `by` creates the condition for the search text.
    pub fn parse(
        by: (&str, &str, fn(String) -> SearchBy),
        versions: (&str, &str),
        severity: SeverityFilter,
        gateway: String,
    ) -> Result<Self, Error> {
        let (field, text, by) = by;
        let text = parse_text(field, text)?.ok_or_else(|| Error::invalid(field, "is required"))?;
        let version_from = bound("version_from", versions.0)?;
        let version_below = bound("version_below", versions.1)?;
        let gateway = (!gateway.is_empty()).then_some(gateway);
        Ok(Self { by: by(text), version_from, version_below, severity, gateway })
    }
}

/// Returns the key of a version that bounds a range. `None` if the field is empty.
fn bound(field: &str, text: &str) -> Result<Option<String>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let count = text.chars().count();
    if count > VERSION_CHARACTERS_MAX {
        let why = format!("must be at most {VERSION_CHARACTERS_MAX} characters, got {count}");
        return Err(Error::invalid(field, why));
    }
    let key = version::key(text);
    if key.is_empty() || text.contains(char::is_control) {
        return Err(Error::invalid(field, "must be a version that begins with a number"));
    }
    Ok(Some(key))
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
        version_from: query.version_from.as_deref(),
        version_below: query.version_below.as_deref(),
        severity: query.severity,
        gateway: query.gateway.as_deref(),
        after: page.after(),
    };
    let _turn = ctx.app().part::<SbomLimits>().acquire_search(&principal).await?;
    let mut conn = ctx.db().read().await?;
    let rows = store::page(&mut conn, &wanted, page.limit()).await?;
    page.finish_truncated(cut_to_page(size, rows, FoundComponent::bytes), |last| {
        last.cursor(&query.by)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(group: Option<&str>, name: &str, purl: Option<&str>) -> Component {
        Component {
            name: name.to_owned(),
            group: group.map(str::to_owned),
            purl: purl.map(str::to_owned),
            ..Component::default()
        }
    }

    #[test]
    fn search_keys_are_case_folded_and_fit_in_an_index() {
        let keys = SearchKeys::from_component(&component(
            Some("Org"),
            "Log4J",
            Some("pkg:maven/Org/Log4J@2"),
        ));
        assert_eq!((keys.name.as_str(), keys.purl.as_str()), ("log4j", "pkg:maven/org/log4j@2"));
        assert_eq!(keys.text, "org/log4j\npkg:maven/org/log4j@2");
        let wide = "\u{1f600}".repeat(1_024);
        let keys = SearchKeys::from_component(&component(Some(&wide), &wide, Some(&wide)));
        assert_eq!((keys.name.len(), keys.purl.len()), (NAME_KEY_BYTES_MAX, PURL_KEY_BYTES_MAX));
        assert!(keys.text.len() < 1_600);
        // A character of three bytes is not cut in the middle.
        assert_eq!(fold(&"\u{20ac}".repeat(10), 5), "\u{20ac}");
    }

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
