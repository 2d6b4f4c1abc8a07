//! Parser of CycloneDX JSON, versions 1.2 to 1.7.
//!
//! Invariants
//! - nested components and the component in the metadata count as components;
//! - limits on depth, number and length hold while the document is read, not only after it;
//! - half characters are replaced in all texts alike, so that none makes a document unreadable;
//! - the time depends on the size of the document only: many references to one component do not multiply it.

mod affected;
mod count;
mod lenient;
mod rating;
mod read;
mod surrogates;
#[cfg(test)]
mod tests;
mod vulnerabilities;
#[cfg(test)]
mod vulnerability_tests;

use self::count::AffectsEntry;
use self::read::Parser;
use super::purl;
use super::version::{self, Scheme};
use crate::characters::excerpt;
use crate::error::Error;
use crate::words;

/// Most bytes of a document.
pub const SBOM_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Most components of a document.
pub const COMPONENTS_MAX: usize = 100_000;
/// Most levels of nested components.
pub const DEPTH_MAX: usize = 32;
/// Most vulnerabilities of a document.
pub const VULNERABILITIES_MAX: usize = 50_000;
/// Most references from vulnerabilities to components.
pub const AFFECTS_MAX: usize = 200_000;
/// Most affected versions that the references name.
pub const AFFECTED_VERSIONS_MAX: usize = 500_000;
/// Most references that are stored for a vulnerability.
pub const REFERENCES_MAX: usize = 20;
/// Longest name of a component. Longer ones are rejected.
pub const NAME_CHARACTERS_MAX: usize = 512;
/// Longest id of a vulnerability. Longer ones are rejected.
pub const ID_CHARACTERS_MAX: usize = 256;
/// Longest stored reference to a component. Longer ones are cut, as are all texts below.
pub const BOM_REF_CHARACTERS_MAX: usize = 512;
/// Longest stored group.
pub const GROUP_CHARACTERS_MAX: usize = 512;
/// Longest stored version.
pub const VERSION_CHARACTERS_MAX: usize = 128;
/// Longest stored package URL.
pub const PURL_CHARACTERS_MAX: usize = 1_024;
/// Longest stored component type.
pub const KIND_CHARACTERS_MAX: usize = 32;
/// Longest stored license text of a component.
pub const LICENSES_CHARACTERS_MAX: usize = 1_024;
/// Longest stored serial number.
pub const SERIAL_CHARACTERS_MAX: usize = 128;
/// Longest stored description.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 4_096;
/// Longest stored reference of a vulnerability.
pub const REFERENCE_CHARACTERS_MAX: usize = 1_024;
/// Most paths of cut texts that are reported.
pub const CUT_PATHS_MAX: usize = 20;
/// Supported versions of the format.
const SPEC_VERSIONS: [&str; 6] = ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"];
/// Name of the format in a document.
pub const BOM_FORMAT: &str = "CycloneDX";

words! {
    /// Severity of a vulnerability. The variants are in the order of lists, the worst first.
    pub enum Severity {
        /// Critical.
        Critical = "CRITICAL",
        /// High.
        High = "HIGH",
        /// Medium.
        Medium = "MEDIUM",
        /// Low.
        Low = "LOW",
        /// Informational.
        Info = "INFO",
        /// Rated as no risk.
        None = "NONE",
        /// Without a usable rating.
        Unknown = "UNKNOWN",
    }
}

impl Severity {
    /// Parses the severity of a rating. `None` if the text is blank; an unrecognized severity is `Unknown`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.trim().to_uppercase();
        if word.is_empty() {
            return None;
        }
        Some(Self::from_word(&word).unwrap_or(Self::Unknown))
    }

    fn rank(self) -> u8 {
        match self {
            Self::Critical => 5,
            Self::High => 4,
            Self::Medium => 3,
            Self::Low => 2,
            Self::Info | Self::None => 1,
            Self::Unknown => 0,
        }
    }

    /// Returns whether it is worse than `other`. Every severity is worse than `None`.
    #[must_use]
    pub fn outranks(self, other: Option<Self>) -> bool {
        other.is_none_or(|other| self.rank() > other.rank())
    }
}

words! {
    /// State of the analysis of a vulnerability, `impactAnalysisState` of CycloneDX.
    pub enum AnalysisState {
        /// It can be exploited.
        Exploitable = "exploitable",
        /// It is being investigated.
        InTriage = "in_triage",
        /// It was identified by mistake.
        FalsePositive = "false_positive",
        /// It does not affect the component.
        NotAffected = "not_affected",
        /// It was remediated.
        Resolved = "resolved",
        /// It was remediated, as the pedigree of the component shows.
        ResolvedWithPedigree = "resolved_with_pedigree",
    }
}

impl AnalysisState {
    /// Returns whether a vulnerability in this state counts for severities.
    #[must_use]
    pub fn counts(self) -> bool {
        match self {
            Self::Exploitable | Self::InTriage => true,
            Self::FalsePositive
            | Self::NotAffected
            | Self::Resolved
            | Self::ResolvedWithPedigree => false,
        }
    }
}

/// Parsed content of a document.
#[derive(Debug, Default, PartialEq)]
pub struct Document {
    /// Version of the format.
    pub spec_version: String,
    /// Its serial number.
    pub serial_number: Option<String>,
    /// All components, in the order of the document.
    pub components: Vec<Component>,
    /// All vulnerabilities, the worst first, then by id.
    pub vulnerabilities: Vec<Vulnerability>,
    /// The worst severity of the vulnerabilities that count.
    pub max_severity: Option<Severity>,
    /// Number of entries without a name or id, which were skipped.
    pub skipped: usize,
    /// Number of texts that were cut.
    pub cut: usize,
    /// Paths of the first cut texts.
    pub cut_paths: Vec<String>,
    /// What BOM-Links to its components begin with.
    bom_link: Option<String>,
}

/// A component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Component {
    /// Reference by which vulnerabilities name it.
    pub bom_ref: Option<String>,
    /// Name.
    pub name: String,
    /// Group.
    pub group: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Package URL.
    pub purl: Option<String>,
    /// Type.
    pub kind: Option<String>,
    /// Licenses, joined by commas.
    pub licenses: Option<String>,
    /// Number of vulnerabilities that affect it and count.
    pub vuln_count: i32,
    /// The worst severity of these.
    pub max_severity: Option<Severity>,
}

impl Component {
    /// Returns the rules by which its version is ordered.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        let ecosystem = self.purl.as_deref().and_then(purl::ecosystem);
        Scheme::of(ecosystem.as_deref(), self.version.as_deref().unwrap_or_default())
    }

    /// Returns the sort key of its version by the rules of its ecosystem, or else by the general ones. Empty if the
    /// version cannot be compared.
    #[must_use]
    pub fn version_key(&self) -> String {
        let key = self.version_key_in(self.scheme());
        if key.is_empty() { self.version_key_in(Scheme::Generic) } else { key }
    }

    /// Returns the sort key of its version by given rules. If the version cannot be compared, that of the package URL
    /// counts. Tools may write the epoch of a distribution's package as a qualifier only.
    #[must_use]
    pub fn version_key_in(&self, scheme: Scheme) -> String {
        let url = self.purl.as_deref().unwrap_or_default();
        let key = |text: &str| {
            let has_epoch = matches!(scheme, Scheme::Deb | Scheme::Rpm) && !text.contains(':');
            match purl::qualifier(url, "epoch").filter(|_| has_epoch) {
                Some(epoch) => version::key(&format!("{epoch}:{text}"), scheme),
                None => version::key_without(text, &self.name, scheme),
            }
        };
        let own = self.version.as_deref().map(key).filter(|key| !key.is_empty());
        own.or_else(|| purl::version(url).map(|version| key(&version))).unwrap_or_default()
    }
}

/// A vulnerability.
#[derive(Debug, Clone, PartialEq)]
pub struct Vulnerability {
    /// Its id.
    pub id: String,
    /// Its severity.
    pub severity: Severity,
    /// Score of the rating with this severity.
    pub score: Option<f64>,
    /// Description.
    pub description: Option<String>,
    /// References of the components that it affects, without duplicates and without those whose version the document
    /// says is not affected.
    pub affects: Vec<String>,
    /// URLs with more information.
    pub references: Vec<String>,
    /// State of its analysis. `None` if the document states no known one.
    pub state: Option<AnalysisState>,
    /// Whether it counts for severities, by its state and the affected versions.
    pub counts: bool,
    /// The entries of `affects`, until all components are known.
    entries: Vec<AffectsEntry>,
}

/// Parses a document. This is slow: run it on a blocking thread.
///
/// # Errors
/// `Invalid`, with the path of the field if there is one.
pub fn parse(bytes: &[u8]) -> Result<Document, Error> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::invalid("chunk", "must carry a document: it is empty"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let why = format!("is not valid UTF-8 at byte {}", error.valid_up_to());
        Error::invalid("chunk", why)
    })?;
    let text = surrogates::replace_lone(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut document = Parser::parse(&text)?;
    count::count(&mut document);
    Ok(document)
}

fn check_version(given: Option<String>) -> Result<String, Error> {
    let given = given.unwrap_or_default();
    if SPEC_VERSIONS.contains(&given.trim()) {
        return Ok(given.trim().to_owned());
    }
    let shown = excerpt(&given, 16);
    Err(Error::invalid("specVersion", format!("must be one of 1.2 to 1.7, got `{shown}`")))
}
