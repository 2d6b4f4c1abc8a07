//! Tests of accepted tokens, and of similar tokens that are rejected.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use rcgen::KeyPair;
use serde_json::json;

use super::*;

const ISSUER: &str = "https://id.example.com";
const NOW: i64 = 1_800_000_000;
const ID: ExpectedToken<'_> = ExpectedToken::IdToken { client_id: "client", nonce: "nonce" };
const ACCESS: ExpectedToken<'_> =
    ExpectedToken::AccessToken { audiences: &["api", "other-api"], client_id: Some("client") };

/// An issuer with one key per curve.
struct Issuer {
    ec: KeyPair,
    ed: KeyPair,
    keys: KeySet,
}

impl Issuer {
    fn new() -> Self {
        let ec = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = ec.public_key_raw();
        let document = json!({ "keys": [
            { "kty": "EC", "kid": "ec", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]) },
            { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": text(ed.public_key_raw()) },
        ] });
        let keys = KeySet::parse(document.to_string().as_bytes()).unwrap();
        Self { ec, ed, keys }
    }

    fn sign(&self, header: &Header, claims: &Value) -> String {
        let key = if header.alg == Algorithm::ES256 {
            EncodingKey::from_ec_der(&self.ec.serialize_der())
        } else if header.alg == Algorithm::EdDSA {
            EncodingKey::from_ed_der(&self.ed.serialize_der())
        } else {
            EncodingKey::from_secret(self.ec.public_key_raw())
        };
        jsonwebtoken::encode(header, claims, &key).unwrap()
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&header("ec", Algorithm::ES256), claims)
    }

    fn verify(&self, token: &str, expected: ExpectedToken<'_>) -> TokenResult<Claims> {
        verify(token, ISSUER, &self.keys, expected, Timestamp::from_unix_seconds(NOW))
    }
}

fn header(id: &str, alg: Algorithm) -> Header {
    Header { kid: Some(id.to_owned()), ..Header::new(alg) }
}

fn id_claims() -> Value {
    json!({ "iss": ISSUER, "sub": "ana", "aud": "client", "exp": NOW + 60, "iat": NOW, "nonce": "nonce" })
}

fn access_claims() -> Value {
    json!({ "iss": ISSUER, "sub": "ci", "aud": ["api"], "exp": NOW + 60 })
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[test]
fn a_valid_token_of_each_kind_is_accepted() {
    let issuer = Issuer::new();
    let claims = issuer.verify(&issuer.token(&id_claims()), ID).unwrap();
    assert_eq!((claims.subject(), claims.expires_at().unix_seconds()), ("ana", NOW + 60));
    let by_ed = issuer.sign(&header("ed", Algorithm::EdDSA), &access_claims());
    let claims = issuer.verify(&by_ed, ACCESS).unwrap();
    assert!(claims.is_for("api") && !claims.is_for("other-api"));
    let several = with(&id_claims(), "aud", json!(["client", "else"]));
    assert!(issuer.verify(&issuer.token(&with(&several, "azp", json!("client"))), ID).is_ok());
    let at = Header { typ: Some("at+JWT".to_owned()), ..header("ec", Algorithm::ES256) };
    assert!(issuer.verify(&issuer.sign(&at, &access_claims()), ACCESS).is_ok());
    assert!(issuer.verify(&issuer.sign(&at, &id_claims()), ID).is_err());
}

#[test]
fn t03_id_tokens_and_access_tokens_are_not_interchangeable() {
    let issuer = Issuer::new();
    let (id, access) = (id_claims(), access_claims());
    assert!(issuer.verify(&issuer.token(&id), ACCESS).is_err());
    assert!(issuer.verify(&issuer.token(&access), ID).is_err());
    // Even if an issuer puts all audiences into all tokens.
    let both = with(&id, "aud", json!(["client", "api"]));
    assert!(issuer.verify(&issuer.token(&both), ACCESS).is_err());
    for marked in [
        with(&access, "nonce", json!("nonce")),
        with(&access, "at_hash", json!("x")),
        with(&access, "c_hash", Value::Null),
        with(&access, "s_hash", json!("x")),
        with(&access, "typ", json!("ID")),
        with(&access, "typ", json!("refresh")),
        with(&access, "aud", json!(["api", "client"])),
    ] {
        let refused = issuer.verify(&issuer.token(&marked), ACCESS).unwrap_err();
        assert_eq!(refused, TokenError::Refused("it is not an access token"), "{marked}");
    }
    assert!(issuer.verify(&issuer.token(&with(&access, "typ", json!("Bearer"))), ACCESS).is_ok());
    // A token that states that it is an access token may repeat the nonce of a login, but have no other mark.
    let at = Header { typ: Some("at+jwt".to_owned()), ..header("ec", Algorithm::ES256) };
    let answer = with(&access, "nonce", json!("nonce"));
    let stated = with(&answer, "typ", json!("Bearer"));
    for token in [issuer.sign(&at, &answer), issuer.token(&stated), issuer.sign(&at, &stated)] {
        assert!(issuer.verify(&token, ACCESS).is_ok());
    }
    for (name, value) in [
        ("typ", json!("ID")),
        ("at_hash", json!("x")),
        ("aud", json!("client")),
        ("aud", json!(["api", "client"])),
    ] {
        assert!(issuer.verify(&issuer.sign(&at, &with(&answer, name, value)), ACCESS).is_err());
    }
    for typ in ["sg-session+jwt", "logout+jwt", "secevent+jwt", ""] {
        let header = Header { typ: Some(typ.to_owned()), ..header("ec", Algorithm::ES256) };
        assert!(issuer.verify(&issuer.sign(&header, &access), ACCESS).is_err(), "{typ}");
    }
}

#[test]
fn an_invalid_signature_or_unsupported_algorithm_is_refused() {
    let issuer = Issuer::new();
    let claims = access_claims();
    let sound = issuer.token(&claims);
    let refused = |token: &str| issuer.verify(token, ACCESS).unwrap_err();
    // A public key must not be accepted as an HMAC secret.
    for alg in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let forged = issuer.sign(&header("ec", alg), &claims);
        assert_eq!(refused(&forged), TokenError::Refused("its algorithm is not accepted"));
    }
    let body = sound.split('.').nth(1).unwrap();
    for alg in ["none", "None", "", "ES384", "RS512"] {
        let head = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "kid": "ec" }).to_string());
        assert!(matches!(refused(&format!("{head}.{body}.")), TokenError::Refused(_)), "{alg}");
    }
    let other_key = issuer.sign(&header("ec", Algorithm::EdDSA), &claims);
    assert_eq!(refused(&other_key), TokenError::Refused("its key is not for its algorithm"));
    let stranger = Issuer::new().token(&claims);
    assert_eq!(refused(&stranger), TokenError::Refused("its signature is not valid"));
    assert_eq!(
        refused(&issuer.sign(&header("new", Algorithm::ES256), &claims)),
        TokenError::UnknownKey
    );
    for id in [None, Some(String::new())] {
        let header = Header { kid: id, ..Header::new(Algorithm::ES256) };
        // The set has one key of this algorithm. Only other keys could verify another signature.
        assert!(issuer.verify(&issuer.sign(&header, &claims), ACCESS).is_ok());
        let of_stranger = Issuer::new().sign(&header, &claims);
        assert_eq!(refused(&of_stranger), TokenError::UnknownKey);
    }
    let critical = Header { crit: Some(vec!["b64".to_owned()]), ..header("ec", Algorithm::ES256) };
    assert!(matches!(refused(&issuer.sign(&critical, &claims)), TokenError::Refused(_)));
    for broken in ["", "a", "a.b", "a.b.c", "a.b.c.d", &sound[1..], &sound[..sound.len() - 2]] {
        assert!(matches!(refused(broken), TokenError::Refused(_)), "{broken}");
    }
    let long = with(&claims, "x", json!("x".repeat(TOKEN_BYTES_MAX)));
    assert_eq!(refused(&issuer.token(&long)), TokenError::Refused("it is too long"));
}

#[test]
fn every_claim_is_validated() {
    let issuer = Issuer::new();
    let id = id_claims();
    for good in [
        with(&id, "exp", json!(NOW - LEEWAY_SECONDS + 1)),
        with(&id, "iat", json!(NOW + LEEWAY_SECONDS)),
        with(&id, "nbf", json!(NOW + LEEWAY_SECONDS)),
        with(&id, "exp", json!(1_800_000_060.5)),
        with(&id, "sub", json!("s".repeat(SUBJECT_BYTES_MAX))),
        with(&id, "azp", json!("client")),
    ] {
        assert!(issuer.verify(&issuer.token(&good), ID).is_ok(), "{good}");
    }
    for bad in [
        with(&id, "exp", json!(NOW - LEEWAY_SECONDS)),
        with(&id, "exp", json!("soon")),
        with(&id, "exp", json!(-1)),
        without(&id, "exp"),
        with(&id, "iat", json!(NOW + LEEWAY_SECONDS + 1)),
        without(&id, "iat"),
        with(&id, "nbf", json!(NOW + LEEWAY_SECONDS + 1)),
        with(&id, "nbf", json!(null)),
        with(&id, "iss", json!("https://id.example.com/")),
        with(&id, "iss", json!([ISSUER])),
        without(&id, "iss"),
        with(&id, "sub", json!("")),
        with(&id, "sub", json!(" ")),
        with(&id, "sub", json!("a\u{0}b")),
        with(&id, "sub", json!(7)),
        with(&id, "sub", json!("s".repeat(SUBJECT_BYTES_MAX + 1))),
        without(&id, "sub"),
        with(&id, "aud", json!("other")),
        with(&id, "aud", json!([])),
        with(&id, "aud", json!(["client", 7])),
        with(&id, "aud", json!(["client", "other"])),
        without(&id, "aud"),
        with(&id, "azp", json!("other")),
        with(&id, "nonce", json!("other")),
        with(&id, "nonce", json!("")),
        without(&id, "nonce"),
    ] {
        let refused = issuer.verify(&issuer.token(&bad), ID);
        assert!(matches!(refused, Err(TokenError::Refused(_))), "{bad}");
    }
    let nothing = ExpectedToken::IdToken { client_id: "client", nonce: "" };
    assert!(issuer.verify(&issuer.token(&with(&id, "nonce", json!(""))), nothing).is_err());
}
