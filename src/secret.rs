//! Text that must not be logged or displayed: tokens, passwords, database URLs with a password.
//!
//! Invariants
//! - it has neither `Display` nor `Serialize`, and `Debug` hides it, so that it cannot get into a log by accident;
//! - comparison takes the same time for all values of the same length, equal or not;
//! - the memory is overwritten on drop.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A text that is not displayed. [`Secret::expose`] is the only access to it, and easy to search for.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

// Constant time: an early exit would reveal to an attacker how many leading bytes are correct.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// Returns the number of bytes at the end of a text that are the beginning of a secret, at least `bytes_min` of them. A
/// text that was cut within a secret has this part of it, which a search for the whole secret does not find. Returns
/// `None` if the text ends otherwise.
#[must_use]
pub fn begun_at_end(text: &str, secret: &str, bytes_min: usize) -> Option<usize> {
    let ends = |bytes: &usize| secret.get(..*bytes).is_some_and(|begin| text.ends_with(begin));
    (bytes_min..secret.len()).rev().find(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_secret_is_found_at_the_end_of_a_text() {
        for (text, secret, bytes_min, found) in [
            ("a hid", "hidden", 1, Some(3)),
            ("a hid", "hidden", 3, Some(3)),
            ("a hid", "hidden", 4, None),
            // The longest beginning counts.
            ("xabab", "ababc", 1, Some(4)),
            // The whole secret is not a beginning of it.
            ("a hidden", "hidden", 1, None),
            ("\u{e4}", "\u{e4}b", 1, Some(2)),
            ("a", "", 1, None),
            ("", "a", 1, None),
        ] {
            assert_eq!(begun_at_end(text, secret, bytes_min), found, "{text} {secret}");
        }
    }

    #[test]
    fn debug_output_hides_the_secret() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(..)");
    }

    #[test]
    fn only_secrets_with_equal_text_are_equal() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("aa"));
    }
}
