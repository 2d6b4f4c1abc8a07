//! One issuer: its published documents, and the calls to it.
//!
//! Invariants
//! - its discovery document must name it exactly as the configuration does;
//! - the endpoints in that document must use TLS, unless both the issuer and the endpoint are on this machine;
//! - a caller learns that an issuer cannot be used, but not why: the reason is logged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::warn;

use super::cache::DocumentCache;
use super::claims::Claims;
use super::flow::{self, LoginCallback, PendingLogin};
use super::jwks::KeySet;
use super::verified::VerifiedTokens;
use super::verify::{ExpectedToken, TokenError, key_id, verify};
use crate::clock::Clock;
use crate::config::OidcProvider;
use crate::error::{Error, Reason};
use crate::net::http::{Client, RequestLimits};
use crate::net::loopback::is_loopback_host;
use crate::net::roots::root_certificates;
use crate::secret::Secret;

/// Maximum size of a document of an issuer, in bytes.
const DOCUMENT_BYTES_MAX: usize = 512 * 1024;
/// Maximum number of access tokens that wait for keys at once: the first of them fetches the keys, the others wait.
const WAITING_MAX: usize = 64;
/// Maximum number of codes that are exchanged for tokens at once; others wait.
const EXCHANGES_MAX: usize = 32;
/// Maximum number of connections to one issuer: those of exchanges, and one for each of the two documents, which are
/// fetched by one caller at a time.
pub const CONNECTIONS_MAX: usize = EXCHANGES_MAX + 2;
/// Maximum length of a logged error code of an issuer, in characters.
const WORD_CHARACTERS_MAX: usize = 64;

/// Discovery document of an issuer.
#[derive(Debug, Deserialize)]
pub struct Discovery {
    issuer: String,
    jwks_uri: String,
    /// URL of the login in a browser; absent for an issuer of workload tokens.
    #[serde(default)]
    authorization_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    /// Whether it names itself when it redirects a browser back.
    #[serde(default, rename = "authorization_response_iss_parameter_supported")]
    pub(super) names_itself: bool,
}

/// Reason why an issuer gave no usable result.
#[derive(Debug)]
pub enum ProviderError {
    /// The code or token is invalid. For the log.
    Refused(&'static str),
    /// The issuer cannot be used now.
    Unavailable(Error),
}

/// One issuer.
#[derive(Debug)]
pub struct Provider {
    /// Its configuration.
    pub config: OidcProvider,
    secret: Option<Secret>,
    client: Client,
    limits: RequestLimits,
    clock: Clock,
    discovery: DocumentCache<Discovery>,
    keys: DocumentCache<KeySet>,
    verified: VerifiedTokens,
    /// Limits the tokens that wait for the issuer's keys at once.
    waiting: Semaphore,
    /// Limits the codes that are exchanged at once.
    exchanges: Semaphore,
}

impl Provider {
    pub(super) fn new(
        config: &OidcProvider,
        allowed_networks: &[IpNet],
        timeout: Duration,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let unreadable = |error: std::io::Error| Error::invalid("oidc", error.to_string());
        Ok(Self {
            secret: config.secret().map_err(unreadable)?,
            client: Client::new(allowed_networks, root_certificates(config.ca_path.as_deref())?)?,
            limits: RequestLimits { deadline: timeout, answer_bytes_max: DOCUMENT_BYTES_MAX },
            clock: clock.clone(),
            discovery: DocumentCache::new(clock),
            keys: DocumentCache::new(clock),
            verified: VerifiedTokens::default(),
            waiting: Semaphore::new(WAITING_MAX),
            exchanges: Semaphore::new(EXCHANGES_MAX),
            config: config.clone(),
        })
    }

    pub(super) fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    /// Whether users can log in here. An issuer of workload tokens has no client id.
    #[must_use]
    pub fn has_login(&self) -> bool {
        self.config.client_id.is_some()
    }

    /// Begins a login that redirects to `redirect_uri`. Returns the URL for the browser and the state that completes
    /// the login.
    ///
    /// # Errors
    /// `Invalid` if the redirect URI is not allowed, `ISSUER_UNAVAILABLE`.
    pub async fn begin_login(&self, redirect_uri: &str) -> Result<(String, PendingLogin), Error> {
        if !flow::is_redirect_allowed(&self.config, redirect_uri) {
            let why = "is not one of the configured `redirect_uris` of the provider";
            return Err(Error::invalid("redirect_uri", why));
        }
        let discovery = self.discovery().await?;
        let endpoint = self.endpoint(discovery.authorization_endpoint.as_deref())?;
        flow::begin_login(&self.config, self.client_id()?, endpoint, redirect_uri, self.clock.now())
    }

    /// Completes a login. Returns the claims of the user.
    pub async fn complete_login(
        &self,
        pending: &PendingLogin,
        answer: &LoginCallback,
    ) -> Result<Claims, ProviderError> {
        let discovery = self.discovery().await?;
        let now = self.clock.now();
        if let Some(why) = flow::login_fault(pending, answer, &self.config, &discovery, now) {
            return Err(ProviderError::Refused(why));
        }
        let client_id = self.client_id()?;
        let methods = &discovery.token_endpoint_auth_methods_supported;
        // The default if the issuer lists no methods.
        let basic = methods.is_empty() || methods.iter().any(|way| way == "client_secret_basic");
        let endpoint = self.endpoint(discovery.token_endpoint.as_deref())?;
        let code = &answer.code;
        let request = flow::token_request(self, client_id, endpoint, basic, pending, code)?;
        let (head, body) = self.exchange(request).await?.into_parts();
        if head.status.is_client_error() {
            self.log_refused_code(head.status, &body);
            return Err(ProviderError::Refused("the issuer does not accept the code"));
        }
        let tokens: Value = self.parse_json(head.status, &head.headers, &body)?;
        let Some(token) = tokens.get("id_token").and_then(Value::as_str) else {
            return Err(ProviderError::Refused("the issuer returned no ID token"));
        };
        let nonce = pending.nonce_hash();
        self.verify(token, ExpectedToken::IdToken { client_id, nonce: &nonce }).await
    }

    /// Verifies an access token and returns its claims. Fetches the issuer's keys if needed.
    ///
    /// # Errors
    /// `BUSY` if too many tokens are waiting, `ISSUER_UNAVAILABLE`, or why the token is invalid.
    pub async fn verify_access_token(&self, token: &str) -> Result<Claims, ProviderError> {
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let audiences = self.audiences();
        let client_id = self.config.client_id.as_deref();
        self.verify(token, ExpectedToken::AccessToken { audiences: &audiences, client_id }).await
    }

    /// As [`Provider::verify_access_token`], but without any fetch: uses only cached, fresh keys.
    ///
    /// # Errors
    /// `UnknownKey` if [`Provider::verify_access_token`] might accept the token, `Refused` if it is invalid.
    pub fn verify_from_cache(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let keys = self.keys.get_fresh().ok_or(TokenError::UnknownKey)?;
        let now = self.clock.now();
        if let Some(claims) = self.verified.get(token, &keys, now) {
            return Ok(claims);
        }
        let audiences = self.audiences();
        let client_id = self.config.client_id.as_deref();
        let expected = ExpectedToken::AccessToken { audiences: &audiences, client_id };
        let claims = verify(token, &self.config.issuer, &keys, expected, now)?;
        Ok(self.verified.put(token, &keys, claims, now))
    }

    /// Returns all accepted audiences of an access token.
    fn audiences(&self) -> Vec<&str> {
        let of_rules = self.config.rules.iter().filter_map(|rule| rule.audience.as_deref());
        self.config.audience.as_deref().into_iter().chain(of_rules).collect()
    }

    async fn verify(
        &self,
        token: &str,
        expected: ExpectedToken<'_>,
    ) -> Result<Claims, ProviderError> {
        let refused = |fault: TokenError| match fault {
            TokenError::UnknownKey => {
                ProviderError::Refused("the issuer does not have the key that signed it")
            }
            TokenError::Refused(why) => ProviderError::Refused(why),
        };
        let id = key_id(token).map_err(refused)?;
        let check =
            |keys: &KeySet| verify(token, &self.config.issuer, keys, expected, self.clock.now());
        // Without a key id, only the signature shows whether the keys are those of the token.
        let enough = |keys: &KeySet| match &id {
            Some(id) => keys.has(id),
            None => !matches!(check(keys), Err(TokenError::UnknownKey)),
        };
        let keys = self.keys.get(enough, || self.fetch_keys()).await?;
        check(&keys).map_err(refused)
    }

    fn client_id(&self) -> Result<&str, Error> {
        let none = || Error::invalid("provider", "has no login");
        self.config.client_id.as_deref().ok_or_else(none)
    }

    async fn discovery(&self) -> Result<Arc<Discovery>, Error> {
        self.discovery.get(|_| true, || self.fetch_discovery()).await
    }

    async fn fetch_discovery(&self) -> Result<Discovery, Error> {
        let issuer = &self.config.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let (head, document) = self.fetch_document(&url).await?;
        let found = self.parse_json(head.status, &head.headers, &document)?;
        let found: Discovery = serde_json::from_value(found)
            .map_err(|_| self.unusable("its discovery document cannot be read"))?;
        if found.issuer != *issuer {
            return Err(self.unusable("its discovery document names another issuer"));
        }
        Ok(found)
    }

    async fn fetch_keys(&self) -> Result<KeySet, Error> {
        let discovery = self.discovery().await?;
        let url = self.endpoint(Some(&discovery.jwks_uri))?;
        // No standard fixes the content type of a key set, and static hosts do not know it.
        let (head, document) = self.fetch_document(url).await?;
        self.require_ok(head.status)?;
        KeySet::parse(&document).ok_or_else(|| self.unusable("its key set cannot be read"))
    }

    /// Returns a URL of the discovery document if it may be called.
    fn endpoint<'a>(&self, url: Option<&'a str>) -> Result<&'a str, Error> {
        let url = url.ok_or_else(|| self.unusable("it has no such endpoint"))?;
        let local = |url: &str| {
            let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(is_loopback_host));
            url.starts_with("http://") && host == Some(true)
        };
        let plain = url.bytes().all(|b| b.is_ascii_graphic()) && !url.contains('#');
        if plain && (url.starts_with("https://") || (local(&self.config.issuer) && local(url))) {
            return Ok(url);
        }
        Err(self.unusable("an endpoint of it is not under https"))
    }

    async fn fetch_document(&self, url: &str) -> Result<(http::response::Parts, Bytes), Error> {
        let request = Request::get(url).header(ACCEPT, "application/json").body(Bytes::new());
        let request =
            request.map_err(|_| self.unusable("one of its endpoints is not a valid URL"))?;
        Ok(self.send(request).await?.into_parts())
    }

    /// Sends a code to the issuer, when fewer than [`EXCHANGES_MAX`] are being exchanged.
    ///
    /// # Errors
    /// `BUSY` if others are being exchanged for longer than the deadline of a request, `ISSUER_UNAVAILABLE`.
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let waiting = self.clock.timeout(self.limits.deadline, self.exchanges.acquire());
        let Some(Ok(_place)) = waiting.await else { return Err(busy()) };
        self.send(request).await
    }

    /// Sends a request to the issuer. Its deadline is also a time on the clock.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let sending = Box::pin(self.client.send(request, self.limits));
        match self.clock.timeout(self.limits.deadline, sending).await {
            Some(answer) => answer.map_err(|error| self.unusable(&error.to_string())),
            None => Err(self.unusable("it does not answer in time")),
        }
    }

    fn require_ok(&self, status: StatusCode) -> Result<(), Error> {
        if status == StatusCode::OK {
            return Ok(());
        }
        Err(self.unusable("it answers with another status than 200"))
    }

    fn parse_json(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Value, Error> {
        self.require_ok(status)?;
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim).unwrap_or_default();
        if !is_json(kind) {
            let shown: String = kind.chars().take(WORD_CHARACTERS_MAX).collect();
            return Err(self.unusable(&format!(
                "it answers with the content type `{shown}`, where `application/json` is required"
            )));
        }
        serde_json::from_slice(body).map_err(|_| self.unusable("its JSON cannot be read"))
    }

    fn log_refused_code(&self, status: StatusCode, body: &[u8]) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let word = body.get("error").and_then(Value::as_str).unwrap_or_default();
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let word: String = word.chars().take(WORD_CHARACTERS_MAX).filter(plain).collect();
        warn!(provider = self.config.name, status = status.as_u16(), word, "a code was refused");
    }

    fn unusable(&self, why: &str) -> Error {
        let name = &self.config.name;
        warn!(provider = name, why, "an OIDC issuer cannot be used");
        let why = format!("the issuer of provider `{name}` cannot be used at the moment");
        Error::unavailable(Reason::IssuerUnavailable, why)
    }
}

/// Returns the error for too much work at once.
fn busy() -> Error {
    Error::Exhausted { reason: Reason::Busy, retry_in: Duration::from_secs(1) }
}

/// Whether a media type, which is case-insensitive, is one of JSON.
fn is_json(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

impl From<Error> for ProviderError {
    fn from(error: Error) -> Self {
        Self::Unavailable(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_of_json_is_recognized_in_any_case() {
        for json in ["application/json", "Application/JSON", "application/jwk-set+json"] {
            assert!(is_json(json), "{json}");
        }
        for other in ["", "text/html", "application/octet-stream", "application/jsonp"] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[tokio::test]
    async fn codes_beyond_the_limit_wait_until_the_deadline() {
        let text = "[[oidc.providers]]\nname = 'corp'\nissuer = 'https://corp.example'";
        let (config, clock) = (crate::config::Config::from_toml(text).unwrap(), Clock::system());
        let (config, deadline) = (&config.oidc.providers[0], config.oidc.timeout());
        let provider = Provider::new(config, &[], deadline, &clock).unwrap();
        // An address that is refused without a connection.
        let request = || Request::get("https://127.0.0.1:9/").body(Bytes::new()).unwrap();
        let others = provider.exchanges.try_acquire_many(EXCHANGES_MAX.try_into().unwrap());
        assert!(provider.exchanges.try_acquire().is_err(), "none is left");
        let (refused, ()) =
            tokio::join!(provider.exchange(request()), async { clock.advance(deadline) });
        assert!(matches!(refused, Err(Error::Exhausted { reason: Reason::Busy, .. })));
        drop(others);
        let sent = provider.exchange(request()).await;
        assert!(matches!(sent, Err(Error::Unavailable { .. })), "{sent:?}");
    }
}
