//! Options of commands: terminal, directory, input and timeout.

use shoreguard::pb::v1::exec_sandbox_request::Input;
use shoreguard::pb::v1::exec_sandbox_response::Output;
use shoreguard_simulator::{Script, Times};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::commands::{exec_request, read_output, start_exec_request};
use super::*;

fn size(cols: u32, rows: u32) -> pb::TerminalSize {
    pb::TerminalSize { cols, rows }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// Runs a command as an operation and waits until it has ended.
async fn run(sg: &TestServer, request: pb::StartExecSandboxRequest) -> pb::Operation {
    let started = sg.admin().sandboxes().start_exec_sandbox(request).await.unwrap();
    wait_operation(&sg.admin(), &started.into_inner().operation.unwrap().id).await
}

sqlite_tests! {
    a_terminal_has_the_size_that_the_caller_sets_and_can_be_resized,
    a_command_continues_when_its_input_ends_later,
    complete_input_is_sent_together_with_the_command,
    input_sent_together_with_a_command_is_limited_in_size,
    a_command_runs_in_its_workdir_and_reads_its_stdin,
    a_command_is_stopped_at_its_timeout,
    an_operation_does_not_wait_for_a_command_that_its_gateway_does_not_stop,
}

async fn a_terminal_has_the_size_that_the_caller_sets_and_can_be_resized(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let _simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        let admin = sg.admin();
        let on_terminal = |command: &[&str]| pb::ExecSandboxRequest {
            tty: true,
            size: Some(size(120, 40)),
            ..exec_request(name, command)
        };
        let said = read_output(&admin, vec![on_terminal(&["stty", "size"])]).await.unwrap();
        assert_eq!(said, [Output::Stdout("40 120\n".into()), Output::ExitCode(0)]);
        let without =
            read_output(&admin, vec![exec_request(name, &["stty", "size"])]).await.unwrap();
        assert_eq!(without.last(), Some(&Output::ExitCode(1)), "it has no terminal: {without:?}");

        let (typed, input) = mpsc::channel(4);
        typed.send(on_terminal(&["sh"])).await.unwrap();
        let mut answers =
            admin.sandboxes().exec_sandbox(ReceiverStream::new(input)).await.unwrap().into_inner();
        let resize = Input::Resize(size(100, 30));
        typed
            .send(pb::ExecSandboxRequest { input: Some(resize), ..Default::default() })
            .await
            .unwrap();
        let answer = answers.message().await.unwrap().unwrap().output.unwrap();
        assert_eq!(answer, Output::Stdout("100x30\n".into()));
        drop(typed);
        let answer = answers.message().await.unwrap().unwrap().output.unwrap();
        assert_eq!(answer, Output::ExitCode(0));

        let kept = run(
            &sg,
            pb::StartExecSandboxRequest {
                tty: true,
                ..start_exec_request(&sg, name, &["stty", "size"])
            },
        )
        .await;
        assert_eq!(operation_result(&kept)["exit_code"].as_f64(), Some(0.0), "{kept:?}");
    }
}

async fn a_command_continues_when_its_input_ends_later(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        let (typed, input) = mpsc::channel(4);
        typed
            .send(exec_request(name, &["sh", "-c", "echo on; sleep 0.5; echo done; exit 4"]))
            .await
            .unwrap();
        let mut answers = sg
            .admin()
            .sandboxes()
            .exec_sandbox(ReceiverStream::new(input))
            .await
            .unwrap()
            .into_inner();
        let mut next =
            async || answers.message().await.unwrap().map(|answer| answer.output.unwrap());
        assert_eq!(next().await, Some(Output::Stdout("on\n".into())));
        drop(typed);
        for expected in [Some(Output::Stdout("done\n".into())), Some(Output::ExitCode(4)), None] {
            assert_eq!(next().await, expected, "{name}");
        }
        assert_eq!(call_count(&simulator, "/ExecSandboxInteractive"), 1);
    }
}

async fn complete_input_is_sent_together_with_the_command(sg: TestServer) {
    let typed = |bytes: &[u8]| pb::ExecSandboxRequest {
        input: Some(Input::Stdin(bytes.to_vec().into())),
        ..Default::default()
    };
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        let admin = sg.admin();
        let hi = [Output::Stdout("hi\n".into()), Output::ExitCode(6)];
        let said = read_output(&admin, vec![exec_request(name, &["sh", "-c", "echo hi; exit 6"])])
            .await
            .unwrap();
        assert_eq!(said, hi, "{name}");
        let said =
            read_output(&admin, vec![exec_request(name, &["sh"]), typed(b"echo hi; exit 6\n")])
                .await
                .unwrap();
        assert_eq!(said, hi, "{name}");
        // Input in the first message is not lost.
        let start =
            pb::ExecSandboxRequest { input: typed(b"one\n").input, ..exec_request(name, &["cat"]) };
        let said =
            read_output(&admin, vec![start, typed(b""), typed(b"tw"), typed(b"o")]).await.unwrap();
        assert_eq!(said, [Output::Stdout("one\ntwo".into()), Output::ExitCode(0)], "{name}");
        assert_eq!(
            (
                call_count(&simulator, "/ExecSandbox"),
                call_count(&simulator, "/ExecSandboxInteractive")
            ),
            (3, 0)
        );
    }
}

async fn input_sent_together_with_a_command_is_limited_in_size(sg: TestServer) {
    const MOST: usize = 256 << 10;
    let simulator = start_gateway(&sg, "new", Generation::V0_1).await;
    create_sandbox(&sg, create_request(&sg, "new", "box")).await;
    for (bytes, whole) in [(MOST, 1), (MOST + 1, 0)] {
        let piece = |bytes: usize| pb::ExecSandboxRequest {
            input: Some(Input::Stdin(vec![b'x'; bytes].into())),
            ..Default::default()
        };
        let before = call_count(&simulator, "/ExecSandbox");
        let said = read_output(
            &sg.admin(),
            vec![exec_request("new", &["cat"]), piece(MOST), piece(bytes - MOST)],
        )
        .await
        .unwrap();
        let out = |output: &Output| match output {
            Output::Stdout(bytes) => bytes.len(),
            Output::Stderr(_) | Output::ExitCode(_) => 0,
        };
        assert_eq!(said.iter().map(out).sum::<usize>(), bytes);
        assert_eq!(said.last(), Some(&Output::ExitCode(0)), "it has seen the end");
        assert_eq!(call_count(&simulator, "/ExecSandbox") - before, whole, "{bytes}");
    }
}

async fn a_command_runs_in_its_workdir_and_reads_its_stdin(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let _simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        let there =
            pb::ExecSandboxRequest { workdir: "/work".into(), ..exec_request(name, &["pwd"]) };
        let said = read_output(&sg.admin(), vec![there]).await.unwrap();
        assert_eq!(said, [Output::Stdout("/work\n".into()), Output::ExitCode(0)]);
        let there = pb::StartExecSandboxRequest {
            workdir: "/work".into(),
            stdin: "given".into(),
            ..start_exec_request(&sg, name, &["sh", "-c", "pwd; cat"])
        };
        let kept = run(&sg, there).await;
        assert_eq!(operation_result(&kept)["stdout"], "/work\ngiven", "{kept:?}");
    }
}

async fn a_command_is_stopped_at_its_timeout(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        let request = pb::ExecSandboxRequest {
            timeout: Some(seconds(1)),
            ..exec_request(name, &["sleep", "600"])
        };
        let late = pb::StartExecSandboxRequest {
            timeout: Some(seconds(1)),
            ..start_exec_request(&sg, name, &["sleep", "600"])
        };
        let admin = sg.admin();
        let (said, ended) = tokio::join!(read_output(&admin, vec![request]), run(&sg, late));
        assert_eq!(said.unwrap(), [Output::ExitCode(124)], "the gateway ended it");
        assert_eq!(operation_result(&ended)["exit_code"].as_f64(), Some(124.0), "{ended:?}");
        simulator.stop().await;
    }
}

async fn an_operation_does_not_wait_for_a_command_that_its_gateway_does_not_stop(sg: TestServer) {
    let simulator = start_gateway(&sg, "new", Generation::V0_1).await;
    create_sandbox(&sg, create_request(&sg, "new", "box")).await;
    let never = Script::Drip { bytes: 1, every: Duration::from_hours(1) };
    simulator.script("ExecSandbox", never, Times::All);
    let late = pb::StartExecSandboxRequest {
        timeout: Some(seconds(1)),
        ..start_exec_request(&sg, "new", &["sleep", "600"])
    };
    let admin = sg.admin();
    let started = admin.sandboxes().start_exec_sandbox(late).await.unwrap().into_inner();
    let id = started.operation.unwrap().id;
    wait_until("the command runs", || async { simulator.running_commands() == 1 }).await;
    // A second, and the time that a gateway has beyond it.
    pass_until(&sg, || async { simulator.running_commands() == 0 }).await;
    let ended = wait_operation(&admin, &id).await;
    assert_eq!(ended.error_code(), pb::OperationErrorCode::Timeout, "{ended:?}");
    wait_until("the command is given up", || async { simulator.running_commands() == 0 }).await;
    let entry = audit_entries(&sg, "sandbox.exec").await.remove(0);
    assert_eq!(entry.outcome(), pb::AuditOutcome::Failed, "{entry:?}");
}
