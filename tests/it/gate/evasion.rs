//! Messages that Shoreguard and a gateway could read differently, where a rule applies.

use std::sync::{Arc, Mutex};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::db::schema::gateways;
use shoreguard::db::types::GatewayId;
use shoreguard::db::{Engine, on_conn};
use shoreguard::pb::wire;
use shoreguard::resources::write_intents::domain::lock_exclusive;

use super::*;
use crate::proxy::raw;
use crate::proxy::rogue::{send_message, start_rogue};

server_tests! {
    t09_an_unknown_field_is_refused_as_soon_as_a_rule_applies,
    t09_a_duplicate_field_is_refused_with_and_without_a_rule,
    t09_a_message_of_the_other_generation_does_not_pass_a_rule,
    t09_an_update_that_changes_two_things_does_not_pass_a_rule,
    t09_all_workspaces_are_no_place_of_a_governed_call,
    t09_the_gateway_gets_the_callers_bytes_or_our_encoding_under_a_rule,
    g08_a_workflow_of_a_selector_refuses_changes_on_every_gateway,
    t01_a_gateway_with_a_rule_gets_no_second_name,
    t01_a_former_endpoint_of_a_gateway_with_a_rule_gets_no_second_name,
    t01_a_dot_at_the_end_of_a_host_makes_no_second_name,
    t01_another_spelling_of_an_address_makes_no_second_name,
}

server_tests_without_jobs! {
    a_second_name_does_not_wait_for_the_names_without_a_rule,
}

/// A change that no rule refuses.
fn harmless() -> Value {
    json!({ "setting_key": "ocsf_json_enabled", "setting_value": { "bool_value": true } })
}

/// Returns whether a message reaches the gateway, or why not.
async fn fate(scene: &Scene, method: &str, message: Vec<u8>) -> String {
    let path = row(scene.generation, method).path;
    let count = || scene.simulator.calls().get(path).copied().unwrap_or_default();
    let before = count();
    let answer = scene.send(method, message).await;
    if count() > before { String::new() } else { reason(&answer.unwrap_err()) }
}

async fn t09_an_unknown_field_is_refused_as_soon_as_a_rule_applies(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        let plain = request(generation, "UpdateConfig", &harmless());
        let mut unknown = plain.clone();
        wire::put_bytes(&mut unknown, 999, b"unknown");
        assert_eq!(fate(&scene, "UpdateConfig", unknown.clone()).await, "", "{name}");
        stored::add_workflow(&sg, name, None, None).await;
        assert_eq!(fate(&scene, "UpdateConfig", unknown).await, "MESSAGE_AMBIGUOUS", "{name}");
        assert_eq!(fate(&scene, "UpdateConfig", plain).await, "", "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn t09_a_duplicate_field_is_refused_with_and_without_a_rule(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        // Two names, of which a decoder takes the first or the last.
        let mut twice = request(generation, "UpdateConfig", &harmless());
        wire::put_bytes(&mut twice, 1, b"other");
        assert_eq!(
            fate(&scene, "UpdateConfig", twice.clone()).await,
            "MESSAGE_AMBIGUOUS",
            "{name}"
        );
        scene.pin(None, &sg).await;
        assert_eq!(fate(&scene, "UpdateConfig", twice).await, "MESSAGE_AMBIGUOUS", "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn t09_a_message_of_the_other_generation_does_not_pass_a_rule(sg: TestServer) {
    let mut old = harmless();
    old.as_object_mut().unwrap().insert("workspace".to_owned(), json!("default"));
    let mut new = harmless();
    let scope = json!({ "workspace": "default" });
    new.as_object_mut().unwrap().insert("workspace_scope".to_owned(), scope);
    let old = request(Generation::V0_0, "UpdateConfig", &old);
    let new = request(Generation::V0_1, "UpdateConfig", &new);
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        scene.pin(None, &sg).await;
        let (own, other) = match generation {
            Generation::V0_0 => (&old, &new),
            Generation::V0_1 => (&new, &old),
        };
        assert_eq!(fate(&scene, "UpdateConfig", other.clone()).await, "WIRE_MISMATCH", "{name}");
        assert_eq!(fate(&scene, "UpdateConfig", own.clone()).await, "", "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn t09_an_update_that_changes_two_things_does_not_pass_a_rule(sg: TestServer) {
    let mut both = harmless();
    both.as_object_mut().unwrap().insert("policy".to_owned(), json!({ "version": 1 }));
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        assert_eq!(scene.verdict("UpdateConfig", &both).await, "", "{name}");
        scene.govern_box(&sg).await;
        assert_eq!(scene.verdict("UpdateConfig", &both).await, "MESSAGE_AMBIGUOUS", "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn t09_all_workspaces_are_no_place_of_a_governed_call(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let scene = Scene::start(&sg, name, generation).await;
    let mut everywhere = harmless();
    let scope = json!({ "all_workspaces": {} });
    everywhere.as_object_mut().unwrap().insert("workspace_scope".to_owned(), scope);
    assert_eq!(scene.verdict("UpdateConfig", &everywhere).await, "");
    stored::add_workflow(&sg, name, Some("elsewhere"), None).await;
    assert_eq!(scene.verdict("UpdateConfig", &everywhere).await, "MESSAGE_AMBIGUOUS");
    sg.finish().await;
    scene.simulator.stop().await;
}

async fn g08_a_workflow_of_a_selector_refuses_changes_on_every_gateway(sg: TestServer) {
    let merge = json!({ "merge_operations": [{ "remove_rule": { "rule_name": "web" } }] });
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        assert_eq!(scene.verdict("UpdateConfig", &merge).await, "", "{name}");
        stored::add_selector_workflow(&sg).await;
        assert_eq!(scene.verdict("UpdateConfig", &merge).await, "GOVERNED", "{name}");
        let request = pb::ExplainWorkflowRequest {
            gateway: name.to_owned(),
            sandbox: BOX.to_owned(),
            ..Default::default()
        };
        let explained = scene.caller.approval_workflows().explain_workflow(request).await;
        let explained = explained.unwrap().into_inner().explained_workflows;
        let [of_selector] = explained.as_slice() else { panic!("{explained:?}") };
        assert!(!of_selector.can_be_met);
        stored::execute(&sg, "DELETE FROM approval_workflows").await;
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn t01_a_gateway_with_a_rule_gets_no_second_name(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let scene = Scene::start(&sg, name, generation).await;
    let endpoint = scene.simulator.addr().to_string();
    sg.register_unreachable("other").await;
    let mut gateways = scene.caller.gateways();
    let register = |name: &str| pb::RegisterGatewayRequest {
        name: name.to_owned(),
        endpoint: endpoint.clone(),
        scheme: pb::GatewayScheme::Http.into(),
        ..Default::default()
    };
    let update = |gateway: &str| pb::UpdateGatewayRequest {
        gateway: gateway.to_owned(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["endpoint".to_owned()] }),
        endpoint: endpoint.clone(),
        ..Default::default()
    };
    for rule in ["a pin", "a workflow"] {
        if rule == "a pin" {
            scene.pin(None, &sg).await;
        } else {
            scene.govern_box(&sg).await;
        }
        let refused = gateways.register_gateway(register("again")).await;
        let refused = assert_refused!(refused, FailedPrecondition, "GOVERNED");
        assert!(refused.message().contains(name), "{rule}: {refused:?}");
        let refused = gateways.update_gateway(update("other")).await;
        assert_refused!(refused, FailedPrecondition, "GOVERNED");
        gateways.update_gateway(update(name)).await.expect("its own endpoint");
        stored::execute(&sg, "DELETE FROM policy_pins").await;
    }
    stored::execute(&sg, "DELETE FROM approval_workflows").await;
    gateways.register_gateway(register("again")).await.unwrap();
    gateways.update_gateway(update("other")).await.unwrap();
    sg.finish().await;
    scene.simulator.stop().await;
}

async fn t01_a_former_endpoint_of_a_gateway_with_a_rule_gets_no_second_name(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let scene = Scene::start(&sg, name, generation).await;
    let endpoint = scene.simulator.addr().to_string();
    let mut gateways = scene.caller.gateways();
    let register = pb::RegisterGatewayRequest {
        name: "again".to_owned(),
        endpoint: endpoint.clone(),
        scheme: pb::GatewayScheme::Http.into(),
        ..Default::default()
    };
    let update = |to: &str| pb::UpdateGatewayRequest {
        gateway: name.to_owned(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["endpoint".to_owned()] }),
        endpoint: to.to_owned(),
        ..Default::default()
    };
    scene.pin(None, &sg).await;
    gateways.update_gateway(update("127.0.0.1:1")).await.unwrap();
    let refused = gateways.register_gateway(register.clone()).await;
    let refused = assert_refused!(refused, FailedPrecondition, "GOVERNED");
    assert!(refused.message().contains(name), "{refused:?}");
    gateways.update_gateway(update(&endpoint)).await.expect("its own former endpoint");
    gateways.update_gateway(update("127.0.0.1:1")).await.unwrap();
    // With those two, 99 are kept.
    let row = |n: i32| format!("SELECT id, 'former{n}:1' FROM gateways WHERE name = '{name}'");
    let rows: Vec<String> = (2..99).map(row).collect();
    let insert = "INSERT INTO gateway_former_endpoints (gateway_id, endpoint)";
    stored::execute(&sg, &format!("{insert} {}", rows.join(" UNION ALL "))).await;
    gateways.update_gateway(update("127.0.0.1:2")).await.expect("kept already");
    gateways.update_gateway(update("127.0.0.1:3")).await.expect("the 100th");
    let refused = gateways.update_gateway(update("127.0.0.1:4")).await;
    assert_refused!(refused, FailedPrecondition, "GOVERNED");
    stored::execute(&sg, "DELETE FROM policy_pins").await;
    gateways.register_gateway(register).await.unwrap();
    sg.finish().await;
    scene.simulator.stop().await;
}

async fn t01_a_dot_at_the_end_of_a_host_makes_no_second_name(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let scene = Scene::start(&sg, name, generation).await;
    let mut gateways = scene.caller.gateways();
    let register = pb::RegisterGatewayRequest {
        name: "again".to_owned(),
        endpoint: "127.0.0.1:1".to_owned(),
        scheme: pb::GatewayScheme::Http.into(),
        ..Default::default()
    };
    scene.pin(None, &sg).await;
    let set = |endpoint: &str| {
        format!("UPDATE gateways SET endpoint = '{endpoint}' WHERE name = '{name}'")
    };
    stored::execute(&sg, &set("127.0.0.1.:1")).await;
    let refused = gateways.register_gateway(register.clone()).await;
    assert_refused!(refused, FailedPrecondition, "GOVERNED");
    stored::execute(&sg, &set("127.0.0.1:2")).await;
    let former = format!(
        "INSERT INTO gateway_former_endpoints (gateway_id, endpoint) \
         SELECT id, '127.0.0.1.:1' FROM gateways WHERE name = '{name}'"
    );
    stored::execute(&sg, &former).await;
    let refused = gateways.register_gateway(register).await;
    assert_refused!(refused, FailedPrecondition, "GOVERNED");
    sg.finish().await;
    scene.simulator.stop().await;
}

async fn t01_another_spelling_of_an_address_makes_no_second_name(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let scene = Scene::start(&sg, name, generation).await;
    let port = scene.simulator.addr().port();
    let mut gateways = scene.caller.gateways();
    let register = |endpoint: String| pb::RegisterGatewayRequest {
        name: "again".to_owned(),
        endpoint,
        scheme: pb::GatewayScheme::Http.into(),
        ..Default::default()
    };
    scene.pin(None, &sg).await;
    let mapped = register(format!("[::ffff:127.0.0.1]:{port}"));
    let refused = gateways.register_gateway(mapped.clone()).await;
    assert_refused!(refused, FailedPrecondition, "GOVERNED");
    for host in ["127.1", "2130706433", "0x7f000001"] {
        let refused = gateways.register_gateway(register(format!("{host}:{port}"))).await;
        assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    }
    stored::execute(&sg, "DELETE FROM policy_pins").await;
    gateways.register_gateway(mapped).await.unwrap();
    sg.finish().await;
    scene.simulator.stop().await;
}

async fn a_second_name_does_not_wait_for_the_names_without_a_rule(sg: TestServer) {
    let endpoint = "127.0.0.1:1";
    let row = |number| format!("('name{number}', '{endpoint}', '2020-01-01 00:00:00.000000')");
    let rows: Vec<String> = (0..200).map(row).collect();
    let columns = "name, endpoint, registered_at";
    let insert = format!("INSERT INTO gateways ({columns}) VALUES {}", rows.join(", "));
    stored::execute(&sg, &insert).await;
    let register = async |name: &str| {
        let request = pb::RegisterGatewayRequest {
            name: name.to_owned(),
            endpoint: endpoint.to_owned(),
            scheme: pb::GatewayScheme::Http.into(),
            ..Default::default()
        };
        sg.admin().gateways().register_gateway(request).await
    };
    if sg.app.db.engine() == Engine::Postgres {
        // As calls do that store a rule. SQLite has one lock for all.
        let locked = sg.app.db.transaction(async |conn| {
            let ids: Vec<i64> =
                on_conn!(conn, |c| gateways::table.select(gateways::id).load(c).await)?;
            for id in ids {
                lock_exclusive(conn, GatewayId(id)).await?;
            }
            register("again").await.unwrap();
            Ok(())
        });
        locked.await.unwrap();
    } else {
        register("again").await.unwrap();
    }
    stored::add_workflow(&sg, "name199", None, None).await;
    let refused = assert_refused!(register("third").await, FailedPrecondition, "GOVERNED");
    assert!(refused.message().contains("name199"), "{refused:?}");
    sg.finish().await;
}

/// Encodes fields of bytes in this order.
fn fields(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, value) in fields {
        wire::put_bytes(&mut message, *number, value);
    }
    message
}

async fn t09_the_gateway_gets_the_callers_bytes_or_our_encoding_under_a_rule(sg: TestServer) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&received);
    let addr = start_rogue(move |_, request, respond| {
        let seen = Arc::clone(&seen);
        async move {
            // Background jobs call the gateway, too.
            let is_update = request.uri().path().ends_with("/UpdateConfig");
            let (bytes, _) = raw::read(request.into_body()).await;
            if is_update {
                seen.lock().unwrap().push(bytes[5..].to_vec());
            }
            send_message(respond, raw::add_length_prefix(&[]));
        }
    })
    .await;
    sg.register_gateway("edge", addr).await;
    let (name, key, value) =
        ((1, &b"box"[..]), (3, &b"ocsf_json_enabled"[..]), (4, &[0x10, 1][..]));
    let unsorted = fields(&[value, key, name]);
    let send = async || {
        let path = row(Generation::V0_0, "UpdateConfig").path;
        let to = [("x-shoreguard-gateway", "edge")];
        let unary = shoreguard::access::policy::StreamingMode::Unary;
        sg.admin().call_raw(path, unary, unsorted.clone(), &to).await.unwrap();
    };
    send().await;
    stored::add_workflow(&sg, "edge", None, None).await;
    send().await;
    let received = received.lock().unwrap().clone();
    assert_eq!(received, [unsorted.clone(), fields(&[name, key, value])]);
    sg.finish().await;
}
