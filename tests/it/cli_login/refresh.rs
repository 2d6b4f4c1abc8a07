//! Sessions that are refreshed before they expire, by one command of many.

use std::process::Child;

use futures_util::future::join_all;
use shoreguard::pb::v1 as pb;

use super::{Home, field, wait};
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, TestServer};

server_tests! {
    twenty_commands_at_once_refresh_an_expired_session_once,
}

sqlite_tests! {
    a_session_is_not_refreshed_before_it_is_due,
    public_methods_need_no_session,
    an_ended_session_asks_for_a_login,
    another_credential_is_used_if_it_was_stored_meanwhile,
    the_timeout_bounds_the_wait_for_the_lock,
}

/// Returns how many refreshes the server has recorded.
async fn count_refreshes(sg: &TestServer) -> usize {
    sg.app.audit.wait_settled().await;
    sg.admin().audit_entries("", "session.refresh").await.len()
}

async fn twenty_commands_at_once_refresh_an_expired_session_once(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    home.expire_session();
    let before = home.stored("credentials.toml");
    let commands: Vec<Child> =
        (0..20).map(|_| home.command(&["whoami", "-o", "name"]).spawn().unwrap()).collect();
    for done in join_all(commands.into_iter().map(wait)).await {
        assert!(done.status.success(), "{done:?}");
        assert_eq!(done.stdout, format!("{ADMIN_EMAIL}\n").as_bytes());
    }
    assert_eq!(count_refreshes(&sg).await, 1);
    let after = home.stored("credentials.toml");
    assert_ne!(field(&before, "refresh_token"), field(&after, "refresh_token"));
    assert_eq!(home.mode("credentials.toml"), 0o600);
    // The session continues: no refresh token was used twice.
    home.expire_session();
    home.succeed(&["whoami"]).await;
    let left: Vec<_> = std::fs::read_dir(home.path("")).unwrap().collect();
    assert_eq!(left.len(), 3, "temporary files are removed: {left:?}");
    sg.finish().await;
}

async fn a_session_is_not_refreshed_before_it_is_due(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    let before = home.stored("credentials.toml");
    home.succeed(&["whoami"]).await;
    assert_eq!(home.stored("credentials.toml"), before);
    assert_eq!(count_refreshes(&sg).await, 0);
    sg.finish().await;
}

async fn public_methods_need_no_session(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    home.expire_session();
    home.edit("credentials.toml", |line| {
        let is_refresh = line.starts_with("refresh_token = ");
        if is_refresh { "refresh_token = \"used\"" } else { line }.to_owned()
    });
    assert!(home.succeed(&["call", "GetServerInfo"]).await.contains("\"set_up\": true"));
    let stale = ["call", "--endpoint", home.endpoint.as_str(), "GetServerInfo"];
    let stale = home.command(&stale).env("SHOREGUARD_KEY", "sg_stale").spawn().unwrap();
    assert!(wait(stale).await.status.success());
    sg.finish().await;
}

async fn an_ended_session_asks_for_a_login(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    let stored = home.stored("credentials.toml");
    let session = sg.with_token(field(&stored, "session_token"));
    session.auth().logout(pb::LogoutRequest::default()).await.unwrap();
    let why = home.fail(4, &["whoami"]).await;
    assert!(why.contains("log in with: `shoreguard login`"), "{why}");
    home.expire_session();
    let why = home.fail(4, &["whoami"]).await;
    assert_eq!(
        why.trim_end(),
        "the session of context `127.0.0.1` has ended: log in with `shoreguard login`"
    );
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    home.succeed(&["whoami"]).await;
    sg.finish().await;
}

async fn another_credential_is_used_if_it_was_stored_meanwhile(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    let current = home.stored("credentials.toml");
    home.expire_session();
    // This test is the other program: it has the lock before the command begins, and refreshes the session.
    let lock = std::fs::File::options().write(true).open(home.path("credentials.lock")).unwrap();
    lock.lock().unwrap();
    let command = home.command(&["whoami", "-o", "name"]).spawn().unwrap();
    std::fs::write(home.path("new"), current).unwrap();
    home.set_mode("new", 0o600);
    std::fs::rename(home.path("new"), home.path("credentials.toml")).unwrap();
    lock.unlock().unwrap();
    let done = wait(command).await;
    assert!(done.status.success(), "{done:?}");
    assert_eq!(count_refreshes(&sg).await, 0);
    sg.finish().await;
}

async fn the_timeout_bounds_the_wait_for_the_lock(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    home.expire_session();
    let before = home.stored("credentials.toml");
    // This test is the other program, which does not end.
    let lock = std::fs::File::options().write(true).open(home.path("credentials.lock")).unwrap();
    lock.lock().unwrap();
    let commands = [
        (5, &["whoami", "--timeout", "1"][..]),
        (5, &["gateway", "list", "--timeout", "1"]),
        (5, &["logout", "--timeout", "1"]),
        (2, &["policy", "export", "edge/box", "--timeout", "1"]),
        (125, &["sandbox", "exec", "edge/box", "--timeout", "1", "--", "true"]),
    ];
    for why in join_all(commands.map(|(code, arguments)| home.fail(code, arguments))).await {
        assert!(why.contains("another program has locked the stored credentials"), "{why}");
    }
    assert_eq!(home.stored("credentials.toml"), before);
    assert_eq!(count_refreshes(&sg).await, 0);
    // Methods that need no credential do not wait.
    home.succeed(&["server", "info"]).await;
    lock.unlock().unwrap();
    home.succeed(&["whoami"]).await;
    sg.finish().await;
}
