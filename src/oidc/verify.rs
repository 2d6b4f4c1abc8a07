//! The only verifier of external tokens (T03).
//!
//! The calling code determines the expected kind of token. An ID token identifies the user to a client that began a
//! login: it is for Shoreguard's `client_id`, contains Shoreguard's nonce, and is accepted only at the end of a login.
//! An access token is for an audience of Shoreguard, which is never the `client_id`; a token with the characteristics
//! of an ID token is rejected. A `nonce` is one of them unless the token states that it is an access token: some
//! issuers copy the nonce of a login into its access token.

use jsonwebtoken::{Algorithm, Header, Validation};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::claims::Claims;
use super::jwks::{KeyLookup, KeySet, VerificationKey};
use crate::clock::Timestamp;

/// Maximum size of a token, in bytes, as a bearer token and in an exchange. An issuer that lists every group of a
/// person sends about 10 KiB. The headers of a call may have 16 KiB together.
pub const TOKEN_BYTES_MAX: usize = 15 * 1024;
/// Maximum size of a subject, in bytes, as defined by OIDC.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// Maximum difference between the clocks of an issuer and this server, in seconds.
pub const LEEWAY_SECONDS: i64 = 30;

/// Accepted algorithms: all that the library verifies, but no symmetric ones and no `none`.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Types of access tokens in headers (RFC 9068, section 2.1), in lower case.
const ACCESS_TOKEN_TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];

/// Claims that only ID tokens have.
const MARKS_OF_ID_TOKENS: [&str; 3] = ["at_hash", "c_hash", "s_hash"];

/// Expected kind of token.
#[derive(Debug, Clone, Copy)]
pub enum ExpectedToken<'a> {
    /// ID token of a login that Shoreguard began.
    IdToken {
        /// Shoreguard's client id at the issuer.
        client_id: &'a str,
        /// The nonce that was sent to the issuer.
        nonce: &'a str,
    },
    /// Access token for Shoreguard's API.
    AccessToken {
        /// Accepted audiences.
        audiences: &'a [&'a str],
        /// Shoreguard's client id, which must not be an audience of the token.
        client_id: Option<&'a str>,
    },
}

/// Reason why a token is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// It was signed with an unknown key, or with a key that was removed.
    UnknownKey,
    /// It is invalid. For the log.
    Refused(&'static str),
}

type TokenResult<T> = Result<T, TokenError>;

fn refuse<T>(why: &'static str) -> TokenResult<T> {
    Err(TokenError::Refused(why))
}

fn require(holds: bool, why: &'static str) -> TokenResult<()> {
    if holds { Ok(()) } else { refuse(why) }
}

/// Returns the id of the key that a token names; `None` if it names none.
///
/// # Errors
/// `Refused` if it is not an acceptable token.
pub fn key_id(token: &str) -> TokenResult<Option<String>> {
    header(token).map(|header| header.kid)
}

/// Returns the header of a token. An empty key id counts as no key id.
fn header(token: &str) -> TokenResult<Header> {
    require(token.len() <= TOKEN_BYTES_MAX, "it is too long")?;
    let Ok(mut header) = jsonwebtoken::decode_header(token) else {
        return refuse("its header cannot be read");
    };
    require(ALGORITHMS.contains(&header.alg), "its algorithm is not accepted")?;
    // No critical extension is supported.
    require(header.crit.is_none(), "its header has critical extensions")?;
    header.kid = header.kid.filter(|id| !id.is_empty());
    Ok(header)
}

fn find_key<'a>(keys: &'a KeySet, header: &Header) -> TokenResult<&'a VerificationKey> {
    match keys.find(header.kid.as_deref(), header.alg) {
        KeyLookup::Found(key) => Ok(key),
        KeyLookup::Unknown => Err(TokenError::UnknownKey),
        KeyLookup::OtherAlgorithm => refuse("its key is not for its algorithm"),
        KeyLookup::Several => refuse("it names no key, and the issuer has several"),
    }
}

/// Verifies that a token is from this issuer, of the expected kind, and currently valid. Returns its claims.
///
/// # Errors
/// `UnknownKey` if newer keys might verify it, `Refused` otherwise.
pub fn verify(
    token: &str,
    issuer: &str,
    keys: &KeySet,
    expected: ExpectedToken<'_>,
    now: Timestamp,
) -> TokenResult<Claims> {
    let header = header(token)?;
    let typ = header.typ.as_ref().map(|typ| typ.to_ascii_lowercase());
    let is_access_type = typ.as_ref().is_some_and(|typ| ACCESS_TOKEN_TYPES.contains(&typ.as_str()));
    let is_expected_type = match expected {
        ExpectedToken::IdToken { .. } => false,
        ExpectedToken::AccessToken { .. } => is_access_type,
    };
    require(is_expected_type || typ.is_none_or(|typ| typ == "jwt"), "its type is another one")?;
    let key = find_key(keys, &header)?;
    let mut signature_only = Validation::new(header.alg);
    signature_only.required_spec_claims.clear();
    // Checked below, with Shoreguard's own clock and more strictly.
    signature_only.validate_exp = false;
    signature_only.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, &signature_only);
    let all = match decoded {
        Ok(decoded) => decoded.claims,
        // The issuer may have replaced its key, which has no id that would show it.
        Err(error) if header.kid.is_none() && is_signature_error(&error) => {
            return Err(TokenError::UnknownKey);
        }
        Err(_) => return refuse("its signature is not valid"),
    };
    let is_issuer = all.get("iss").and_then(Value::as_str) == Some(issuer);
    require(is_issuer, "its issuer is another one")?;
    let subject = subject(&all)?;
    let expires_at = check_times(&all, expected, now)?;
    let audiences = audiences(&all)?;
    match expected {
        ExpectedToken::IdToken { client_id, nonce } => {
            check_id_token(&all, &audiences, client_id, nonce)?;
        }
        ExpectedToken::AccessToken { audiences: ours, client_id } => {
            check_access_token(&all, is_access_type, &audiences, ours, client_id)?;
        }
    }
    Ok(Claims::new(all, subject, audiences, expires_at))
}

fn is_signature_error(error: &jsonwebtoken::errors::Error) -> bool {
    matches!(error.kind(), jsonwebtoken::errors::ErrorKind::InvalidSignature)
}

fn subject(all: &Map<String, Value>) -> TokenResult<String> {
    let subject = all.get("sub").and_then(Value::as_str).unwrap_or_default();
    let fits = (1..=SUBJECT_BYTES_MAX).contains(&subject.len());
    let plain = !subject.chars().any(char::is_control) && !subject.trim().is_empty();
    require(fits && plain, "its subject is missing, empty, too long or not plain")?;
    Ok(subject.to_owned())
}

/// Returns a time claim in Unix seconds, with fractions truncated, or `None` if the claim is absent.
fn seconds(all: &Map<String, Value>, name: &str) -> TokenResult<Option<i64>> {
    let Some(value) = all.get(name) else { return Ok(None) };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast from f64 saturates, which is far off enough"
    )]
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
    seconds.map_or_else(
        || refuse("one of its times is not a number of seconds"),
        |seconds| Ok(Some(seconds)),
    )
}

fn check_times(
    all: &Map<String, Value>,
    expected: ExpectedToken<'_>,
    now: Timestamp,
) -> TokenResult<Timestamp> {
    let now = now.unix_seconds();
    let begun = now.saturating_add(LEEWAY_SECONDS);
    let Some(ends) = seconds(all, "exp")? else { return refuse("it never ends") };
    require(ends.saturating_add(LEEWAY_SECONDS) > now, "it has ended")?;
    require(seconds(all, "nbf")?.is_none_or(|from| from <= begun), "it has not begun")?;
    let issued = seconds(all, "iat")?;
    require(issued.is_none_or(|at| at <= begun), "it was issued in the future")?;
    if let ExpectedToken::IdToken { .. } = expected {
        require(issued.is_some(), "it does not say when it was issued")?;
    }
    Ok(Timestamp::from_unix_seconds(ends))
}

fn audiences(all: &Map<String, Value>) -> TokenResult<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let found = match all.get("aud") {
        Some(Value::Array(items)) => items.iter().map(text).collect(),
        Some(value) => text(value).map(|one| vec![one]),
        None => None,
    };
    match found {
        Some(found) if !found.is_empty() => Ok(found),
        _ => refuse("it has no audience"),
    }
}

fn check_id_token(
    all: &Map<String, Value>,
    audiences: &[String],
    client_id: &str,
    nonce: &str,
) -> TokenResult<()> {
    let to_us = audiences.iter().any(|audience| audience == client_id);
    require(to_us, "it is not for this client")?;
    let party = all.get("azp").map(|party| party.as_str() == Some(client_id));
    require(party != Some(false), "it was issued to another client")?;
    require(audiences.len() == 1 || party.is_some(), "it has several audiences and no `azp`")?;
    let given = all.get("nonce").and_then(Value::as_str).unwrap_or_default();
    let answers = !nonce.is_empty() && bool::from(given.as_bytes().ct_eq(nonce.as_bytes()));
    require(answers, "it does not answer the login that was begun")
}

fn check_access_token(
    all: &Map<String, Value>,
    is_access_type: bool,
    audiences: &[String],
    ours: &[&str],
    client_id: Option<&str>,
) -> TokenResult<()> {
    let to_us = audiences.iter().any(|audience| ours.contains(&audience.as_str()));
    require(to_us, "it is not for an audience of ours")?;
    let to_client = client_id.is_some_and(|id| audiences.iter().any(|audience| audience == id));
    let marked = MARKS_OF_ID_TOKENS.iter().any(|mark| all.contains_key(*mark));
    let says = |word: &str| {
        let typ = all.get("typ").and_then(Value::as_str);
        typ.is_some_and(|typ| typ.eq_ignore_ascii_case(word))
    };
    // Keycloak before release 25 copies the nonce of a login into access tokens, whose claim `typ` is `Bearer`.
    let answers_login = all.contains_key("nonce") && !is_access_type && !says("Bearer");
    let of_other_kind = says("ID") || says("Refresh") || says("Logout");
    let other = to_client || marked || answers_login || of_other_kind;
    require(!other, "it is not an access token")
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
