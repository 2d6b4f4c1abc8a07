//! SBOMs through the API: their content, and their deletion with their sandbox or gateway.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;
use shoreguard::pb::v1 as pb;
use tonic::Status;

use crate::support::dump;
use crate::support::server::{Caller, TestServer};

/// SBOMs made by real tools.
pub(crate) const FILES: [(&str, &[u8]); 9] = [
    ("python-1.2", include_bytes!("sbom_files/python-1.2.json")),
    ("python-1.3", include_bytes!("sbom_files/python-1.3.json")),
    ("python-1.4", include_bytes!("sbom_files/python-1.4.json")),
    ("python-1.6", include_bytes!("sbom_files/python-1.6.json")),
    ("python-1.7", include_bytes!("sbom_files/python-1.7.json")),
    ("python-later-1.6", include_bytes!("sbom_files/python-later-1.6.json")),
    ("python-rated-1.6", include_bytes!("sbom_files/python-rated-1.6.json")),
    ("npm-1.5", include_bytes!("sbom_files/npm-1.5.json")),
    ("cargo-1.5", include_bytes!("sbom_files/cargo-1.5.json")),
];

/// Returns one of these files.
pub(crate) fn file(name: &str) -> &'static [u8] {
    FILES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// Returns the first message of an upload for a sandbox.
pub(crate) fn first_message(gateway: &str, sandbox: &str) -> pb::UploadSbomRequest {
    let (gateway, sandbox) = (gateway.to_owned(), sandbox.to_owned());
    pb::UploadSbomRequest { gateway, sandbox, ..Default::default() }
}

impl Caller {
    /// Sends messages as one upload.
    pub(crate) async fn send_sbom(
        &self,
        messages: Vec<pb::UploadSbomRequest>,
    ) -> Result<pb::UploadSbomResponse, Status> {
        let messages = tokio_stream::iter(messages);
        Ok(self.sboms().upload_sbom(messages).await?.into_inner())
    }

    /// Uploads a document in chunks, following a first message.
    pub(crate) async fn upload_after(
        &self,
        first: pb::UploadSbomRequest,
        document: &[u8],
    ) -> Result<pb::UploadSbomResponse, Status> {
        let mut messages = vec![first];
        messages.extend(document.chunks(50_000).map(|chunk| pb::UploadSbomRequest {
            chunk: chunk.to_vec().into(),
            ..Default::default()
        }));
        self.send_sbom(messages).await
    }

    /// Uploads a document for a sandbox.
    pub(crate) async fn upload(
        &self,
        gateway: &str,
        sandbox: &str,
        document: &[u8],
    ) -> pb::UploadSbomResponse {
        self.upload_after(first_message(gateway, sandbox), document).await.unwrap()
    }

    pub(crate) async fn sbom(&self, gateway: &str, sandbox: &str) -> Result<pb::Sbom, Status> {
        let (gateway, sandbox) = (gateway.to_owned(), sandbox.to_owned());
        let request = pb::GetSbomRequest { gateway, sandbox, ..Default::default() };
        Ok(self.sboms().get_sbom(request).await?.into_inner().sbom.unwrap())
    }

    /// Returns all components of a list, page by page.
    pub(crate) async fn components(
        &self,
        request: pb::ListSbomComponentsRequest,
    ) -> Vec<pb::SbomComponent> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let request =
                pb::ListSbomComponentsRequest { page_token: token.clone(), ..request.clone() };
            let page = self.sboms().list_sbom_components(request).await.unwrap().into_inner();
            all.extend(page.sbom_components);
            token = page.next_page_token;
            if token.is_empty() {
                return all;
            }
        }
    }

    /// Returns the names that a search finds.
    async fn found(&self, search: &str) -> Vec<String> {
        let request = pb::ListSbomComponentsRequest {
            search: search.to_owned(),
            ..list_request("edge", "box")
        };
        self.components(request).await.into_iter().map(|component| component.name).collect()
    }
}

pub(crate) fn list_request(gateway: &str, sandbox: &str) -> pb::ListSbomComponentsRequest {
    let (gateway, sandbox) = (gateway.to_owned(), sandbox.to_owned());
    pb::ListSbomComponentsRequest { gateway, sandbox, page_size: 7, ..Default::default() }
}

pub(crate) fn rated(sandbox: &str) -> pb::ListSbomVulnerabilitiesRequest {
    let (gateway, sandbox) = ("edge".to_owned(), sandbox.to_owned());
    pb::ListSbomVulnerabilitiesRequest { gateway, sandbox, ..Default::default() }
}

/// Registers gateways that do not respond, since SBOMs need no connection to a gateway.
pub(crate) async fn register_gateways(sg: &TestServer, names: &[&str]) {
    for name in names {
        sg.register_gateway(name, SocketAddr::from(([127, 0, 0, 1], 9))).await;
    }
}

/// Collects the names of all components of a document without Shoreguard's parser.
fn names(component: &Value, into: &mut Vec<String>) {
    into.extend(component["name"].as_str().map(str::to_owned));
    for nested in component["components"].as_array().into_iter().flatten() {
        names(nested, into);
    }
}

fn all_names(document: &[u8]) -> Vec<String> {
    let document: Value = serde_json::from_slice(document).unwrap();
    let mut all = Vec::new();
    names(&document["metadata"]["component"], &mut all);
    for component in document["components"].as_array().unwrap() {
        names(component, &mut all);
    }
    all.sort_by_key(|name| name.to_lowercase());
    all
}

async fn no_row_is_left(sg: &TestServer) {
    for table in [
        "sbom_snapshots",
        "sbom_components",
        "sbom_names",
        "sbom_vulnerabilities",
        "sbom_affects",
        "sbom_rules",
    ] {
        assert_eq!(dump::table(&sg.app.db, table).await, "", "{table}");
    }
}

server_tests! {
    documents_of_common_tools_are_imported_completely,
    nested_components_and_the_main_component_are_found,
    search_texts_have_no_wildcards,
    lists_do_not_parse_the_stored_document,
    vulnerabilities_are_listed_by_severity_and_by_component,
    all_pages_of_a_list_belong_to_one_upload,
    a_missing_sbom_is_not_found_instead_of_empty,
    deleting_an_sbom_leaves_no_rows,
    an_sbom_is_deleted_with_its_gateway,
}

async fn documents_of_common_tools_are_imported_completely(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    for (name, document) in FILES {
        let uploaded = admin.upload("edge", name, document).await;
        let sbom = uploaded.sbom.unwrap();
        let names = all_names(document);
        assert_eq!(usize::try_from(sbom.component_count).unwrap(), names.len(), "{name}");
        assert!(name.ends_with(&sbom.spec_version) && sbom.bom_format == "CycloneDX", "{sbom:?}");
        assert_eq!(
            (uploaded.entries_skipped, uploaded.texts_cut, uploaded.replaced),
            (0, 0, false),
            "{name}"
        );
        assert_eq!(
            (sbom.size_bytes, sbom.uploaded_by.as_str()),
            (i64::try_from(document.len()).unwrap(), "sp:root")
        );
        assert_eq!((sbom.workspace.as_str(), sbom.sandbox.as_str()), ("default", name));
        assert_eq!(admin.sbom("edge", name).await.unwrap(), sbom);
        let mut listed: Vec<_> = admin
            .components(list_request("edge", name))
            .await
            .into_iter()
            .map(|c| c.name)
            .collect();
        assert!(listed.is_sorted_by_key(|name| name.to_lowercase()), "{listed:?}");
        listed.sort_by_key(|name| name.to_lowercase());
        let (listed, names): (Vec<_>, Vec<_>) = (
            listed.iter().map(|n| n.to_lowercase()).collect(),
            names.iter().map(|n| n.to_lowercase()).collect(),
        );
        assert_eq!(listed, names, "{name}");
    }
    sg.finish().await;
}

async fn nested_components_and_the_main_component_are_found(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    admin.upload("edge", "box", file("npm-1.5")).await;
    assert_eq!(admin.found("pkg:npm/console@2.0.0").await, ["console"]);
    // Two versions of it, one of them nested in another component.
    let versions: BTreeSet<String> = admin
        .components(pb::ListSbomComponentsRequest {
            search: "pkg:npm/debug@".into(),
            ..list_request("edge", "box")
        })
        .await
        .into_iter()
        .map(|component| component.version)
        .collect();
    assert!(versions.len() > 1, "{versions:?}");
    // By scope and name, as users write them.
    assert_eq!(admin.found("@fastify/error").await, ["error"]);
    admin.upload("edge", "box", file("cargo-1.5")).await;
    assert!(admin.found("pkg:cargo/shoreguard@").await.len() > 1);
    sg.finish().await;
}

async fn search_texts_have_no_wildcards(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    admin.upload("edge", "box", file("python-1.6")).await;
    assert_eq!(admin.found("TYPING_extensions").await, Vec::<String>::new());
    assert_eq!(admin.found("charset-NORM").await, ["charset-normalizer"]);
    for wildcard in ["%", "_", "fl_sk", "f%k", "\\", "%%", "flask\\"] {
        assert_eq!(admin.found(wildcard).await, Vec::<String>::new(), "{wildcard}");
    }
    // If the document contains the character itself, it is found.
    admin.upload("edge", "box", file("npm-1.5")).await;
    assert_eq!(admin.found("%40fastify").await, ["error"]);
    for bad in ["a\0b".to_owned(), "a".repeat(257)] {
        let request = pb::ListSbomComponentsRequest { search: bad, ..list_request("edge", "box") };
        assert_refused!(
            admin.sboms().list_sbom_components(request).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    sg.finish().await;
}

async fn lists_do_not_parse_the_stored_document(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    admin.upload("edge", "box", file("python-rated-1.6")).await;
    // Empties the stored document, so that reading it again would find nothing.
    assert_eq!(
        sg.sql(
            "UPDATE sbom_snapshots SET raw_json = CAST('' AS BYTEA)"
                .replace(
                    "BYTEA",
                    if sg.engine == shoreguard::db::Engine::Sqlite { "BLOB" } else { "BYTEA" }
                )
                .as_str()
        )
        .await,
        1
    );
    assert_eq!(admin.sbom("edge", "box").await.unwrap().vulnerability_count, 6);
    assert_eq!(
        admin
            .sboms()
            .list_sbom_vulnerabilities(rated("box"))
            .await
            .unwrap()
            .into_inner()
            .sbom_vulnerabilities
            .len(),
        6
    );
    assert!(admin.components(list_request("edge", "box")).await.len() > 10);
    sg.finish().await;
}

async fn vulnerabilities_are_listed_by_severity_and_by_component(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let uploaded = admin.upload("edge", "box", file("python-rated-1.6")).await.sbom.unwrap();
    assert_eq!(
        (uploaded.vulnerability_count, uploaded.max_severity()),
        (6, pb::SbomSeverity::High)
    );
    let list = async |request: pb::ListSbomVulnerabilitiesRequest| {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListSbomVulnerabilitiesRequest {
                page_size: 4,
                page_token: token.clone(),
                ..request.clone()
            };
            let page = admin.sboms().list_sbom_vulnerabilities(request).await.unwrap().into_inner();
            all.extend(page.sbom_vulnerabilities);
            token = page.next_page_token;
            if token.is_empty() {
                return all;
            }
        }
    };
    let ids =
        |found: &[pb::SbomVulnerability]| found.iter().map(|v| v.id.clone()).collect::<Vec<_>>();
    let all = list(rated("box")).await;
    let order = [
        "CVE-2023-46136",
        "CVE-2024-34069",
        "CVE-2024-22195",
        "CVE-2024-35195",
        "CVE-2024-39689",
        "GHSA-34jh-p97f-mpxf",
    ];
    assert_eq!(ids(&all), order);
    assert_eq!((all[0].severity(), all[0].cvss_score), (pb::SbomSeverity::High, Some(8.0)));
    assert_eq!((all[5].severity(), all[5].cvss_score), (pb::SbomSeverity::Unknown, None));
    assert_eq!(
        (all[3].affects.clone(), all[3].affects_count),
        (vec!["requests==2.31.0".to_owned()], 1)
    );
    assert_eq!(all[3].references, ["https://osv.dev/vulnerability/CVE-2024-35195"]);
    assert!(all[3].description.contains("verify=False"));
    let high = pb::ListSbomVulnerabilitiesRequest {
        severity: pb::SbomSeverity::High.into(),
        ..rated("box")
    };
    assert_eq!(ids(&list(high).await), order[..2]);

    // From a component to the vulnerabilities that affect it.
    let request = pb::ListSbomComponentsRequest {
        severity: pb::SbomSeverity::High.into(),
        ..list_request("edge", "box")
    };
    let [worst] = admin.components(request).await.try_into().unwrap();
    assert_eq!(
        (worst.name.to_lowercase().as_str(), worst.vulnerability_count, worst.max_severity()),
        ("werkzeug", 2, pb::SbomSeverity::High)
    );
    let of_it = pb::ListSbomVulnerabilitiesRequest { bom_ref: worst.bom_ref, ..rated("box") };
    assert_eq!(ids(&list(of_it).await), order[..2]);
    let of_none = pb::ListSbomVulnerabilitiesRequest { bom_ref: "nowhere".into(), ..rated("box") };
    assert_eq!(ids(&list(of_none).await), Vec::<String>::new());
    let clean = pb::ListSbomComponentsRequest {
        severity: pb::SbomSeverity::Clean.into(),
        ..list_request("edge", "box")
    };
    let clean = admin.components(clean).await;
    assert!(
        clean
            .iter()
            .all(|c| c.vulnerability_count == 0 && c.max_severity() == pb::SbomSeverity::Clean)
    );
    assert_eq!(clean.len() + 5, admin.components(list_request("edge", "box")).await.len());
    let clean = pb::ListSbomVulnerabilitiesRequest {
        severity: pb::SbomSeverity::Clean.into(),
        ..rated("box")
    };
    assert_refused!(
        admin.sboms().list_sbom_vulnerabilities(clean).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let unknown = pb::ListSbomComponentsRequest { severity: 99, ..list_request("edge", "box") };
    assert_refused!(
        admin.sboms().list_sbom_components(unknown).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    sg.finish().await;
}

async fn all_pages_of_a_list_belong_to_one_upload(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    admin.upload("edge", "box", file("python-1.6")).await;
    let page =
        admin.sboms().list_sbom_components(list_request("edge", "box")).await.unwrap().into_inner();
    let next = pb::ListSbomComponentsRequest {
        page_token: page.next_page_token,
        ..list_request("edge", "box")
    };
    admin.sboms().list_sbom_components(next.clone()).await.unwrap();
    // A page token is valid only for its own list.
    for other in [
        pb::ListSbomComponentsRequest { search: "a".into(), ..next.clone() },
        pb::ListSbomComponentsRequest { sandbox: "other".into(), ..next.clone() },
        pb::ListSbomComponentsRequest { severity: pb::SbomSeverity::Clean.into(), ..next.clone() },
    ] {
        assert_refused!(
            admin.sboms().list_sbom_components(other).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    admin.upload("edge", "box", file("python-later-1.6")).await;
    assert_refused!(admin.sboms().list_sbom_components(next).await, Aborted, "CONCURRENT_CHANGE");
    sg.finish().await;
}

async fn a_missing_sbom_is_not_found_instead_of_empty(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    assert_refused!(admin.sbom("edge", "box").await, NotFound, "NOT_FOUND");
    assert_refused!(
        admin.sboms().list_sbom_components(list_request("edge", "box")).await,
        NotFound,
        "NOT_FOUND"
    );
    assert_refused!(
        admin.sboms().list_sbom_vulnerabilities(rated("box")).await,
        NotFound,
        "NOT_FOUND"
    );
    for (gateway, workspace, sandbox) in
        [("", "", "box"), ("edge", "", ""), ("edge", "", "a/b"), ("edge", "a\0", "box")]
    {
        let request = pb::GetSbomRequest {
            gateway: gateway.into(),
            workspace: workspace.into(),
            sandbox: sandbox.into(),
        };
        assert_refused!(admin.sboms().get_sbom(request).await, InvalidArgument, "INVALID_FIELD");
    }
    sg.finish().await;
}

async fn deleting_an_sbom_leaves_no_rows(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let etag = admin.upload("edge", "box", file("python-rated-1.6")).await.sbom.unwrap().etag;
    let delete = |etag: &str| pb::DeleteSbomRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        etag: etag.into(),
        ..Default::default()
    };
    assert_refused!(admin.sboms().delete_sbom(delete("v0")).await, Aborted, "CONCURRENT_CHANGE");
    admin.sboms().delete_sbom(delete(&etag)).await.unwrap();
    no_row_is_left(&sg).await;
    assert_refused!(admin.sboms().delete_sbom(delete("")).await, NotFound, "NOT_FOUND");
    // The next upload creates a new SBOM.
    let again = admin.upload("edge", "box", file("python-rated-1.6")).await;
    assert!(!again.replaced && again.sbom.unwrap().etag != etag);
    sg.finish().await;
}

async fn an_sbom_is_deleted_with_its_gateway(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    admin.upload("edge", "other", file("python-1.6")).await;
    let unregister = pb::UnregisterGatewayRequest { gateway: "edge".into(), ..Default::default() };
    admin.gateways().unregister_gateway(unregister).await.unwrap();
    no_row_is_left(&sg).await;
    sg.app.audit.wait_settled().await;
    let list =
        pb::ListAuditEntriesRequest { action: "gateway.unregister".into(), ..Default::default() };
    let [entry] = admin
        .audit()
        .list_audit_entries(list)
        .await
        .unwrap()
        .into_inner()
        .audit_entries
        .try_into()
        .unwrap();
    assert!(entry.detail_json.contains("\"sboms_removed\":1"), "{entry:?}");
    // A new gateway with the same name does not get it.
    register_gateways(&sg, &["edge"]).await;
    assert_refused!(admin.sbom("edge", "other").await, NotFound, "NOT_FOUND");
    sg.finish().await;
}
