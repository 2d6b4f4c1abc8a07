//! When a message is sent again. Pure functions.

use std::time::Duration;

use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::clock::Timestamp;

/// Delays after the failed attempts, in seconds: the tenth attempt, 75 hours after the first, is the last.
const DELAYS_S: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Longest delay that a receiver can request.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// Time without a success after which a webhook is disabled, if enough attempts have failed.
pub const FAILING_MAX: Duration = Duration::from_hours(5 * 24);
/// Failed attempts in that time.
pub const FAILURES_MAX: i32 = 10;
/// Why it is then disabled.
pub const FAILED_TOO_LONG: &str = "no success for 5 days, and at least 10 failed attempts";
/// Pending messages with which a webhook is disabled.
pub const PENDING_MAX: i64 = 100_000;

/// The forms of a date in HTTP (RFC 9110, section 5.6.7).
const IMF_FIXDATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);
/// The obsolete form of RFC 850, after the year got four digits.
const RFC_850: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:long], [day]-[month repr:short]-[year] [hour]:[minute]:[second] GMT"
);
const ASCTIME: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
);

/// Returns the delay after attempt `attempt`, from 1, or `None` if it was the last one. `random` varies the delay by 20
/// percent in both directions, so that messages that failed together are not sent together.
#[must_use]
pub fn delay(attempt: i32, random: u8, retry_after: Option<Duration>) -> Option<Duration> {
    let at = usize::try_from(attempt).ok()?.checked_sub(1)?;
    let delay = Duration::from_secs(*DELAYS_S.get(at)?);
    let varied = delay.mul_f64(0.8 + f64::from(random) / f64::from(u8::MAX) * 0.4);
    Some(varied.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)))
}

/// Parses a `Retry-After` header: seconds, or a date in one of the three forms of HTTP. Returns the time from now;
/// `None` for other texts and for a past date.
#[must_use]
pub fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit is a long time.
        return Some(text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs));
    }
    let date = [IMF_FIXDATE, ASCTIME]
        .iter()
        .find_map(|format| PrimitiveDateTime::parse(text, format).ok())
        .or_else(|| PrimitiveDateTime::parse(&with_whole_year(text, now)?, RFC_850).ok())?;
    let wait = Timestamp::from(date.assume_utc()).since(now);
    (!wait.is_zero()).then_some(wait)
}

/// Writes the two digits of the year in a date of RFC 850 as four. A year that seems to be more than 50 years ahead is
/// a past one (RFC 9110).
fn with_whole_year(text: &str, now: Timestamp) -> Option<String> {
    let (before, after) = text.rsplit_once('-')?;
    let (digits, rest) = after.split_at_checked(2)?;
    let this_year = now.to_offset()?.year();
    let year = this_year - this_year % 100 + i32::from(digits.parse::<u8>().ok()?);
    let year = if year > this_year + 50 { year - 100 } else { year };
    Some(format!("{before}-{year}{rest}"))
}

/// Returns whether a webhook is disabled because its receiver has failed for too long.
#[must_use]
pub fn has_failed_too_long(
    failing_since: Option<Timestamp>,
    failures: i32,
    now: Timestamp,
) -> bool {
    failures >= FAILURES_MAX && failing_since.is_some_and(|since| now.since(since) >= FAILING_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_attempts_are_spread_over_75_hours() {
        let middle = 127;
        let delays: Vec<Duration> =
            (1..).map_while(|attempt| delay(attempt, middle, None)).collect();
        assert_eq!(delays.len() + 1, 10);
        let total: Duration = delays.iter().sum();
        assert!((74..77).contains(&(total.as_secs() / 3_600)), "{total:?}");
        for attempt in 1..10 {
            let (least, most) = (delay(attempt, 0, None), delay(attempt, u8::MAX, None));
            let exact = Duration::from_secs(DELAYS_S[usize::try_from(attempt).unwrap() - 1]);
            assert_eq!(least.unwrap().as_millis(), exact.mul_f64(0.8).as_millis());
            assert_eq!(most.unwrap().as_millis(), exact.mul_f64(1.2).as_millis());
        }
        assert_eq!(delay(0, 0, None), None);
    }

    #[test]
    fn a_receiver_can_request_a_longer_delay_of_up_to_24_hours() {
        let asked = |seconds| delay(1, 0, Some(Duration::from_secs(seconds))).unwrap();
        assert_eq!(asked(1), Duration::from_secs(4));
        assert_eq!(asked(60), Duration::from_mins(1));
        assert_eq!(asked(86_400), RETRY_AFTER_MAX);
        assert_eq!(asked(86_401), RETRY_AFTER_MAX);
        assert_eq!(delay(10, 0, Some(Duration::from_mins(1))), None);
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        // Sun, 06 Nov 1994 08:49:37 GMT.
        let now = Timestamp::from_unix_seconds(784_111_777);
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Friday, 31-Dec-93 23:59:59 GMT", None),
            ("Sunday, 06-Nov-x4 08:50:37 GMT", None),
            ("Sunday, 06-Nov-9", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:00:00 GMT", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
        // Thu, 01 Jan 2026 00:00:00 GMT. A year of two digits is at most 50 years ahead.
        let now = Timestamp::from_unix_seconds(1_767_225_600);
        let later = parse_retry_after("Wednesday, 01-Jan-76 00:00:00 GMT", now);
        assert!(later.is_some_and(|wait| wait > RETRY_AFTER_MAX * 365 * 49), "{later:?}");
        assert_eq!(parse_retry_after("Friday, 01-Jan-77 00:00:00 GMT", now), None);
    }

    #[test]
    fn a_webhook_is_disabled_after_5_days_and_10_failures() {
        let since = Timestamp::from_unix_seconds(0);
        let after = |time| since.plus(time);
        assert!(has_failed_too_long(Some(since), FAILURES_MAX, after(FAILING_MAX)));
        let earlier = FAILING_MAX.saturating_sub(Duration::from_secs(1));
        assert!(!has_failed_too_long(Some(since), FAILURES_MAX, after(earlier)));
        assert!(!has_failed_too_long(Some(since), FAILURES_MAX - 1, after(FAILING_MAX)));
        assert!(!has_failed_too_long(None, FAILURES_MAX, after(FAILING_MAX)));
    }
}
