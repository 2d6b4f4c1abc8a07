//! The reason that a person gives for a rule or its removal.

use crate::error::Error;

/// Maximum length of a reason, in characters.
const REASON_CHARACTERS_MAX: usize = 1_000;

/// Parses a reason of one line; `None` if it is empty.
///
/// # Errors
/// `Invalid` if it is too long or has control characters.
pub fn parse_reason(field: &str, text: &str) -> Result<Option<String>, Error> {
    let count = text.chars().count();
    if count > REASON_CHARACTERS_MAX {
        let why = format!("must be at most {REASON_CHARACTERS_MAX} characters, got {count}");
        return Err(Error::invalid(field, why));
    }
    if text.contains(char::is_control) {
        return Err(Error::invalid(field, "must be free of control characters"));
    }
    Ok((!text.trim().is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
