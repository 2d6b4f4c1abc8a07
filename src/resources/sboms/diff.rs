//! Differences between two SBOMs.
//!
//! Two components are the same if their package URLs are equal without version, qualifiers and subpath, or, without a
//! package URL, if group and name are equal. Case and escapes are ignored. A sandbox may contain a component in several
//! versions.

use std::collections::{BTreeMap, BTreeSet};

use super::cyclonedx::{Component, Severity, Vulnerability};
use super::purl::{normalize, without_version};

/// Most versions that a change lists.
pub const VERSIONS_MAX: usize = 20;

/// Fields that identify a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentIdentity {
    /// Name.
    pub name: String,
    /// Group.
    pub group: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Package URL.
    pub purl: Option<String>,
}

/// Content of an SBOM that is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SbomContent {
    /// Its components.
    pub components: Vec<ComponentIdentity>,
    /// Its vulnerabilities, as id and severity.
    pub severities: Vec<(String, Severity)>,
}

impl SbomContent {
    /// Returns the content of a parsed document.
    #[must_use]
    pub fn from_document(components: &[Component], vulnerabilities: &[Vulnerability]) -> Self {
        let part = |of: &Component| ComponentIdentity {
            name: of.name.clone(),
            group: of.group.clone(),
            version: of.version.clone(),
            purl: of.purl.clone(),
        };
        let rated = |of: &Vulnerability| (of.id.clone(), of.severity);
        Self {
            components: components.iter().map(part).collect(),
            severities: vulnerabilities.iter().map(rated).collect(),
        }
    }
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only in the newer SBOM.
    Added,
    /// Only in the older SBOM.
    Removed,
    /// In both SBOMs, but different.
    Changed,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SbomChange {
    /// A vulnerability.
    Vulnerability {
        /// Its id.
        id: String,
        /// Its severity in the older SBOM. `None` if it is not in it.
        before: Option<Severity>,
        /// Its severity in the newer SBOM. `None` if it is not in it.
        after: Option<Severity>,
    },
    /// A component.
    Component {
        /// Kind of the change.
        kind: ChangeKind,
        /// Its name.
        name: String,
        /// Its group.
        group: Option<String>,
        /// Its package URL without the version.
        purl: Option<String>,
        /// Removed versions, at most [`VERSIONS_MAX`].
        removed: Vec<String>,
        /// Added versions, at most [`VERSIONS_MAX`].
        added: Vec<String>,
    },
}

impl SbomChange {
    /// Returns the kind of the change.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::Vulnerability { before: None, .. } => ChangeKind::Added,
            Self::Vulnerability { after: None, .. } => ChangeKind::Removed,
            Self::Vulnerability { .. } => ChangeKind::Changed,
            Self::Component { kind, .. } => *kind,
        }
    }

    /// Returns the size of its texts in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Vulnerability { id, .. } => id.len(),
            Self::Component { name, group, purl, removed, added, .. } => {
                let texts = [group, purl].into_iter().flatten().chain(removed).chain(added);
                name.len() + texts.map(String::len).sum::<usize>()
            }
        }
    }
}

/// Number of changes by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Number of added entries.
    pub added: i32,
    /// Number of removed entries.
    pub removed: i32,
    /// Number of changed entries.
    pub changed: i32,
}

impl ChangeCounts {
    fn count(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Added => self.added += 1,
            ChangeKind::Removed => self.removed += 1,
            ChangeKind::Changed => self.changed += 1,
        }
    }
}

/// All differences: first vulnerabilities, the worst first, then components.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The differences.
    pub changes: Vec<SbomChange>,
    /// Number of changes of vulnerabilities.
    pub vulnerabilities: ChangeCounts,
    /// Number of changes of components.
    pub components: ChangeCounts,
}

/// Returns the differences from `before` to `after`.
#[must_use]
pub fn compare(before: &SbomContent, after: &SbomContent) -> Difference {
    let mut found = Difference::default();
    let mut changes = vulnerabilities(before, after);
    changes.extend(components(before, after));
    for change in &changes {
        let tally = match change {
            SbomChange::Vulnerability { .. } => &mut found.vulnerabilities,
            SbomChange::Component { .. } => &mut found.components,
        };
        tally.count(change.kind());
    }
    found.changes = changes;
    found
}

fn vulnerabilities(before: &SbomContent, after: &SbomContent) -> Vec<SbomChange> {
    let mut all: BTreeMap<&str, [Option<Severity>; 2]> = BTreeMap::new();
    for (side, content) in [before, after].into_iter().enumerate() {
        for (id, severity) in &content.severities {
            let worst = &mut all.entry(id).or_default()[side];
            if severity.outranks(*worst) {
                *worst = Some(*severity);
            }
        }
    }
    let differ = all.into_iter().filter(|(_, [before, after])| before != after);
    let mut found: Vec<_> =
        differ.map(|(id, [before, after])| (after.or(before), id, before, after)).collect();
    found.sort_unstable();
    let change = |(_, id, before, after): (_, &str, _, _)| SbomChange::Vulnerability {
        id: id.to_owned(),
        before,
        after,
    };
    found.into_iter().map(change).collect()
}

/// Versions of a component in both SBOMs.
struct Versions<'a> {
    part: &'a ComponentIdentity,
    sides: [BTreeSet<&'a str>; 2],
}

fn components(before: &SbomContent, after: &SbomContent) -> Vec<SbomChange> {
    let mut all: BTreeMap<String, Versions<'_>> = BTreeMap::new();
    for (side, content) in [before, after].into_iter().enumerate() {
        for part in &content.components {
            let versions = all
                .entry(identity(part))
                .or_insert_with(|| Versions { part, sides: [BTreeSet::new(), BTreeSet::new()] });
            versions.sides[side].insert(part.version.as_deref().unwrap_or_default());
        }
    }
    all.into_values()
        .filter(|versions| versions.sides[0] != versions.sides[1])
        .map(component_change)
        .collect()
}

fn component_change(Versions { part, sides: [before, after] }: Versions<'_>) -> SbomChange {
    let kind = match (before.is_empty(), after.is_empty()) {
        (true, _) => ChangeKind::Added,
        (_, true) => ChangeKind::Removed,
        (false, false) => ChangeKind::Changed,
    };
    let only = |these: &BTreeSet<&str>, those: &BTreeSet<&str>| {
        these.difference(those).take(VERSIONS_MAX).map(|&version| version.to_owned()).collect()
    };
    SbomChange::Component {
        kind,
        name: part.name.clone(),
        group: part.group.clone(),
        purl: part.purl.as_deref().map(|purl| without_version(purl).to_owned()),
        removed: only(&before, &after),
        added: only(&after, &before),
    }
}

fn identity(part: &ComponentIdentity) -> String {
    match (&part.purl, &part.group) {
        (Some(purl), _) => normalize(without_version(purl)),
        (None, Some(group)) => format!("{group}/{}", part.name).to_lowercase(),
        (None, None) => part.name.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(purl: &str, version: &str) -> ComponentIdentity {
        let name = purl.rsplit('/').next().unwrap_or_default().to_owned();
        let version = (!version.is_empty()).then(|| version.to_owned());
        ComponentIdentity { name, group: None, version, purl: Some(purl.to_owned()) }
    }

    fn content(parts: &[(&str, &str)], rated: &[(&str, Severity)]) -> SbomContent {
        SbomContent {
            components: parts.iter().map(|(purl, version)| part(purl, version)).collect(),
            severities: rated.iter().map(|(id, severity)| ((*id).to_owned(), *severity)).collect(),
        }
    }

    fn describe(difference: &Difference) -> Vec<String> {
        let one = |change: &SbomChange| match change {
            SbomChange::Vulnerability { id, before, after } => format!("{id} {before:?} {after:?}"),
            SbomChange::Component { kind, purl, removed, added, .. } => {
                format!("{kind:?} {} {removed:?} {added:?}", purl.as_deref().unwrap_or("-"))
            }
        };
        difference.changes.iter().map(one).collect()
    }

    #[test]
    fn added_removed_and_changed_entries_are_reported() {
        let before = content(
            &[
                ("pkg:a/same@1", "1"),
                ("pkg:a/dropped@1", "1"),
                ("pkg:a/moved@1?x=y", "1"),
                ("pkg:a/two@1", "1"),
                ("pkg:a/two@2", "2"),
            ],
            &[("CVE-1", Severity::Low), ("CVE-2", Severity::High), ("CVE-3", Severity::High)],
        );
        let after = content(
            &[
                ("pkg:a/same@1", "1"),
                ("pkg:a/new", ""),
                ("pkg:a/moved@2", "2"),
                ("pkg:a/two@2", "2"),
                ("pkg:a/two@2", "2"),
            ],
            &[("CVE-0", Severity::Low), ("CVE-2", Severity::High), ("CVE-3", Severity::Critical)],
        );
        let found = compare(&before, &after);
        assert_eq!(
            describe(&found),
            [
                "CVE-3 Some(High) Some(Critical)",
                "CVE-0 None Some(Low)",
                "CVE-1 Some(Low) None",
                "Removed pkg:a/dropped [\"1\"] []",
                "Changed pkg:a/moved [\"1\"] [\"2\"]",
                "Added pkg:a/new [] [\"\"]",
                "Changed pkg:a/two [\"1\"] []",
            ]
        );
        assert_eq!(found.components, ChangeCounts { added: 1, removed: 1, changed: 2 });
        assert_eq!(found.vulnerabilities, ChangeCounts { added: 1, removed: 1, changed: 1 });
        assert_eq!(compare(&after, &after), Difference::default());
    }

    #[test]
    fn a_component_without_a_package_url_is_identified_by_group_and_name() {
        let named = |group: Option<&str>, name: &str| ComponentIdentity {
            name: name.to_owned(),
            group: group.map(str::to_owned),
            version: None,
            purl: None,
        };
        assert_eq!(identity(&named(Some("Org"), "A")), "org/a");
        assert_eq!(identity(&named(None, "A")), "a");
        assert_eq!(identity(&named(None, "org/A")), "org/a");
    }

    #[test]
    fn a_package_url_with_escapes_and_one_without_are_the_same_component() {
        let before = content(&[("pkg:npm/%40case/left@1", "1")], &[]);
        let after = content(&[("pkg:npm/@case/Left@1", "1")], &[]);
        assert_eq!(compare(&before, &after), Difference::default());
    }

    #[test]
    fn the_number_of_versions_of_a_change_is_limited() {
        let many: Vec<String> = (0..=VERSIONS_MAX).map(|n| format!("{n:03}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|version| ("pkg:a/b", &**version)).collect();
        let found = compare(&SbomContent::default(), &content(&many, &[]));
        let [SbomChange::Component { added, .. }] = found.changes.as_slice() else { panic!() };
        assert_eq!(added.len(), VERSIONS_MAX);
    }
}
