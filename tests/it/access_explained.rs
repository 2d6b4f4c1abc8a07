//! Explanations and lists of access through the API, and recovery of the access data after missed changes.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::clock::Timestamp;
use shoreguard::db::on_conn;
use shoreguard::db::schema::{access_changes, gateways, service_principals};
use shoreguard::feed::{self, store};
use shoreguard::outbox::{self, AccessSubject};
use shoreguard::pb::v0_1::openshell::v1 as openshell;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::subject::Subject as Kind;
use shoreguard::resources::access_bindings::worker;
use shoreguard::role::Role;
use shoreguard::workers;

use crate::access_bindings::{
    get_gateway_request, group, register_two_gateways, set_labels_request, set_role_request,
    set_selector_role_request, subject, subject_of, visible_gateways,
};
use crate::refusals::denied_count;
use crate::support::server::Caller;
use crate::support::server::TestServer;

fn user(email: &str) -> pb::Subject {
    subject_of(Kind::User(email.to_owned()))
}

async fn explain(
    caller: &Caller,
    who: Option<pb::Subject>,
    gateway: &str,
) -> Result<pb::ExplainAccessResponse, tonic::Status> {
    let request = pb::ExplainAccessRequest { subject: who, gateway: gateway.to_owned() };
    Ok(caller.access().explain_access(request).await?.into_inner())
}

fn name(subject: Option<pb::Subject>) -> String {
    let (Kind::User(name) | Kind::ServicePrincipal(name) | Kind::Group(name)) =
        subject.unwrap().subject.unwrap();
    name
}

fn shown(step: &pb::AccessStep) -> String {
    let kind = step.kind().as_str_name().trim_start_matches("ACCESS_STEP_KIND_").to_lowercase();
    let role = step.role().as_str_name().trim_start_matches("ROLE_").to_lowercase();
    let decided = if step.decided { " decided" } else { "" };
    format!("{kind} {}{} {role}{decided}", step.group, step.selector)
}

/// Returns name, role and deciding step of each subject, page by page.
async fn listed(caller: &Caller, asked: pb::ListAccessRequest) -> Vec<String> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListAccessRequest { page_size: 2, page_token: token, ..asked.clone() };
        let page = caller.access().list_access(request).await.unwrap().into_inner();
        assert!(page.access_entries.len() <= 2);
        found.extend(page.access_entries.into_iter().map(|access| {
            format!("{}: {}", name(access.subject.clone()), shown(access.step.as_ref().unwrap()))
        }));
        token = page.next_page_token;
        if token.is_empty() {
            return found;
        }
    }
}

server_tests! {
    every_step_to_a_role_is_explained,
    t06_an_explanation_reveals_only_what_the_caller_can_see,
    access_to_a_gateway_is_listed_with_the_deciding_step,
    a_key_for_one_gateway_sees_nothing_of_another,
    an_admin_by_group_has_every_admin_right,
    old_access_changes_are_deleted_except_the_newest,
    a_replica_that_missed_deleted_changes_reloads_everything,
}

async fn every_step_to_a_role_is_explained(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    admin
        .gateways()
        .update_gateway(set_labels_request("east", &[("access/env", "prod")]))
        .await
        .unwrap();
    let ana = sg.with_token(&sg.create_user("ana@example.com", Role::Viewer).await);
    sg.create_group("ops", Role::Operator, &["ana@example.com"]).await;
    sg.create_group("dev", Role::None, &["ana@example.com"]).await;
    let on_east = |who| pb::SetGatewayRoleRequest {
        subject: Some(who),
        ..set_role_request("", "east", pb::Role::Viewer)
    };
    admin.access().set_gateway_role(on_east(group("dev"))).await.unwrap();
    admin
        .access()
        .set_gateway_role(set_selector_role_request(group("ops"), "access/env", pb::Role::Admin))
        .await
        .unwrap();

    let told = explain(&ana, None, "east").await.unwrap();
    assert_eq!(
        (told.role(), told.global_role(), told.rule()),
        (pb::Role::Admin, pb::Role::Operator, pb::AccessRule::Groups)
    );
    assert_eq!((name(told.subject.clone()).as_str(), told.may_call), ("ana@example.com", true));
    let steps: Vec<String> = told.steps.iter().map(shown).collect();
    assert_eq!(
        steps,
        [
            "own_role  viewer",
            "group_role dev none",
            "group_role ops operator",
            "group_binding dev viewer",
            "group_selector opsaccess/env admin decided",
        ]
    );
    admin
        .access()
        .set_gateway_role(set_selector_role_request(
            user("ana@example.com"),
            "access/env=prod",
            pb::Role::Viewer,
        ))
        .await
        .unwrap();
    let told = explain(&ana, Some(user(" Ana@example.com")), "east").await.unwrap();
    assert_eq!((told.role(), told.rule()), (pb::Role::Viewer, pb::AccessRule::Own));
    assert_eq!(shown(&told.steps[3]), "own_selector access/env=prod viewer decided");
    let told = explain(&admin, Some(user("ana@example.com")), "").await.unwrap();
    assert_eq!(
        (told.role(), told.rule(), told.steps.len()),
        (pb::Role::Operator, pb::AccessRule::Global, 3)
    );
    assert_eq!(shown(&told.steps[2]), "group_role ops operator decided");
    let told = explain(&admin, None, "east").await.unwrap();
    assert_eq!(
        (told.role(), told.rule(), told.steps.len()),
        (pb::Role::Admin, pb::AccessRule::GlobalAdmin, 1)
    );
    assert_eq!(name(told.subject.clone()), "root");

    sg.deactivate("ana@example.com").await;
    assert!(!explain(&admin, Some(user("ana@example.com")), "east").await.unwrap().may_call);
    assert_refused!(
        explain(&admin, Some(group("ops")), "east").await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    assert_refused!(
        explain(&admin, Some(user("")), "east").await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    assert_eq!(explain(&admin, Some(pb::Subject::default()), "east").await.unwrap(), told);
    assert_refused!(
        explain(&admin, Some(user("ghost@example.com")), "east").await,
        NotFound,
        "NOT_FOUND"
    );
    simulator.stop().await;
    sg.finish().await;
}

async fn t06_an_explanation_reveals_only_what_the_caller_can_see(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    let nobody = sg.with_token(&admin.create_key("nobody", pb::Role::None).await);
    let lead = sg.with_token(&admin.create_key("lead", pb::Role::None).await);
    let viewer = sg.with_token(&admin.create_key("viewer", pb::Role::Viewer).await);
    admin.bind("lead", "east", pb::Role::Admin).await;

    // Callers can explain their own global access with any role. A gateway that the caller cannot see is reported
    // as not found.
    let told = explain(&nobody, Some(subject("nobody")), "").await.unwrap();
    assert_eq!((told.role(), told.may_call), (pb::Role::None, true));
    for caller in [&nobody, &lead] {
        let hidden = assert_refused!(explain(caller, None, "west").await, NotFound, "NOT_FOUND");
        let absent = assert_refused!(explain(caller, None, "wast").await, NotFound, "NOT_FOUND");
        assert_eq!(hidden.message().replace("west", ""), absent.message().replace("wast", ""));
        // The same if the request is about another subject.
        assert_refused!(
            explain(caller, Some(subject("viewer")), "west").await,
            NotFound,
            "NOT_FOUND"
        );
    }
    // Only an admin can explain the access of others. The refusal does not reveal whether the subject exists.
    for (caller, gateway) in [(&nobody, ""), (&viewer, ""), (&viewer, "east"), (&lead, "")] {
        let known = explain(caller, Some(subject("root")), gateway).await;
        let known = assert_refused!(known, PermissionDenied, "ROLE_TOO_LOW");
        let ghost = explain(caller, Some(subject("ghost")), gateway).await;
        let ghost = assert_refused!(ghost, PermissionDenied, "ROLE_TOO_LOW");
        assert_eq!(known.message(), ghost.message());
    }
    assert_eq!(
        explain(&lead, Some(subject("viewer")), "east").await.unwrap().role(),
        pb::Role::Viewer
    );
    assert_refused!(explain(&lead, Some(subject("ghost")), "east").await, NotFound, "NOT_FOUND");
    let list = pb::ListAccessRequest { gateway: "west".into(), ..Default::default() };
    assert_refused!(lead.access().list_access(list.clone()).await, NotFound, "NOT_FOUND");
    assert_refused!(
        viewer.access().list_access(list.clone()).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    let everywhere = pb::ListAccessRequest { gateway: String::new(), ..list };
    assert_refused!(
        lead.access().list_access(everywhere.clone()).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    assert_refused!(admin.access().list_access(everywhere).await, InvalidArgument, "INVALID_FIELD");
    // These refusals are in the audit log, although only the domain code could make them.
    sg.app.audit.drain().await;
    // Six calls for hidden gateways, eight about other subjects.
    assert_eq!(denied_count(&sg, "access.explain").await, 14);
    simulator.stop().await;
    sg.finish().await;
}

async fn access_to_a_gateway_is_listed_with_the_deciding_step(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    admin
        .gateways()
        .update_gateway(set_labels_request("east", &[("access/env", "prod")]))
        .await
        .unwrap();
    sg.create_user("ana@example.com", Role::None).await;
    sg.create_user("bea@example.com", Role::Viewer).await;
    sg.create_user("gone@example.com", Role::Admin).await;
    sg.create_user("none@example.com", Role::None).await;
    sg.create_group("ops", Role::None, &["ana@example.com"]).await;
    sg.deactivate("gone@example.com").await;
    admin
        .access()
        .set_gateway_role(set_selector_role_request(group("ops"), "access/env", pb::Role::Operator))
        .await
        .unwrap();
    let expires = pb::CreateServicePrincipalRequest {
        name: "brief".into(),
        role: pb::Role::Viewer.into(),
        expire_time: Some(shoreguard::rpc::wire::to_timestamp(
            sg.app.clock.now().plus(Duration::from_mins(1)),
        )),
        ..Default::default()
    };
    admin.service_principals().create_service_principal(expires).await.unwrap();
    let lead = sg.with_token(&admin.create_key("lead", pb::Role::None).await);
    admin.bind("lead", "east", pb::Role::Admin).await;
    admin.create_key("out", pb::Role::Operator).await;
    admin.bind("out", "east", pb::Role::None).await;

    let on_east = pb::ListAccessRequest { gateway: "east".into(), ..Default::default() };
    let all = [
        "admin@example.com: own_role  admin decided",
        "ana@example.com: group_selector opsaccess/env operator decided",
        "bea@example.com: own_role  viewer decided",
        "brief: own_role  viewer decided",
        "lead: own_binding  admin decided",
        "root: own_role  admin decided",
    ];
    assert_eq!(listed(&lead, on_east.clone()).await, all);
    let admins = pb::ListAccessRequest { least_role: pb::Role::Operator.into(), ..on_east.clone() };
    assert_eq!(listed(&lead, admins.clone()).await, [all[0], all[1], all[4], all[5]]);
    let everyone = pb::ListAccessRequest { least_role: pb::Role::None.into(), ..on_east.clone() };
    assert_eq!(listed(&lead, everyone).await.len(), 8);
    sg.pass(Duration::from_secs(61)).await;
    assert_eq!(listed(&lead, on_east.clone()).await.len(), 5);

    let first = pb::ListAccessRequest { page_size: 1, ..on_east.clone() };
    let token = lead.access().list_access(first).await.unwrap().into_inner().next_page_token;
    let other = pb::ListAccessRequest { page_token: token.clone(), ..admins };
    assert_refused!(lead.access().list_access(other).await, InvalidArgument, "INVALID_FIELD");
    let of_another = pb::ListAccessRequest { page_token: token, ..on_east.clone() };
    assert_refused!(admin.access().list_access(of_another).await, InvalidArgument, "INVALID_FIELD");
    let unknown = pb::ListAccessRequest { least_role: 9, ..on_east };
    assert_refused!(admin.access().list_access(unknown).await, InvalidArgument, "INVALID_FIELD");
    simulator.stop().await;
    sg.finish().await;
}

async fn a_key_for_one_gateway_sees_nothing_of_another(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    let ci = sg.with_token(&admin.create_key("ci", pb::Role::None).await);
    admin.bind("ci", "east", pb::Role::Operator).await;
    for gateway in ["east", "west"] {
        admin
            .gateways()
            .update_gateway(set_labels_request(gateway, &[("env", "x")]))
            .await
            .unwrap();
    }
    ci.gateways().get_gateway(get_gateway_request("east")).await.unwrap();
    assert_refused!(
        ci.gateways().get_gateway(get_gateway_request("west")).await,
        NotFound,
        "NOT_FOUND"
    );
    let list =
        ci.gateways().list_gateways(pb::ListGatewaysRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.gateways.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["east"]);
    assert_eq!(visible_gateways(&ci).await, ["east ROLE_OPERATOR"]);

    // Events of the other gateway are visible to an admin and hidden from this caller.
    let events = async |caller: &Caller| {
        let list = caller
            .events()
            .list_events(pb::ListEventsRequest { page_size: 1000, ..Default::default() })
            .await;
        list.unwrap().into_inner().events
    };
    let begun = std::time::Instant::now();
    while events(&admin).await.iter().filter(|e| e.name == "gateway.updated").count() < 2 {
        assert!(begun.elapsed() < Duration::from_mins(1), "no events");
        crate::support::pause().await;
    }
    let seen = events(&ci).await;
    assert!(seen.iter().any(|e| e.name == "gateway.updated"));
    assert!(seen.iter().all(|e| e.gateway == "east"), "{seen:?}");
    let of_west = pb::ListEventsRequest { gateway: "west".into(), ..Default::default() };
    assert_refused!(ci.events().list_events(of_west).await, NotFound, "NOT_FOUND");

    // Calls that are forwarded to a gateway.
    let health = |gateway: &str| {
        let mut request = tonic::Request::new(openshell::HealthRequest {});
        request.metadata_mut().insert("x-shoreguard-gateway", gateway.parse().unwrap());
        request
    };
    ci.openshell_v0_1().health(health("east")).await.unwrap();
    assert_refused!(ci.openshell_v0_1().health(health("west")).await, NotFound, "NOT_FOUND");
    simulator.stop().await;
    sg.finish().await;
}

async fn an_admin_by_group_has_every_admin_right(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    let ana = sg.with_token(&sg.create_user("ana@example.com", Role::Viewer).await);
    let list = pb::ListServicePrincipalsRequest::default();
    assert_refused!(
        ana.service_principals().list_service_principals(list.clone()).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    sg.create_group("admins", Role::Admin, &["ana@example.com"]).await;
    let who = ana
        .auth()
        .get_current_identity(pb::GetCurrentIdentityRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(who.role(), pb::Role::Admin);
    assert_eq!(visible_gateways(&ana).await, ["east ROLE_ADMIN", "west ROLE_ADMIN"]);
    ana.service_principals().list_service_principals(list).await.unwrap();
    ana.audit().list_audit_entries(pb::ListAuditEntriesRequest::default()).await.unwrap();
    ana.create_key("made", pb::Role::Admin).await;
    ana.access()
        .set_gateway_role(set_selector_role_request(subject("made"), "access/env", pb::Role::Admin))
        .await
        .unwrap();
    // A binding does not reduce the role of an admin by group, nor that of an admin by own role.
    let lock = pb::SetGatewayRoleRequest {
        subject: Some(user("ana@example.com")),
        ..set_role_request("", "east", pb::Role::None)
    };
    admin.access().set_gateway_role(lock).await.unwrap();
    ana.gateways().get_gateway(get_gateway_request("east")).await.unwrap();
    simulator.stop().await;
    sg.finish().await;
}

async fn old_access_changes_are_deleted_except_the_newest(sg: TestServer) {
    let admin = sg.admin();
    for n in 0..3 {
        admin.create_key(&format!("p{n}"), pb::Role::Viewer).await;
    }
    let kept = async || {
        let mut conn = sg.app.db.read().await.unwrap();
        let kept: Vec<i64> = on_conn!(&mut conn, |c| access_changes::table
            .select(access_changes::revision)
            .order(access_changes::revision)
            .load(c)
            .await)
        .unwrap();
        kept
    };
    let all = kept().await;
    assert!(all.len() >= 5, "{all:?}");
    // The server's own job holds the lease, so this copy runs without one.
    let job = workers::Worker { lease: false, ..worker::RETENTION };
    let once = async || workers::run_once(&sg.app, &job).await.unwrap().unwrap();
    assert_eq!(once().await.done, 0);
    sg.pass(Duration::from_mins(61)).await;
    let key = admin.create_key("late", pb::Role::Viewer).await;
    assert_eq!(once().await.done, all.len());
    assert_eq!(kept().await.len(), 1);
    sg.pass(Duration::from_mins(61)).await;
    assert_eq!(once().await.done, 0);
    assert_eq!(kept().await.len(), 1);
    visible_gateways(&sg.with_token(&key)).await;
    sg.finish().await;
}

async fn a_replica_that_missed_deleted_changes_reloads_everything(sg: TestServer) {
    let simulator = register_two_gateways(&sg).await;
    let admin = sg.admin();
    let ci = sg.with_token(&admin.create_key("ci", pb::Role::Viewer).await);
    assert_eq!(visible_gateways(&ci).await, ["east ROLE_VIEWER", "west ROLE_VIEWER"]);
    let (east, ids) = {
        let mut conn = sg.app.db.read().await.unwrap();
        let ids: Vec<i64> = on_conn!(&mut conn, |c| service_principals::table
            .filter(service_principals::name.eq("ci"))
            .select(service_principals::id)
            .load(c)
            .await)
        .unwrap();
        (sg.app.snapshot.gateway_id("east").unwrap(), ids)
    };
    // Changes by another replica while this one was suspended: a role was lowered and a gateway was deleted, and
    // both entries of the change log have already been removed.
    let done = sg.app.db.transaction(async |conn| {
        let at = Timestamp::EPOCH;
        on_conn!(conn, |c| diesel::update(service_principals::table.find(ids[0]))
            .set(service_principals::role.eq("none"))
            .execute(c)
            .await)?;
        outbox::log_change(conn, AccessSubject::ServicePrincipal(ids[0].into()), at).await?;
        on_conn!(conn, |c| diesel::delete(gateways::table.find(east.get())).execute(c).await)?;
        outbox::log_change(conn, AccessSubject::Gateway(east), at).await?;
        // The only remaining entry is about another user.
        outbox::log_change(conn, AccessSubject::User(999.into()), at).await?;
        let all =
            store::delete_before(conn, sg.app.clock.now().plus(Duration::from_mins(1)), 1_000)
                .await?;
        assert!(all > 2);
        Ok(())
    });
    done.await.unwrap();
    feed::refresh(&sg.app).await.unwrap();
    assert!(visible_gateways(&ci).await.is_empty());
    assert!(
        sg.app.snapshot.gateway_id("east").is_none() && sg.app.fleet.targets.get(east).is_none()
    );
    assert_eq!(visible_gateways(&admin).await, ["west ROLE_ADMIN"]);
    // Later changes are applied incrementally again.
    admin.bind("ci", "west", pb::Role::Operator).await;
    assert_eq!(visible_gateways(&ci).await, ["west ROLE_OPERATOR"]);
    simulator.stop().await;
    sg.finish().await;
}
