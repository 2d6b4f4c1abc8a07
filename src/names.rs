//! Names of service principals and groups, the characters of names and addresses, and the text form of principals.
//!
//! Invariants
//! - two names that are displayed alike are equal: a new name is in Unicode normalization form C and has no invisible
//!   character;
//! - only ASCII letters are the same in both cases: with the rules of Unicode, `\u{212a}` (KELVIN SIGN) would be a `k`,
//!   and the address of one person would open the account of another.

use unicode_normalization::is_nfc;

use crate::characters::is_invisible;
use crate::error::Error;

/// Maximum length of a name, in characters.
pub const NAME_CHARACTERS_MAX: usize = 100;
/// Longest name of a gateway, in characters.
pub const GATEWAY_NAME_CHARACTERS_MAX: usize = 253;

/// A valid name: 1 to 100 characters without a special meaning in terminals, paths or web pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Parses a name of a request.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let count = text.chars().count();
        if !(1..=NAME_CHARACTERS_MAX).contains(&count) {
            let why = format!("must have 1 to {NAME_CHARACTERS_MAX} characters, got {count}");
            return Err(Error::invalid(field, why));
        }
        let good = |c: char| is_letter_or_digit(c) || "._-@/ ".contains(c);
        if !text.chars().all(good) || text.trim() != text || !is_nfc(text) {
            let why = "must be letters, digits, `.`, `_`, `-`, `@`, `/` and inner spaces";
            return Err(Error::invalid(field, why));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a character is a letter or a digit, of any script, and visible.
#[must_use]
pub fn is_letter_or_digit(c: char) -> bool {
    c.is_alphanumeric() && !is_invisible(c)
}

/// Returns the form in which an e-mail address is stored and compared: without ASCII spaces at its ends, and with ASCII
/// letters in lower case.
#[must_use]
pub fn fold_address(text: &str) -> String {
    text.trim_matches(|c: char| c.is_ascii_whitespace()).to_ascii_lowercase()
}

/// Whether a text is a host name in the form in which it is compared: labels of visible letters, digits and `-`, ASCII
/// letters in lower case, in normalization form C.
#[must_use]
pub fn is_folded_host(text: &str) -> bool {
    let good = |c: char| (is_letter_or_digit(c) && !c.is_ascii_uppercase()) || "-.".contains(c);
    !text.is_empty() && !text.starts_with('.') && text.chars().all(good) && is_nfc(text)
}

/// Parses the text form of a principal in the configuration, `user:<id>` or `service_principal:<id>`. Returns `None`
/// for any other spelling, so that each principal has exactly one text form.
#[must_use]
pub fn parse_principal(text: &str) -> Option<(&str, i64)> {
    let (kind, digits) = text.split_once(':')?;
    let id: i64 = digits.parse().ok()?;
    let exact = matches!(kind, "user" | "service_principal") && id > 0 && id.to_string() == digits;
    exact.then_some((kind, id))
}

/// Validates a name to look up. Stored names may predate the rules of [`Name`]; only names that no database can contain
/// are refused.
pub fn check_lookup_name(field: &str, text: String) -> Result<String, Error> {
    check_length(field, text, NAME_CHARACTERS_MAX)
}

/// The same for the name of a gateway.
pub fn check_lookup_gateway_name(field: &str, text: String) -> Result<String, Error> {
    check_length(field, text, GATEWAY_NAME_CHARACTERS_MAX)
}

fn check_length(field: &str, text: String, characters_max: usize) -> Result<String, Error> {
    if text.is_empty() {
        return Err(Error::invalid(field, "is required"));
    }
    let count = text.chars().count();
    if count > characters_max {
        let why = format!("must be at most {characters_max} characters, got {count}");
        return Err(Error::invalid(field, why));
    }
    if text.contains(char::is_control) {
        return Err(Error::invalid(field, "must be free of control characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_limited_length_and_no_control_characters() {
        assert!(Name::parse("name", "ci/deploy bot@example.com").is_ok());
        assert!(Name::parse("name", &"a".repeat(NAME_CHARACTERS_MAX)).is_ok());
        for bad in
            ["", " ", " a", "a ", "a\nb", "a\u{202e}b", "<a>", &"a".repeat(NAME_CHARACTERS_MAX + 1)]
        {
            assert!(Name::parse("name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_new_name_is_normalized_and_has_no_invisible_character() {
        assert!(Name::parse("name", "L\u{fc}beck").is_ok());
        // A decomposed letter, letters that are equal to others, fillers that count as letters, and other spaces.
        for bad in [
            "Lu\u{308}beck",
            "\u{212a}im",
            "\u{212b}",
            "a\u{115f}",
            "a\u{1160}",
            "a\u{3164}",
            "a\u{ffa0}",
            "a\u{200b}b",
            "a\u{ad}b",
            "a\u{a0}b",
            "a\u{e0041}",
            "\u{feff}a",
        ] {
            assert!(Name::parse("name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_ascii_letters_of_an_address_are_folded() {
        assert_eq!(fold_address(" Kim@Example.COM\n"), "kim@example.com");
        for other in ["\u{212a}im@example.com", "\u{c4}rger@example.com", "\u{a0}kim@example.com"] {
            assert_eq!(fold_address(other), other);
        }
    }

    #[test]
    fn a_folded_host_is_visible_and_in_lower_case() {
        for good in ["example.com", "a-1.example", "m\u{fc}nchen.example"] {
            assert!(is_folded_host(good), "{good}");
        }
        for bad in ["", ".example", "Example.com", "\u{212a}im.example", "a\u{200b}.example", "@a"]
        {
            assert!(!is_folded_host(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_lookup_accepts_names_that_are_older_than_the_naming_rules() {
        for good in ["Team: A & B", " a", &"\u{e4}".repeat(NAME_CHARACTERS_MAX)] {
            assert_eq!(check_lookup_name("group", good.to_owned()).unwrap(), good);
        }
        for bad in ["", "a\0b", "a\nb", &"\u{e4}".repeat(NAME_CHARACTERS_MAX + 1)] {
            assert!(check_lookup_name("group", bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
