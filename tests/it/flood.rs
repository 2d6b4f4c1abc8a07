//! T16: limits on floods of requests, and on writes when disk space is low.

use shoreguard::access::policy::StreamingMode;
use shoreguard::db::Engine;
use shoreguard::pb::v0_1::openshell::v1 as v0_1;
use shoreguard::pb::v1 as pb;
use shoreguard::workers;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};

use crate::support::limit;
use crate::support::server::{TestServer, reason};

#[test]
fn t16_a_flood_of_login_attempts_is_rate_limited_and_only_counted() {
    limit::block_on(async {
        let sg = TestServer::start(Engine::Sqlite, |config| {
            config.limits.anonymous_requests_per_minute = 1;
            config.limits.anonymous_burst = 12;
        })
        .await
        .unwrap();
        let before = entries(&sg).await;
        let mut cut = 0;
        for n in 0..40 {
            let login = pb::LoginRequest {
                email: format!("a{n}@example.com"),
                password: "wrong wrong wrong".into(),
            };
            let refused = sg.anonymous().auth().login(login).await.unwrap_err();
            cut += usize::from(reason(&refused) == "RATE_LIMITED");
        }
        assert!(cut >= 26, "{cut} of 40 were cut off");
        for _ in 0..50 {
            let _ = sg
                .anonymous()
                .call_raw(
                    "/shoreguard.v1.GatewayService/ListGateways",
                    StreamingMode::Unary,
                    vec![],
                    &[],
                )
                .await;
        }
        assert_eq!(
            entries(&sg).await.len(),
            before.len() + 1,
            "the flood adds no entry, and the listing itself adds one"
        );
        sg.finish().await;
    });
}

#[test]
fn t16_only_admins_can_write_below_the_disk_reserve() {
    limit::block_on(async {
        let sg = TestServer::start(Engine::Sqlite, |config| {
            config.limits.disk_reserve_mib = 1 << 40;
        })
        .await
        .unwrap();
        let simulator = Simulator::start(SimulatorOptions::new(Generation::V0_1)).await.unwrap();
        simulator.seed_demo().unwrap();
        sg.register_gateway("edge", simulator.addr()).await;
        let key = sg.admin().create_key("op", pb::Role::Operator).await;
        workers::run_once(&sg.app, &workers::disk::WORKER).await.unwrap();
        let stop = |key: String| {
            let caller = sg.with_token(&key);
            async move {
                let request =
                    v0_1::StopSandboxRequest { name: "coder".into(), ..Default::default() };
                caller.openshell_v0_1().stop_sandbox(request).await
            }
        };
        assert_refused!(stop(key.clone()).await, ResourceExhausted, "DISK_LOW");
        let list = v0_1::ListSandboxesRequest::default();
        sg.with_token(&key).openshell_v0_1().list_sandboxes(list).await.unwrap();
        stop(sg.admin_key.clone()).await.unwrap();
        simulator.stop().await;
        sg.finish().await;
    });
}

async fn entries(sg: &TestServer) -> Vec<pb::AuditEntry> {
    sg.app.audit.wait_settled().await;
    let request = pb::ListAuditEntriesRequest { page_size: 1000, ..Default::default() };
    sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries
}
