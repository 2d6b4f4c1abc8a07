//! Before the first admin: only public methods are available, and one call creates the admin.

use std::future::Future;

use shoreguard::access::policy::{AllowedCallers, METHODS};
use shoreguard::config::Config;
use shoreguard::db::Engine;
use shoreguard::pb::v0_1::openshell::v1 as v0_1;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::auth::setup;
use tonic::Code;

use crate::support::dump;
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, TestServer, reason};
use crate::support::{DbLocation, limit};

const INFO: pb::GetServerInfoRequest = pb::GetServerInfoRequest {};

fn set_up(token: &str, email: &str) -> pb::SetupRequest {
    let (setup_token, email) = (token.to_owned(), email.to_owned());
    pb::SetupRequest { setup_token, email, password: ADMIN_PASSWORD.to_owned() }
}

/// Runs a test with a server that has no admin yet and allows registration.
fn run<F: Future<Output = ()>>(engine: Engine, test: impl FnOnce(TestServer) -> F) {
    let open = |config: &mut Config| config.auth.self_registration = true;
    limit::block_on(async {
        let Some(place) = DbLocation::new(engine).await else { return };
        test(TestServer::start_empty(place, engine, open).await).await;
    });
}

/// Lists tests that take such a server. Each becomes two tests, `name::sqlite` and `name::postgres`.
macro_rules! tests_before_setup {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn sqlite() {
                super::run(shoreguard::db::Engine::Sqlite, super::$name);
            }

            #[test]
            fn postgres() {
                super::run(shoreguard::db::Engine::Postgres, super::$name);
            }
        }
    )+};
}

tests_before_setup! {
    before_setup_registration_and_every_non_public_method_are_refused,
    a_database_failure_before_setup_grants_no_access,
    only_one_of_two_concurrent_setup_calls_creates_the_admin,
    the_password_of_the_first_admin_has_at_most_72_bytes,
}

/// Checks that every method that is not public rejects calls without a credential and with a made-up one.
async fn nothing_is_open(sg: &TestServer) {
    let made_up = format!("sg_{}", "A".repeat(43));
    for method in METHODS.iter().filter(|method| method.access != AllowedCallers::Public) {
        for (caller, expected) in [
            (sg.anonymous(), "CREDENTIAL_MISSING"),
            (sg.with_token(&made_up), "CREDENTIAL_INVALID"),
        ] {
            let answer = caller.call_raw(method.path, method.streaming, vec![], &[]).await;
            let status = answer.expect_err(method.path);
            let told = (status.code(), reason(&status));
            assert_eq!(told, (Code::Unauthenticated, expected.to_owned()), "{}", method.path);
        }
    }
    let proxied = sg.anonymous().openshell_v0_1().health(v0_1::HealthRequest {}).await;
    assert_eq!(proxied.unwrap_err().code(), Code::Unauthenticated);
}

async fn before_setup_registration_and_every_non_public_method_are_refused(sg: TestServer) {
    let token = setup::ensure_token(&sg.app).await.unwrap().unwrap();
    nothing_is_open(&sg).await;
    let info = sg.anonymous().auth().get_server_info(INFO).await.unwrap().into_inner();
    assert!(!info.set_up && !info.registration_enabled);
    // Before there is an admin, users cannot register either.
    let password = ADMIN_PASSWORD.to_owned();
    let request = pb::RegisterRequest { email: "eve@example.com".into(), password };
    let early = sg.anonymous().auth().register(request.clone()).await;
    assert_refused!(early, FailedPrecondition, "FEATURE_DISABLED");
    for wrong in ["", "x", &"x".repeat(43)] {
        let refused = sg.anonymous().auth().setup(set_up(wrong, ADMIN_EMAIL)).await;
        assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    }
    assert_eq!(dump::table(&sg.app.db, "users").await, "");
    sg.anonymous().auth().setup(set_up(token.expose(), ADMIN_EMAIL)).await.unwrap();
    nothing_is_open(&sg).await;
    let info = sg.anonymous().auth().get_server_info(INFO).await.unwrap().into_inner();
    assert!(info.set_up && info.registration_enabled);
    sg.anonymous().auth().register(request).await.unwrap();
    sg.finish().await;
}

async fn a_database_failure_before_setup_grants_no_access(sg: TestServer) {
    let token = setup::ensure_token(&sg.app).await.unwrap().unwrap();
    for away in ["users", "setup_tokens"] {
        sg.sql(&format!("ALTER TABLE {away} RENAME TO {away}_away")).await;
        nothing_is_open(&sg).await;
        let made = sg.anonymous().auth().setup(set_up(token.expose(), ADMIN_EMAIL)).await;
        assert_eq!(made.unwrap_err().code(), Code::Internal, "{away}");
        if away == "users" {
            // A missing admin is reported only if the table could be read.
            let info = sg.anonymous().auth().get_server_info(INFO).await;
            assert_eq!(info.unwrap_err().code(), Code::Internal);
        }
        sg.sql(&format!("ALTER TABLE {away}_away RENAME TO {away}")).await;
        assert_eq!(dump::table(&sg.app.db, "users").await, "", "{away}");
    }
    sg.anonymous().auth().setup(set_up(token.expose(), ADMIN_EMAIL)).await.unwrap();
    sg.finish().await;
}

async fn only_one_of_two_concurrent_setup_calls_creates_the_admin(sg: TestServer) {
    let token = setup::ensure_token(&sg.app).await.unwrap().unwrap();
    let (one, two) = (sg.anonymous(), sg.anonymous());
    let (mut one, mut two) = (one.auth(), two.auth());
    let (a, b) = tokio::join!(
        one.setup(set_up(token.expose(), "ana@example.com")),
        two.setup(set_up(token.expose(), "ben@example.com")),
    );
    assert_ne!(a.is_ok(), b.is_ok(), "{a:?} {b:?}");
    let lost = a.err().or(b.err()).unwrap();
    assert_eq!(reason(&lost), "ALREADY_SET_UP");
    assert_eq!(dump::table(&sg.app.db, "users").await.lines().count(), 1);
    let again = sg.anonymous().auth().setup(set_up(token.expose(), "eve@example.com")).await;
    assert_refused!(again, FailedPrecondition, "ALREADY_SET_UP");
    sg.finish().await;
}

async fn the_password_of_the_first_admin_has_at_most_72_bytes(sg: TestServer) {
    let token = setup::ensure_token(&sg.app).await.unwrap().unwrap();
    let with = |bytes: usize| pb::SetupRequest {
        password: "a".repeat(bytes),
        ..set_up(token.expose(), ADMIN_EMAIL)
    };
    let refused = sg.anonymous().auth().setup(with(73)).await;
    assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    sg.anonymous().auth().setup(with(72)).await.unwrap();
    let login = |bytes: usize| pb::LoginRequest {
        email: ADMIN_EMAIL.to_owned(),
        password: "a".repeat(bytes),
    };
    sg.anonymous().auth().login(login(72)).await.unwrap();
    let longer = sg.anonymous().auth().login(login(73)).await;
    assert_refused!(longer, Unauthenticated, "LOGIN_FAILED");
    sg.finish().await;
}
