//! T16: limits of device codes, and T14: sessions that end while a device exchanges an approval.

use std::net::IpAddr;

use shoreguard::db::Engine;
use shoreguard::error::Error;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::device_codes::domain::{
    CODES_MAX, CodeScope, NETWORK_MAX, SITE_MAX, request_code,
};

use super::device_logins::{
    SESSION, approve, begin, complete, complete_now, try_to_begin, with_both_flows,
};
use super::devices::{ANA, APPROVE, decide, device, poll, refused};
use super::start_gateway;
use crate::support::dump;
use crate::support::server::TestServer;

server_tests! {
    tuned with_both_flows;
    t14_a_session_that_ends_during_the_exchange_gives_no_session,
    t16_decided_device_codes_count_too,
    t16_device_codes_are_limited_per_wider_network_and_per_scope,
}

sqlite_tests! {
    tuned with_both_flows;
    t16_refused_device_codes_do_not_wait_for_the_writer,
}

/// Ends the approving session in the moment in which its approval is consumed, as a call at the same time could.
async fn end_during_the_exchange(sg: &TestServer) {
    let end = "UPDATE sessions SET revoked_at = created_at WHERE id = NEW.session_id;";
    match sg.engine {
        Engine::Sqlite => {
            let trigger = format!(
                "CREATE TRIGGER end_early AFTER UPDATE ON device_codes WHEN NEW.state = 'consumed' BEGIN {end} END"
            );
            sg.sql(&trigger).await
        }
        Engine::Postgres => {
            let function = format!(
                "CREATE FUNCTION end_early() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {end} RETURN NEW; END $$"
            );
            sg.sql(&function).await;
            let trigger = "CREATE TRIGGER end_early AFTER UPDATE ON device_codes FOR EACH ROW \
                           WHEN (NEW.state = 'consumed') EXECUTE FUNCTION end_early()";
            sg.sql(trigger).await
        }
    };
}

async fn t14_a_session_that_ends_during_the_exchange_gives_no_session(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let (login, of_gateway) = (begin(&sg).await, device(&sg, "alpha").await);
    approve(&sg, &ana, &login, SESSION).await.unwrap();
    decide(&sg, &ana, &of_gateway.shown, APPROVE).await.unwrap();
    end_during_the_exchange(&sg).await;
    assert_refused!(complete(&sg, &login).await, PermissionDenied, "DEVICE_LOGIN_DENIED");
    assert_eq!(poll(&sg, "alpha", &of_gateway).await.refusal(), refused("invalid_grant"));
    let sessions = dump::table(&sg.app.db, "sessions").await;
    assert!(!sessions.contains("device"), "{sessions}");
    alpha.stop().await;
    sg.finish().await;
}

async fn t16_decided_device_codes_count_too(sg: TestServer) {
    let ana = sg.create_user(ANA, pb::Role::None).await;
    for _ in 0..NETWORK_MAX {
        let begun = begin(&sg).await;
        decide(&sg, &ana, &begun.user_code, Some(pb::DeviceDecision::Deny)).await.unwrap();
    }
    assert_refused!(try_to_begin(&sg).await, ResourceExhausted, "RATE_LIMITED");
    sg.finish().await;
}

async fn t16_device_codes_are_limited_per_wider_network_and_per_scope(sg: TestServer) {
    let request = async |scope: CodeScope<'static>, address: String| {
        let ip: IpAddr = address.parse().unwrap();
        request_code(&sg.app, scope, Some(ip)).await
    };
    request(CodeScope::Session, "2001:db8:1:0::1".to_owned()).await.unwrap();
    // Codes of other networks of the same customer.
    let more = SITE_MAX - 2;
    let of_site = format!(
        "INSERT INTO device_codes (device_hash, user_hash, network, site, state, created_at, expires_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {more}) \
         SELECT (2000000 + n.i) || '{zeros}', (2000000 + n.i) || '{zeros}', 'next to ' || n.i, site, state, \
         created_at, expires_at FROM device_codes CROSS JOIN n",
        zeros = "0".repeat(57)
    );
    assert_eq!(i64::try_from(sg.sql(&of_site).await).unwrap(), more);
    request(CodeScope::Session, "2001:db8:1:1::1".to_owned()).await.unwrap();
    let refused = request(CodeScope::Session, "2001:db8:1:ffff::1".to_owned()).await;
    assert!(matches!(refused, Err(Error::Exhausted { .. })), "{refused:?}");
    request(CodeScope::Session, "2001:db8:2:1::1".to_owned()).await.unwrap();
    begin(&sg).await;

    // A flood of codes for gateways, from many networks.
    let flood = format!(
        "INSERT INTO device_codes (device_hash, user_hash, gateway, network, state, created_at, expires_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {CODES_MAX}) \
         SELECT (1000000 + n.i) || '{zeros}', (1000000 + n.i) || '{zeros}', 'alpha', 'of ' || n.i, 'pending', \
         '2999-01-01 00:00:00.000000', '2999-01-01 00:00:00.000000' FROM n",
        zeros = "0".repeat(57)
    );
    assert_eq!(i64::try_from(sg.sql(&flood).await).unwrap(), CODES_MAX);
    let refused = request(CodeScope::Gateway("alpha"), "192.0.2.1".to_owned()).await;
    assert!(matches!(refused, Err(Error::Exhausted { .. })), "{refused:?}");
    begin(&sg).await;
    sg.finish().await;
}

async fn t16_refused_device_codes_do_not_wait_for_the_writer(sg: TestServer) {
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let used = begin(&sg).await;
    approve(&sg, &ana, &used, SESSION).await.unwrap();
    complete(&sg, &used).await.unwrap();
    for _ in 1..NETWORK_MAX {
        begin(&sg).await;
    }
    let writer = sg.app.db.write().await.unwrap();
    let made_up = format!("sgd_{}", "A".repeat(43));
    for code in [&made_up, &used.device_code] {
        let answer = complete_now(&sg, code).await;
        assert_refused!(answer, Unauthenticated, "CREDENTIAL_INVALID");
    }
    assert_refused!(try_to_begin(&sg).await, ResourceExhausted, "RATE_LIMITED");
    drop(writer);
    sg.finish().await;
}
