//! Running boot hooks: their environment, their limits, and the stored outcome.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shoreguard::config::Config;
use shoreguard::ctx::Ctx;
use shoreguard::db::types::{GatewayId, GatewayRef, SandboxName, SandboxRef};
use shoreguard::error::{Error, Reason};
use shoreguard::openshell::exec::Command;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::boot_hooks::run::{
    CHARACTERS_MAX, CommandResult, SandboxExec, SandboxSpec, post_create, pre_create,
};
use shoreguard::workers::{self, TickResult, Worker};
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tokio_util::sync::CancellationToken;

use crate::boot_hooks::{
    POST, PRE, create_hook, hook_request, last_event, list_hooks, start_gateway, with_folder,
};
use crate::support::eventually;
use crate::support::server::{Caller, TestServer};

fn tight(config: &mut Config) {
    with_folder(config);
    config.boot_hooks.output_kib_max = 64;
    config.boot_hooks.file_mib_max = 1;
    config.boot_hooks.open_files_max = 33;
}

fn folder(sg: &TestServer) -> &Path {
    sg.app.config.boot_hooks.pre_create_folder.as_deref().unwrap()
}

/// Writes a shell script into the folder of hooks.
pub(crate) fn write_script(sg: &TestServer, name: &str, text: &str) -> PathBuf {
    let path = folder(sg).join(name);
    // Written by another process: a child process that another test is starting keeps files of this one open until its
    // exec, and a file that is open for writing cannot be executed.
    let mut writer = std::process::Command::new("sh");
    writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(&path);
    let mut writer = writer.stdin(std::process::Stdio::piped()).spawn().unwrap();
    writeln!(writer.stdin.take().unwrap(), "#!/bin/sh\n{text}").unwrap();
    assert!(writer.wait().unwrap().success());
    path
}

async fn run(caller: &Caller, id: i64) -> Result<pb::BootHookOutcome, tonic::Status> {
    let request = pb::RunBootHookRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        boot_hook_id: id,
        ..Default::default()
    };
    Ok(caller.boot_hooks().run_boot_hook(request).await?.into_inner().outcome.unwrap())
}

/// Runs a script once through `RunBootHook`.
pub(crate) async fn run_script(sg: &TestServer, text: &str, seconds: i32) -> pb::BootHookOutcome {
    let name = format!("s{}", list_hooks(&sg.admin()).await.len());
    write_script(sg, &name, text);
    let request =
        pb::CreateBootHookRequest { timeout_seconds: seconds, ..hook_request(&name, PRE, &name) };
    let made = create_hook(&sg.admin(), request).await.unwrap();
    run(&sg.admin(), made.id).await.unwrap()
}

/// Returns whether a process runs. A zombie does not count.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn place() -> SandboxRef {
    let gateway = GatewayRef { id: GatewayId(1), name: Arc::from("edge") };
    let name = SandboxName { workspace: "default".into(), name: "box".into() };
    SandboxRef { gateway, name }
}

/// Runs the hooks of a phase as the creation of a sandbox does. Returns how many ran and whether they aborted the
/// creation.
async fn creation(sg: &TestServer, tick: workers::Tick) -> (usize, bool) {
    let job =
        Worker { name: "creation", interval: |_| Duration::MAX, lease: false, wake: None, tick };
    let worked = workers::run_once(&sg.app, &job).await.unwrap().unwrap();
    (worked.done, worked.more)
}

async fn before(sg: &TestServer) -> (usize, bool) {
    creation(sg, |ctx, _| {
        Box::pin(async {
            let spec = SandboxSpec {
                image: "ubuntu:24.04".into(),
                policy_id: "p1".into(),
                ..SandboxSpec::default()
            };
            let ran = pre_create(ctx, &place(), &spec, &CancellationToken::new(), None).await?;
            Ok(TickResult { done: ran.outcomes.len(), more: ran.aborted })
        })
    })
    .await
}

async fn after(sg: &TestServer) -> (usize, bool) {
    creation(sg, |ctx, _| {
        Box::pin(async {
            let ran = post_create(ctx, &place(), &Echo, &CancellationToken::new(), None).await?;
            Ok(TickResult { done: ran.outcomes.len(), more: ran.aborted })
        })
    })
    .await
}

/// A sandbox whose commands print their arguments, directory and environment. The first argument is the exit code, and
/// the command `away` fails as if the gateway were unreachable.
struct Echo;

impl SandboxExec for Echo {
    async fn run(&self, command: Command) -> Result<CommandResult, Error> {
        if command.argv[0] == "away" {
            let why = "gateway `edge` does not answer";
            return Err(Error::unavailable(Reason::GatewayUnreachable, why));
        }
        let environment: Vec<_> = command.environment.iter().collect();
        let exit_code = command.argv.get(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let said = format!("{:?} {} {environment:?}", command.argv, command.workdir);
        Ok(CommandResult { exit_code, output: said.into_bytes(), truncated: false })
    }
}

/// Writes a script `wait` that runs until it is killed. It reports the ID of its child process when it waits.
pub(crate) fn wait_for_waiting(sg: &TestServer) {
    let begun = folder(sg).parent().unwrap().join("begun");
    assert!(std::process::Command::new("mkfifo").arg(&begun).status().unwrap().success());
    write_script(sg, "wait", &format!("sleep 1000 & echo $! > {}; wait", begun.display()));
}

/// Waits until the hook waits. Returns the ID of its child process.
async fn waits(ctx: &Ctx) -> String {
    let begun = ctx.app().config.server.data_dir.join("begun");
    let reading = tokio::task::spawn_blocking(move || fs::read_to_string(begun).unwrap());
    reading.await.unwrap().trim().to_owned()
}

fn statuses(hooks: &[pb::BootHook]) -> Vec<(&str, pb::BootHookStatus)> {
    hooks.iter().map(|hook| (hook.name.as_str(), hook.last_status())).collect()
}

const NOT_RUN: pb::BootHookStatus = pb::BootHookStatus::Unspecified;
const GOOD: pb::BootHookStatus = pb::BootHookStatus::Success;
const BAD: pb::BootHookStatus = pb::BootHookStatus::Failure;

sqlite_tests! {
    tuned tight;
    a_hook_gets_exactly_the_documented_environment,
    a_hook_has_resource_limits_and_its_child_processes_end_with_it,
    a_hook_outside_the_folder_or_writable_by_others_is_not_run,
    a_post_create_hook_runs_through_a_gateway_of_either_generation,
    a_cancelled_creation_stops_its_hook,
    a_dropped_creation_stops_its_hook,
}

server_tests! {
    tuned tight;
    continue_on_failure_applies_in_both_phases,
    a_hook_that_could_not_run_is_reported_as_failed,
    an_operator_runs_a_hook_manually_and_its_outcome_is_stored,
}

async fn a_hook_gets_exactly_the_documented_environment(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    fs::copy("/usr/bin/env", folder(&sg).join("env")).unwrap();
    let environment = HashMap::from([("HOOK_MODE".to_owned(), "on".to_owned())]);
    let made = create_hook(
        &admin,
        pb::CreateBootHookRequest { environment, ..hook_request("show it", PRE, "env") },
    )
    .await
    .unwrap();
    assert_eq!(before(&sg).await, (1, false));
    let mut lines: Vec<String> =
        list_hooks(&admin).await[0].last_output.lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "HOOK_MODE=on",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "SG_GATEWAY_NAME=edge",
            "SG_HOOK_NAME=show it",
            "SG_SANDBOX_IMAGE=ubuntu:24.04",
            "SG_SANDBOX_NAME=box",
            "SG_SANDBOX_POLICY_ID=p1",
        ]
    );
    let by_hand = run(&admin, made.id).await.unwrap();
    assert!(
        by_hand.output.contains("SG_SANDBOX_IMAGE=\n") && by_hand.summary == "exit 0",
        "{by_hand:?}"
    );

    let told = run_script(&sg, "ulimit -n; ulimit -c; ulimit -t; grep -cE '^Max (processes|address space) +unlimited' /proc/$$/limits; umask; pwd; read x || echo no input; echo \"$0 $#\" >&2", 30).await;
    let lines: Vec<&str> = told.output.lines().collect();
    let own = folder(&sg).canonicalize().unwrap().join("s1");
    assert_eq!(
        lines,
        ["33", "0", "60", "0", "0077", "/", "no input", &format!("{} 0", own.display())]
    );
    edge.stop().await;
    sg.finish().await;
}

async fn a_hook_has_resource_limits_and_its_child_processes_end_with_it(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let large = run_script(
        &sg,
        "cd /tmp && f=$(mktemp) && head -c 2000000 /dev/zero > $f; code=$?; rm $f; exit $code",
        30,
    )
    .await;
    assert_eq!(large.status(), BAD, "{large:?}");

    let begun = Instant::now();
    let late = run_script(&sg, "sleep 1000 & echo $!; exec sleep 1000", 1).await;
    assert_eq!((late.status(), late.summary.as_str()), (BAD, "took longer than 1 s"));
    assert!(!is_alive(late.output.trim()), "{late:?}");

    let left = run_script(&sg, "sleep 1000 & echo $!", 30).await;
    assert_eq!((left.status(), left.summary.as_str()), (GOOD, "exit 0"));
    assert!(!is_alive(left.output.trim()), "{left:?}");

    let loud = run_script(&sg, "sleep 1000 & echo $!; yes", 60).await;
    assert_eq!(
        (loud.status(), loud.summary.as_str()),
        (BAD, "wrote more output than `boot_hooks.output_kib_max` allows")
    );
    assert!(
        !is_alive(loud.output.lines().next().unwrap())
            && loud.output.chars().count() <= CHARACTERS_MAX
    );

    let killed = run_script(&sg, "kill -9 $$", 30).await;
    assert_eq!((killed.status(), killed.summary.as_str()), (BAD, "ended by signal 9"));
    assert!(begun.elapsed() < Duration::from_mins(3));
    edge.stop().await;
    sg.finish().await;
}

async fn a_hook_outside_the_folder_or_writable_by_others_is_not_run(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    let outside = folder(&sg).parent().unwrap().join("outside");
    fs::copy(write_script(&sg, "good", "echo fine"), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, folder(&sg).join("link")).unwrap();
    write_script(&sg, "shared", "echo shared");
    fs::set_permissions(folder(&sg).join("shared"), Permissions::from_mode(0o777)).unwrap();
    for (n, (command, why)) in [
        ("none", "not a file in the folder"),
        ("link", "not a file in the folder"),
        ("../outside", "must be the name"),
        (outside.to_str().unwrap(), "not a file in the folder"),
        ("/bin/sh -c 'echo hi'", "not a file in the folder"),
        ("shared", "written by others"),
        ("'good;id'", "not a file in the folder"),
    ]
    .into_iter()
    .enumerate()
    {
        let made = create_hook(&admin, hook_request(&format!("h{n}"), PRE, command)).await.unwrap();
        let outcome = run(&admin, made.id).await.unwrap();
        assert!(outcome.status() == BAD && outcome.summary.contains(why), "{command}: {outcome:?}");
        assert_eq!(list_hooks(&admin).await[n].last_output, outcome.summary);
    }
    let made = create_hook(&admin, hook_request("good", PRE, "good $HOME `id`")).await.unwrap();
    assert_eq!(run(&admin, made.id).await.unwrap().output, "fine\n");
    fs::set_permissions(folder(&sg), Permissions::from_mode(0o777)).unwrap();
    let outcome = run(&admin, made.id).await.unwrap();
    assert!(
        outcome.status() == BAD && outcome.summary.contains("the folder of hooks"),
        "{outcome:?}"
    );
    edge.stop().await;
    sg.finish().await;
}

async fn continue_on_failure_applies_in_both_phases(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    write_script(&sg, "do", "exit $1");
    let goes_on = |request| pb::CreateBootHookRequest { continue_on_failure: true, ..request };
    for phase in [PRE, POST] {
        create_hook(&admin, goes_on(hook_request("one", phase, "do 1"))).await.unwrap();
        create_hook(
            &admin,
            pb::CreateBootHookRequest {
                enabled: Some(false),
                ..hook_request("off", phase, "do 1")
            },
        )
        .await
        .unwrap();
        create_hook(&admin, hook_request("two", phase, "do 0")).await.unwrap();
    }
    assert_eq!((before(&sg).await, after(&sg).await), ((2, false), (2, false)));
    let one_phase = [("one", BAD), ("off", NOT_RUN), ("two", GOOD)];
    assert_eq!(statuses(&list_hooks(&admin).await), [one_phase, one_phase].concat());

    for phase in [PRE, POST] {
        create_hook(&admin, hook_request("three", phase, "do 3")).await.unwrap();
        create_hook(&admin, hook_request("four", phase, "do 0")).await.unwrap();
    }
    assert_eq!((before(&sg).await, after(&sg).await), ((3, true), (3, true)));
    let all = list_hooks(&admin).await;
    assert_eq!(statuses(&all)[3..5], [("three", BAD), ("four", NOT_RUN)]);
    assert_eq!(statuses(&all)[8..], [("three", BAD), ("four", NOT_RUN)]);
    // All hooks belong to the default workspace.
    assert!(all.iter().all(|hook| hook.workspace == "default"));
    edge.stop().await;
    sg.finish().await;
}

async fn a_hook_that_could_not_run_is_reported_as_failed(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    let environment = HashMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]);
    create_hook(
        &admin,
        pb::CreateBootHookRequest {
            workdir: "/w".into(),
            environment,
            ..hook_request("say", POST, "say '0' \"a b\"")
        },
    )
    .await
    .unwrap();
    create_hook(&admin, hook_request("away", POST, "away")).await.unwrap();
    assert_eq!(after(&sg).await, (2, true));
    let ran = list_hooks(&admin).await;
    assert_eq!(statuses(&ran), [("say", GOOD), ("away", BAD)]);
    assert_eq!(ran[0].last_output, r#"["say", "0", "a b"] /w [("TOKEN", "***")]"#);
    assert_eq!(ran[1].last_output, "gateway `edge` does not answer");
    assert_eq!(ran[1].etag, "v1", "a run does not change the version");
    edge.stop().await;
    sg.finish().await;
}

async fn a_post_create_hook_runs_through_a_gateway_of_either_generation(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in [("edge", Generation::V0_1), ("old", Generation::V0_0)] {
        let simulator = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
        simulator.seed_demo().unwrap();
        sg.register_gateway(name, simulator.addr()).await;
        let inside = |sandbox: &str, command: &str| pb::CreateBootHookRequest {
            gateway: name.into(),
            sandbox: sandbox.into(),
            workdir: "/w".into(),
            environment: HashMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]),
            ..hook_request(sandbox, POST, command)
        };
        let run = async |made: pb::BootHook| {
            let (gateway, sandbox, id) = (made.gateway, made.sandbox, made.id);
            let request =
                pb::RunBootHookRequest { gateway, sandbox, boot_hook_id: id, ..Default::default() };
            admin.boot_hooks().run_boot_hook(request).await.unwrap().into_inner().outcome.unwrap()
        };
        let made = create_hook(&admin, inside("coder", "sh -c 'pwd; env; echo bad >&2; exit 4'"))
            .await
            .unwrap();
        let ran = run(made.clone()).await;
        assert_eq!(
            (ran.status(), ran.summary.as_str(), ran.output.as_str()),
            (BAD, "exit 4", "/w\nTOKEN=***\nbad\n")
        );
        let none = run(create_hook(&admin, inside("none", "true")).await.unwrap()).await;
        assert!(none.status() == BAD && none.output.is_empty(), "{none:?}");
        assert!(none.summary.contains("none"), "{none:?}");
        simulator.stop().await;
        let away = run(made).await;
        assert!(away.status() == BAD && away.summary.contains(name), "{away:?}");
    }
    sg.finish().await;
}

async fn a_cancelled_creation_stops_its_hook(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    wait_for_waiting(&sg);
    create_hook(
        &admin,
        pb::CreateBootHookRequest {
            continue_on_failure: true,
            ..hook_request("wait", PRE, "wait")
        },
    )
    .await
    .unwrap();
    create_hook(&admin, hook_request("next", PRE, "wait")).await.unwrap();
    let ran = creation(&sg, |ctx, _| {
        Box::pin(async move {
            let cancel = CancellationToken::new();
            let (place, spec) = (place(), SandboxSpec::default());
            let (ran, pid) = tokio::join!(pre_create(ctx, &place, &spec, &cancel, None), async {
                let pid = waits(ctx).await;
                assert!(is_alive(&pid));
                cancel.cancel();
                pid
            });
            assert!(!is_alive(&pid), "it ends with its hook");
            let ran = ran?;
            assert_eq!(ran.outcomes[0].summary, "cancelled");
            Ok(TickResult { done: ran.outcomes.len(), more: ran.aborted })
        })
    })
    .await;
    assert_eq!(ran, (1, true), "even if the hook continues on failure");
    assert_eq!(statuses(&list_hooks(&admin).await), [("wait", BAD), ("next", NOT_RUN)]);
    edge.stop().await;
    sg.finish().await;
}

async fn a_dropped_creation_stops_its_hook(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    wait_for_waiting(&sg);
    create_hook(&sg.admin(), hook_request("wait", PRE, "wait")).await.unwrap();
    creation(&sg, |ctx, _| Box::pin(async move {
            let (place, spec, cancel) = (place(), SandboxSpec::default(), CancellationToken::new());
            let pid = tokio::select! {
                ran = pre_create(ctx, &place, &spec, &cancel, None) => panic!("it has ended: {ran:?}"),
                pid = waits(ctx) => pid,
            };
            eventually("the hook has ended", || async { !is_alive(&pid) }).await;
            Ok(TickResult::IDLE)
        })).await;
    edge.stop().await;
    sg.finish().await;
}

async fn an_operator_runs_a_hook_manually_and_its_outcome_is_stored(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    write_script(&sg, "check", "echo checked $HOOK_TOKEN; exit 7");
    let environment = HashMap::from([("HOOK_TOKEN".to_owned(), "hunter2".to_owned())]);
    let off = pb::CreateBootHookRequest {
        enabled: Some(false),
        environment,
        ..hook_request("check", PRE, "check")
    };
    let made = create_hook(&admin, off).await.unwrap();
    let viewer = sg.with_token(&admin.create_key("viewer", pb::Role::Viewer).await);
    assert_refused!(run(&viewer, made.id).await, PermissionDenied, "ROLE_TOO_LOW");
    let operator = sg.with_token(&admin.create_key("operator", pb::Role::Operator).await);
    let outcome = run(&operator, made.id).await.unwrap();
    assert_eq!(
        (outcome.boot_hook_id, outcome.name.as_str(), outcome.phase()),
        (made.id, "check", PRE)
    );
    assert_eq!(
        (outcome.status(), outcome.summary.as_str(), outcome.output.as_str()),
        (BAD, "exit 7", "checked ***\n")
    );

    let kept = list_hooks(&admin).await.remove(0);
    assert_eq!((kept.last_status(), kept.last_output.as_str()), (BAD, "checked ***\n"));
    for other in [&viewer, &operator] {
        let kept = list_hooks(other).await.remove(0);
        assert_eq!(
            (kept.last_status(), kept.last_output.as_str()),
            (BAD, ""),
            "what it wrote is for admins"
        );
    }
    assert!(kept.last_run_time.is_some());
    let event = last_event(&admin, "boot_hook.run").await;
    assert!(
        event.payload_json.contains("\"status\":\"failure\"") && event.actor == "sp:operator",
        "{event:?}"
    );
    sg.app.audit.wait_settled().await;
    let request =
        pb::ListAuditEntriesRequest { action: "boot_hook.run".into(), ..Default::default() };
    let entries =
        admin.audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries;
    assert!(
        entries
            .iter()
            .any(|e| e.outcome() == pb::AuditOutcome::Ok && format!("{e:?}").contains("failure")),
        "{entries:?}"
    );
    edge.stop().await;
    sg.finish().await;
}
