//! Parser of CycloneDX JSON, versions 1.2 to 1.7.
//!
//! Invariants
//! - nested components and the component in the metadata count as components;
//! - limits on depth, number and length hold while the document is read, not only after it;
//! - the time depends on the size of the document only: many references to one component do not multiply it.

mod lenient;
mod read;
#[cfg(test)]
mod tests;
mod vulnerabilities;

use std::collections::HashMap;

use self::read::Parser;
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
    /// The worst severity of all vulnerabilities.
    pub max_severity: Option<Severity>,
    /// Number of entries without a name or id, which were skipped.
    pub skipped: usize,
    /// Number of texts that were cut.
    pub cut: usize,
    /// Paths of the first cut texts.
    pub cut_paths: Vec<String>,
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
    /// Number of vulnerabilities that affect it.
    pub vuln_count: i32,
    /// The worst severity of these.
    pub max_severity: Option<Severity>,
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
    /// References of the components that it affects, without duplicates.
    pub affects: Vec<String>,
    /// URLs with more information.
    pub references: Vec<String>,
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
    let mut document = Parser::parse(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    rate(&mut document);
    Ok(document)
}

fn check_version(given: Option<String>) -> Result<String, Error> {
    let given = given.unwrap_or_default();
    if SPEC_VERSIONS.contains(&given.trim()) {
        return Ok(given.trim().to_owned());
    }
    let shown: String = given.chars().filter(|c| !c.is_control()).take(16).collect();
    Err(Error::invalid("specVersion", format!("must be one of 1.2 to 1.7, got `{shown}`")))
}

/// Counts the vulnerabilities of each component and sorts the vulnerabilities. References to unknown components are
/// ignored.
fn rate(document: &mut Document) {
    let mut affected: HashMap<&str, (i32, Severity)> = HashMap::new();
    for vulnerability in &document.vulnerabilities {
        let severity = vulnerability.severity;
        if severity.outranks(document.max_severity) {
            document.max_severity = Some(severity);
        }
        for reference in &vulnerability.affects {
            let (count, worst) = affected.entry(reference).or_insert((0, severity));
            *count += 1;
            if severity.outranks(Some(*worst)) {
                *worst = severity;
            }
        }
    }
    for component in &mut document.components {
        let found = component.bom_ref.as_deref().and_then(|reference| affected.get(reference));
        if let Some((count, worst)) = found {
            (component.vuln_count, component.max_severity) = (*count, Some(*worst));
        }
    }
    document.vulnerabilities.sort_by(|a, b| (a.severity, &a.id).cmp(&(b.severity, &b.id)));
    // References are cut only now: two long ones with a common prefix are different.
    for component in &mut document.components {
        if let Some(reference) = &mut component.bom_ref {
            shorten(reference, BOM_REF_CHARACTERS_MAX);
        }
    }
    for vulnerability in &mut document.vulnerabilities {
        for reference in &mut vulnerability.affects {
            shorten(reference, BOM_REF_CHARACTERS_MAX);
        }
    }
}

/// Cuts a text to `characters_max` characters. Returns whether it was longer.
fn shorten(text: &mut String, characters_max: usize) -> bool {
    let end = text.char_indices().nth(characters_max).map(|(at, _)| at);
    if let Some(end) = end {
        text.truncate(end);
    }
    end.is_some()
}
