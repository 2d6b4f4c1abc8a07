//! The id that the log, the audit log and the caller share for a call. An id sent by the caller is used only if it is a
//! UUID, since the audit log stores it (T19); otherwise it is replaced.

use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

/// Name of the header.
pub const HEADER: &str = "x-request-id";

/// Returns the caller's id if it is a UUID, otherwise a new id.
#[must_use]
pub fn from_headers(headers: &HeaderMap, new: impl FnOnce() -> Uuid) -> Uuid {
    let sent = headers.get(HEADER).and_then(|value| value.to_str().ok());
    sent.filter(|text| text.len() == 36)
        .and_then(|text| Uuid::try_parse(text).ok())
        .unwrap_or_else(new)
}

/// Returns the id as a header value.
///
/// # Panics
/// Never: a UUID is ASCII.
#[must_use]
pub fn to_header(id: Uuid) -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).expect("a UUID is plain text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_request_id_of_the_caller_is_used() {
        let fresh = Uuid::from_u128(7);
        let mut headers = HeaderMap::new();
        assert_eq!(from_headers(&headers, || fresh), fresh);
        headers.insert(HEADER, "1; drop table audit_log".parse().unwrap());
        assert_eq!(from_headers(&headers, || fresh), fresh);
        let sent = Uuid::from_u128(9);
        headers.insert(HEADER, sent.to_string().parse().unwrap());
        assert_eq!(from_headers(&headers, || fresh), sent);
    }
}
