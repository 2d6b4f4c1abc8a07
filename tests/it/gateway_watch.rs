//! Watching gateways.

use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::watch_gateways_response::Change;
use shoreguard::resources::events::worker::SEQUENCER;
use shoreguard::workers;
use shoreguard_simulator::{Generation, Script, Times};
use tonic::{Code, Streaming};

use crate::support::server::{Caller, TestServer};

async fn watch(caller: &Caller, after_sequence: i64) -> Streaming<pb::WatchGatewaysResponse> {
    let request = pb::WatchGatewaysRequest { after_sequence };
    caller.gateways().watch_gateways(request).await.unwrap().into_inner()
}

/// Reads changes until the cursor has moved past them. Returns the changes and the cursor.
async fn next(stream: &mut Streaming<pb::WatchGatewaysResponse>) -> (Vec<Change>, i64) {
    let mut changes = Vec::new();
    loop {
        let message = stream.message().await.unwrap().expect("the stream continues");
        match message.change {
            Some(change) => changes.push(change),
            None if changes.is_empty() => {}
            None => return (changes, message.sequence),
        }
    }
}

fn names(changes: &[Change]) -> Vec<String> {
    let mut names: Vec<String> = changes
        .iter()
        .map(|change| match change {
            Change::Gateway(gateway) => gateway.name.clone(),
            Change::RemovedGateway(name) => format!("-{name}"),
            Change::Present(present) => {
                let mut names = present.names.clone();
                names.sort_unstable();
                format!("={}", names.join(","))
            }
        })
        .collect();
    names.sort_unstable();
    names
}

async fn describe(sg: &TestServer, gateway: &str, description: &str) {
    let request = pb::UpdateGatewayRequest {
        gateway: gateway.into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["description".into()] }),
        description: description.into(),
        ..Default::default()
    };
    sg.admin().gateways().update_gateway(request).await.unwrap();
}

async fn test(sg: &TestServer, gateway: &str) {
    let request = pb::TestGatewayRequest { gateway: gateway.into(), ..Default::default() };
    sg.admin().gateways().test_gateway(request).await.unwrap();
}

async fn unregister(sg: &TestServer, gateway: &str) {
    let request = pb::UnregisterGatewayRequest { gateway: gateway.into(), ..Default::default() };
    sg.admin().gateways().unregister_gateway(request).await.unwrap();
}

server_tests! {
    a_watcher_sees_changes_of_its_gateways_and_resumes_at_its_cursor,
    a_resumed_watch_lists_gateways_that_became_visible_meanwhile,
}

async fn a_watcher_sees_changes_of_its_gateways_and_resumes_at_its_cursor(sg: TestServer) {
    let edge = sg.start_gateway("edge", Generation::V0_1).await;
    sg.register_gateway("hidden", edge.addr()).await;
    let key = sg.admin().create_key("look", pb::Role::None).await;
    sg.admin().bind("look", "edge", pb::Role::Viewer).await;
    let viewer = sg.with_token(&key);
    let mut all = watch(&sg.admin(), 0).await;
    let mut own = watch(&viewer, 0).await;
    assert_eq!(names(&next(&mut all).await.0), ["edge", "hidden"]);
    assert_eq!(names(&next(&mut own).await.0), ["edge"]);

    describe(&sg, "hidden", "not for all").await;
    describe(&sg, "edge", "for both").await;
    assert_eq!(names(&next(&mut own).await.0), ["edge"]);
    let edge_script = Script::Fail {
        code: Code::Unavailable,
        message: "rest".into(),
        details: bytes::Bytes::new(),
    };
    edge.script("Health", edge_script, Times::Next(1));
    test(&sg, "edge").await;
    let (changes, _) = next(&mut own).await;
    let [Change::Gateway(down)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!(down.status(), pb::GatewayStatus::Unreachable);
    test(&sg, "edge").await;
    let (changes, cursor) = next(&mut own).await;
    let [Change::Gateway(up)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((up.status(), up.description.as_str()), (pb::GatewayStatus::Healthy, "for both"));

    // A gateway that becomes visible is reported without an event about it.
    sg.admin().bind("look", "hidden", pb::Role::Viewer).await;
    describe(&sg, "hidden", "for all").await;
    assert_eq!(names(&next(&mut own).await.0), ["hidden"]);
    drop(own);
    describe(&sg, "edge", "while away").await;
    unregister(&sg, "hidden").await;
    let mut again = watch(&viewer, cursor).await;
    let first = names(&next(&mut again).await.0);
    assert_eq!(first, ["=edge", "edge"], "what is not there any more is known by that");
    assert_eq!(names(&next(&mut again).await.0), ["edge"]);
    unregister(&sg, "edge").await;
    let gone = loop {
        // The role was deleted with the gateway, and with it the permission to watch. The stream may end before it
        // reports the change.
        match again.message().await {
            Ok(Some(message)) if message.change.is_none() => {}
            Ok(Some(message)) => break message.change,
            Ok(None) => panic!("a stream of ours ends with a status"),
            Err(status) => {
                assert!(
                    matches!(status.code(), Code::PermissionDenied | Code::NotFound),
                    "{status:?}"
                );
                break None;
            }
        }
    };
    assert!(gone.is_none_or(|gone| gone == Change::RemovedGateway("edge".into())));
    let mut seen = Vec::new();
    while !seen.contains(&"-edge".to_owned()) {
        seen.extend(names(&next(&mut all).await.0));
    }
    assert!(seen.contains(&"-hidden".to_owned()), "{seen:?}");
    let future = pb::WatchGatewaysRequest { after_sequence: 1 << 40 };
    let refused = match sg.admin().gateways().watch_gateways(future).await {
        Ok(stream) => stream.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    drop((all, again));
    edge.stop().await;
    sg.finish().await;
}

async fn a_resumed_watch_lists_gateways_that_became_visible_meanwhile(sg: TestServer) {
    let edge = sg.start_gateway("edge", Generation::V0_1).await;
    sg.register_gateway("hidden", edge.addr()).await;
    let key = sg.admin().create_key("look", pb::Role::None).await;
    sg.admin().bind("look", "edge", pb::Role::Viewer).await;
    let viewer = sg.with_token(&key);
    let mut own = watch(&viewer, 0).await;
    let (all, cursor) = next(&mut own).await;
    assert_eq!(names(&all), ["edge"]);
    drop(own);
    // This causes no event about a gateway.
    sg.admin().bind("look", "hidden", pb::Role::Viewer).await;
    let mut again = watch(&viewer, cursor).await;
    let (changes, _) = next(&mut again).await;
    assert!(matches!(changes.first(), Some(Change::Present(_))), "{changes:?}");
    assert_eq!(names(&changes), ["=edge,hidden", "edge", "hidden"]);
    drop(again);
    edge.stop().await;
    sg.finish().await;
}

/// Assigns sequence numbers to the events that have none, since no background job runs here.
async fn number(sg: &TestServer) {
    workers::run_once(&sg.app, &SEQUENCER).await.unwrap();
}

server_tests_without_jobs! {
    a_gateway_that_is_registered_again_is_not_reported_as_deleted,
}

async fn a_gateway_that_is_registered_again_is_not_reported_as_deleted(sg: TestServer) {
    let edge = sg.start_gateway("edge", Generation::V0_1).await;
    number(&sg).await;
    let mut all = watch(&sg.admin(), 0).await;
    assert_eq!(names(&next(&mut all).await.0), ["edge"]);
    unregister(&sg, "edge").await;
    let id = sg.register_gateway("edge", edge.addr()).await.id;
    // Both changes become visible together.
    number(&sg).await;
    let (changes, _) = next(&mut all).await;
    assert!(
        matches!(changes.last(), Some(Change::Gateway(gateway)) if gateway.id == id),
        "what a watcher makes of it is there in the end: {changes:?}"
    );
    drop(all);
    edge.stop().await;
    sg.finish().await;
}
