//! An OIDC issuer for the tests: a process of its own that signs with real keys, as many issuers as are asked for.
//!
//! It is this very test binary, started once more. It ends when the pipe to it does, however this process ends.

mod keys;
mod process;
mod tenant;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shoreguard::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Says to the process that it is one.
const MARK: &str = "OIDC_PROVIDER_PROCESS";
/// What the process says before its address.
const LISTENING: &str = "an OIDC provider listens on ";

/// What an issuer can be told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Control {
    /// Who logs in from now on: claims laid over those of an ID token; null takes one out.
    Login(Value),
    /// Claims laid over what an ID token says after all, as by an issuer that is wrong.
    Lie(Value),
    /// How ID tokens are signed from now on.
    SignLogins(Signed),
    /// The secret of the client; none for a public one.
    Secret(Option<String>),
    /// Signs with a new key of this algorithm from now on, and publishes it alone.
    Rotate(String),
    /// Gives a token with these claims laid over those of an access token.
    Mint(Mint),
    /// Answers a path in another way.
    Behave(String, How),
    /// Lays members over the discovery document.
    Discovery(Value),
    /// How often a path was asked for.
    Count(String),
}

/// A token that nobody asked the issuer for.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Mint {
    /// Laid over the claims of an access token; null takes one out.
    pub(crate) claims: Value,
    /// The type in the header.
    pub(crate) typ: Option<String>,
    /// How it is signed.
    pub(crate) signed: Signed,
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) enum Signed {
    /// With the present key.
    #[default]
    Well,
    /// With another key under the name of the present one.
    ByStranger,
    /// Not at all: `alg` is `none`.
    Not,
    /// With HMAC, and what is public of the present key as its secret.
    ByPublicKey,
}

/// How a path is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    /// As it should be.
    Well,
    /// Never.
    Hang,
    /// Correctly, but not before the test lets the issuer answer.
    Late,
    /// With a redirect to where clouds keep their secrets.
    Redirect,
    /// With an error of the server.
    Fail,
}

struct Process {
    base: String,
    /// The ends of its input and output: it ends with them.
    _child: Child,
    _output: BufReader<ChildStdout>,
}

/// Where the process listens: `http://127.0.0.1:PORT`. Starts it where it does not run yet.
pub(crate) fn base() -> &'static str {
    static PROCESS: OnceLock<Process> = OnceLock::new();
    &PROCESS.get_or_init(start).base
}

#[expect(clippy::zombie_processes, reason = "it ends after us: nobody is left to wait for it")]
fn start() -> Process {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["oidc_provider::process::serves_where_it_is_told_to", "--exact", "--nocapture"])
        .env(MARK, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the OIDC provider does not start");
        if let Some((_, address)) = line.split_once(LISTENING) {
            let base = format!("http://{}", address.trim());
            return Process { base, _child: child, _output: output };
        }
    }
}

/// One issuer of the process. There is one under every path.
#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    /// The issuer, as its tokens have it.
    pub(crate) url: String,
}

/// What an issuer sends a browser back with.
#[derive(Debug, Clone)]
pub(crate) struct SentBack {
    pub(crate) code: String,
    pub(crate) state: String,
    pub(crate) issuer: String,
}

impl Issuer {
    /// That of a provider which a configuration names.
    pub(crate) fn of(config: &Config, provider: &str) -> Self {
        let found = config.oidc.providers.iter().find(|found| found.name == provider).unwrap();
        Self { url: found.issuer.clone() }
    }

    pub(crate) async fn tell(&self, control: Control) -> Value {
        let body = serde_json::to_string(&control).unwrap();
        let (head, answer) = http("POST", &format!("{}/control", self.url), &body).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{control:?}: {head}");
        serde_json::from_str(&answer).unwrap()
    }

    /// A sound access token with these claims over the usual ones.
    pub(crate) async fn access_token(&self, claims: Value) -> String {
        self.mint(Mint { claims, ..Mint::default() }).await
    }

    pub(crate) async fn mint(&self, mint: Mint) -> String {
        self.tell(Control::Mint(mint)).await.as_str().unwrap().to_owned()
    }

    pub(crate) async fn count(&self, path: &str) -> i64 {
        self.tell(Control::Count(path.to_owned())).await.as_i64().unwrap()
    }

    /// Whoever logs in from now on: a subject, a verified address, and more claims.
    pub(crate) async fn person(&self, sub: &str, email: &str, more: Value) {
        let mut claims = json!({ "sub": sub, "email": email, "email_verified": true });
        tenant::lay_over(claims.as_object_mut().unwrap(), &more);
        self.tell(Control::Login(claims)).await;
    }

    /// Goes where a login leads, as a browser does, and logs in there.
    pub(crate) async fn log_in(&self, authorization_url: &str) -> SentBack {
        assert!(authorization_url.starts_with(&self.url), "{authorization_url}");
        let (head, answer) = http("GET", authorization_url, "").await;
        let location = head.lines().find_map(|line| line.strip_prefix("location: "));
        let location = location.unwrap_or_else(|| panic!("{head}\n{answer}"));
        let fields = tenant::fields(location.split_once('?').unwrap().1);
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        SentBack { code: field("code"), state: field("state"), issuer: field("iss") }
    }
}

/// One request; the head and the body of the answer.
async fn http(method: &str, url: &str, body: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}
