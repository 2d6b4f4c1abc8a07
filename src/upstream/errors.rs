//! Converts the status of a gateway to an error, with its message truncated and without invisible characters (T20).

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::credential;
use crate::error::{Error, GatewayRefusal};
use crate::names::is_invisible;

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

/// Returns a gateway message that is safe to repeat.
pub(crate) fn sanitize_message(text: &str) -> String {
    sanitize(text, MESSAGE_CHARACTERS_MAX)
}

/// Truncates text that may come from a gateway or an agent, and replaces characters that a terminal or a log could
/// interpret, or that readers do not see: control characters, marks of direction, and those without a width (T20).
pub(crate) fn sanitize(text: &str, characters_max: usize) -> String {
    let shown = text.chars().map(|c| if is_invisible(c) { ' ' } else { c });
    shown.take(characters_max).collect()
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
