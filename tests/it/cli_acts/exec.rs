//! `sandbox exec`: exit codes, input, signals and the terminal.

use std::process::{Command, Stdio};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::policies::{GATEWAYS, seeded};
use crate::support::server::TestServer;
use crate::support::{eventually, soon};

use super::terminal::Terminal;
use super::{command, run_to_end, start};

sqlite_tests! {
    a_command_exits_as_it_did_in_its_sandbox,
    input_is_sent_only_with_a_flag_and_ends,
    a_signal_ends_a_command_without_a_terminal,
    a_terminal_is_raw_until_the_command_ends,
    a_terminal_is_restored_after_a_signal,
    a_command_without_an_answer_can_be_interrupted,
}

/// Type of the HTTP/2 frame with which a request begins.
const HEADERS: u8 = 1;

fn exec(sg: &TestServer, arguments: &[&str]) -> Command {
    let mut exec = command(sg, &sg.admin_key, &["sandbox", "exec"]);
    exec.args(arguments);
    exec
}

async fn a_command_exits_as_it_did_in_its_sandbox(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let place = format!("{name}/coder");
        let script = ["--", "sh", "-c", "echo hi; echo oh >&2; exit 3"];
        let ended = start(exec(&sg, &[&[place.as_str()][..], &script].concat())).finish(b"").await;
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert_eq!((&*ended.stdout, &*ended.stderr), ("hi\n", "oh\n"));

        let full = format!("{name}/default/coder");
        let mut in_folder = exec(&sg, &["--workdir", "/work", "--env", "COLOR", &full]);
        in_folder.args(["--", "sh", "-c", "pwd; env"]).env("COLOR", "blue");
        let ended = start(in_folder).finish(b"").await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.starts_with("/work\n"), "{ended:?}");
        assert!(ended.stdout.contains("COLOR=blue\n"), "{ended:?}");

        let missing = format!("{name}/nothing");
        let ended = start(exec(&sg, &[missing.as_str(), "--", "true"])).finish(b"").await;
        assert_eq!(ended.code, Some(125), "{ended:?}");
        assert!(ended.stderr.contains("NOT_FOUND"), "{ended:?}");
        simulator.stop().await;
    }
    for wrong in [&["coder", "--", "true"][..], &["new/coder"], &["new/coder", "true"]] {
        let ended = start(exec(&sg, wrong)).finish(b"").await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
    }
    let mut away = exec(&sg, &["new/coder", "--", "true"]);
    away.env("SHOREGUARD_ENDPOINT", "http://127.0.0.1:1");
    assert_eq!(start(away).finish(b"").await.code, Some(125));
    sg.finish().await;
}

/// Returns the same command without a standard input.
fn with_closed_input(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" <&-"]).arg(command.get_program());
    shell.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    shell
}

async fn input_is_sent_only_with_a_flag_and_ends(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let place = format!("{name}/coder");
        let cat = ["-i", &place, "--", "cat"];
        let ended = start(exec(&sg, &cat)).finish(b"one\ntwo").await;
        assert_eq!((ended.code, &*ended.stdout), (Some(0), "one\ntwo"), "{ended:?}");

        // Input that is empty, `/dev/null` or closed ends.
        let ended = start(exec(&sg, &cat)).finish(b"").await;
        assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{ended:?}");
        for mut closed in [exec(&sg, &cat), with_closed_input(&exec(&sg, &cat))] {
            closed.stdin(Stdio::null());
            let ended = tokio::task::spawn_blocking(move || closed.output()).await.unwrap();
            let ended = ended.unwrap();
            assert!(ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
        }

        // Without the flag, input is not waited for.
        let open = start(exec(&sg, &[place.as_str(), "--", "cat"]));
        let ended = open.ended().await;
        assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{ended:?}");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_signal_ends_a_command_without_a_terminal(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let running = start(exec(&sg, &["new/coder", "--", "sleep", "600"]));
        eventually("it runs", || async { simulator.running_commands() == 1 }).await;
        running.process.signal(signal);
        let ended = running.ended().await;
        assert_eq!(ended.code, Some(code), "{ended:?}");
        eventually("it has ended", || async { simulator.running_commands() == 0 }).await;
    }
    // Gateway and server end it, too.
    let late = run_to_end(
        &sg,
        &sg.admin_key,
        &["sandbox", "exec", "--end-after", "1", "new/coder", "--", "sleep", "600"],
    );
    assert_eq!(late.await.code, Some(124));
    sg.finish().await;
}

async fn a_terminal_is_raw_until_the_command_ends(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let place = format!("{name}/coder");
        let mut terminal = Terminal::start(exec(&sg, &["-t", &place, "--", "stty", "size"]));
        assert_eq!(terminal.ended().await, Some(0), "{}", terminal.shown());
        terminal.until("40 120").await;

        let mut terminal = Terminal::start(exec(&sg, &["-it", &place, "--", "sh"]));
        eventually("it is raw", || async { !terminal.edits_lines() }).await;
        // A Ctrl-C that is typed is a key for the command.
        terminal.type_text("typed\u{3}\n");
        terminal.until("typed\u{3}\n").await;
        terminal.resize(100, 30);
        terminal.until("100x30").await;
        assert!(!terminal.edits_lines());
        terminal.type_text("\u{4}");
        assert_eq!(terminal.ended().await, Some(0), "{}", terminal.shown());
        assert!(terminal.edits_lines(), "the terminal has its former mode");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_terminal_is_restored_after_a_signal(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let mut terminal = Terminal::start(exec(&sg, &["-it", "new/coder", "--", "sh"]));
    eventually("it is raw", || async { !terminal.edits_lines() }).await;
    eventually("it runs", || async { simulator.running_commands() == 1 }).await;
    terminal.process.signal("TERM");
    assert_eq!(terminal.ended().await, Some(143), "{}", terminal.shown());
    assert!(terminal.edits_lines(), "the terminal has its former mode");
    eventually("it has ended", || async { simulator.running_commands() == 0 }).await;

    // A command that cannot be run does not leave the terminal raw.
    let mut terminal = Terminal::start(exec(&sg, &["-it", "new/nothing", "--", "sh"]));
    assert_eq!(terminal.ended().await, Some(125));
    assert!(terminal.edits_lines());
    terminal.until("NOT_FOUND").await;
    sg.finish().await;
}

/// Reads what an HTTP/2 client sends until a request begins.
async fn read_until_request(connection: &mut TcpStream) {
    let mut preface = [0; 24];
    connection.read_exact(&mut preface).await.unwrap();
    loop {
        let mut frame = [0; 9];
        connection.read_exact(&mut frame).await.unwrap();
        if frame[3] == HEADERS {
            return;
        }
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let mut content = vec![0; usize::try_from(length).unwrap()];
        connection.read_exact(&mut content).await.unwrap();
    }
}

async fn a_command_without_an_answer_can_be_interrupted(sg: TestServer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut unanswered = exec(&sg, &["-it", "new/coder", "--", "sh"]);
    unanswered.env("SHOREGUARD_ENDPOINT", format!("http://{}", listener.local_addr().unwrap()));
    let mut terminal = Terminal::start(unanswered);
    let (mut connection, _) = soon("it connects", listener.accept()).await.unwrap();
    soon("it calls", read_until_request(&mut connection)).await;
    assert!(terminal.edits_lines(), "Ctrl-C is a signal");
    terminal.process.signal("INT");
    assert_eq!(terminal.ended().await, Some(130), "{}", terminal.shown());
    sg.finish().await;
}
