//! Lists, selectors, metadata, starting and stopping.

use super::*;

async fn names(caller: &Caller, request: &pb::ListSandboxesRequest) -> Vec<String> {
    let (mut all, mut request) = (Vec::new(), request.clone());
    loop {
        let page = caller.sandboxes().list_sandboxes(request.clone()).await.unwrap().into_inner();
        all.extend(page.sandboxes.into_iter().map(|sandbox| sandbox.name));
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

fn update(
    sg: &TestServer,
    gateway: &str,
    sandbox: &str,
    paths: &[&str],
) -> pb::UpdateSandboxMetadataRequest {
    pb::UpdateSandboxMetadataRequest {
        gateway: gateway.to_owned(),
        sandbox: sandbox.to_owned(),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|&p| p.to_owned()).collect(),
        }),
        request_id: request_id(sg),
        ..Default::default()
    }
}

server_tests! {
    a_selector_is_applied_before_the_page_limit,
    a_selector_ignores_the_labels_of_a_former_sandbox,
    sandbox_metadata_is_updated_by_mask_and_can_be_cleared,
    a_sandbox_is_stopped_and_started_again,
}

async fn a_selector_is_applied_before_the_page_limit(sg: TestServer) {
    let mut simulators = Vec::new();
    for (name, generation) in GATEWAYS {
        simulators.push(start_gateway(&sg, name, generation).await);
        for i in 0..7 {
            let env: &[(&str, &str)] = match i % 3 {
                0 => &[("env", "prod")],
                1 => &[("env", "test"), ("legacy", "")],
                _ => &[],
            };
            create_sandbox(
                &sg,
                pb::CreateSandboxRequest {
                    labels: labels(env),
                    ..create_request(&sg, name, &format!("box-{i}"))
                },
            )
            .await;
        }
        let admin = sg.admin();
        let picked = |selector: &str| pb::ListSandboxesRequest {
            gateway: name.into(),
            label_selector: selector.into(),
            page_size: 2,
            ..Default::default()
        };
        let first =
            admin.sandboxes().list_sandboxes(picked("env=prod")).await.unwrap().into_inner();
        assert_eq!(first.sandboxes.len(), 2, "a full page, though others lie between");
        assert_eq!(names(&admin, &picked("env=prod")).await, ["box-0", "box-3", "box-6"]);
        assert_eq!(names(&admin, &picked("env in (test)")).await, ["box-1", "box-4"]);
        assert_eq!(names(&admin, &picked("!env")).await, ["box-2", "box-5"]);
        assert_eq!(names(&admin, &picked("env!=prod,!legacy")).await, ["box-2", "box-5"]);
        assert_eq!(names(&admin, &picked("")).await.len(), 7);
        let other =
            pb::ListSandboxesRequest { page_token: first.next_page_token, ..picked("env=test") };
        assert_refused!(
            admin.sandboxes().list_sandboxes(other).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    let nobody = sg.with_token(&sg.admin().create_key("elsewhere", pb::Role::None).await);
    sg.admin().bind("elsewhere", "old", pb::Role::Viewer).await;
    let hidden = pb::ListSandboxesRequest { gateway: "new".into(), ..Default::default() };
    assert_refused!(nobody.sandboxes().list_sandboxes(hidden).await, NotFound, "NOT_FOUND");
    let seen = pb::ListSandboxesRequest { gateway: "old".into(), ..Default::default() };
    assert_eq!(names(&nobody, &seen).await.len(), 7);
}

async fn a_selector_ignores_the_labels_of_a_former_sandbox(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let _simulator = start_gateway(&sg, name, generation).await;
        let env = labels(&[("env", "prod")]);
        for sandbox in ["box", "kept"] {
            let request = create_request(&sg, name, sandbox);
            create_sandbox(&sg, pb::CreateSandboxRequest { labels: env.clone(), ..request }).await;
        }
        // As if it was deleted and created again on the gateway itself.
        let stale = "UPDATE sandbox_meta SET sandbox_id = 'former' WHERE sandbox_name = 'box'";
        assert!(sg.sql(stale).await > 0);
        let picked = async |selector: &str| {
            let request = pb::ListSandboxesRequest {
                gateway: name.into(),
                label_selector: selector.into(),
                ..Default::default()
            };
            names(&sg.admin(), &request).await
        };
        assert_eq!(picked("!env").await, ["box"]);
        assert_eq!(picked("env!=prod").await, ["box"]);
        assert_eq!(picked("env=prod").await, ["kept"]);
        assert_eq!(picked("").await, ["box", "kept"]);
    }
}

async fn sandbox_metadata_is_updated_by_mask_and_can_be_cleared(sg: TestServer) {
    let _simulator = start_gateway(&sg, "edge", Generation::V0_1).await;
    create_sandbox(&sg, create_request(&sg, "edge", "box")).await;
    let admin = sg.admin();
    let describe = pb::UpdateSandboxMetadataRequest {
        description: "for the demo".into(),
        labels: labels(&[("env", "prod")]),
        ..update(&sg, "edge", "box", &["description", "labels"])
    };
    let described = admin
        .sandboxes()
        .update_sandbox_metadata(describe)
        .await
        .unwrap()
        .into_inner()
        .sandbox
        .unwrap();
    assert_eq!((described.description.as_str(), described.etag.as_str()), ("for the demo", "v2"));
    let keep = pb::UpdateSandboxMetadataRequest {
        description: "ignored".into(),
        ..update(&sg, "edge", "box", &["labels"])
    };
    let kept = admin
        .sandboxes()
        .update_sandbox_metadata(keep)
        .await
        .unwrap()
        .into_inner()
        .sandbox
        .unwrap();
    assert_eq!((kept.description.as_str(), kept.labels.len()), ("for the demo", 0));
    let stale = pb::UpdateSandboxMetadataRequest {
        etag: "v2".into(),
        ..update(&sg, "edge", "box", &["labels"])
    };
    assert_refused!(
        admin.sandboxes().update_sandbox_metadata(stale).await,
        Aborted,
        "CONCURRENT_CHANGE"
    );
    let clear = update(&sg, "edge", "box", &["description"]);
    let cleared = admin
        .sandboxes()
        .update_sandbox_metadata(clear)
        .await
        .unwrap()
        .into_inner()
        .sandbox
        .unwrap();
    assert_eq!(cleared.description, "");
    assert_eq!(get_sandbox(&admin, "edge", "box").await.unwrap().description, "");
    let none =
        admin.sandboxes().update_sandbox_metadata(update(&sg, "edge", "none", &["labels"])).await;
    assert_refused!(none, NotFound, "NOT_FOUND");
    let empty = admin.sandboxes().update_sandbox_metadata(update(&sg, "edge", "box", &[])).await;
    assert_refused!(empty, InvalidArgument, "INVALID_FIELD");
}

async fn a_sandbox_is_stopped_and_started_again(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let _simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        let admin = sg.admin();
        let stop = pb::StopSandboxRequest {
            gateway: name.into(),
            sandbox: "box".into(),
            request_id: request_id(&sg),
            ..Default::default()
        };
        admin.sandboxes().stop_sandbox(stop).await.unwrap();
        wait_until("the sandbox is stopped", || async {
            get_sandbox(&admin, name, "box").await.unwrap().phase() == pb::SandboxPhase::Stopped
        })
        .await;
        let start = pb::StartSandboxRequest {
            gateway: name.into(),
            sandbox: "box".into(),
            request_id: request_id(&sg),
            ..Default::default()
        };
        admin.sandboxes().start_sandbox(start).await.unwrap();
        wait_until("it runs", || async {
            get_sandbox(&admin, name, "box").await.unwrap().phase() == pb::SandboxPhase::Ready
        })
        .await;
        let none = pb::StartSandboxRequest {
            gateway: name.into(),
            sandbox: "none".into(),
            request_id: request_id(&sg),
            ..Default::default()
        };
        assert_refused!(admin.sandboxes().start_sandbox(none).await, NotFound, "NOT_FOUND");
    }
}
