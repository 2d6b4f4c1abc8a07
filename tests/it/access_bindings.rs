//! Roles on gateways, over the wire.

use shoreguard::pb::v1 as pb;
use shoreguard::simulator::{Generation, Simulator, SimulatorOptions};

use crate::support::server::TestServer;

fn subject(name: &str) -> pb::Subject {
    pb::Subject { subject: Some(pb::subject::Subject::ServicePrincipal(name.to_owned())) }
}

fn set(name: &str, gateway: &str, role: pb::Role) -> pb::SetGatewayRoleRequest {
    pb::SetGatewayRoleRequest {
        subject: Some(subject(name)),
        gateway: gateway.to_owned(),
        role: role.into(),
        ..Default::default()
    }
}

fn get(gateway: &str) -> pb::GetGatewayRequest {
    pb::GetGatewayRequest { gateway: gateway.to_owned() }
}

async fn two_gateways(sg: &TestServer) -> Simulator {
    let simulator = Simulator::start(SimulatorOptions::plain(Generation::V0_1)).await.unwrap();
    sg.gateway("east", simulator.addr()).await;
    sg.gateway("west", simulator.addr()).await;
    simulator
}

served! {
    async fn a_role_on_a_gateway_beats_the_global_one_up_and_down(sg: TestServer) {
        let simulator = two_gateways(&sg).await;
        let admin = sg.admin();
        let key = admin.key("ci", pb::Role::Viewer).await;
        let ci = sg.with(&key);
        ci.gateways().get_gateway(get("east")).await.unwrap();

        admin.bind("ci", "east", pb::Role::None).await;
        assert_refused!(ci.gateways().get_gateway(get("east")).await, NotFound, "NOT_FOUND");
        assert_refused!(ci.gateways().get_gateway(get("nowhere")).await, NotFound, "NOT_FOUND");
        let list = ci.gateways().list_gateways(pb::ListGatewaysRequest::default()).await.unwrap().into_inner();
        assert_eq!(list.gateways.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["west"]);

        admin.bind("ci", "east", pb::Role::Admin).await;
        let test = pb::TestGatewayRequest { gateway: "east".into(), ..Default::default() };
        assert!(ci.gateways().test_gateway(test.clone()).await.unwrap().into_inner().reachable);
        let west = pb::TestGatewayRequest { gateway: "west".into(), ..test };
        assert_refused!(ci.gateways().test_gateway(west).await, PermissionDenied, "ROLE_TOO_LOW");

        let remove = pb::RemoveGatewayRoleRequest { subject: Some(subject("ci")), gateway: "east".into(), ..Default::default() };
        admin.access().remove_gateway_role(remove.clone()).await.unwrap();
        let test = pb::TestGatewayRequest { gateway: "east".into(), ..Default::default() };
        assert_refused!(ci.gateways().test_gateway(test).await, PermissionDenied, "ROLE_TOO_LOW");
        assert_refused!(admin.access().remove_gateway_role(remove).await, NotFound, "NOT_FOUND");
        simulator.stop().await;
        sg.finish().await;
    }

    async fn t06_a_gateways_admin_reaches_no_further(sg: TestServer) {
        let simulator = two_gateways(&sg).await;
        let admin = sg.admin();
        let key = admin.key("lead", pb::Role::None).await;
        admin.key("dev", pb::Role::None).await;
        admin.bind("lead", "east", pb::Role::Admin).await;
        let lead = sg.with(&key);
        lead.access().set_gateway_role(set("dev", "east", pb::Role::Operator)).await.unwrap();
        assert_refused!(lead.access().set_gateway_role(set("dev", "east", pb::Role::Admin)).await, PermissionDenied, "ROLE_TOO_LOW");
        assert_refused!(lead.access().set_gateway_role(set("root", "east", pb::Role::None)).await, PermissionDenied, "ROLE_TOO_LOW");
        assert_refused!(lead.access().set_gateway_role(set("dev", "west", pb::Role::Viewer)).await, NotFound, "NOT_FOUND");
        assert_refused!(lead.access().set_gateway_role(set("dev", "", pb::Role::Viewer)).await, PermissionDenied, "ROLE_TOO_LOW");
        let all = lead.access().list_gateway_roles(pb::ListGatewayRolesRequest::default()).await;
        assert_refused!(all, PermissionDenied, "ROLE_TOO_LOW");
        // A global admin can't be locked out by a binding.
        admin.access().set_gateway_role(set("root", "east", pb::Role::None)).await.unwrap();
        admin.gateways().get_gateway(get("east")).await.unwrap();
        simulator.stop().await;
        sg.finish().await;
    }

    async fn roles_are_listed_in_pages_and_guarded_by_etags(sg: TestServer) {
        let simulator = two_gateways(&sg).await;
        let admin = sg.admin();
        for n in 0..3 {
            let name = format!("p{n}");
            admin.key(&name, pb::Role::None).await;
            admin.bind(&name, "east", pb::Role::Viewer).await;
            admin.bind(&name, "west", pb::Role::Viewer).await;
        }
        let user = pb::Subject { subject: Some(pb::subject::Subject::User("Admin@example.com".into())) };
        let of_user = pb::SetGatewayRoleRequest { subject: Some(user), ..set("", "west", pb::Role::Viewer) };
        admin.access().set_gateway_role(of_user).await.unwrap();
        let mut shown = Vec::new();
        let mut token = String::new();
        loop {
            let request = pb::ListGatewayRolesRequest { page_size: 2, page_token: token, ..Default::default() };
            let page = admin.access().list_gateway_roles(request).await.unwrap().into_inner();
            shown.extend(page.gateway_roles.into_iter().map(|r| {
                let name = match r.subject.unwrap().subject.unwrap() {
                    pb::subject::Subject::User(email) => email,
                    pb::subject::Subject::ServicePrincipal(name) => name,
                };
                format!("{} {name}", r.gateway)
            }));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(shown, ["west admin@example.com", "east p0", "east p1", "east p2", "west p0", "west p1", "west p2"]);

        let stale = pb::SetGatewayRoleRequest { etag: "v9".into(), ..set("p0", "east", pb::Role::Operator) };
        assert_refused!(admin.access().set_gateway_role(stale).await, Aborted, "CONCURRENT_CHANGE");
        let right = pb::SetGatewayRoleRequest { etag: "v1".into(), ..set("p0", "east", pb::Role::Operator) };
        let stands = admin.access().set_gateway_role(right).await.unwrap().into_inner().gateway_role.unwrap();
        assert_eq!(stands.etag, "v2");
        let unsaid = pb::SetGatewayRoleRequest { role: 0, ..set("p0", "east", pb::Role::Viewer) };
        assert_refused!(admin.access().set_gateway_role(unsaid).await, InvalidArgument, "INVALID_FIELD");
        let nobody = pb::SetGatewayRoleRequest { subject: None, ..set("p0", "east", pb::Role::Viewer) };
        assert_refused!(admin.access().set_gateway_role(nobody).await, InvalidArgument, "INVALID_FIELD");
        assert_refused!(admin.access().set_gateway_role(set("ghost", "east", pb::Role::Viewer)).await, NotFound, "NOT_FOUND");
        simulator.stop().await;
        sg.finish().await;
    }
}
