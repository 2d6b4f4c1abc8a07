//! Tokens that this server signs and verifies: JWTs of two kinds.
//!
//! Invariants
//! - each kind has its own issuer, audience, `typ` and signing key, and `TokenKeys::verify` requires all four and the
//!   algorithm, so that a token of one kind is never accepted as the other (T03);
//! - a token contains the version of the key or password that it was created from, and becomes invalid with it (T14);
//! - the keys are symmetric and not part of any public key set.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::access::principal::{Caller, PrincipalId};
use crate::access::snapshot::Snapshot;
use crate::clock::Clock;
use crate::clock::Timestamp;
use crate::db::types::{GatewayId, SessionId};
use crate::error::Error;

/// Scope of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Shoreguard's own API, and every gateway that its holder can use.
    Session,
    /// The proxied API of one gateway (T02).
    Gateway,
}

impl TokenKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Session, Self::Gateway];

    /// Returns the purpose under which its signing keys are stored.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Gateway => "gateway",
        }
    }

    fn typ(self) -> &'static str {
        match self {
            Self::Session => "sg-session+jwt",
            Self::Gateway => "sg-gateway+jwt",
        }
    }

    fn issuer(self) -> &'static str {
        match self {
            Self::Session => "shoreguard",
            Self::Gateway => "shoreguard/gateways",
        }
    }

    fn audience(self) -> &'static str {
        match self {
            Self::Session => "shoreguard.v1",
            Self::Gateway => "openshell.v1",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The principal, such as `user:3`.
    sub: String,
    /// Version of the key or password.
    ver: i64,
    /// Id of the session, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<i64>,
    /// Id of the gateway, if the token is bound to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<i64>,
    /// When the person last authenticated, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    /// Issue time, in seconds since 1970.
    iat: i64,
    /// Expiry, in seconds since 1970.
    exp: i64,
}

/// Contents of a token.
#[derive(Debug, Clone, Copy)]
pub struct TokenGrant {
    /// The holder.
    pub principal: PrincipalId,
    /// Version of the key or password that it is created from.
    pub version: i64,
    /// Session that it belongs to and ends with, if any.
    pub session: Option<SessionId>,
    /// Gateway that it is bound to; `None` for a session token.
    pub gateway: Option<GatewayId>,
    /// When the person last authenticated.
    pub authenticated_at: Option<Timestamp>,
    /// Issue time.
    pub issued_at: Timestamp,
    /// Expiry.
    pub expires_at: Timestamp,
}

impl TokenGrant {
    fn kind(&self) -> TokenKind {
        if self.gateway.is_some() { TokenKind::Gateway } else { TokenKind::Session }
    }
}

/// A signing key and its id.
struct SigningKey {
    kind: TokenKind,
    id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// Keys of both kinds; of each kind the current key comes first.
pub struct TokenKeys {
    keys: Vec<SigningKey>,
    clock: Clock,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl TokenKeys {
    /// Builds the keys from kinds, key ids and 32-byte secrets; of each kind the current key comes first.
    #[must_use]
    pub fn new(keys: Vec<(TokenKind, String, Vec<u8>)>, clock: Clock) -> Self {
        let key = |(kind, id, secret): (TokenKind, String, Vec<u8>)| SigningKey {
            kind,
            id,
            encoding: EncodingKey::from_secret(&secret),
            decoding: DecodingKey::from_secret(&secret),
        };
        Self { keys: keys.into_iter().map(key).collect(), clock }
    }

    /// Signs a token. The same grant gives the same token.
    pub fn issue(&self, grant: &TokenGrant) -> Result<String, Error> {
        let kind = grant.kind();
        let key = self.keys.iter().find(|key| key.kind == kind);
        let key = key.ok_or_else(|| Error::internal("no key of this kind"))?;
        let header = Header {
            typ: Some(kind.typ().to_owned()),
            kid: Some(key.id.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let claims = Claims {
            iss: kind.issuer().to_owned(),
            aud: kind.audience().to_owned(),
            sub: grant.principal.to_string(),
            ver: grant.version,
            sid: grant.session.map(SessionId::get),
            gw: grant.gateway.map(GatewayId::get),
            auth_time: grant.authenticated_at.map(Timestamp::unix_seconds),
            iat: grant.issued_at.unix_seconds(),
            exp: grant.expires_at.unix_seconds(),
        };
        jsonwebtoken::encode(&header, &claims, &key.encoding).map_err(Error::internal)
    }

    /// Returns the caller of a token if Shoreguard signed it, it has not expired, and the credential behind it is still
    /// valid.
    pub(in crate::access) fn verify(&self, token: &str, snapshot: &Snapshot) -> Option<Caller> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let typ = header.typ?;
        let kind = TokenKind::ALL.into_iter().find(|kind| kind.typ() == typ)?;
        let key_id = header.kid?;
        let key = self.keys.iter().find(|key| key.kind == kind && key.id == key_id)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[kind.issuer()]);
        validation.set_audience(&[kind.audience()]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Checked below, with Shoreguard's clock and without leeway.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation).ok()?.claims;
        let expires_at = Timestamp::from_unix_seconds(claims.exp);
        let bound_gateway = claims.gw.map(GatewayId);
        if expires_at <= self.clock.now() || bound_gateway.is_some() != (kind == TokenKind::Gateway)
        {
            return None;
        }
        let found = snapshot.caller(PrincipalId::parse(&claims.sub)?)?;
        let caller = Caller {
            version: claims.ver,
            session: claims.sid.map(SessionId),
            bound_gateway,
            authenticated_at: claims.auth_time.map(Timestamp::from_unix_seconds),
            expires_at: Some(found.expires_at.map_or(expires_at, |at| at.min(expires_at))),
            ..found
        };
        snapshot.is_live(&caller).then_some(caller)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::access::snapshot::{AccessUpdate, GatewayFacts, UserFacts};
    use crate::db::types::UserId;
    use crate::labels::Labels;
    use crate::role::Role;

    const ANA: PrincipalId = PrincipalId::User(UserId(1));

    fn world() -> (TokenKeys, Snapshot, Clock) {
        let clock = Clock::default();
        let keys = TokenKind::ALL.map(|kind| (kind, format!("k-{}", kind.purpose()), vec![7; 32]));
        let snapshot = Snapshot::new(clock.clone(), Duration::from_secs(5));
        let facts = UserFacts {
            email: "ana@example.com".into(),
            role: Role::Viewer,
            active: true,
            password_version: 3,
            groups: vec![],
            bindings: crate::access::snapshot::Bindings::default(),
            revoked: vec![SessionId(9)],
            identity: None,
        };
        let gateway = GatewayFacts { name: "edge".into(), labels: Labels::default() };
        let changes = vec![
            AccessUpdate::User(UserId(1), Some(facts)),
            AccessUpdate::Gateway(GatewayId(4), Some(gateway)),
        ];
        snapshot.apply(1, changes, Some(clock.since_boot()));
        (TokenKeys::new(keys.to_vec(), clock.clone()), snapshot, clock)
    }

    fn grant(clock: &Clock) -> TokenGrant {
        let now = clock.now();
        TokenGrant {
            principal: ANA,
            version: 3,
            session: Some(SessionId(8)),
            gateway: None,
            authenticated_at: Some(now),
            issued_at: now,
            expires_at: now.plus(Duration::from_mins(15)),
        }
    }

    #[test]
    fn a_token_carries_its_principal_session_and_gateway() {
        let (keys, snapshot, clock) = world();
        let caller = keys.verify(&keys.issue(&grant(&clock)).unwrap(), &snapshot).unwrap();
        assert_eq!((caller.principal(), caller.session()), (ANA, Some(SessionId(8))));
        assert_eq!(caller.bound_gateway(), None);
        let bound = TokenGrant { gateway: Some(GatewayId(4)), ..grant(&clock) };
        let caller = keys.verify(&keys.issue(&bound).unwrap(), &snapshot).unwrap();
        assert_eq!(caller.bound_gateway(), Some(GatewayId(4)));
    }

    #[test]
    fn t14_a_token_is_invalid_after_its_session_password_principal_or_gateway_is_replaced() {
        let (keys, snapshot, clock) = world();
        let sound = grant(&clock);
        let dead = [
            TokenGrant { version: 2, ..sound },
            TokenGrant { version: 4, ..sound },
            TokenGrant { session: Some(SessionId(9)), ..sound },
            TokenGrant { principal: PrincipalId::User(UserId(2)), ..sound },
            TokenGrant { expires_at: clock.now(), ..sound },
            TokenGrant { gateway: Some(GatewayId(5)), ..sound },
        ];
        for grant in dead {
            assert!(keys.verify(&keys.issue(&grant).unwrap(), &snapshot).is_none(), "{grant:?}");
        }
    }

    #[test]
    fn t03_session_and_gateway_tokens_are_not_interchangeable() {
        let (keys, snapshot, clock) = world();
        let sound = grant(&clock);
        // Both kinds use the same secret here, so that only the pinned claims can distinguish them.
        for (kind, gateway) in
            [(TokenKind::Session, Some(GatewayId(4))), (TokenKind::Gateway, None)]
        {
            let claims = Claims {
                iss: kind.issuer().to_owned(),
                aud: kind.audience().to_owned(),
                sub: sound.principal.to_string(),
                ver: sound.version,
                sid: None,
                gw: gateway.map(GatewayId::get),
                auth_time: None,
                iat: sound.issued_at.unix_seconds(),
                exp: sound.expires_at.unix_seconds(),
            };
            for other in TokenKind::ALL {
                for alg in [Algorithm::HS256, Algorithm::HS384] {
                    let header = Header {
                        typ: Some(other.typ().to_owned()),
                        kid: Some(format!("k-{}", other.purpose())),
                        ..Header::new(alg)
                    };
                    let key = EncodingKey::from_secret(&[7; 32]);
                    let forged = jsonwebtoken::encode(&header, &claims, &key).unwrap();
                    assert!(keys.verify(&forged, &snapshot).is_none(), "{kind:?} as {other:?}");
                }
            }
        }
    }
}
