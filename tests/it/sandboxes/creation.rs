//! Creating sandboxes, and creations that fail.

use shoreguard_simulator::{Script, Times};
use tonic::Code;

use super::*;

/// Returns host and binary of the only rule of a sandbox's policy, read directly from the gateway.
async fn rule_of(generation: Generation, simulator: &Simulator, name: &str) -> (String, String) {
    let direct = format!("http://{}", simulator.addr());
    match generation {
        Generation::V0_0 => {
            use shoreguard::pb::v0_0::openshell::v1 as old;
            let mut client =
                old::open_shell_client::OpenShellClient::connect(direct).await.unwrap();
            let request = old::GetSandboxRequest { name: name.into(), ..Default::default() };
            let found = client.get_sandbox(request).await.unwrap().into_inner().sandbox.unwrap();
            let mut policy = found.spec.unwrap().policy.unwrap();
            let rule = policy.network_policies.remove("pypi").unwrap();
            (rule.endpoints[0].host.clone(), rule.binaries[0].path.clone())
        }
        Generation::V0_1 => {
            use shoreguard::pb::v0_1::openshell::v1 as new;
            let mut client =
                new::open_shell_client::OpenShellClient::connect(direct).await.unwrap();
            let request = new::GetSandboxRequest { name: name.into(), ..Default::default() };
            let found = client.get_sandbox(request).await.unwrap().into_inner().sandbox.unwrap();
            let mut policy = found.spec.unwrap().policy.unwrap();
            let rule = policy.network_policies.remove("pypi").unwrap();
            (rule.endpoints[0].host.clone(), rule.binaries[0].path.clone())
        }
    }
}

/// Stores a template on a gateway of generation 0.1.
pub(super) async fn create_template(simulator: &Simulator, name: &str, image: &str) {
    use shoreguard::pb::v0_1::openshell::datamodel::v1::ObjectMeta;
    use shoreguard::pb::v0_1::openshell::v1 as new;
    let direct = format!("http://{}", simulator.addr());
    let mut direct = new::open_shell_client::OpenShellClient::connect(direct).await.unwrap();
    let workload = new::SandboxWorkloadConfig { image: image.into(), ..Default::default() };
    let spec = new::SandboxWorkloadTemplateSpec { workload: Some(workload), ..Default::default() };
    let metadata = Some(ObjectMeta { name: name.into(), ..Default::default() });
    let template = Some(new::SandboxWorkloadTemplate { metadata, spec: Some(spec) });
    let kept = new::CreateSandboxTemplateRequest { template, ..Default::default() };
    direct.create_sandbox_template(kept).await.unwrap();
}

server_tests! {
    a_sandbox_is_created_described_and_deleted,
    a_sandbox_name_assigned_by_the_gateway_is_stored,
    the_policy_of_a_creation_is_sent_to_the_gateway,
    a_creation_with_a_lost_response_is_found_and_not_repeated,
    a_failed_creation_is_audited,
    a_cancelled_creation_leaves_no_sandbox,
    equal_names_on_two_gateways_and_unnamed_sandboxes_are_created_concurrently,
    an_invalid_creation_is_refused_before_an_operation_starts,
    a_template_supplies_the_fields_that_the_caller_leaves_unset,
    bundled_templates_are_listed_before_gateway_templates_and_without_the_gateway,
}

async fn a_sandbox_is_created_described_and_deleted(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let _simulator = start_gateway(&sg, name, generation).await;
        let admin = sg.admin();
        let request = pb::CreateSandboxRequest {
            image: "registry.example.com/agent:1".into(),
            gpu: true,
            environment: labels(&[("TOKEN", "hush-hush")]),
            log_level: "debug".into(),
            description: "an agent".into(),
            labels: labels(&[("env", "prod")]),
            ..create_request(&sg, name, "agent-1")
        };
        let made = create_sandbox(&sg, request).await;
        let result = operation_result(&made);
        assert_eq!(result["ready"], true, "{result}");
        assert_eq!(result["sandbox"]["sandbox"], "agent-1");
        assert_eq!(result["hooks"]["pre_create"], serde_json::json!([]));
        assert_eq!(result["hooks"]["post_create"], serde_json::json!([]));
        let found = get_sandbox(&admin, name, "agent-1").await.unwrap();
        assert_eq!(found.phase(), pb::SandboxPhase::Ready);
        assert_eq!((found.workspace.as_str(), found.gpu), ("default", true));
        assert_eq!(found.image, "registry.example.com/agent:1");
        assert_eq!(found.description, "an agent");
        assert_eq!(found.labels, labels(&[("env", "prod")]));
        assert_eq!(found.gateway_annotations["shoreguard/operation"], made.id);
        assert_eq!(found.gateway_annotations["shoreguard/actor"], "sp:root");

        let again =
            admin.sandboxes().create_sandbox(create_request(&sg, name, "agent-1")).await.unwrap();
        let again = wait_operation(&admin, &again.into_inner().operation.unwrap().id).await;
        assert_eq!(again.status(), pb::OperationStatus::Failed);
        assert!(again.error_message.contains("already exists"), "{again:?}");

        let look = pb::DeleteSandboxRequest {
            gateway: name.into(),
            sandbox: "agent-1".into(),
            validate_only: true,
            request_id: request_id(&sg),
            ..Default::default()
        };
        let would = admin.sandboxes().delete_sandbox(look).await.unwrap().into_inner();
        assert!(would.metadata_removed && get_sandbox(&admin, name, "agent-1").await.is_ok());
        assert!(delete_sandbox(&sg, name, "agent-1").await.metadata_removed);
        wait_until("the sandbox is deleted", || async {
            get_sandbox(&admin, name, "agent-1").await.is_err()
        })
        .await;
        assert_refused!(get_sandbox(&admin, name, "agent-1").await, NotFound, "NOT_FOUND");
    }
    for table in ["operations", "audit_log", "events", "idempotency_keys"] {
        let dump = crate::support::dump::table(&sg.app.db, table).await;
        assert!(!dump.contains("hush-hush"), "a secret is in {table}");
    }
}

async fn a_sandbox_name_assigned_by_the_gateway_is_stored(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let _simulator = start_gateway(&sg, name, generation).await;
        let request = pb::CreateSandboxRequest {
            description: "nameless".into(),
            ..create_request(&sg, name, "")
        };
        let made = create_sandbox(&sg, request).await;
        assert!(!made.sandbox.is_empty() && made.sandbox != "unnamed", "{made:?}");
        let found = get_sandbox(&sg.admin(), name, &made.sandbox).await.unwrap();
        assert_eq!(found.description, "nameless");
        let entry = audit_entries(&sg, "sandbox.create").await.remove(0);
        assert_eq!(entry.resource_id, made.sandbox, "{entry:?}");
        let dump = crate::support::dump::table(&sg.app.db, "events").await;
        assert!(dump.contains("sandbox.created") && dump.contains(&made.sandbox));
    }
}

async fn the_policy_of_a_creation_is_sent_to_the_gateway(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        let policy = "version: 1\nprocess: { run_as_user: sandbox, run_as_group: sandbox }\n\
                network_policies:\n  pypi:\n    name: pypi\n    endpoints: [{ host: pypi.org, port: 443 }]\n    \
                binaries: [{ path: /usr/bin/python3 }]\n";
        let request = pb::CreateSandboxRequest {
            policy: policy.into(),
            ..create_request(&sg, name, "strict")
        };
        create_sandbox(&sg, request).await;
        let (host, path) = rule_of(generation, &simulator, "strict").await;
        assert_eq!(
            (host.as_str(), path.as_str()),
            ("pypi.org", "/usr/bin/python3"),
            "as the gateway has it"
        );
        let odd = pb::CreateSandboxRequest {
            policy: "netwrok: {}".into(),
            ..create_request(&sg, name, "odd")
        };
        let odd = sg.admin().sandboxes().create_sandbox(odd).await;
        assert_refused!(odd, InvalidArgument, "INVALID_FIELD");
    }
}

async fn a_creation_with_a_lost_response_is_found_and_not_repeated(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        for named in ["lost", ""] {
            simulator.script("CreateSandbox", Script::Disconnect, Times::Next(1));
            let made = create_sandbox(&sg, create_request(&sg, name, named)).await;
            assert_eq!(operation_result(&made)["ready"], true);
        }
        // A command and the creation of a session are sent only once, even if the response is lost.
        let disconnect =
            |method: &str| simulator.script(method, Script::Disconnect, Times::Next(1));
        disconnect("CreateSshSession");
        let open = pb::CreateSshSessionRequest {
            gateway: name.into(),
            sandbox: "lost".into(),
            ..Default::default()
        };
        assert!(sg.admin().sandboxes().create_ssh_session(open).await.is_err());
        for method in ["ExecSandbox", "ExecSandboxInteractive"] {
            disconnect(method);
        }
        let run = pb::StartExecSandboxRequest {
            gateway: name.into(),
            sandbox: "lost".into(),
            command: vec!["true".into()],
            ..Default::default()
        };
        let run = sg.admin().sandboxes().start_exec_sandbox(run).await.unwrap().into_inner();
        let ended = wait_operation(&sg.admin(), &run.operation.unwrap().id).await;
        assert_eq!(ended.status(), pb::OperationStatus::Failed, "{ended:?}");
        let calls = simulator.calls();
        let sent = |part: &str| {
            calls.iter().filter(|(path, _)| path.contains(part)).map(|(_, n)| n).sum::<u64>()
        };
        assert_eq!((sent("/CreateSshSession"), sent("/ExecSandbox")), (1, 1), "{calls:?}");
        let list = pb::ListSandboxesRequest { gateway: name.into(), ..Default::default() };
        let list = sg.admin().sandboxes().list_sandboxes(list).await.unwrap().into_inner();
        assert_eq!(list.sandboxes.len(), 2, "one each: {list:?}");
    }
}

async fn a_failed_creation_is_audited(sg: TestServer) {
    let simulator = start_gateway(&sg, "edge", Generation::V0_1).await;
    let refusal = Script::Fail {
        code: Code::FailedPrecondition,
        message: "no room \u{1b}[31m left".to_owned(),
        details: bytes::Bytes::new(),
    };
    simulator.script("CreateSandbox", refusal, Times::Next(1));
    let admin = sg.admin();
    let operation = begin_creation(&admin, create_request(&sg, "edge", "doomed")).await;
    let failed = wait_operation(&admin, &operation).await;
    assert_eq!(failed.status(), pb::OperationStatus::Failed);
    assert!(failed.error_message.contains("no room"), "{failed:?}");
    assert!(!failed.error_message.contains('\u{1b}'));
    let entry = audit_entries(&sg, "sandbox.create").await.remove(0);
    assert_eq!((entry.outcome(), entry.resource_id.as_str()), (pb::AuditOutcome::Failed, "doomed"));
    assert!(entry.detail_json.contains(&operation), "{entry:?}");
}

async fn a_cancelled_creation_leaves_no_sandbox(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let options = SimulatorOptions {
            ready_after: Duration::from_mins(10),
            ..SimulatorOptions::new(generation)
        };
        let simulator = Simulator::start(options).await.unwrap();
        sg.register_gateway(name, simulator.addr()).await;
        let admin = sg.admin();
        let operation = begin_creation(&admin, create_request(&sg, name, "slow")).await;
        wait_until("it is being made", || async {
            get_sandbox(&admin, name, "slow").await.is_ok()
        })
        .await;
        let cancel = pb::CancelOperationRequest {
            operation: operation.clone(),
            request_id: request_id(&sg),
        };
        admin.operations().cancel_operation(cancel).await.unwrap();
        let cancelled = wait_operation(&admin, &operation).await;
        assert_eq!(cancelled.error_code(), pb::OperationErrorCode::Cancelled, "{cancelled:?}");
        wait_until("the sandbox is deleted", || async {
                !matches!(get_sandbox(&admin, name, "slow").await, Ok(found) if found.phase() != pb::SandboxPhase::Deleting)
            })
            .await;
        let dump = crate::support::dump::table(&sg.app.db, "sandbox_meta").await;
        assert!(!dump.contains("slow"), "{dump}");
    }
}

async fn equal_names_on_two_gateways_and_unnamed_sandboxes_are_created_concurrently(
    sg: TestServer,
) {
    let _old = start_gateway(&sg, "old", Generation::V0_0).await;
    let _new = start_gateway(&sg, "new", Generation::V0_1).await;
    let admin = sg.admin();
    let mut begun = Vec::new();
    for (gateway, name) in
        [("old", "agent-1"), ("new", "agent-1"), ("old", ""), ("old", ""), ("new", "")]
    {
        begun.push(begin_creation(&admin, create_request(&sg, gateway, name)).await);
    }
    for operation in begun {
        let ended = wait_operation(&admin, &operation).await;
        assert_eq!(ended.status(), pb::OperationStatus::Succeeded, "{ended:?}");
    }
}

async fn an_invalid_creation_is_refused_before_an_operation_starts(sg: TestServer) {
    let simulator = start_gateway(&sg, "edge", Generation::V0_0).await;
    let operator = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
    let base = || create_request(&sg, "edge", "agent");
    let long = |n: usize| "x".repeat(n);
    let bad = [
        pb::CreateSandboxRequest { name: "a b".into(), ..base() },
        pb::CreateSandboxRequest { workspace: "../x".into(), ..base() },
        pb::CreateSandboxRequest { image: long(513), ..base() },
        pb::CreateSandboxRequest { image: "a\nb".into(), ..base() },
        pb::CreateSandboxRequest { providers: vec!["p".into(); 21], ..base() },
        pb::CreateSandboxRequest { environment: labels(&[("A=B", "")]), ..base() },
        pb::CreateSandboxRequest { environment: labels(&[("A", &long(8193))]), ..base() },
        pb::CreateSandboxRequest { log_level: "loud".into(), ..base() },
        pb::CreateSandboxRequest { description: long(1001), ..base() },
        pb::CreateSandboxRequest { labels: labels(&[("access/zone", "eu")]), ..base() },
        pb::CreateSandboxRequest { template: "none".into(), ..base() },
        pb::CreateSandboxRequest { gateway_template: "base".into(), ..base() },
        pb::CreateSandboxRequest { policy: long(256 * 1024 + 1), ..base() },
        pb::CreateSandboxRequest { request_id: "x".into(), ..base() },
    ];
    for request in bad {
        let refused = operator.sandboxes().create_sandbox(request).await;
        assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    }
    let skip = pb::CreateSandboxRequest { skip_hooks: true, ..base() };
    assert_refused!(
        operator.sandboxes().create_sandbox(skip).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    let check = pb::CreateSandboxRequest { validate_only: true, ..base() };
    let checked = operator.sandboxes().create_sandbox(check).await.unwrap().into_inner();
    assert!(checked.operation.is_none());
    assert!(!simulator.calls().keys().any(|path| path.ends_with("CreateSandbox")));
    let viewer = sg.with_token(&sg.admin().create_key("look", pb::Role::Viewer).await);
    assert_refused!(
        viewer.sandboxes().create_sandbox(base()).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    simulator.stop().await;
    let away = operator.sandboxes().create_sandbox(base()).await;
    assert_refused!(away, Unavailable, "GATEWAY_UNREACHABLE");
}

async fn a_template_supplies_the_fields_that_the_caller_leaves_unset(sg: TestServer) {
    let _simulator = start_gateway(&sg, "edge", Generation::V0_1).await;
    let request = pb::CreateSandboxRequest {
        template: "secure-coding".into(),
        image: "mine:1".into(),
        ..create_request(&sg, "edge", "lab")
    };
    let made = create_sandbox(&sg, request).await;
    let presets = operation_result(&made)["presets"].clone();
    assert_eq!(presets["presets"], serde_json::json!(["pypi", "docker"]), "{made:?}");
    assert_eq!(presets["outcome"], "applied", "{made:?}");
    let request = pb::GetPolicyRequest {
        gateway: "edge".into(),
        sandbox: "lab".into(),
        ..Default::default()
    };
    let policy = sg.admin().policies().get_policy(request).await.unwrap().into_inner();
    let yaml = policy.policy.unwrap().yaml;
    assert!(yaml.contains("pypi.org") && yaml.contains("docker"), "{yaml}");
    let found = get_sandbox(&sg.admin(), "edge", "lab").await.unwrap();
    assert_eq!((found.image.as_str(), found.gpu), ("mine:1", false));
    let list = pb::ListSandboxTemplatesRequest {
        gateway: "edge".into(),
        page_size: 3,
        ..Default::default()
    };
    let first =
        sg.admin().sandboxes().list_sandbox_templates(list.clone()).await.unwrap().into_inner();
    let names: Vec<&str> = first.sandbox_templates.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["data-science", "openclaw", "secure-coding"]);
    let rest = pb::ListSandboxTemplatesRequest { page_token: first.next_page_token, ..list };
    let rest = sg.admin().sandboxes().list_sandbox_templates(rest).await.unwrap().into_inner();
    assert_eq!(rest.sandbox_templates[0].name, "web-dev");
    assert!(!rest.gateway_unreachable && rest.sandbox_templates.len() == 1);
}

async fn bundled_templates_are_listed_before_gateway_templates_and_without_the_gateway(
    sg: TestServer,
) {
    let simulator = start_gateway(&sg, "edge", Generation::V0_1).await;
    create_template(&simulator, "base", "theirs:1").await;
    let list = pb::ListSandboxTemplatesRequest { gateway: "edge".into(), ..Default::default() };
    let listed =
        sg.admin().sandboxes().list_sandbox_templates(list.clone()).await.unwrap().into_inner();
    let own: Vec<_> =
        listed.sandbox_templates.iter().map(|t| (t.name.as_str(), t.of_gateway)).collect();
    assert_eq!(own[4..], [("base", true)], "ours come first: {own:?}");
    let request = pb::CreateSandboxRequest {
        gateway_template: "base".into(),
        ..create_request(&sg, "edge", "from-theirs")
    };
    create_sandbox(&sg, request).await;
    // Only the gateway knows which of its templates exist.
    let unknown = pb::CreateSandboxRequest {
        gateway_template: "none".into(),
        ..create_request(&sg, "edge", "from-none")
    };
    let unknown = wait_operation(&sg.admin(), &begin_creation(&sg.admin(), unknown).await).await;
    assert_eq!(unknown.error_code(), pb::OperationErrorCode::Refused, "{unknown:?}");
    let refusal =
        Script::TrailersOnly { code: Code::PermissionDenied, message: "not for you".to_owned() };
    simulator.script("ListSandboxTemplates", refusal, Times::Next(1));
    let alone =
        sg.admin().sandboxes().list_sandbox_templates(list.clone()).await.unwrap().into_inner();
    assert_eq!((alone.sandbox_templates.len(), alone.gateway_unreachable), (4, true));
    assert!(alone.gateway_error.contains("not for you"), "{alone:?}");
    simulator.stop().await;
    let alone = sg.admin().sandboxes().list_sandbox_templates(list).await.unwrap().into_inner();
    assert_eq!((alone.sandbox_templates.len(), alone.gateway_unreachable), (4, true));
}
