//! `call`: streams of requests, and the form of the answer.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::policies::{GATEWAYS, seeded};
use crate::sboms::{file, register_gateways};
use crate::support::server::TestServer;

use super::{Ended, command, start};

sqlite_tests! {
    each_line_of_the_input_is_a_request_of_a_stream,
    an_answer_has_the_form_that_was_chosen,
}

/// Returns requests with one on each line.
fn lines(requests: &[Value]) -> String {
    requests.iter().fold(String::new(), |mut lines, request| {
        writeln!(lines, "{request}").unwrap();
        lines
    })
}

/// Returns a request with some bytes in a field.
fn bytes(field: &str, content: &[u8]) -> Value {
    json!({ field: STANDARD.encode(content) })
}

/// Runs `call` as the admin, with this input.
async fn call(sg: &TestServer, arguments: &[&str], input: &str) -> Ended {
    let arguments = [&["call"][..], arguments].concat();
    start(command(sg, &sg.admin_key, &arguments)).finish(input.as_bytes()).await
}

async fn each_line_of_the_input_is_a_request_of_a_stream(sg: TestServer) {
    register_gateways(&sg, &["edge"]).await;
    let admin = sg.admin();
    let (begin, rest) = file("python-1.6").split_at(100);
    let chunks = [bytes("chunk", begin), bytes("chunk", rest)];
    let named = json!({ "gateway": "edge", "sandbox": "box" });
    // A line that is not a request is found before anything is sent.
    let wrong =
        format!("{}\n{}", lines(std::slice::from_ref(&named)), lines(&[json!({ "chunks": "" })]));
    let refused = call(&sg, &["UploadSbom", "-"], &wrong).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("line 3: `chunks` is not a field"), "{refused:?}");
    assert!(admin.sbom("edge", "box").await.is_err());

    let requests = lines(&[&[named][..], &chunks].concat());
    let stored = call(&sg, &["UploadSbom", "-"], &requests).await;
    assert_eq!(stored.code, Some(0), "{stored:?}");
    let answer: Value = serde_json::from_str(&stored.stdout).unwrap();
    assert_eq!(answer["replaced"], false, "{answer}");
    assert!(admin.download("edge", "box").await.unwrap() == file("python-1.6"));
    // The gateway is that of the first request.
    let requests = lines(&[&[json!({ "sandbox": "box" })][..], &chunks].concat());
    let again =
        call(&sg, &["--gateway", "edge", "UploadSbom", "-", "-o", "jsonl"], &requests).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(again.stdout.lines().count(), 1, "{again:?}");
    let answer: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(answer["replaced"], true, "{answer}");

    // Requests and responses are both streams.
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let cat = json!({ "gateway": name, "sandbox": "coder", "command": ["cat"] });
    let requests = lines(&[cat, bytes("stdin", b"one "), bytes("stdin", b"two")]);
    let ended = call(&sg, &["ExecSandbox", "-"], &requests).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let messages: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let written = messages.iter().filter_map(|message| message["stdout"].as_str());
    let written: Vec<u8> = written.flat_map(|text| STANDARD.decode(text).unwrap()).collect();
    assert_eq!(String::from_utf8(written).unwrap(), "one two");
    assert_eq!(messages.last().unwrap()["exit_code"], 0, "{messages:?}");
    simulator.stop().await;
    sg.finish().await;
}

async fn an_answer_has_the_form_that_was_chosen(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let get = ["--gateway", name, "GetGateway"];
    for (form, is_one_line) in
        [(&[][..], false), (&["-o", "json"][..], false), (&["-o", "jsonl"][..], true)]
    {
        let ended = call(&sg, &[&get[..], form].concat(), "").await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(answer["gateway"]["name"], name, "{answer}");
        assert_eq!(ended.stdout.lines().count() == 1, is_one_line, "{ended:?}");
    }
    let yaml = call(&sg, &[&get[..], &["-o", "yaml"]].concat(), "").await.stdout;
    let answer: Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(answer["gateway"]["name"], name, "{yaml}");
    assert!(yaml.contains(&format!("name: {name}\n")), "{yaml}");

    let run = json!({ "gateway": name, "sandbox": "coder", "command": ["echo", "hi"] });
    let ended = call(&sg, &["ExecSandbox", "-", "-o", "yaml"], &lines(&[run])).await;
    assert!(ended.code == Some(0) && !ended.stdout.is_empty(), "{ended:?}");
    for document in ended.stdout.lines() {
        let message = document.strip_prefix("--- ").unwrap_or_else(|| panic!("{document}"));
        let _: Value = serde_json::from_str(message).unwrap();
    }
    for wrong in [&["GetGateway", "-o", "table"][..], &["--list", "-o", "json"]] {
        let ended = call(&sg, wrong, "").await;
        assert!(ended.code == Some(2) && ended.stderr.contains("--output"), "{ended:?}");
    }
    // Nothing is called, so that no server matters.
    for wrong in [
        &["--list", "--endpoint", "http://127.0.0.1:1"][..],
        &["--describe", "GetGateway", "--timeout", "1"],
    ] {
        let ended = call(&sg, wrong, "").await;
        assert!(ended.code == Some(2) && ended.stderr.contains(wrong[0]), "{ended:?}");
    }
    simulator.stop().await;
    sg.finish().await;
}
