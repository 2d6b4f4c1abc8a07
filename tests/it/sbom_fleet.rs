//! SBOMs of the whole fleet: search, comparison and visibility.

use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::search_components_request::By;
use tonic::Status;

use crate::sboms::{file, first_message, list_request, register_gateways};
use crate::support::server::{Caller, TestServer};

pub(crate) fn search(by: By) -> pb::SearchComponentsRequest {
    pb::SearchComponentsRequest { by: Some(by), page_size: 3, ..Default::default() }
}

pub(crate) fn name(name: &str) -> pb::SearchComponentsRequest {
    search(By::Name(name.to_owned()))
}

impl Caller {
    /// Returns place, name and version of each component that is found, page by page.
    pub(crate) async fn search(&self, request: pb::SearchComponentsRequest) -> Vec<String> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let request =
                pb::SearchComponentsRequest { page_token: token.clone(), ..request.clone() };
            let page = self.sboms().search_components(request).await.unwrap().into_inner();
            assert!(page.found_components.len() <= 3);
            for found in page.found_components {
                let of = found.component.unwrap();
                let place = format!("{}/{}/{}", found.gateway, found.workspace, found.sandbox);
                all.push(format!("{place} {} {}", of.name.to_lowercase(), of.version));
            }
            token = page.next_page_token;
            if token.is_empty() {
                return all;
            }
        }
    }

    async fn diff(
        &self,
        from: (&str, &str),
        to: (&str, &str),
    ) -> Result<pb::DiffSbomsResponse, Status> {
        Ok(self.sboms().diff_sboms(diff(from, to)).await?.into_inner())
    }
}

fn diff(from: (&str, &str), to: (&str, &str)) -> pb::DiffSbomsRequest {
    pb::DiffSbomsRequest {
        gateway: from.0.to_owned(),
        sandbox: from.1.to_owned(),
        other_gateway: to.0.to_owned(),
        other_sandbox: to.1.to_owned(),
        ..Default::default()
    }
}

/// Uploads SBOMs of sandboxes on two gateways.
async fn fleet(sg: &TestServer) -> Caller {
    register_gateways(sg, &["edge", "lab"]).await;
    let admin = sg.admin();
    admin.upload("edge", "old", file("python-rated-1.6")).await;
    admin.upload("edge", "web", file("npm-1.5")).await;
    admin.upload("lab", "old", file("python-1.6")).await;
    admin.upload("lab", "new", file("python-later-1.6")).await;
    let team = pb::UploadSbomRequest { workspace: "team".into(), ..first_message("lab", "new") };
    admin.upload_after(team, file("python-1.4")).await.unwrap();
    admin
}

server_tests! {
    a_search_finds_versions_in_every_sandbox,
    a_search_matches_parts_of_names_and_package_urls,
    an_empty_or_invalid_search_is_refused,
    the_sboms_of_two_sandboxes_are_compared,
    t08_an_sbom_is_accessible_only_with_a_role_on_its_own_gateway,
    a_viewer_can_read_sboms_but_not_change_them,
}

async fn a_search_finds_versions_in_every_sandbox(sg: TestServer) {
    let admin = fleet(&sg).await;
    let old = [
        "edge/default/old requests 2.31.0",
        "lab/default/old requests 2.31.0",
        "lab/team/new requests 2.31.0",
    ];
    let new = "lab/default/new requests 2.32.4";
    assert_eq!(admin.search(name("Requests")).await, [&old[..], &[new]].concat());
    let below = |version: &str| pb::SearchComponentsRequest {
        version_below: version.into(),
        ..name("requests")
    };
    assert_eq!(admin.search(below("2.32")).await, old);
    // Versions are compared as numbers, not as text: 2.4 is lower than 2.31.
    assert_eq!(admin.search(below("2.4")).await, Vec::<String>::new());
    assert_eq!(admin.search(below("2.31.0")).await, Vec::<String>::new());
    let from = pb::SearchComponentsRequest { version_from: "2.31.1".into(), ..name("requests") };
    assert_eq!(admin.search(from).await, [new]);
    let between = pb::SearchComponentsRequest {
        version_from: "2.31".into(),
        version_below: "2.32.4".into(),
        ..name("requests")
    };
    assert_eq!(admin.search(between).await, old);
    let lab = pb::SearchComponentsRequest { gateway: "lab".into(), ..below("2.32") };
    assert_eq!(admin.search(lab).await, old[1..]);
    assert_eq!(admin.search(name("request")).await, Vec::<String>::new());
    sg.finish().await;
}

async fn a_search_matches_parts_of_names_and_package_urls(sg: TestServer) {
    let admin = fleet(&sg).await;
    let count = async |request| admin.search(request).await.len();
    assert_eq!(
        admin.search(search(By::NameContains("EQUEST".into()))).await,
        admin.search(name("requests")).await
    );
    assert_eq!(count(search(By::PurlPrefix("pkg:PyPI/requests@".into()))).await, 4);
    assert_eq!(count(search(By::PurlContains("/requests@2.31".into()))).await, 3);
    assert_eq!(count(search(By::PurlPrefix("pkg:npm/%40fastify/".into()))).await, 1);
    for nothing in ["%", "__", "re%sts", "r_quests", "\\"] {
        assert_eq!(count(search(By::NameContains(nothing.into()))).await, 0, "{nothing}");
    }
    assert_eq!(count(search(By::PurlContains("pkg:pypi%requests".into()))).await, 0);
    // All components of an ecosystem, over many pages: as many as in the lists.
    let mut listed = 0;
    for (gateway, sandbox) in [("edge", "old"), ("lab", "old"), ("lab", "new")] {
        let all = admin.components(list_request(gateway, sandbox)).await;
        listed += all.iter().filter(|component| component.purl.starts_with("pkg:pypi/")).count();
    }
    let team =
        pb::ListSbomComponentsRequest { workspace: "team".into(), ..list_request("lab", "new") };
    listed +=
        admin.components(team).await.iter().filter(|c| c.purl.starts_with("pkg:pypi/")).count();
    assert_eq!(count(search(By::PurlPrefix("pkg:pypi/".into()))).await, listed);
    let high = pb::SearchComponentsRequest {
        severity: pb::SbomSeverity::High.into(),
        ..search(By::PurlPrefix("pkg:".into()))
    };
    assert_eq!(admin.search(high).await, ["edge/default/old werkzeug 3.0.0"]);
    let clean = pb::SearchComponentsRequest {
        severity: pb::SbomSeverity::Clean.into(),
        ..name("werkzeug")
    };
    assert_eq!(count(clean).await, 3);
    sg.finish().await;
}

async fn an_empty_or_invalid_search_is_refused(sg: TestServer) {
    let admin = fleet(&sg).await;
    let page = admin.sboms().search_components(name("requests")).await.unwrap().into_inner();
    for (bad, field) in [
        (pb::SearchComponentsRequest::default(), "name"),
        (name(" "), "name"),
        (search(By::PurlPrefix(String::new())), "purl_prefix"),
        (search(By::NameContains("a\0".into())), "name_contains"),
        (search(By::PurlContains("a".repeat(257))), "purl_contains"),
        (
            pb::SearchComponentsRequest { version_below: "latest".into(), ..name("a") },
            "version_below",
        ),
        (
            pb::SearchComponentsRequest { version_from: "1".repeat(129), ..name("a") },
            "version_from",
        ),
        (pb::SearchComponentsRequest { severity: -1, ..name("a") }, "severity"),
        (pb::SearchComponentsRequest { page_size: -1, ..name("a") }, "page_size"),
        (
            pb::SearchComponentsRequest { page_token: page.next_page_token, ..name("a") },
            "page_token",
        ),
    ] {
        let refused = assert_refused!(
            admin.sboms().search_components(bad).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
        assert!(refused.message().contains(&format!("`{field}`")), "{field}: {refused:?}");
    }
    sg.finish().await;
}

async fn the_sboms_of_two_sandboxes_are_compared(sg: TestServer) {
    let admin = fleet(&sg).await;
    let same = admin.diff(("edge", "old"), ("lab", "old")).await.unwrap();
    let removed = pb::SbomChangeCounts { vulnerabilities_removed: 6, ..Default::default() };
    assert_eq!((same.counts, same.changes.len()), (Some(removed), 6));
    let there = admin.diff(("lab", "old"), ("lab", "new")).await.unwrap();
    let back = admin.diff(("lab", "new"), ("lab", "old")).await.unwrap();
    let (there_counts, back_counts) = (there.counts.unwrap(), back.counts.unwrap());
    assert_eq!(there_counts.components_added, back_counts.components_removed);
    assert_eq!(there_counts.components_changed, back_counts.components_changed);
    assert!(there_counts.components_added > 0 && there_counts.components_changed > 0);

    // The pages have the same content.
    let whole = admin.diff(("edge", "old"), ("edge", "web")).await.unwrap();
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::DiffSbomsRequest {
            page_size: 20,
            page_token: token,
            ..diff(("edge", "old"), ("edge", "web"))
        };
        let page = admin.sboms().diff_sboms(request).await.unwrap().into_inner();
        assert!(page.changes.len() <= 20 && page.counts == whole.counts);
        paged.extend(page.changes);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let counts = whole.counts.unwrap();
    let all = counts.components_added
        + counts.components_removed
        + counts.components_changed
        + counts.vulnerabilities_removed;
    assert_eq!(paged.len(), usize::try_from(all).unwrap());
    assert_eq!(paged[..50], whole.changes[..50]);

    let begun = pb::DiffSbomsRequest { page_size: 1, ..diff(("lab", "old"), ("lab", "new")) };
    let page = admin.sboms().diff_sboms(begun.clone()).await.unwrap().into_inner();
    admin.upload("lab", "new", file("npm-1.5")).await;
    let gone = pb::DiffSbomsRequest { page_token: page.next_page_token, ..begun };
    assert_refused!(admin.sboms().diff_sboms(gone).await, Aborted, "CONCURRENT_CHANGE");
    assert_refused!(admin.diff(("lab", "old"), ("lab", "none")).await, NotFound, "NOT_FOUND");
    assert_refused!(
        admin.diff(("lab", "old"), ("", "old")).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    assert_refused!(
        admin.diff(("", "old"), ("lab", "old")).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    sg.finish().await;
}

async fn t08_an_sbom_is_accessible_only_with_a_role_on_its_own_gateway(sg: TestServer) {
    let admin = fleet(&sg).await;
    let lab = sg.with_token(&admin.create_key("lab-operator", pb::Role::None).await);
    admin.bind("lab-operator", "lab", pb::Role::Operator).await;
    // Both gateways have a sandbox with this name, each with its own SBOM.
    assert_eq!(lab.sbom("lab", "old").await.unwrap().vulnerability_count, 0);
    assert_refused!(lab.sbom("edge", "old").await, NotFound, "NOT_FOUND");
    assert_refused!(
        lab.sboms().list_sbom_components(list_request("edge", "old")).await,
        NotFound,
        "NOT_FOUND"
    );
    assert_refused!(lab.download("edge", "old").await, NotFound, "NOT_FOUND");
    let vulnerabilities = pb::ListSbomVulnerabilitiesRequest {
        gateway: "edge".into(),
        sandbox: "old".into(),
        ..Default::default()
    };
    assert_refused!(
        lab.sboms().list_sbom_vulnerabilities(vulnerabilities).await,
        NotFound,
        "NOT_FOUND"
    );
    assert_refused!(
        lab.upload_after(first_message("edge", "old"), file("npm-1.5")).await,
        NotFound,
        "NOT_FOUND"
    );
    let delete = pb::DeleteSbomRequest {
        gateway: "edge".into(),
        sandbox: "old".into(),
        ..Default::default()
    };
    assert_refused!(lab.sboms().delete_sbom(delete).await, NotFound, "NOT_FOUND");
    // A comparison names two gateways, and access to both is checked.
    lab.diff(("lab", "old"), ("lab", "new")).await.unwrap();
    assert_refused!(lab.diff(("lab", "old"), ("edge", "old")).await, NotFound, "NOT_FOUND");
    assert_refused!(lab.diff(("edge", "old"), ("lab", "old")).await, NotFound, "NOT_FOUND");
    assert_refused!(lab.diff(("", "old"), ("lab", "old")).await, InvalidArgument, "INVALID_FIELD");
    // A page token of one list is not valid for another one.
    let page =
        admin.sboms().list_sbom_components(list_request("edge", "old")).await.unwrap().into_inner();
    let moved = pb::ListSbomComponentsRequest {
        page_token: page.next_page_token,
        ..list_request("lab", "old")
    };
    assert_refused!(
        lab.sboms().list_sbom_components(moved.clone()).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    assert_refused!(
        admin.sboms().list_sbom_components(moved).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    // A search covers only the gateways that the caller may see.
    let seen = lab.search(name("requests")).await;
    assert!(seen.len() == 3 && seen.iter().all(|place| place.starts_with("lab/")), "{seen:?}");
    assert_eq!(lab.search(search(By::PurlPrefix("pkg:npm/".into()))).await, Vec::<String>::new());
    let edge = pb::SearchComponentsRequest { gateway: "edge".into(), ..name("requests") };
    assert_refused!(lab.sboms().search_components(edge).await, NotFound, "NOT_FOUND");
    assert_eq!(admin.sbom("edge", "old").await.unwrap().vulnerability_count, 6);
    sg.finish().await;
}

async fn a_viewer_can_read_sboms_but_not_change_them(sg: TestServer) {
    let admin = fleet(&sg).await;
    let viewer = sg.with_token(&admin.create_key("viewer", pb::Role::Viewer).await);
    assert_eq!(viewer.search(name("requests")).await.len(), 4);
    viewer.download("edge", "old").await.unwrap();
    assert_refused!(
        viewer.upload_after(first_message("edge", "old"), file("npm-1.5")).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    let delete = pb::DeleteSbomRequest {
        gateway: "edge".into(),
        sandbox: "old".into(),
        ..Default::default()
    };
    assert_refused!(viewer.sboms().delete_sbom(delete).await, PermissionDenied, "ROLE_TOO_LOW");
    let nobody = sg.with_token(&admin.create_key("nobody", pb::Role::None).await);
    assert_refused!(
        nobody.sboms().search_components(name("requests")).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    sg.finish().await;
}
