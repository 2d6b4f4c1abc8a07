//! `operation wait`: exit codes, interruptions, and what the terminal shows.

use serde_json::json;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::operations::Failure;

use crate::support::server::TestServer;

use super::terminal::Terminal;
use super::{command, run_to_end, start};

sqlite_tests! {
    a_wait_exits_as_the_operation_ends,
    an_interruption_leaves_the_operation_running,
    an_interruption_cancels_the_operation_on_request,
}

async fn a_wait_exits_as_the_operation_ends(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let id = held.id.clone();
    let waiting = start(command(&sg, &sg.admin_key, &["operation", "wait", &id]));
    held.running.progress(30, "pulling").await.unwrap();
    held.finish(Ok(json!({ "phase": "ready" })));
    let ended = waiting.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, format!("operation {id} succeeded\n"));
    assert!(ended.stderr.is_empty(), "no progress without a terminal: {ended:?}");
    let json = run_to_end(&sg, &sg.admin_key, &["operation", "wait", &id, "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["result"]["phase"], "ready", "{json}");
    let name = run_to_end(&sg, &sg.admin_key, &["operation", "wait", &id, "-o", "name"]).await;
    assert_eq!(name.stdout, format!("{id}\n"), "{name:?}");

    let held = sg.start_held(&sg.operation_spec("edge", "other")).await;
    let id = held.id.clone();
    let waiting = start(command(&sg, &sg.admin_key, &["operation", "wait", &id]));
    held.finish(Err(Failure::cancelled()));
    let ended = waiting.ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("failed: cancelled"), "{ended:?}");

    let unknown = sg.app.new_id().to_string();
    let ended = run_to_end(&sg, &sg.admin_key, &["operation", "wait", &unknown]).await;
    assert!(ended.code == Some(1) && ended.stderr.contains("NOT_FOUND"), "{ended:?}");
    sg.finish().await;
}

async fn an_interruption_leaves_the_operation_running(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    held.running.progress(30, "pulling\u{1b}[2J the image").await.unwrap();
    let mut terminal =
        Terminal::start(command(&sg, &sg.admin_key, &["operation", "wait", &held.id]));
    terminal.until("30%").await;
    terminal.until("the image").await;
    assert!(!terminal.shown().contains("\u{1b}[2J"), "{}", terminal.shown());
    terminal.process.signal("INT");
    assert_eq!(terminal.ended().await, Some(130));
    terminal.until("continues").await;
    let found = sg.admin().operation(&held.id).await.unwrap();
    assert_eq!(found.status(), pb::OperationStatus::Running);
    held.finish(Ok(json!({})));
    sg.finish().await;
}

async fn an_interruption_cancels_the_operation_on_request(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    held.running.progress(30, "pulling").await.unwrap();
    let wait = ["operation", "wait", "--cancel-on-interrupt", &held.id];
    let mut terminal = Terminal::start(command(&sg, &sg.admin_key, &wait));
    terminal.until("pulling").await;
    terminal.process.signal("INT");
    assert_eq!(terminal.ended().await, Some(130));
    let ended = sg.admin().wait_operation(&held.id).await;
    assert_eq!(ended.error_code(), pb::OperationErrorCode::Cancelled, "{ended:?}");
    sg.finish().await;
}
