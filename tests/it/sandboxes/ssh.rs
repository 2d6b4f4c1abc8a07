//! SSH sessions into sandboxes.

use super::*;

server_tests! {
    an_ssh_session_can_be_revoked_only_with_its_own_sandbox,
    t08_an_ssh_session_of_another_gateway_is_not_found,
}

async fn an_ssh_session_can_be_revoked_only_with_its_own_sandbox(sg: TestServer) {
    let mut simulators = Vec::new();
    for (name, generation) in GATEWAYS {
        simulators.push(start_gateway(&sg, name, generation).await);
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        create_sandbox(&sg, create_request(&sg, name, "other")).await;
        let admin = sg.admin();
        let open = pb::CreateSshSessionRequest {
            gateway: name.into(),
            sandbox: "box".into(),
            request_id: request_id(&sg),
            ..Default::default()
        };
        let session = admin.sandboxes().create_ssh_session(open).await.unwrap().into_inner();
        assert_eq!(u32::from(sg.address.port()), session.port, "it leads here, not to the gateway");
        assert!(!session.token.is_empty());
        let revoke = |gateway: &str, sandbox: &str, token: &str| pb::RevokeSshSessionRequest {
            gateway: gateway.into(),
            sandbox: sandbox.into(),
            token: token.into(),
            request_id: request_id(&sg),
            ..Default::default()
        };
        for (sandbox, token) in [("other", session.token.as_str()), ("box", "made-up")] {
            let refused = admin.sandboxes().revoke_ssh_session(revoke(name, sandbox, token)).await;
            assert_refused!(refused, NotFound, "NOT_FOUND");
        }
        let failed = &audit_entries(&sg, "ssh_session.revoke").await[0];
        assert_eq!(
            failed.outcome(),
            pb::AuditOutcome::Failed,
            "what was not revoked is not said to be"
        );
        admin.sandboxes().revoke_ssh_session(revoke(name, "box", &session.token)).await.unwrap();
        let twice = admin.sandboxes().revoke_ssh_session(revoke(name, "box", &session.token)).await;
        assert_refused!(twice, NotFound, "NOT_FOUND");
        for table in ["ssh_sessions", "audit_log", "events", "idempotency_keys"] {
            let dump = crate::support::dump::table(&sg.app.db, table).await;
            assert!(!dump.contains(&session.token), "the token is in {table}");
        }
    }
    let gone = delete_sandbox(&sg, "old", "other").await;
    assert_eq!(gone.ssh_sessions_removed, 0);
}

async fn t08_an_ssh_session_of_another_gateway_is_not_found(sg: TestServer) {
    let _a = start_gateway(&sg, "a", Generation::V0_1).await;
    let _b = start_gateway(&sg, "b", Generation::V0_1).await;
    for name in ["a", "b"] {
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
    }
    let open = pb::CreateSshSessionRequest {
        gateway: "a".into(),
        sandbox: "box".into(),
        request_id: request_id(&sg),
        ..Default::default()
    };
    let session = sg.admin().sandboxes().create_ssh_session(open).await.unwrap().into_inner();
    let revoke = pb::RevokeSshSessionRequest {
        gateway: "b".into(),
        sandbox: "box".into(),
        token: session.token,
        request_id: request_id(&sg),
        ..Default::default()
    };
    assert_refused!(sg.admin().sandboxes().revoke_ssh_session(revoke).await, NotFound, "NOT_FOUND");
    assert_eq!(delete_sandbox(&sg, "a", "box").await.ssh_sessions_removed, 1);
}
