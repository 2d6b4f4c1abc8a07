//! Sealing: secrets at rest are encrypted and bound to the place where they are stored.
//!
//! A sealed value is `1 | length of key id | key id | nonce | ciphertext and tag`. The key id identifies the master
//! key, so that keys can be rotated: the first key of [`MasterKeys`] seals, all of them open.
//!
//! Invariants
//! - a value that is moved to another table, column, row or destination cannot be opened: an attacker with write access
//!   to the database cannot make Shoreguard send a token to the attacker's gateway;
//! - the master key itself never seals or signs: each key is derived from it for one purpose;
//! - a nonce is 96 random bits, generated only in this module.

mod keys;

use std::fmt::{self, Write as _};

use ring::aead::{self, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::error::Error;

pub use keys::MasterKeys;

const FORMAT: u8 = 1;
/// Length of all keys in this module, in bytes.
pub const KEY_BYTES: usize = 32;
/// Length of a SHA-256, in hexadecimal digits.
pub const SHA256_DIGITS: usize = 64;

/// The place of a sealed value. The value opens only with exactly this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aad<'a> {
    /// The table.
    pub table: &'a str,
    /// The column.
    pub column: &'a str,
    /// Identifies the row. Must be known before the insert, so it is a name or key, not the automatic id.
    pub row: &'a str,
    /// The destination of the secret, such as the gateway's address; empty if it is not sent anywhere.
    pub destination: &'a str,
}

impl Aad<'_> {
    fn bytes(&self) -> Vec<u8> {
        join_parts(&[self.table, self.column, self.row, self.destination].map(str::as_bytes))
    }
}

/// Prefixes each part with its length: otherwise `ab`+`c` would equal `a`+`bc`.
#[must_use]
pub(crate) fn join_parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// A key that converts names to tags. A reader of the database cannot recover the names.
pub struct TagKey(hmac::Key);

impl TagKey {
    /// Returns the tag of a name in parts: 64 hexadecimal digits of an HMAC-SHA-256.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> String {
        hex(hmac::sign(&self.0, &join_parts(parts)).as_ref())
    }
}

/// A key that seals and opens values.
pub struct SealKey(LessSafeKey);

impl SealKey {
    /// Builds a key from its bytes.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the array's length is the cipher's")]
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("a key of 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Seals with a random nonce: `nonce | ciphertext and tag`.
    pub fn seal(&self, bound_to: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_LEN];
        fill_random(&mut nonce)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plaintext.len() + aead::MAX_TAG_LEN);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(bound_to),
                &mut sealed[NONCE_LEN..],
            )
            .map_err(|_| Error::internal("a value is too long to be sealed"))?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens a value sealed by [`SealKey::seal`]. Returns `None` if it was sealed with another key, modified, or bound
    /// to something else.
    #[must_use]
    pub fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length =
            self.0.open_in_place(nonce, aead::Aad::from(bound_to), &mut buffer).ok()?.len();
        buffer.truncate(length);
        Some(buffer)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// Fills a buffer with random bytes of the system.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new().fill(bytes).map_err(|_| Error::internal("the system has no random bytes"))
}

/// Encodes bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Decodes hexadecimal digits in upper or lower case. Returns `None` for other characters and for an odd number of
/// digits.
#[must_use]
pub fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digits = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()));
    let digits = digits.collect::<Option<Vec<u8>>>()?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Whether a text has the form of a SHA-256 in hexadecimal digits, in upper or lower case.
#[must_use]
pub fn is_sha256_hex(text: &str) -> bool {
    text.len() == SHA256_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl MasterKeys {
    /// Seals with the current key.
    pub fn seal(&self, purpose: &Aad<'_>, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let key = self.current();
        let mut sealed = vec![FORMAT, u8::try_from(key.id().len()).map_err(Error::internal)?];
        sealed.extend_from_slice(key.id().as_bytes());
        sealed.extend(key.sealing().seal(&purpose.bytes(), plaintext)?);
        Ok(sealed)
    }

    /// Opens a value with the key that it was sealed with.
    ///
    /// # Errors
    /// `Internal` if that key is not configured, or if the value was modified or belongs to another place.
    pub fn open(&self, purpose: &Aad<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let place = || format!("the sealed value in {}.{}", purpose.table, purpose.column);
        let (id, body) =
            header(sealed).ok_or_else(|| Error::internal(format!("{} is malformed", place())))?;
        let key = self.by_id(id).ok_or_else(|| {
            Error::internal(format!("{} needs the master key `{id}`, not configured", place()))
        })?;
        key.sealing().open(&purpose.bytes(), body).ok_or_else(|| {
            Error::internal(format!("{} was changed, or moved from elsewhere", place()))
        })
    }

    /// Whether the value is sealed with an older key, and should be sealed again.
    #[must_use]
    pub fn is_outdated(&self, sealed: &[u8]) -> bool {
        header(sealed).is_none_or(|(id, _)| id != self.current().id())
    }
}

fn header(sealed: &[u8]) -> Option<(&str, &[u8])> {
    let [FORMAT, length, rest @ ..] = sealed else { return None };
    let (id, body) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(id).ok()?, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_decoded_in_pairs() {
        let bytes = [0, 0x1f, 0xa0, 0xff];
        assert_eq!(hex(&bytes), "001fa0ff");
        for good in ["001fa0ff", "001FA0ff"] {
            assert_eq!(decode_hex(good).as_deref(), Some(&bytes[..]), "{good}");
        }
        for bad in ["0", "001", "+1", "0x", "g0", "\u{e4}", " 0"] {
            assert_eq!(decode_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_sha256_has_64_hexadecimal_digits() {
        for good in ["a9".repeat(32), "A9".repeat(32), hex(&[0xff; 32])] {
            assert!(is_sha256_hex(&good), "{good}");
        }
        for bad in
            [String::new(), "a".repeat(63), "a".repeat(65), "g".repeat(64), "\u{e4}".repeat(32)]
        {
            assert!(!is_sha256_hex(&bad), "{bad}");
        }
    }

    const HERE: Aad<'_> =
        Aad { table: "gateways", column: "bearer_token", row: "edge", destination: "edge:443" };

    fn keys(text: &str) -> MasterKeys {
        MasterKeys::parse(&text.into()).unwrap()
    }

    #[test]
    fn a_sealed_value_opens_with_its_own_associated_data() {
        let keys = keys(&"a1".repeat(32));
        for plaintext in [&b""[..], b"token"] {
            let sealed = keys.seal(&HERE, plaintext).unwrap();
            assert_eq!(keys.open(&HERE, &sealed).unwrap().as_slice(), plaintext);
            assert_ne!(sealed, keys.seal(&HERE, plaintext).unwrap(), "each time another nonce");
        }
    }

    #[test]
    fn a_sealed_value_does_not_open_with_other_associated_data() {
        let keys = keys(&"a1".repeat(32));
        let sealed = keys.seal(&HERE, b"token").unwrap();
        for elsewhere in [
            Aad { table: "users", ..HERE },
            Aad { column: "client_key", ..HERE },
            Aad { row: "edge2", ..HERE },
            Aad { destination: "evil:443", ..HERE },
            Aad { row: "edgee", destination: "dge:443", ..HERE },
        ] {
            assert!(keys.open(&elsewhere, &sealed).is_err(), "{elsewhere:?}");
        }
    }

    #[test]
    fn a_changed_or_truncated_sealed_value_does_not_open() {
        let keys = keys(&"a1".repeat(32));
        let sealed = keys.seal(&HERE, b"token").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(keys.open(&HERE, &changed).is_err(), "byte {at}");
            assert!(keys.open(&HERE, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn older_keys_open_values_and_the_current_key_seals_them() {
        let old = "a1".repeat(32);
        let sealed = keys(&old).seal(&HERE, b"token").unwrap();
        let both = keys(&format!("{}, {old}", "b2".repeat(32)));
        assert_eq!(both.open(&HERE, &sealed).unwrap().as_slice(), b"token");
        assert!(both.is_outdated(&sealed));
        let fresh = both.seal(&HERE, b"token").unwrap();
        assert!(!both.is_outdated(&fresh));
        assert!(keys(&old).open(&HERE, &fresh).is_err());
    }
}
