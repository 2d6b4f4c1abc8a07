//! Keys of an issuer, and the algorithms for which each may be used.
//!
//! Invariants
//! - the algorithms of a key are determined by the key, never by a token: an RSA key is not an HMAC secret (T03);
//! - symmetric keys, encryption keys and weak keys are skipped individually: an issuer may publish keys of unknown
//!   types;
//! - a token without a key id is verified only if one key of the set may verify its algorithm: an id is optional in a
//!   set with one key (`OpenID` Connect Core 1.0, section 10.1), and a forged token costs at most one verification.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Maximum number of keys of one issuer that are parsed.
const KEYS_MAX: usize = 64;
/// Size of an RSA modulus, in bytes: 2048 to 4096 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
/// Size of a coordinate of P-256 and of P-384, in bytes.
const P256_BYTES: usize = 32;
const P384_BYTES: usize = 48;
/// Size of an Ed25519 key, in bytes.
const ED25519_BYTES: usize = 32;

/// The keys of an issuer.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
}

/// A key that verifies signatures.
pub(super) struct VerificationKey {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) decoding: DecodingKey,
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Result of a search for the key of a token.
#[derive(Debug)]
pub(super) enum KeyLookup<'a> {
    /// The key.
    Found(&'a VerificationKey),
    /// No key has the id, or the token has no id and no key may verify its algorithm.
    Unknown,
    /// The key with the id may not be used for the algorithm.
    OtherAlgorithm,
    /// The token has no key id, and several keys may verify its algorithm.
    Several,
}

#[derive(Deserialize)]
struct KeySetDocument {
    keys: Vec<Value>,
}

impl KeySet {
    /// Parses a document. Returns `None` if it is not a key set.
    #[must_use]
    pub fn parse(document: &[u8]) -> Option<Self> {
        let document: KeySetDocument = serde_json::from_slice(document).ok()?;
        let keys = document
            .keys
            .into_iter()
            .take(KEYS_MAX)
            .filter_map(VerificationKey::from_json)
            .collect();
        Some(Self { keys })
    }

    /// Whether there is a key with this id.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Finds the key of a token by its id, or by its algorithm if it has no id.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> KeyLookup<'_> {
        let is_named = |key: &&VerificationKey| id.is_none() || key.id.as_deref() == id;
        let mut fitting =
            self.keys.iter().filter(is_named).filter(|key| key.algorithms.contains(&algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(_), Some(_)) if id.is_none() => KeyLookup::Several,
            (Some(key), _) => KeyLookup::Found(key),
            (None, _) if id.is_some_and(|id| self.has(id)) => KeyLookup::OtherAlgorithm,
            (None, _) => KeyLookup::Unknown,
        }
    }
}

impl VerificationKey {
    fn from_json(document: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(document).ok()?;
        let id = jwk.common.key_id.clone().filter(|id| !id.is_empty());
        let signs =
            jwk.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
        let operations = jwk.common.key_operations.as_ref();
        if !signs || operations.is_some_and(|known| !known.contains(&KeyOperations::Verify)) {
            return None;
        }
        let mut algorithms = supported_algorithms(&jwk.algorithm)?;
        if let Some(algorithm) = jwk.common.key_algorithm {
            let declared = Algorithm::try_from(algorithm).ok()?;
            algorithms.retain(|algorithm| *algorithm == declared);
        }
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        (!algorithms.is_empty()).then_some(Self { id, algorithms, decoding })
    }
}

/// Returns the accepted algorithms that a key of this type can verify, or `None`.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "foreign enums that may grow: what is new is left out"
)]
fn supported_algorithms(shape: &AlgorithmParameters) -> Option<Vec<Algorithm>> {
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_or(0, |bytes| bytes.len());
    match shape {
        AlgorithmParameters::RSA(rsa) if RSA_BYTES.contains(&bytes(&rsa.n)) => Some(vec![
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ]),
        // The library reads as many bytes as the curve requires, even if there are fewer. It has no P-521 (ES512).
        AlgorithmParameters::EllipticCurve(ec) => {
            let (size, algorithm) = match ec.curve {
                EllipticCurve::P256 => (P256_BYTES, Algorithm::ES256),
                EllipticCurve::P384 => (P384_BYTES, Algorithm::ES384),
                _ => return None,
            };
            (bytes(&ec.x) == size && bytes(&ec.y) == size).then(|| vec![algorithm])
        }
        AlgorithmParameters::OctetKeyPair(pair)
            if pair.curve == EllipticCurve::Ed25519 && bytes(&pair.x) == ED25519_BYTES =>
        {
            Some(vec![Algorithm::EdDSA])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn encoded(length: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0x81; length])
    }

    fn algorithms(key: &Value) -> Vec<Algorithm> {
        let document = json!({ "keys": [key] }).to_string();
        let set = KeySet::parse(document.as_bytes()).unwrap();
        set.keys.into_iter().next().map(|key| key.algorithms).unwrap_or_default()
    }

    #[test]
    fn a_key_verifies_only_its_declared_algorithms() {
        let rsa = json!({ "kty": "RSA", "kid": "a", "n": encoded(256), "e": "AQAB" });
        let ec =
            json!({ "kty": "EC", "kid": "a", "crv": "P-256", "x": encoded(32), "y": encoded(32) });
        let ed = json!({ "kty": "OKP", "kid": "a", "crv": "Ed25519", "x": encoded(32) });
        let with = |key: &Value, name: &str, value: Value| {
            let mut key = key.clone();
            key[name] = value;
            key
        };
        let of_rsa = [
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ];
        assert_eq!(algorithms(&rsa), of_rsa);
        for algorithm in of_rsa {
            let declared = with(&rsa, "alg", json!(format!("{algorithm:?}")));
            assert_eq!(algorithms(&declared), [algorithm]);
        }
        assert_eq!(algorithms(&with(&rsa, "use", json!("sig"))), of_rsa);
        assert_eq!(algorithms(&with(&rsa, "key_ops", json!(["verify"]))), of_rsa);
        assert_eq!(algorithms(&with(&rsa, "n", json!(encoded(512)))), of_rsa);
        assert_eq!(algorithms(&with(&rsa, "kid", Value::Null)), of_rsa);
        assert_eq!(algorithms(&with(&rsa, "kid", json!(""))), of_rsa);
        assert_eq!(algorithms(&ec), [Algorithm::ES256]);
        let larger =
            json!({ "kty": "EC", "kid": "a", "crv": "P-384", "x": encoded(48), "y": encoded(48) });
        assert_eq!(algorithms(&larger), [Algorithm::ES384]);
        assert_eq!(algorithms(&ed), [Algorithm::EdDSA]);
        let left_out = [
            with(&rsa, "alg", json!("HS256")),
            with(&rsa, "alg", json!("RSA-OAEP")),
            with(&rsa, "alg", json!("ES256")),
            with(&rsa, "use", json!("enc")),
            with(&rsa, "key_ops", json!(["encrypt"])),
            with(&rsa, "n", json!(encoded(128))),
            with(&rsa, "n", json!(encoded(513))),
            with(&ec, "crv", json!("P-384")),
            with(&larger, "crv", json!("P-256")),
            with(&larger, "crv", json!("P-521")),
            with(&ec, "crv", json!("secp256k1")),
            with(&ec, "x", json!(encoded(31))),
            with(&ed, "crv", json!("X25519")),
            with(&ed, "x", json!(encoded(8))),
            json!({ "kty": "oct", "kid": "a", "k": encoded(32), "alg": "HS256" }),
            json!({ "kty": "future", "kid": "a" }),
            json!("no key"),
        ];
        for key in left_out {
            assert_eq!(algorithms(&key), [], "{key}");
        }
    }

    #[test]
    fn an_unknown_key_does_not_affect_other_keys() {
        let good = json!({ "kty": "OKP", "kid": "good", "crv": "Ed25519", "x": encoded(32) });
        let document = json!({ "keys": [{ "kty": "future" }, good] }).to_string();
        let set = KeySet::parse(document.as_bytes()).unwrap();
        assert!(set.has("good"));
        assert!(matches!(set.find(Some("good"), Algorithm::EdDSA), KeyLookup::Found(_)));
        let other = set.find(Some("good"), Algorithm::HS256);
        assert!(matches!(other, KeyLookup::OtherAlgorithm));
        assert!(KeySet::parse(b"[]").is_none());
        let many: Vec<Value> = (0..=KEYS_MAX)
            .map(|at| json!({ "kty": "OKP", "kid": at.to_string(), "crv": "Ed25519", "x": encoded(32) }))
            .collect();
        let set = KeySet::parse(json!({ "keys": many }).to_string().as_bytes()).unwrap();
        assert!(set.has("63") && !set.has("64"));
    }

    #[test]
    fn a_token_without_a_key_id_needs_exactly_one_key_for_its_algorithm() {
        let ed = |id: Value| json!({ "kty": "OKP", "kid": id, "crv": "Ed25519", "x": encoded(32) });
        let rsa = json!({ "kty": "RSA", "n": encoded(256), "e": "AQAB" });
        let set =
            |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let mixed = set(json!([rsa, ed(json!("a"))]));
        for algorithm in [Algorithm::RS256, Algorithm::EdDSA] {
            assert!(matches!(mixed.find(None, algorithm), KeyLookup::Found(_)), "{algorithm:?}");
        }
        assert!(matches!(mixed.find(None, Algorithm::ES256), KeyLookup::Unknown));
        let several = set(json!([ed(Value::Null), ed(json!("a"))]));
        assert!(matches!(several.find(None, Algorithm::EdDSA), KeyLookup::Several));
        // A token with an id is verified only by the key with that id.
        assert!(matches!(mixed.find(Some("b"), Algorithm::RS256), KeyLookup::Unknown));
        assert!(matches!(several.find(Some("a"), Algorithm::EdDSA), KeyLookup::Found(_)));
    }
}
