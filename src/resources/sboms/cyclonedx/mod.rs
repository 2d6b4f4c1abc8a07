//! CycloneDX JSON, 1.2 to 1.7: from the bytes to what is kept of them.
//!
//! Invariants
//! - nested components and the one that the document is about count as components;
//! - what a hostile document can make of depth, number and length is bounded while it is read, not after;
//! - it takes time in the length of the document, whatever refers to whatever.

mod lenient;
mod read;
#[cfg(test)]
mod tests;
mod vulnerabilities;

use std::collections::HashMap;

use self::read::Reading;
use crate::error::Error;
use crate::words;

/// Most bytes of a document.
pub const SBOM_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Most components of a document.
pub const COMPONENTS_MAX: usize = 100_000;
/// How deep components may lie in components.
pub const DEPTH_MAX: usize = 32;
/// Most vulnerabilities of a document.
pub const VULNERABILITIES_MAX: usize = 50_000;
/// Most references from vulnerabilities to components.
pub const AFFECTS_MAX: usize = 200_000;
/// References of a vulnerability that are kept.
pub const REFERENCES_MAX: usize = 20;
/// Longest name of a component.
pub const NAME_CHARACTERS_MAX: usize = 512;
/// Longest id of a vulnerability.
pub const ID_CHARACTERS_MAX: usize = 256;
/// Characters that are kept of a reference to a component.
pub const BOM_REF_CHARACTERS_MAX: usize = 512;
/// Characters that are kept of a group.
pub const GROUP_CHARACTERS_MAX: usize = 512;
/// Characters that are kept of a version.
pub const VERSION_CHARACTERS_MAX: usize = 128;
/// Characters that are kept of a package URL.
pub const PURL_CHARACTERS_MAX: usize = 1_024;
/// Characters that are kept of a kind.
pub const KIND_CHARACTERS_MAX: usize = 32;
/// Characters that are kept of the licences of a component.
pub const LICENSES_CHARACTERS_MAX: usize = 1_024;
/// Characters that are kept of a serial number.
pub const SERIAL_CHARACTERS_MAX: usize = 128;
/// Characters that are kept of a description.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 4_096;
/// Characters that are kept of a reference.
pub const REFERENCE_CHARACTERS_MAX: usize = 1_024;
/// Places of cut texts that are told.
pub const CUT_PATHS_MAX: usize = 20;
/// Versions of the format that are read.
const SPEC_VERSIONS: [&str; 6] = ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"];
/// The format, as the document names it.
pub const BOM_FORMAT: &str = "CycloneDX";

words! {
    /// How bad a vulnerability is; the worst first, which is the order of lists.
    pub enum Severity {
        /// Critical.
        Critical = "CRITICAL",
        /// High.
        High = "HIGH",
        /// Medium.
        Medium = "MEDIUM",
        /// Low.
        Low = "LOW",
        /// For information.
        Info = "INFO",
        /// Rated as no risk.
        None = "NONE",
        /// Not rated in a way that could be used.
        Unknown = "UNKNOWN",
    }
}

impl Severity {
    /// From the word of a rating; none where it says nothing.
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

    /// Whether it outranks another one; anything outranks nothing.
    #[must_use]
    pub fn outranks(self, other: Option<Self>) -> bool {
        other.is_none_or(|other| self.rank() > other.rank())
    }
}

/// What is kept of a document.
#[derive(Debug, Default, PartialEq)]
pub struct Document {
    /// Version of the format.
    pub spec_version: String,
    /// Its serial number.
    pub serial_number: Option<String>,
    /// All of them, in the order of the document.
    pub components: Vec<Component>,
    /// All of them, the worst first, then by id.
    pub vulnerabilities: Vec<Vulnerability>,
    /// The worst severity of all.
    pub max_severity: Option<Severity>,
    /// Entries without a name or an id, which are left out.
    pub skipped: usize,
    /// Texts that were longer than what is kept of them.
    pub cut: usize,
    /// Where the first of these are.
    pub cut_paths: Vec<String>,
}

/// A component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Component {
    /// By which vulnerabilities refer to it.
    pub bom_ref: Option<String>,
    /// Name.
    pub name: String,
    /// Group.
    pub group: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Package URL.
    pub purl: Option<String>,
    /// Kind.
    pub kind: Option<String>,
    /// Licences, joined by commas.
    pub licenses: Option<String>,
    /// How many vulnerabilities affect it.
    pub vuln_count: i32,
    /// The worst of them.
    pub max_severity: Option<Severity>,
}

/// A vulnerability.
#[derive(Debug, Clone, PartialEq)]
pub struct Vulnerability {
    /// Its id.
    pub id: String,
    /// Its severity.
    pub severity: Severity,
    /// The score of the rating that gave it.
    pub score: Option<f64>,
    /// What it is.
    pub description: Option<String>,
    /// The components that it affects, each once.
    pub affects: Vec<String>,
    /// Where to read about it.
    pub references: Vec<String>,
}

/// Reads a document. Takes a while: not for a thread that others wait for.
///
/// # Errors
/// `Invalid`, with the place in the document where there is one.
pub fn parse(bytes: &[u8]) -> Result<Document, Error> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::invalid("chunk", "must carry a document: it is empty"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let why = format!("must be UTF-8: it is not at byte {}", error.valid_up_to());
        Error::invalid("chunk", why)
    })?;
    let mut document = Reading::of(text.strip_prefix('\u{feff}').unwrap_or(text))?;
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

/// Tells each component what affects it, and puts vulnerabilities in their order. References that lead to no component
/// count for none.
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
    // Only now: two that begin alike are two.
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

/// Cuts a text to so many characters; answers whether it was longer.
fn shorten(text: &mut String, characters_max: usize) -> bool {
    let end = text.char_indices().nth(characters_max).map(|(at, _)| at);
    if let Some(end) = end {
        text.truncate(end);
    }
    end.is_some()
}
