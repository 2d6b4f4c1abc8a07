//! Forwarded calls: every kind of call, with its metadata, in both generations.

use std::time::Duration;

use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Script, Times};
use tonic::Code;

use super::raw::{RawClient, encode_framed};
use super::*;
use crate::support::child::reserve_address;

#[test]
fn a_unary_call_reaches_the_gateway_that_it_names() {
    run_on_sqlite(|sg| async move {
        let (a, b) =
            (start_simulator(Generation::V0_0).await, start_simulator(Generation::V0_1).await);
        sg.register_gateway("alpha", a.addr()).await;
        sg.register_gateway("beta", b.addr()).await;
        let admin = sg.admin();
        let health = admin
            .openshell_v0_0()
            .health(for_gateway("alpha", old::HealthRequest {}))
            .await
            .unwrap();
        assert_eq!(health.metadata().get("x-shoreguard-gateway").unwrap(), "alpha");
        assert!(health.metadata().contains_key("x-request-id"));
        assert_eq!(health.into_inner().version, "0.0.116");
        let health = admin
            .openshell_v0_1()
            .health(for_gateway("beta", new::HealthRequest {}))
            .await
            .unwrap();
        assert_eq!(health.into_inner().version, "0.1.5");

        let made = admin
            .openshell_v0_1()
            .create_sandbox(for_gateway("beta", create_request_v0_1("one")))
            .await;
        let sandbox = made.unwrap().into_inner().sandbox.unwrap();
        assert_eq!(sandbox.metadata.unwrap().name, "one");
        let missing = admin
            .openshell_v0_0()
            .get_sandbox(for_gateway("alpha", get_request("one")))
            .await
            .unwrap_err();
        assert_eq!(missing.code(), Code::NotFound);
        assert_eq!(missing.metadata().get("x-shoreguard-gateway").unwrap(), "alpha");
        sg.finish().await;
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn t19_the_gateway_receives_its_own_credential_and_no_identity_of_the_caller() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let mut request = for_gateway("alpha", old::GetCurrentUserRequest {});
        let sent = [
            ("cookie", "CF_Authorization=x"),
            ("cf-access-jwt-assertion", "x"),
            ("x-forwarded-user", "root"),
            ("x-remote-user", "root"),
            ("my-own", "kept"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-request-id", "8c5b0f6e-7d1d-4f0c-9c57-3d9a6f2f1a01"),
        ];
        for (name, value) in sent {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        request.set_timeout(Duration::from_secs(20));
        sg.admin().openshell_v0_0().get_current_user(request).await.unwrap();
        let seen = gateway.last_call("GetCurrentUser").unwrap();
        for name in ["authorization", "cookie", "cf-access-jwt-assertion", "x-forwarded-user"]
            .into_iter()
            .chain(["x-remote-user", "x-shoreguard-gateway"])
        {
            assert!(!seen.headers.contains_key(name), "{name}");
        }
        assert_eq!(seen.headers["my-own"], "kept");
        assert_eq!(seen.headers["te"], "trailers");
        assert_eq!(seen.headers["x-request-id"], "8c5b0f6e-7d1d-4f0c-9c57-3d9a6f2f1a01");
        assert!(seen.headers.contains_key("traceparent"));
        assert!(seen.headers["user-agent"].to_str().unwrap().starts_with("tonic/"));
        let left = seen.headers["grpc-timeout"].to_str().unwrap();
        assert!(left.ends_with('u') && left.len() == 9, "{left}");
        assert_eq!(seen.authority.unwrap(), gateway.addr().to_string());
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn an_error_of_the_gateway_is_forwarded_unchanged() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let mut client = sg.admin().openshell_v0_0();
        let message = "no such thing".to_owned();
        let details = bytes::Bytes::from_static(b"\x08\x05\x12\x01x");
        let fail = Script::Fail {
            code: Code::DataLoss,
            message: message.clone(),
            details: details.clone(),
        };
        gateway.script("GetSandbox", fail, Times::Next(1));
        let failed = client.get_sandbox(for_gateway("alpha", get_request("a"))).await.unwrap_err();
        assert_eq!((failed.code(), failed.message()), (Code::DataLoss, message.as_str()));
        assert_eq!(failed.details(), details);

        let trailers_only = Script::TrailersOnly { code: Code::Aborted, message: message.clone() };
        gateway.script("GetSandbox", trailers_only, Times::Next(1));
        let failed = client.get_sandbox(for_gateway("alpha", get_request("a"))).await.unwrap_err();
        assert_eq!((failed.code(), failed.message()), (Code::Aborted, message.as_str()));
        assert_eq!(failed.metadata().get("x-shoreguard-gateway").unwrap(), "alpha");
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn an_ssh_session_has_the_address_of_shoreguard_instead_of_the_gateway() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        let sandbox_id = create_sandbox(&admin, "alpha", "one").await;
        let ask = old::CreateSshSessionRequest { sandbox_id };
        let session =
            admin.openshell_v0_0().create_ssh_session(for_gateway("alpha", ask)).await.unwrap();
        let session = session.into_inner();
        let public: http::Uri = sg.app.config.server.public_url().parse().unwrap();
        assert_eq!(session.gateway_host, public.host().unwrap());
        assert_eq!(session.gateway_port, u32::from(public.port_u16().unwrap()));
        assert_eq!(session.gateway_scheme, "http");
        assert!(!session.token.is_empty());
        let revoke = old::RevokeSshSessionRequest { token: session.token };
        admin.openshell_v0_0().revoke_ssh_session(for_gateway("alpha", revoke)).await.unwrap();
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn services_are_reported_as_reached_at_the_gateway() {
    run_on_sqlite(|sg| async move {
        let (alpha, beta) =
            (start_simulator(Generation::V0_0).await, start_simulator(Generation::V0_1).await);
        sg.register_gateway("alpha", alpha.addr()).await;
        sg.register_gateway("beta", beta.addr()).await;
        let admin = sg.admin();
        create_sandbox(&admin, "alpha", "one").await;
        let made = create_request_v0_1("one");
        admin.openshell_v0_1().create_sandbox(for_gateway("beta", made)).await.unwrap();
        let address = |gateway: &str, simulator: &Simulator| {
            let port = simulator.addr().port();
            format!(
                "at gateway `{gateway}`, not at Shoreguard: \
                 http://default--one--web.openshell.localhost:{port}/"
            )
        };

        let mut client = admin.openshell_v0_0();
        let expose = old::ExposeServiceRequest {
            sandbox: "one".into(),
            service: "web".into(),
            target_port: 80,
            domain: true,
            ..Default::default()
        };
        let exposed = client.expose_service(for_gateway("alpha", expose)).await.unwrap();
        assert_eq!(exposed.into_inner().url, address("alpha", &alpha));
        let get = old::GetServiceRequest {
            sandbox: "one".into(),
            service: "web".into(),
            ..Default::default()
        };
        let got = client.get_service(for_gateway("alpha", get)).await.unwrap().into_inner();
        assert_eq!(got.url, address("alpha", &alpha));
        let list = old::ListServicesRequest { sandbox: "one".into(), ..Default::default() };
        let listed = client.list_services(for_gateway("alpha", list)).await.unwrap().into_inner();
        assert_eq!(listed.services, [got]);

        let expose = new::ExposeServiceRequest {
            sandbox: "one".into(),
            name: "web".into(),
            target_port: 80,
            domain: true,
            ..Default::default()
        };
        let exposed = admin.openshell_v0_1().expose_service(for_gateway("beta", expose)).await;
        assert_eq!(exposed.unwrap().into_inner().url, address("beta", &beta));
        sg.finish().await;
        alpha.stop().await;
        beta.stop().await;
    });
}

#[test]
fn the_identity_of_shoreguard_on_a_gateway_is_shown_to_operators_only() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_1).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let who = |role: pb::Role| {
            let (admin, sg) = (sg.admin(), &sg);
            async move {
                let key = admin.create_key(&format!("{role:?}").to_lowercase(), role).await;
                let mut client = sg.with_token(&key).openshell_v0_1();
                client.get_current_user(for_gateway("alpha", new::GetCurrentUserRequest {})).await
            }
        };
        assert_refused!(who(pb::Role::Viewer).await, PermissionDenied, "ROLE_TOO_LOW");
        who(pb::Role::Operator).await.unwrap();
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn an_unreachable_gateway_is_reported_and_is_used_again_after_its_restart() {
    run_on_sqlite(|sg| async move {
        // No other test gets this address while the gateway is stopped.
        let reserved = reserve_address();
        let addr = reserved.address;
        let options =
            || SimulatorOptions { listen: addr, ..SimulatorOptions::new(Generation::V0_0) };
        let gateway = Simulator::start(options()).await.unwrap();
        sg.register_gateway("alpha", addr).await;
        let mut client = sg.admin().openshell_v0_0();
        client.health(for_gateway("alpha", old::HealthRequest {})).await.unwrap();
        gateway.stop().await;
        let away = client.health(for_gateway("alpha", old::HealthRequest {})).await;
        let away = assert_refused!(away, Unavailable, "GATEWAY_UNREACHABLE");
        assert_eq!(away.message(), "gateway `alpha` cannot be reached");
        let gateway = Simulator::start(options()).await.unwrap();
        client.health(for_gateway("alpha", old::HealthRequest {})).await.unwrap();
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn a_deadline_ends_a_call_without_a_response() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        gateway.script("GetSandbox", Script::Hang, Times::All);
        let mut raw = RawClient::connect(&sg).await;
        let request = raw.request("GetSandbox", "alpha").header("grpc-timeout", "200m");
        let answer = raw.call(request, &[encode_framed(&get_request("one"))]).await;
        assert_eq!(answer.refusal(), ("4", "DEADLINE_EXCEEDED".to_owned()));
        assert!(answer.data.is_empty() && answer.trailers.is_none());
        sg.finish().await;
        gateway.stop().await;
    });
}
