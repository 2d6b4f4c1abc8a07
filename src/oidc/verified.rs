//! Cache of verified access tokens, so that a caller that sends a token with each call costs one signature check.
//!
//! Invariants
//! - it contains only verified tokens, so that it cannot be filled without valid tokens of the issuer;
//! - a returned token was verified with the current keys and has not expired since.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use super::claims::Claims;
use super::jwks::KeySet;
use super::verify::LEEWAY_SECONDS;
use crate::clock::Timestamp;

/// Maximum number of cached tokens per issuer.
const TOKENS_MAX: usize = 1_024;

/// The cached tokens of one issuer.
#[derive(Debug, Default)]
pub struct VerifiedTokens {
    tokens: RwLock<HashMap<[u8; 32], CachedToken>>,
}

#[derive(Debug)]
struct CachedToken {
    keys: Arc<KeySet>,
    claims: Arc<Claims>,
}

impl CachedToken {
    fn is_valid(&self, keys: &Arc<KeySet>, now: Timestamp) -> bool {
        let ends = self.claims.expires_at().unix_seconds();
        Arc::ptr_eq(&self.keys, keys) && ends.saturating_add(LEEWAY_SECONDS) > now.unix_seconds()
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl VerifiedTokens {
    /// Returns the claims of a token that was verified with these keys, or `None` if it is not cached or has expired.
    #[must_use]
    pub fn get(&self, token: &str, keys: &Arc<KeySet>, now: Timestamp) -> Option<Arc<Claims>> {
        let tokens = self.tokens.read();
        let cached = tokens.get(&hash(token))?;
        cached.is_valid(keys, now).then(|| Arc::clone(&cached.claims))
    }

    /// Stores a token that was just verified with these keys. If the cache is full, evicts unusable tokens or, if that
    /// frees no place, all tokens.
    pub fn put(
        &self,
        token: &str,
        keys: &Arc<KeySet>,
        claims: Claims,
        now: Timestamp,
    ) -> Arc<Claims> {
        let claims = Arc::new(claims);
        let cached = CachedToken { keys: Arc::clone(keys), claims: Arc::clone(&claims) };
        let mut tokens = self.tokens.write();
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, cached| cached.is_valid(keys, now));
        }
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(hash(token), cached);
        claims
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_000);

    fn keys() -> Arc<KeySet> {
        Arc::new(KeySet::parse(br#"{"keys":[]}"#).unwrap())
    }

    fn claims(ends: i64) -> Claims {
        let ends = Timestamp::from_unix_seconds(ends);
        Claims::new(Map::new(), "sub".to_owned(), vec![], ends)
    }

    #[test]
    fn a_verified_token_is_cached_until_it_expires_or_the_keys_are_refetched() {
        let (verified, keys) = (VerifiedTokens::default(), keys());
        verified.put("a", &keys, claims(1_060), NOW);
        assert!(verified.get("a", &keys, NOW).is_some());
        assert!(verified.get("b", &keys, NOW).is_none());
        assert!(verified.get("a", &self::keys(), NOW).is_none(), "the keys were fetched again");
        let last = 1_060 + LEEWAY_SECONDS;
        assert!(verified.get("a", &keys, Timestamp::from_unix_seconds(last - 1)).is_some());
        assert!(verified.get("a", &keys, Timestamp::from_unix_seconds(last)).is_none());
    }

    #[test]
    fn the_cache_of_verified_tokens_is_limited() {
        let (verified, keys) = (VerifiedTokens::default(), keys());
        verified.put("ended", &keys, claims(1), NOW);
        for at in 1..TOKENS_MAX {
            verified.put(&at.to_string(), &keys, claims(1_060), NOW);
        }
        // The expired token is evicted to make room.
        verified.put("more", &keys, claims(1_060), NOW);
        assert!(verified.get("1", &keys, NOW).is_some());
        verified.put("too many", &keys, claims(1_060), NOW);
        assert!(verified.get("1", &keys, NOW).is_none());
        assert!(verified.get("too many", &keys, NOW).is_some());
    }
}
