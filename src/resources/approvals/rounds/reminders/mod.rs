//! When the voters of an open round are reminded of it: some hours after it was opened, then daily, and once before it
//! expires.
//!
//! Invariants
//! - the next reminder is stored in the transaction of the event of the previous one: each is sent once, even if a
//!   replica crashes;
//! - reminders that are overdue are sent as one;
//! - a round that was decided or has ended has no reminders.

pub mod store;

use std::time::Duration;

use super::Round;
use crate::clock::Timestamp;

/// Time from the last reminder to the end of voting.
pub const LAST_BEFORE_EXPIRY: Duration = Duration::from_hours(2);
/// Time between two reminders.
pub const INTERVAL: Duration = Duration::from_hours(24);

/// Returns the first reminder after `now`; `None` if voting ends before. `first_after` is the time from the opening to the
/// first one.
#[must_use]
pub fn next(round: &Round, first_after: Duration, now: Timestamp) -> Option<Timestamp> {
    let first = round.opened_at.plus(first_after);
    let regular = if now < first {
        first
    } else {
        let passed = now.since(first).as_secs() / INTERVAL.as_secs();
        first.plus(Duration::from_secs((passed + 1) * INTERVAL.as_secs()))
    };
    let Some(expires_at) = round.expires_at else { return Some(regular) };
    let last = expires_at.minus(LAST_BEFORE_EXPIRY);
    if last <= round.opened_at {
        // Voting takes less than two hours.
        return (regular < expires_at).then_some(regular);
    }
    (now < last).then(|| regular.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::approvals::rounds::tests::round;

    const FIRST: Duration = Duration::from_hours(4);

    /// Returns all reminders of a round that expires after this time, in minutes after its opening.
    fn all(expires: Option<u64>, first: Duration, until: u64) -> Vec<u64> {
        let at = |minutes: u64| Timestamp::EPOCH.plus(Duration::from_mins(minutes));
        let round = Round { expires_at: expires.map(at), ..round() };
        let mut found = Vec::new();
        let mut now = round.opened_at;
        while let Some(reminder) = next(&round, first, now) {
            assert!(reminder > now);
            now = reminder;
            if now > at(until) {
                break;
            }
            found.push(now.since(round.opened_at).as_secs() / 60);
        }
        found
    }

    #[test]
    fn a_reminder_comes_after_four_hours_then_daily_and_two_hours_before_the_end() {
        let hours = |of: Vec<u64>| of.into_iter().map(|minutes| minutes / 60).collect::<Vec<_>>();
        let week = all(Some(7 * 24 * 60), FIRST, u64::from(u32::MAX));
        assert_eq!(hours(week), [4, 28, 52, 76, 100, 124, 148, 166]);
        assert_eq!(hours(all(None, FIRST, 60 * 60)), [4, 28, 52]);
    }

    #[test]
    fn the_last_reminder_is_sent_once_and_a_short_round_has_none_of_it() {
        // The last one is the first one, and no other one follows.
        assert_eq!(all(Some(6 * 60), FIRST, 10_000), [4 * 60]);
        assert_eq!(all(Some(3 * 60), FIRST, 10_000), [60]);
        assert_eq!(all(Some(29 * 60), FIRST, 10_000), [4 * 60, 27 * 60]);
        assert!(all(Some(60), FIRST, 10_000).is_empty());
        assert_eq!(all(Some(60), Duration::from_mins(30), 10_000), [30]);
    }

    #[test]
    fn overdue_reminders_are_one() {
        let at = |hours| Timestamp::EPOCH.plus(Duration::from_hours(hours));
        let round = Round { expires_at: Some(at(7 * 24)), ..round() };
        assert_eq!(next(&round, FIRST, at(90)), Some(at(100)));
        assert_eq!(next(&round, FIRST, at(28)), Some(at(52)));
        assert_eq!(next(&round, FIRST, at(166)), None);
    }
}
