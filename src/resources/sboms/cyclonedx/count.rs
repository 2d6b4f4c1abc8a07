//! Counts the vulnerabilities of each component, and finds the worst severities.
//!
//! Invariants
//! - only a vulnerability that counts makes a component or the document worse;
//! - a BOM-Link to this document is the same as the reference of its component, and one to another document leads to no
//!   component of this one.

use std::collections::{HashMap, HashSet};

use super::affected::{VersionEntry, is_affected};
use super::{BOM_REF_CHARACTERS_MAX, Component, Document, Severity, Vulnerability};
use crate::characters::shorten;
use crate::resources::sboms::purl;

/// An entry of `affects`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AffectsEntry {
    pub(super) reference: String,
    pub(super) versions: Vec<VersionEntry>,
}

/// Returns what BOM-Links to components of this document begin with. `None` if it has no serial number.
pub(super) fn bom_link(serial_number: Option<&str>, version: Option<f64>) -> Option<String> {
    let serial = serial_number?.to_lowercase();
    let serial = serial.strip_prefix("urn:uuid:")?;
    // The format says that the version is 1 if it is missing.
    Some(format!("urn:cdx:{serial}/{}#", version.unwrap_or(1.0)))
}

/// Resolves the references to components, counts the vulnerabilities of each, and sorts the vulnerabilities. References
/// to unknown components are kept, but not counted.
pub(super) fn count(document: &mut Document) {
    let Document { components, vulnerabilities, bom_link, max_severity, .. } = document;
    let link = bom_link.as_deref();
    let mut known: HashMap<&str, &Component> = HashMap::new();
    for component in &*components {
        if let Some(reference) = component.bom_ref.as_deref() {
            known.entry(reference).or_insert(component);
        }
    }
    for vulnerability in &mut *vulnerabilities {
        resolve_all(vulnerability, link, &known);
    }
    let mut affected: HashMap<&str, (i32, Severity)> = HashMap::new();
    for vulnerability in vulnerabilities.iter().filter(|vulnerability| vulnerability.counts) {
        let severity = vulnerability.severity;
        if severity.outranks(*max_severity) {
            *max_severity = Some(severity);
        }
        for reference in &vulnerability.affects {
            let (count, worst) = affected.entry(reference).or_insert((0, severity));
            *count += 1;
            if severity.outranks(Some(*worst)) {
                *worst = severity;
            }
        }
    }
    for component in &mut *components {
        let found = component.bom_ref.as_deref().and_then(|reference| affected.get(reference));
        if let Some((count, worst)) = found {
            (component.vuln_count, component.max_severity) = (*count, Some(*worst));
        }
    }
    vulnerabilities.sort_by(|a, b| (a.severity, &a.id).cmp(&(b.severity, &b.id)));
    // References are cut only now: two long ones with a common prefix are different.
    for component in components {
        if let Some(reference) = &mut component.bom_ref {
            shorten(reference, BOM_REF_CHARACTERS_MAX);
        }
    }
    for vulnerability in vulnerabilities {
        for reference in &mut vulnerability.affects {
            shorten(reference, BOM_REF_CHARACTERS_MAX);
        }
    }
}

/// Turns the entries of `affects` into references without duplicates, except components whose version is not affected,
/// and decides whether the vulnerability counts.
fn resolve_all(
    vulnerability: &mut Vulnerability,
    link: Option<&str>,
    known: &HashMap<&str, &Component>,
) {
    let entries = std::mem::take(&mut vulnerability.entries);
    let without_components = entries.is_empty();
    let mut seen = HashSet::new();
    for AffectsEntry { reference, versions } in entries {
        let reference = resolve(reference, link, known);
        let component = known.get(reference.as_str());
        if component.is_none_or(|component| is_affected(component, &versions))
            && seen.insert(reference.clone())
        {
            vulnerability.affects.push(reference);
        }
    }
    let by_state = vulnerability.state.is_none_or(super::AnalysisState::counts);
    vulnerability.counts = by_state && (without_components || !vulnerability.affects.is_empty());
}

/// Returns the `bom-ref` of a reference that is a BOM-Link to a component of this document, and others unchanged.
fn resolve(reference: String, link: Option<&str>, known: &HashMap<&str, &Component>) -> String {
    if known.contains_key(reference.as_str()) {
        return reference;
    }
    let Some((head, fragment)) = link.and_then(|link| reference.split_at_checked(link.len()))
    else {
        return reference;
    };
    if !link.is_some_and(|link| head.eq_ignore_ascii_case(link)) {
        return reference;
    }
    let forms = [fragment.to_owned(), purl::decode(fragment)];
    let found = forms.into_iter().find(|form| known.contains_key(form.as_str()));
    found.unwrap_or(reference)
}
