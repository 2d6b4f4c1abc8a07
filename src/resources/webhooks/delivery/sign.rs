//! Signatures of messages: Standard Webhooks, and the header of the previous generation of Shoreguard.
//!
//! Invariant: id, time and body are signed together, so that a message can neither be changed nor replayed later. The
//! legacy header signs the body only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;

use crate::error::Error;
use crate::resources::webhooks::sealed::SigningSecret;
use crate::seal::hex;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const LEGACY: HeaderName = HeaderName::from_static("x-shoreguard-signature");

/// Returns the headers of a message that is sent at `seconds` since 1970. The first secret is the newest one.
///
/// # Errors
/// `Internal` if the id is not valid in a header.
pub(super) fn headers(
    secrets: &[SigningSecret],
    id: &str,
    seconds: i64,
    body: &[u8],
) -> Result<HeaderMap, Error> {
    let value = |text: String| HeaderValue::from_str(&text).map_err(Error::internal);
    let mut headers = HeaderMap::new();
    headers.insert(ID, value(id.to_owned())?);
    headers.insert(TIMESTAMP, HeaderValue::from(seconds));
    let Some(newest) = secrets.first() else { return Ok(headers) };
    let before = format!("{id}.{seconds}.");
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| format!("v1,{}", STANDARD.encode(tag(secret, &[before.as_bytes(), body]))))
        .collect();
    headers.insert(SIGNATURE, value(signatures.join(" "))?);
    headers.insert(LEGACY, value(format!("sha256={}", hex(tag(newest, &[body]).as_ref())))?);
    Ok(headers)
}

/// Returns the HMAC of joined parts. Its key is the ASCII characters of the secret.
fn tag(secret: &SigningSecret, parts: &[&[u8]]) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.legacy().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_signature_for_each_secret_and_the_legacy_one_of_the_newest() {
        let secrets = [SigningSecret::generate().unwrap(), SigningSecret::generate().unwrap()];
        let headers = headers(&secrets, "msg_1", 1_700_000_000, b"{}").unwrap();
        assert_eq!(headers["webhook-id"], "msg_1");
        assert_eq!(headers["webhook-timestamp"], "1700000000");
        let signatures = headers["webhook-signature"].to_str().unwrap();
        let expected: Vec<String> = secrets
            .iter()
            .map(|secret| format!("v1,{}", STANDARD.encode(tag(secret, &[b"msg_1.1700000000.{}"]))))
            .collect();
        assert_eq!(signatures, expected.join(" "));
        let legacy = format!("sha256={}", hex(tag(&secrets[0], &[b"{}"]).as_ref()));
        assert_eq!(headers["x-shoreguard-signature"], legacy);
        assert_ne!(tag(&secrets[0], &[b"{}"]).as_ref(), tag(&secrets[0], &[b"{ "]).as_ref());
    }

    #[test]
    fn without_a_secret_only_id_and_time_are_sent() {
        let headers = headers(&[], "msg_1", 1, b"{}").unwrap();
        assert!(headers.get("webhook-signature").is_none() && headers.contains_key("webhook-id"));
    }
}
