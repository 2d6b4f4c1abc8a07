//! Keys of an issuer, and the algorithms for which each may be used.
//!
//! Invariants
//! - the algorithms of a key are determined by the key, never by a token: an RSA key is not an HMAC secret (T03);
//! - symmetric keys, encryption keys, weak keys and keys without an id are skipped individually: an issuer may publish
//!   keys of unknown types.

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
/// Size of a P-256 coordinate and of an Ed25519 key, in bytes.
const CURVE_BYTES: usize = 32;

/// The keys of an issuer.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
}

/// A key that verifies signatures.
pub(super) struct VerificationKey {
    id: String,
    algorithms: Vec<Algorithm>,
    pub(super) decoding: DecodingKey,
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
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
        self.keys.iter().any(|key| key.id == id)
    }

    /// Returns the key with this id if it may be used for the algorithm.
    pub(super) fn find(&self, id: &str, algorithm: Algorithm) -> Option<&VerificationKey> {
        self.keys.iter().find(|key| key.id == id && key.algorithms.contains(&algorithm))
    }
}

impl VerificationKey {
    fn from_json(document: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(document).ok()?;
        let id = jwk.common.key_id.clone().filter(|id| !id.is_empty())?;
        let signs =
            jwk.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
        let operations = jwk.common.key_operations.as_ref();
        if !signs || operations.is_some_and(|known| !known.contains(&KeyOperations::Verify)) {
            return None;
        }
        let mut algorithms = supported_algorithms(&jwk.algorithm)?;
        if let Some(algorithm) = jwk.common.key_algorithm {
            let algorithm = Algorithm::try_from(algorithm).ok()?;
            algorithms.retain(|supported| *supported == algorithm);
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
        AlgorithmParameters::RSA(rsa) if RSA_BYTES.contains(&bytes(&rsa.n)) => {
            Some(vec![Algorithm::RS256, Algorithm::PS256])
        }
        // The library reads as many bytes as the curve requires, even if there are fewer.
        AlgorithmParameters::EllipticCurve(ec)
            if ec.curve == EllipticCurve::P256
                && bytes(&ec.x) == CURVE_BYTES
                && bytes(&ec.y) == CURVE_BYTES =>
        {
            Some(vec![Algorithm::ES256])
        }
        AlgorithmParameters::OctetKeyPair(pair)
            if pair.curve == EllipticCurve::Ed25519 && bytes(&pair.x) == CURVE_BYTES =>
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
        assert_eq!(algorithms(&rsa), [Algorithm::RS256, Algorithm::PS256]);
        assert_eq!(algorithms(&with(&rsa, "alg", json!("PS256"))), [Algorithm::PS256]);
        assert_eq!(algorithms(&with(&rsa, "use", json!("sig"))).len(), 2);
        assert_eq!(algorithms(&with(&rsa, "key_ops", json!(["verify"]))).len(), 2);
        assert_eq!(algorithms(&with(&rsa, "n", json!(encoded(512)))).len(), 2);
        assert_eq!(algorithms(&ec), [Algorithm::ES256]);
        assert_eq!(algorithms(&ed), [Algorithm::EdDSA]);
        let left_out = [
            with(&rsa, "alg", json!("HS256")),
            with(&rsa, "alg", json!("RSA-OAEP")),
            with(&rsa, "alg", json!("ES256")),
            with(&rsa, "use", json!("enc")),
            with(&rsa, "key_ops", json!(["encrypt"])),
            with(&rsa, "kid", Value::Null),
            with(&rsa, "kid", json!("")),
            with(&rsa, "n", json!(encoded(128))),
            with(&rsa, "n", json!(encoded(513))),
            with(&ec, "crv", json!("P-384")),
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
        assert!(set.has("good") && set.find("good", Algorithm::EdDSA).is_some());
        assert!(set.find("good", Algorithm::HS256).is_none());
        assert!(KeySet::parse(b"[]").is_none());
        let many: Vec<Value> = (0..=KEYS_MAX)
            .map(|at| json!({ "kty": "OKP", "kid": at.to_string(), "crv": "Ed25519", "x": encoded(32) }))
            .collect();
        let set = KeySet::parse(json!({ "keys": many }).to_string().as_bytes()).unwrap();
        assert!(set.has("63") && !set.has("64"));
    }
}
