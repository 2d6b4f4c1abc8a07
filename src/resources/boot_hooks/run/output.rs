//! Output of a hook: bounded while it is read, secrets masked, truncated for storage.

use crate::resources::boot_hooks::input::{Environment, VARIABLE_VALUE_BYTES_MAX};
use crate::secret::begun_at_end;

/// Maximum length of the stored output, in characters.
pub const CHARACTERS_MAX: usize = 4096;
/// Characters before the mark in a truncated output.
const CHARACTERS_BEFORE_MARK: usize = 4064;
/// Marks the end of a truncated output.
const MARK: &str = "\n[cut here, there was more]";
/// Replaces a secret.
const MASK: &str = "***";
/// Minimum length of a secret, in bytes: masking shorter values would hide unrelated text.
const SECRET_BYTES_MIN: usize = 6;
/// Enough for the stored characters, at four bytes each, and a secret that begins in the last of them.
const BUFFER_BYTES_MAX: usize = CHARACTERS_MAX * 4 + VARIABLE_VALUE_BYTES_MAX;

/// The beginning of the output, and its total length.
#[derive(Debug, Default)]
pub(super) struct Output {
    buffer: Vec<u8>,
    total: usize,
}

impl Output {
    /// Appends bytes; returns the number of bytes so far.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let room = BUFFER_BYTES_MAX.saturating_sub(self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.total = self.total.saturating_add(bytes.len());
        self.total
    }

    /// Returns the number of bytes so far.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Returns the buffered beginning.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Returns whether the output is longer than the buffered beginning.
    pub(super) fn is_cut(&self) -> bool {
        self.total > self.buffer.len()
    }

    /// Returns the text to store.
    pub(super) fn to_stored(&self, environment: &Environment) -> String {
        mask_and_truncate(&self.buffer, self.is_cut(), environment)
    }
}

/// Masks and truncates an output for storage; `more` says whether `bytes` is only its beginning.
pub(super) fn mask_and_truncate(bytes: &[u8], more: bool, environment: &Environment) -> String {
    let more = more || bytes.len() > BUFFER_BYTES_MAX;
    let bytes = &bytes[..bytes.len().min(BUFFER_BYTES_MAX)];
    // PostgreSQL does not accept NUL in text.
    let text = String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
    let text = mask(text, more, environment);
    if !more && text.chars().count() <= CHARACTERS_MAX {
        return text;
    }
    let mut cut: String = text.chars().take(CHARACTERS_BEFORE_MARK).collect();
    cut.push_str(MARK);
    cut
}

fn mask(mut text: String, more: bool, environment: &Environment) -> String {
    let mut secrets: Vec<&str> = environment
        .iter()
        .map(|(_, value)| value)
        .filter(|v| v.len() >= SECRET_BYTES_MIN)
        .collect();
    // Longest first: if one secret contains another, no rest of it may remain.
    secrets.sort_by_key(|value| std::cmp::Reverse(value.len()));
    for secret in &secrets {
        if text.contains(secret) {
            text = text.replace(secret, MASK);
        }
    }
    if more {
        // The text may have been truncated inside a secret: remove the beginning of that secret.
        let begun = |secret: &&str| begun_at_end(&text, secret, 1);
        let longest = secrets.iter().filter_map(begun).max().unwrap_or(0);
        text.truncate(text.len() - longest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> Environment {
        let named = values.iter().enumerate().map(|(i, v)| (format!("V{i}"), (*v).to_owned()));
        Environment::parse("environment", named).unwrap()
    }

    #[test]
    fn stored_output_is_limited_and_marks_where_it_was_truncated() {
        let none = Environment::default();
        let whole = "\u{20ac}".repeat(CHARACTERS_MAX);
        assert_eq!(mask_and_truncate(whole.as_bytes(), false, &none), whole);
        for (text, more) in [(format!("{whole}x"), false), (whole.clone(), true)] {
            let cut = mask_and_truncate(text.as_bytes(), more, &none);
            assert!(cut.ends_with(MARK) && cut.chars().count() <= CHARACTERS_MAX, "{cut}");
            assert!(cut.starts_with(&"\u{20ac}".repeat(CHARACTERS_BEFORE_MARK)));
        }
        let mut output = Output::default();
        for _ in 0..100 {
            output.append(&[b'x'; 4096]);
        }
        assert_eq!((output.buffer.len(), output.total), (BUFFER_BYTES_MAX, 409_600));
        assert_eq!(mask_and_truncate(b"a\0\xff", false, &none), "a\u{fffd}\u{fffd}");
    }

    #[test]
    fn t17_complete_and_truncated_values_of_variables_are_masked() {
        let both = secrets(&["hunter2", "hunter2-and-more", "short"]);
        let text = "a hunter2-and-more b hunter2 c short";
        assert_eq!(mask_and_truncate(text.as_bytes(), false, &both), "a *** b *** c short");
        let long = "s".repeat(4000);
        let one = secrets(&[&long]);
        let text = format!("{}{}", "x".repeat(BUFFER_BYTES_MAX - 3999), &long[..3999]);
        assert!(
            !mask_and_truncate(text.as_bytes(), true, &one)
                .contains('s'.to_string().repeat(2).as_str())
        );
        let hidden = format!("{}{}", "z".repeat(100), &long[..200]);
        assert!(
            !mask_and_truncate(hidden.as_bytes(), true, &one).contains("ss"),
            "begun, and cut there"
        );
    }
}
