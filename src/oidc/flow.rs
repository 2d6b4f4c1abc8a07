//! Login at an issuer: authorization code, PKCE with S256, state and nonce.
//!
//! Implemented here instead of with a crate: it is one URL and one form, and the crates for it depend on a URL parser
//! with Unicode tables, a calendar, and their own HTTP clients.
//!
//! Invariants
//! - the state of a login ([`PendingLogin`]) is stored encrypted by the client that began it: the server stores nothing
//!   for a login that is never completed, and URLs contain only hashes of verifier and nonce;
//! - the redirect URI of a login is exactly one of the configured ones, or on loopback if the provider allows that.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Uri};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::provider::{Discovery, Provider};
use crate::clock::Timestamp;
use crate::config::OidcProvider;
use crate::error::Error;
use crate::seal::fill_random;
use crate::secret::Secret;

/// How long a login may take.
pub const LOGIN_LIFETIME: Duration = Duration::from_mins(10);
/// Number of random bytes of each of state, nonce and verifier.
const RANDOM_BYTES: usize = 32;
/// Maximum size of an accepted code or state, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// A login in progress.
#[derive(Serialize, Deserialize)]
pub struct PendingLogin {
    /// Name of the provider.
    pub provider: String,
    /// Returned by the issuer together with the code.
    pub state: String,
    /// Its hash must be in the ID token.
    pub nonce: String,
    /// PKCE verifier: proves that the login is completed by the client that began it.
    pub verifier: String,
    /// The redirect URI.
    pub redirect_uri: String,
    /// When it expires, in Unix seconds.
    pub expires_at: i64,
}

impl std::fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl PendingLogin {
    /// Returns the nonce as sent to the issuer, which repeats it in its ID token.
    #[must_use]
    pub fn nonce_hash(&self) -> String {
        hash(&self.nonce)
    }
}

/// Parameters with which the issuer redirected the browser back.
#[derive(Debug)]
pub struct LoginCallback {
    /// The code.
    pub code: Secret,
    /// The state.
    pub state: String,
    /// The issuer, if it names itself.
    pub issuer: Option<String>,
}

/// Whether a login may redirect to this URI.
#[must_use]
pub fn is_redirect_allowed(config: &OidcProvider, place: &str) -> bool {
    config.redirect_uris.iter().any(|known| known == place)
        || (config.loopback_redirects && is_loopback_redirect(place))
}

/// Whether the URI is a page of a command-line client on this machine, given by one of the two addresses of RFC 8252: a
/// name could resolve elsewhere, and no client listens on another loopback address.
fn is_loopback_redirect(place: &str) -> bool {
    let plain = place.bytes().all(|b| b.is_ascii_graphic()) && !place.contains(['#', '@', '\\']);
    let Ok(uri) = place.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    plain && uri.scheme_str() == Some("http") && ["127.0.0.1", "[::1]"].contains(&host)
}

/// Begins a login. Returns the URL for the browser and the state that completes the login.
pub fn begin_login(
    config: &OidcProvider,
    client_id: &str,
    authorization_endpoint: &str,
    redirect_uri: &str,
    now: Timestamp,
) -> Result<(String, PendingLogin), Error> {
    let pending = PendingLogin {
        provider: config.name.clone(),
        state: random_text()?,
        nonce: random_text()?,
        verifier: random_text()?,
        redirect_uri: redirect_uri.to_owned(),
        expires_at: now.plus(LOGIN_LIFETIME).unix_seconds(),
    };
    let (challenge, nonce) = (hash(&pending.verifier), pending.nonce_hash());
    let query = form_encode(&[
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("scope", &config.scopes.join(" ")),
        ("state", &pending.state),
        ("nonce", &nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let joint = if authorization_endpoint.contains('?') { '&' } else { '?' };
    Ok((format!("{authorization_endpoint}{joint}{query}"), pending))
}

fn hash(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
}

fn random_text() -> Result<String, Error> {
    let mut bytes = [0; RANDOM_BYTES];
    fill_random(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Checks a response before the issuer is called. Returns why it does not belong to this login, or `None` if it does.
#[must_use]
pub fn login_fault(
    pending: &PendingLogin,
    answer: &LoginCallback,
    config: &OidcProvider,
    discovery: &Discovery,
    now: Timestamp,
) -> Option<&'static str> {
    let same = |a: &str, b: &str| bool::from(a.as_bytes().ct_eq(b.as_bytes()));
    if pending.expires_at <= now.unix_seconds() {
        return Some("the login took too long");
    }
    if !same(&pending.state, &answer.state) {
        return Some("the state is that of another login");
    }
    let code = answer.code.expose();
    if code.is_empty() || code.len() > ANSWER_BYTES_MAX {
        return Some("the code is not valid");
    }
    // A response of one issuer must not be accepted for another (RFC 9207).
    match &answer.issuer {
        Some(issuer) if *issuer != config.issuer => Some("another issuer answers"),
        None if discovery.names_itself => Some("the issuer does not name itself"),
        Some(_) | None => None,
    }
}

/// Builds the request that exchanges a code for tokens.
pub fn token_request(
    provider: &Provider,
    client_id: &str,
    token_endpoint: &str,
    basic: bool,
    pending: &PendingLogin,
    code: &Secret,
) -> Result<Request<Bytes>, Error> {
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", pending.redirect_uri.as_str()),
        ("code_verifier", pending.verifier.as_str()),
    ];
    let mut request = Request::post(token_endpoint)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    match provider.secret() {
        Some(secret) if basic => {
            let pair = format!("{}:{}", percent_encode(client_id), percent_encode(secret.expose()));
            request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)));
        }
        Some(secret) => {
            fields.extend([("client_id", client_id), ("client_secret", secret.expose())]);
        }
        None => fields.push(("client_id", client_id)),
    }
    request.body(Bytes::from(form_encode(&fields))).map_err(Error::internal)
}

pub(super) fn form_encode(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    pairs.join("&")
}

/// Percent-encodes everything except unreserved characters.
pub(super) fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes all");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn provider() -> OidcProvider {
        let text = "[[oidc.providers]]\nname = 'a'\nissuer = 'https://a.example'\n\
                    client_id = 'us & them'\nredirect_uris = ['https://us.example/back']\n\
                    loopback_redirects = true";
        Config::from_toml(text).unwrap().oidc.providers.remove(0)
    }

    fn discovery(names_itself: bool) -> Discovery {
        let text = format!(
            r#"{{"issuer":"https://a.example","jwks_uri":"https://a.example/keys",
            "authorization_response_iss_parameter_supported":{names_itself}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_login_starts_with_a_pkce_challenge_and_fresh_secrets() {
        let now = Timestamp::from_unix_seconds(1_000);
        let begin = || {
            begin_login(&provider(), "us & them", "https://a.example/go?x=1", "https://b/c", now)
        };
        let (url, pending) = begin().unwrap();
        assert!(
            url.starts_with(
                "https://a.example/go?x=1&response_type=code&client_id=us%20%26%20them"
            )
        );
        assert!(url.contains("&scope=openid%20email%20profile&"), "{url}");
        assert!(url.contains(&format!("&state={}&nonce={}&", pending.state, pending.nonce_hash())));
        assert!(url.ends_with("&code_challenge_method=S256"), "{url}");
        assert!(!url.contains(&pending.verifier) && !url.contains(&pending.nonce), "{url}");
        assert!(!format!("{pending:?}").contains(&pending.verifier));
        let other = begin().unwrap().1;
        assert_eq!(pending.verifier.len(), 43);
        for (a, b) in [
            (&pending.state, &other.state),
            (&pending.nonce, &other.nonce),
            (&pending.verifier, &other.verifier),
            (&pending.state, &pending.nonce),
        ] {
            assert_ne!(a, b);
        }
    }

    #[test]
    fn a_login_redirects_only_to_configured_or_loopback_uris() {
        let config = provider();
        let sealed_off = OidcProvider { loopback_redirects: false, ..config.clone() };
        assert!(is_redirect_allowed(&sealed_off, "https://us.example/back"));
        for local in
            ["http://127.0.0.1:4321/callback", "http://[::1]:80/", "http://127.0.0.1/a?b=c"]
        {
            assert!(
                is_redirect_allowed(&config, local) && !is_redirect_allowed(&sealed_off, local),
                "{local}"
            );
        }
        for other in [
            "",
            "https://us.example/back/",
            "https://us.example/back?next=evil",
            "https://US.example/back",
            "https://127.0.0.1/",
            "http://localhost:4321/callback",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example/",
            "http://127.0.0.1:80\\@evil.example/",
            "http://127.0.0.2/",
            "http://127.0.0.1/#a",
            "http://127.0.0.1/\u{e9}",
        ] {
            assert!(!is_redirect_allowed(&config, other), "{other}");
        }
    }

    #[test]
    fn an_authorization_response_must_match_its_pending_login() {
        let now = Timestamp::from_unix_seconds(1_000);
        let config = provider();
        let (_, pending) =
            begin_login(&config, "c", "https://a.example/go", "https://b/c", now).unwrap();
        let answer = |code: &str, state: &str, issuer: Option<&str>| LoginCallback {
            code: Secret::new(code),
            state: state.to_owned(),
            issuer: issuer.map(str::to_owned),
        };
        let fault = |answer: &LoginCallback, names: bool, now: Timestamp| {
            login_fault(&pending, answer, &config, &discovery(names), now)
        };
        let good = answer("code", &pending.state, None);
        assert_eq!(fault(&good, false, now), None);
        let named = answer("code", &pending.state, Some("https://a.example"));
        assert_eq!(fault(&named, true, now), None);
        assert_eq!(fault(&good, true, now), Some("the issuer does not name itself"));
        assert_eq!(fault(&good, false, now.plus(LOGIN_LIFETIME)), Some("the login took too long"));
        for (bad, why) in [
            (answer("code", "", None), "the state is that of another login"),
            (answer("code", &pending.nonce, None), "the state is that of another login"),
            (answer("", &pending.state, None), "the code is not valid"),
            (
                answer(&"c".repeat(ANSWER_BYTES_MAX + 1), &pending.state, None),
                "the code is not valid",
            ),
            (answer("code", &pending.state, Some("https://b.example")), "another issuer answers"),
        ] {
            assert_eq!(fault(&bad, false, now), Some(why));
        }
    }
}
