//! Audit entries of forwarded writes without a response from the gateway: their outcome is unknown. A write is recorded
//! as failed only if it was not sent or the gateway reported a failure, since callers can choose when to disconnect.

use bytes::Bytes;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::AuditOutcome::Unknown;
use shoreguard_simulator::{Generation, Script, Times};

use super::raw::{RawClient, RawResponse, encode_framed};
use super::*;

/// Writes whose only field is a name.
const WRITES: [&str; 2] = ["StopSandbox", "CreateWorkspace"];

/// Encodes the message of these methods. In both generations, the name is the first field.
pub(super) fn stop_request() -> Bytes {
    encode_framed(&old::StopSandboxRequest { name: "one".to_owned(), ..Default::default() })
}

fn path(method: &str) -> String {
    format!("/openshell.v1.OpenShell/{method}")
}

/// Waits until a method has `count` entries and all are closed. Returns outcome and code of the last one.
pub(super) async fn last_outcome(
    sg: &TestServer,
    method: &str,
    count: usize,
) -> (pb::AuditOutcome, i32) {
    loop {
        sg.app.audit.wait_settled().await;
        let request = pb::ListAuditEntriesRequest { page_size: 1000, ..Default::default() };
        let listed = sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
        let mut entries = listed.audit_entries;
        entries.retain(|entry| entry.method == path(method));
        let open = entries.iter().any(|entry| entry.outcome() == pb::AuditOutcome::Open);
        if entries.len() == count && !open {
            return (entries[0].outcome(), entries[0].code);
        }
        crate::support::pause().await;
    }
}

mod a_write_whose_caller_disconnects_is_recorded_as_unknown {
    use super::*;

    #[test]
    fn generation_0_0() {
        run_on_sqlite(|sg| leave(sg, Generation::V0_0));
    }

    #[test]
    fn generation_0_1() {
        run_on_sqlite(|sg| leave(sg, Generation::V0_1));
    }

    async fn leave(sg: TestServer, generation: Generation) {
        let gateway = start_simulator(generation).await;
        sg.register_gateway("edge", gateway.addr()).await;
        let [first, second] = WRITES;
        tokio::join!(leave_twice(&sg, &gateway, first), leave_twice(&sg, &gateway, second));
        gateway.stop().await;
        sg.finish().await;
    }

    /// Leaves a write by its deadline, and another one by disconnecting.
    async fn leave_twice(sg: &TestServer, gateway: &Simulator, method: &'static str) {
        let mut raw = RawClient::connect(sg).await;
        gateway.script(method, Script::Hang, Times::All);
        let head = raw.request(method, "edge").header("grpc-timeout", "1500m");
        assert_eq!(raw.call(head, &[stop_request()]).await.code(), "4", "{method}");
        assert_eq!(last_outcome(sg, method, 1).await, (Unknown, 4), "{method}");

        let (response, mut body) = raw.open(raw.request(method, "edge"));
        body.send_data(stop_request(), true).unwrap();
        wait_until("it is with the gateway", || async {
            gateway.calls().get(&path(method)) == Some(&2)
        })
        .await;
        drop((response, body));
        assert_eq!(last_outcome(sg, method, 2).await, (Unknown, 1), "{method}");
    }
}

#[test]
fn a_write_whose_credential_ends_meanwhile_is_recorded_as_unknown() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_1).await;
        sg.register_gateway("new", gateway.addr()).await;
        gateway.script("StopSandbox", Script::Hang, Times::All);
        let key = sg.admin().create_key("ops", pb::Role::Operator).await;
        let mut raw = RawClient::connect_as(&sg, &key).await;
        let (response, mut body) = raw.open(raw.request("StopSandbox", "new"));
        body.send_data(stop_request(), true).unwrap();
        wait_until("it is with the gateway", || async {
            gateway.calls().contains_key(&path("StopSandbox"))
        })
        .await;
        let request = pb::DeleteServicePrincipalRequest {
            service_principal: "ops".to_owned(),
            ..Default::default()
        };
        sg.admin().service_principals().delete_service_principal(request).await.unwrap();
        assert_eq!(RawResponse::read(response).await.status().code(), tonic::Code::Unauthenticated);
        assert_eq!(last_outcome(&sg, "StopSandbox", 1).await, (Unknown, 16));
        sg.finish().await;
        gateway.stop().await;
    });
}
