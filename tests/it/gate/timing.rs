//! Rules and writes at the same time: writes in progress, gateways that hang, and pins that expire.

use shoreguard::pb::v0_1::openshell::v1::UpdateConfigResponse;
use shoreguard_simulator::{Hold, Proposal, Script, Times};

use super::walk::{APPROVED, PENDING, cases};
use super::*;
use crate::boot_hooks::last_event;
use crate::support::server::Bearer;
use crate::support::{dump, eventually};

server_tests! {
    t13_a_pin_names_a_write_in_flight_and_stops_the_next,
    t13_a_gateway_that_hangs_prevents_no_pin_and_gets_no_write,
    t13_a_lost_answer_leaves_its_write_in_flight_until_its_deadline,
    calls_without_a_rule_do_not_exclude_each_other,
    g10_a_policy_that_is_written_through_the_proxy_is_an_event,
    an_inference_route_that_is_set_through_the_proxy_is_an_event,
    g10_without_a_rule_a_call_keeps_its_role_and_gets_the_answer_of_the_gateway,
}

each_generation! {
    server_tests, GATEWAYS;
    expired_pins_are_over_on_every_proxied_path,
    a_long_call_without_a_rule_stays_in_flight,
}

fn merge() -> Value {
    json!({ "merge_operations": [{ "remove_rule": { "rule_name": "web" } }] })
}

/// Starts a call in the background.
fn start_merge(sg: &TestServer, scene: &Scene) -> tokio::task::JoinHandle<Result<Vec<u8>, Status>> {
    let message = request(scene.generation, "UpdateConfig", &merge());
    let (row, name, caller) =
        (row(scene.generation, "UpdateConfig"), scene.name, scene.caller.clone());
    sg.app.spawn(async move {
        let to = [("x-shoreguard-gateway", name)];
        let answer = caller.call_raw(row.path, row.streaming, message, &to).await?;
        Ok(answer.unwrap_or_default())
    })
}

async fn t13_a_pin_names_a_write_in_flight_and_stops_the_next(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        let hold = Hold::default();
        scene.simulator.script("UpdateConfig", Script::HoldBefore(hold.clone()), Times::Next(1));
        let first = start_merge(&sg, &scene);
        hold.wait_reached(1).await;
        let of_open_entry = "UPDATE write_intents SET owner = owner WHERE sent_at < deadline \
                             AND audit_id IN (SELECT id FROM audit_log WHERE closed_at IS NULL)";
        assert_eq!(sg.sql(of_open_entry).await, 1, "{name}");
        let pinned = scene.pin_in_flight(&sg).await;
        let in_flight = pinned.in_flight.first().expect("the write is in flight");
        assert_eq!((in_flight.workspace.as_str(), in_flight.sandbox.as_str()), ("default", BOX));
        assert_eq!(in_flight.action, "policy.edit", "{name}: {in_flight:?}");
        let refused = scene.call("UpdateConfig", &merge()).await;
        assert_refused!(refused, FailedPrecondition, "POLICY_PINNED");
        hold.release();
        // The gateway accepts or refuses it, and this outcome ends the write.
        let _ = first.await.unwrap();
        eventually("the write is over", || async { stored::count_intents(&sg).await == 0 }).await;
        assert!(scene.pin(None, &sg).await.in_flight.is_empty());
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn t13_a_gateway_that_hangs_prevents_no_pin_and_gets_no_write(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let scene = Scene::start(&sg, name, generation).await;
    let hold = Hold::default();
    scene.simulator.script("GetSandbox", Script::HoldBefore(hold.clone()), Times::All);
    scene.simulator.script("UpdateConfig", Script::HoldBefore(hold.clone()), Times::All);
    let first = start_merge(&sg, &scene);
    eventually("the write has begun", || async { stored::count_intents(&sg).await == 1 }).await;
    let pinned = scene.pin_in_flight(&sg).await;
    assert_eq!(pinned.in_flight.len(), 1);
    assert_eq!(scene.verdict("UpdateConfig", &merge()).await, "POLICY_PINNED");
    hold.release();
    let _ = first.await.unwrap();
    sg.finish().await;
    scene.simulator.stop().await;
}

async fn t13_a_lost_answer_leaves_its_write_in_flight_until_its_deadline(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        scene.simulator.script("UpdateConfig", Script::Disconnect, Times::Next(1));
        scene.call("UpdateConfig", &merge()).await.unwrap_err();
        assert_eq!(stored::count_intents(&sg).await, 1, "{name}");
        assert_eq!(scene.pin_in_flight(&sg).await.in_flight.len(), 1, "{name}");
        sg.app.db.advance_clock(Duration::from_secs(30));
        assert!(scene.pin(None, &sg).await.in_flight.is_empty(), "{name}");
        stored::execute(&sg, "DELETE FROM write_intents").await;
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn expired_pins_are_over_on_every_proxied_path(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let scene = Scene::start(&sg, name, generation).await;
    scene.pin(Some(3600), &sg).await;
    assert_eq!(scene.verdict("UpdateConfig", &merge()).await, "POLICY_PINNED", "{name}");
    sg.app.db.advance_clock(Duration::from_hours(2));
    let rows = schema(generation).1;
    for (method, mut content, _) in cases() {
        if !rows.iter().any(|row| row.path.ends_with(&format!("/{method}"))) {
            continue;
        }
        if [json!(PENDING), json!(APPROVED)].contains(&content["chunk_id"]) {
            content["chunk_id"] = json!("c1");
        }
        let verdict = scene.verdict(method, &content).await;
        assert_eq!(verdict, "", "{name} {method} {content}");
    }
    scene.simulator.stop().await;
    sg.finish().await;
}

async fn calls_without_a_rule_do_not_exclude_each_other(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let scene = Scene::start(&sg, name, generation).await;
    let hold = Hold::default();
    scene.simulator.script("UpdateConfig", Script::HoldBefore(hold.clone()), Times::All);
    let calls: Vec<_> = (0..4).map(|_| start_merge(&sg, &scene)).collect();
    hold.wait_reached(4).await;
    assert_eq!(stored::count_intents(&sg).await, 4);
    hold.release();
    for call in calls {
        let _ = call.await.unwrap();
    }
    eventually("each write is over", || async { stored::count_intents(&sg).await == 0 }).await;
    sg.finish().await;
    scene.simulator.stop().await;
}

async fn a_long_call_without_a_rule_stays_in_flight(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let scene = Scene::start(&sg, name, generation).await;
    let hold = Hold::default();
    scene.simulator.script("UpdateConfig", Script::HoldBefore(hold.clone()), Times::Next(1));
    let first = start_merge(&sg, &scene);
    hold.wait_reached(1).await;
    for _ in 0..3 {
        let before = dump::table(&sg.app.db, "write_intents").await;
        // Again and again, since the wait for the next renewal may begin only after the clock was advanced.
        eventually("the write is renewed", || async {
            sg.app.clock.advance(Duration::from_secs(1));
            dump::table(&sg.app.db, "write_intents").await != before
        })
        .await;
    }
    assert!(!first.is_finished(), "{name}: it may take longer than a call under a rule");
    assert_eq!(scene.pin_in_flight(&sg).await.in_flight.len(), 1, "{name}");
    hold.release();
    let _ = first.await.unwrap();
    eventually("the write is over", || async { stored::count_intents(&sg).await == 0 }).await;
    scene.simulator.stop().await;
    sg.finish().await;
}

async fn g10_a_policy_that_is_written_through_the_proxy_is_an_event(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        let proposal = Proposal::allow("a.example.com", 443, "/usr/bin/curl");
        scene.simulator.propose("default", BOX, proposal).unwrap();
        let all = json!({ "include_security_flagged": true });
        scene.call("ApproveAllDraftChunks", &all).await.unwrap();
        let event = last_event(&scene.caller, "policy.updated").await;
        let payload: Value = serde_json::from_str(&event.payload_json).unwrap();
        assert_eq!(payload["sandbox"], BOX, "{event:?}");
        assert_eq!(payload["action"], "approval.vote_many", "{event:?}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn an_inference_route_that_is_set_through_the_proxy_is_an_event(sg: TestServer) {
    let (name, generation) = GATEWAYS[0];
    let scene = Scene::start(&sg, name, generation).await;
    let route = json!({ "route_name": "main", "provider_name": "github", "model_id": "m-1" });
    scene.call("SetInferenceRoute", &route).await.unwrap();
    let event = last_event(&scene.caller, "inference.updated").await;
    let payload: Value = serde_json::from_str(&event.payload_json).unwrap();
    let expected = json!({
        "action": "inference_route.set",
        "gateway": name,
        "workspace": "default",
        "provider": "github",
        "model": "m-1",
    });
    assert_eq!(payload, expected, "{event:?}");
    sg.finish().await;
    scene.simulator.stop().await;
}

async fn g10_without_a_rule_a_call_keeps_its_role_and_gets_the_answer_of_the_gateway(
    sg: TestServer,
) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        let address = format!("http://{}", scene.simulator.addr());
        let endpoint = tonic::transport::Endpoint::new(address).unwrap();
        let direct = Caller { channel: endpoint.connect_lazy(), bearer: Bearer::default() };
        let key = scene.caller.create_key(&format!("ops-{name}"), pb::Role::Operator).await;
        let operator = sg.with_token(&key);
        let row = row(generation, "UpdateConfig");
        let to = [("x-shoreguard-gateway", name)];
        let sandbox = match generation {
            Generation::V0_0 => "name",
            Generation::V0_1 => "sandbox",
        };
        let mut unknown = merge();
        unknown.as_object_mut().unwrap().insert(sandbox.to_owned(), json!("nowhere"));
        for content in [merge(), unknown] {
            let message = request(generation, "UpdateConfig", &content);
            let own = direct.call_raw(row.path, row.streaming, message.clone(), &[]).await;
            let through = operator.call_raw(row.path, row.streaming, message, &to).await;
            match (own, through) {
                // Both have the hash of the same policy. The versions and the actors differ.
                (Ok(Some(own)), Ok(Some(through))) => {
                    assert_eq!(hash(&own), hash(&through), "{name} {content}");
                }
                (Err(own), Err(through)) => {
                    let shown = |status: &Status| (status.code(), status.message().to_owned());
                    assert_eq!(shown(&own), shown(&through), "{name} {content}");
                }
                (own, through) => panic!("{name} {content}: {own:?} {through:?}"),
            }
        }
        let viewer = scene.caller.create_key(&format!("looks-{name}"), pb::Role::Viewer).await;
        let message = request(generation, "UpdateConfig", &merge());
        let viewer = sg.with_token(&viewer);
        let refused = viewer.call_raw(row.path, row.streaming, message, &to).await;
        assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

/// Returns the hash of the policy in an answer to `UpdateConfig`, which both generations have at the same place.
fn hash(answer: &[u8]) -> String {
    UpdateConfigResponse::decode(answer).unwrap().policy_hash
}
