//! Sandboxes that stock clients create and delete through the proxy: the same rules apply.

use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v0_1::openshell::v1 as new;
use tonic::{Code, Request};

use super::*;

fn to<M>(gateway: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-shoreguard-gateway", gateway.parse().unwrap());
    request
}

pub(super) async fn create_proxied(
    caller: &Caller,
    generation: Generation,
    gateway: &str,
    name: &str,
) -> Result<String, tonic::Status> {
    match generation {
        Generation::V0_0 => {
            let spec = Some(old::SandboxSpec::default());
            let request =
                old::CreateSandboxRequest { name: name.into(), spec, ..Default::default() };
            let made = caller.openshell_v0_0().create_sandbox(to(gateway, request)).await?;
            assert_eq!(made.metadata().get("x-shoreguard-gateway").unwrap(), gateway);
            Ok(made.into_inner().sandbox.unwrap().metadata.unwrap().name)
        }
        Generation::V0_1 => {
            let spec = Some(new::SandboxSpec::default());
            let request =
                new::CreateSandboxRequest { name: name.into(), spec, ..Default::default() };
            let made = caller.openshell_v0_1().create_sandbox(to(gateway, request)).await?;
            assert_eq!(made.metadata().get("x-shoreguard-gateway").unwrap(), gateway);
            Ok(made.into_inner().sandbox.unwrap().metadata.unwrap().name)
        }
    }
}

async fn remove(
    caller: &Caller,
    generation: Generation,
    gateway: &str,
    name: &str,
) -> Result<(), tonic::Status> {
    match generation {
        Generation::V0_0 => {
            let request = old::DeleteSandboxRequest { name: name.into(), ..Default::default() };
            caller.openshell_v0_0().delete_sandbox(to(gateway, request)).await.map(|_| ())
        }
        Generation::V0_1 => {
            let request = new::DeleteSandboxRequest { name: name.into(), ..Default::default() };
            caller.openshell_v0_1().delete_sandbox(to(gateway, request)).await.map(|_| ())
        }
    }
}

pub(super) async fn operations(sg: &TestServer, gateway: &str) -> Vec<pb::Operation> {
    let request = pb::ListOperationsRequest { gateway: gateway.into(), ..Default::default() };
    sg.admin().operations().list_operations(request).await.unwrap().into_inner().operations
}

server_tests! {
    a_proxied_creation_runs_hooks_as_an_operation_and_deletion_removes_them,
    a_name_assigned_by_the_gateway_to_a_stock_client_is_stored,
}

async fn a_proxied_creation_runs_hooks_as_an_operation_and_deletion_removes_them(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_hook(&sg, name, "agent", pb::BootHookPhase::PostCreate, "echo warm").await;
        let operator =
            sg.with_token(&sg.admin().create_key(&format!("ops-{name}"), pb::Role::Operator).await);
        assert_eq!(create_proxied(&operator, generation, name, "agent").await.unwrap(), "agent");
        let operation = operations(&sg, name).await.remove(0);
        assert_eq!(
            (operation.sandbox.as_str(), operation.actor.as_str()),
            ("agent", &*format!("sp:ops-{name}"))
        );
        let ended = wait_operation(&operator, &operation.id).await;
        let result = operation_result(&ended);
        assert_eq!(result["ready"], true, "{ended:?}");
        assert_eq!(result["hooks"]["post_create"][0]["status"], "success", "{result}");
        let entry = audit_entries(&sg, "sandbox.create").await.remove(0);
        assert_eq!((entry.outcome(), entry.resource_id.as_str()), (pb::AuditOutcome::Ok, "agent"));

        // The caller gets the gateway's own response, with its own message.
        let twice = create_proxied(&operator, generation, name, "agent").await.unwrap_err();
        assert_eq!(twice.code(), Code::AlreadyExists);
        assert!(!twice.message().contains("says"), "{twice:?}");
        let failed = operations(&sg, name).await.remove(0);
        assert_eq!(failed.status(), pb::OperationStatus::Failed, "{failed:?}");

        remove(&operator, generation, name, "agent").await.unwrap();
        let hooks = pb::ListBootHooksRequest {
            gateway: name.into(),
            sandbox: "agent".into(),
            ..Default::default()
        };
        let hooks = operator.boot_hooks().list_boot_hooks(hooks).await.unwrap().into_inner();
        assert!(hooks.boot_hooks.is_empty());
        let entry = audit_entries(&sg, "sandbox.delete").await.remove(0);
        assert!(entry.detail_json.contains("\"boot_hooks\":1"), "{entry:?}");
        assert_eq!(
            remove(&operator, generation, name, "nothing").await.unwrap_err().code(),
            Code::NotFound
        );
        let calls = simulator.calls();
        let made = calls.iter().find(|(path, _)| path.ends_with("CreateSandbox")).unwrap();
        assert_eq!(*made.1, 2, "each call was sent once");
    }
}

async fn a_name_assigned_by_the_gateway_to_a_stock_client_is_stored(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let _simulator = start_gateway(&sg, name, generation).await;
        let given = create_proxied(&sg.admin(), generation, name, "").await.unwrap();
        let operation = operations(&sg, name).await.remove(0);
        assert_eq!(operation.sandbox, given);
        wait_operation(&sg.admin(), &operation.id).await;
        assert_eq!(audit_entries(&sg, "sandbox.create").await[0].resource_id, given);
    }
}
