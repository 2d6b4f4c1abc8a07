//! One issuer: its client, keys, authorization codes and instructions.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::keys::SigningKey;
use super::{Behavior, IssuerCommand, SigningMode, TokenSpec};

/// Client ID at every issuer.
const CLIENT_ID: &str = "shoreguard";
/// Lifetime of its tokens. It is long, since tests advance their own clock and not this one.
const LIFE_SECONDS: u64 = 24 * 3600;

pub(super) type Fields = HashMap<String, String>;

/// Response of an issuer: a status with a JSON body, or a redirect.
pub(super) enum TenantResponse {
    Json(u16, Value),
    Redirect(String),
}

pub(super) struct Tenant {
    issuer: String,
    secret: Option<String>,
    key: SigningKey,
    keys_made: u32,
    person: Value,
    lie: Value,
    signed: SigningMode,
    discovery: Value,
    codes: HashMap<String, Code>,
    behaviour: HashMap<String, Behavior>,
    /// Content types by path. The default is `application/json`.
    content_types: HashMap<String, String>,
    counts: HashMap<String, i64>,
    /// Number of tokens issued for client credentials.
    granted: u32,
}

/// The login that a code belongs to. A code is valid once.
struct Code {
    redirect_uri: String,
    challenge: String,
    claims: Map<String, Value>,
}

impl Tenant {
    pub(super) fn new(issuer: String) -> Self {
        Self {
            secret: (!issuer.ends_with("-partner")).then(|| "client secret".to_owned()),
            issuer,
            key: SigningKey::new("RS256", "key-1"),
            keys_made: 1,
            person: json!({}),
            lie: json!({}),
            signed: SigningMode::Valid,
            discovery: json!({}),
            codes: HashMap::new(),
            behaviour: HashMap::new(),
            content_types: HashMap::new(),
            counts: HashMap::new(),
            granted: 0,
        }
    }

    /// Counts a request. Returns how to respond to it.
    pub(super) fn count_request(&mut self, path: &str) -> Behavior {
        *self.counts.entry(path.to_owned()).or_default() += 1;
        self.behavior(path)
    }

    /// Returns how to respond on a path at the moment.
    pub(super) fn behavior(&self, path: &str) -> Behavior {
        self.behaviour.get(path).copied().unwrap_or(Behavior::Normal)
    }

    pub(super) fn content_type(&self, path: &str) -> String {
        let default = || "application/json".to_owned();
        self.content_types.get(path).cloned().unwrap_or_else(default)
    }

    pub(super) fn discovery(&self) -> Value {
        let issuer = &self.issuer;
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "authorization_response_iss_parameter_supported": true,
        });
        merge_claims(document.as_object_mut().unwrap(), &self.discovery);
        document
    }

    pub(super) fn keys(&self) -> Value {
        json!({ "keys": [self.key.published] })
    }

    /// Handles a browser: logs in the configured person and redirects back with a code.
    pub(super) fn authorize(&mut self, fields: &Fields, now: u64) -> TenantResponse {
        let is = |name: &str, wanted: &str| fields.get(name).is_some_and(|given| given == wanted);
        let scopes = fields.get("scope").map(String::as_str).unwrap_or_default();
        let sound = is("response_type", "code")
            && is("client_id", CLIENT_ID)
            && is("code_challenge_method", "S256")
            && scopes.split(' ').any(|scope| scope == "openid");
        let needed = ["redirect_uri", "state", "nonce", "code_challenge"];
        let Some([redirect_uri, state, nonce, challenge]) =
            sound.then(|| needed.map(|name| fields.get(name).cloned().unwrap_or_default()))
        else {
            return TenantResponse::Json(400, json!({ "error": "invalid_request" }));
        };
        let mut claims = self.default_claims(now);
        claims.insert("aud".to_owned(), json!(CLIENT_ID));
        claims.insert("nonce".to_owned(), json!(nonce));
        merge_claims(&mut claims, &self.person);
        merge_claims(&mut claims, &self.lie);
        let code = format!("code-{}", self.codes.len() + 1);
        let joint = if redirect_uri.contains('?') { '&' } else { '?' };
        let location =
            format!("{redirect_uri}{joint}code={code}&state={state}&iss={}", self.issuer);
        self.codes.insert(code, Code { redirect_uri, challenge, claims });
        TenantResponse::Redirect(location)
    }

    pub(super) fn token(&mut self, authorization: Option<&str>, fields: &Fields) -> TenantResponse {
        if !self.is_client(authorization, fields) {
            return TenantResponse::Json(401, json!({ "error": "invalid_client" }));
        }
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        if field("grant_type") == "client_credentials" {
            self.granted += 1;
            let token = format!("granted-{}-{}", self.granted, field("scope"));
            return TenantResponse::Json(
                200,
                json!({ "access_token": token, "token_type": "Bearer", "expires_in": 100 }),
            );
        }
        let verifier = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
        // Every attempt consumes the code. An empty entry remains, so that no code is assigned twice.
        let code = self.codes.get_mut(field("code")).map(|code| {
            let spent =
                Code { redirect_uri: String::new(), challenge: String::new(), claims: Map::new() };
            std::mem::replace(code, spent)
        });
        match code {
            Some(code)
                if field("grant_type") == "authorization_code"
                    && code.redirect_uri == field("redirect_uri")
                    && code.challenge == verifier =>
            {
                let token = self.key.sign(&code.claims, "JWT", self.signed);
                let body =
                    json!({ "access_token": "x", "token_type": "Bearer", "id_token": token });
                TenantResponse::Json(200, body)
            }
            Some(_) | None => TenantResponse::Json(400, json!({ "error": "invalid_grant" })),
        }
    }

    fn is_client(&self, authorization: Option<&str>, fields: &Fields) -> bool {
        let form = |name: &str| fields.get(name).map(String::as_str);
        let Some(secret) = &self.secret else {
            return authorization.is_none() && form("client_id") == Some(CLIENT_ID);
        };
        if let Some(pair) = authorization.and_then(|value| value.strip_prefix("Basic ")) {
            let pair = String::from_utf8(STANDARD.decode(pair).unwrap()).unwrap();
            let (id, given) = pair.split_once(':').unwrap();
            return percent_decode(id) == CLIENT_ID && percent_decode(given) == *secret;
        }
        form("client_id") == Some(CLIENT_ID) && form("client_secret") == Some(secret.as_str())
    }

    fn default_claims(&self, now: u64) -> Map<String, Value> {
        let claims = json!({
            "iss": self.issuer, "sub": "sub-1", "iat": now, "exp": now + LIFE_SECONDS,
        });
        claims.as_object().unwrap().clone()
    }

    pub(super) fn control(&mut self, control: IssuerCommand, now: u64) -> Value {
        match control {
            IssuerCommand::Login(person) => self.person = person,
            IssuerCommand::OverrideClaims(lie) => self.lie = lie,
            IssuerCommand::SignLogins(signed) => self.signed = signed,
            IssuerCommand::Secret(secret) => self.secret = secret,
            IssuerCommand::Rotate(algorithm) => {
                self.keys_made += 1;
                self.key = SigningKey::new(&algorithm, &format!("key-{}", self.keys_made));
            }
            IssuerCommand::HideKeyId => self.key.hide_id(),
            IssuerCommand::SetContentType(path, kind) => {
                self.content_types.insert(path, kind);
            }
            IssuerCommand::IssueToken(TokenSpec { claims, typ, signed }) => {
                let mut all = self.default_claims(now);
                merge_claims(&mut all, &claims);
                return json!(self.key.sign(&all, typ.as_deref().unwrap_or("JWT"), signed));
            }
            IssuerCommand::SetBehavior(path, how) => {
                self.behaviour.insert(path, how);
            }
            IssuerCommand::Discovery(document) => self.discovery = document,
            IssuerCommand::Count(path) => {
                return json!(self.counts.get(&path).copied().unwrap_or_default());
            }
        }
        Value::Null
    }
}

/// Overrides members of an object. Null removes a member.
pub(super) fn merge_claims(all: &mut Map<String, Value>, more: &Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        if value.is_null() {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
}

/// Parses the fields of a form or a query.
pub(super) fn parse_form(text: &str) -> Fields {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (percent_decode(name), percent_decode(value))).collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte.unwrap()).to_digit(16).unwrap();
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next()) * 16 + digit(rest.next())).unwrap(),
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}
