//! `sbom upload`: from a file and from standard input.

use crate::sboms::{file, register_gateways};
use crate::support::server::TestServer;

use super::terminal::Terminal;
use super::{command, run_to_end, start};

/// A document of the tests.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sbom_files/python-1.6.json");

sqlite_tests! {
    a_document_is_uploaded_and_compared_with_the_previous_one,
    a_bad_document_is_refused,
}

async fn a_document_is_uploaded_and_compared_with_the_previous_one(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let upload = ["sbom", "upload", "edge/box", FILE];
    let stored = run_to_end(&sg, &sg.admin_key, &upload).await;
    assert_eq!(stored.code, Some(0), "{stored:?}");
    assert!(stored.stdout.starts_with("stored the SBOM of edge/box: "), "{stored:?}");
    assert!(stored.stderr.is_empty(), "no progress without a terminal: {stored:?}");
    assert!(admin.download("edge", "box").await.unwrap() == file("python-1.6"));

    let from_input =
        start(command(&sg, &sg.admin_key, &["sbom", "upload", "edge/box", "-", "-o", "json"]));
    let replaced = from_input.finish(file("python-later-1.6")).await;
    let json: serde_json::Value = serde_json::from_str(&replaced.stdout).unwrap();
    assert_eq!(json["replaced"], true, "{json}");

    let named = ["sbom", "upload", "edge/box", FILE, "-o", "name"];
    let named = run_to_end(&sg, &sg.admin_key, &named).await;
    assert_eq!(named.stdout, "edge/default/box\n", "{named:?}");

    let mut terminal = Terminal::start(command(&sg, &sg.admin_key, &upload));
    assert_eq!(terminal.ended().await, Some(0), "{}", terminal.shown());
    terminal.until("replaced the SBOM of edge/box").await;
    sg.finish().await;
}

async fn a_bad_document_is_refused(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let bad = start(command(&sg, &sg.admin_key, &["sbom", "upload", "edge/box", "-"]));
    let bad = bad.finish(b"{}").await;
    assert!(bad.code == Some(1) && bad.stderr.contains("INVALID_FIELD"), "{bad:?}");
    let missing = ["sbom", "upload", "edge/box", "/nonexistent.json"];
    let missing = run_to_end(&sg, &sg.admin_key, &missing).await;
    assert!(missing.code == Some(2) && missing.stderr.contains("cannot be read"), "{missing:?}");
    assert!(sg.admin().sbom("edge", "box").await.is_err());
    sg.finish().await;
}
