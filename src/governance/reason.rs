//! The reason that a person gives for a rule or its removal.

use crate::error::Error;
use crate::texts::check_line;

/// Maximum length of a reason, in characters.
const REASON_CHARACTERS_MAX: usize = 1_000;

/// Parses a reason of one line; `None` if it is empty.
///
/// # Errors
/// `Invalid` if it is too long, or has control characters or marks of direction.
pub fn parse_reason(field: &str, text: &str) -> Result<Option<String>, Error> {
    check_line(field, text, REASON_CHARACTERS_MAX)?;
    Ok((!text.trim().is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_a_reason_is_read_as_it_is_stored() {
        for bad in ["safe \u{202e}live", "\u{2066}a\u{2069}", "a\u{2028}b", "a\u{e0062}"] {
            assert!(parse_reason("reason", bad).is_err(), "{bad:?}");
        }
        // An emoji, and a word of Persian.
        for good in
            ["\u{2764}\u{fe0f}", "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}"]
        {
            assert!(parse_reason("reason", good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_reason_is_one_line_of_limited_length() {
        let most = "\u{e4}".repeat(REASON_CHARACTERS_MAX);
        assert_eq!(parse_reason("reason", &most).unwrap(), Some(most.clone()));
        assert_eq!(parse_reason("reason", " ").unwrap(), None);
        for bad in ["a\nb", "a\0b", "\u{1b}[2J", &format!("{most}a")] {
            assert!(parse_reason("reason", bad).is_err(), "{bad:?}");
        }
    }
}
