//! Measures the upload and the search of an SBOM with 50,000 components, and the search of its fleet.

use std::time::Instant;

use prost::Message;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::search_components_request::By;

use super::{Subject, run_rounds};
use crate::figure::{Figure, Target};
use crate::fleet::{self, Admin, Fleet};
use crate::load::{Call, ONE_CALLER};
use crate::place::{self, ENGINES};
use crate::{Bench, BoxError};

/// Components of the large SBOM.
const COMPONENTS: usize = 50_000;
/// Number of other sandboxes, and components of each.
const OTHERS: (usize, usize) = (50, 2_000);
/// The required limit on SQLite.
const INGEST_MS_MAX: f64 = 2_000.0;
const SEARCH_P99_US_MAX: f64 = 10_000.0;

/// Returns a document like those of build tools: a few fields and a package URL per component, one vulnerability per
/// hundred components.
fn document(components: usize, from: usize) -> Vec<u8> {
    let component = |n: usize| {
        let n = n + from;
        format!(
            "{{\"type\":\"library\",\"bom-ref\":\"ref-{n}\",\"group\":\"org.example.g{}\",\"name\":\"lib-{n}\",\"version\":\"{}.{}.{}\",\
             \"purl\":\"pkg:maven/org.example.g{}/lib-{n}@{}.{}.{}?type=jar\",\"licenses\":[{{\"license\":{{\"id\":\"MIT\"}}}}]}}",
            n % 97,
            n % 9,
            n % 31,
            n % 7,
            n % 97,
            n % 9,
            n % 31,
            n % 7
        )
    };
    let vulnerability = |n: usize| {
        format!(
            "{{\"id\":\"CVE-2026-{n}\",\"ratings\":[{{\"severity\":\"high\",\"score\":7.5}}],\"affects\":[{{\"ref\":\"ref-{}\"}}]}}",
            n * 100 + from
        )
    };
    let list =
        |each: &dyn Fn(usize) -> String, count| (0..count).map(each).collect::<Vec<_>>().join(",");
    format!(
        "{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"components\":[{}],\"vulnerabilities\":[{}]}}",
        list(&component, components),
        list(&vulnerability, components / 100)
    )
    .into_bytes()
}

/// Measures both engines.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(fleet) = Fleet::start(bench, engine)? else { continue };
        let name = place::engine_name(engine);
        bench.runtime.block_on(upload_all(&fleet, name, bench.options.rounds))?;
        let key = Some(fleet.admin_key.as_str());
        let list = |what: &str, search: &str| {
            let request = pb::ListSbomComponentsRequest {
                gateway: fleet::gateway_name(0),
                sandbox: "large".to_owned(),
                search: search.to_owned(),
                ..Default::default()
            };
            subject(
                &fleet,
                format!("{name}, {what}"),
                "/shoreguard.v1.SbomService/ListSbomComponents",
                &request,
                key,
            )
        };
        let search = |what: &str, by: By| {
            let request = pb::SearchComponentsRequest {
                by: Some(by),
                version_below: "5.0".to_owned(),
                ..Default::default()
            };
            subject(
                &fleet,
                format!("{name}, {what}"),
                "/shoreguard.v1.SbomService/SearchComponents",
                &request,
                key,
            )
        };
        let mut subjects = [
            list("the first page", "")?,
            list("a search that finds a page", "lib-123")?,
            list("a search that finds the last one", "lib-99999?")?,
            list("a search that finds nothing", "log4j")?,
            search("the fleet by name", By::Name("lib-40017".to_owned()))?,
            search(
                "the fleet by the begin of a package URL",
                By::PurlPrefix("pkg:maven/org.example.g41/".to_owned()),
            )?,
            search(
                "the fleet by a part of names, nothing there",
                By::NameContains("log4j".to_owned()),
            )?,
            search("the fleet by a part of a few names", By::NameContains("b-3401".to_owned()))?,
            search("the fleet by a part of all names", By::NameContains("lib-".to_owned()))?,
        ];
        run_rounds(bench, &mut subjects, ONE_CALLER)?;
        for subject in &subjects {
            subject.p50.print(&format!("{}, p50", subject.name), "us", Target::None)?;
            let target = Target::AtMost(SEARCH_P99_US_MAX);
            subject.p99.print(&format!("{}, p99", subject.name), "us", target)?;
        }
    }
    Ok(())
}

fn subject<'a>(
    fleet: &'a Fleet,
    name: String,
    path: &'static str,
    request: &impl Message,
    key: Option<&str>,
) -> Result<Subject<'a>, BoxError> {
    Ok(Subject::new(name, &fleet.server, vec![Call::new(path, request, key)?]))
}

/// Uploads all SBOMs, the large one repeatedly.
async fn upload_all(fleet: &Fleet, name: &str, rounds: u32) -> Result<(), BoxError> {
    let admin = Admin::connect(fleet.server.address, &fleet.admin_key).await?;
    for n in 0..OTHERS.0 {
        admin.upload_sbom(&format!("other-{n}"), &document(OTHERS.1, n * 731)).await?;
    }
    let large = document(COMPONENTS, 50_000);
    let (mut first, mut again) = (Figure::default(), Figure::default());
    for round in 0..=rounds {
        let begun = Instant::now();
        let count = admin.upload_sbom("large", &large).await?;
        let took_ms = begun.elapsed().as_secs_f64() * 1e3;
        if usize::try_from(count)? != COMPONENTS {
            return Err(format!("{count} components were taken of {COMPONENTS}").into());
        }
        if round == 0 { first.add(took_ms) } else { again.add(took_ms) }
    }
    let target = Target::AtMost(INGEST_MS_MAX);
    first.print(&format!("{name}, {COMPONENTS} components taken"), "ms", target)?;
    again.print(&format!("{name}, {COMPONENTS} components in place of as many"), "ms", target)
}
