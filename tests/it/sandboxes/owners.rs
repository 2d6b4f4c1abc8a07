//! The owner of a sandbox: the principal that created it through Shoreguard.

use shoreguard_simulator::{Hold, Script, Times};

use super::*;

server_tests! {
    the_creator_of_a_sandbox_is_its_owner,
    t12_a_late_deletion_keeps_the_owner_of_the_next_sandbox,
    a_sandbox_created_outside_shoreguard_has_no_owner,
}

/// Returns whether a sandbox has this service principal as owner.
pub(super) async fn is_owner(
    sg: &TestServer,
    gateway: &str,
    sandbox: &str,
    principal: &str,
) -> bool {
    let statement = format!(
        "UPDATE sandbox_meta SET owner = owner WHERE gateway_name = '{gateway}' AND sandbox_name = '{sandbox}' \
         AND owner = (SELECT 'service_principal:' || id FROM service_principals WHERE name = '{principal}')"
    );
    sg.sql(&statement).await == 1
}

async fn the_creator_of_a_sandbox_is_its_owner(sg: TestServer) {
    let operator = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
    for (name, generation) in GATEWAYS {
        let _simulator = start_gateway(&sg, name, generation).await;
        let begun = begin_creation(&operator, create_request(&sg, name, "own")).await;
        wait_operation(&operator, &begun).await;
        assert!(is_owner(&sg, name, "own", "ops").await);
        proxied::create_proxied(&operator, generation, name, "proxied").await.unwrap();
        wait_until("it is recorded", || is_owner(&sg, name, "proxied", "ops")).await;

        // A change of its metadata by another caller does not change the owner.
        let request = pb::UpdateSandboxMetadataRequest {
            gateway: name.to_owned(),
            sandbox: "own".to_owned(),
            description: "changed".to_owned(),
            update_mask: Some(prost_types::FieldMask { paths: vec!["description".to_owned()] }),
            ..Default::default()
        };
        sg.admin().sandboxes().update_sandbox_metadata(request).await.unwrap();
        assert!(is_owner(&sg, name, "own", "ops").await);

        // The next sandbox of that name belongs to its own creator.
        delete_sandbox(&sg, name, "own").await;
        wait_until("the name is free", || async {
            get_sandbox(&sg.admin(), name, "own").await.is_err()
        })
        .await;
        create_sandbox(&sg, create_request(&sg, name, "own")).await;
        assert!(is_owner(&sg, name, "own", "root").await);
    }
}

async fn t12_a_late_deletion_keeps_the_owner_of_the_next_sandbox(sg: TestServer) {
    let operator = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        let begun = begin_creation(&operator, create_request(&sg, name, "own")).await;
        wait_operation(&operator, &begun).await;
        let hold = Hold::default();
        simulator.script("DeleteSandbox", Script::HoldAfter(hold.clone()), Times::Next(1));
        let request = pb::DeleteSandboxRequest {
            gateway: name.to_owned(),
            sandbox: "own".to_owned(),
            ..Default::default()
        };
        let caller = operator.clone();
        let deletion =
            sg.app.spawn(async move { caller.sandboxes().delete_sandbox(request).await.map(drop) });
        hold.wait_reached(1).await;
        wait_until("the name is free", || async {
            get_sandbox(&operator, name, "own").await.is_err()
        })
        .await;
        let begun = begin_creation(&operator, create_request(&sg, name, "own")).await;
        wait_operation(&operator, &begun).await;
        assert!(is_owner(&sg, name, "own", "ops").await);
        hold.release();
        deletion.await.unwrap().unwrap();
        assert!(is_owner(&sg, name, "own", "ops").await, "{name}: the next one has it");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_sandbox_created_outside_shoreguard_has_no_owner(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        takeover::create_directly(generation, &simulator, "box").await;
        let request = pb::UpdateSandboxMetadataRequest {
            gateway: name.to_owned(),
            sandbox: "box".to_owned(),
            description: "seen".to_owned(),
            update_mask: Some(prost_types::FieldMask { paths: vec!["description".to_owned()] }),
            ..Default::default()
        };
        sg.admin().sandboxes().update_sandbox_metadata(request).await.unwrap();
        let without = "UPDATE sandbox_meta SET owner = owner WHERE owner IS NULL";
        assert_eq!(sg.sql(&format!("{without} AND gateway_name = '{name}'")).await, 1);
    }
}
