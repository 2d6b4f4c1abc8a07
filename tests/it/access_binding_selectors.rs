//! Tests of roles on the gateways that a selector matches.

use crate::access_bindings::{
    get_gateway_request, group, last_entry, register_two_gateways, set_labels_request,
    set_role_request, set_selector_role_request, subject, subject_of, visible_gateways,
};
use crate::support::server::TestServer;
use serde_json::json;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::subject::Subject as Kind;
use shoreguard::role::Role;

server_tests! {
    a_role_by_selector_follows_the_labels,
    t07_the_lowest_matching_selector_applies_unless_a_gateway_is_named,
    t07_a_selector_must_require_present_access_labels,
    t06_only_a_global_admin_binds_selectors_and_groups,
}

async fn a_role_by_selector_follows_the_labels(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    let key = admin.create_key("ci", pb::Role::None).await;
    let ci = sg.with_token(&key);
    let bound = admin
        .access()
        .set_gateway_role(set_selector_role_request(
            subject("ci"),
            "access/team , access/env in (b,a)",
            pb::Role::Operator,
        ))
        .await;
    let bound = bound.unwrap().into_inner().gateway_role.unwrap();
    assert_eq!(
        (bound.gateway.as_str(), bound.selector.as_str()),
        ("", "access/env in (a,b),access/team")
    );
    assert!(visible_gateways(&ci).await.is_empty());
    assert_refused!(
        ci.gateways().get_gateway(get_gateway_request("east")).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );

    admin
        .gateways()
        .update_gateway(set_labels_request("east", &[("access/env", "a"), ("access/team", "ml")]))
        .await
        .unwrap();
    assert_eq!(visible_gateways(&ci).await, ["east ROLE_OPERATOR"]);
    ci.gateways().get_gateway(get_gateway_request("east")).await.unwrap();
    let list =
        ci.gateways().list_gateways(pb::ListGatewaysRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.gateways.len(), 1);
    let request = pb::RegisterGatewayRequest {
        name: "north".into(),
        endpoint: simulator.addr().to_string(),
        scheme: pb::GatewayScheme::Http.into(),
        labels: set_labels_request("", &[("access/env", "b"), ("access/team", "")]).labels,
        ..Default::default()
    };
    admin.gateways().register_gateway(request).await.unwrap();
    assert_eq!(visible_gateways(&ci).await, ["east ROLE_OPERATOR", "north ROLE_OPERATOR"]);
    let (_, detail) = last_entry(&sg, "/RegisterGateway").await;
    assert_eq!(
        detail["access_gained"],
        json!({ "count": 1, "first": [{ "who": "sp:ci", "from": "none", "to": "operator" }] })
    );

    // Losing access through a label change ends the open streams.
    let lone = sg.with_token(&admin.create_key("lone", pb::Role::None).await);
    admin
        .access()
        .set_gateway_role(set_selector_role_request(
            subject("lone"),
            "access/env=a",
            pb::Role::Viewer,
        ))
        .await
        .unwrap();
    let mut watch =
        lone.events().watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner();
    admin
        .gateways()
        .update_gateway(set_labels_request("east", &[("access/env", "b"), ("access/team", "ml")]))
        .await
        .unwrap();
    let ended = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_refused!(ended, PermissionDenied, "ROLE_TOO_LOW");

    // The same selector in another order is the same binding.
    let stale = pb::SetGatewayRoleRequest {
        etag: "v2".into(),
        ..set_selector_role_request(
            subject("ci"),
            "access/env in (a,b),access/team",
            pb::Role::Viewer,
        )
    };
    assert_refused!(
        admin.access().set_gateway_role(stale.clone()).await,
        Aborted,
        "CONCURRENT_CHANGE"
    );
    let lower = pb::SetGatewayRoleRequest { etag: "v1".into(), ..stale };
    admin.access().set_gateway_role(lower).await.unwrap();
    assert_eq!(visible_gateways(&ci).await, ["east ROLE_VIEWER", "north ROLE_VIEWER"]);
    let remove = pb::RemoveGatewayRoleRequest {
        subject: Some(subject("ci")),
        selector: "access/team,access/env in (b, a)".into(),
        etag: "v2".into(),
        ..Default::default()
    };
    admin.access().remove_gateway_role(remove.clone()).await.unwrap();
    assert!(visible_gateways(&ci).await.is_empty());
    assert_refused!(admin.access().remove_gateway_role(remove).await, NotFound, "NOT_FOUND");
    simulator.stop().await;
    sg.finish().await;
}

async fn t07_the_lowest_matching_selector_applies_unless_a_gateway_is_named(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    for gateway in ["east", "west"] {
        admin
            .gateways()
            .update_gateway(set_labels_request(gateway, &[("access/env", "prod")]))
            .await
            .unwrap();
    }
    let ci = sg.with_token(&admin.create_key("ci", pb::Role::Viewer).await);
    for (selector, role) in [
        ("access/env", pb::Role::Operator),
        ("access/env=prod", pb::Role::None),
        ("access/env=test", pb::Role::Viewer),
    ] {
        admin
            .access()
            .set_gateway_role(set_selector_role_request(subject("ci"), selector, role))
            .await
            .unwrap();
    }
    assert!(visible_gateways(&ci).await.is_empty());
    admin.bind("ci", "east", pb::Role::Operator).await;
    assert_eq!(visible_gateways(&ci).await, ["east ROLE_OPERATOR"]);

    // A user's own bindings, including those by selector, take precedence over those of its groups. Among groups,
    // the highest role applies.
    let ana = sg.with_token(&sg.create_user("ana@example.com", Role::Viewer).await);
    sg.create_group("low", Role::None, &["ana@example.com"]).await;
    sg.create_group("high", Role::None, &["ana@example.com"]).await;
    let ops = pb::SetGatewayRoleRequest {
        subject: Some(group("low")),
        ..set_role_request("", "east", pb::Role::None)
    };
    admin.access().set_gateway_role(ops).await.unwrap();
    assert_eq!(visible_gateways(&ana).await, ["west ROLE_VIEWER"]);
    admin
        .access()
        .set_gateway_role(set_selector_role_request(
            group("high"),
            "access/env",
            pb::Role::Operator,
        ))
        .await
        .unwrap();
    assert_eq!(visible_gateways(&ana).await, ["east ROLE_OPERATOR", "west ROLE_OPERATOR"]);
    let own = set_selector_role_request(
        subject_of(Kind::User("ana@example.com".into())),
        "access/env=prod",
        pb::Role::Viewer,
    );
    admin.access().set_gateway_role(own).await.unwrap();
    assert_eq!(visible_gateways(&ana).await, ["east ROLE_VIEWER", "west ROLE_VIEWER"]);
    simulator.stop().await;
    sg.finish().await;
}

async fn t07_a_selector_must_require_present_access_labels(sg: TestServer) {
    let admin = sg.admin();
    sg.register_gateway("east", ([127, 0, 0, 1], 1).into()).await;
    admin.create_key("ci", pb::Role::None).await;
    let bad = [
        "env=prod",
        "access/env=prod,team",
        "!access/env",
        "access/env!=prod",
        "access/env notin (prod)",
        "access/env in (",
        "access/env in ()",
        " ",
        ",",
    ];
    for selector in bad {
        let refused = admin
            .access()
            .set_gateway_role(set_selector_role_request(subject("ci"), selector, pb::Role::Viewer))
            .await;
        assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    }
    let both = pb::SetGatewayRoleRequest {
        selector: "access/env".into(),
        ..set_role_request("ci", "east", pb::Role::Viewer)
    };
    assert_refused!(admin.access().set_gateway_role(both).await, InvalidArgument, "INVALID_FIELD");
    assert_refused!(
        admin.access().set_gateway_role(set_role_request("ci", "", pb::Role::Viewer)).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let neither =
        pb::RemoveGatewayRoleRequest { subject: Some(subject("ci")), ..Default::default() };
    assert_refused!(
        admin.access().remove_gateway_role(neither).await,
        InvalidArgument,
        "INVALID_FIELD"
    );

    // The longest selector (2000 bytes), and one byte more.
    let long = |bytes: usize| {
        let key = format!("access/{}=", "k".repeat(63));
        // 900 characters of two bytes, then characters of one byte up to `bytes`.
        format!("{key}{}", "é".repeat(900)) + &"x".repeat(bytes - key.len() - 1800)
    };
    let by = |selector: &str| set_selector_role_request(subject("ci"), selector, pb::Role::Viewer);
    let at_most = long(1872);
    admin.access().set_gateway_role(by(&at_most)).await.unwrap();
    let four_bytes = format!("access/env={}", "\u{10348}".repeat(497));
    assert_eq!(four_bytes.len(), 1_999);
    admin.access().set_gateway_role(by(&four_bytes)).await.unwrap();
    admin.access().set_gateway_role(by(&format!("{four_bytes}x"))).await.unwrap();
    assert_refused!(
        admin.access().set_gateway_role(by(&format!("{four_bytes}xy"))).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    for n in 3..32 {
        admin.access().set_gateway_role(by(&format!("access/n={n}"))).await.unwrap();
    }
    assert_refused!(
        admin.access().set_gateway_role(by("access/n=32")).await,
        FailedPrecondition,
        "LIMIT_REACHED"
    );
    admin.access().set_gateway_role(by("access/n=31")).await.unwrap();
    let all = pb::ListGatewayRolesRequest { subject: Some(subject("ci")), ..Default::default() };
    assert_eq!(
        admin.access().list_gateway_roles(all).await.unwrap().into_inner().gateway_roles.len(),
        32
    );
    sg.finish().await;
}

async fn t06_only_a_global_admin_binds_selectors_and_groups(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    let lead = sg.with_token(&admin.create_key("lead", pb::Role::None).await);
    admin.bind("lead", "east", pb::Role::Admin).await;
    admin
        .access()
        .set_gateway_role(set_selector_role_request(subject("lead"), "access/env", pb::Role::Admin))
        .await
        .unwrap();
    let refused = lead
        .access()
        .set_gateway_role(set_selector_role_request(
            subject("lead"),
            "access/env",
            pb::Role::Viewer,
        ))
        .await;
    assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
    let remove = pb::RemoveGatewayRoleRequest {
        subject: Some(subject("lead")),
        selector: "access/env".into(),
        ..Default::default()
    };
    assert_refused!(
        lead.access().remove_gateway_role(remove).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    // Naming its own gateway in addition does not help.
    let both = pb::SetGatewayRoleRequest {
        gateway: "east".into(),
        ..set_selector_role_request(subject("lead"), "access/env", pb::Role::Viewer)
    };
    assert_refused!(lead.access().set_gateway_role(both).await, InvalidArgument, "INVALID_FIELD");
    // A group has effect beyond the gateway. The refusal does not reveal whether the group exists.
    sg.create_group("ops", Role::None, &[]).await;
    for name in ["ops", "ghosts"] {
        let request = pb::SetGatewayRoleRequest {
            subject: Some(group(name)),
            ..set_role_request("", "east", pb::Role::Viewer)
        };
        assert_refused!(
            lead.access().set_gateway_role(request).await,
            PermissionDenied,
            "ROLE_TOO_LOW"
        );
        let request = pb::RemoveGatewayRoleRequest {
            subject: Some(group(name)),
            gateway: "east".into(),
            ..Default::default()
        };
        assert_refused!(
            lead.access().remove_gateway_role(request).await,
            PermissionDenied,
            "ROLE_TOO_LOW"
        );
    }
    let ghosts = pb::SetGatewayRoleRequest {
        subject: Some(group("ghosts")),
        ..set_role_request("", "east", pb::Role::Viewer)
    };
    assert_refused!(admin.access().set_gateway_role(ghosts).await, NotFound, "NOT_FOUND");
    // Only a global admin can change the role of an admin of a gateway, including an admin by selector.
    admin.create_key("dev", pb::Role::None).await;
    admin
        .access()
        .set_gateway_role(set_selector_role_request(subject("dev"), "access/env", pb::Role::Admin))
        .await
        .unwrap();
    lead.access()
        .set_gateway_role(set_role_request("dev", "east", pb::Role::Viewer))
        .await
        .unwrap();
    admin
        .gateways()
        .update_gateway(set_labels_request("west", &[("access/env", "prod")]))
        .await
        .unwrap();
    let demote = set_role_request("dev", "west", pb::Role::None);
    assert_refused!(lead.access().set_gateway_role(demote).await, PermissionDenied, "ROLE_TOO_LOW");
    // A selector cannot lock out a global admin, neither directly nor through a group.
    let admin_of_people = sg.with_token(&sg.create_user("root@example.com", Role::Admin).await);
    sg.create_group("locked", Role::None, &["root@example.com"]).await;
    for who in [subject_of(Kind::User("root@example.com".into())), group("locked")] {
        admin
            .access()
            .set_gateway_role(set_selector_role_request(who, "access/env", pb::Role::None))
            .await
            .unwrap();
    }
    admin_of_people.gateways().get_gateway(get_gateway_request("west")).await.unwrap();
    simulator.stop().await;
    sg.finish().await;
}
