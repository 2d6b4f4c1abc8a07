//! The only verifier of external tokens (T03).
//!
//! The calling code determines the expected kind of token. An ID token identifies the user to a client that began a
//! login: it is for Shoreguard's `client_id`, contains Shoreguard's nonce, and is accepted only at the end of a login.
//! An access token is for an audience of Shoreguard, which is never the `client_id`; a token with the characteristics
//! of an ID token is rejected.

use jsonwebtoken::{Algorithm, Header, Validation};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::claims::Claims;
use super::jwks::KeySet;
use crate::clock::Timestamp;

/// Maximum size of a token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Maximum size of a subject, in bytes, as defined by OIDC.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// Maximum difference between the clocks of an issuer and this server, in seconds.
pub const LEEWAY_SECONDS: i64 = 30;

/// Accepted algorithms: no symmetric ones and no `none`.
const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

/// Claims that only ID tokens have.
const MARKS_OF_ID_TOKENS: [&str; 4] = ["nonce", "at_hash", "c_hash", "s_hash"];

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
    /// It names an unknown key, or a key that was removed.
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

/// Returns the id of the key that a token names.
///
/// # Errors
/// `Refused` if it is not an acceptable token.
pub fn key_id(token: &str) -> TokenResult<String> {
    header(token).map(|(id, _)| id)
}

fn header(token: &str) -> TokenResult<(String, Header)> {
    require(token.len() <= TOKEN_BYTES_MAX, "it is too long")?;
    let Ok(header) = jsonwebtoken::decode_header(token) else {
        return refuse("its header cannot be read");
    };
    require(ALGORITHMS.contains(&header.alg), "its algorithm is not taken")?;
    // No critical extension is supported.
    require(header.crit.is_none(), "its header has critical extensions")?;
    match header.kid.clone().filter(|id| !id.is_empty()) {
        Some(id) => Ok((id, header)),
        None => refuse("it names no key"),
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
    let (id, header) = header(token)?;
    let types: &[&str] = match expected {
        ExpectedToken::IdToken { .. } => &["jwt"],
        ExpectedToken::AccessToken { .. } => &["jwt", "at+jwt", "application/at+jwt"],
    };
    let typ = header.typ.as_ref().map(|typ| typ.to_ascii_lowercase());
    require(typ.is_none_or(|typ| types.contains(&typ.as_str())), "its type is another one")?;
    let Some(key) = keys.find(&id, header.alg) else {
        return if keys.has(&id) {
            refuse("its key is not for its algorithm")
        } else {
            Err(TokenError::UnknownKey)
        };
    };
    let mut signature_only = Validation::new(header.alg);
    signature_only.required_spec_claims.clear();
    // Checked below, with Shoreguard's own clock and more strictly.
    signature_only.validate_exp = false;
    signature_only.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, &signature_only);
    let Ok(all) = decoded.map(|decoded| decoded.claims) else {
        return refuse("its signature does not fit");
    };
    let is_issuer = all.get("iss").and_then(Value::as_str) == Some(issuer);
    require(is_issuer, "its issuer is another one")?;
    let subject = subject(&all)?;
    let expires_at = check_times(&all, expected, now)?;
    let audiences = audiences(&all)?;
    match expected {
        ExpectedToken::IdToken { client_id, nonce } => {
            check_id_token(&all, &audiences, client_id, nonce)?
        }
        ExpectedToken::AccessToken { audiences: ours, client_id } => {
            check_access_token(&all, &audiences, ours, client_id)?;
        }
    }
    Ok(Claims::new(all, subject, audiences, expires_at))
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
    let other = to_client || marked || says("ID") || says("Refresh") || says("Logout");
    require(!other, "it is not an access token")
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
