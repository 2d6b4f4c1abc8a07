//! A parsed upload: digest, sorted rows and the content for comparisons.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::cyclonedx::{self, Component, Document, Severity, Vulnerability};
use super::diff::SbomContent;
use super::rows::{NewAffects, NewComponent, NewContent, NewNames, NewVulnerability};
use super::search::keys::SearchKeys;
use super::search::names::to_blocks;
use crate::error::Error;
use crate::seal::hex;

/// Everything that is stored of a document.
#[derive(Debug)]
pub(super) struct ParsedDocument {
    pub(super) bytes: Vec<u8>,
    pub(super) sha256: String,
    pub(super) spec_version: String,
    pub(super) serial_number: Option<String>,
    pub(super) max_severity: Option<Severity>,
    pub(super) rows: Arc<NewContent>,
    /// Content for comparisons.
    pub(super) content: SbomContent,
    pub(super) skipped: usize,
    pub(super) cut: usize,
    pub(super) cut_paths: Vec<String>,
}

impl ParsedDocument {
    /// Checks the digest, if the caller has sent one, and parses the document. Slow: run it on a blocking thread.
    pub(super) fn parse(bytes: Vec<u8>, given: Option<&str>) -> Result<Self, Error> {
        let sha256 = hex(&Sha256::digest(&bytes));
        if given.is_some_and(|given| given != sha256) {
            return Err(Error::invalid(
                "sha256",
                format!("does not match the document, whose SHA-256 is `{sha256}`"),
            ));
        }
        let document = cyclonedx::parse(&bytes)?;
        let Document { spec_version, serial_number, components, vulnerabilities, .. } = document;
        let content = SbomContent::from_document(&components, &vulnerabilities);
        let affects = affects(&vulnerabilities);
        let vulnerabilities =
            vulnerabilities.into_iter().zip(0..).map(vulnerability).collect::<Result<_, _>>()?;
        let components: Vec<NewComponent> = sorted(components).zip(0..).map(component).collect();
        let names = names(&components);
        Ok(Self {
            bytes,
            sha256,
            spec_version,
            serial_number,
            max_severity: document.max_severity,
            rows: Arc::new(NewContent { components, names, vulnerabilities, affects }),
            content,
            skipped: document.skipped,
            cut: document.cut,
            cut_paths: document.cut_paths,
        })
    }
}

/// Sorts the components in the order of lists, so that the database does not need to sort them.
fn sorted(components: Vec<Component>) -> impl Iterator<Item = (SearchKeys, Component)> {
    // Lists are sorted by the name as the document has it, which may contain a group.
    let keyed = components.into_iter().map(|component| {
        (component.name.to_lowercase(), SearchKeys::from_component(&component), component)
    });
    let mut keyed: Vec<_> = keyed.collect();
    keyed.sort_by(|(a, a_keys, _), (b, b_keys, _)| (a, a_keys).cmp(&(b, b_keys)));
    keyed.into_iter().map(|(_, keys, component)| (keys, component))
}

fn component(((keys, component), position): ((SearchKeys, Component), i64)) -> NewComponent {
    NewComponent {
        position,
        bom_ref: component.bom_ref,
        name: component.name,
        group_name: component.group,
        version: component.version,
        purl: component.purl,
        kind: component.kind,
        licenses: component.licenses,
        vuln_count: component.vuln_count,
        max_severity: component.max_severity,
        name_key: keys.name,
        version_key: keys.version,
        purl_key: keys.purl,
        search_key: keys.text,
    }
}

/// Returns the names of the components in blocks: the first line of their search text.
fn names(components: &[NewComponent]) -> Vec<NewNames> {
    let names = components.iter().filter_map(|component| component.search_key.split('\n').next());
    let blocks = to_blocks(names).into_iter().zip(0..);
    blocks.map(|(names, part)| NewNames { part, names }).collect()
}

fn vulnerability((of, position): (Vulnerability, i64)) -> Result<NewVulnerability, Error> {
    Ok(NewVulnerability {
        position,
        vulnerability: of.id,
        severity: of.severity,
        cvss_score: of.score,
        description: of.description,
        affects_count: i32::try_from(of.affects.len()).unwrap_or(i32::MAX),
        references_json: serde_json::to_string(&of.references).map_err(Error::internal)?,
        analysis_state: of.state,
        counts: of.counts,
    })
}

fn affects(vulnerabilities: &[Vulnerability]) -> Vec<NewAffects> {
    let mut rows = Vec::new();
    for (of, vulnerability_position) in vulnerabilities.iter().zip(0..) {
        for (bom_ref, position) in of.affects.iter().zip(0..) {
            let bom_ref = bom_ref.clone();
            rows.push(NewAffects { vulnerability_position, position, bom_ref });
        }
    }
    rows
}
