//! The page on this host to which an OIDC provider redirects the browser (RFC 8252, 7.3).
//!
//! Invariants
//! - only a request with the `state` of this login ends the wait: other pages can send requests to this port, too;
//! - a connection that sends nothing, as browsers open them in advance, delays no other;
//! - the page contains nothing of the request.

use std::time::Duration;

use http::Uri;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::super::CliError;

/// Maximum number of open connections.
const CONNECTIONS_MAX: usize = 32;
/// Timeout of a request, and of a response.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause after a connection that cannot be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Maximum size of the head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A listener on a free port of loopback.
pub(super) struct Loopback {
    listener: TcpListener,
    uri: String,
}

/// The request with which the browser returned.
pub(super) struct Return {
    stream: TcpStream,
    query: Vec<(String, String)>,
}

impl Loopback {
    /// Begins to listen.
    pub(super) async fn bind() -> Result<Self, CliError> {
        let failed = |error| CliError::Io(format!("no port on 127.0.0.1 can be used: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, uri: format!("http://{address}/") })
    }

    /// Returns the URL of the page.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Waits for the browser to return with this state.
    pub(super) async fn wait(&self, state: &str) -> Result<Return, CliError> {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if open.len() < CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, _)) => drop(open.spawn(receive(stream, state.to_owned()))),
                        // The browser has closed the connection already, or this process has too many files.
                        Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                    }
                }
                Some(received) = open.join_next() => {
                    if let Ok(Some(returned)) = received {
                        return Ok(returned);
                    }
                }
            }
        }
    }
}

impl Return {
    /// Returns a parameter, or an empty text.
    pub(super) fn parameter(&self, name: &str) -> &str {
        find(&self.query, name).unwrap_or_default()
    }

    /// Shows the result in the browser. A browser that does not wait for it is not an error.
    pub(super) async fn respond(mut self, is_logged_in: bool) {
        let (title, more) = if is_logged_in {
            ("You are logged in.", "You can close this page and return to the terminal.")
        } else {
            ("The login failed.", "The terminal shows why. You can close this page.")
        };
        let page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Shoreguard</title>\
             <h1>{title}</h1><p>{more}</p></html>\n"
        );
        send(&mut self.stream, "200 OK", &page).await;
    }
}

/// Reads a request. Answers it if it does not have the state; otherwise returns it.
async fn receive(mut stream: TcpStream, state: String) -> Option<Return> {
    let head = tokio::time::timeout(EXCHANGE_TIME_MAX, read_head(&mut stream)).await.ok()??;
    let query = parse_request(&head).unwrap_or_default();
    if find(&query, "state") == Some(state.as_str()) {
        return Some(Return { stream, query });
    }
    send(&mut stream, "404 Not Found", "<!doctype html><title>Not found</title>\n").await;
    None
}

/// Reads up to the empty line that ends the head of a request.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

/// Returns the query of a GET of the page.
fn parse_request(head: &str) -> Option<Vec<(String, String)>> {
    let mut words = head.lines().next()?.split(' ');
    let is_get = words.next() == Some("GET");
    let (path, query) = words.next()?.split_once('?')?;
    (is_get && path == "/").then(|| parse_query(query))
}

/// Parses a query as a form.
fn parse_query(query: &str) -> Vec<(String, String)> {
    let decode =
        |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

fn find<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Returns the `state` in a URL of the provider. Only URLs of the web are safe to open in a browser.
pub(super) fn state_of(authorization_url: &str) -> Option<String> {
    let uri: Uri = authorization_url.parse().ok()?;
    let is_web = matches!(uri.scheme_str(), Some("https" | "http"));
    let query = parse_query(uri.query().filter(|_| is_web)?);
    find(&query, "state").filter(|state| !state.is_empty()).map(str::to_owned)
}

async fn send(stream: &mut TcpStream, status: &str, page: &str) {
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nreferrer-policy: no-referrer\r\n\
         content-security-policy: default-src 'none'\r\nconnection: close\r\n\r\n{page}",
        page.len()
    );
    let sending = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(EXCHANGE_TIME_MAX, sending).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(uri: &str, target: &str) -> String {
        let host = uri.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(host).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn only_the_right_state_ends_the_wait() {
        let page = Loopback::bind().await.unwrap();
        let uri = page.uri().to_owned();
        let host = uri.trim_start_matches("http://").trim_end_matches('/');
        // A browser opens connections in advance.
        let _silent = TcpStream::connect(host).await.unwrap();
        let browser = async {
            for target in
                ["/favicon.ico", "/?code=evil&state=other", "/?code=evil", "/other?state=s%201"]
            {
                let answer = get(&uri, target).await;
                assert!(answer.starts_with("HTTP/1.1 404 "), "{target}: {answer}");
            }
            get(&uri, "/?code=c%2B1&state=s+1&iss=https%3A%2F%2Fa").await
        };
        let login = async {
            let returned = page.wait("s 1").await.unwrap();
            assert_eq!(returned.parameter("code"), "c+1");
            assert_eq!(returned.parameter("iss"), "https://a");
            assert_eq!(returned.parameter("error"), "");
            returned.respond(true).await;
        };
        let (shown, ()) = tokio::join!(browser, login);
        assert!(shown.starts_with("HTTP/1.1 200 OK\r\n"), "{shown}");
        assert!(shown.contains("You can close this page") && !shown.contains("c+1"), "{shown}");
    }

    #[test]
    fn the_state_is_read_from_a_web_url_only() {
        assert_eq!(state_of("https://a/go?x=1&state=a%20b").as_deref(), Some("a b"));
        for url in ["https://a/go", "https://a/go?state=", "file:///go?state=a", "not a url"] {
            assert_eq!(state_of(url), None, "{url}");
        }
    }

    #[test]
    fn only_a_get_of_the_page_has_a_query() {
        assert!(parse_request("GET /?a=b HTTP/1.1\r\n\r\n").is_some());
        for head in
            ["POST /?a=b HTTP/1.1\r\n\r\n", "GET /x?a=b HTTP/1.1\r\n\r\n", "GET / HTTP/1.1", ""]
        {
            assert_eq!(parse_request(head), None, "{head}");
        }
    }
}
