//! What a gateway has answered, as an error of ours: in its own words, cut and harmless (T20).

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::credential;
use crate::error::{Error, Said};

/// Longest words of a gateway that are repeated, in characters.
const WORDS_CHARACTERS_MAX: usize = 500;

/// Reasons by which a gateway of generation 0.1 says that it will not answer a request id again. None of them tells
/// whether the request was carried out: the code beside them is that of a refusal.
const UNCERTAIN: [&str; 4] = [
    "REQUEST_OUTCOME_UNCERTAIN",
    "REQUEST_ID_PAYLOAD_MISMATCH",
    "REQUEST_REPLAY_UNAVAILABLE",
    "REQUEST_STREAM_UNAVAILABLE",
];

/// What a gateway has answered, as an error of ours; none where all went well.
pub(crate) fn refusal(gateway: &str, status: &Status) -> Option<Error> {
    let said = match status.code() {
        Code::Ok => return None,
        Code::InvalidArgument | Code::OutOfRange => Said::Invalid,
        Code::NotFound => Said::Missing,
        Code::AlreadyExists => Said::Exists,
        Code::Unauthenticated => return Some(credential::refused(gateway, status.message())),
        Code::FailedPrecondition | Code::PermissionDenied => Said::Refused,
        Code::Aborted => Said::Changed,
        Code::ResourceExhausted => Said::Exhausted,
        Code::Unimplemented => Said::Unimplemented,
        Code::DeadlineExceeded | Code::Cancelled => Said::Late,
        Code::Unavailable => Said::Unavailable,
        Code::Internal | Code::Unknown | Code::DataLoss => Said::Failed,
    };
    let said = if is_uncertain(status) { Said::Uncertain } else { said };
    Some(Error::Gateway { gateway: gateway.to_owned(), said, why: words(status.message()) })
}

/// Whether a gateway's own status leaves open what became of the request: its time, which the caller chooses, was over
/// before it was done, or the gateway says that it does not know.
pub(crate) fn leaves_open(code: i32, status: Option<&HeaderMap>) -> bool {
    let code = Code::from(code);
    let says_so =
        || status.and_then(Status::from_header_map).is_some_and(|said| is_uncertain(&said));
    matches!(code, Code::Cancelled | Code::DeadlineExceeded) || code != Code::Ok && says_so()
}

/// Whether the answer leaves open what became of the request.
fn is_uncertain(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| UNCERTAIN.contains(&info.reason.as_str()))
}

/// Words of a gateway, fit to be repeated.
pub(crate) fn words(said: &str) -> String {
    harmless(said, WORDS_CHARACTERS_MAX)
}

/// Text that may come from a gateway, truncated and without control characters, which a terminal or a log would act
/// upon (T20).
pub(crate) fn harmless(said: &str, characters_max: usize) -> String {
    let shown = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(characters_max).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use http::HeaderValue;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn t20_what_a_gateway_says_is_cut_and_harmless() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("9"));
        let said = format!("no%1B[31m {}", "x".repeat(1000));
        trailers.insert("grpc-message", said.parse().unwrap());
        let said = Status::from_header_map(&trailers).unwrap();
        let error = refusal("edge", &said).unwrap();
        let shown = error.to_string();
        assert!(
            shown.starts_with("gateway `edge` says: no [31m x") && shown.len() < 600,
            "{shown}"
        );
        assert!(refusal("edge", &Status::ok("")).is_none());
    }

    #[test]
    fn a_request_id_whose_outcome_is_open_is_not_refused() {
        let said = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "openshell", HashMap::new());
            let status = Status::with_error_details(Code::FailedPrecondition, "no", details);
            // As it comes: out of trailers.
            let mut trailers = HeaderMap::new();
            status.add_header(&mut trailers).unwrap();
            let Some(Error::Gateway { said, .. }) =
                refusal("edge", &Status::from_header_map(&trailers).unwrap())
            else {
                panic!("it is what a gateway said");
            };
            said
        };
        for reason in UNCERTAIN {
            assert_eq!(said(reason), Said::Uncertain, "{reason}");
        }
        for reason in ["", "QUOTA", "request_outcome_uncertain"] {
            assert_eq!(said(reason), Said::Refused, "{reason}");
        }
    }
}
