//! Texts of gateways and agents as readers see them: bounded, and without characters that readers do not see, which are
//! counted (T20).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::characters::{CUT, excerpt, is_invisible};
use crate::seal::{SHA256_DIGITS, hex, is_sha256_hex};

/// Maximum size of the texts of a gateway or an agent in one approval, in bytes. Rules do not count: they are what is
/// reviewed.
pub const ITEM_BYTES_MAX: usize = 32 << 10;

/// What precedes the hash of a text that is cut.
const HASH_LABEL: &str = " sha256:";

/// Counts of the changes that made texts harmless.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quoting {
    /// Number of characters that were replaced, except for line breaks and tabs.
    pub replaced: u32,
    /// Whether a text is cut.
    pub is_cut: bool,
}

impl Quoting {
    /// Returns a text as readers see it. A text that is cut ends with [`CUT`].
    pub fn quote(&mut self, text: &str, characters_max: usize) -> String {
        self.count(text, characters_max);
        self.is_cut |= text.chars().nth(characters_max).is_some();
        excerpt(text, characters_max)
    }

    /// Returns a text that is reviewed as readers see it. A text that is cut ends with [`CUT`] and the SHA-256 of the
    /// whole, since an approval must not count for another text with the same beginning (T20).
    pub fn quote_reviewed(&mut self, text: &str, characters_max: usize) -> String {
        if text.chars().nth(characters_max).is_none() {
            return self.quote(text, characters_max);
        }
        let kept = characters_max.saturating_sub(HASH_LABEL.len() + SHA256_DIGITS);
        let hash = hex(&Sha256::digest(text.as_bytes()));
        format!("{}{HASH_LABEL}{hash}", self.quote(text, kept))
    }

    /// Counts what is replaced in the beginning of a text that is shown.
    fn count(&mut self, text: &str, characters_max: usize) {
        let shown = text.chars().take(characters_max);
        let hidden = shown.filter(|c| is_invisible(*c) && !"\n\r\t".contains(*c)).count();
        self.replaced = self.replaced.saturating_add(u32::try_from(hidden).unwrap_or(u32::MAX));
    }
}

/// Returns whether a text ends as [`Quoting::quote_reviewed`] ends a text that it cuts.
#[must_use]
pub fn ends_with_hash(text: &str) -> bool {
    let parts = text.rsplit_once(HASH_LABEL);
    parts.is_some_and(|(kept, hash)| kept.ends_with(CUT) && is_sha256_hex(hash))
}

/// The room that is left for texts in one approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room(usize);

impl Room {
    /// Returns a room of this size, in bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    /// Takes this many bytes. Returns false if fewer are left.
    pub fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    /// Cuts a text for which there is not enough room. Returns whether it was cut.
    pub fn fit(&mut self, text: &mut String) -> bool {
        if self.take(text.len()) {
            return false;
        }
        *text = cut(text, self.0).unwrap_or_default();
        self.take(text.len());
        true
    }

    /// Keeps the first texts for which there is room, and cuts the next one. Returns the number of those that are not
    /// complete.
    pub fn keep(&mut self, texts: &mut Vec<String>) -> usize {
        let fitting = texts.iter().take_while(|text| self.take(text.len())).count();
        let omitted = texts.len() - fitting;
        let part = texts.get(fitting).and_then(|next| cut(next, self.0));
        texts.truncate(fitting);
        if let Some(part) = part {
            self.take(part.len());
            texts.push(part);
        }
        omitted
    }
}

/// Returns the beginning of a text with a mark, at most `bytes_max` bytes. `None` if there is room for the mark only.
fn cut(text: &str, bytes_max: usize) -> Option<String> {
    let bytes = bytes_max.checked_sub(CUT.len_utf8())?;
    let kept = &text[..text.floor_char_boundary(bytes)];
    (!kept.is_empty()).then(|| format!("{kept}{CUT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_replaced_characters_are_counted_and_cut_texts_have_a_mark() {
        let mut quoting = Quoting::default();
        assert_eq!(quoting.quote("a\u{202e}b\nc\td\u{1b}", 100), "a b c d ");
        assert_eq!(quoting, Quoting { replaced: 2, is_cut: false });
        assert_eq!(quoting.quote("abc", 3), "abc");
        assert!(!quoting.is_cut);
        assert_eq!(quoting.quote("abc\u{200b}", 3), "ab\u{2026}");
        // What is cut is not counted.
        assert_eq!(quoting, Quoting { replaced: 2, is_cut: true });
    }

    #[test]
    fn t20_reviewed_texts_with_the_same_beginning_differ_by_their_hash() {
        let text = |end: &str| format!("{}{end}", "\u{e4}".repeat(100));
        let mut quoting = Quoting::default();
        assert_eq!(quoting.quote_reviewed(&text(""), 100), text(""));
        assert!(!quoting.is_cut && !ends_with_hash(&text("")));
        let [one, other] = ["x", "y"].map(|end| quoting.quote_reviewed(&text(end), 100));
        assert!(quoting.is_cut && ends_with_hash(&one) && ends_with_hash(&other));
        assert_eq!((one.chars().count(), other.chars().count()), (100, 100));
        assert!(
            one != other && one[..one.len() - SHA256_DIGITS] == other[..one.len() - SHA256_DIGITS]
        );
    }

    #[test]
    fn t20_the_texts_of_an_approval_are_limited_together() {
        let text = |length: usize| "\u{e4}".repeat(length / 2);
        let mut room = Room::new(1_000);
        let mut texts = vec![text(400), text(400), text(400), text(2)];
        assert_eq!(room.keep(&mut texts), 2);
        let sizes: Vec<usize> = texts.iter().map(String::len).collect();
        assert_eq!(sizes, [400, 400, 199]);
        assert!(texts[2].ends_with(CUT));
        assert_eq!(room.keep(&mut vec!["more".to_owned()]), 1);
        let mut fitting = vec![text(1_000)];
        assert_eq!(Room::new(1_000).keep(&mut fitting), 0);
        assert_eq!(fitting, [text(1_000)]);
        let mut none = vec![text(2)];
        assert_eq!((Room::new(0).keep(&mut none), none.len()), (1, 0));
    }
}
