//! Pages of the components and vulnerabilities of one SBOM.
//!
//! Invariants
//! - all pages of a list are of one upload: a page token is a conflict once the SBOM was replaced;
//! - pages are limited in bytes too, so that long texts do not make a response too large for clients.

use serde::{Deserialize, Serialize, Serializer};

use super::cyclonedx::Severity;
use super::domain;
use super::place::SandboxPlace;
use super::rows::{ComponentRow, Snapshot, VulnerabilityRow};
use super::search::{condition, parse_text};
use super::store::{self, SnapshotRef};
use crate::ctx::{Ctx, ListKey};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::error::{Error, ResourceKind};
use crate::texts::check_search;

/// Bytes of the texts of a page, approximately. Clients accept 4 MiB.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest reference in a filter.
const REFERENCE_CHARACTERS_MAX: usize = super::cyclonedx::BOM_REF_CHARACTERS_MAX;

/// Severity filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SeverityFilter {
    /// No restriction.
    #[default]
    Any,
    /// This severity.
    Exactly(Severity),
    /// Components without any vulnerability.
    Clean,
}

impl Serialize for SeverityFilter {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(match self {
            Self::Any => "",
            Self::Exactly(severity) => severity.as_str(),
            Self::Clean => "CLEAN",
        })
    }
}

/// Position of a page token.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Position {
    /// Id of the upload.
    pub(super) snapshot: i64,
    /// Position of the last row.
    pub(super) after: i64,
}

/// Cuts rows read with [`PageSize::limit`] to the page, by number and by bytes. The flag is set if more rows follow.
pub(super) fn cut_to_page<T>(
    size: PageSize,
    rows: Vec<T>,
    bytes: impl Fn(&T) -> usize,
) -> (Vec<T>, bool) {
    let (mut page, more) = size.truncate(rows);
    let mut total = 0;
    let fits = page.iter().take_while(|row| {
        total += bytes(row);
        total <= PAGE_BYTES_MAX
    });
    // At least one row, otherwise the list would never get past it.
    let fits = fits.count().max(1);
    let cut = page.len() > fits;
    page.truncate(fits);
    (page, more || cut)
}

/// Returns the SBOM of a sandbox.
pub(super) async fn snapshot(conn: &mut Conn, place: &SandboxPlace) -> Result<Snapshot, Error> {
    let found = store::snapshot(conn, place).await?;
    found.ok_or_else(|| Error::not_found(ResourceKind::Sbom, place))
}

/// Returns whether an upload is still the current one. If it is, rows read from it before are complete: an upload is
/// deleted as a whole, and its id is never reused.
pub(super) async fn is_current(
    conn: &mut Conn,
    place: &SandboxPlace,
    id: i64,
) -> Result<bool, Error> {
    Ok(store::snapshot(conn, place).await?.is_some_and(|now| now.id == id))
}

/// Rejects a page whose upload was replaced while it was read. Rows may be missing, and a short list would look like a
/// clean sandbox.
async fn check_current(conn: &mut Conn, place: &SandboxPlace, id: i64) -> Result<(), Error> {
    if is_current(conn, place, id).await? {
        return Ok(());
    }
    Err(Error::conflict(ResourceKind::Sbom, place))
}

/// Returns the position of a page token, which must be of the current upload.
fn position(after: Option<&Position>, now: i64, place: &SandboxPlace) -> Result<i64, Error> {
    match after {
        None => Ok(-1),
        Some(position) if position.snapshot == now => Ok(position.after),
        Some(_) => Err(Error::conflict(ResourceKind::Sbom, place)),
    }
}

/// Filter of a list of components.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ComponentFilter {
    /// Patterns of a text in group, name or package URL, of which one must match.
    pub(super) search: Vec<String>,
    /// Severity of the worst vulnerability.
    pub(super) severity: SeverityFilter,
}

impl ComponentFilter {
    /// Parses `search` and `severity` of the request.
    pub fn parse(search: &str, severity: SeverityFilter) -> Result<Self, Error> {
        let search =
            parse_text("search", search)?.as_deref().map(condition::anywhere).unwrap_or_default();
        Ok(Self { search, severity })
    }
}

/// Returns a page of components, sorted by name.
pub async fn components(
    ctx: &Ctx,
    place: &SandboxPlace,
    filter: &ComponentFilter,
    size: PageSize,
    token: &str,
) -> Result<(Vec<ComponentRow>, String), Error> {
    let asked = serde_json::to_vec(&(place.to_string(), filter)).map_err(Error::internal)?;
    let list = ListKey { method: "ListSbomComponents", filter: &asked, order: "name" };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let now = domain::get(ctx, place).await?;
    let mut conn = ctx.db().read().await?;
    let after = position(page.after(), now.id, place)?;
    let of = SnapshotRef { place, id: now.id };
    let rows = store::components(&mut conn, of, filter, after, page.limit()).await?;
    check_current(&mut conn, place, now.id).await?;
    page.finish_truncated(cut_to_page(size, rows, ComponentRow::bytes), |last| Position {
        snapshot: now.id,
        after: last.position,
    })
}

/// Filter of a list of vulnerabilities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VulnerabilityFilter {
    /// Only this severity.
    pub(super) severity: Option<Severity>,
    /// Only vulnerabilities that affect this component.
    pub(super) bom_ref: Option<String>,
}

impl Serialize for Severity {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

impl VulnerabilityFilter {
    /// Parses `severity` and `bom_ref` of the request.
    pub fn parse(severity: SeverityFilter, bom_ref: String) -> Result<Self, Error> {
        let severity = match severity {
            SeverityFilter::Any => None,
            SeverityFilter::Exactly(severity) => Some(severity),
            SeverityFilter::Clean => {
                let why = "must not be SBOM_SEVERITY_CLEAN, which no vulnerability has";
                return Err(Error::invalid("severity", why));
            }
        };
        check_search("bom_ref", &bom_ref, REFERENCE_CHARACTERS_MAX)?;
        Ok(Self { severity, bom_ref: (!bom_ref.is_empty()).then_some(bom_ref) })
    }
}

/// Returns a page of vulnerabilities, the worst first.
pub async fn vulnerabilities(
    ctx: &Ctx,
    place: &SandboxPlace,
    filter: &VulnerabilityFilter,
    size: PageSize,
    token: &str,
) -> Result<(Vec<VulnerabilityRow>, String), Error> {
    let asked = serde_json::to_vec(&(place.to_string(), filter)).map_err(Error::internal)?;
    let list = ListKey { method: "ListSbomVulnerabilities", filter: &asked, order: "severity, id" };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let now = domain::get(ctx, place).await?;
    let mut conn = ctx.db().read().await?;
    let after = position(page.after(), now.id, place)?;
    let of = SnapshotRef { place, id: now.id };
    let rows = store::vulnerabilities(&mut conn, of, filter, after, page.limit()).await?;
    let fitting = cut_to_page(size, rows, VulnerabilityRow::bytes);
    let (mut rows, next) =
        page.finish_truncated(fitting, |last| Position { snapshot: now.id, after: last.position })?;
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    let mut affects = store::affects(&mut conn, of, &positions).await?.into_iter().peekable();
    check_current(&mut conn, place, now.id).await?;
    for row in &mut rows {
        while let Some((_, reference)) = affects.next_if(|(of, _)| *of == row.position) {
            row.affects.push(reference);
        }
    }
    Ok((rows, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_limited_in_bytes_and_has_at_least_one_row() {
        let size = PageSize::parse(3).unwrap();
        let fitted = |rows: Vec<usize>| cut_to_page(size, rows, |row| *row);
        assert_eq!(fitted(vec![1, 2, 3]), (vec![1, 2, 3], false));
        assert_eq!(fitted(vec![1, 2, 3, 4]), (vec![1, 2, 3], true));
        assert_eq!(fitted(vec![1, PAGE_BYTES_MAX, 3]), (vec![1], true));
        assert_eq!(fitted(vec![PAGE_BYTES_MAX - 1, 1]), (vec![PAGE_BYTES_MAX - 1, 1], false));
        assert_eq!(fitted(vec![PAGE_BYTES_MAX + 1, 1]), (vec![PAGE_BYTES_MAX + 1], true));
        assert_eq!(fitted(vec![]), (vec![], false));
    }

    #[test]
    fn a_page_token_of_a_replaced_upload_is_a_conflict() {
        let place = SandboxPlace::parse("edge".into(), String::new(), "box".into()).unwrap();
        let after = Position { snapshot: 7, after: 3 };
        assert_eq!(position(None, 7, &place).unwrap(), -1);
        assert_eq!(position(Some(&after), 7, &place).unwrap(), 3);
        assert!(matches!(position(Some(&after), 8, &place), Err(Error::Conflict { .. })));
    }
}
