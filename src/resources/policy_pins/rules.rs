//! What a call may do to a pin, without a database.

use crate::clock::Timestamp;
use crate::error::Error;
use crate::role::Role;

/// Maximum length of a reason, in characters.
pub const REASON_CHARACTERS_MAX: usize = 1_000;

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

/// Returns whether an end at `to` makes a pin shorter than its end at `from`. `None` is a pin without an end.
#[must_use]
pub fn is_shorter(from: Option<Timestamp>, to: Option<Timestamp>) -> bool {
    match (from, to) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(from), Some(to)) => to < from,
    }
}

/// Returns whether a pin is in force.
#[must_use]
pub fn is_in_force(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_none_or(|at| at > now)
}

/// Checks that a caller may shorten or remove a pin (T01). Under an approval workflow, a review decides besides.
///
/// # Errors
/// `ROLE_TOO_LOW` if the role of the caller is below that of the setters.
pub fn check_weaken(caller: Role, setter: Role) -> Result<(), Error> {
    if caller < setter {
        let why = format!(
            "the pin was set with role `{setter}`: only a caller with at least this role can shorten or remove it, \
             the caller has `{caller}`"
        );
        return Err(Error::Denied { why });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Timestamp = Timestamp::from_unix_micros(2);
    const SOON: Timestamp = Timestamp::from_unix_micros(1);

    #[test]
    fn a_reason_is_one_line_of_limited_length() {
        let most = "\u{e4}".repeat(REASON_CHARACTERS_MAX);
        assert_eq!(parse_reason("reason", &most).unwrap(), Some(most.clone()));
        assert_eq!(parse_reason("reason", " ").unwrap(), None);
        for bad in ["a\nb", "a\0b", "\u{1b}[2J", &format!("{most}a")] {
            assert!(parse_reason("reason", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pin_without_an_end_is_the_longest() {
        for (from, to, expected) in [
            (None, None, false),
            (None, Some(LATER), true),
            (Some(SOON), None, false),
            (Some(SOON), Some(SOON), false),
            (Some(SOON), Some(LATER), false),
            (Some(LATER), Some(SOON), true),
        ] {
            assert_eq!(is_shorter(from, to), expected, "{from:?} {to:?}");
        }
    }

    #[test]
    fn a_pin_ends_at_its_time() {
        assert!(is_in_force(None, LATER) && is_in_force(Some(LATER), SOON));
        assert!(!is_in_force(Some(SOON), SOON) && !is_in_force(Some(SOON), LATER));
    }

    #[test]
    fn only_the_role_of_the_setters_weakens_a_pin() {
        for caller in Role::ALL {
            for setter in Role::ALL {
                let checked = check_weaken(caller, setter);
                assert_eq!(checked.is_ok(), caller >= setter, "{caller} {setter}");
            }
        }
        let too_low = check_weaken(Role::Operator, Role::Admin);
        assert!(matches!(too_low, Err(Error::Denied { .. })));
    }
}
