//! Names of service principals and groups, and the text form of principals.

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
        let good = |c: char| c.is_alphanumeric() || "._-@/ ".contains(c);
        if !text.chars().all(good) || text.trim() != text {
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
    fn a_lookup_accepts_names_that_are_older_than_the_naming_rules() {
        for good in ["Team: A & B", " a", &"\u{e4}".repeat(NAME_CHARACTERS_MAX)] {
            assert_eq!(check_lookup_name("group", good.to_owned()).unwrap(), good);
        }
        for bad in ["", "a\0b", "a\nb", &"\u{e4}".repeat(NAME_CHARACTERS_MAX + 1)] {
            assert!(check_lookup_name("group", bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
