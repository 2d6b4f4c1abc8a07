//! Changes of access are checked against the effective roles that result, as the database has them when the change
//! runs.

use std::time::Instant;

use shoreguard::ctx::Call;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::subject::Subject as Kind;
use shoreguard::resources::access_bindings::effect;
use shoreguard::role::Role;
use shoreguard::rpc::call::handle_write;
use tokio::sync::oneshot;
use tonic::Request;

use crate::access_bindings::{
    get_gateway_request, group, register_two_gateways, set_labels_request, set_role_request,
    set_selector_role_request, subject, subject_of, visible_gateways,
};
use crate::support::eventually;
use crate::support::server::{Caller, TestServer};

const ANA: &str = "ana@example.com";
/// Sessions of the test's database that wait for an advisory lock.
const WAITING: &str = "SELECT 1 FROM pg_stat_activity \
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'";

fn user() -> pb::Subject {
    subject_of(Kind::User(ANA.to_owned()))
}

fn set_of(subject: pb::Subject, gateway: &str, role: pb::Role) -> pb::SetGatewayRoleRequest {
    pb::SetGatewayRoleRequest { subject: Some(subject), ..set_role_request("", gateway, role) }
}

fn remove_of(subject: pb::Subject, gateway: &str) -> pb::RemoveGatewayRoleRequest {
    let (subject, gateway) = (Some(subject), gateway.to_owned());
    pb::RemoveGatewayRoleRequest { subject, gateway, ..Default::default() }
}

/// Creates a service principal that is admin of `east` and has no other role.
async fn lead(sg: &TestServer) -> Caller {
    let key = sg.admin().create_key("lead", pb::Role::None).await;
    sg.admin().bind("lead", "east", pb::Role::Admin).await;
    sg.with_token(&key)
}

async fn give(sg: &TestServer, request: pb::SetGatewayRoleRequest) {
    sg.admin().access().set_gateway_role(request).await.unwrap();
}

server_tests! {
    t06_a_gateway_admin_cannot_remove_a_binding_that_hides_an_admin_role,
    t06_selectors_are_considered_in_the_resulting_role,
    t06_a_gateway_admin_cannot_change_groups_and_memberships,
    t06_a_role_change_is_checked_against_the_database_and_not_a_stale_snapshot,
    t06_concurrent_role_changes_are_checked_one_after_the_other,
    t06_a_call_without_a_principal_has_no_power,
}

async fn t06_a_gateway_admin_cannot_remove_a_binding_that_hides_an_admin_role(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let (admin, lead) = (sg.admin(), lead(&sg).await);
    sg.create_user(ANA, pb::Role::None).await;
    sg.create_group("ops", pb::Role::None, &[ANA]).await;
    give(&sg, set_of(group("ops"), "east", pb::Role::Admin)).await;
    give(&sg, set_of(user(), "east", pb::Role::Viewer)).await;
    // Her binding lowers her role: without it, the binding of her group applies.
    let removed = lead.access().remove_gateway_role(remove_of(user(), "east")).await;
    assert_refused!(removed, PermissionDenied, "ROLE_TOO_LOW");
    let ana = sg.login(ANA).await;
    assert_eq!(visible_gateways(&ana).await, ["east ROLE_VIEWER"]);
    // An admin of the gateway can make changes that neither make nor remove an admin.
    lead.access().set_gateway_role(set_of(user(), "east", pb::Role::Operator)).await.unwrap();
    assert_eq!(visible_gateways(&ana).await, ["east ROLE_OPERATOR"]);
    let lifted = lead.access().set_gateway_role(set_of(user(), "east", pb::Role::Admin)).await;
    assert_refused!(lifted, PermissionDenied, "ROLE_TOO_LOW");
    admin.access().remove_gateway_role(remove_of(user(), "east")).await.unwrap();
    assert_eq!(visible_gateways(&ana).await, ["east ROLE_ADMIN"]);
    // Now she is an admin, and only a global admin can lower her role.
    let held_down = lead.access().set_gateway_role(set_of(user(), "east", pb::Role::Viewer)).await;
    assert_refused!(held_down, PermissionDenied, "ROLE_TOO_LOW");
    assert_eq!(visible_gateways(&ana).await, ["east ROLE_ADMIN"]);
    simulator.stop().await;
    sg.finish().await;
}

async fn t06_selectors_are_considered_in_the_resulting_role(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let (admin, lead) = (sg.admin(), lead(&sg).await);
    let dev = sg.with_token(&admin.create_key("dev", pb::Role::None).await);
    sg.create_user(ANA, pb::Role::None).await;
    sg.create_group("ops", pb::Role::None, &[ANA]).await;
    admin
        .gateways()
        .update_gateway(set_labels_request("east", &[("access/env", "test")]))
        .await
        .unwrap();
    for subject in [subject("dev"), group("ops")] {
        give(&sg, set_selector_role_request(subject, "access/env=test", pb::Role::Admin)).await;
    }
    for subject in [subject("dev"), user()] {
        give(&sg, set_of(subject.clone(), "east", pb::Role::None)).await;
        let removed = lead.access().remove_gateway_role(remove_of(subject, "east")).await;
        assert_refused!(removed, PermissionDenied, "ROLE_TOO_LOW");
    }
    assert!(visible_gateways(&dev).await.is_empty());
    // If the selector does not match the label, removing the binding results in no role.
    admin
        .gateways()
        .update_gateway(set_labels_request("east", &[("access/env", "prod")]))
        .await
        .unwrap();
    for subject in [subject("dev"), user()] {
        lead.access().remove_gateway_role(remove_of(subject, "east")).await.unwrap();
    }
    // An admin of one gateway cannot change labels that affect access.
    let relabelled =
        lead.gateways().update_gateway(set_labels_request("east", &[("access/env", "test")])).await;
    assert_refused!(relabelled, PermissionDenied, "ROLE_TOO_LOW");
    assert!(visible_gateways(&dev).await.is_empty());
    simulator.stop().await;
    sg.finish().await;
}

async fn t06_a_gateway_admin_cannot_change_groups_and_memberships(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let lead = lead(&sg).await;
    sg.create_user(ANA, pb::Role::None).await;
    sg.create_group("ops", pb::Role::None, &[ANA]).await;
    give(&sg, set_of(group("ops"), "east", pb::Role::Viewer)).await;
    let member =
        pb::AddGroupMemberRequest { group: "ops".into(), user: ANA.into(), ..Default::default() };
    assert_refused!(lead.groups().add_group_member(member).await, PermissionDenied, "ROLE_TOO_LOW");
    let member = pb::RemoveGroupMemberRequest {
        group: "ops".into(),
        user: ANA.into(),
        ..Default::default()
    };
    assert_refused!(
        lead.groups().remove_group_member(member).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    let delete = pb::DeleteGroupRequest { group: "ops".into(), ..Default::default() };
    assert_refused!(lead.groups().delete_group(delete).await, PermissionDenied, "ROLE_TOO_LOW");
    let bound =
        lead.access().set_gateway_role(set_of(group("ops"), "east", pb::Role::Operator)).await;
    assert_refused!(bound, PermissionDenied, "ROLE_TOO_LOW");
    let unbound = lead.access().remove_gateway_role(remove_of(group("ops"), "east")).await;
    assert_refused!(unbound, PermissionDenied, "ROLE_TOO_LOW");
    simulator.stop().await;
    sg.finish().await;
}

async fn t06_a_role_change_is_checked_against_the_database_and_not_a_stale_snapshot(
    sg: TestServer,
) {
    let simulator = register_two_gateways(&sg).await;
    let (admin, lead) = (sg.admin(), lead(&sg).await);
    sg.create_user(ANA, pb::Role::None).await;
    sg.create_group("ops", pb::Role::None, &[ANA]).await;
    give(&sg, set_of(user(), "east", pb::Role::Viewer)).await;
    give(&sg, set_of(group("ops"), "east", pb::Role::Operator)).await;
    // As another replica may have done a moment ago: without an entry in the change log.
    sg.sql("UPDATE group_gateway_roles SET role = 'admin'").await;
    let removed = lead.access().remove_gateway_role(remove_of(user(), "east")).await;
    assert_refused!(removed, PermissionDenied, "ROLE_TOO_LOW");
    sg.sql("UPDATE group_gateway_roles SET role = 'operator'").await;
    sg.sql("UPDATE sp_gateway_roles SET role = 'operator'").await;
    let demoted = lead.access().set_gateway_role(set_of(user(), "east", pb::Role::Operator)).await;
    assert_refused!(demoted, PermissionDenied, "ROLE_TOO_LOW");

    let other = sg.with_token(&admin.create_key("other", pb::Role::Admin).await);
    sg.sql("UPDATE service_principals SET role = 'operator' WHERE name = 'other'").await;
    let create = pb::CreateServicePrincipalRequest {
        name: "new".into(),
        role: pb::Role::Admin.into(),
        ..Default::default()
    };
    assert_refused!(
        other.service_principals().create_service_principal(create).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    let create = pb::CreateGroupRequest {
        name: "new".into(),
        role: pb::Role::Viewer.into(),
        ..Default::default()
    };
    assert_refused!(other.groups().create_group(create).await, PermissionDenied, "ROLE_TOO_LOW");
    let member = pb::RemoveGroupMemberRequest {
        group: "ops".into(),
        user: ANA.into(),
        ..Default::default()
    };
    assert_refused!(
        other.groups().remove_group_member(member).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    let delete = pb::DeleteUserRequest { user: ANA.into(), ..Default::default() };
    assert_refused!(other.users().delete_user(delete).await, PermissionDenied, "ROLE_TOO_LOW");
    let invite = pb::InviteUserRequest {
        email: "bo@example.com".into(),
        role: pb::Role::Admin.into(),
        ..Default::default()
    };
    assert_refused!(other.users().invite_user(invite).await, PermissionDenied, "ROLE_TOO_LOW");
    let labels = other
        .gateways()
        .update_gateway(set_labels_request("east", &[("access/env", "test")]))
        .await;
    assert_refused!(labels, PermissionDenied, "ROLE_TOO_LOW");
    let bind = other
        .access()
        .set_gateway_role(set_selector_role_request(
            subject("lead"),
            "access/env=test",
            pb::Role::Admin,
        ))
        .await;
    assert_refused!(bind, PermissionDenied, "ROLE_TOO_LOW");
    sg.sql("UPDATE service_principals SET role = 'admin', expires_at = created_at WHERE name = 'other'").await;
    let create = pb::CreateServicePrincipalRequest {
        name: "new".into(),
        role: pb::Role::Admin.into(),
        ..Default::default()
    };
    assert_refused!(
        other.service_principals().create_service_principal(create).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    admin.gateways().get_gateway(get_gateway_request("east")).await.unwrap();
    simulator.stop().await;
    sg.finish().await;
}

async fn t06_concurrent_role_changes_are_checked_one_after_the_other(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let lead = lead(&sg).await;
    sg.create_user(ANA, pb::Role::None).await;
    sg.create_group("ops", pb::Role::None, &[ANA]).await;
    give(&sg, set_of(group("ops"), "east", pb::Role::Viewer)).await;
    give(&sg, set_of(user(), "east", pb::Role::Viewer)).await;
    // Another change has its turn: it makes the group admin, and is not committed yet.
    let mut removing = None;
    let turn = sg.app.db.transaction(async |conn| {
        effect::lock(conn).await?;
        let (begun, has_begun) = oneshot::channel();
        let lead = lead.clone();
        removing = Some(sg.app.spawn(async move {
            let _ = begun.send(());
            lead.access().remove_gateway_role(remove_of(user(), "east")).await
        }));
        has_begun.await.unwrap();
        // Waits until the removal waits for its turn. Only PostgreSQL has more than one writer.
        if matches!(conn, shoreguard::db::Conn::Pg(_)) {
            eventually("it waits", || async { sg.sql(WAITING).await > 0 }).await;
        }
        let change = "UPDATE group_gateway_roles SET role = 'admin'";
        let changed = shoreguard::db::on_conn!(conn, |c| {
            use diesel_async::RunQueryDsl;
            diesel::sql_query(change).execute(c).await
        })?;
        assert_eq!(changed, 1);
        Ok(())
    });
    turn.await.unwrap();
    assert_refused!(removing.unwrap().await.unwrap(), PermissionDenied, "ROLE_TOO_LOW");
    simulator.stop().await;
    sg.finish().await;
}

async fn t06_a_call_without_a_principal_has_no_power(sg: TestServer) {
    let root = sg.app.snapshot.service_principal_by_name("root").unwrap();
    let root = shoreguard::access::principal::PrincipalId::ServicePrincipal(root);
    for (principal, text) in [(None, "nobody".to_owned()), (Some(root), root.to_string())] {
        let mut request = Request::new(pb::LoginRequest::default());
        request.extensions_mut().insert(Call {
            request_id: sg.app.new_id(),
            at: sg.app.clock.now(),
            started: Instant::now(),
            deadline: None,
            client_ip: None,
            caller: None,
            method: "/shoreguard.v1.AuthService/Login",
            note: std::sync::Arc::default(),
            traceparent: None,
            memory: None,
            read_tracker: None,
        });
        let (sender, became) = oneshot::channel();
        let answer = handle_write(&sg.app, request, async move |anonymous, _| {
            let ctx = anonymous.identify("somebody".into(), principal, Role::Admin).await?;
            drop(sender.send(ctx));
            Ok(pb::LoginResponse::default())
        });
        answer.await.unwrap();
        let ctx = became.await.unwrap();
        assert_eq!(ctx.principal(), principal);
        assert_eq!(ctx.principal_text(), text);
        assert_eq!(ctx.is_global_admin(), principal.is_some());
        assert_eq!(ctx.admit_credential().is_ok(), principal.is_some());
        assert!(!ctx.is_system());
    }
    sg.finish().await;
}
