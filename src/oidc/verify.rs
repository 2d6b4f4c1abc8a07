//! The one verifier of foreign tokens (T03).
//!
//! What kind of token is expected is said by the place that takes it. An ID token tells a client who has logged in: it
//! is for our `client_id`, answers our nonce, and is good at the end of a login and nowhere else. An access token is for
//! an audience of ours, which is never the `client_id`, and whatever bears the marks of an ID token is none.

use jsonwebtoken::{Algorithm, Header, Validation};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::claims::Claims;
use super::jwks::KeySet;
use crate::clock::Timestamp;

/// Bytes of a token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a subject, as OIDC has it.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// How far the clocks of an issuer and of this server may be apart, in seconds.
pub const LEEWAY_SECONDS: i64 = 30;

/// What is taken; nothing symmetric, and nothing that is no signature.
const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

/// Claims that an ID token has and an access token has not.
const MARKS_OF_ID_TOKENS: [&str; 4] = ["nonce", "at_hash", "c_hash", "s_hash"];

/// Which kind of token is expected.
#[derive(Debug, Clone, Copy)]
pub enum Expected<'a> {
    /// That of a login that we began.
    IdToken {
        /// What we are called at the issuer.
        client_id: &'a str,
        /// What we sent there.
        nonce: &'a str,
    },
    /// One that lets its bearer use us.
    AccessToken {
        /// What we are called as something that is used; any of these.
        audiences: &'a [&'a str],
        /// What we are called as a client, which it must not be for.
        client_id: Option<&'a str>,
    },
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It names a key that is not known, or not any more.
    UnknownKey,
    /// It is not good. For the log.
    Refused(&'static str),
}

type Checked<T> = Result<T, Fault>;

fn refuse<T>(why: &'static str) -> Checked<T> {
    Err(Fault::Refused(why))
}

fn require(holds: bool, why: &'static str) -> Checked<()> {
    if holds { Ok(()) } else { refuse(why) }
}

/// The id of the key that a token names.
///
/// # Errors
/// `Refused` for what is no token that we could take.
pub fn key_id(token: &str) -> Checked<String> {
    header(token).map(|(id, _)| id)
}

fn header(token: &str) -> Checked<(String, Header)> {
    require(token.len() <= TOKEN_BYTES_MAX, "it is too long")?;
    let Ok(header) = jsonwebtoken::decode_header(token) else {
        return refuse("its header cannot be read");
    };
    require(ALGORITHMS.contains(&header.alg), "its algorithm is not taken")?;
    // Whatever is critical to its issuer is something that we don't do.
    require(header.crit.is_none(), "its header has critical extensions")?;
    match header.kid.clone().filter(|id| !id.is_empty()) {
        Some(id) => Ok((id, header)),
        None => refuse("it names no key"),
    }
}

/// The claims of a token, where it is of this issuer, of the kind that is expected, and good now.
///
/// # Errors
/// `UnknownKey` where newer keys could tell more, `Refused` for all else.
pub fn verify(
    token: &str,
    issuer: &str,
    keys: &KeySet,
    expected: Expected<'_>,
    now: Timestamp,
) -> Checked<Claims> {
    let (id, header) = header(token)?;
    let types: &[&str] = match expected {
        Expected::IdToken { .. } => &["jwt"],
        Expected::AccessToken { .. } => &["jwt", "at+jwt", "application/at+jwt"],
    };
    let typ = header.typ.as_ref().map(|typ| typ.to_ascii_lowercase());
    require(typ.is_none_or(|typ| types.contains(&typ.as_str())), "its type is another one")?;
    let Some(key) = keys.find(&id, header.alg) else {
        return if keys.has(&id) {
            refuse("its key is not for its algorithm")
        } else {
            Err(Fault::UnknownKey)
        };
    };
    let mut signature_only = Validation::new(header.alg);
    signature_only.required_spec_claims.clear();
    // Checked below, on our own clock and more narrowly.
    signature_only.validate_exp = false;
    signature_only.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, &signature_only);
    let Ok(all) = decoded.map(|decoded| decoded.claims) else {
        return refuse("its signature does not fit");
    };
    let is_issuer = all.get("iss").and_then(Value::as_str) == Some(issuer);
    require(is_issuer, "its issuer is another one")?;
    let subject = subject(&all)?;
    let expires_at = times(&all, expected, now)?;
    let audiences = audiences(&all)?;
    match expected {
        Expected::IdToken { client_id, nonce } => id_token(&all, &audiences, client_id, nonce)?,
        Expected::AccessToken { audiences: ours, client_id } => {
            access_token(&all, &audiences, ours, client_id)?;
        }
    }
    Ok(Claims::new(all, subject, audiences, expires_at))
}

fn subject(all: &Map<String, Value>) -> Checked<String> {
    let subject = all.get("sub").and_then(Value::as_str).unwrap_or_default();
    let fits = (1..=SUBJECT_BYTES_MAX).contains(&subject.len());
    let plain = !subject.chars().any(char::is_control) && !subject.trim().is_empty();
    require(fits && plain, "its subject is missing, empty, too long or not plain")?;
    Ok(subject.to_owned())
}

/// Seconds since 1970, whole or not, as JWTs have them; none where the claim is absent.
fn seconds(all: &Map<String, Value>, name: &str) -> Checked<Option<i64>> {
    let Some(value) = all.get(name) else { return Ok(None) };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast from f64 saturates, which is far off enough"
    )]
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
    seconds.map_or_else(|| refuse("one of its times is no time"), |seconds| Ok(Some(seconds)))
}

fn times(all: &Map<String, Value>, expected: Expected<'_>, now: Timestamp) -> Checked<Timestamp> {
    let now = now.unix_seconds();
    let begun = now.saturating_add(LEEWAY_SECONDS);
    let Some(ends) = seconds(all, "exp")? else { return refuse("it never ends") };
    require(ends.saturating_add(LEEWAY_SECONDS) > now, "it has ended")?;
    require(seconds(all, "nbf")?.is_none_or(|from| from <= begun), "it has not begun")?;
    let issued = seconds(all, "iat")?;
    require(issued.is_none_or(|at| at <= begun), "it was issued in the future")?;
    if let Expected::IdToken { .. } = expected {
        require(issued.is_some(), "it does not say when it was issued")?;
    }
    Ok(Timestamp::from_unix_seconds(ends))
}

fn audiences(all: &Map<String, Value>) -> Checked<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let found = match all.get("aud") {
        Some(Value::Array(items)) => items.iter().map(text).collect(),
        Some(value) => text(value).map(|one| vec![one]),
        None => None,
    };
    match found {
        Some(found) if !found.is_empty() => Ok(found),
        _ => refuse("it does not say for whom it is"),
    }
}

fn id_token(
    all: &Map<String, Value>,
    audiences: &[String],
    client_id: &str,
    nonce: &str,
) -> Checked<()> {
    let to_us = audiences.iter().any(|audience| audience == client_id);
    require(to_us, "it is not for this client")?;
    let party = all.get("azp").map(|party| party.as_str() == Some(client_id));
    require(party != Some(false), "it was issued to another client")?;
    require(
        audiences.len() == 1 || party.is_some(),
        "it is for several and says not to whom it was issued",
    )?;
    let given = all.get("nonce").and_then(Value::as_str).unwrap_or_default();
    let answers = !nonce.is_empty() && bool::from(given.as_bytes().ct_eq(nonce.as_bytes()));
    require(answers, "it does not answer the login that was begun")
}

fn access_token(
    all: &Map<String, Value>,
    audiences: &[String],
    ours: &[&str],
    client_id: Option<&str>,
) -> Checked<()> {
    let to_us = audiences.iter().any(|audience| ours.contains(&audience.as_str()));
    require(to_us, "it is not for an audience of ours")?;
    let to_client = client_id.is_some_and(|id| audiences.iter().any(|audience| audience == id));
    let marked = MARKS_OF_ID_TOKENS.iter().any(|mark| all.contains_key(*mark));
    let says = |word: &str| {
        let typ = all.get("typ").and_then(Value::as_str);
        typ.is_some_and(|typ| typ.eq_ignore_ascii_case(word))
    };
    let other = to_client || marked || says("ID") || says("Refresh") || says("Logout");
    require(!other, "it is no access token")
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
