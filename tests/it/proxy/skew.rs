//! Callers and gateways of different versions: a message that would be misread or partly ignored is refused, with an
//! explanation.

use prost::Message;
use shoreguard::pb::v0_0::openshell::inference::v1 as inference;
use shoreguard::pb::v0_1::openshell::datamodel::v1 as model;
use shoreguard_simulator::Generation;

use super::raw::{RawClient, add_length_prefix};
use super::*;

#[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
fn scope(workspace: &str) -> Option<model::WorkspaceSelector> {
    let selection = model::workspace_selector::Selection::Workspace(workspace.to_owned());
    Some(model::WorkspaceSelector { selection: Some(selection) })
}

/// Starts a gateway with a version and registers it under a name.
async fn versioned(
    sg: &TestServer,
    name: &str,
    generation: Generation,
    version: &str,
) -> Simulator {
    let options =
        SimulatorOptions { version: version.to_owned(), ..SimulatorOptions::new(generation) };
    let simulator = Simulator::start(options).await.unwrap();
    sg.register_gateway(name, simulator.addr()).await;
    simulator
}

#[test]
fn a_message_of_another_generation_is_refused_with_an_explanation() {
    run_on_sqlite(|sg| async move {
        let (a, b) =
            (start_simulator(Generation::V0_0).await, start_simulator(Generation::V0_1).await);
        sg.register_gateway("alpha", a.addr()).await;
        sg.register_gateway("beta", b.addr()).await;
        let admin = sg.admin();
        let (before_a, before_b) = (a.calls(), b.calls());

        let get = new::GetSandboxRequest { name: "one".into(), workspace_scope: scope("default") };
        let refused = admin.openshell_v0_1().get_sandbox(for_gateway("alpha", get)).await;
        let refused = assert_refused!(refused, InvalidArgument, "WIRE_MISMATCH");
        assert_eq!(
            refused.message(),
            "this message is of generation 0.1, gateway `alpha` speaks 0.0: use a client of releases 0.0.88 to 0.0.116"
        );
        let made = new::CreateSandboxRequest {
            workspace_scope: scope("team"),
            ..create_request_v0_1("one")
        };
        let refused = admin.openshell_v0_1().create_sandbox(for_gateway("alpha", made)).await;
        assert_refused!(refused, InvalidArgument, "WIRE_MISMATCH");
        let follow = new::WatchSandboxRequest {
            sandbox: "one".into(),
            workspace_scope: scope("team"),
            ..Default::default()
        };
        let refused = admin.openshell_v0_1().watch_sandbox(for_gateway("alpha", follow)).await;
        assert_refused!(refused, InvalidArgument, "WIRE_MISMATCH");

        let made = old::CreateSandboxRequest { workspace: "team".into(), ..create_request("one") };
        let refused = admin.openshell_v0_0().create_sandbox(for_gateway("beta", made)).await;
        let refused = assert_refused!(refused, InvalidArgument, "WIRE_MISMATCH");
        assert!(refused.message().contains("releases 0.1.x"), "{refused:?}");
        let get = old::GetSandboxRequest { name: "one".into(), workspace: "analytics".into() };
        let refused = admin.openshell_v0_0().get_sandbox(for_gateway("beta", get)).await;
        assert_refused!(refused, InvalidArgument, "WIRE_MISMATCH");
        // A list names no sandbox, and is refused in the same way.
        let list =
            new::ListSandboxesRequest { workspace_scope: scope("default"), ..Default::default() };
        let refused = admin.openshell_v0_1().list_sandboxes(for_gateway("alpha", list)).await;
        assert_refused!(refused, InvalidArgument, "WIRE_MISMATCH");
        let list = old::ListSandboxesRequest { workspace: "team".into(), ..Default::default() };
        let refused = admin.openshell_v0_0().list_sandboxes(for_gateway("beta", list)).await;
        let refused = assert_refused!(refused, InvalidArgument, "WIRE_MISMATCH");
        assert!(refused.message().contains("releases 0.1.x"), "{refused:?}");
        let without_health = |calls: std::collections::BTreeMap<String, u64>| -> Vec<String> {
            calls.into_keys().filter(|path| !path.ends_with("/Health")).collect()
        };
        assert_eq!(without_health(a.calls()), without_health(before_a));
        assert_eq!(without_health(b.calls()), without_health(before_b));

        // Messages with the same meaning in both generations are forwarded, and so are fields that are unknown in both.
        admin
            .openshell_v0_1()
            .create_sandbox(for_gateway("alpha", create_request_v0_1("two")))
            .await
            .unwrap();
        let mut raw = RawClient::connect(&sg).await;
        let newer = [get_two().as_slice(), &[0xa2, 0x38, 1, b'x']].concat();
        let answer =
            raw.call(raw.request("GetSandbox", "alpha"), &[add_length_prefix(&newer)]).await;
        assert_eq!(answer.code(), "0");
        sg.finish().await;
        a.stop().await;
        b.stop().await;
    });
}

fn get_two() -> Vec<u8> {
    get_request("two").encode_to_vec()
}

#[test]
fn a_missing_method_is_refused_with_the_version_that_has_it() {
    run_on_sqlite(|sg| async move {
        let ninety = versioned(&sg, "ninety", Generation::V0_0, "0.0.90").await;
        let hundred = versioned(&sg, "hundred", Generation::V0_0, "0.0.100-dev.2+gabc").await;
        let newest = versioned(&sg, "newest", Generation::V0_1, "0.1.5").await;
        let mut client = sg.admin().openshell_v0_0();
        create_sandbox(&sg.admin(), "hundred", "one").await;

        let who = old::GetCurrentUserRequest {};
        let refused = client.get_current_user(for_gateway("ninety", who)).await;
        let refused = assert_refused!(refused, Unimplemented, "METHOD_NOT_SUPPORTED");
        assert_eq!(
            refused.message(),
            "`GetCurrentUser` exists since version 0.0.95, gateway `ninety` reports `0.0.90` and speaks generation 0.0"
        );
        client.get_current_user(for_gateway("hundred", who)).await.unwrap();
        let stop = old::StopSandboxRequest { name: "one".into(), ..Default::default() };
        let refused = client.stop_sandbox(for_gateway("hundred", stop)).await;
        let refused = assert_refused!(refused, Unimplemented, "METHOD_NOT_SUPPORTED");
        assert!(refused.message().contains("since version 0.0.105"), "{refused:?}");
        assert!(!hundred.calls().keys().any(|path| path.ends_with("StopSandbox")));

        let caller = sg.admin();
        let mut routes = inference::inference_client::InferenceClient::with_interceptor(
            caller.channel.clone(),
            caller.bearer.clone(),
        );
        let route = inference::GetInferenceRouteRequest::default();
        let refused = routes.get_inference_route(for_gateway("newest", route)).await;
        let refused = assert_refused!(refused, Unimplemented, "METHOD_NOT_SUPPORTED");
        assert!(refused.message().contains("up to version 0.0.116"), "{refused:?}");
        sg.finish().await;
        for simulator in [ninety, hundred, newest] {
            simulator.stop().await;
        }
    });
}

#[test]
fn an_unsupported_gateway_release_is_named_in_the_error() {
    run_on_sqlite(|sg| async move {
        for (name, version, why) in [
            ("first", "0.0.36", "before 0.0.37"),
            ("second", "0.0.87", "0.0.37 to 0.0.87"),
            ("later", "0.0.117", "this server does not know the release"),
        ] {
            let simulator = versioned(&sg, name, Generation::V0_0, version).await;
            let refused = sg
                .admin()
                .openshell_v0_0()
                .get_sandbox(for_gateway(name, get_request("one")))
                .await;
            let refused = assert_refused!(refused, FailedPrecondition, "WIRE_UNSUPPORTED");
            assert!(refused.message().contains(why), "{refused:?}");
            assert!(refused.message().contains(version), "{refused:?}");
            assert!(simulator.calls().keys().all(|path| path.ends_with("/Health")));
            simulator.stop().await;
        }
        sg.finish().await;
    });
}
