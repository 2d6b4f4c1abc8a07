//! OIDC issuers for the tests, in a process of their own that signs with real keys. Every path is an issuer.
//!
//! The process is this test binary, started again. It exits when the pipe to it is closed, even if this process
//! crashes.

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

/// Environment variable that marks the provider process.
const MARK: &str = "OIDC_PROVIDER_PROCESS";
/// Text that the process prints before its address.
const LISTENING: &str = "an OIDC provider listens on ";

/// Instructions to an issuer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IssuerCommand {
    /// Sets the person who logs in: claims that override those of an ID token. Null removes a claim.
    Login(Value),
    /// Overrides claims of ID tokens after all others, as a faulty issuer does.
    OverrideClaims(Value),
    /// Sets how ID tokens are signed.
    SignLogins(SigningMode),
    /// Sets the secret of the client. `None` makes it a public client.
    Secret(Option<String>),
    /// Replaces the signing key by a new one of this algorithm, and publishes only the new one.
    Rotate(String),
    /// Removes the ID of the current key, from the published key and from tokens.
    HideKeyId,
    /// Sets the content type of the JSON responses on a path.
    SetContentType(String, String),
    /// Returns a token whose claims override those of an access token.
    IssueToken(TokenSpec),
    /// Changes the response on a path.
    SetBehavior(String, Behavior),
    /// Overrides members of the discovery document.
    Discovery(Value),
    /// Returns how often a path was requested.
    Count(String),
}

/// A token that is signed without a login.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct TokenSpec {
    /// Claims that override those of an access token. Null removes a claim.
    pub(crate) claims: Value,
    /// The type in the header.
    pub(crate) typ: Option<String>,
    /// How to sign the token.
    pub(crate) signed: SigningMode,
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) enum SigningMode {
    /// With the current key.
    #[default]
    Valid,
    /// With another key, under the key ID of the current one.
    OtherKey,
    /// Not at all: `alg` is `none`.
    Unsigned,
    /// With HMAC, using the public part of the current key as the secret.
    HmacWithPublicKey,
}

/// How the issuer responds on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Behavior {
    /// Correctly.
    Normal,
    /// Never.
    Hang,
    /// Correctly, but only after the test has set another behavior.
    Late,
    /// With a redirect to the metadata service of clouds.
    Redirect,
    /// With a server error.
    Fail,
}

struct Process {
    base: String,
    /// The ends of its input and output. The process exits when they are closed.
    _child: Child,
    _output: BufReader<ChildStdout>,
}

/// Returns the base URL of the process, `http://127.0.0.1:PORT`. Starts the process if it does not run yet.
pub(crate) fn base_url() -> &'static str {
    static PROCESS: OnceLock<Process> = OnceLock::new();
    &PROCESS.get_or_init(start).base
}

#[expect(clippy::zombie_processes, reason = "it ends after this process, which cannot wait for it")]
fn start() -> Process {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["oidc_provider::process::runs_the_provider_process", "--exact", "--nocapture"])
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

/// One issuer of the process. Every path has its own.
#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    /// The issuer's identifier in its tokens.
    pub(crate) url: String,
}

/// Fields with which an issuer redirects the browser back.
#[derive(Debug, Clone)]
pub(crate) struct LoginRedirect {
    pub(crate) code: String,
    pub(crate) state: String,
    pub(crate) issuer: String,
}

impl Issuer {
    /// Returns the issuer of a provider in the configuration.
    pub(crate) fn from_config(config: &Config, provider: &str) -> Self {
        let found = config.oidc.providers.iter().find(|found| found.name == provider).unwrap();
        Self { url: found.issuer.clone() }
    }

    pub(crate) async fn send(&self, control: IssuerCommand) -> Value {
        let body = serde_json::to_string(&control).unwrap();
        let (head, answer) = http("POST", &format!("{}/control", self.url), &body).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{control:?}: {head}");
        serde_json::from_str(&answer).unwrap()
    }

    /// Returns a valid access token in which these claims override the usual ones.
    pub(crate) async fn access_token(&self, claims: Value) -> String {
        self.issue_token(TokenSpec { claims, ..TokenSpec::default() }).await
    }

    pub(crate) async fn issue_token(&self, mint: TokenSpec) -> String {
        self.send(IssuerCommand::IssueToken(mint)).await.as_str().unwrap().to_owned()
    }

    pub(crate) async fn count(&self, path: &str) -> i64 {
        self.send(IssuerCommand::Count(path.to_owned())).await.as_i64().unwrap()
    }

    /// Sets the person who logs in: a subject, a verified address, and more claims.
    pub(crate) async fn set_person(&self, sub: &str, email: &str, more: Value) {
        let mut claims = json!({ "sub": sub, "email": email, "email_verified": true });
        tenant::merge_claims(claims.as_object_mut().unwrap(), &more);
        self.send(IssuerCommand::Login(claims)).await;
    }

    /// Opens the authorization URL as a browser does, and logs in there.
    pub(crate) async fn log_in(&self, authorization_url: &str) -> LoginRedirect {
        assert!(authorization_url.starts_with(&self.url), "{authorization_url}");
        let (head, answer) = http("GET", authorization_url, "").await;
        let location = head.lines().find_map(|line| line.strip_prefix("location: "));
        let location = location.unwrap_or_else(|| panic!("{head}\n{answer}"));
        let fields = tenant::parse_form(location.split_once('?').unwrap().1);
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        LoginRedirect { code: field("code"), state: field("state"), issuer: field("iss") }
    }
}

/// Sends one request. Returns head and body of the response.
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
