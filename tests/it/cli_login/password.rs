//! Logins with a password and with an API key, and their ends.

use shoreguard::pb::v1 as pb;

use super::{Home, field};
use crate::commands::text;
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, TestServer};

sqlite_tests! {
    a_login_with_a_password_stores_a_session_that_further_commands_use,
    a_refused_login_stores_nothing,
    a_key_is_stored_only_if_the_server_accepts_it,
    a_changed_password_keeps_the_caller_logged_in,
    a_login_with_a_password_does_not_replace_a_stored_key,
    a_logout_ends_the_session_on_the_server_and_removes_it,
    a_logout_without_the_server_removes_the_session_and_fails,
    a_login_without_a_terminal_says_what_is_missing,
    a_key_on_the_command_line_is_warned_of,
}

async fn a_login_with_a_password_stores_a_session_that_further_commands_use(sg: TestServer) {
    let home = Home::new(&sg);
    let missing = home.fail(4, &["whoami", "--endpoint", &home.endpoint]).await;
    assert!(missing.contains("log in with: `shoreguard login`"), "{missing}");
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    for file in ["contexts.toml", "credentials.toml", "credentials.lock"] {
        assert_eq!(home.mode(file), 0o600, "{file}");
    }
    let (contexts, credentials) = (home.stored("contexts.toml"), home.stored("credentials.toml"));
    assert_eq!(field(&contexts, "endpoint"), home.endpoint);
    assert_eq!(field(&contexts, "current"), "127.0.0.1");
    assert!(!contexts.contains("token") && !credentials.contains(ADMIN_PASSWORD));

    let shown = home.succeed(&["whoami"]).await;
    assert!(shown.starts_with("actor    admin@example.com\nrole     admin\n"), "{shown}");
    assert!(shown.contains("context  127.0.0.1"), "{shown}");
    let json = home.succeed(&["whoami", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["actor"], ADMIN_EMAIL);
    assert!(home.succeed(&["call", "ListGateways"]).await.contains('{'));
    assert!(!shown.contains(field(&credentials, "session_token")));
    sg.finish().await;
}

async fn a_refused_login_stores_nothing(sg: TestServer) {
    let home = Home::new(&sg);
    let arguments =
        ["login", "--endpoint", home.endpoint.as_str(), "--email", ADMIN_EMAIL, "--password-stdin"];
    let refused = home.run_with(&arguments, "wrong horse battery\n").await;
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let why = text(&refused.stderr);
    assert!(why.contains("LOGIN_FAILED") && !why.contains("wrong horse"), "{why}");
    assert_eq!(home.stored("contexts.toml") + &home.stored("credentials.toml"), "");
    sg.finish().await;
}

async fn a_key_is_stored_only_if_the_server_accepts_it(sg: TestServer) {
    let home = Home::new(&sg);
    let arguments = ["login", "--endpoint", home.endpoint.as_str(), "--context", "ci", "--key"];
    let refused = home.run_with(&arguments, "sg_unknown\n").await;
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert_eq!(home.stored("credentials.toml"), "");
    let key = sg.admin().create_key("ci", pb::Role::Viewer).await;
    let done = home.run_with(&arguments, &format!("{key}\n")).await;
    assert!(done.status.success(), "{done:?}");
    let said = format!("{}{}", text(&done.stdout), text(&done.stderr));
    assert!(said.starts_with("sp:ci is logged in to ") && !said.contains(&key), "{said}");
    assert_eq!(field(&home.stored("credentials.toml"), "key"), key);
    assert_eq!(home.succeed(&["whoami", "-o", "name"]).await, "sp:ci\n");
    // The key of a program is not removed on the server.
    home.succeed(&["logout"]).await;
    sg.with_token(&key)
        .auth()
        .get_current_identity(pb::GetCurrentIdentityRequest {})
        .await
        .unwrap();
    home.fail(4, &["whoami"]).await;
    sg.finish().await;
}

async fn a_changed_password_keeps_the_caller_logged_in(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    let before = field(&home.stored("credentials.toml"), "refresh_token").to_owned();
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, password: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, password).unwrap();
        format!("@{}", path.display())
    };
    let (old, new) = (file("old", ADMIN_PASSWORD), file("new", "another horse battery"));
    let arguments = [
        "session",
        "change-password",
        "--current-password",
        old.as_str(),
        "--new-password",
        new.as_str(),
    ];
    let said = home.succeed(&arguments).await;
    let after = field(&home.stored("credentials.toml"), "refresh_token").to_owned();
    assert!(said.starts_with("password changed") && !said.contains(&after), "{said}");
    assert_ne!(before, after);
    assert!(home.succeed(&["whoami"]).await.contains(ADMIN_EMAIL));
    sg.finish().await;
}

async fn a_login_with_a_password_does_not_replace_a_stored_key(sg: TestServer) {
    let home = Home::new(&sg);
    let key = sg.admin().create_key("ci", pb::Role::Viewer).await;
    let arguments = ["login", "--endpoint", home.endpoint.as_str(), "--key"];
    let done = home.run_with(&arguments, &format!("{key}\n")).await;
    assert!(done.status.success(), "{done:?}");
    let by_password =
        ["login", "--endpoint", home.endpoint.as_str(), "--email", ADMIN_EMAIL, "--password-stdin"];
    let refused = home.run_with(&by_password, &format!("{ADMIN_PASSWORD}\n")).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("holds an API key"), "{refused:?}");
    assert_eq!(field(&home.stored("credentials.toml"), "key"), key);
    let named = [&by_password[..], &["--context", "ana"]].concat();
    let done = home.run_with(&named, &format!("{ADMIN_PASSWORD}\n")).await;
    assert!(done.status.success(), "{done:?}");
    assert_eq!(home.succeed(&["context", "list", "-o", "name"]).await, "127.0.0.1\nana\n");
    sg.finish().await;
}

async fn a_logout_ends_the_session_on_the_server_and_removes_it(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    let stored = home.stored("credentials.toml");
    let (token, refresh_token) = (field(&stored, "session_token"), field(&stored, "refresh_token"));
    let who = pb::GetCurrentIdentityRequest {};
    sg.with_token(token).auth().get_current_identity(who).await.unwrap();
    let elsewhere = ["logout", "--context", "127.0.0.1", "--endpoint", "http://127.0.0.1:1"];
    assert!(home.fail(2, &elsewhere).await.contains("context `127.0.0.1` is for"));
    // A session whose token has expired is ended, too.
    home.expire_session();
    assert!(home.succeed(&["logout"]).await.starts_with("logged out of http://"));
    assert!(!home.stored("credentials.toml").contains("token"));
    assert_eq!(field(&home.stored("contexts.toml"), "current"), "127.0.0.1");
    let refused = sg.with_token(token).auth().get_current_identity(who).await;
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    let refresh = pb::RefreshSessionRequest { refresh_token: refresh_token.to_owned() };
    let refused = sg.anonymous().auth().refresh_session(refresh).await;
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    assert!(home.succeed(&["logout"]).await.contains("has no credential"));
    sg.finish().await;
}

async fn a_logout_without_the_server_removes_the_session_and_fails(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    sg.finish().await;
    let why = home.fail(5, &["logout"]).await;
    assert!(why.contains("cannot be reached"), "{why}");
    assert!(why.contains("the session on the server continues"), "{why}");
    assert!(!home.stored("credentials.toml").contains("token"));
}

async fn a_login_without_a_terminal_says_what_is_missing(sg: TestServer) {
    let home = Home::new(&sg);
    let login = ["login", "--endpoint", &home.endpoint];
    let why = home.fail(2, &login).await;
    assert!(why.contains("`--email` is required"), "{why}");
    let both = [&login[..], &["--key", "--password-stdin"]].concat();
    assert!(home.fail(2, &both).await.contains("cannot be used with"));
    let empty = [&login[..], &["--email", ADMIN_EMAIL, "--password-stdin"]].concat();
    assert!(home.fail(2, &empty).await.contains("the password is empty"));
    // Nothing is sent without TLS over a network.
    let far = home.fail(2, &["login", "--endpoint", "http://192.0.2.1:1", "--key"]).await;
    assert!(far.contains("--allow-plaintext"), "{far}");
    assert_eq!(home.stored("credentials.toml"), "");
    sg.finish().await;
}

async fn a_key_on_the_command_line_is_warned_of(sg: TestServer) {
    let home = Home::new(&sg);
    let arguments = [
        "call",
        "--endpoint",
        home.endpoint.as_str(),
        "--key",
        sg.admin_key.as_str(),
        "ListGateways",
    ];
    let done = home.run(&arguments).await;
    assert!(done.status.success(), "{done:?}");
    let warned = text(&done.stderr);
    assert!(warned.contains("can see `--key`") && !warned.contains(&sg.admin_key), "{warned}");
    let mut quiet = home.command(&["call", "--endpoint", home.endpoint.as_str(), "ListGateways"]);
    let quiet = super::wait(quiet.env("SHOREGUARD_KEY", &sg.admin_key).spawn().unwrap()).await;
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet:?}");
    sg.finish().await;
}
