//! Logins at an OIDC provider, with a browser that follows the redirect to this host.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Home, wait};
use crate::commands::text;
use crate::oidc::configure_issuers;
use crate::support::server::TestServer;

sqlite_tests! {
    tuned configure_issuers;
    a_login_at_a_provider_ends_on_a_page_that_can_be_closed,
    a_login_that_the_provider_refuses_stores_nothing,
    the_provider_is_named_if_there_are_several,
}

/// A login that waits for the browser.
struct Login {
    process: Child,
    authorization_url: String,
}

impl Login {
    /// Starts a login, and reads the URL that it prints.
    async fn start(home: &Home) -> Self {
        let arguments =
            ["login", "--endpoint", home.endpoint.as_str(), "--oidc", "corp", "--no-browser"];
        let mut process = home.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(process.stderr.take().unwrap());
        let (url, errors) = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            while !line.trim_start().starts_with("http") {
                line.clear();
                assert_ne!(errors.read_line(&mut line).unwrap(), 0, "no URL was printed");
            }
            (line.trim().to_owned(), errors)
        })
        .await
        .unwrap();
        // What follows is read with the output of the process.
        process.stderr = Some(errors.into_inner());
        Self { process, authorization_url: url }
    }

    /// Returns the address of the page to which the provider redirects.
    fn page(&self) -> String {
        let (_, rest) = self.authorization_url.split_once("redirect_uri=").unwrap();
        let uri = percent_encoding::percent_decode_str(rest.split('&').next().unwrap());
        let uri = uri.decode_utf8().unwrap().into_owned();
        assert!(uri.starts_with("http://127.0.0.1:") && uri.ends_with('/'), "{uri}");
        uri.trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    /// Opens the page with a query, as the browser does.
    async fn open(&self, query: &str) -> String {
        let page = self.page();
        let mut stream = TcpStream::connect(&page).await.unwrap();
        let request = format!("GET /?{query} HTTP/1.1\r\nhost: {page}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

async fn a_login_at_a_provider_ends_on_a_page_that_can_be_closed(sg: TestServer) {
    let home = Home::new(&sg);
    let issuer = sg.issuer("corp");
    issuer.set_person("ana-1", "ana@corp.example", json!({ "groups": ["ops"] })).await;
    let login = Login::start(&home).await;
    let back = issuer.log_in(&login.authorization_url).await;
    // Another page of the browser cannot end the login, nor put its own code into it.
    for query in ["code=evil", "code=evil&state=other", "error=access_denied&state=other"] {
        assert!(login.open(query).await.starts_with("HTTP/1.1 404 "), "{query}");
    }
    let query = format!("code={}&state={}&iss={}", back.code, back.state, back.issuer);
    let shown = login.open(&query).await;
    assert!(shown.starts_with("HTTP/1.1 200 OK"), "{shown}");
    assert!(shown.contains("You are logged in") && shown.contains("close this page"), "{shown}");
    assert!(shown.contains("no-store") && !shown.contains(&back.code), "{shown}");
    let done = wait(login.process).await;
    assert!(done.status.success(), "{done:?}");
    assert!(text(&done.stdout).starts_with("ana@corp.example is logged in to "), "{done:?}");
    let shown = home.succeed(&["whoami"]).await;
    assert!(shown.contains("role     operator"), "{shown}");
    home.expire_session();
    home.succeed(&["whoami"]).await;
    sg.finish().await;
}

async fn a_login_that_the_provider_refuses_stores_nothing(sg: TestServer) {
    let home = Home::new(&sg);
    let issuer = sg.issuer("corp");
    issuer.set_person("ana-1", "ana@corp.example", json!({ "groups": ["ops"] })).await;
    let login = Login::start(&home).await;
    let back = issuer.log_in(&login.authorization_url).await;
    let query = format!("error=access_denied&error_description=not+you&state={}", back.state);
    let shown = login.open(&query).await;
    assert!(shown.contains("The login failed") && !shown.contains("not you"), "{shown}");
    let done = wait(login.process).await;
    assert_eq!(done.status.code(), Some(4), "{done:?}");
    assert!(text(&done.stderr).contains("access_denied: not you"), "{done:?}");

    // A code that the provider does not know.
    let login = Login::start(&home).await;
    let back = issuer.log_in(&login.authorization_url).await;
    let shown = login.open(&format!("code=unknown&state={}", back.state)).await;
    assert!(shown.contains("The login failed"), "{shown}");
    let done = wait(login.process).await;
    assert_eq!(done.status.code(), Some(4), "{done:?}");
    assert_eq!(home.stored("credentials.toml"), "");
    sg.finish().await;
}

async fn the_provider_is_named_if_there_are_several(sg: TestServer) {
    let home = Home::new(&sg);
    let why = home.fail(2, &["login", "--endpoint", home.endpoint.as_str(), "--oidc"]).await;
    assert!(why.contains("`corp`, `partner`"), "{why}");
    let why =
        home.fail(1, &["login", "--endpoint", home.endpoint.as_str(), "--oidc", "nope"]).await;
    assert!(why.contains("NOT_FOUND"), "{why}");
    sg.finish().await;
}
