//! How commands end that wait: for their input, for a server, or for what is written to a pipe that is closed.

use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use super::events::{Relay, start_lines, until_lines};
use super::terminal::Terminal;
use super::{command, exit_code, run_to_end};
use crate::commands::{ChildProcess, shoreguard_command, text};
use crate::support::server::TestServer;
use crate::support::{eventually, limit};

sqlite_tests! {
    a_prompt_for_an_address_can_be_interrupted,
    a_lost_stream_says_so_and_can_be_tried_again,
    a_watch_of_gateways_resumes,
    a_watch_ends_in_time_while_the_server_is_away,
    a_stream_ends_when_its_output_is_closed,
    events_are_documents_of_yaml,
    what_cannot_be_meant_is_refused,
}

/// Makes a pipe with a name, and returns its path.
fn make_pipe(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_command_that_waits_for_its_input_can_be_interrupted() {
    limit::block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let pipe = make_pipe(folder.path(), "input");
        let request = format!("@{pipe}");
        let cases: [&[&str]; 4] = [
            &["call", "GetGateway", &request],
            &["policy", "apply", "-f", &pipe],
            &["policy", "diff", "-f", &pipe],
            &["sbom", "upload", "edge/box", &pipe],
        ];
        for arguments in cases {
            let mut process = ChildProcess(shoreguard_command(arguments).spawn().unwrap());
            let path = pipe.clone();
            // Returns when the command has opened the pipe to read from it. By then it handles the signal.
            let open = move || OpenOptions::new().write(true).open(path);
            let _held = tokio::task::spawn_blocking(open).await.unwrap().unwrap();
            process.signal("INT");
            assert_eq!(exit_code(&mut process.0).await, Some(130), "{arguments:?}");
        }
    });
}

async fn a_prompt_for_an_address_can_be_interrupted(sg: TestServer) {
    let home = tempfile::tempdir().unwrap();
    let mut login = command(&sg, "", &["login"]);
    login.env("XDG_CONFIG_HOME", home.path());
    let mut terminal = Terminal::start(login);
    terminal.until("E-mail address:").await;
    terminal.process.signal("INT");
    assert_eq!(terminal.ended().await, Some(130), "{}", terminal.shown());
    sg.finish().await;
}

/// Returns a command that reaches the server through a relay.
fn through(relay: &Relay, sg: &TestServer, arguments: &[&str]) -> Command {
    let mut command = command(sg, &sg.admin_key, arguments);
    command.env("SHOREGUARD_ENDPOINT", format!("http://{}", relay.address)).stderr(Stdio::piped());
    command
}

fn stderr_of(process: &mut ChildProcess) -> String {
    let mut bytes = Vec::new();
    process.0.stderr.take().unwrap().read_to_end(&mut bytes).unwrap();
    text(&bytes)
}

async fn a_lost_stream_says_so_and_can_be_tried_again(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let relay = Relay::start(sg.address).await;
    let (mut process, lines) = start_lines(through(&relay, &sg, &["call", "WatchGateways"]));
    until_lines(&lines, 1).await;
    // Ends its connections.
    drop(relay);
    assert_eq!(exit_code(&mut process.0).await, Some(5));
    let why = stderr_of(&mut process);
    assert!(why.contains("cannot be reached: "), "{why}");
    sg.finish().await;
}

async fn a_watch_of_gateways_resumes(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let relay = Relay::start(sg.address).await;
    let watch = ["gateway", "watch", "-o", "name"];
    let (mut process, lines) = start_lines(through(&relay, &sg, &watch));
    until_lines(&lines, 1).await;
    relay.cuts.send_replace(());
    sg.register_unreachable("west").await;
    eventually("the gateway is printed", || async {
        lines.lock().unwrap().iter().any(|line| line == "west")
    })
    .await;
    process.signal("INT");
    assert_eq!(exit_code(&mut process.0).await, Some(130));
    sg.finish().await;
}

async fn a_watch_ends_in_time_while_the_server_is_away(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let relay = Relay::start(sg.address).await;
    let watch = ["event", "watch", "--after", "0", "--timeout", "3"];
    let (mut process, lines) = start_lines(through(&relay, &sg, &watch));
    until_lines(&lines, 1).await;
    drop(relay);
    assert_eq!(exit_code(&mut process.0).await, Some(5));
    let why = stderr_of(&mut process);
    // Without a limit, it would say after all attempts that the server cannot be reached.
    assert!(why.contains("DEADLINE_EXCEEDED"), "{why}");
    sg.finish().await;
}

async fn a_stream_ends_when_its_output_is_closed(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let cases: [&[&str]; 3] = [
        &["gateway", "watch"],
        &["call", "WatchGateways"],
        &["event", "watch", "--after", "0", "--name", "gateway.registered"],
    ];
    for arguments in cases {
        let mut child = command(&sg, &sg.admin_key, arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut process = ChildProcess(child);
        let first = tokio::task::spawn_blocking(move || {
            let mut byte = [0];
            output.read_exact(&mut byte).map(|()| output)
        });
        // Nothing else is printed: the command does not find the closed pipe by a write.
        drop(first.await.unwrap().unwrap());
        assert_eq!(exit_code(&mut process.0).await, Some(0), "{arguments:?}");
    }
    sg.finish().await;
}

async fn events_are_documents_of_yaml(sg: TestServer) {
    for name in ["edge", "west"] {
        sg.register_unreachable(name).await;
    }
    let watch = ["event", "watch", "--after", "0", "--name", "gateway.registered", "-o", "yaml"];
    let (process, lines) = start_lines(command(&sg, &sg.admin_key, &watch));
    let lines = until_lines(&lines, 2).await;
    drop(process);
    for line in &lines[..2] {
        let document = line.strip_prefix("--- ").unwrap_or_else(|| panic!("{line}"));
        let event: serde_json::Value = serde_json::from_str(document).unwrap();
        assert_eq!(event["name"], "gateway.registered");
    }
    sg.finish().await;
}

async fn check_refused(sg: &TestServer, arguments: &[&str], code: i32, why: &str) {
    let refused = run_to_end(sg, &sg.admin_key, arguments).await;
    assert_eq!(refused.code, Some(code), "{refused:?}");
    assert!(refused.stdout.is_empty() && refused.stderr.contains(why), "{refused:?}");
}

async fn what_cannot_be_meant_is_refused(sg: TestServer) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "not a certificate").unwrap();
    let ca =
        ["server", "info", "--endpoint", "https://127.0.0.1:1", "--ca", file.to_str().unwrap()];
    check_refused(&sg, &ca, 2, "has no certificate in PEM").await;
    check_refused(&sg, &["call", "--list", "bogus"], 1, "no method contains `bogus`").await;
    let port = ["server", "info", "--endpoint", "http://127.0.0.1:99999"];
    check_refused(&sg, &port, 2, "must have a port").await;
    sg.finish().await;
}
