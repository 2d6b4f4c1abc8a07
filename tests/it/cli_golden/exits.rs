//! The exit codes, and commands that run as processes.

use std::io::Read as _;
use std::process::Stdio;

use super::{AWAY, run};
use crate::commands::{ChildProcess, shoreguard_command, text};
use crate::support::limit::start_time_limit;
use crate::support::server::TestServer;

async fn each_outcome_has_its_exit_code(sg: TestServer) {
    let endpoint = format!("http://{}", sg.address);
    let run = async |key: &str, arguments: &str| run(&endpoint, key, arguments, "").await;
    let done = run(&sg.admin_key, "gateway list").await;
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{done:?}");
    let refused = run(&sg.admin_key, "gateway get nowhere").await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stdout.is_empty() && refused.stderr.contains("NOT_FOUND"), "{refused:?}");
    let wrong = run(&sg.admin_key, "gateway get").await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
    for key in ["", "sg_nobody"] {
        let stranger = run(key, "gateway list").await;
        assert_eq!(stranger.code, 4, "{stranger:?}");
    }
    let away = super::run(AWAY, &sg.admin_key, "gateway list", "").await;
    assert_eq!(away.code, 5, "{away:?}");
    assert!(away.stderr.contains("--endpoint"), "{away:?}");
    sg.register_unreachable("dark").await;
    let partial = run(&sg.admin_key, "sandbox list -o json").await;
    assert_eq!(partial.code, 6, "{partial:?}");
    assert!(partial.stderr.contains("`dark` did not answer: "), "{partial:?}");
    let shown: serde_json::Value = serde_json::from_str(&partial.stdout).unwrap();
    assert_eq!(shown["unreachable"][0]["gateway"], "dark");
    sg.finish().await;
}

async fn labels_of_an_update_are_added(sg: TestServer) {
    let endpoint = format!("http://{}", sg.address);
    sg.register_unreachable("dark").await;
    let run = async |arguments: &str| {
        let done = run(&endpoint, &sg.admin_key, arguments, "").await;
        assert_eq!(done.code, 0, "{arguments}: {done:?}");
        let shown = run(&endpoint, &sg.admin_key, "gateway get dark -o json", "").await;
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        shown["gateway"]["labels"].clone()
    };
    for (arguments, labels) in [
        ("--label access/env=dev --label a=1", serde_json::json!({"access/env": "dev", "a": "1"})),
        ("--label a=2 --label b=", serde_json::json!({"access/env": "dev", "a": "2", "b": ""})),
        ("--remove-label a", serde_json::json!({"access/env": "dev", "b": ""})),
        ("--label c=3 --replace-labels", serde_json::json!({"c": "3"})),
    ] {
        assert_eq!(run(&format!("gateway update dark {arguments}")).await, labels);
    }
    sg.finish().await;
}

async fn a_public_method_does_not_need_a_valid_key(sg: TestServer) {
    let endpoint = format!("http://{}", sg.address);
    let done = run(&endpoint, "sg_nobody", "server info -o json", "").await;
    assert_eq!(done.code, 0, "{done:?}");
    let called = run(&endpoint, "sg_nobody", "call GetServerInfo", "").await;
    assert_eq!(called.code, 0, "{called:?}");
    sg.finish().await;
}

async fn a_dangerous_command_needs_yes_without_a_terminal(sg: TestServer) {
    let endpoint = format!("http://{}", sg.address);
    sg.admin().create_key("ci", shoreguard::pb::v1::Role::Viewer).await;
    let run = async |arguments: &str| run(&endpoint, &sg.admin_key, arguments, "y\n").await;
    let refused = run("sp delete ci").await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("--yes"), "{refused:?}");
    assert_eq!(run("sp get ci").await.code, 0);
    assert_eq!(run("sp delete ci --yes").await.code, 0);
    assert_eq!(run("sp get ci").await.code, 1);
    sg.finish().await;
}

async fn lists_read_further_pages_up_to_the_limit(sg: TestServer) {
    let endpoint = format!("http://{}", sg.address);
    for i in 0..4 {
        sg.admin().create_key(&format!("ci-{i}"), shoreguard::pb::v1::Role::Viewer).await;
    }
    let run = async |arguments: &str| run(&endpoint, &sg.admin_key, arguments, "").await;
    let all = run("sp list -o name").await;
    assert_eq!(all.stdout, "ci-0\nci-1\nci-2\nci-3\nroot\n", "{all:?}");
    assert!(all.stderr.is_empty(), "{all:?}");
    let cut = run("sp list -o name --limit 3").await;
    assert_eq!(cut.stdout, "ci-0\nci-1\nci-2\n", "{cut:?}");
    assert!(cut.stderr.contains("--limit"), "{cut:?}");
    let quiet = run("sp list -o name --limit 3 -q").await;
    assert!(quiet.stderr.is_empty(), "{quiet:?}");
    let lines = run("sp list -o jsonl").await;
    assert_eq!(lines.stdout.lines().count(), 5);
    sg.finish().await;
}

async fn a_change_of_a_role_prints_the_name_of_its_holder(sg: TestServer) {
    let endpoint = format!("http://{}", sg.address);
    sg.register_unreachable("edge").await;
    sg.admin().create_key("ci", shoreguard::pb::v1::Role::Viewer).await;
    for arguments in [
        "role set sp:ci --gateway edge --role operator",
        "role explain sp:ci --gateway edge",
        "role remove sp:ci --gateway edge",
        "sp update ci --role operator",
        "sp delete ci",
    ] {
        let arguments = format!("{arguments} --yes -o name");
        let done = run(&endpoint, &sg.admin_key, &arguments, "").await;
        assert_eq!((done.code, done.stdout.as_str()), (0, "ci\n"), "{arguments}: {done:?}");
    }
    sg.finish().await;
}

async fn refused_fields_are_named_as_on_the_command_line(sg: TestServer) {
    let endpoint = format!("http://{}", sg.address);
    let long = "x".repeat(2_000);
    let arguments = format!("group create ops --role viewer --description {long}");
    let refused = run(&endpoint, &sg.admin_key, &arguments, "").await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("`description` is `--description`"), "{refused:?}");
    let unchanged = run(&endpoint, &sg.admin_key, "group update ops", "").await;
    assert_eq!(unchanged.code, 2, "{unchanged:?}");
    assert!(unchanged.stderr.contains("`--description`"), "{unchanged:?}");
    sg.finish().await;
}

async fn call_selects_the_gateway_of_own_methods(sg: TestServer) {
    let endpoint = format!("http://{}", sg.address);
    sg.register_unreachable("edge").await;
    let run = async |arguments: &str| run(&endpoint, &sg.admin_key, arguments, "").await;
    let done = run("call --gateway edge GetGateway").await;
    assert_eq!(done.code, 0, "{done:?}");
    let shown: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(shown["gateway"]["name"], "edge");
    assert_eq!(shown["gateway"]["has_client_key"], false);
    assert!(shown["gateway"]["id"].is_i64(), "{shown}");
    for arguments in
        ["call --gateway edge GetGateway {\"gateway\":\"other\"}", "call --gateway edge ListUsers"]
    {
        let refused = run(arguments).await;
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("`--gateway edge` does not fit"), "{refused:?}");
    }
    sg.finish().await;
}

async fn an_interrupted_watch_exits_with_130(sg: TestServer) {
    let endpoint = format!("http://{}", sg.address);
    let mut child =
        shoreguard_command(&["gateway", "watch", "-o", "json", "--endpoint", &endpoint])
            .env("SHOREGUARD_KEY", &sg.admin_key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    // The first message says which gateways there are. Then the handler of the signal is in place.
    let mut output = child.stdout.take().unwrap();
    let mut process = ChildProcess(child);
    let first = tokio::task::spawn_blocking(move || {
        let mut byte = [0];
        output.read_exact(&mut byte).map(|()| output)
    });
    let _output = first.await.unwrap().unwrap();
    process.signal("INT");
    assert_eq!(process.wait_exit().code(), Some(130));
    sg.finish().await;
}

async fn nothing_waits_for_a_closed_input(sg: TestServer) {
    let endpoint = format!("http://{}", sg.address);
    let cases: [(&[&str], i32); 4] = [
        (&["user", "delete", "ana@example.com"], 2),
        (&["server", "setup", "ana@example.com", "--setup-token", "-", "--password", "-"], 1),
        (&["session", "register", "ana@example.com"], 2),
        (&["gateway", "list"], 0),
    ];
    for (arguments, code) in cases {
        let done = shoreguard_command(arguments)
            .args(["--endpoint", &endpoint])
            .env("SHOREGUARD_KEY", &sg.admin_key)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {}", text(&done.stderr));
        assert!(!done.stdout.contains(&0x1b) && !done.stderr.contains(&0x1b), "{arguments:?}");
    }
    sg.finish().await;
}

#[test]
fn completions_and_manual_pages_are_made() {
    let _limit = start_time_limit();
    for shell in ["bash", "zsh", "fish"] {
        let done = shoreguard_command(&["completion", shell]).output().unwrap();
        let script = text(&done.stdout);
        assert!(done.status.success() && script.contains("service-principal"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let done = shoreguard_command(&["man"]).arg(folder.path()).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(folder.path().join("shoreguard-gateway-list.1").exists());
}

sqlite_tests! {
    each_outcome_has_its_exit_code,
    labels_of_an_update_are_added,
    a_public_method_does_not_need_a_valid_key,
    a_dangerous_command_needs_yes_without_a_terminal,
    lists_read_further_pages_up_to_the_limit,
    a_change_of_a_role_prints_the_name_of_its_holder,
    refused_fields_are_named_as_on_the_command_line,
    call_selects_the_gateway_of_own_methods,
    an_interrupted_watch_exits_with_130,
    nothing_waits_for_a_closed_input,
}
