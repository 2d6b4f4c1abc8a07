//! Every call has an id that log, audit and the caller share. One that the caller sends is checked, else replaced
//! (T19): it must be a UUID, since it stands in the audit log.

use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

/// The header.
pub const HEADER: &str = "x-request-id";

/// The caller's id where it is a UUID, else a new one.
#[must_use]
pub fn of(headers: &HeaderMap, new: impl FnOnce() -> Uuid) -> Uuid {
    let sent = headers.get(HEADER).and_then(|value| value.to_str().ok());
    sent.filter(|text| text.len() == 36)
        .and_then(|text| Uuid::try_parse(text).ok())
        .unwrap_or_else(new)
}

/// The id as the header has it.
///
/// # Panics
/// Never: a UUID is plain text.
#[must_use]
pub fn value(id: Uuid) -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).expect("a UUID is plain text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_is_taken_over() {
        let fresh = Uuid::from_u128(7);
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers, || fresh), fresh);
        headers.insert(HEADER, "1; drop table audit_log".parse().unwrap());
        assert_eq!(of(&headers, || fresh), fresh);
        let sent = Uuid::from_u128(9);
        headers.insert(HEADER, sent.to_string().parse().unwrap());
        assert_eq!(of(&headers, || fresh), sent);
    }
}
