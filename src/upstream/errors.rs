//! Converts the status of a gateway to an error, with its message truncated and without invisible characters (T20) and
//! credentials.

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::credential;
use crate::characters::replace_invisible;
use crate::error::{Error, GatewayRefusal};

/// Maximum length of a repeated gateway message, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 500;

/// Reasons with which a gateway of generation 0.1 declines to repeat the response for a request id. None of them shows
/// whether the request was executed, although the status code is that of a rejection.
const UNCERTAIN: [&str; 4] = [
    "REQUEST_OUTCOME_UNCERTAIN",
    "REQUEST_ID_PAYLOAD_MISMATCH",
    "REQUEST_REPLAY_UNAVAILABLE",
    "REQUEST_STREAM_UNAVAILABLE",
];

/// Converts the status of a gateway to an error. Returns `None` if the code is OK.
pub(crate) fn error_from_status(gateway: &str, status: &Status) -> Option<Error> {
    let refusal = match status.code() {
        Code::Ok => return None,
        Code::InvalidArgument | Code::OutOfRange => GatewayRefusal::Invalid,
        Code::NotFound => GatewayRefusal::NotFound,
        Code::AlreadyExists => GatewayRefusal::AlreadyExists,
        Code::Unauthenticated => {
            return Some(credential::unauthenticated_error(gateway, status.message()));
        }
        Code::FailedPrecondition | Code::PermissionDenied => GatewayRefusal::Refused,
        Code::Aborted => GatewayRefusal::Changed,
        Code::ResourceExhausted => GatewayRefusal::Exhausted,
        Code::Unimplemented => GatewayRefusal::Unimplemented,
        Code::DeadlineExceeded | Code::Cancelled => GatewayRefusal::DeadlineExceeded,
        Code::Unavailable => GatewayRefusal::Unavailable,
        Code::Internal | Code::Unknown | Code::DataLoss => GatewayRefusal::Failed,
    };
    let refusal = if is_uncertain(status) { GatewayRefusal::Uncertain } else { refusal };
    Some(Error::Gateway {
        gateway: gateway.to_owned(),
        refusal,
        why: sanitize_message(status.message()),
    })
}

/// Whether a gateway's status leaves the outcome of the request unknown: its deadline, which the caller chooses,
/// expired before it was done, or the gateway reports that it does not know.
pub(crate) fn is_outcome_unknown(code: i32, status: Option<&HeaderMap>) -> bool {
    let code = Code::from(code);
    let says_so =
        || status.and_then(Status::from_header_map).is_some_and(|status| is_uncertain(&status));
    matches!(code, Code::Cancelled | Code::DeadlineExceeded) || code != Code::Ok && says_so()
}

/// Whether the gateway reports that the outcome is unknown.
fn is_uncertain(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| UNCERTAIN.contains(&info.reason.as_str()))
}

/// Returns a gateway message that is safe to repeat and to store.
pub(crate) fn sanitize_message(text: &str) -> String {
    sanitize(&without_credentials(text), MESSAGE_CHARACTERS_MAX)
}

/// Truncates text that may come from a gateway or an agent, and replaces characters that a terminal or a log could
/// interpret, or that readers do not see, as [`replace_invisible`] does (T20).
pub(crate) fn sanitize(text: &str, characters_max: usize) -> String {
    replace_invisible(text).take(characters_max).collect()
}

/// Returns a text without what can be a credential in its URLs: user and password, query and fragment. Words without a
/// scheme lose their query if they have a path, or if the query has a value. Call it before the text is truncated,
/// which could cut off the `@` after a password.
pub(crate) fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        let trimmed = word.trim_end();
        push_without_credentials(&mut shown, trimmed);
        shown.push_str(&word[trimmed.len()..]);
    }
    shown
}

fn push_without_credentials(shown: &mut String, word: &str) {
    let has_value = || word.split_once('?').is_some_and(|(_, query)| query.contains('='));
    let ends: &[char] = if word.contains("://") {
        &['?', '#']
    } else if word.contains('/') || has_value() {
        &['?']
    } else {
        &[]
    };
    let (word, dropped) = word.split_once(ends).unwrap_or((word, ""));
    // A word can have several URLs.
    let mut parts = word.split("://");
    shown.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let authority = part.split_once('/').map_or(part, |(authority, _)| authority);
        let host = authority.rfind('@').map_or(0, |at| at + 1);
        shown.push_str("://");
        shown.push_str(&part[host..]);
    }
    // It ends the fields of a log line.
    if dropped.ends_with(']') {
        shown.push(']');
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use http::HeaderValue;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn t20_an_error_message_of_a_gateway_is_truncated_and_sanitized() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("9"));
        let message = format!("no%1B[31m {}", "x".repeat(1000));
        trailers.insert("grpc-message", message.parse().unwrap());
        let status = Status::from_header_map(&trailers).unwrap();
        let error = error_from_status("edge", &status).unwrap();
        let shown = error.to_string();
        assert!(
            shown.starts_with("gateway `edge` says: no [31m x") && shown.len() < 600,
            "{shown}"
        );
        assert!(error_from_status("edge", &Status::ok("")).is_none());
    }

    #[test]
    fn what_of_a_url_can_be_a_credential_is_removed() {
        for (text, shown) in [
            ("https://me:hidden@a.example/x", "https://a.example/x"),
            ("https://hidden@a.example:1", "https://a.example:1"),
            ("https://me:hid@den@a.example/@x", "https://a.example/@x"),
            ("postgres://me:hidden@a.example/db failed", "postgres://a.example/db failed"),
            ("\"https://me:hidden@a.example/\"", "\"https://a.example/\""),
            ("https://a.example/?token=hidden", "https://a.example/"),
            ("https://a.example#token=hidden", "https://a.example"),
            ("https://a.example?next=https://me:hidden@b", "https://a.example"),
            ("http://a.example,http://me:hidden@b\n\tx", "http://a.example,http://b\n\tx"),
            ("GET /x?token=hidden HTTP/1.1", "GET /x HTTP/1.1"),
            ("a.example:443?token=hidden", "a.example:443"),
            ("?token=hidden&x=y z", " z"),
            ("[rule:- url:https://a.example/?token=hidden]", "[rule:- url:https://a.example/]"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
        for kept in ["", " a  b ", "why?", "a@b.example", "rule:a@2", "a=b", "http://[::1]:1/x"] {
            assert_eq!(without_credentials(kept), kept);
        }
    }

    #[test]
    fn an_error_message_of_a_gateway_has_no_credentials_of_urls() {
        let status =
            Status::unavailable("no route to https://me:hidden@a.example/?token=hidden now");
        let error = error_from_status("edge", &status).unwrap();
        assert_eq!(error.to_string(), "gateway `edge` says: no route to https://a.example/ now");
        // The message is cut after the password was removed, not within it.
        let start = "x".repeat(MESSAGE_CHARACTERS_MAX - 15);
        let message = sanitize_message(&format!("{start} https://me:hidden@a.example"));
        assert_eq!(message, format!("{start} https://a.exam"));
    }

    #[test]
    fn an_uncertain_request_id_is_not_reported_as_refused() {
        let refusal_of = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "openshell", HashMap::new());
            let status = Status::with_error_details(Code::FailedPrecondition, "no", details);
            // Parsed from trailers, as from a real gateway.
            let mut trailers = HeaderMap::new();
            status.add_header(&mut trailers).unwrap();
            let Some(Error::Gateway { refusal, .. }) =
                error_from_status("edge", &Status::from_header_map(&trailers).unwrap())
            else {
                panic!("it is what a gateway said");
            };
            refusal
        };
        for reason in UNCERTAIN {
            assert_eq!(refusal_of(reason), GatewayRefusal::Uncertain, "{reason}");
        }
        for reason in ["", "QUOTA", "request_outcome_uncertain"] {
            assert_eq!(refusal_of(reason), GatewayRefusal::Refused, "{reason}");
        }
    }
}
