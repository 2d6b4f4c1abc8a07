//! Uploads and downloads of SBOMs: what is accepted, what is refused, and how changes are reported.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::sboms::cyclonedx::SBOM_BYTES_MAX;
use shoreguard::seal::hex;
use tonic::Status;

use crate::sboms::{FILES, file, first_message, list_request, register_gateways};
use crate::support::server::Caller;
use crate::support::server::TestServer;

impl Caller {
    /// Downloads the document of a sandbox.
    pub(crate) async fn download(&self, gateway: &str, sandbox: &str) -> Result<Vec<u8>, Status> {
        let (gateway, sandbox) = (gateway.to_owned(), sandbox.to_owned());
        let request = pb::DownloadSbomRequest { gateway, sandbox, ..Default::default() };
        let mut stream = self.sboms().download_sbom(request).await?.into_inner();
        let mut document = Vec::new();
        while let Some(message) = stream.message().await? {
            assert!((1..=64 * 1024).contains(&message.chunk.len()));
            document.extend_from_slice(&message.chunk);
        }
        Ok(document)
    }
}

fn chunk(bytes: &[u8]) -> pb::UploadSbomRequest {
    pb::UploadSbomRequest { chunk: bytes.to_vec().into(), ..Default::default() }
}

/// Returns a document of the given length. It is padded with blanks at the end.
fn padded(length: usize) -> Vec<u8> {
    let mut document = file("python-1.6").to_vec();
    document.resize(length, b' ');
    document
}

fn component_changes(changes: &[pb::SbomChange]) -> Vec<String> {
    let shown = changes.iter().filter_map(|change| match change.subject.as_ref().unwrap() {
        pb::sbom_change::Subject::Component(of) => Some(format!(
            "{:?} {} {:?} {:?}",
            change.kind(),
            of.purl,
            of.versions_removed,
            of.versions_added
        )),
        pb::sbom_change::Subject::Vulnerability(_) => None,
    });
    shown.collect()
}

server_tests! {
    a_download_returns_the_uploaded_bytes,
    a_document_larger_than_ten_mebibytes_is_refused,
    an_upload_reports_added_and_removed_entries,
    an_upload_is_audited_and_emits_an_event,
    an_invalid_upload_stream_is_refused_and_stores_nothing,
    oversized_texts_of_a_document_are_handled_alike_on_both_engines,
    a_repeated_upload_gets_the_first_response_and_other_content_is_refused,
    concurrent_uploads_store_exactly_one_complete_document,
}

async fn a_download_returns_the_uploaded_bytes(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    for (name, document) in FILES {
        admin.upload("edge", name, document).await;
        assert!(admin.download("edge", name).await.unwrap() == document, "{name}");
    }
    // In several chunks, with blanks that a parser would drop.
    let long = padded(3 * 1024 * 1024 + 17);
    let sbom = admin.upload("edge", "long", &long).await.sbom.unwrap();
    assert_eq!(sbom.sha256, hex(&Sha256::digest(&long)));
    assert!(admin.download("edge", "long").await.unwrap() == long);
    assert_refused!(admin.download("edge", "none").await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn a_document_larger_than_ten_mebibytes_is_refused(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let refused =
        admin.upload_after(first_message("edge", "box"), &padded(SBOM_BYTES_MAX + 1)).await;
    let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    assert!(refused.message().contains("10485760"), "{refused:?}");
    assert_refused!(admin.sbom("edge", "box").await, NotFound, "NOT_FOUND");
    let sbom = admin.upload("edge", "box", &padded(SBOM_BYTES_MAX)).await.sbom.unwrap();
    assert_eq!(usize::try_from(sbom.size_bytes).unwrap(), SBOM_BYTES_MAX);
    sg.finish().await;
}

async fn an_upload_reports_added_and_removed_entries(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let empty = admin.upload("edge", "box", file("python-1.6")).await;
    let counts = empty.counts.unwrap();
    assert!(
        !empty.replaced
            && i64::from(counts.components_added) == empty.sbom.unwrap().component_count
    );
    let same = admin.upload("edge", "box", file("python-1.6")).await;
    assert_eq!(
        (same.replaced, same.counts, same.changes),
        (true, Some(pb::SbomChangeCounts::default()), vec![])
    );

    let rated = admin.upload("edge", "box", file("python-rated-1.6")).await;
    assert_eq!(
        rated.counts,
        Some(pb::SbomChangeCounts { vulnerabilities_added: 6, ..Default::default() })
    );
    let Some(pb::sbom_change::Subject::Vulnerability(worst)) = &rated.changes[0].subject else {
        panic!("{rated:?}")
    };
    assert_eq!(
        (worst.id.as_str(), worst.severity_before(), worst.severity()),
        ("CVE-2023-46136", pb::SbomSeverity::Unspecified, pb::SbomSeverity::High)
    );

    let later = admin.upload("edge", "box", file("python-later-1.6")).await;
    let changes = component_changes(&later.changes);
    for expected in [
        "Changed pkg:pypi/requests [\"2.31.0\"] [\"2.32.4\"]",
        "Changed pkg:pypi/flask [\"3.0.0\"] [\"3.1.1\"]",
        "Added pkg:pypi/httpx [] [\"0.28.1\"]",
    ] {
        assert!(changes.iter().any(|change| change == expected), "{expected}: {changes:#?}");
    }
    let counts = later.counts.unwrap();
    assert_eq!((counts.vulnerabilities_removed, counts.components_removed), (6, 0));
    assert_eq!(
        changes.len(),
        usize::try_from(counts.components_added + counts.components_changed).unwrap()
    );
    assert!(!later.changes_cut);

    let other = admin.upload("edge", "box", file("npm-1.5")).await;
    assert_eq!(other.changes_cut, other.changes.len() == 200);
    sg.finish().await;
}

async fn an_upload_is_audited_and_emits_an_event(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    admin.upload("edge", "box", file("python-rated-1.6")).await;
    let delete = pb::DeleteSbomRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        ..Default::default()
    };
    admin.sboms().delete_sbom(delete).await.unwrap();
    sg.app.audit.wait_settled().await;
    let list = pb::ListAuditEntriesRequest { resource_type: "sbom".into(), ..Default::default() };
    let entries = admin.audit().list_audit_entries(list).await.unwrap().into_inner().audit_entries;
    let shown: Vec<_> = entries
        .iter()
        .map(|e| (e.action.as_str(), e.gateway.as_str(), e.resource_id.as_str(), e.outcome()))
        .collect();
    let ok = pb::AuditOutcome::Ok;
    assert_eq!(shown, [("sbom.delete", "edge", "box", ok), ("sbom.upload", "edge", "box", ok)]);
    let detail: Value = serde_json::from_str(&entries[1].detail_json).unwrap();
    assert_eq!(
        (&detail["vulnerabilities"], &detail["max_severity"], &detail["workspace"]),
        (&json!(6), &json!("HIGH"), &json!("default"))
    );

    let names = vec!["sbom.uploaded".to_owned(), "sbom.deleted".to_owned()];
    let mut watch = admin
        .events()
        .watch_events(pb::WatchEventsRequest { names, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(watch.message().await.unwrap().unwrap().event);
    }
    let payload: Value = serde_json::from_str(&told[0].payload_json).unwrap();
    assert_eq!((told[0].name.as_str(), told[1].name.as_str()), ("sbom.uploaded", "sbom.deleted"));
    assert_eq!(
        (&payload["sandbox"], &payload["vulnerabilities_added"], &payload["max_severity"]),
        (&json!("box"), &json!(6), &json!("HIGH"))
    );
    drop(watch);
    sg.finish().await;
}

async fn an_invalid_upload_stream_is_refused_and_stores_nothing(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let document = file("python-1.6");
    let start = first_message("edge", "box");
    let bad: [(Vec<pb::UploadSbomRequest>, &str); 9] = [
        (vec![pb::UploadSbomRequest { chunk: document.into(), ..start.clone() }], "chunk"),
        (vec![start.clone()], "chunk"),
        (vec![start.clone(), chunk(document), chunk(b"")], "chunk"),
        (vec![start.clone(), chunk(b"{")], "chunk"),
        (
            vec![
                start.clone(),
                pb::UploadSbomRequest { gateway: "edge".into(), ..chunk(document) },
            ],
            "gateway",
        ),
        (
            vec![
                start.clone(),
                pb::UploadSbomRequest { sandbox: "other".into(), ..chunk(document) },
            ],
            "sandbox",
        ),
        (
            vec![
                pb::UploadSbomRequest { sha256: "0".repeat(64), ..start.clone() },
                chunk(document),
            ],
            "sha256",
        ),
        (
            vec![
                pb::UploadSbomRequest { sha256: "0".repeat(63), ..start.clone() },
                chunk(document),
            ],
            "sha256",
        ),
        (
            vec![
                pb::UploadSbomRequest { sandbox: "../box".into(), ..start.clone() },
                chunk(document),
            ],
            "sandbox",
        ),
    ];
    for (messages, field) in bad {
        let refused =
            assert_refused!(admin.send_sbom(messages).await, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains(&format!("`{field}`")), "{field}: {refused:?}");
    }
    assert_refused!(admin.send_sbom(vec![]).await, InvalidArgument, "MALFORMED_MESSAGE");
    assert_refused!(admin.sbom("edge", "box").await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn oversized_texts_of_a_document_are_handled_alike_on_both_engines(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let long = "\u{1f600}".repeat(5_000);
    let strange = "a\0b\u{1b}\\%_\"'";
    let document = |name: &str| {
        json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": long,
            "components": [{ "name": name, "bom-ref": long, "group": long, "version": long, "purl": long, "type": long, "licenses": [{ "expression": long }] }, { "name": strange, "version": strange }],
            "vulnerabilities": [{ "id": strange, "description": long, "affects": [{ "ref": long }], "references": [{ "url": long }] }],
        }).to_string()
    };
    let uploaded = admin.upload("edge", "box", document(&"n".repeat(512)).as_bytes()).await;
    assert_eq!(uploaded.texts_cut, 10);
    assert!(uploaded.cut_paths.contains(&"components[0].version".to_owned()), "{uploaded:?}");
    let listed = admin.components(list_request("edge", "box")).await;
    assert_eq!(listed.iter().map(|c| c.version.chars().count()).max(), Some(128));
    assert_eq!(listed.iter().find(|c| c.name.starts_with('n')).unwrap().vulnerability_count, 1);
    let name = "n".repeat(513);
    let refused =
        admin.upload_after(first_message("edge", "box"), document(&name).as_bytes()).await;
    let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    assert!(
        refused.message().contains("`components[0].name` must be at most 512 characters, got 513"),
        "{refused:?}"
    );
    sg.finish().await;
}

async fn a_repeated_upload_gets_the_first_response_and_other_content_is_refused(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let digest = |document: &[u8]| hex(&Sha256::digest(document)).to_uppercase();
    let start = |document: &[u8]| pb::UploadSbomRequest {
        request_id: "5f6a5b1c-29a4-4f55-a6ed-4a4f2ff0f0a1".into(),
        sha256: digest(document),
        ..first_message("edge", "box")
    };
    let (one, other) = (file("python-1.6"), file("npm-1.5"));
    let uploaded = admin.upload_after(start(one), one).await.unwrap();
    assert_eq!(admin.upload_after(start(one), one).await.unwrap(), uploaded);
    assert_refused!(
        admin.upload_after(start(other), other).await,
        InvalidArgument,
        "REQUEST_ID_REUSED"
    );
    assert_eq!(admin.sbom("edge", "box").await.unwrap(), uploaded.sbom.unwrap());
    sg.finish().await;
}

async fn concurrent_uploads_store_exactly_one_complete_document(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let uploads = [
        "python-1.6",
        "npm-1.5",
        "cargo-1.5",
        "python-rated-1.6",
        "python-later-1.6",
        "python-1.2",
    ]
    .map(|name| {
        let admin = admin.clone();
        async move { admin.upload_after(first_message("edge", "box"), file(name)).await }
    });
    let ended = futures_util::future::join_all(uploads).await;
    // An upload that loses to others too often is refused, and none is stored partially.
    let done = ended.iter().filter(|answer| answer.is_ok()).count();
    assert!(done >= 1);
    for refused in ended.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(refused.code(), tonic::Code::Aborted, "{refused:?}");
    }
    let sbom = admin.sbom("edge", "box").await.unwrap();
    assert_eq!(
        admin.components(list_request("edge", "box")).await.len(),
        usize::try_from(sbom.component_count).unwrap()
    );
    let stored = admin.download("edge", "box").await.unwrap();
    assert!(FILES.iter().any(|(_, document)| *document == stored));
    sg.finish().await;
}
