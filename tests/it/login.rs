//! Failed logins: their cost, and which callers they slow down.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::auth::worker::RETENTION;
use tonic::{Request, Status};
use tonic_types::StatusExt;

use crate::support::dump;
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, TestServer};

/// A delay that does not pass by itself while a test makes some calls. It still doubles with the next failure: after
/// longer delays, earlier failures have decayed too much for that.
const LONG: Duration = Duration::from_secs(12);

/// Trusts `x-forwarded-for` from loopback, so that a test can call from many addresses.
pub(crate) fn behind_a_proxy(config: &mut Config) {
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

pub(crate) async fn login(
    sg: &TestServer,
    from: &str,
    email: &str,
    password: &str,
) -> Result<pb::LoginResponse, Status> {
    let message = pb::LoginRequest { email: email.to_owned(), password: password.to_owned() };
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-forwarded-for", from.parse().unwrap());
    sg.anonymous().auth().login(request).await.map(tonic::Response::into_inner)
}

/// Returns the retry delay of a refusal, or zero if it has none.
fn told(refused: &Status) -> Duration {
    let details = refused.get_error_details();
    details.retry_info().and_then(|info| info.retry_delay).unwrap_or_default()
}

/// Returns how many of these logins were refused because of their password.
fn count_looked_at(answers: &[Result<pb::LoginResponse, Status>]) -> usize {
    let wrong = |answer: &&Result<_, Status>| {
        answer.as_ref().is_err_and(|refused| refused.code() == tonic::Code::Unauthenticated)
    };
    answers.iter().filter(wrong).count()
}

/// Fails to log in from an address until the address has to wait. Returns the delay.
async fn use_up(sg: &TestServer, from: &str, email: &str) -> Duration {
    for _ in 0..100 {
        let refused = login(sg, from, email, "wrong horse battery").await.unwrap_err();
        if !told(&refused).is_zero() {
            return told(&refused);
        }
    }
    panic!("{from} never has to wait");
}

/// Does the same until the delay, which grows with each failure, is much longer than a call takes on a busy machine.
async fn use_up_long(sg: &TestServer, from: &str, email: &str) -> Duration {
    loop {
        let delay = use_up(sg, from, email).await;
        if delay >= LONG {
            return delay;
        }
        sg.pass(delay).await;
    }
}

server_tests! {
    tuned behind_a_proxy;
    failed_logins_wait_for_the_reported_time_which_grows_each_time,
    a_correct_password_does_not_consume_the_login_budget,
    failures_of_other_addresses_do_not_lock_out_an_account,
    a_missing_account_has_the_same_login_wait_as_an_existing_one,
    login_attempts_at_different_accounts_are_limited_per_address,
    concurrent_login_attempts_share_one_budget,
    login_budgets_are_deleted_after_decay_and_hold_no_addresses,
    password_guesses_with_a_session_are_rate_limited,
}

async fn failed_logins_wait_for_the_reported_time_which_grows_each_time(sg: TestServer) {
    let first = use_up_long(&sg, "192.0.2.1", ADMIN_EMAIL).await;
    // The correct password is refused as well, since it is not checked.
    let refused = login(&sg, "192.0.2.1", ADMIN_EMAIL, ADMIN_PASSWORD).await;
    let refused = assert_refused!(refused, ResourceExhausted, "RATE_LIMITED");
    assert!(told(&refused) <= first);
    sg.pass(told(&refused) / 2).await;
    assert_refused!(
        login(&sg, "192.0.2.1", ADMIN_EMAIL, "x").await,
        ResourceExhausted,
        "RATE_LIMITED"
    );
    sg.pass(told(&refused) / 2 + Duration::from_secs(1)).await;
    assert_refused!(
        login(&sg, "192.0.2.1", ADMIN_EMAIL, "wrong horse battery").await,
        Unauthenticated,
        "LOGIN_FAILED"
    );
    let second = assert_refused!(
        login(&sg, "192.0.2.1", ADMIN_EMAIL, "x").await,
        ResourceExhausted,
        "RATE_LIMITED"
    );
    assert!(told(&second) > first, "{:?} after {first:?}", told(&second));
    sg.pass(told(&second)).await;
    // A successful login resets the budget.
    login(&sg, "192.0.2.1", ADMIN_EMAIL, ADMIN_PASSWORD).await.unwrap();
    for _ in 0..4 {
        assert_refused!(
            login(&sg, "192.0.2.1", ADMIN_EMAIL, "x").await,
            Unauthenticated,
            "LOGIN_FAILED"
        );
    }
    login(&sg, "192.0.2.1", ADMIN_EMAIL, ADMIN_PASSWORD).await.unwrap();
    sg.finish().await;
}

async fn a_correct_password_does_not_consume_the_login_budget(sg: TestServer) {
    login(&sg, "192.0.2.1", ADMIN_EMAIL, ADMIN_PASSWORD).await.unwrap();
    // A login in progress counts as failed until it has succeeded, so only a few are in progress at the same time.
    let logins = (0..59).map(|_| login(&sg, "192.0.2.1", ADMIN_EMAIL, ADMIN_PASSWORD));
    let mut logins = futures_util::stream::iter(logins).buffer_unordered(3);
    while let Some(login) = logins.next().await {
        login.unwrap();
    }
    drop(logins);
    sg.finish().await;
}

async fn failures_of_other_addresses_do_not_lock_out_an_account(sg: TestServer) {
    login(&sg, "198.51.100.1", ADMIN_EMAIL, ADMIN_PASSWORD).await.unwrap();
    // Twenty-five addresses fail until they have to wait.
    let server = &sg;
    let failing = (1..=25).map(|n| async move {
        use_up(server, &format!("192.0.2.{n}"), ADMIN_EMAIL).await;
    });
    join_all(failing).await;
    // The owner's own address keeps its budget, including for mistakes.
    for _ in 0..4 {
        assert_refused!(
            login(&sg, "198.51.100.1", ADMIN_EMAIL, "x").await,
            Unauthenticated,
            "LOGIN_FAILED"
        );
    }
    login(&sg, "198.51.100.1", ADMIN_EMAIL, ADMIN_PASSWORD).await.unwrap();
    // A new address has one try.
    login(&sg, "198.51.100.2", ADMIN_EMAIL, ADMIN_PASSWORD).await.unwrap();
    let tries = (0..4).map(|_| login(&sg, "198.51.100.3", ADMIN_EMAIL, "x"));
    let looked_at = count_looked_at(&join_all(tries).await);
    // One more if the machine is so busy that the others wait for longer than the delay.
    assert!((1..=2).contains(&looked_at), "{looked_at} passwords were looked at");
    sg.finish().await;
}

async fn a_missing_account_has_the_same_login_wait_as_an_existing_one(sg: TestServer) {
    // On a busy machine, a part of a delay may pass before it is reported.
    for attempt in 1..=5 {
        let missing = use_up(&sg, &format!("192.0.2.{attempt}"), "nobody@example.com").await;
        let existing = use_up(&sg, &format!("192.0.2.1{attempt}"), ADMIN_EMAIL).await;
        if missing.abs_diff(existing) < Duration::from_secs(1) {
            break;
        }
        assert!(attempt < 5, "{missing:?} and {existing:?}");
    }
    sg.finish().await;
}

async fn login_attempts_at_different_accounts_are_limited_per_address(sg: TestServer) {
    let mut tried = 0;
    loop {
        let refused = login(&sg, "192.0.2.1", &format!("user-{tried}@example.com"), "Spring2026!!")
            .await
            .unwrap_err();
        if !told(&refused).is_zero() {
            break;
        }
        tried += 1;
        assert!(tried < 100, "it may try for ever");
    }
    // All addresses of one IPv6 network count as one address.
    use_up_long(&sg, "2001:db8::1", ADMIN_EMAIL).await;
    assert_refused!(
        login(&sg, "2001:db8::2", ADMIN_EMAIL, "x").await,
        ResourceExhausted,
        "RATE_LIMITED"
    );
    sg.finish().await;
}

async fn concurrent_login_attempts_share_one_budget(sg: TestServer) {
    let tries = (0..40).map(|_| login(&sg, "192.0.2.1", ADMIN_EMAIL, "wrong horse battery"));
    let answers = join_all(tries).await;
    let looked_at = count_looked_at(&answers);
    assert!((1..=6).contains(&looked_at), "{looked_at} passwords were looked at");
    sg.finish().await;
}

async fn login_budgets_are_deleted_after_decay_and_hold_no_addresses(sg: TestServer) {
    use_up(&sg, "192.0.2.77", ADMIN_EMAIL).await;
    let stored = dump::table(&sg.app.db, "login_budgets").await;
    assert!(!stored.is_empty());
    for name in ["192.0.2.77", ADMIN_EMAIL, "admin"] {
        assert!(!stored.contains(name), "{stored}");
    }
    sg.pass(Duration::from_hours(3)).await;
    // Expires the lease of the worker that runs beside the test.
    sg.app.db.advance_clock(Duration::from_secs(31));
    shoreguard::workers::run_once(&sg.app, &RETENTION).await.unwrap().expect("the lease was free");
    assert_eq!(dump::table(&sg.app.db, "login_budgets").await, "");
    login(&sg, "192.0.2.77", ADMIN_EMAIL, ADMIN_PASSWORD).await.unwrap();
    sg.finish().await;
}

async fn password_guesses_with_a_session_are_rate_limited(sg: TestServer) {
    let session = login(&sg, "192.0.2.1", ADMIN_EMAIL, ADMIN_PASSWORD).await.unwrap().session_token;
    let guess = || async {
        let request = pb::ChangePasswordRequest {
            current_password: "wrong horse battery".into(),
            new_password: "another horse battery".into(),
            ..Default::default()
        };
        sg.with_token(&session).auth().change_password(request).await.unwrap_err()
    };
    let mut wrong = 0;
    while told(&guess().await).is_zero() {
        wrong += 1;
        assert!(wrong < 50, "it may guess for ever");
    }
    sg.finish().await;
}

#[test]
fn login_failures_count_on_all_replicas() {
    crate::support::server::run(
        shoreguard::db::Engine::Postgres,
        behind_a_proxy,
        async |sg: TestServer| {
            let (app, running) = sg.start_replica().await;
            use_up(&sg, "127.0.0.1", ADMIN_EMAIL).await;
            let channel = tonic::transport::Endpoint::new(format!("http://{}", running.address()));
            let channel = channel.unwrap().connect_lazy();
            let mut there = pb::auth_service_client::AuthServiceClient::new(channel);
            let request = pb::LoginRequest { email: ADMIN_EMAIL.into(), password: "x".into() };
            assert_refused!(there.login(request).await, ResourceExhausted, "RATE_LIMITED");
            app.stop.cancel();
            running.stopped().await;
            app.drain().await;
            sg.finish().await;
        },
    );
}
