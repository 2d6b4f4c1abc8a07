//! Rows of SBOMs, to insert and to read.

use diesel::prelude::*;

use super::cyclonedx::{AnalysisState, Severity};
use crate::clock::Timestamp;
use crate::db::schema::{
    sbom_affects, sbom_components, sbom_names, sbom_snapshots, sbom_vulnerabilities,
};

/// Most references to components that a vulnerability is returned with.
pub const AFFECTS_SHOWN_MAX: i32 = 100;
/// Assumed size of one such reference, in bytes.
const AFFECTS_BYTES: usize = 512;

/// An SBOM without its content.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = sbom_snapshots)]
#[expect(missing_docs, reason = "the columns; the proto documents them")]
pub struct Snapshot {
    pub id: i64,
    pub gateway_name: String,
    pub workspace: String,
    pub sandbox_name: String,
    pub bom_format: String,
    pub spec_version: String,
    pub serial_number: Option<String>,
    pub uploaded_by: String,
    pub uploaded_at: Timestamp,
    pub component_count: i64,
    pub vulnerability_count: i64,
    pub max_severity: Option<Severity>,
    pub sha256: String,
    pub size_bytes: i64,
}

/// An SBOM to store.
#[derive(Debug, Insertable)]
#[diesel(table_name = sbom_snapshots, treat_none_as_default_value = false)]
#[expect(missing_docs, reason = "the columns; the proto documents them")]
pub struct NewSnapshot<'a> {
    pub gateway_name: &'a str,
    pub workspace: &'a str,
    pub sandbox_name: &'a str,
    pub bom_format: &'a str,
    pub spec_version: &'a str,
    pub serial_number: Option<String>,
    pub uploaded_by: &'a str,
    pub uploaded_at: Timestamp,
    pub component_count: i64,
    pub vulnerability_count: i64,
    pub max_severity: Option<Severity>,
    pub sha256: &'a str,
    pub size_bytes: i64,
    pub raw_json: &'a [u8],
}

/// The content of an SBOM to store: rows without the id of the SBOM.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the tables")]
pub struct NewContent {
    pub components: Vec<NewComponent>,
    pub names: Vec<NewNames>,
    pub vulnerabilities: Vec<NewVulnerability>,
    pub affects: Vec<NewAffects>,
}

/// A component to store.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = sbom_components, treat_none_as_default_value = false)]
#[expect(missing_docs, reason = "the columns; the migration and the proto document them")]
pub struct NewComponent {
    pub position: i64,
    pub bom_ref: Option<String>,
    pub name: String,
    pub group_name: Option<String>,
    pub version: Option<String>,
    pub purl: Option<String>,
    pub kind: Option<String>,
    pub licenses: Option<String>,
    pub vuln_count: i32,
    pub max_severity: Option<Severity>,
    pub name_key: String,
    pub version_key: String,
    pub purl_key: String,
    pub search_key: String,
}

/// A block of names to store.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = sbom_names)]
#[expect(missing_docs, reason = "the columns; the migration documents them")]
pub struct NewNames {
    pub part: i32,
    pub names: String,
}

/// A vulnerability to store.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = sbom_vulnerabilities, treat_none_as_default_value = false)]
#[expect(missing_docs, reason = "the columns; the migration and the proto document them")]
pub struct NewVulnerability {
    pub position: i64,
    pub vulnerability: String,
    pub severity: Severity,
    pub cvss_score: Option<f64>,
    pub description: Option<String>,
    pub affects_count: i32,
    pub references_json: String,
    pub analysis_state: Option<AnalysisState>,
    pub counts: bool,
}

/// A reference from a vulnerability to a component, to store.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = sbom_affects)]
#[expect(missing_docs, reason = "the columns; the migration and the proto document them")]
pub struct NewAffects {
    pub vulnerability_position: i64,
    pub position: i64,
    pub bom_ref: String,
}

/// A stored component.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = sbom_components)]
#[expect(missing_docs, reason = "the columns; the migration and the proto document them")]
pub struct ComponentRow {
    pub position: i64,
    pub bom_ref: Option<String>,
    pub name: String,
    pub group_name: Option<String>,
    pub version: Option<String>,
    pub purl: Option<String>,
    pub kind: Option<String>,
    pub licenses: Option<String>,
    pub vuln_count: i32,
    pub max_severity: Option<Severity>,
}

impl ComponentRow {
    /// Returns the size of its texts in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [
            &self.bom_ref,
            &self.group_name,
            &self.version,
            &self.purl,
            &self.kind,
            &self.licenses,
        ];
        self.name.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

/// A stored vulnerability.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns; the migration and the proto document them")]
pub struct VulnerabilityRow {
    pub position: i64,
    pub vulnerability: String,
    pub severity: Severity,
    pub cvss_score: Option<f64>,
    pub description: Option<String>,
    pub affects_count: i32,
    pub references_json: String,
    pub state: Option<AnalysisState>,
    pub counts: bool,
    /// References to the first components that it affects.
    pub affects: Vec<String>,
}

impl VulnerabilityRow {
    /// Returns the size of its texts in bytes, with an allowance for `affects`.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let shown = usize::try_from(self.affects_count.min(AFFECTS_SHOWN_MAX)).unwrap_or_default();
        let description = self.description.as_ref().map_or(0, String::len);
        self.vulnerability.len() + description + self.references_json.len() + shown * AFFECTS_BYTES
    }
}

/// Columns of a vulnerability, in the order of the query.
pub(super) type VulnerabilityColumns =
    (i64, String, Severity, Option<f64>, Option<String>, i32, String, Option<AnalysisState>, bool);

impl From<VulnerabilityColumns> for VulnerabilityRow {
    fn from(columns: VulnerabilityColumns) -> Self {
        let (
            position,
            vulnerability,
            severity,
            cvss_score,
            description,
            affects_count,
            references_json,
            state,
            counts,
        ) = columns;
        let affects = Vec::new();
        Self {
            position,
            vulnerability,
            severity,
            cvss_score,
            description,
            affects_count,
            references_json,
            state,
            counts,
            affects,
        }
    }
}
