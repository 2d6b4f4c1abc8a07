//! Roles on gateways, through the API.

use std::collections::HashMap;

use serde_json::{Value, json};
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::subject::Subject as Kind;
use shoreguard::role::Role;
use shoreguard_simulator::{Generation, Simulator};

use crate::support::server::{Caller, TestServer};

pub(crate) fn subject_of(kind: Kind) -> pb::Subject {
    pb::Subject { subject: Some(kind) }
}

pub(crate) fn subject(name: &str) -> pb::Subject {
    subject_of(Kind::ServicePrincipal(name.to_owned()))
}

pub(crate) fn group(name: &str) -> pb::Subject {
    subject_of(Kind::Group(name.to_owned()))
}

pub(crate) fn set_selector_role_request(
    subject: pb::Subject,
    selector: &str,
    role: pb::Role,
) -> pb::SetGatewayRoleRequest {
    pb::SetGatewayRoleRequest {
        subject: Some(subject),
        selector: selector.to_owned(),
        role: role.into(),
        ..Default::default()
    }
}

pub(crate) fn set_labels_request(
    gateway: &str,
    pairs: &[(&str, &str)],
) -> pb::UpdateGatewayRequest {
    let labels = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
    pb::UpdateGatewayRequest {
        gateway: gateway.to_owned(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["labels".to_owned()] }),
        labels: labels.collect::<HashMap<_, _>>(),
        ..Default::default()
    }
}

/// Formats each role as gateway, selector and subject.
fn shown(roles: Vec<pb::GatewayRole>) -> Vec<String> {
    let shown = roles.into_iter().map(|r| {
        let (Kind::User(name) | Kind::ServicePrincipal(name) | Kind::Group(name)) =
            r.subject.unwrap().subject.unwrap();
        format!("{}{} {name}", r.gateway, r.selector)
    });
    shown.collect()
}

pub(crate) async fn visible_gateways(caller: &Caller) -> Vec<String> {
    let identity = caller.auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await;
    let gateways = identity.unwrap().into_inner().gateways;
    gateways.into_iter().map(|g| format!("{} {}", g.gateway, g.role().as_str_name())).collect()
}

/// Returns action, resource type, resource ID, gateway and outcome of the newest entry of a method, and its detail.
pub(crate) async fn last_entry(sg: &TestServer, method: &str) -> (String, Value) {
    sg.app.audit.wait_settled().await;
    let request = pb::ListAuditEntriesRequest { page_size: 1000, ..Default::default() };
    let entries = sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
    let newest = entries.audit_entries.into_iter().filter(|entry| entry.method.ends_with(method));
    let entry = newest.max_by_key(|entry| entry.id).unwrap();
    let outcome = entry.outcome();
    let shown = format!(
        "{} {} {} on {:?}: {}",
        entry.action,
        entry.resource_type,
        entry.resource_id,
        entry.gateway,
        outcome.as_str_name()
    );
    (shown, serde_json::from_str(&entry.detail_json).unwrap_or(Value::Null))
}

pub(crate) fn set_role_request(
    name: &str,
    gateway: &str,
    role: pb::Role,
) -> pb::SetGatewayRoleRequest {
    pb::SetGatewayRoleRequest {
        subject: Some(subject(name)),
        gateway: gateway.to_owned(),
        role: role.into(),
        ..Default::default()
    }
}

pub(crate) fn get_gateway_request(gateway: &str) -> pb::GetGatewayRequest {
    pb::GetGatewayRequest { gateway: gateway.to_owned() }
}

pub(crate) async fn register_two_gateways(sg: &TestServer) -> Simulator {
    let simulator = sg.start_gateway("east", Generation::V0_1).await;
    sg.register_gateway("west", simulator.addr()).await;
    simulator
}

server_tests! {
    a_gateway_role_overrides_a_lower_or_higher_global_role,
    t06_a_gateway_admin_grants_lower_roles_only_on_its_own_gateway,
    roles_are_listed_in_pages_and_guarded_by_etags,
    t07_a_label_change_that_alters_access_is_audited_with_the_difference,
    the_audit_log_names_the_subject_and_its_kind,
    unregistering_a_gateway_counts_the_removed_roles_of_groups,
}

async fn a_gateway_role_overrides_a_lower_or_higher_global_role(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    let key = admin.create_key("ci", pb::Role::Viewer).await;
    let ci = sg.with_token(&key);
    ci.gateways().get_gateway(get_gateway_request("east")).await.unwrap();

    admin.bind("ci", "east", pb::Role::None).await;
    assert_refused!(
        ci.gateways().get_gateway(get_gateway_request("east")).await,
        NotFound,
        "NOT_FOUND"
    );
    assert_refused!(
        ci.gateways().get_gateway(get_gateway_request("nowhere")).await,
        NotFound,
        "NOT_FOUND"
    );
    let list =
        ci.gateways().list_gateways(pb::ListGatewaysRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.gateways.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["west"]);

    admin.bind("ci", "east", pb::Role::Admin).await;
    let test = pb::TestGatewayRequest { gateway: "east".into(), ..Default::default() };
    assert!(ci.gateways().test_gateway(test.clone()).await.unwrap().into_inner().reachable);
    let west = pb::TestGatewayRequest { gateway: "west".into(), ..test };
    assert_refused!(ci.gateways().test_gateway(west).await, PermissionDenied, "ROLE_TOO_LOW");

    let remove = pb::RemoveGatewayRoleRequest {
        subject: Some(subject("ci")),
        gateway: "east".into(),
        ..Default::default()
    };
    admin.access().remove_gateway_role(remove.clone()).await.unwrap();
    let test = pb::TestGatewayRequest { gateway: "east".into(), ..Default::default() };
    assert_refused!(ci.gateways().test_gateway(test).await, PermissionDenied, "ROLE_TOO_LOW");
    assert_refused!(admin.access().remove_gateway_role(remove).await, NotFound, "NOT_FOUND");
    simulator.stop().await;
    sg.finish().await;
}

async fn t06_a_gateway_admin_grants_lower_roles_only_on_its_own_gateway(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    let key = admin.create_key("lead", pb::Role::None).await;
    admin.create_key("dev", pb::Role::None).await;
    admin.bind("lead", "east", pb::Role::Admin).await;
    let lead = sg.with_token(&key);
    lead.access()
        .set_gateway_role(set_role_request("dev", "east", pb::Role::Operator))
        .await
        .unwrap();
    assert_refused!(
        lead.access().set_gateway_role(set_role_request("dev", "east", pb::Role::Admin)).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    assert_refused!(
        lead.access().set_gateway_role(set_role_request("root", "east", pb::Role::None)).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    assert_refused!(
        lead.access().set_gateway_role(set_role_request("dev", "west", pb::Role::Viewer)).await,
        NotFound,
        "NOT_FOUND"
    );
    assert_refused!(
        lead.access().set_gateway_role(set_role_request("dev", "", pb::Role::Viewer)).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    let all = lead.access().list_gateway_roles(pb::ListGatewayRolesRequest::default()).await;
    assert_refused!(all, PermissionDenied, "ROLE_TOO_LOW");
    // A binding cannot lock out a global admin.
    admin
        .access()
        .set_gateway_role(set_role_request("root", "east", pb::Role::None))
        .await
        .unwrap();
    admin.gateways().get_gateway(get_gateway_request("east")).await.unwrap();
    simulator.stop().await;
    sg.finish().await;
}

async fn roles_are_listed_in_pages_and_guarded_by_etags(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    for n in 0..3 {
        let name = format!("p{n}");
        admin.create_key(&name, pb::Role::None).await;
        admin.bind(&name, "east", pb::Role::Viewer).await;
        admin.bind(&name, "west", pb::Role::Viewer).await;
    }
    let user = subject_of(Kind::User("Admin@example.com".into()));
    let of_user = pb::SetGatewayRoleRequest {
        subject: Some(user.clone()),
        ..set_role_request("", "west", pb::Role::Viewer)
    };
    admin.access().set_gateway_role(of_user).await.unwrap();
    sg.create_group("ops", Role::None, &[]).await;
    let of_group = pb::SetGatewayRoleRequest {
        subject: Some(group("ops")),
        ..set_role_request("", "east", pb::Role::Viewer)
    };
    admin.access().set_gateway_role(of_group).await.unwrap();
    for (who, selector) in [
        (user, "access/zone=a"),
        (subject("p1"), "access/zone=b"),
        (subject("p0"), "access/zone=b"),
        (group("ops"), "access/zone"),
    ] {
        admin
            .access()
            .set_gateway_role(set_selector_role_request(who, selector, pb::Role::Viewer))
            .await
            .unwrap();
    }
    let mut shown = Vec::new();
    let mut token = String::new();
    loop {
        let request =
            pb::ListGatewayRolesRequest { page_size: 2, page_token: token, ..Default::default() };
        let page = admin.access().list_gateway_roles(request).await.unwrap().into_inner();
        shown.extend(self::shown(page.gateway_roles));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(
        shown,
        [
            "west admin@example.com",
            "access/zone=a admin@example.com",
            "east p0",
            "east p1",
            "east p2",
            "west p0",
            "west p1",
            "west p2",
            "access/zone=b p0",
            "access/zone=b p1",
            "east ops",
            "access/zone ops",
        ]
    );
    let list = async |request| {
        self::shown(
            admin.access().list_gateway_roles(request).await.unwrap().into_inner().gateway_roles,
        )
    };
    let of_p1 = pb::ListGatewayRolesRequest { subject: Some(subject("p1")), ..Default::default() };
    assert_eq!(list(of_p1).await, ["east p1", "west p1", "access/zone=b p1"]);

    // The list of one gateway has the bindings that currently apply to it. An admin of only that gateway can read
    // it.
    admin
        .gateways()
        .update_gateway(set_labels_request("east", &[("access/zone", "b")]))
        .await
        .unwrap();
    let on_east = pb::ListGatewayRolesRequest { gateway: "east".into(), ..Default::default() };
    let expected = [
        "east p0",
        "east p1",
        "east p2",
        "access/zone=b p0",
        "access/zone=b p1",
        "east ops",
        "access/zone ops",
    ];
    assert_eq!(list(on_east.clone()).await, expected);
    let key = admin.create_key("lead", pb::Role::None).await;
    admin.bind("lead", "west", pb::Role::Admin).await;
    let on_west =
        pb::ListGatewayRolesRequest { gateway: "west".into(), page_size: 2, ..Default::default() };
    let page = sg.with_token(&key).access().list_gateway_roles(on_west).await.unwrap().into_inner();
    assert_eq!(self::shown(page.gateway_roles), ["west admin@example.com", "west lead"]);
    assert_refused!(
        sg.with_token(&key).access().list_gateway_roles(on_east).await,
        NotFound,
        "NOT_FOUND"
    );

    let stale = pb::SetGatewayRoleRequest {
        etag: "v9".into(),
        ..set_role_request("p0", "east", pb::Role::Operator)
    };
    assert_refused!(admin.access().set_gateway_role(stale).await, Aborted, "CONCURRENT_CHANGE");
    let right = pb::SetGatewayRoleRequest {
        etag: "v1".into(),
        ..set_role_request("p0", "east", pb::Role::Operator)
    };
    let stands =
        admin.access().set_gateway_role(right).await.unwrap().into_inner().gateway_role.unwrap();
    assert_eq!(stands.etag, "v2");
    let unsaid =
        pb::SetGatewayRoleRequest { role: 0, ..set_role_request("p0", "east", pb::Role::Viewer) };
    assert_refused!(
        admin.access().set_gateway_role(unsaid).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let nobody = pb::SetGatewayRoleRequest {
        subject: None,
        ..set_role_request("p0", "east", pb::Role::Viewer)
    };
    assert_refused!(
        admin.access().set_gateway_role(nobody).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    assert_refused!(
        admin.access().set_gateway_role(set_role_request("ghost", "east", pb::Role::Viewer)).await,
        NotFound,
        "NOT_FOUND"
    );
    simulator.stop().await;
    sg.finish().await;
}

async fn t07_a_label_change_that_alters_access_is_audited_with_the_difference(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    for n in 0..25 {
        let name = format!("p{n:02}");
        admin.create_key(&name, if n < 2 { pb::Role::Viewer } else { pb::Role::None }).await;
        let role = if n == 0 { pb::Role::None } else { pb::Role::Operator };
        admin
            .access()
            .set_gateway_role(set_selector_role_request(subject(&name), "access/env=prod", role))
            .await
            .unwrap();
    }
    admin
        .gateways()
        .update_gateway(set_labels_request("east", &[("access/env", "test"), ("env", "x")]))
        .await
        .unwrap();
    let (shown, detail) = last_entry(&sg, "/UpdateGateway").await;
    assert_eq!(shown, "gateway.update gateway east on \"east\": AUDIT_OUTCOME_OK");
    assert!(
        detail.get("access_gained").is_none() && detail.get("access_lost").is_none(),
        "{detail}"
    );
    admin
        .gateways()
        .update_gateway(set_labels_request("east", &[("access/env", "prod")]))
        .await
        .unwrap();
    let (_, detail) = last_entry(&sg, "/UpdateGateway").await;
    let gained = &detail["access_gained"];
    assert_eq!((&gained["count"], gained["first"].as_array().unwrap().len()), (&json!(24), 20));
    assert_eq!(gained["first"][0], json!({ "who": "sp:p01", "from": "viewer", "to": "operator" }));
    assert_eq!(
        detail["access_lost"],
        json!({ "count": 1, "first": [{ "who": "sp:p00", "from": "viewer", "to": "none" }] })
    );
    simulator.stop().await;
    sg.finish().await;
}

async fn the_audit_log_names_the_subject_and_its_kind(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    admin.create_key("ci", pb::Role::None).await;
    sg.create_group("ops", Role::None, &[]).await;
    let user = subject_of(Kind::User("admin@example.com".into()));
    for (who, kind, name) in [
        (user, "user", "admin@example.com"),
        (subject("ci"), "sp", "ci"),
        (group("ops"), "group", "ops"),
    ] {
        let on_east = pb::SetGatewayRoleRequest {
            subject: Some(who.clone()),
            ..set_role_request("", "east", pb::Role::Viewer)
        };
        admin.access().set_gateway_role(on_east).await.unwrap();
        let (shown, detail) = last_entry(&sg, "/SetGatewayRole").await;
        assert_eq!(
            shown,
            format!("gateway_role.set gateway_role {kind}:{name} on \"east\": AUDIT_OUTCOME_OK")
        );
        assert_eq!(detail, json!({ "gateway": "east", "role": "viewer" }));
        admin
            .access()
            .set_gateway_role(set_selector_role_request(
                who.clone(),
                "access/env",
                pb::Role::Viewer,
            ))
            .await
            .unwrap();
        let (shown, detail) = last_entry(&sg, "/SetGatewayRole").await;
        assert_eq!(
            shown,
            format!("gateway_role.set gateway_role {kind}:{name} on \"\": AUDIT_OUTCOME_OK")
        );
        assert_eq!(detail, json!({ "selector": "access/env", "role": "viewer" }));
        let remove = pb::RemoveGatewayRoleRequest {
            subject: Some(who),
            gateway: "east".into(),
            ..Default::default()
        };
        admin.access().remove_gateway_role(remove).await.unwrap();
        let (shown, _) = last_entry(&sg, "/RemoveGatewayRole").await;
        assert_eq!(
            shown,
            format!("gateway_role.remove gateway_role {kind}:{name} on \"east\": AUDIT_OUTCOME_OK")
        );
    }
    let nobody = sg.with_token(&admin.create_key("nobody", pb::Role::Viewer).await);
    let refused = nobody
        .access()
        .set_gateway_role(set_selector_role_request(group("ops"), "access/env", pb::Role::Admin))
        .await;
    assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
    let lead = sg.with_token(&admin.create_key("lead", pb::Role::None).await);
    admin.bind("lead", "east", pb::Role::Admin).await;
    let refused = lead
        .access()
        .set_gateway_role(set_selector_role_request(group("ops"), "access/env", pb::Role::Admin))
        .await;
    assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
    // A refusal is recorded after its response was sent.
    let expected = "gateway_role.set gateway_role group:ops on \"\": AUDIT_OUTCOME_DENIED";
    let begun = std::time::Instant::now();
    while last_entry(&sg, "/SetGatewayRole").await.0 != expected {
        assert!(begun.elapsed() < std::time::Duration::from_mins(1), "not recorded");
        crate::support::pause().await;
    }
    simulator.stop().await;
    sg.finish().await;
}

async fn unregistering_a_gateway_counts_the_removed_roles_of_groups(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    let ana = sg.with_token(&sg.create_user("ana@example.com", Role::None).await);
    sg.create_group("ops", Role::None, &["ana@example.com"]).await;
    let on_east = pb::SetGatewayRoleRequest {
        subject: Some(group("ops")),
        ..set_role_request("", "east", pb::Role::Viewer)
    };
    admin.access().set_gateway_role(on_east).await.unwrap();
    assert_eq!(visible_gateways(&ana).await, ["east ROLE_VIEWER"]);
    let gone = pb::UnregisterGatewayRequest { gateway: "east".into(), ..Default::default() };
    let gone = admin.gateways().unregister_gateway(gone).await.unwrap().into_inner();
    assert_eq!(gone.gateway_roles_removed, 1);
    assert!(visible_gateways(&ana).await.is_empty());
    simulator.stop().await;
    sg.finish().await;
}
