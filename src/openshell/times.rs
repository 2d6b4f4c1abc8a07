//! Times that a gateway reports.

use crate::clock::Timestamp;

/// Returns a time that a gateway reports, in microseconds since 1970. `None` if it is not set, or later than the year
/// 9999: neither the database nor a response can have such a time (T20).
pub(super) fn reported_time(micros: i64) -> Option<Timestamp> {
    let at = Timestamp::from_unix_micros(micros);
    (micros > 0 && at.to_offset().is_some()).then_some(at)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::openshell::{v0_0, v0_1};
    use crate::pb::v0_0::openshell::v1 as pb_v0_0;
    use crate::pb::v0_1::openshell::v1 as pb_v0_1;

    /// The last second of the year 9999.
    const LAST: i64 = 253_402_300_799;

    #[test]
    fn t20_a_time_that_no_response_can_have_is_not_read() {
        for (micros, is_read) in [
            (i64::MIN, false),
            (0, false),
            (1, true),
            (LAST * 1_000_000 + 999_999, true),
            ((LAST + 1) * 1_000_000, false),
            (i64::MAX, false),
        ] {
            let expected = is_read.then(|| Timestamp::from_unix_micros(micros));
            assert_eq!(reported_time(micros), expected, "{micros}");
        }
        for (seconds, is_read) in [(LAST, true), (LAST + 1, false), (i64::MAX / 1_000, false)] {
            let old = pb_v0_0::CreateSshSessionResponse {
                expires_at_ms: seconds.saturating_mul(1_000),
                ..Default::default()
            };
            let new = pb_v0_1::CreateSshSessionResponse {
                expiration_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
                ..Default::default()
            };
            let old = v0_0::decode_ssh_session(&old.encode_to_vec()).unwrap();
            let new = v0_1::decode_ssh_session(&new.encode_to_vec()).unwrap();
            assert_eq!((old.expires_at.is_some(), new.expires_at.is_some()), (is_read, is_read));
        }
    }
}
