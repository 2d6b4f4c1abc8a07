//! Passwords: bcrypt, outside the threads of the runtime, with limited parallelism.
//!
//! Invariants
//! - a password is hashed in the form of `OpaqueString` (RFC 8265, section 4.2.2): keyboards and operating systems type
//!   the same password in different forms;
//! - a hash of another form, made by an earlier release, still matches the text that it was made of;
//! - bcrypt reads only 72 bytes; a longer password is rejected instead of truncated. Bytes are counted in that form;
//! - callers take turns: see `hash_turns`.

use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;

use super::hash_turns::{HashCaller, HashTurns, WAIT_MAX};
use crate::config::Limits;
use crate::error::Error;
use crate::secret::Secret;

/// Minimum length of a password, in characters.
pub const CHARACTERS_MIN: usize = 12;
/// Maximum length of a password, in bytes: what bcrypt reads.
pub const BYTES_MAX: usize = 72;
/// Maximum length of a text that is brought into the form of passwords, in bytes. The form of a longer text is longer
/// than [`BYTES_MAX`], too.
const PREPARED_BYTES_MAX: usize = 1_024;

/// Hashes and verifies passwords.
#[derive(Debug)]
pub struct PasswordHasher {
    turns: Arc<HashTurns>,
    cost: u32,
    /// Hash of an unknown password: verified if there is no account, so that the cost is the same.
    dummy: String,
}

impl PasswordHasher {
    /// Uses the configured limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let slots = usize::try_from(limits.bcrypt_parallel).unwrap_or(1);
        // A well-formed hash of the same cost; no password is known to match it.
        let dummy = format!(
            "$2b${:02}$abcdefghijklmnopqrstuuDeIdC2h7jXxWOaLcB1VLhSJx1TnRNYK",
            limits.bcrypt_cost
        );
        Self { turns: HashTurns::new(slots, WAIT_MAX), cost: limits.bcrypt_cost, dummy }
    }

    /// Rejects a password that cannot be set.
    ///
    /// # Errors
    /// `Invalid` if it has fewer than 12 characters or more than 72 bytes.
    pub fn check(field: &str, password: &Secret) -> Result<(), Error> {
        let prepared = prepare(password);
        let text = prepared.expose();
        if text.chars().count() < CHARACTERS_MIN {
            let why = format!("must have at least {CHARACTERS_MIN} characters");
            return Err(Error::invalid(field, why));
        }
        if text.len() > BYTES_MAX {
            return Err(Error::invalid(field, format!("must have at most {BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// Returns the bcrypt hash of a checked password.
    ///
    /// # Errors
    /// `BUSY` if no slot is free in time.
    pub async fn hash(&self, password: Secret, caller: HashCaller) -> Result<String, Error> {
        let cost = self.cost;
        let work = move || bcrypt::hash(prepare(&password).expose(), cost);
        self.run(caller, work).await?.map_err(Error::internal)
    }

    /// Returns whether a password matches a hash. Without a hash the work is the same and the result is false.
    ///
    /// # Errors
    /// `BUSY` if no slot is free in time.
    pub async fn verify(
        &self,
        password: Secret,
        hash: Option<String>,
        caller: HashCaller,
    ) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.dummy.clone());
        let work = move || {
            let prepared = prepare(&password);
            matches_hash(&prepared, &hash)
                || (prepared != password && matches_hash(&password, &hash))
        };
        Ok(self.run(caller, work).await? && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        caller: HashCaller,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let slot = self.turns.acquire(caller).await?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(slot);
            result
        })
        .await
        .map_err(Error::internal)
    }
}

/// Returns a password in the form in which it is hashed: other spaces than U+0020 are replaced by it, and the text is
/// in normalization form C. A text that is too long in any form is returned as it is.
fn prepare(password: &Secret) -> Secret {
    let text = password.expose();
    if text.len() > PREPARED_BYTES_MAX {
        return password.clone();
    }
    // Normalization form C has at most three times as many bytes (Unicode Standard Annex 15), so that the text is not
    // copied when the buffer grows.
    let mut prepared = String::with_capacity(3 * text.len());
    prepared.extend(text.chars().map(|c| if is_other_space(c) { ' ' } else { c }).nfc());
    Secret::new(prepared)
}

/// Whether a character is a space separator (category Zs) outside of ASCII.
fn is_other_space(c: char) -> bool {
    let is_typographic = ('\u{2000}'..='\u{200a}').contains(&c);
    is_typographic || matches!(c, '\u{a0}' | '\u{1680}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Whether a text matches a hash. A text that is too long never does, but costs the same.
fn matches_hash(text: &Secret, hash: &str) -> bool {
    let bytes = text.expose().as_bytes();
    let read = bytes.get(..BYTES_MAX).unwrap_or(bytes);
    bcrypt::verify(read, hash).unwrap_or(false) && bytes.len() <= BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const COMPOSED: &str = "p\u{e4}ssword long 1";
    const DECOMPOSED: &str = "pa\u{308}ssword long 1";

    fn hasher() -> PasswordHasher {
        let mut limits = Config::from_toml("").unwrap().limits;
        limits.bcrypt_cost = 4;
        PasswordHasher::new(&limits)
    }

    fn stranger() -> HashCaller {
        HashCaller::stranger(None)
    }

    #[tokio::test]
    async fn a_password_matches_in_every_form_in_which_it_is_typed() {
        let hasher = hasher();
        for set in [COMPOSED, DECOMPOSED, "pa\u{308}ssword\u{a0}long 1"] {
            let hash = hasher.hash(Secret::new(set), stranger()).await.unwrap();
            let given = [COMPOSED, DECOMPOSED, "p\u{e4}ssword\u{3000}long\u{2009}1"];
            let wrong = ["password long 1", "p\u{e4}ssword  long 1", "P\u{e4}ssword long 1"];
            for (given, matches) in
                given.map(|g| (g, true)).into_iter().chain(wrong.map(|w| (w, false)))
            {
                let verified = hasher.verify(given.into(), Some(hash.clone()), stranger()).await;
                assert_eq!(verified.unwrap(), matches, "{set:?} {given:?}");
            }
            assert!(!hasher.verify(set.into(), None, stranger()).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_hash_of_an_earlier_release_still_matches_its_text() {
        let hasher = hasher();
        for set in [COMPOSED, DECOMPOSED, "pass\u{a0}word long 1", "password long 1"] {
            let hash = bcrypt::hash(set, 4).unwrap();
            assert!(hasher.verify(set.into(), Some(hash), stranger()).await.unwrap(), "{set:?}");
        }
    }

    #[tokio::test]
    async fn bytes_and_characters_are_counted_after_normalization() {
        // Letters of three bytes, which are three characters of five bytes if they are decomposed.
        let longest = "\u{1e69}".repeat(24);
        let decomposed: String = longest.nfd().collect();
        assert!(longest.len() == BYTES_MAX && decomposed.len() > BYTES_MAX);
        assert!(PasswordHasher::check("password", &decomposed.as_str().into()).is_ok());
        let hasher = hasher();
        let hash = hasher.hash(decomposed.into(), stranger()).await.unwrap();
        assert!(
            hasher.verify(longest.as_str().into(), Some(hash.clone()), stranger()).await.unwrap()
        );
        let longer = format!("{longest}a");
        assert!(!hasher.verify(longer.as_str().into(), Some(hash), stranger()).await.unwrap());
        let eleven = "a\u{308}".repeat(CHARACTERS_MIN - 1);
        for bad in [longer, eleven, "a".repeat(PREPARED_BYTES_MAX + 1)] {
            assert!(PasswordHasher::check("password", &bad.as_str().into()).is_err(), "{bad}");
        }
    }
}
