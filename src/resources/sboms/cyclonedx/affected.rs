//! Decides by `affects[].versions` whether the version of a component is affected.
//!
//! Invariants
//! - a component counts as affected unless the document says otherwise in a way that can be decided.

use serde::de::MapAccess;

use super::Component;
use super::lenient::{Record, Seed, Text, skip};
use crate::resources::sboms::purl;
use crate::resources::sboms::version::{self, Scheme};

/// Status of a version according to the document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum VersionStatus {
    /// Affected. The default of the format.
    #[default]
    Affected,
    /// Not affected.
    Unaffected,
    /// Not known.
    Unknown,
}

/// An entry of `versions`: one version or a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct VersionEntry {
    version: Option<String>,
    range: Option<String>,
    status: VersionStatus,
}

impl Record for VersionEntry {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "version" => self.version = object.next_value_seed(Seed(Text))?,
            "range" => self.range = object.next_value_seed(Seed(Text))?,
            "status" => {
                let word = object.next_value_seed(Seed(Text))?;
                self.status = match word.as_deref().map(str::trim) {
                    None | Some("affected") => VersionStatus::Affected,
                    Some("unaffected") => VersionStatus::Unaffected,
                    Some(_) => VersionStatus::Unknown,
                };
            }
            _ => skip(object)?,
        }
        Ok(())
    }
}

impl VersionEntry {
    /// Returns whether it includes the version of a component. `None` if that cannot be decided.
    fn includes(&self, component: &Component) -> Option<bool> {
        match (&self.version, &self.range) {
            (Some(version), _) => is_version(version, component),
            (None, Some(range)) => is_in_range(range, component),
            (None, None) => None,
        }
    }
}

/// Returns whether a component is affected by a vulnerability with these versions.
pub(super) fn is_affected(component: &Component, versions: &[VersionEntry]) -> bool {
    let (mut unaffected, mut others_affected, mut undecided) = (false, false, false);
    for entry in versions {
        match (entry.includes(component), entry.status) {
            (Some(true), VersionStatus::Affected | VersionStatus::Unknown) => return true,
            (Some(true), VersionStatus::Unaffected) => unaffected = true,
            (Some(false), VersionStatus::Affected) => others_affected = true,
            (Some(false), VersionStatus::Unaffected | VersionStatus::Unknown) => {}
            (None, _) => undecided = true,
        }
    }
    !unaffected && (undecided || !others_affected)
}

fn is_version(version: &str, component: &Component) -> Option<bool> {
    let own = component.version.as_deref()?;
    if own.trim() == version.trim() {
        return Some(true);
    }
    let scheme = component.scheme();
    let (own, other) = (component.version_key_in(scheme), version::key(version, scheme));
    (!own.is_empty() && !other.is_empty()).then_some(own == other)
}

/// Decides a range as the VERS specification does: `vers:npm/>=1.0.0|<1.2.3|!=1.1.0`.
fn is_in_range(range: &str, component: &Component) -> Option<bool> {
    let (ecosystem, constraints) = range.trim().strip_prefix("vers:")?.split_once('/')?;
    if constraints.trim() == "*" {
        return Some(true);
    }
    let own = component.version.as_deref()?;
    let scheme = Scheme::of(Some(&ecosystem.to_lowercase()), own);
    let own = component.version_key_in(scheme);
    if own.is_empty() {
        return None;
    }
    let (mut bounds, mut only_exceptions) = (Vec::new(), true);
    let constraints = constraints.split('|').map(str::trim).filter(|text| !text.is_empty());
    for (comparator, text) in constraints.map(split_comparator) {
        let bound = version::key(&purl::decode(text), scheme);
        if bound.is_empty() {
            return None;
        }
        match comparator {
            "=" if bound == own => return Some(true),
            "!=" if bound == own => return Some(false),
            "!=" => {}
            "=" => only_exceptions = false,
            comparator => bounds.push((bound, comparator)),
        }
    }
    if bounds.is_empty() {
        return Some(only_exceptions);
    }
    bounds.sort();
    Some(is_between(&own, &bounds))
}

/// Returns whether a key is in one of the intervals of sorted bounds.
fn is_between(own: &str, bounds: &[(String, &str)]) -> bool {
    let is_above = |(bound, comparator): &(String, &str)| match *comparator {
        ">" => own > bound.as_str(),
        ">=" => own >= bound.as_str(),
        _ => false,
    };
    let is_below = |(bound, comparator): &(String, &str)| match *comparator {
        "<" => own < bound.as_str(),
        "<=" => own <= bound.as_str(),
        _ => false,
    };
    bounds.first().is_some_and(is_below)
        || bounds.last().is_some_and(is_above)
        || bounds.windows(2).any(|pair| is_above(&pair[0]) && is_below(&pair[1]))
}

fn split_comparator(constraint: &str) -> (&'static str, &str) {
    for comparator in ["<=", ">=", "!=", "<", ">", "="] {
        if let Some(version) = constraint.strip_prefix(comparator) {
            return (comparator, version.trim());
        }
    }
    ("=", constraint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(version: &str, purl: &str) -> Component {
        Component {
            name: "left".to_owned(),
            version: Some(version.to_owned()).filter(|version| !version.is_empty()),
            purl: Some(purl.to_owned()).filter(|purl| !purl.is_empty()),
            ..Component::default()
        }
    }

    fn entry(text: &str, status: VersionStatus) -> VersionEntry {
        let text = Some(text.to_owned());
        if text.as_deref().is_some_and(|text| text.contains(':')) {
            return VersionEntry { version: None, range: text, status };
        }
        VersionEntry { version: text, range: None, status }
    }

    // The VERS specification, "Checking if a version is contained within a range".
    #[test]
    fn ranges_are_decided_as_vers_defines_them() {
        for (range, inside, outside) in [
            (
                "vers:npm/>=1.0.0|<1.2.3",
                vec!["1.0.0", "1.2.2"],
                vec!["0.9.0", "1.2.3", "1.0.0-rc1"],
            ),
            ("vers:npm/<1.0.0|>=2.0.0|<2.5.0", vec!["0.1.0", "2.4.9"], vec!["1.5.0", "2.5.0"]),
            ("vers:npm/1.0.0|1.2.0|>=3.0.0", vec!["1.0.0", "1.2.0", "4.0.0"], vec!["1.1.0"]),
            ("vers:npm/>1.0.0|!=1.1.0|<=2.0.0", vec!["1.0.1", "2.0.0"], vec!["1.0.0", "1.1.0"]),
            ("vers:npm/!=1.0.0", vec!["1.0.1"], vec!["1.0.0"]),
            ("vers:npm/*", vec!["1.0.0", "latest"], vec![]),
            ("vers:deb/<7.88.1-10%2Bdeb12u16", vec!["7.88.1-10+deb12u15"], vec!["7.88.1-11"]),
            ("vers:golang/<1.22.7", vec!["go1.22.5", "v1.22.5"], vec!["1.23.0"]),
        ] {
            for (versions, expected) in [(inside, true), (outside, false)] {
                for version in versions {
                    let found = is_in_range(range, &component(version, ""));
                    assert_eq!(found, Some(expected), "{version} in {range}");
                }
            }
        }
        for undecided in ["<1.0.0", "vers:npm", "vers:npm/<latest", ""] {
            assert_eq!(is_in_range(undecided, &component("1.0.0", "")), None, "{undecided}");
        }
        assert_eq!(is_in_range("vers:npm/<1.0.0", &component("", "")), None);
    }

    #[test]
    fn the_status_of_the_version_decides_and_doubt_counts_as_affected() {
        use VersionStatus::{Affected, Unaffected, Unknown};
        let purl = "pkg:npm/left@1.0.0";
        for (version, entries, affected) in [
            ("1.0.0", vec![], true),
            ("1.0.0", vec![("1.0.0", Affected)], true),
            ("1.0.0", vec![("v1.0", Affected)], true),
            ("1.0.0", vec![("2.0.0", Affected)], false),
            ("1.0.0", vec![("1.0.0", Unaffected)], false),
            ("1.0.0", vec![("1.0.0", Unknown)], true),
            ("1.0.0", vec![("2.0.0", Unaffected)], true),
            ("1.0.0", vec![("vers:npm/<0.9.0", Affected), ("vers:npm/>=0.9.0", Unaffected)], false),
            ("1.0.0", vec![("vers:npm/<2.0.0", Affected), ("2.0.0", Unaffected)], true),
            // What cannot be decided.
            ("latest", vec![("2.0.0", Affected)], true),
            ("1.0.0", vec![("stable", Affected)], true),
            ("1.0.0", vec![("x:<1", Unaffected)], true),
            ("1.0.0", vec![("x:<1", Affected), ("2.0.0", Affected)], true),
        ] {
            let versions: Vec<_> =
                entries.iter().map(|(text, status)| entry(text, *status)).collect();
            let purl = if version == "latest" { "" } else { purl };
            assert_eq!(is_affected(&component(version, purl), &versions), affected, "{entries:?}");
        }
        assert!(is_affected(&component("", ""), &[entry("1.0.0", Affected)]));
    }
}
