//! Deadlines of calls, as sent in `grpc-timeout`.
//!
//! The format is defined by gRPC over HTTP/2: 1 to 8 digits and a unit.

use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::error::Error;

/// Longest deadline that is applied, in seconds; a longer one is treated as no deadline.
const DEADLINE_SECONDS_MAX: u64 = 366 * 24 * 60 * 60;

/// Parses `grpc-timeout`, 1 to 8 digits and a unit. Returns the time at which the caller stops waiting. A malformed
/// value is an error.
pub fn from_headers(headers: &HeaderMap, now: Instant) -> Result<Option<Instant>, Error> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let malformed = || Error::invalid("grpc-timeout", "must be 1 to 8 digits and a unit");
    let timeout = value.to_str().ok().and_then(parse_timeout).ok_or_else(malformed)?;
    if timeout.as_secs() > DEADLINE_SECONDS_MAX {
        return Ok(None);
    }
    Ok(now.checked_add(timeout))
}

/// Returns the error for a call whose deadline has passed.
#[must_use]
pub fn deadline_exceeded() -> Error {
    Error::DeadlineExceeded { why: "the deadline of the call has passed".to_owned() }
}

/// Returns the error for a request that does not arrive in time.
#[must_use]
pub fn request_timed_out() -> Error {
    Error::DeadlineExceeded { why: "the request has not arrived in time".to_owned() }
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back().filter(char::is_ascii)?;
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(n * 3600)),
        'M' => Some(Duration::from_secs(n * 60)),
        'S' => Some(Duration::from_secs(n)),
        'm' => Some(Duration::from_millis(n)),
        'u' => Some(Duration::from_micros(n)),
        'n' => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

/// Returns the remaining time as `grpc-timeout` for the next hop, with at most 8 digits.
#[must_use]
pub fn remaining_timeout(deadline: Instant, now: Instant) -> String {
    let left = deadline.saturating_duration_since(now);
    let us = left.as_micros();
    if us < 100_000_000 {
        format!("{}u", us.max(1))
    } else if left.as_millis() < 100_000_000 {
        format!("{}m", left.as_millis())
    } else {
        format!("{}S", left.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_parsed_as_grpc_timeout() {
        assert_eq!(parse_timeout("1H"), Some(Duration::from_hours(1)));
        assert_eq!(parse_timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "1", "S", "999999999S", "-1S", "1.5S", "1x", "1\u{b5}"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_remaining_time_fits_in_eight_digits() {
        let now = Instant::now();
        for (seconds, expected) in
            [(0, "1u"), (5, "5000000u"), (500, "500000m"), (200_000, "200000S")]
        {
            assert_eq!(remaining_timeout(now + Duration::from_secs(seconds), now), expected);
        }
    }
}
