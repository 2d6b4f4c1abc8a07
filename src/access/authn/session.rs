//! Session tokens: JWTs that this server signs for people who logged in.
//!
//! Issuer, audience, `typ` and algorithm are all pinned, so that no other token of ours can stand in (T03). A token
//! carries the version of the password that made it and dies with it (T14).

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::access::principal::{Caller, PrincipalId};
use crate::access::snapshot::Snapshot;
use crate::clock::Clock;
use crate::db::types::{Timestamp, UserId};
use crate::error::Error;

const TYP: &str = "sg-session+jwt";
const ISSUER: &str = "shoreguard";
const AUDIENCE: &str = "shoreguard.v1";

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// Id of the user.
    sub: String,
    /// Password version.
    pv: i64,
    /// Seconds since 1970.
    iat: i64,
    /// Seconds since 1970.
    exp: i64,
    jti: String,
}

/// The keys that session tokens are signed with, the current one first.
pub struct SessionKeys {
    keys: Vec<(String, EncodingKey, DecodingKey)>,
    clock: Clock,
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionKeys").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl SessionKeys {
    /// From key ids and 32-byte secrets, the current one first.
    #[must_use]
    pub fn new(keys: Vec<(String, Vec<u8>)>, clock: Clock) -> Self {
        let keys = keys
            .into_iter()
            .map(|(id, secret)| {
                let (encoding, decoding) =
                    (EncodingKey::from_secret(&secret), DecodingKey::from_secret(&secret));
                (id, encoding, decoding)
            })
            .collect();
        Self { keys, clock }
    }

    /// A token for a user, good until `expires_at`.
    pub fn issue(
        &self,
        user: UserId,
        password_version: i64,
        expires_at: Timestamp,
        id: uuid::Uuid,
    ) -> Result<String, Error> {
        let (key_id, key, _) =
            self.keys.first().ok_or_else(|| Error::internal("no session key"))?;
        let header = Header {
            typ: Some(TYP.to_owned()),
            kid: Some(key_id.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_string(),
            pv: password_version,
            iat: self.clock.now().unix_micros() / 1_000_000,
            exp: expires_at.unix_micros() / 1_000_000,
            jti: id.to_string(),
        };
        jsonwebtoken::encode(&header, &claims, key).map_err(Error::internal)
    }

    /// The caller of a token, where it is one of ours, unexpired, and made from the present password.
    pub(in crate::access) fn verify(&self, token: &str, snapshot: &Snapshot) -> Option<Caller> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        if header.typ.as_deref() != Some(TYP) {
            return None;
        }
        let kid = header.kid?;
        let (_, _, key) = self.keys.iter().find(|(id, _, _)| *id == kid)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Checked below, on our own clock and without leeway.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).ok()?.claims;
        let expires_at = Timestamp::from_unix_micros(claims.exp.checked_mul(1_000_000)?);
        if expires_at <= self.clock.now() {
            return None;
        }
        let caller = snapshot.caller(PrincipalId::User(UserId(claims.sub.parse().ok()?)))?;
        (caller.version == claims.pv).then_some(Caller { expires_at: Some(expires_at), ..caller })
    }
}
