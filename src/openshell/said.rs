//! What a gateway has answered, as an error of ours: in its own words, cut and harmless (T20).

use tonic::{Code, Status};

use super::credential;
use crate::error::{Error, Said};

/// Longest words of a gateway that are repeated, in characters.
const WORDS_CHARACTERS_MAX: usize = 500;

/// What a gateway has answered, as an error of ours; none where all went well.
pub(super) fn refusal(gateway: &str, status: &Status) -> Option<Error> {
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
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Said::Unavailable,
        Code::Internal | Code::Unknown | Code::DataLoss => Said::Failed,
    };
    Some(Error::Gateway { gateway: gateway.to_owned(), said, why: words(status.message()) })
}

/// Words of a gateway, fit to be repeated.
pub(crate) fn words(said: &str) -> String {
    let shown = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(WORDS_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

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
}
