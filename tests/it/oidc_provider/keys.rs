//! The signing keys of the issuers in the tests.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Map, Value, json};

use super::SigningMode;

/// A key only for these tests. ring cannot generate RSA keys, and the tests need one.
const RSA_KEY: &str = include_str!("rsa_key.txt");

/// A signing key and its published JWK.
pub(super) struct SigningKey {
    algorithm: Algorithm,
    encoding: EncodingKey,
    pub(super) published: Value,
}

impl SigningKey {
    pub(super) fn new(algorithm: &str, id: &str) -> Self {
        let algorithm: Algorithm = algorithm.parse().unwrap();
        #[expect(clippy::wildcard_enum_match_arm, reason = "what no issuer here signs with")]
        let (encoding, mut published) = match algorithm {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => rsa(),
            Algorithm::ES256 => {
                let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
                let point = pair.public_key_raw();
                let (x, y) = (base64_url(&point[1..33]), base64_url(&point[33..]));
                let published = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
                (EncodingKey::from_ec_der(&pair.serialize_der()), published)
            }
            Algorithm::ES384 => {
                let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
                let point = pair.public_key_raw();
                let (x, y) = (base64_url(&point[1..49]), base64_url(&point[49..]));
                let published = json!({ "kty": "EC", "crv": "P-384", "x": x, "y": y });
                (EncodingKey::from_ec_der(&pair.serialize_der()), published)
            }
            Algorithm::EdDSA => {
                let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
                let x = base64_url(pair.public_key_raw());
                let published = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
                (EncodingKey::from_ed_der(&pair.serialize_der()), published)
            }
            other => panic!("no key for {other:?}"),
        };
        published["kid"] = json!(id);
        published["use"] = json!("sig");
        Self { algorithm, encoding, published }
    }

    /// Removes the key id, from the published key and from tokens.
    pub(super) fn hide_id(&mut self) {
        self.published.as_object_mut().unwrap().remove("kid");
    }

    pub(super) fn sign(
        &self,
        claims: &Map<String, Value>,
        typ: &str,
        signed: SigningMode,
    ) -> String {
        let id = self.published["kid"].as_str().map(str::to_owned);
        let header = |algorithm| Header {
            typ: Some(typ.to_owned()),
            kid: id.clone(),
            ..Header::new(algorithm)
        };
        let encode =
            |header: &Header, key: &EncodingKey| jsonwebtoken::encode(header, claims, key).unwrap();
        let sound = || encode(&header(self.algorithm), &self.encoding);
        match signed {
            SigningMode::Valid => sound(),
            SigningMode::OtherKey => {
                let stranger = Self::new("ES256", "stranger");
                let own = Header { kid: id.clone(), ..Header::new(Algorithm::ES256) };
                encode(&own, &stranger.encoding)
            }
            SigningMode::HmacWithPublicKey => {
                let public = EncodingKey::from_secret(self.published.to_string().as_bytes());
                encode(&header(Algorithm::HS256), &public)
            }
            SigningMode::Unsigned => {
                let head = json!({ "alg": "none", "kid": id, "typ": typ }).to_string();
                let head = base64_url(head.as_bytes());
                let sound = sound();
                format!("{head}.{}.", sound.split('.').nth(1).unwrap())
            }
        }
    }
}

fn rsa() -> (EncodingKey, Value) {
    let text: String = RSA_KEY.split_whitespace().collect();
    let key = EncodingKey::from_rsa_der(&STANDARD.decode(text).unwrap());
    let published = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
    let mut published = serde_json::to_value(published).unwrap();
    // The key signs with all RSA algorithms, so `alg` is not published.
    published.as_object_mut().unwrap().remove("alg");
    (key, published)
}

fn base64_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
