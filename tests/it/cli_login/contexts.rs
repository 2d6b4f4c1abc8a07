//! Contexts: stored servers, and which credential is sent to which of them.

use serde_json::Value;

use super::{Home, field, wait};
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, TestServer};

sqlite_tests! {
    contexts_are_added_listed_shown_used_and_removed,
    a_session_is_never_sent_to_another_endpoint,
    a_context_given_by_name_precedes_the_environment,
    files_that_others_can_read_are_refused,
    files_of_an_sdk_are_used,
}

async fn contexts_are_added_listed_shown_used_and_removed(sg: TestServer) {
    let home = Home::new(&sg);
    assert_eq!(home.succeed(&["context", "list", "-o", "name"]).await, "");
    let one =
        ["context", "add", "one", "--endpoint", home.endpoint.as_str(), "--gateway", "prod-eu"];
    home.succeed(&one).await;
    home.succeed(&["context", "add", "two", "--endpoint", "https://two.example/"]).await;
    let twice = home.fail(2, &one).await;
    assert!(twice.contains("context `one` exists"), "{twice}");
    for (name, endpoint) in [("a b", "https://a.example"), ("a", "a.example"), ("a", "https://a/b")]
    {
        home.fail(2, &["context", "add", name, "--endpoint", endpoint]).await;
    }
    assert_eq!(home.succeed(&["context", "list", "-o", "name"]).await, "one\ntwo\n");
    let table = home.succeed(&["context", "list"]).await;
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "ENDPOINT", "GATEWAY", "CREDENTIAL"]);
    assert_eq!(rows[1], ["one*", home.endpoint.as_str(), "prod-eu", "none"]);
    assert_eq!(rows[2], ["two", "https://two.example", "-", "none"]);

    home.succeed(&["context", "use", "two"]).await;
    let shown: Value =
        serde_json::from_str(&home.succeed(&["context", "show", "-o", "json"]).await).unwrap();
    assert_eq!(shown["name"], "two");
    assert_eq!(shown["current"], true);
    let unknown = home.fail(2, &["context", "use", "three"]).await;
    assert!(unknown.contains("known are `one`, `two`"), "{unknown}");
    home.succeed(&["context", "remove", "two"]).await;
    assert!(home.fail(2, &["context", "show"]).await.contains("no context is current"));
    home.fail(2, &["context", "remove", "two"]).await;
    assert_eq!(home.mode("contexts.toml"), 0o600);
    sg.finish().await;
}

async fn a_session_is_never_sent_to_another_endpoint(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    // The same server by another name is another endpoint.
    let other = format!("http://localhost:{}", sg.address.port());
    let why = home.fail(4, &["whoami", "--endpoint", &other]).await;
    assert!(why.contains("CREDENTIAL_MISSING"), "{why}");
    let by_variable = home.command(&["whoami"]).env("SHOREGUARD_ENDPOINT", &other).spawn().unwrap();
    assert_eq!(wait(by_variable).await.status.code(), Some(4));
    home.fail(4, &["whoami", "--context", "127.0.0.1", "--endpoint", &other]).await;
    // A file that was changed by hand or by another program directs no credential elsewhere.
    home.edit("contexts.toml", |line| line.replace("127.0.0.1:", "localhost:"));
    assert_eq!(field(&home.stored("contexts.toml"), "endpoint"), other);
    home.fail(4, &["whoami"]).await;
    home.edit("contexts.toml", |line| line.replace("localhost:", "127.0.0.1:"));
    home.succeed(&["whoami", "--endpoint", &format!("{}/", home.endpoint)]).await;
    // A login does not reuse the name of a context for another server.
    let taken = ["login", "--context", "127.0.0.1", "--endpoint", other.as_str(), "--key"];
    let why = home.fail(2, &taken).await;
    assert!(why.contains("context `127.0.0.1` is for"), "{why}");
    sg.finish().await;
}

async fn a_context_given_by_name_precedes_the_environment(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    let run = async |arguments: &[&str], key: &str| {
        let mut command = home.command(arguments);
        wait(command.env("SHOREGUARD_KEY", key).spawn().unwrap()).await
    };
    let by_key = run(&["whoami", "-o", "name"], &sg.admin_key).await;
    assert_eq!(by_key.stdout, b"sp:root\n", "{by_key:?}");
    let by_name = run(&["whoami", "-o", "name", "--context", "127.0.0.1"], &sg.admin_key).await;
    assert_eq!(by_name.stdout, format!("{ADMIN_EMAIL}\n").as_bytes(), "{by_name:?}");
    // An empty key is the same as none.
    let without = run(&["whoami", "-o", "name"], "").await;
    assert_eq!(without.stdout, format!("{ADMIN_EMAIL}\n").as_bytes(), "{without:?}");
    sg.finish().await;
}

async fn files_that_others_can_read_are_refused(sg: TestServer) {
    let home = Home::new(&sg);
    home.log_in(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    for (file, mode, word) in [
        ("credentials.toml", 0o640, "read"),
        ("credentials.toml", 0o604, "read"),
        ("contexts.toml", 0o620, "write"),
    ] {
        home.set_mode(file, mode);
        let why = home.fail(2, &["whoami"]).await;
        assert!(why.contains(&format!("other users can {word}")), "{why}");
        assert!(why.contains("chmod 600") && why.contains(file), "{why}");
        home.set_mode(file, 0o600);
    }
    home.succeed(&["whoami"]).await;
    home.edit("credentials.toml", |line| line.replace("session_token = ", "session_token "));
    let why = home.fail(2, &["whoami"]).await;
    assert!(why.contains("is not valid TOML") && !why.contains("sgs_"), "{why}");
    sg.finish().await;
}

async fn files_of_an_sdk_are_used(sg: TestServer) {
    let home = Home::new(&sg);
    std::fs::create_dir_all(home.path("")).unwrap();
    let put = |file: &str, content: String| {
        std::fs::write(home.path(file), content).unwrap();
        home.set_mode(file, 0o600);
    };
    put(
        "contexts.toml",
        format!("current = \"ci\"\n\n[contexts.\"ci\"]\n\"endpoint\" = \"{}\"\n", home.endpoint),
    );
    put("credentials.toml", format!("[contexts.\"ci\"]\n\"key\" = \"{}\"\n", sg.admin_key));
    assert_eq!(home.succeed(&["whoami", "-o", "name"]).await, "sp:root\n");
    sg.finish().await;
}
