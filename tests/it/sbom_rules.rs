//! What a document says of vulnerabilities decides what counts, also for documents that were stored by older rules.

use serde_json::{Value, json};
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::sboms::worker::RECOMPUTE;
use shoreguard::workers;

use crate::sbom_fleet::name;
use crate::sbom_search::document;
use crate::sboms::{list_request, rated, register_gateways};
use crate::support::server::{Caller, TestServer};

const SERIAL: &str = "3e671687-395b-41f5-a30f-a58921a69b79";

/// Returns a document with a component for each of these references and with these vulnerabilities.
fn vulnerable(references: &[&str], vulnerabilities: &Value) -> Vec<u8> {
    let component = |name: &&str| json!({ "name": name, "bom-ref": name, "version": "1.0.0" });
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "serialNumber": format!("urn:uuid:{SERIAL}"),
        "components": references.iter().map(component).collect::<Vec<_>>(),
        "vulnerabilities": vulnerabilities,
    })
    .to_string()
    .into_bytes()
}

impl Caller {
    /// Returns number and highest severity of the vulnerabilities of each component, by name.
    async fn worst(&self) -> Vec<(i32, pb::SbomSeverity)> {
        let components = self.components(list_request("edge", "box")).await;
        components.iter().map(|of| (of.vulnerability_count, of.max_severity())).collect()
    }

    /// Returns the vulnerabilities of the component with a reference.
    async fn vulnerabilities_of(&self, bom_ref: &str) -> Vec<pb::SbomVulnerability> {
        let request =
            pb::ListSbomVulnerabilitiesRequest { bom_ref: bom_ref.into(), ..rated("box") };
        let listed = self.sboms().list_sbom_vulnerabilities(request).await.unwrap();
        listed.into_inner().sbom_vulnerabilities
    }
}

server_tests! {
    a_bom_link_leads_to_the_component_of_its_own_document,
    a_vulnerability_that_does_not_affect_a_component_is_listed_and_not_counted,
    a_score_without_a_severity_gives_the_severity,
    a_document_with_a_lone_surrogate_is_stored,
}

async fn a_bom_link_leads_to_the_component_of_its_own_document(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let linked = |id: &str, severity: &str, serial: &str| {
        json!({
            "id": id, "ratings": [{ "severity": severity }],
            "affects": [{ "ref": format!("urn:cdx:{serial}/1#left") }],
        })
    };
    let other = linked("CVE-2", "high", "00000000-0000-4000-8000-000000000000");
    let vulnerabilities = json!([linked("CVE-1", "critical", SERIAL), other]);
    let bytes = vulnerable(&["left"], &vulnerabilities);
    let sbom = admin.upload("edge", "box", &bytes).await.sbom.unwrap();
    assert_eq!(sbom.max_severity(), pb::SbomSeverity::Critical);
    assert_eq!(admin.worst().await, [(1, pb::SbomSeverity::Critical)]);
    let [one] = admin.vulnerabilities_of("left").await.try_into().unwrap();
    assert_eq!((one.id.as_str(), one.affects), ("CVE-1", vec!["left".to_owned()]));
    sg.finish().await;
}

async fn a_vulnerability_that_does_not_affect_a_component_is_listed_and_not_counted(
    sg: TestServer,
) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let vulnerabilities = json!([
        {
            "id": "CVE-1", "ratings": [{ "severity": "critical" }], "affects": [{ "ref": "a" }],
            "analysis": { "state": "not_affected", "justification": "code_not_reachable" },
        },
        {
            "id": "CVE-2", "ratings": [{ "severity": "low" }], "affects": [{ "ref": "a" }],
            "analysis": { "state": "in_triage" },
        },
        {
            "id": "CVE-3", "ratings": [{ "severity": "high" }],
            "affects": [{ "ref": "b", "versions": [{ "version": "1.0.0", "status": "unaffected" }] }],
        },
    ]);
    let bytes = vulnerable(&["a", "b"], &vulnerabilities);
    let sbom = admin.upload("edge", "box", &bytes).await.sbom.unwrap();
    assert_eq!((sbom.vulnerability_count, sbom.max_severity()), (3, pb::SbomSeverity::Low));
    assert_eq!(admin.worst().await, [(1, pb::SbomSeverity::Low), (0, pb::SbomSeverity::Clean)]);
    let shown: Vec<_> = admin
        .vulnerabilities_of("a")
        .await
        .iter()
        .map(|of| (of.id.clone(), of.severity(), of.analysis_state(), of.counts))
        .collect();
    assert_eq!(
        shown,
        [
            (
                "CVE-1".to_owned(),
                pb::SbomSeverity::Critical,
                pb::SbomAnalysisState::NotAffected,
                false
            ),
            ("CVE-2".to_owned(), pb::SbomSeverity::Low, pb::SbomAnalysisState::InTriage, true),
        ]
    );
    assert!(admin.vulnerabilities_of("b").await.is_empty());
    let all = admin.vulnerabilities_of("").await;
    assert_eq!((all[1].id.as_str(), all[1].counts, all[1].affects_count), ("CVE-3", false, 0));
    assert_eq!(all[1].analysis_state(), pb::SbomAnalysisState::Unspecified);
    sg.finish().await;
}

async fn a_score_without_a_severity_gives_the_severity(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let scored = |id: &str, method: &str, score: f64| json!({ "id": id, "ratings": [{ "method": method, "score": score }], "affects": [{ "ref": id }] });
    let vulnerabilities =
        json!([scored("a", "CVSSv31", 9.8), scored("b", "CVSSv4", 6.9), scored("c", "OWASP", 9.8)]);
    let bytes = vulnerable(&["a", "b", "c"], &vulnerabilities);
    let sbom = admin.upload("edge", "box", &bytes).await.sbom.unwrap();
    assert_eq!(sbom.max_severity(), pb::SbomSeverity::Critical);
    let all = admin.vulnerabilities_of("").await;
    let shown: Vec<_> = all.iter().map(|of| (of.severity(), of.cvss_score)).collect();
    assert_eq!(
        shown,
        [
            (pb::SbomSeverity::Critical, Some(9.8)),
            (pb::SbomSeverity::Medium, Some(6.9)),
            (pb::SbomSeverity::Unknown, None),
        ]
    );
    sg.finish().await;
}

async fn a_document_with_a_lone_surrogate_is_stored(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let with = |field: &str| {
        let good = format!(r#"{{"name":"good","description":"{field}"}}"#);
        let file = format!(r#"{{"type":"file","name":"caf{field}.txt","bom-ref":"{field}"}}"#);
        let head = r#""bomFormat":"CycloneDX","specVersion":"1.6""#;
        format!(r#"{{{head},"components":[{file},{good}]}}"#).into_bytes()
    };
    for half in [r"\udce9", r"\ud83d", r"\ude00\ud83d"] {
        let bytes = with(half);
        admin.upload("edge", "box", &bytes).await;
        let names: Vec<String> = admin
            .components(list_request("edge", "box"))
            .await
            .into_iter()
            .map(|component| component.name)
            .collect();
        let replaced = "\u{fffd}".repeat(half.len() / 6);
        assert_eq!(names, [format!("caf{replaced}.txt"), "good".to_owned()]);
        // The document itself is stored as it is.
        assert!(admin.download("edge", "box").await.unwrap() == bytes);
    }
    sg.finish().await;
}

server_tests_without_jobs! {
    a_search_is_refused_until_rows_of_older_rules_were_computed_again,
    a_read_of_one_sbom_computes_rows_of_older_rules_again,
    an_upload_replaces_rows_of_older_rules,
    a_stored_document_that_cannot_be_read_again_keeps_its_rows,
}

/// Uploads a document and changes its rows to what an older version could have stored.
async fn stored_by_older_rules(sg: &TestServer) -> pb::Sbom {
    register_gateways(sg, &["edge"]).await;
    let components = json!([
        { "name": "@case/left", "bom-ref": "a", "version": "go1.22.5", "purl": "pkg:golang/left@1.22.5" },
    ]);
    let sbom = sg.admin().upload("edge", "box", &document(&components)).await.sbom.unwrap();
    sg.sql("UPDATE sbom_components SET name_key = '@case/left', version_key = '', max_severity = 'HIGH'")
        .await;
    sg.sql("DELETE FROM sbom_rules").await;
    sbom
}

fn left() -> pb::SearchComponentsRequest {
    pb::SearchComponentsRequest { version_below: "1.22.7".into(), ..name("left") }
}

async fn a_search_is_refused_until_rows_of_older_rules_were_computed_again(sg: TestServer) {
    let before = stored_by_older_rules(&sg).await;
    let admin = sg.admin();
    let refused = admin.sboms().search_components(left()).await;
    assert_refused!(refused, Unavailable, "SBOMS_OUTDATED");
    let worked = workers::run_once(&sg.app, &RECOMPUTE).await.unwrap().unwrap();
    assert_eq!((worked.done, worked.more), (1, false));
    assert_eq!(admin.search(left()).await, ["edge/default/box @case/left go1.22.5"]);
    let after = admin.sbom("edge", "box").await.unwrap();
    // The upload is the same, but page tokens and etags of the older rows are not valid.
    assert_ne!(after.etag, before.etag);
    assert_eq!(pb::Sbom { etag: before.etag.clone(), ..after }, before);
    let worked = workers::run_once(&sg.app, &RECOMPUTE).await.unwrap().unwrap();
    assert_eq!(worked.done, 0);
    sg.finish().await;
}

async fn a_read_of_one_sbom_computes_rows_of_older_rules_again(sg: TestServer) {
    stored_by_older_rules(&sg).await;
    let admin = sg.admin();
    assert_eq!(admin.worst().await, [(0, pb::SbomSeverity::Clean)]);
    assert_eq!(admin.search(left()).await.len(), 1);
    sg.finish().await;
}

async fn an_upload_replaces_rows_of_older_rules(sg: TestServer) {
    stored_by_older_rules(&sg).await;
    let admin = sg.admin();
    let bytes = admin.download("edge", "box").await.unwrap();
    sg.sql("DELETE FROM sbom_rules").await;
    let uploaded = admin.upload("edge", "box", &bytes).await;
    assert_eq!(uploaded.counts, Some(pb::SbomChangeCounts::default()));
    assert_eq!(admin.search(left()).await.len(), 1);
    sg.finish().await;
}

async fn a_stored_document_that_cannot_be_read_again_keeps_its_rows(sg: TestServer) {
    stored_by_older_rules(&sg).await;
    let blob = if sg.engine == Engine::Sqlite { "BLOB" } else { "BYTEA" };
    sg.sql(&format!("UPDATE sbom_snapshots SET raw_json = CAST('{{' AS {blob})")).await;
    let worked = workers::run_once(&sg.app, &RECOMPUTE).await.unwrap().unwrap();
    assert_eq!(worked.done, 1);
    let admin = sg.admin();
    assert_eq!(admin.sbom("edge", "box").await.unwrap().component_count, 1);
    assert_eq!(admin.worst().await, [(0, pb::SbomSeverity::High)]);
    sg.finish().await;
}
