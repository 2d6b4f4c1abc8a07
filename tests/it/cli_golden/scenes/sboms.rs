//! The SBOMs of two sandboxes.

use serde_json::{Value, json};

use super::super::FORMS;
use super::scene::{ADMIN, Scene};
use crate::sboms::register_gateways;
use crate::support::server::TestServer;

/// Returns a document with two components, one of which has these vulnerabilities.
fn document(version: &str, vulnerabilities: &Value) -> String {
    let component = |name: &str, version: &str| {
        json!({
            "type": "library", "bom-ref": name, "name": name, "version": version,
            "purl": format!("pkg:generic/{name}@{version}"),
        })
    };
    let document = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "components": [component("openssl", version), component("zlib", "1.3")],
        "vulnerabilities": vulnerabilities,
    });
    format!("{document:#}\n")
}

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    register_gateways(sg, &["edge"]).await;
    let affected = json!([{
        "id": "CVE-2026-0001",
        "description": "A handshake reads beyond its buffer.",
        "ratings": [{ "severity": "high", "score": 7.5, "method": "CVSSv31" }],
        "affects": [{ "ref": "openssl" }],
    }]);
    let later = document("3.0.2", &json!([]));
    scene.write("document", &document("3.0.1", &affected));

    let missing = ["sbom", "upload", "nowhere/box", "{document}"];
    scene.outcomes(&["sbom", "upload", "edge/box", "{document}"], &missing, [1, 1, 5]).await;
    for form in FORMS {
        let from_input = ["sbom", "upload", "edge/other", "-"];
        scene.act("ok", 0, form, ADMIN, &from_input, &later).await;
        scene.act("refused", 1, form, ADMIN, &from_input, "{}").await;
    }
    for form in FORMS {
        for arguments in [
            "sbom get edge/box",
            "sbom components edge/box",
            "sbom vulnerabilities edge/box",
            "sbom search --name openssl",
            "sbom diff edge/box edge/other",
        ] {
            scene.ok(form, ADMIN, arguments).await;
        }
    }
    scene.plain("ok", 0, ADMIN, &["sbom", "download", "edge/other"], "").await;
    for (form, sandbox) in FORMS.into_iter().zip(["box", "other"]) {
        scene.ok(form, ADMIN, &format!("sbom delete edge/{sandbox}")).await;
    }
}
