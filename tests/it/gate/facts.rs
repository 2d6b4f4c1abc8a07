//! What only the gateway knows about a call: its answer has a time limit, and counts only while no rule changes.

use futures_util::stream::{self, StreamExt as _};
use shoreguard_simulator::{Hold, Script, Times};

use super::stored::add_workflow;
use super::*;
use crate::support::eventually;

server_tests! {
    t13_facts_that_are_older_than_a_rule_do_not_count,
    a_gateway_that_does_not_say_what_a_call_changes_gets_no_call,
    nothing_is_sent_for_a_caller_whose_deadline_has_passed,
}

each_generation! {
    server_tests, GATEWAYS;
    g08_a_sandbox_with_many_providers_is_reached_by_each,
}

each_generation! {
    server_tests_without_jobs, GATEWAYS;
    t10_a_sandbox_that_a_deletion_moves_to_a_page_that_was_read_is_reached,
}

server_tests_without_jobs! { a_call_is_not_sent_if_the_rules_change_each_time_the_gateway_is_asked }

fn provider(name: &str, host: &str) -> Value {
    json!({ "provider": { "metadata": { "name": name }, "config": { "host": host } } })
}

/// Creates the provider `spare`, which no sandbox names, and a rule that does not concern `box`.
async fn add_spare(sg: &TestServer, scene: &Scene) {
    let spare = json!({ "provider": { "metadata": { "name": "spare" }, "type": "github" } });
    scene.call("CreateProvider", &spare).await.unwrap();
    add_workflow(sg, scene.name, Some("default"), Some("unrelated")).await;
}

/// Starts an update of the provider `spare` in the background.
fn start_update(
    sg: &TestServer,
    scene: &Scene,
    metadata: Vec<(&'static str, &'static str)>,
) -> tokio::task::JoinHandle<Result<(), Status>> {
    let message = request(scene.generation, "UpdateProvider", &provider("spare", "evil.example"));
    let (row, caller) = (row(scene.generation, "UpdateProvider"), scene.caller.clone());
    let mut to = vec![("x-shoreguard-gateway", scene.name)];
    to.extend(metadata);
    sg.app.spawn(
        async move { caller.call_raw(row.path, row.streaming, message, &to).await.map(drop) },
    )
}

/// Returns the number of calls of a method that have reached the gateway.
fn calls(scene: &Scene, method: &str) -> usize {
    let path = row(scene.generation, method).path;
    scene.simulator.calls().get(path).copied().unwrap_or_default().try_into().unwrap()
}

async fn t13_facts_that_are_older_than_a_rule_do_not_count(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        add_spare(&sg, &scene).await;
        let hold = Hold::default();
        scene.simulator.script("ListSandboxes", Script::HoldAfter(hold.clone()), Times::All);
        let update = start_update(&sg, &scene, Vec::new());
        hold.wait_reached(1).await;
        // The gateway has said that no sandbox names the provider.
        let (sandbox, provider) = match generation {
            Generation::V0_0 => ("sandbox_name", "provider_name"),
            Generation::V0_1 => ("sandbox", "provider"),
        };
        let attached = json!({ sandbox: BOX, provider: "spare" });
        scene.call("AttachSandboxProvider", &attached).await.unwrap();
        assert!(scene.pin(None, &sg).await.in_flight.is_empty(), "{name}");
        hold.release();
        assert_refused!(update.await.unwrap(), FailedPrecondition, "GOVERNED");
        assert_eq!(calls(&scene, "UpdateProvider"), 0, "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_gateway_that_does_not_say_what_a_call_changes_gets_no_call(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        add_spare(&sg, &scene).await;
        let hold = Hold::default();
        scene.simulator.script("ListSandboxes", Script::HoldBefore(hold.clone()), Times::All);
        let update = start_update(&sg, &scene, Vec::new());
        hold.wait_reached(1).await;
        while !update.is_finished() {
            pause().await;
            sg.app.clock.advance(Duration::from_secs(1));
        }
        let late = update.await.unwrap().unwrap_err();
        assert_eq!(late.code(), tonic::Code::DeadlineExceeded, "{late:?}");
        assert!(late.message().contains("what the call would change"), "{late:?}");
        hold.release();
        assert_eq!(calls(&scene, "UpdateProvider"), 0, "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn nothing_is_sent_for_a_caller_whose_deadline_has_passed(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        add_spare(&sg, &scene).await;
        let hold = Hold::default();
        scene.simulator.script("ListSandboxes", Script::HoldBefore(hold.clone()), Times::All);
        let update = start_update(&sg, &scene, vec![("grpc-timeout", "500m")]);
        update.await.unwrap().unwrap_err();
        let request = pb::ListAuditEntriesRequest {
            action: "provider.update".to_owned(),
            ..Default::default()
        };
        let entries = async || {
            let found = scene.caller.audit().list_audit_entries(request.clone()).await.unwrap();
            found.into_inner().audit_entries
        };
        eventually("the call is over", || async {
            let entries = entries().await;
            !entries.is_empty() && entries.iter().all(|entry| entry.close_time.is_some())
        })
        .await;
        let took = entries().await.into_iter().filter_map(|entry| entry.duration);
        let longest = took.map(|took| took.seconds).max().unwrap();
        assert!(longest < 10, "{name}: it ended with its deadline, not after {longest} s");
        hold.release();
        assert_eq!(calls(&scene, "UpdateProvider"), 0, "{name}");
        scene.simulator.stop().await;
    }
    sg.finish().await;
}

async fn g08_a_sandbox_with_many_providers_is_reached_by_each(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let scene = Scene::start(&sg, name, generation).await;
    let names: Vec<String> = (0..120).map(|at| format!("p{at}")).collect();
    let created = stream::iter(&names).map(async |name| {
        let new = json!({ "provider": { "metadata": { "name": name }, "type": "github" } });
        scene.call("CreateProvider", &new).await.unwrap();
    });
    created.buffer_unordered(8).collect::<()>().await;
    let many = json!({ "name": "many", "spec": { "providers": names } });
    scene.call("CreateSandbox", &many).await.unwrap();
    add_workflow(&sg, name, Some("default"), Some("many")).await;
    let last = provider("p119", "evil.example");
    assert_eq!(scene.verdict("UpdateProvider", &last).await, "GOVERNED", "{name}");
    scene.simulator.stop().await;
    sg.finish().await;
}

async fn t10_a_sandbox_that_a_deletion_moves_to_a_page_that_was_read_is_reached(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let scene = Scene::start(&sg, name, generation).await;
    let spare = json!({ "provider": { "metadata": { "name": "spare" }, "type": "github" } });
    scene.call("CreateProvider", &spare).await.unwrap();
    // With `box`, these are the first page.
    scene.simulator.add_crowd(199).unwrap();
    let last = json!({ "name": "last", "spec": { "providers": ["spare"] } });
    scene.call("CreateSandbox", &last).await.unwrap();
    add_workflow(&sg, name, Some("default"), Some("last")).await;
    let hold = Hold::default();
    scene.simulator.script("ListSandboxes", Script::HoldAfter(hold.clone()), Times::Next(1));
    let update = start_update(&sg, &scene, Vec::new());
    hold.wait_reached(1).await;
    let first = json!({ "name": "crowd-00000" });
    scene.call("DeleteSandbox", &first).await.unwrap();
    eventually("a sandbox of the first page is deleted", || async {
        scene.call("GetSandbox", &first).await.is_err()
    })
    .await;
    hold.release();
    assert_refused!(update.await.unwrap(), FailedPrecondition, "GOVERNED");
    assert_eq!(calls(&scene, "UpdateProvider"), 0, "{name}");
    scene.simulator.stop().await;
    sg.finish().await;
}

async fn a_call_is_not_sent_if_the_rules_change_each_time_the_gateway_is_asked(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let scene = Scene::start(&sg, name, generation).await;
        add_spare(&sg, &scene).await;
        let hold_next = || {
            let hold = Hold::default();
            scene.simulator.script("ListSandboxes", Script::HoldAfter(hold.clone()), Times::All);
            hold
        };
        let mut hold = hold_next();
        let mut update = start_update(&sg, &scene, Vec::new());
        let mut rules = 0;
        let ended = loop {
            tokio::select! {
                ended = &mut update => break ended.unwrap(),
                () = hold.wait_reached(1) => {}
            }
            rules += 1;
            let other = format!("unrelated-{rules}");
            add_workflow(&sg, name, Some("default"), Some(&other)).await;
            let next = hold_next();
            hold.release();
            hold = next;
        };
        let refused = assert_refused!(ended, Aborted, "WRITE_IN_FLIGHT");
        assert!(refused.message().contains("changed while"), "{name}: {refused:?}");
        assert!(rules > 1, "{name}: it is asked again");
        assert_eq!(calls(&scene, "UpdateProvider"), 0, "{name}");
        hold.release();
        scene.simulator.stop().await;
    }
    sg.finish().await;
}
