//! The keys that the issuers of the tests sign with.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Map, Value, json};

use super::Signed;

/// Of no use but here: ring makes no RSA keys, and the tests need one.
const RSA_KEY: &str = include_str!("rsa_key.txt");

/// A key, and what is published of it.
pub(super) struct SigningKey {
    algorithm: Algorithm,
    encoding: EncodingKey,
    pub(super) published: Value,
}

impl SigningKey {
    pub(super) fn new(algorithm: &str, id: &str) -> Self {
        let algorithm: Algorithm = algorithm.parse().unwrap();
        let encoding = match algorithm {
            Algorithm::RS256 | Algorithm::PS256 => rsa(),
            Algorithm::ES256 => {
                let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
                EncodingKey::from_ec_der(&pair.serialize_der())
            }
            Algorithm::EdDSA => {
                let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
                EncodingKey::from_ed_der(&pair.serialize_der())
            }
            other => panic!("no key for {other:?}"),
        };
        let jwk = Jwk::from_encoding_key(&encoding, algorithm).unwrap();
        let mut published = serde_json::to_value(jwk).unwrap();
        published["kid"] = json!(id);
        published["use"] = json!("sig");
        Self { algorithm, encoding, published }
    }

    pub(super) fn sign(
        &self,
        claims: &Map<String, Value>,
        typ: Option<String>,
        signed: &Signed,
    ) -> String {
        let id = self.published["kid"].as_str().map(str::to_owned);
        let header =
            |algorithm| Header { typ: typ.clone(), kid: id.clone(), ..Header::new(algorithm) };
        let encode =
            |header: &Header, key: &EncodingKey| jsonwebtoken::encode(header, claims, key).unwrap();
        let sound = || encode(&header(self.algorithm), &self.encoding);
        match signed {
            Signed::Well => sound(),
            Signed::ByStranger => {
                let stranger = Self::new("ES256", "stranger");
                let own = Header { kid: id.clone(), ..Header::new(Algorithm::ES256) };
                encode(&own, &stranger.encoding)
            }
            Signed::ByPublicKey => {
                let public = EncodingKey::from_secret(self.published.to_string().as_bytes());
                encode(&header(Algorithm::HS256), &public)
            }
            Signed::Not => {
                use base64::Engine;
                let head = json!({ "alg": "none", "kid": id, "typ": typ }).to_string();
                let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(head);
                let sound = sound();
                format!("{head}.{}.", sound.split('.').nth(1).unwrap())
            }
        }
    }
}

fn rsa() -> EncodingKey {
    use base64::Engine;
    let text: String = RSA_KEY.split_whitespace().collect();
    EncodingKey::from_rsa_der(&base64::engine::general_purpose::STANDARD.decode(text).unwrap())
}
