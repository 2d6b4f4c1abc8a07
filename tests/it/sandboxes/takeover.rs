//! A creation continues on another replica after its own replica has crashed.

use shoreguard::boot::TAKEOVER;
use shoreguard::db::Engine;
use shoreguard::openshell::annotation;
use shoreguard::openshell::sandbox::NewSandbox;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::resources::sandboxes::create::SandboxCreation;
use shoreguard_simulator::{Script, Times};
use tonic::Code;

use super::*;
use crate::operation_leases::{run_once, start_and_kill};
use crate::support::server::run_without_jobs;
use crate::support::work::OperationSpec;

/// Returns the number of runs of hooks in the events.
async fn runs(sg: &TestServer, name: &str) -> usize {
    let dump = crate::support::dump::table(&sg.app.db, "events").await;
    dump.lines().filter(|line| line.contains("boot_hook.run") && line.contains(name)).count()
}

fn begun(sg: &TestServer, gateway: &str, name: &str) -> OperationSpec {
    let new = NewSandbox {
        workspace: "default".to_owned(),
        name: name.to_owned(),
        ..NewSandbox::default()
    };
    let create = SandboxCreation {
        new,
        description: Some("taken over".to_owned()),
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        skip_hooks: false,
        brings_policy: Some(false),
        presets: Vec::new(),
    };
    OperationSpec {
        input: Some(serde_json::to_vec(&create).unwrap()),
        ..sg.operation_spec(gateway, name)
    }
}

#[test]
fn a_takeover_resumes_a_creation_from_any_step() {
    run_without_jobs(Engine::Postgres, async |sg: TestServer| {
        let simulator = start_gateway(&sg, "old", Generation::V0_0).await;
        let other = start_gateway(&sg, "new", Generation::V0_1).await;
        let direct = format!("http://{}", simulator.addr());
        let mut direct = old::open_shell_client::OpenShellClient::connect(direct).await.unwrap();

        // Nothing was sent, or the response was lost, in both generations.
        let fresh = start_and_kill(&sg, begun(&sg, "old", "fresh"), "begun").await;
        let newer = start_and_kill(&sg, begun(&sg, "new", "newer"), "creating").await;
        create_noted(&other, "newer", &newer).await;
        let found = start_and_kill(&sg, begun(&sg, "old", "found"), "creating").await;
        let request = old::CreateSandboxRequest {
            name: "found".into(),
            spec: Some(old::SandboxSpec::default()),
            annotations: [(annotation::OPERATION.to_owned(), found.clone())].into(),
            ..Default::default()
        };
        direct.create_sandbox(request).await.unwrap();
        assert_eq!(run_once(&sg.app, &TAKEOVER).await, 0, "their leases are not over");
        sg.app.db.advance_clock(Duration::from_secs(31));
        assert_eq!(run_once(&sg.app, &TAKEOVER).await, 3);
        for (operation, gateway, name) in
            [(fresh, "old", "fresh"), (newer, "new", "newer"), (found, "old", "found")]
        {
            let ended = wait_operation(&sg.admin(), &operation).await;
            assert_eq!(ended.status(), pb::OperationStatus::Succeeded, "{ended:?}");
            let made = get_sandbox(&sg.admin(), gateway, name).await.unwrap();
            assert_eq!(made.description, "taken over");
            assert_eq!(made.gateway_annotations[annotation::OPERATION], operation);
        }
        let created = simulator.calls()["/openshell.v1.OpenShell/CreateSandbox"];
        assert_eq!(created, 2, "one by hand, one for what was never sent");
        assert_eq!(call_count(&other, "/CreateSandbox"), 1, "by hand alone");
        sg.finish().await;
    });
}

#[test]
fn a_takeover_does_not_repeat_completed_steps_and_hooks() {
    run_without_jobs(Engine::Postgres, async |sg: TestServer| {
        let simulator = start_gateway(&sg, "old", Generation::V0_0).await;
        let direct = format!("http://{}", simulator.addr());
        let mut direct = old::open_shell_client::OpenShellClient::connect(direct).await.unwrap();

        // The sandbox was noted and one of its hooks has run: neither is repeated. A run by hand in between does not
        // count as its run.
        create_hook(&sg, "old", "noted", pb::BootHookPhase::PostCreate, "echo once").await;
        create_hook(&sg, "old", "noted", pb::BootHookPhase::PostCreate, "pwd").await;
        let list = pb::ListBootHooksRequest {
            gateway: "old".into(),
            sandbox: "noted".into(),
            ..Default::default()
        };
        let hooks =
            sg.admin().boot_hooks().list_boot_hooks(list).await.unwrap().into_inner().boot_hooks;
        let step = format!("noted {}+", hooks[0].id);
        let noted = start_and_kill(&sg, begun(&sg, "old", "noted"), step.leak()).await;
        let request = old::CreateSandboxRequest {
            name: "noted".into(),
            spec: Some(old::SandboxSpec::default()),
            annotations: [(annotation::OPERATION.to_owned(), noted.clone())].into(),
            ..Default::default()
        };
        direct.create_sandbox(request).await.unwrap();
        let run = pb::RunBootHookRequest {
            gateway: "old".into(),
            sandbox: "noted".into(),
            boot_hook_id: hooks[1].id,
            request_id: request_id(&sg),
            ..Default::default()
        };
        sg.admin().boot_hooks().run_boot_hook(run).await.unwrap();
        sg.app.db.advance_clock(Duration::from_secs(31));
        assert_eq!(run_once(&sg.app, &TAKEOVER).await, 1);
        let ended = wait_operation(&sg.admin(), &noted).await;
        let ran = operation_result(&ended)["hooks"]["post_create"].clone();
        assert_eq!(
            (&ran[0]["name"], &ran[1]["name"]),
            (&"echo".into(), &"pwd".into()),
            "{ended:?}"
        );
        assert_eq!(ran[0]["summary"], "its replica stopped", "{ended:?}");
        assert_eq!(runs(&sg, "noted").await, 2, "one manual run, and the run after the takeover");
        assert_eq!(
            get_sandbox(&sg.admin(), "old", "noted").await.unwrap().description,
            "",
            "it is not described again"
        );
        let created = simulator.calls()["/openshell.v1.OpenShell/CreateSandbox"];
        assert_eq!(created, 1, "by hand alone");
        sg.finish().await;
    });
}

#[test]
fn a_takeover_of_a_proxied_creation_retries_and_does_not_repeat_its_event() {
    run_without_jobs(Engine::Postgres, async |sg: TestServer| {
        for (name, generation) in GATEWAYS {
            let simulator = start_gateway(&sg, name, generation).await;
            create_hook(&sg, name, "theirs", pb::BootHookPhase::PostCreate, "echo warm").await;
            // Created directly on the gateway, as by a replica that crashed afterwards.
            let made = create_directly(generation, &simulator, "theirs").await;
            let left = serde_json::json!({
                "workspace": "default",
                "sandbox": "theirs",
                "sandbox_id": made,
                "pre_create": [],
                "details": {},
            });
            let input = Some(left.to_string().into_bytes());
            let noted = start_and_kill(
                &sg,
                OperationSpec { input, ..sg.operation_spec(name, "theirs") },
                "noted",
            )
            .await;
            let away =
                Script::TrailersOnly { code: Code::Unavailable, message: "restarting".to_owned() };
            simulator.script("GetSandbox", away, Times::Next(2));
            sg.app.db.advance_clock(Duration::from_secs(31));
            assert_eq!(run_once(&sg.app, &TAKEOVER).await, 1);
            let ended = wait_passing(&sg, &noted).await;
            assert_eq!(ended.status(), pb::OperationStatus::Succeeded, "{ended:?}");
            assert_eq!(
                operation_result(&ended)["hooks"]["post_create"][0]["status"],
                "success",
                "{ended:?}"
            );
            let events = crate::support::dump::table(&sg.app.db, "events").await;
            assert!(
                !events.contains("sandbox.created"),
                "the replica that died has emitted the event"
            );
        }
        sg.finish().await;
    });
}

#[test]
fn a_takeover_finds_a_proxied_creation_by_its_annotation() {
    run_without_jobs(Engine::Postgres, async |sg: TestServer| {
        let simulator = start_gateway(&sg, "old", Generation::V0_0).await;
        let left = serde_json::json!({
            "workspace": "default",
            "sandbox": "sent",
            "sandbox_id": "",
            "pre_create": [],
            "details": {},
        });
        let input = Some(left.to_string().into_bytes());
        let sent = start_and_kill(
            &sg,
            OperationSpec { input, ..sg.operation_spec("old", "sent") },
            "creating",
        )
        .await;
        let at = format!("http://{}", simulator.addr());
        let mut client = old::open_shell_client::OpenShellClient::connect(at).await.unwrap();
        let request = old::CreateSandboxRequest {
            name: "sent".into(),
            spec: Some(old::SandboxSpec::default()),
            annotations: [(annotation::OPERATION.to_owned(), sent.clone())].into(),
            ..Default::default()
        };
        client.create_sandbox(request).await.unwrap();
        sg.app.db.advance_clock(Duration::from_secs(31));
        assert_eq!(run_once(&sg.app, &TAKEOVER).await, 1);
        let ended = wait_operation(&sg.admin(), &sent).await;
        assert_eq!(ended.status(), pb::OperationStatus::Succeeded, "{ended:?}");
        let created = simulator.calls()["/openshell.v1.OpenShell/CreateSandbox"];
        assert_eq!(created, 1, "it is not sent again");
        let events = crate::support::dump::table(&sg.app.db, "events").await;
        assert!(events.contains("sandbox.created"));
        sg.finish().await;
    });
}

/// Creates a sandbox directly on a gateway of generation 0.1, with the annotation of an operation.
pub(super) async fn create_noted(simulator: &Simulator, name: &str, operation: &str) {
    use shoreguard::pb::v0_1::openshell::v1 as new;
    let direct = format!("http://{}", simulator.addr());
    let mut client = new::open_shell_client::OpenShellClient::connect(direct).await.unwrap();
    let request = new::CreateSandboxRequest {
        name: name.to_owned(),
        spec: Some(new::SandboxSpec::default()),
        annotations: [(annotation::OPERATION.to_owned(), operation.to_owned())].into(),
        ..Default::default()
    };
    client.create_sandbox(request).await.unwrap();
}

/// Creates a sandbox directly on the gateway. Returns its ID.
pub(super) async fn create_directly(
    generation: Generation,
    simulator: &Simulator,
    name: &str,
) -> String {
    let direct = format!("http://{}", simulator.addr());
    match generation {
        Generation::V0_0 => {
            let mut client =
                old::open_shell_client::OpenShellClient::connect(direct).await.unwrap();
            let spec = Some(old::SandboxSpec::default());
            let request =
                old::CreateSandboxRequest { name: name.into(), spec, ..Default::default() };
            let made = client.create_sandbox(request).await.unwrap().into_inner();
            made.sandbox.unwrap().metadata.unwrap().id
        }
        Generation::V0_1 => {
            use shoreguard::pb::v0_1::openshell::v1 as new;
            let mut client =
                new::open_shell_client::OpenShellClient::connect(direct).await.unwrap();
            let spec = Some(new::SandboxSpec::default());
            let request =
                new::CreateSandboxRequest { name: name.into(), spec, ..Default::default() };
            let made = client.create_sandbox(request).await.unwrap().into_inner();
            made.sandbox.unwrap().metadata.unwrap().id
        }
    }
}
