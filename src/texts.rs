//! Checks of texts in requests: those for people, such as descriptions, comments, reasons and commands, and those to
//! search for.
//!
//! Invariants
//! - a text for people is read as it is stored: [`crate::characters`] says which characters would make a reader see
//!   another one.

use crate::characters::is_plain_text;
use crate::error::Error;

/// Checks the length of a text.
///
/// # Errors
/// `Invalid` if it has more than `characters_max` characters.
pub fn check_length(field: &str, text: &str, characters_max: usize) -> Result<(), Error> {
    let count = text.chars().count();
    if count > characters_max {
        let why = format!("must be at most {characters_max} characters, got {count}");
        return Err(Error::invalid(field, why));
    }
    Ok(())
}

/// Checks a text to search for, of at most `characters_max` characters. It may be empty.
///
/// # Errors
/// `Invalid` if it is too long or has control characters.
pub fn check_search(field: &str, text: &str, characters_max: usize) -> Result<(), Error> {
    check_length(field, text, characters_max)?;
    if text.contains(char::is_control) {
        return Err(Error::invalid(field, "must be free of control characters"));
    }
    Ok(())
}

/// Checks a text of one line, of at most `characters_max` characters. It may be empty.
///
/// # Errors
/// `Invalid` if it is too long, or has control characters or marks of direction.
pub fn check_line(field: &str, text: &str, characters_max: usize) -> Result<(), Error> {
    check_text(field, text, characters_max, "")
}

/// Checks a text in the same way, which can have the control characters of `allowed`: line breaks, or those and tabs.
///
/// # Errors
/// `Invalid` if it is too long, or has other control characters or marks of direction.
pub fn check_text(
    field: &str,
    text: &str,
    characters_max: usize,
    allowed: &str,
) -> Result<(), Error> {
    check_length(field, text, characters_max)?;
    if is_plain_text(text, allowed) {
        return Ok(());
    }
    let why = if allowed.is_empty() {
        "must be free of control characters and marks of direction"
    } else {
        "must be free of control characters other than line breaks, and of marks of direction"
    };
    Err(Error::invalid(field, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_checked_for_its_length_and_its_characters() {
        let why = |found: Result<(), Error>| found.unwrap_err().to_string();
        for text in ["", "\u{e4}\u{e4}"] {
            assert!(check_line("a", text, 2).is_ok() && check_text("a", text, 2, "\n").is_ok());
            assert!(check_length("a", text, 2).is_ok() && check_search("a", text, 2).is_ok());
        }
        assert!(why(check_length("a", "\u{e4}bc", 2)).contains("at most 2 characters, got 3"));
        assert!(why(check_search("a", "\u{e4}bc", 2)).contains("at most 2 characters, got 3"));
        assert!(why(check_search("a", "\n", 2)).contains("free of control characters"));
        // Stored texts can be older than the rules for new ones.
        assert!(check_search("a", "\u{202e}", 2).is_ok());
        assert!(why(check_line("a", "\u{e4}bc", 2)).contains("at most 2 characters, got 3"));
        assert!(why(check_text("a", "a\nbc", 3, "\n")).contains("at most 3 characters, got 4"));
        assert!(check_text("a", "a\n", 2, "\n").is_ok());
        for bad in ["\n", "\u{202e}"] {
            assert!(
                why(check_line("a", bad, 2)).contains("control characters and marks"),
                "{bad:?}"
            );
        }
        for bad in ["\t", "\u{202e}"] {
            let why = why(check_text("a", bad, 2, "\n"));
            assert!(why.contains("other than line breaks, and of marks"), "{bad:?}: {why}");
        }
    }
}
