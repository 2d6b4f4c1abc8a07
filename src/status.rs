//! Converts an [`Error`] to a gRPC status with google.rpc details: only this module creates a [`Status`].
//!
//! A client gets a reason for programs and a sentence for people; the cause of an internal error is logged here, once.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tracing::error;

use crate::error::{BrokenCode, Error, GatewayRefusal, Reason};
use crate::pb::codec;
use crate::pb::strict::MessageFault;

/// When a caller repeats a call that was based on an outdated state, after it has read the present one.
const REREAD_IN: Duration = Duration::from_secs(1);
/// The domain of Shoreguard's reasons in google.rpc.ErrorInfo.
pub const DOMAIN: &str = "shoreguard";

/// Returns the gRPC code and the reason of an error.
#[must_use]
pub fn code_and_reason(error: &Error) -> (Code, Reason) {
    match error {
        Error::Invalid { .. } => (Code::InvalidArgument, Reason::InvalidField),
        Error::NotFound { .. } => (Code::NotFound, Reason::NotFound),
        Error::AlreadyExists { .. } => (Code::AlreadyExists, Reason::AlreadyExists),
        Error::Conflict { .. } => (Code::Aborted, Reason::ConcurrentChange),
        Error::Refused { reason, .. } | Error::Explained { reason, .. } => {
            (refused_code(*reason), *reason)
        }
        Error::Denied { .. } => (Code::PermissionDenied, Reason::RoleTooLow),
        Error::Unauthenticated { reason } => (Code::Unauthenticated, *reason),
        Error::Exhausted { reason, .. } => (Code::ResourceExhausted, *reason),
        Error::OutOfRange { .. } => (Code::OutOfRange, Reason::CursorExpired),
        Error::Unavailable { reason, .. } => (Code::Unavailable, *reason),
        Error::DeadlineExceeded { .. } => (Code::DeadlineExceeded, Reason::DeadlineExceeded),
        Error::Gateway { refusal: GatewayRefusal::Uncertain, .. } => {
            (gateway_code(GatewayRefusal::Uncertain), Reason::RequestInFlight)
        }
        Error::Gateway { refusal, .. } => (gateway_code(*refusal), Reason::GatewayRefused),
        Error::Unimplemented { .. } => (Code::Unimplemented, Reason::MethodUnknown),
        Error::Internal(_) => (Code::Internal, Reason::Internal),
    }
}

/// Returns the gRPC code for a gateway's refusal: the gateway's own code, except for a rejected Shoreguard credential,
/// which is not the caller's fault.
fn gateway_code(refusal: GatewayRefusal) -> Code {
    match refusal {
        GatewayRefusal::Invalid => Code::InvalidArgument,
        GatewayRefusal::NotFound => Code::NotFound,
        GatewayRefusal::AlreadyExists => Code::AlreadyExists,
        GatewayRefusal::Refused | GatewayRefusal::Uncertain => Code::FailedPrecondition,
        GatewayRefusal::Changed => Code::Aborted,
        GatewayRefusal::Exhausted | GatewayRefusal::Broken(BrokenCode::ResourceExhausted) => {
            Code::ResourceExhausted
        }
        GatewayRefusal::Unimplemented | GatewayRefusal::Broken(BrokenCode::Unimplemented) => {
            Code::Unimplemented
        }
        GatewayRefusal::Unavailable | GatewayRefusal::DeadlineExceeded => Code::Unavailable,
        GatewayRefusal::Broken(BrokenCode::Cancelled) => Code::Cancelled,
        GatewayRefusal::Broken(BrokenCode::PermissionDenied) => Code::PermissionDenied,
        GatewayRefusal::Failed | GatewayRefusal::Broken(BrokenCode::Internal) => Code::Internal,
    }
}

/// Most refusals concern the state; a few concern the message, or callers that can never send it.
#[expect(clippy::too_many_lines, reason = "one line for each reason")]
fn refused_code(reason: Reason) -> Code {
    match reason {
        Reason::MessageAmbiguous
        | Reason::MalformedMessage
        | Reason::GatewayAmbiguous
        | Reason::RequestIdReused
        | Reason::SettingUnknown
        | Reason::WireMismatch
        | Reason::PolicyStatic
        | Reason::AddressForbidden => Code::InvalidArgument,
        Reason::MethodNotSupported => Code::Unimplemented,
        Reason::MethodNotForwarded
        | Reason::CredentialBound
        | Reason::NotAVoter
        | Reason::OwnChange
        | Reason::DeviceLoginDenied => Code::PermissionDenied,
        Reason::MessageTooLarge | Reason::WebhookLimit => Code::ResourceExhausted,
        Reason::RequestInFlight
        | Reason::WriteInFlight
        | Reason::ReviewStale
        | Reason::ConcurrentChange => Code::Aborted,
        Reason::SandboxUnplaced => Code::NotFound,
        Reason::InvalidField
        | Reason::NotFound
        | Reason::AlreadyExists
        | Reason::RoleTooLow
        | Reason::CredentialMissing
        | Reason::CredentialInvalid
        | Reason::CredentialAmbiguous
        | Reason::LoginFailed
        | Reason::AlreadySetUp
        | Reason::RateLimited
        | Reason::Busy
        | Reason::TooManyCalls
        | Reason::TooManyStreams
        | Reason::TooManyBytes
        | Reason::DiskLow
        | Reason::AuditUnavailable
        | Reason::StorageUnavailable
        | Reason::AccessStale
        | Reason::GatewayUnreachable
        | Reason::GatewayRefused
        | Reason::HostUnreachable
        | Reason::IssuerUnavailable
        | Reason::WireUnsupported
        | Reason::WireContradicted
        | Reason::MethodUnknown
        | Reason::LastAdmin
        | Reason::NoSession
        | Reason::FeatureDisabled
        | Reason::NoInvite
        | Reason::OwnAccount
        | Reason::LimitReached
        | Reason::DraftsOverflow
        | Reason::LoginStale
        | Reason::OperationRunning
        | Reason::OperationEnded
        | Reason::OperationFailed
        | Reason::GatewayTokenUnavailable
        | Reason::CredentialsUnproven
        | Reason::GatewayInUse
        | Reason::DiscoveryRunning
        | Reason::GatewayOverBudget
        | Reason::GatewayBusy
        | Reason::GatewayCredentialRefused
        | Reason::SbomsOutdated
        | Reason::PolicyUnreadable
        | Reason::ApprovalRequired
        | Reason::RoundClosed
        | Reason::ChunkStatus
        | Reason::PolicyPinned
        | Reason::WebhookInactive
        | Reason::WebhookNotSigned
        | Reason::DeviceLoginPending
        | Reason::DeviceScopeMismatch
        | Reason::WebhookUnreadable
        | Reason::Governed
        | Reason::QuorumUnreachable
        | Reason::ApprovalModeAuto
        | Reason::NoOtherLogin
        | Reason::CursorExpired
        | Reason::DeadlineExceeded
        | Reason::Draining
        | Reason::Internal => Code::FailedPrecondition,
    }
}

/// Returns the name of the code in metrics and logs.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Converts an error to a status. An internal error is logged with its chain.
#[must_use]
pub fn to_status(error: Error) -> Status {
    let (code, reason) = code_and_reason(&error);
    let message = error.to_string();
    let mut details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, HashMap::new());
    match error {
        Error::Invalid { field, why } => {
            details.add_bad_request_violation(field, why);
        }
        Error::AlreadyExists { kind, name } => {
            details.set_resource_info(kind.display_name(), name, "", message.as_str());
        }
        Error::NotFound { kind, id } => {
            details.set_resource_info(kind.display_name(), id, "", message.as_str());
        }
        Error::Conflict { kind, id, etag } => {
            details.set_resource_info(kind.display_name(), id, "", message.as_str());
            if let Some(etag) = etag {
                let facts = HashMap::from([("etag".to_owned(), etag)]);
                details.set_error_info(reason.as_str(), DOMAIN, facts);
            }
        }
        Error::Refused { reason, why } if code == Code::FailedPrecondition => {
            details.add_precondition_failure_violation(reason.as_str(), "", why);
        }
        Error::Explained { reason, why, facts } => {
            let facts = facts.into_iter().map(|(key, fact)| (key.to_owned(), fact));
            details.set_error_info(reason.as_str(), DOMAIN, facts.collect::<HashMap<_, _>>());
            if code == Code::FailedPrecondition {
                details.add_precondition_failure_violation(reason.as_str(), "", why);
            }
            if code == Code::Aborted {
                details.set_retry_info(Some(REREAD_IN));
            }
        }
        Error::Exhausted { retry_in, .. } => {
            details.set_retry_info(Some(retry_in));
        }
        Error::Internal(source) => {
            error!(error = &*source, "a call failed");
        }
        Error::Refused { .. }
        | Error::Denied { .. }
        | Error::Unauthenticated { .. }
        | Error::OutOfRange { .. }
        | Error::Unavailable { .. }
        | Error::DeadlineExceeded { .. }
        | Error::Gateway { .. }
        | Error::Unimplemented { .. } => {}
    }
    Status::with_error_details(code, message, details)
}

/// The text before the limit in tonic's error about a message that is too large.
const LIMIT_IS: &str = "the limit is: ";

/// Returns the error for a status that tonic or the codec created because of the received bytes. Returns `None` for a
/// status with details, which is a Shoreguard status, and for a status that is not about the message.
#[must_use]
pub fn error_from_wire_status(status: &Status) -> Option<Error> {
    if !status.details().is_empty() {
        return None;
    }
    let (code, message) = (status.code(), status.message());
    if code == Code::InvalidArgument {
        let field = codec::refused_field(status)?;
        return Some(Error::from(MessageFault::Nul(field.to_owned())));
    }
    if code == Code::OutOfRange && message.contains("too large") {
        return Some(too_large(message));
    }
    // Created before a handler ran, so it is about the bytes: no message, a bad flag, a stream that broke off.
    matches!(code, Code::Internal | Code::Unknown)
        .then(|| Error::refused(Reason::MalformedMessage, codec::UNDECODABLE))
}

fn too_large(message: &str) -> Error {
    let limit = message.split_once(LIMIT_IS).and_then(|(_, rest)| rest.split(' ').next());
    let limit = limit.filter(|limit| limit.bytes().all(|byte| byte.is_ascii_digit()));
    let of = limit.map(|limit| format!(" of {limit} bytes")).unwrap_or_default();
    let why = format!("the message is larger than the limit{of}: send less in one message");
    Error::refused(Reason::MessageTooLarge, why)
}

/// Returns the error for a status that was created before a handler ran.
#[must_use]
pub fn error_from_headers(headers: &HeaderMap) -> Option<Error> {
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bytes") {
        return None;
    }
    error_from_wire_status(&Status::from_header_map(headers)?)
}

/// Encodes an error as trailers, for a response that has begun.
#[must_use]
pub fn to_trailers(error: Error) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(4);
    // A Shoreguard status contains only text that fits in headers. If encoding failed, the trailers would have the code
    // only.
    let _ = to_status(error).add_header(&mut trailers);
    trailers
}

/// Encodes an error as a trailers-only HTTP response, as gRPC specifies.
#[must_use]
pub fn to_response<B: Default>(error: Error) -> http::Response<B> {
    to_status(error).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ResourceKind;

    /// Size of trailers that each client accepts, in bytes: the least limit of the gRPC libraries.
    const TRAILER_BYTES_MAX: usize = 8 << 10;

    #[test]
    fn the_longest_refusal_of_a_pin_fits_in_the_trailers_that_clients_accept() {
        let reason = "\u{1f600}".repeat(1_000);
        let why = format!("the policy is pinned by `ana@example.com`: {reason}");
        let facts = [("pinned_by", "ana@example.com".to_owned()), ("reason", reason)];
        let trailers = to_trailers(Error::explained(Reason::PolicyPinned, why, facts));
        let size: usize =
            trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(size > 4_000 && size < TRAILER_BYTES_MAX, "{size}");
    }

    #[test]
    fn every_status_has_an_error_reason_of_shoreguard() {
        let refused = to_status(Error::not_found(ResourceKind::Gateway, "edge"));
        assert_eq!(refused.code(), Code::NotFound);
        let details = refused.get_error_details();
        let info = details.error_info().expect("a reason");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("NOT_FOUND", "shoreguard"));
    }

    #[test]
    fn errors_of_the_codec_and_of_tonic_are_mapped_to_shoreguard_errors() {
        let refused = codec::to_status(&MessageFault::Nul("labels".to_owned()));
        let Some(Error::Invalid { field, .. }) = error_from_wire_status(&refused) else { panic!() };
        assert_eq!(field, "labels");
        let message =
            "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes";
        let large = error_from_wire_status(&Status::out_of_range(message)).unwrap();
        assert_eq!(code_and_reason(&large), (Code::ResourceExhausted, Reason::MessageTooLarge));
        assert!(large.to_string().contains("limit of 8 bytes"), "{large}");
        for message in ["Missing request message.", "protocol error: received message with flag"] {
            let malformed = error_from_wire_status(&Status::new(Code::Internal, message)).unwrap();
            assert_eq!(code_and_reason(&malformed).1, Reason::MalformedMessage, "{message}");
        }
        assert!(
            error_from_wire_status(&to_status(Error::internal("x"))).is_none(),
            "ours has details"
        );
        assert!(error_from_wire_status(&Status::invalid_argument("x")).is_none());
    }

    #[test]
    fn internal_causes_are_not_part_of_the_status() {
        let status = to_status(Error::internal("relation users does not exist"));
        assert!(status.message().starts_with("internal error: "), "{status:?}");
        assert!(!format!("{status:?}").contains("relation"));
    }

    #[test]
    fn error_reasons_match_the_proto_enumeration() {
        for reason in Reason::ALL {
            let name = format!("ERROR_REASON_{}", reason.as_str());
            assert!(crate::pb::v1::ErrorReason::from_str_name(&name).is_some(), "{name}");
        }
        let in_proto =
            (1..200).filter(|n| crate::pb::v1::ErrorReason::try_from(*n).is_ok()).count();
        assert_eq!(in_proto, Reason::ALL.len());
    }
}
