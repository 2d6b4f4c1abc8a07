//! Searches find components as people write names, package URLs and versions.

use serde_json::{Value, json};
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::search_components_request::By;

use crate::sbom_fleet::{name, search};
use crate::sboms::{list_request, register_gateways};
use crate::support::server::{Caller, TestServer};

/// Returns a document with these components.
pub(crate) fn document(components: &Value) -> Vec<u8> {
    json!({ "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components })
        .to_string()
        .into_bytes()
}

impl Caller {
    /// Returns the sandboxes in which a search finds something.
    async fn sandboxes_with(&self, by: By) -> Vec<String> {
        let mut found = self.search(search(by)).await;
        for line in &mut found {
            *line = line.split(['/', ' ']).nth(2).unwrap().to_owned();
        }
        found.sort();
        found
    }

    /// Returns the versions of a name in a range, sorted as texts.
    async fn versions(&self, of: &str, from: &str, below: &str) -> Vec<String> {
        let (version_from, version_below) = (from.to_owned(), below.to_owned());
        let request = pb::SearchComponentsRequest { version_from, version_below, ..name(of) };
        let mut found = self.search(request).await;
        for line in &mut found {
            *line = line.splitn(3, ' ').nth(2).unwrap().to_owned();
        }
        found.sort();
        found
    }
}

server_tests! {
    a_package_is_found_however_its_document_writes_the_name,
    versions_are_compared_by_the_rules_of_their_ecosystem,
    a_name_longer_than_its_key_is_found_and_no_other,
    a_part_of_names_is_found_page_by_page_until_the_sbom_is_deleted,
}

async fn a_package_is_found_however_its_document_writes_the_name(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let group = json!([
        { "name": "left", "group": "@case", "version": "1.0.0", "purl": "pkg:npm/%40case/left@1.0.0" },
        { "name": "g++-12", "version": "12.2.0-14", "purl": "pkg:deb/debian/g%2B%2B-12@12.2.0-14" },
        { "name": "core", "group": "org.example", "purl": "pkg:maven/org.example/core@1" },
    ]);
    let whole = json!([
        { "name": "@case/left", "version": "1.0.0", "purl": "pkg:npm/@case/left@1.0.0" },
        { "name": "org.example:core", "purl": "pkg:maven/org.example/core@1" },
        { "name": "left", "version": "1.0.0", "purl": "pkg:npm/left@1.0.0" },
    ]);
    admin.upload("edge", "group", &document(&group)).await;
    admin.upload("edge", "whole", &document(&whole)).await;
    let both = ["group", "whole"];
    for by in [
        By::Name("@case/left".into()),
        By::Name("@CASE/Left".into()),
        By::Name("org.example/core".into()),
        By::Name("org.example:core".into()),
        By::Name("core".into()),
        By::NameContains("case/le".into()),
        By::NameContains("example:co".into()),
        By::PurlPrefix("pkg:npm/@case/".into()),
        By::PurlPrefix("pkg:npm/%40case/".into()),
        By::PurlPrefix("pkg:npm/%40case/left@1.0.0".into()),
        By::PurlContains("%40Case/".into()),
    ] {
        assert_eq!(admin.sandboxes_with(by.clone()).await, both, "{by:?}");
    }
    for purl in ["pkg:deb/debian/g++-12", "pkg:deb/debian/g%2B%2B-12@12.2.0-14"] {
        assert_eq!(admin.sandboxes_with(By::PurlPrefix(purl.into())).await, ["group"]);
    }
    assert_eq!(admin.sandboxes_with(By::Name("left".into())).await, ["group", "whole", "whole"]);
    for by in [
        By::Name("case/left".into()),
        By::Name("@case/righ".into()),
        By::Name("@case".into()),
        By::NameContains("pkg:npm".into()),
        By::PurlContains("left\\n".into()),
    ] {
        assert!(admin.sandboxes_with(by.clone()).await.is_empty(), "{by:?}");
    }
    // The list of one sandbox finds the same.
    for text in ["@case/left", "%40case", "pkg:npm/@case/left@1", "org.example:core"] {
        for sandbox in both {
            let request = pb::ListSbomComponentsRequest {
                search: text.into(),
                ..list_request("edge", sandbox)
            };
            assert_eq!(admin.components(request).await.len(), 1, "{text} in {sandbox}");
        }
    }
    // Two documents that write a package in two ways have no difference.
    let other = json!([{ "name": "left", "version": "1.0.0", "purl": "pkg:npm/@case/left@1.0.0" }]);
    admin.upload("edge", "one", &document(&json!([group[0]]))).await;
    let uploaded = admin.upload("edge", "one", &document(&other)).await;
    assert_eq!(uploaded.counts, Some(pb::SbomChangeCounts::default()));
    sg.finish().await;
}

async fn versions_are_compared_by_the_rules_of_their_ecosystem(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let deb = |name: &str, version: &str| {
        let purl = format!("pkg:deb/debian/{name}@{}?arch=amd64", version.replace('+', "%2B"));
        json!({ "name": name, "version": version, "purl": purl })
    };
    let components = json!([
        deb("curl", "7.88.1-10+deb12u15"),
        deb("base-files", "12.4+deb12u11"),
        deb("epoch", "1:1.0-1"),
        { "name": "semver-thing", "version": "1.2.3+build.5", "purl": "pkg:npm/semver-thing@1.2.3%2Bbuild.5" },
        { "name": "stdlib", "version": "go1.22.5", "purl": "pkg:golang/stdlib@1.22.5" },
        { "name": "stdlib", "version": "go1.23.0", "purl": "pkg:golang/stdlib@1.23.0" },
        { "name": "stdlib", "version": "go1.22.5 X:boringcrypto" },
        { "name": "stdlib", "version": "devel" },
        { "name": "openssl", "version": "openssl-3.0.1" },
        { "name": "openssl", "version": "v3.0.2" },
        { "name": "openssl", "version": "custom", "purl": "pkg:generic/openssl@3.0.3" },
        { "name": "bash", "version": "4.4.20-1.el8", "purl": "pkg:rpm/redhat/bash@4.4.20-1.el8?epoch=1" },
        { "name": "musl", "version": "1.2.4_git1-r2", "purl": "pkg:apk/alpine/musl@1.2.4_git1-r2" },
        { "name": "pre", "version": "1.0.0-canary", "purl": "pkg:npm/pre@1.0.0-canary" },
        { "name": "rails", "version": "7.0.0.alpha2", "purl": "pkg:gem/rails@7.0.0.alpha2" },
    ]);
    admin.upload("edge", "box", &document(&components)).await;
    for (name, bound, below, from) in [
        ("curl", "7.88.1-10+deb12u16", vec!["7.88.1-10+deb12u15"], vec![]),
        ("curl", "7.88.1-10+deb12u15", vec![], vec!["7.88.1-10+deb12u15"]),
        ("base-files", "12.4+deb12u12", vec!["12.4+deb12u11"], vec![]),
        ("base-files", "12.4", vec![], vec!["12.4+deb12u11"]),
        ("epoch", "2.0", vec![], vec!["1:1.0-1"]),
        ("epoch", "1:1.1", vec!["1:1.0-1"], vec![]),
        ("semver-thing", "1.2.3+build.6", vec![], vec!["1.2.3+build.5"]),
        ("stdlib", "1.22.7", vec!["go1.22.5", "go1.22.5 X:boringcrypto"], vec!["go1.23.0"]),
        ("stdlib", "go1.23", vec!["go1.22.5", "go1.22.5 X:boringcrypto"], vec!["go1.23.0"]),
        ("openssl", "3.0.2", vec!["openssl-3.0.1"], vec!["custom", "v3.0.2"]),
        ("bash", "4.5", vec![], vec!["4.4.20-1.el8"]),
        ("bash", "1:4.5", vec!["4.4.20-1.el8"], vec![]),
        ("musl", "1.2.4", vec![], vec!["1.2.4_git1-r2"]),
        ("musl", "1.2.4_git1-r3", vec!["1.2.4_git1-r2"], vec![]),
        ("pre", "1.0.0", vec!["1.0.0-canary"], vec![]),
        ("rails", "7", vec!["7.0.0.alpha2"], vec![]),
    ] {
        assert_eq!(admin.versions(name, "", bound).await, below, "{name} below {bound}");
        assert_eq!(admin.versions(name, bound, "").await, from, "{name} from {bound}");
    }
    sg.finish().await;
}

async fn a_name_longer_than_its_key_is_found_and_no_other(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    // A key has 512 bytes, which are 256 of these characters.
    let long = "\u{e9}".repeat(256);
    let (longer, wide) = (format!("{long}x"), "\u{1f600}".repeat(256));
    let components = json!([
        { "name": long, "version": "1", "purl": format!("pkg:generic/{wide}a/needle@1") },
        { "name": longer, "version": "2", "purl": format!("pkg:generic/{wide}b/%6Eeedle@2") },
        { "name": wide, "version": "3", "group": long },
    ]);
    admin.upload("edge", "box", &document(&components)).await;
    assert_eq!(admin.versions(&long, "", "").await, ["1"]);
    assert_eq!(admin.versions(&wide, "", "").await, ["3"]);
    let count = async |by| admin.search(search(by)).await.len();
    assert_eq!(count(By::NameContains("\u{e9}x".into())).await, 1);
    assert_eq!(count(By::PurlContains("/needle@".into())).await, 2);
    assert_eq!(count(By::PurlContains("a/needle".into())).await, 1);
    // 256 characters, of which the last is the first that differs.
    let prefix = |end: &str| format!("pkg:generic/{}{end}", "\u{1f600}".repeat(243));
    assert_eq!(count(By::PurlPrefix(prefix("\u{1f600}"))).await, 2);
    assert_eq!(count(By::PurlPrefix(prefix("a"))).await, 0);
    sg.finish().await;
}

async fn a_part_of_names_is_found_page_by_page_until_the_sbom_is_deleted(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let named = |name: String| json!({ "name": name, "version": "1", "group": "org.example" });
    // More names than one block has, of which some contain the text.
    let hay = (0..200).map(|n| named(format!("hay-{n:03}")));
    let needles = (0..30).map(|n| named(format!("needle-{n:02}")));
    let components = document(&hay.chain(needles).collect());
    let count = async |text: &str| {
        let found = admin.search(search(By::NameContains(text.into()))).await;
        let sorted: Vec<&str> = found.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert!(sorted.is_sorted(), "{sorted:?}");
        sorted.len()
    };
    for sandbox in ["one", "two"] {
        admin.upload("edge", sandbox, &components).await;
    }
    assert_eq!(count("eedle-").await, 60);
    assert_eq!(count("eedle-0").await, 20);
    assert_eq!(count("example/needle-29").await, 2);
    assert_eq!(count("example:needle-29").await, 2);
    assert_eq!(count("ay-19").await, 20);
    for nothing in ["needle-30", "log4j", "hay_", "%", "needle-29/"] {
        assert_eq!(count(nothing).await, 0, "{nothing}");
    }
    for (sandbox, left) in [("one", 30), ("two", 0)] {
        let delete = pb::DeleteSbomRequest {
            gateway: "edge".into(),
            sandbox: sandbox.into(),
            ..Default::default()
        };
        admin.sboms().delete_sbom(delete).await.unwrap();
        assert_eq!(count("eedle-").await, left);
    }
    sg.finish().await;
}
