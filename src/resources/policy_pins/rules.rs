//! The effect of a repeated pin, without a database.

use std::cmp::Ordering;

use crate::clock::Timestamp;

/// Compares an end of a pin with another one: the later one is greater. `None` is a pin without an end.
#[must_use]
pub fn compare_ends(end: Option<Timestamp>, other: Option<Timestamp>) -> Ordering {
    match (end, other) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(end), Some(other)) => end.cmp(&other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Timestamp = Timestamp::from_unix_micros(2);
    const SOON: Timestamp = Timestamp::from_unix_micros(1);

    #[test]
    fn a_pin_without_an_end_is_the_longest() {
        for (end, other, expected) in [
            (None, None, Ordering::Equal),
            (None, Some(LATER), Ordering::Greater),
            (Some(SOON), None, Ordering::Less),
            (Some(SOON), Some(SOON), Ordering::Equal),
            (Some(LATER), Some(SOON), Ordering::Greater),
            (Some(SOON), Some(LATER), Ordering::Less),
        ] {
            assert_eq!(compare_ends(end, other), expected, "{end:?} {other:?}");
        }
    }
}
