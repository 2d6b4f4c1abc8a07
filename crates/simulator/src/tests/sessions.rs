//! The phases of a sandbox, and sessions in it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tonic::Code;

use super::{
    NewClient, OldClient, new, new_create, new_gateway, old, old_gateway, old_sandbox, start,
};
use crate::{Generation, SimulatorOptions};

fn slow(generation: Generation) -> SimulatorOptions {
    let ready_after = Duration::from_millis(30);
    SimulatorOptions { ready_after, ..SimulatorOptions::new(generation) }
}

#[tokio::test]
async fn a_sandbox_becomes_ready_and_finishes_its_deletion_in_the_background() {
    let (simulator, channel) = start(slow(Generation::V0_0)).await;
    let mut client = OldClient::new(channel);
    let id = old_sandbox(&mut client, "a").await;
    let watch = old::WatchSandboxRequest {
        id,
        follow_status: true,
        stop_on_terminal: true,
        ..old::WatchSandboxRequest::default()
    };
    let mut told = client.watch_sandbox(watch.clone()).await.unwrap().into_inner();
    let mut phases = Vec::new();
    while let Some(event) = told.message().await.unwrap() {
        let Some(old::sandbox_stream_event::Payload::Sandbox(sandbox)) = event.payload else {
            continue;
        };
        phases.push(sandbox.status.unwrap().phase());
    }
    assert_eq!(phases, [old::SandboxPhase::Provisioning, old::SandboxPhase::Ready]);

    let watch = old::WatchSandboxRequest { stop_on_terminal: false, ..watch };
    let mut told = client.watch_sandbox(watch).await.unwrap().into_inner();
    told.message().await.unwrap().unwrap();
    let name = || "a".to_owned();
    let delete = old::DeleteSandboxRequest { name: name(), ..Default::default() };
    assert!(client.delete_sandbox(delete).await.unwrap().into_inner().deleted);
    let get = old::GetSandboxRequest { name: name(), ..Default::default() };
    let going = client.get_sandbox(get.clone()).await.unwrap().into_inner().sandbox.unwrap();
    assert_eq!(going.status.unwrap().phase(), old::SandboxPhase::Deleting);
    while told.message().await.unwrap().is_some() {}
    assert_eq!(client.get_sandbox(get).await.unwrap_err().code(), Code::NotFound);
    simulator.stop().await;
}

#[tokio::test]
async fn generation_0_1_reports_the_outcome_of_a_deletion() {
    let (simulator, mut client) = new_gateway().await;
    let made = client.create_sandbox(new_create("")).await.unwrap().into_inner();
    let name = made.sandbox.unwrap().metadata.unwrap().name;
    let delete = new::DeleteSandboxRequest { name, ..Default::default() };
    let gone = client.delete_sandbox(delete).await.unwrap().into_inner();
    assert_eq!(gone.outcome(), new::DeletionOutcome::Accepted);
    let delete = new::DeleteSandboxRequest {
        name: "never".to_owned(),
        allow_missing: true,
        ..Default::default()
    };
    let gone = client.delete_sandbox(delete).await.unwrap().into_inner();
    assert_eq!(gone.outcome(), new::DeletionOutcome::AlreadyAbsent);
    simulator.stop().await;
}

#[tokio::test]
async fn sandbox_names_and_specs_are_validated() {
    let (simulator, mut client) = old_gateway().await;
    let request = |name: &str| old::CreateSandboxRequest {
        name: name.to_owned(),
        spec: Some(old::SandboxSpec::default()),
        ..Default::default()
    };
    client.create_sandbox(request(&"n".repeat(19))).await.unwrap();
    for (request, code) in [
        (request(&"n".repeat(20)), Code::InvalidArgument),
        (request("Upper"), Code::InvalidArgument),
        (request(&"n".repeat(19)), Code::AlreadyExists),
        (old::CreateSandboxRequest { spec: None, ..request("x") }, Code::InvalidArgument),
        (old::CreateSandboxRequest { workspace: "no".to_owned(), ..request("x") }, Code::NotFound),
    ] {
        assert_eq!(client.create_sandbox(request).await.unwrap_err().code(), code);
    }
    simulator.stop().await;
}

/// Runs a command. Returns its stdout, stderr and exit code.
async fn exec(
    client: &mut OldClient<tonic::transport::Channel>,
    request: old::ExecSandboxRequest,
) -> (String, String, i32) {
    use old::exec_sandbox_event::Payload;
    let mut events = client.exec_sandbox(request).await.unwrap().into_inner();
    let (mut out, mut err, mut code) = (Vec::new(), Vec::new(), -1);
    while let Some(event) = events.message().await.unwrap() {
        match event.payload.unwrap() {
            Payload::Stdout(part) => out.extend_from_slice(&part.data),
            Payload::Stderr(part) => err.extend_from_slice(&part.data),
            Payload::Exit(exit) => code = exit.exit_code,
        }
    }
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), code)
}

#[tokio::test]
async fn commands_write_output_and_return_their_exit_code() {
    let (simulator, mut client) = old_gateway().await;
    let pairs = [("A", "spec"), ("B", "spec")].map(|(key, value)| (key.into(), value.into()));
    let create = old::CreateSandboxRequest {
        spec: Some(old::SandboxSpec { environment: pairs.into(), ..Default::default() }),
        ..Default::default()
    };
    let sandbox = client.create_sandbox(create).await.unwrap().into_inner().sandbox.unwrap();
    let sandbox_id = sandbox.metadata.unwrap().id;
    let request = |words: &[&str]| old::ExecSandboxRequest {
        sandbox_id: sandbox_id.clone(),
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        stdin: Bytes::from_static(b"typed"),
        environment: BTreeMap::from([("B".to_owned(), "exec".to_owned())]),
        ..Default::default()
    };
    for (words, out, err, code) in [
        (&["echo", "a", "b"][..], "a b\n", "", 0),
        (&["cat"], "typed", "", 0),
        (&["false"], "", "", 1),
        (&["pwd"], "/sandbox\n", "", 0),
        (&["env"], "A=spec\nB=exec\n", "", 0),
        (&["nope"], "", "sh: nope: command not found\n", 127),
        (&["sh", "-c", "echo 'a  b'; echo oh >&2; exit 3; echo never"], "a  b\n", "oh\n", 3),
        (&["bash", "-lc", "false;"], "", "", 1),
    ] {
        let wanted = (out.to_owned(), err.to_owned(), code);
        assert_eq!(exec(&mut client, request(words)).await, wanted, "{words:?}");
    }
    assert_eq!(exec(&mut client, request(&["seq", "200000"])).await.0.lines().count(), 200_000);
    simulator.stop().await;
}

#[tokio::test]
async fn forwarded_bytes_are_echoed_and_every_target_requires_its_token() {
    use old::tcp_forward_frame::Payload;
    use old::tcp_forward_init::Target;
    let (simulator, mut client) = old_gateway().await;
    let sandbox_id = old_sandbox(&mut client, "a").await;
    let request = old::CreateSshSessionRequest { sandbox_id: sandbox_id.clone() };
    let session = client.create_ssh_session(request).await.unwrap().into_inner();
    assert_eq!(session.gateway_port, u32::from(simulator.addr().port()));
    let ssh = Target::Ssh(old::SshRelayTarget {});
    let tcp = Target::Tcp(old::TcpRelayTarget { host: "127.0.0.1".to_owned(), port: 80 });
    let to = |target: &Target, token: &str| {
        let init = old::TcpForwardInit {
            sandbox_id: sandbox_id.clone(),
            authorization_token: token.to_owned(),
            target: Some(target.clone()),
            ..Default::default()
        };
        let frames = [Payload::Init(init), Payload::Data(Bytes::from_static(b"hello"))];
        tokio_stream::iter(frames.map(|payload| old::TcpForwardFrame { payload: Some(payload) }))
    };
    for target in [&ssh, &tcp] {
        let frames = to(target, &session.token);
        let mut echo = client.forward_tcp(frames).await.unwrap().into_inner();
        let back = echo.message().await.unwrap().unwrap().payload.unwrap();
        assert_eq!(back, Payload::Data(Bytes::from_static(b"hello")));
        assert!(echo.message().await.unwrap().is_none(), "half-close ends it");
        for none in ["", " ", "another"] {
            let refused = client.forward_tcp(to(target, none)).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated, "{none:?}");
        }
    }
    let revoke = old::RevokeSshSessionRequest { token: session.token.clone() };
    assert!(client.revoke_ssh_session(revoke).await.unwrap().into_inner().revoked);
    let refused = client.forward_tcp(to(&ssh, &session.token)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    simulator.stop().await;
}

#[tokio::test]
async fn interactive_commands_echo_lines_and_are_stopped_at_their_timeout() {
    use new::exec_sandbox_event::Payload;
    use new::exec_sandbox_input::Payload as Input;
    let (simulator, mut client) = new_gateway().await;
    client.create_sandbox(new_create("a")).await.unwrap();
    let begin = new::ExecSandboxRequest {
        sandbox: "a".to_owned(),
        command: vec!["cat".to_owned()],
        ..Default::default()
    };
    let typed = [Input::Start(begin), Input::Stdin("one\ntw".into()), Input::Stdin("o".into())];
    let typed = typed.map(|payload| new::ExecSandboxInput { payload: Some(payload) });
    let mut events =
        client.exec_sandbox_interactive(tokio_stream::iter(typed)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        seen.push(event.payload.unwrap());
    }
    let out = |data: &'static str| Payload::Stdout(new::ExecSandboxStdout { data: data.into() });
    let exit = |exit_code| Payload::Exit(new::ExecSandboxExit { exit_code });
    assert_eq!(seen, [out("one\n"), out("two"), exit(0)]);

    let late = new::ExecSandboxRequest {
        sandbox: "a".to_owned(),
        command: ["sh", "-c", "echo on; sleep 600"].map(str::to_owned).to_vec(),
        execution_timeout: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
        ..Default::default()
    };
    let mut events = client.exec_sandbox(late).await.unwrap().into_inner();
    for wanted in [out("on\n"), exit(124)] {
        assert_eq!(events.message().await.unwrap().unwrap().payload, Some(wanted));
    }
    simulator.stop().await;
}

#[tokio::test]
async fn the_end_of_the_input_aborts_an_interactive_command_in_generation_0_0() {
    use old::exec_sandbox_input::Payload as Input;
    let (simulator, mut client) = old_gateway().await;
    let sandbox_id = old_sandbox(&mut client, "a").await;
    for words in [&["sh", "-c", "echo hi; exit 6"][..], &["cat"], &["sleep", "600"]] {
        let start = Input::Start(old::ExecSandboxRequest {
            sandbox_id: sandbox_id.clone(),
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Default::default()
        });
        let typed = tokio_stream::iter([old::ExecSandboxInput { payload: Some(start) }]);
        let mut events = client.exec_sandbox_interactive(typed).await.unwrap().into_inner();
        let aborted = loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended as if all were well: {words:?}"),
                Err(status) => break status,
            }
        };
        assert_eq!(aborted.code(), Code::Internal, "{words:?}");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn an_empty_command_or_an_invalid_environment_name_is_refused() {
    let (simulator, mut client) = old_gateway().await;
    let sandbox_id = old_sandbox(&mut client, "a").await;
    let request = |command: &[&str], key: &str| old::ExecSandboxRequest {
        sandbox_id: sandbox_id.clone(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        environment: BTreeMap::from([(key.to_owned(), "x".to_owned())]),
        ..Default::default()
    };
    client.exec_sandbox(request(&["true"], "_A1")).await.unwrap();
    for request in [
        request(&[], "A"),
        request(&["true"], "1A"),
        request(&["true"], "A-B"),
        request(&["true"], ""),
    ] {
        let refused = client.exec_sandbox(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
        let start = old::exec_sandbox_input::Payload::Start(request);
        let typed = tokio_stream::iter([old::ExecSandboxInput { payload: Some(start) }]);
        let refused = client.exec_sandbox_interactive(typed).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    simulator.stop().await;
}

#[tokio::test]
async fn logs_are_filtered_and_followed() {
    use new::sandbox_stream_event::Payload;
    let (simulator, mut client) = new_gateway().await;
    client.create_sandbox(new_create("a")).await.unwrap();
    let watch = new::WatchSandboxRequest {
        sandbox: "a".to_owned(),
        follow_logs: true,
        log_min_level: "WARN".to_owned(),
        ..Default::default()
    };
    let mut told = client.watch_sandbox(watch).await.unwrap().into_inner();
    let first = told.message().await.unwrap().unwrap();
    assert!(matches!(first.payload, Some(Payload::Sandbox(_))), "the snapshot comes first");
    for (level, message) in [("INFO", "quiet"), ("ERROR", "loud"), ("OCSF", "always")] {
        simulator.log("default", "a", level, message).unwrap();
    }
    for wanted in ["loud", "always"] {
        let Some(Payload::Log(line)) = told.message().await.unwrap().unwrap().payload else {
            panic!("a line was expected");
        };
        assert_eq!(line.message, wanted);
    }
    simulator.stop().await;
    assert_eq!(told.message().await.unwrap_err().code(), Code::Unavailable, "stopping says so");
}

#[tokio::test]
async fn the_log_is_cut_before_it_is_filtered() {
    let (simulator, mut client) = new_gateway().await;
    client.create_sandbox(new_create("a")).await.unwrap();
    simulator.log("default", "a", "ERROR", "first").unwrap();
    for (noise, lines, found) in [(10, 100, 1), (10, 5, 0), (2_500, 0, 0), (2_500, 10_000, 0)] {
        let noise = (0..noise).map(|n| format!("noise {n}"));
        simulator.log_at_once("default", "a", "INFO", noise).unwrap();
        let request = new::GetSandboxLogsRequest {
            sandbox: "a".to_owned(),
            lines,
            min_level: "ERROR".to_owned(),
            ..Default::default()
        };
        let read = client.get_sandbox_logs(request).await.unwrap().into_inner();
        assert_eq!(read.logs.len(), found, "{lines}");
        assert!(read.buffer_total <= 2_000, "{}", read.buffer_total);
    }
    simulator.stop().await;
}

#[tokio::test]
async fn the_demo_seeds_sandboxes_a_draft_and_a_provider() {
    let (simulator, mut client) = old_gateway().await;
    simulator.seed_demo().unwrap();
    let all = old::ListSandboxesRequest { all_workspaces: true, ..Default::default() };
    let found = client.list_sandboxes(all).await.unwrap().into_inner().sandboxes;
    assert_eq!(found.len(), 4);
    let limited = old::ListSandboxesRequest { limit: 2, offset: 2, ..Default::default() };
    assert_eq!(client.list_sandboxes(limited).await.unwrap().into_inner().sandboxes.len(), 1);
    let draft = old::GetDraftPolicyRequest { name: "coder".to_owned(), ..Default::default() };
    let draft = client.get_draft_policy(draft).await.unwrap().into_inner();
    assert_eq!(draft.chunks.len(), 1);
    let get = old::GetProviderRequest { name: "github".to_owned(), ..Default::default() };
    let provider = client.get_provider(get).await.unwrap().into_inner().provider.unwrap();
    assert_eq!(provider.credentials["token"], "REDACTED");
    simulator.stop().await;

    let (simulator, _) = new_gateway().await;
    simulator.seed_demo().unwrap();
    let mut client = NewClient::connect(format!("http://{}", simulator.addr())).await.unwrap();
    let page = new::ListSandboxesRequest { page_size: 2, ..Default::default() };
    let first = client.list_sandboxes(page.clone()).await.unwrap().into_inner();
    assert_eq!(first.sandboxes.len(), 2);
    let page = new::ListSandboxesRequest { page_token: first.next_page_token, ..page };
    let rest = client.list_sandboxes(page).await.unwrap().into_inner();
    assert_eq!((rest.sandboxes.len(), rest.next_page_token.as_str()), (1, ""));
    simulator.stop().await;
}
