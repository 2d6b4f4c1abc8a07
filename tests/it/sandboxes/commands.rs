//! Commands in sandboxes, and the logs of sandboxes.

use shoreguard::pb::v1::exec_sandbox_request::Input;
use shoreguard::pb::v1::exec_sandbox_response::Output;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

pub(super) fn exec_request(gateway: &str, command: &[&str]) -> pb::ExecSandboxRequest {
    pb::ExecSandboxRequest {
        gateway: gateway.to_owned(),
        sandbox: "box".to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        ..Default::default()
    }
}

pub(super) fn start_exec_request(
    sg: &TestServer,
    gateway: &str,
    command: &[&str],
) -> pb::StartExecSandboxRequest {
    pb::StartExecSandboxRequest {
        gateway: gateway.to_owned(),
        sandbox: "box".to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        request_id: request_id(sg),
        ..Default::default()
    }
}

fn stdin(bytes: &[u8]) -> pb::ExecSandboxRequest {
    pb::ExecSandboxRequest {
        input: Some(Input::Stdin(bytes.to_vec().into())),
        ..Default::default()
    }
}

pub(super) async fn read_output(
    caller: &Caller,
    messages: Vec<pb::ExecSandboxRequest>,
) -> Result<Vec<Output>, tonic::Status> {
    let mut answers =
        caller.sandboxes().exec_sandbox(tokio_stream::iter(messages)).await?.into_inner();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await? {
        seen.push(answer.output.unwrap());
    }
    Ok(seen)
}

sqlite_tests! {
    a_command_streams_input_and_output,
    command_requests_are_validated,
    equal_commands_run_concurrently_and_their_outputs_are_separate,
    the_output_of_a_command_is_visible_only_to_its_actor_and_admins,
    a_cancelled_command_is_stopped_in_the_sandbox,
    sandbox_logs_are_filtered_before_the_line_limit_applies,
    watch_sandbox_streams_status_and_logs,
}

async fn a_command_streams_input_and_output(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        let admin = sg.admin();
        let said = read_output(
            &admin,
            vec![exec_request(name, &["sh", "-c", "echo hi; echo oh >&2; exit 3"])],
        )
        .await
        .unwrap();
        let expected =
            [Output::Stdout("hi\n".into()), Output::Stderr("oh\n".into()), Output::ExitCode(3)];
        assert_eq!(said, expected);

        let (typed, input) = mpsc::channel(4);
        typed.send(exec_request(name, &["cat"])).await.unwrap();
        let mut answers =
            admin.sandboxes().exec_sandbox(ReceiverStream::new(input)).await.unwrap().into_inner();
        for word in ["one\n", "two\n"] {
            typed.send(stdin(word.as_bytes())).await.unwrap();
            let answer = answers.message().await.unwrap().unwrap().output.unwrap();
            assert_eq!(answer, Output::Stdout(word.into()));
        }
        drop(typed);
        match generation {
            Generation::V0_1 => {
                let answer = answers.message().await.unwrap().unwrap().output.unwrap();
                assert_eq!(answer, Output::ExitCode(0));
                assert!(answers.message().await.unwrap().is_none());
            }
            // Generation 0.0 has no message for the end of an input while the command runs. The command is not
            // aborted, and its caller may cancel it.
            Generation::V0_0 => {
                let more =
                    tokio::time::timeout(Duration::from_millis(500), answers.message()).await;
                assert!(more.is_err(), "it was aborted: {more:?}");
                assert_eq!(simulator.running_commands(), 1);
                drop(answers);
                wait_until("the command has ended", || async { simulator.running_commands() == 0 })
                    .await;
            }
        }

        wait_until("both are closed", || async {
            audit_entries(&sg, "sandbox.exec").await.iter().all(|e| e.close_time.is_some())
        })
        .await;
        let entries = audit_entries(&sg, "sandbox.exec").await;
        let cat = &entries[0];
        assert_eq!(
            cat.detail_json.contains("\"exit_code\":0"),
            generation == Generation::V0_1,
            "{cat:?}"
        );
        assert_eq!((cat.bytes_in, cat.bytes_out), (8, 8), "{cat:?}");
        let digest = |entry: &pb::AuditEntry| {
            let detail: serde_json::Value = serde_json::from_str(&entry.detail_json).unwrap();
            detail["digest"].as_str().unwrap().to_owned()
        };
        assert_ne!(digest(cat), digest(&entries[1]), "it is of what was typed");
        assert!(entries[1].detail_json.contains("\"exit_code\":3"), "{:?}", entries[1]);
        assert!(!format!("{entries:?}").contains("echo hi"), "arguments may be secret");
    }
}

async fn command_requests_are_validated(sg: TestServer) {
    let _simulator = start_gateway(&sg, "edge", Generation::V0_1).await;
    create_sandbox(&sg, create_request(&sg, "edge", "box")).await;
    let operator = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
    let bad = [
        exec_request("edge", &[]),
        exec_request("edge", &[""]),
        exec_request("edge", &["a\0b"]),
        exec_request("edge", &["x"; 257]),
        pb::ExecSandboxRequest { sandbox: "a b".into(), ..exec_request("edge", &["true"]) },
        pb::ExecSandboxRequest { workdir: "x".repeat(4097), ..exec_request("edge", &["true"]) },
        pb::ExecSandboxRequest {
            timeout: Some(prost_types::Duration { seconds: 3601, nanos: 0 }),
            ..exec_request("edge", &["true"])
        },
        pb::ExecSandboxRequest {
            size: Some(pb::TerminalSize { cols: 10_001, rows: 1 }),
            ..exec_request("edge", &["true"])
        },
    ];
    for request in bad {
        assert_refused!(
            read_output(&operator, vec![request]).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    assert_refused!(read_output(&operator, vec![]).await, InvalidArgument, "MALFORMED_MESSAGE");
    let none = pb::ExecSandboxRequest { sandbox: "none".into(), ..exec_request("edge", &["true"]) };
    assert_refused!(read_output(&operator, vec![none]).await, NotFound, "NOT_FOUND");
    let viewer = sg.with_token(&sg.admin().create_key("look", pb::Role::Viewer).await);
    assert_refused!(
        read_output(&viewer, vec![exec_request("edge", &["true"])]).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    let none = pb::StartExecSandboxRequest {
        sandbox: "none".into(),
        ..start_exec_request(&sg, "edge", &["true"])
    };
    assert_refused!(operator.sandboxes().start_exec_sandbox(none).await, NotFound, "NOT_FOUND");
}

async fn equal_commands_run_concurrently_and_their_outputs_are_separate(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let _simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        let admin = sg.admin();
        let mut begun = Vec::new();
        for _ in 0..3 {
            let request = pb::StartExecSandboxRequest {
                environment: labels(&[("WHO", "hush-hush")]),
                ..start_exec_request(&sg, name, &["sh", "-c", "env; echo oh >&2; exit 7"])
            };
            let started = admin.sandboxes().start_exec_sandbox(request).await.unwrap().into_inner();
            begun.push(started.operation.unwrap().id);
        }
        for operation in begun {
            let ended = wait_operation(&admin, &operation).await;
            let result = operation_result(&ended);
            assert_eq!(ended.status(), pb::OperationStatus::Succeeded, "{ended:?}");
            assert_eq!(
                (result["exit_code"].as_f64(), result["stderr"].as_str()),
                (Some(7.0), Some("oh\n"))
            );
            assert!(result["stdout"].as_str().unwrap().contains("WHO=hush-hush"), "{result}");
        }
        let dump = crate::support::dump::table(&sg.app.db, "operations").await;
        assert!(!dump.contains("hush-hush"), "t18: results are sealed");
    }
}

async fn the_output_of_a_command_is_visible_only_to_its_actor_and_admins(sg: TestServer) {
    let _simulator = start_gateway(&sg, "edge", Generation::V0_1).await;
    create_sandbox(&sg, create_request(&sg, "edge", "box")).await;
    let actor = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
    let other = sg.with_token(&sg.admin().create_key("ops-2", pb::Role::Operator).await);
    let viewer = sg.with_token(&sg.admin().create_key("look", pb::Role::Viewer).await);
    let started = actor
        .sandboxes()
        .start_exec_sandbox(start_exec_request(&sg, "edge", &["echo", "mine"]))
        .await
        .unwrap();
    let operation = started.into_inner().operation.unwrap().id;
    assert_eq!(operation_result(&wait_operation(&actor, &operation).await)["stdout"], "mine\n");
    assert_eq!(
        operation_result(&wait_operation(&sg.admin(), &operation).await)["stdout"],
        "mine\n"
    );
    let seen = wait_operation(&other, &operation).await;
    assert!(seen.result.is_none() && seen.result_withheld, "{seen:?}");
    let request = pb::GetOperationRequest { operation: operation.clone() };
    assert_refused!(viewer.operations().get_operation(request).await, NotFound, "NOT_FOUND");
}

async fn a_cancelled_command_is_stopped_in_the_sandbox(sg: TestServer) {
    for (cancelled_before, (name, generation)) in GATEWAYS.into_iter().enumerate() {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        let admin = sg.admin();
        let started = admin
            .sandboxes()
            .start_exec_sandbox(start_exec_request(&sg, name, &["sleep", "600"]))
            .await
            .unwrap();
        let operation = started.into_inner().operation.unwrap().id;
        wait_until("it runs", || async { simulator.running_commands() == 1 }).await;
        let cancel = pb::CancelOperationRequest {
            operation: operation.clone(),
            request_id: request_id(&sg),
        };
        admin.operations().cancel_operation(cancel).await.unwrap();
        let cancelled = wait_operation(&admin, &operation).await;
        assert_eq!(cancelled.error_code(), pb::OperationErrorCode::Cancelled, "{cancelled:?}");
        wait_until("it has ended in the sandbox", || async { simulator.running_commands() == 0 })
            .await;
        assert_eq!(
            audit_entries(&sg, "operation.cancel").await.len(),
            cancelled_before + 1,
            "it is audited"
        );
    }
}

async fn sandbox_logs_are_filtered_before_the_line_limit_applies(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        simulator.log("default", "box", "ERROR", "first error").unwrap();
        simulator.log("default", "box", "OCSF", "a security event").unwrap();
        for i in 0..30 {
            simulator.log("default", "box", "DEBUG", &format!("noise {i}\u{1b}[31m")).unwrap();
        }
        let base = pb::GetSandboxLogsRequest {
            gateway: name.into(),
            sandbox: "box".into(),
            ..Default::default()
        };
        let read = async |request: pb::GetSandboxLogsRequest| {
            let read = sg.admin().sandboxes().get_sandbox_logs(request).await.unwrap().into_inner();
            read.log_lines.into_iter().map(|line| line.message).collect::<Vec<_>>()
        };
        let errors =
            pb::GetSandboxLogsRequest { lines: 5, min_level: "error".into(), ..base.clone() };
        assert_eq!(read(errors).await, ["first error", "a security event"]);
        let ocsf = pb::GetSandboxLogsRequest { ocsf_only: true, lines: 1, ..base.clone() };
        assert_eq!(read(ocsf).await, ["a security event"]);
        let youngest = read(pb::GetSandboxLogsRequest { lines: 2, ..base.clone() }).await;
        assert_eq!(youngest, ["noise 28 [31m", "noise 29 [31m"], "t20: no control characters");
        for bad in [
            pb::GetSandboxLogsRequest { lines: 10_001, ..base.clone() },
            pb::GetSandboxLogsRequest { lines: -1, ..base.clone() },
            pb::GetSandboxLogsRequest { min_level: "loud".into(), ..base.clone() },
            pb::GetSandboxLogsRequest { sources: vec!["moon".into()], ..base.clone() },
        ] {
            assert_refused!(
                sg.admin().sandboxes().get_sandbox_logs(bad).await,
                InvalidArgument,
                "INVALID_FIELD"
            );
        }
    }
}

async fn watch_sandbox_streams_status_and_logs(sg: TestServer) {
    use pb::watch_sandbox_response::Seen;
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(
            &sg,
            pb::CreateSandboxRequest {
                description: "seen".into(),
                ..create_request(&sg, name, "box")
            },
        )
        .await;
        let request = pb::WatchSandboxRequest {
            gateway: name.into(),
            sandbox: "box".into(),
            logs: true,
            ..Default::default()
        };
        let mut watching =
            sg.admin().sandboxes().watch_sandbox(request).await.unwrap().into_inner();
        let first = watching.message().await.unwrap().unwrap().seen.unwrap();
        assert!(
            matches!(&first, Seen::Sandbox(sandbox) if sandbox.description == "seen"),
            "{first:?}"
        );
        simulator.log("default", "box", "INFO", "still running").unwrap();
        loop {
            let seen = watching.message().await.unwrap().unwrap().seen.unwrap();
            if matches!(&seen, Seen::Log(line) if line.message == "still running") {
                break;
            }
        }
    }
}
