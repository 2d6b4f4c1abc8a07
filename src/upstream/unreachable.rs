//! Why a gateway gives no gRPC response: the sentences about it, and the errors of the calls.
//!
//! Invariants
//! - a sentence contains no address to which a name resolved, and text of the peer only if it is harmless (T20);
//! - the codes are those of the gRPC specification, "HTTP to gRPC Status Code Mapping" and "gRPC over HTTP2", section
//!   "Errors". HTTP 401 and 403 are about Shoreguard's credential and never reach a caller as its own.

use std::fmt;
use std::io;

use h2::Reason as ResetReason;
use http::StatusCode;
use rustls::{AlertDescription, CertificateError};
use tonic::Code;

use super::errors::sanitize_message;
use super::first_bytes::FirstBytes;
use super::unary::CallError;
use crate::error::{BrokenCode, Error, GatewayRefusal, Reason};
use crate::net::connect::ConnectError;
use crate::status::code_name;

/// Why a connection could not be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// Shoreguard has no token for the gateway.
    Refused(Error),
    /// There is no connection to its address.
    Connect(ConnectError),
    /// It answers a plaintext connection in TLS.
    SpeaksTls,
    /// It answers in HTTP/1.1.
    SpeaksHttp1,
    /// It closed a plaintext connection without an answer.
    Closed,
    /// It did not answer in time.
    Silent,
    /// Its answer to `Health` has another HTTP status than 200.
    FrontEnd(StatusCode),
    /// Its answer to `Health` is an error.
    Status(Code, String),
    /// Any other failure.
    Broken(String),
}

impl OpenError {
    /// Returns the error of a failed `Health` call. `first_bytes` is `None` on a TLS connection.
    pub(crate) fn from_health(error: CallError, first_bytes: Option<&FirstBytes>) -> Self {
        match error {
            CallError::FrontEnd(status) => Self::FrontEnd(status),
            CallError::Status(code, message) => Self::Status(code, message),
            CallError::Broken(why) => match first_bytes {
                Some(first) if first.is_empty() => Self::Closed,
                Some(first) if first.is_tls() => Self::SpeaksTls,
                Some(first) if first.is_http1() => Self::SpeaksHttp1,
                Some(_) | None => Self::Broken(why),
            },
        }
    }

    /// Returns the error for those who can read the gateway: why it cannot be reached, and what to do.
    pub(crate) fn into_error(self, gateway: &str) -> Error {
        match self {
            Self::Refused(error) | Self::Connect(ConnectError::Forbidden(error)) => error,
            Self::FrontEnd(status) => error_from_http_status(gateway, status),
            Self::Connect(_)
            | Self::SpeaksTls
            | Self::SpeaksHttp1
            | Self::Closed
            | Self::Silent
            | Self::Status(..)
            | Self::Broken(_) => unreachable(gateway, &self.sentence()),
        }
    }

    /// Returns what callers learn about a connection that was opened for many of them.
    pub(crate) fn for_callers(&self) -> OpenFailure {
        if let Self::FrontEnd(status) = self {
            return OpenFailure::FrontEnd(*status);
        }
        OpenFailure::Unreachable
    }

    /// Returns why the gateway cannot be reached, and what to do about it.
    fn sentence(&self) -> String {
        match self {
            Self::Refused(error) => error.to_string(),
            Self::Connect(error) => connect_sentence(error),
            Self::SpeaksTls => "it answers in TLS: set the scheme to `https`".to_owned(),
            Self::SpeaksHttp1 => {
                "it answers in HTTP/1.1: check the port, or try the scheme `https`".to_owned()
            }
            Self::Closed => {
                "it closes the connection without an answer: check the port, or try the scheme `https`"
                    .to_owned()
            }
            Self::Silent => "it timed out: no answer in time".to_owned(),
            Self::FrontEnd(status) => front_end_sentence(*status),
            Self::Status(code, message) => {
                format!("it answers `Health` with {}: {}", code_name(*code), sanitize_message(message))
            }
            Self::Broken(why) => format!("the connection broke off: {}", sanitize_message(why)),
        }
    }
}

impl fmt::Display for OpenError {
    /// Writes the text for the log, which may contain addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())?;
        if let Self::Connect(error) = self {
            write!(f, " ({error})")?;
        }
        Ok(())
    }
}

fn connect_sentence(error: &ConnectError) -> String {
    match error {
        ConnectError::Forbidden(error) => error.to_string(),
        ConnectError::Unresolved(_) => {
            "its host name cannot be resolved: check `endpoint`".to_owned()
        }
        ConnectError::Unconnected { kind, .. } => unconnected_sentence(*kind),
        ConnectError::Tls(error) => tls_sentence(error),
        ConnectError::TlsTimeout => {
            "the TLS handshake timed out: check the port, or try the scheme `http`".to_owned()
        }
        ConnectError::Protocol => {
            "it does not negotiate HTTP/2 (ALPN `h2`) in the TLS handshake".to_owned()
        }
    }
}

fn unconnected_sentence(kind: Option<io::ErrorKind>) -> String {
    let Some(kind) = kind.filter(|kind| *kind != io::ErrorKind::TimedOut) else {
        return "the connection timed out: check `endpoint` and the firewalls".to_owned();
    };
    if kind == io::ErrorKind::ConnectionRefused {
        return "the connection was refused: nothing listens on the port of `endpoint`".to_owned();
    }
    format!("the connection failed: {kind}")
}

fn tls_sentence(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else {
        return format!(
            "the TLS handshake broke off ({}): if the gateway uses no TLS, set the scheme to `http`",
            sanitize_message(&error.to_string())
        );
    };
    if let rustls::Error::InvalidMessage(_) = inner {
        return "it answers in plaintext: set the scheme to `http`".to_owned();
    }
    if *inner == rustls::Error::AlertReceived(AlertDescription::CertificateRequired) {
        return "it requires a client certificate: use the auth mode `mtls`".to_owned();
    }
    if let rustls::Error::InvalidCertificate(fault) = inner
        && let Some(sentence) = certificate_sentence(fault)
    {
        return sentence.to_owned();
    }
    format!("the TLS handshake failed: {}", sanitize_message(&inner.to_string()))
}

/// Returns `None` for a rare fault, which the text of the TLS library describes.
fn certificate_sentence(fault: &CertificateError) -> Option<&'static str> {
    use CertificateError as Fault;
    if matches!(fault, Fault::UnknownIssuer) {
        return Some(
            "its certificate was issued by an unknown CA: set `ca_cert` to the certificate of that CA",
        );
    }
    if matches!(fault, Fault::NotValidForName | Fault::NotValidForNameContext { .. }) {
        return Some(
            "its certificate has another name: use a host in `endpoint` for which it is valid",
        );
    }
    if matches!(fault, Fault::Expired | Fault::ExpiredContext { .. }) {
        return Some("its certificate has expired");
    }
    matches!(fault, Fault::NotValidYet | Fault::NotValidYetContext { .. })
        .then_some("its certificate is not valid yet: check the clocks")
}

/// Why callers got no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenFailure {
    /// The cause is in the log and in the state of the gateway.
    Unreachable,
    /// A front end answered with this status.
    FrontEnd(StatusCode),
}

impl OpenFailure {
    /// Returns the error of a call.
    pub(crate) fn to_error(self, gateway: &str) -> Error {
        match self {
            Self::Unreachable => {
                let why = format!("gateway `{gateway}` cannot be reached");
                Error::unavailable(Reason::GatewayUnreachable, why)
            }
            Self::FrontEnd(status) => error_from_http_status(gateway, status),
        }
    }
}

/// A response that broke off, or did not begin.
#[derive(Debug)]
pub(crate) struct BrokenResponse {
    /// For the log.
    why: String,
    /// Error with which the gateway reset the stream.
    reset: Option<ResetReason>,
}

impl BrokenResponse {
    /// Creates a response that broke off for this reason, without a reset by the gateway.
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), reset: None }
    }

    /// Returns the error of the call.
    pub(crate) fn to_error(&self, gateway: &str) -> Error {
        match self.reset {
            Some(reason) => error_from_reset(gateway, reason),
            None => OpenFailure::Unreachable.to_error(gateway),
        }
    }
}

impl From<&h2::Error> for BrokenResponse {
    fn from(error: &h2::Error) -> Self {
        let is_reset = error.is_reset() && error.is_remote();
        Self { why: error.to_string(), reset: error.reason().filter(|_| is_reset) }
    }
}

impl fmt::Display for BrokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

fn unreachable(gateway: &str, sentence: &str) -> Error {
    let why = format!("gateway `{gateway}` cannot be reached: {sentence}");
    Error::unavailable(Reason::GatewayUnreachable, why)
}

/// Returns the sentence about a response with another HTTP status than 200.
pub(crate) fn front_end_sentence(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("unknown");
    format!("a front end answers with HTTP status {} {reason}", status.as_u16())
}

/// Returns the error for a response with another HTTP status than 200: it is that of a front end, since a gateway
/// answers gRPC. Only what a retry may help is `UNAVAILABLE`.
pub(crate) fn error_from_http_status(gateway: &str, status: StatusCode) -> Error {
    let sentence = front_end_sentence(status);
    match status.as_u16() {
        401 | 403 => {
            let why = format!(
                "gateway `{gateway}` does not accept the credential that Shoreguard presents to it ({sentence}); an \
                 admin of the gateway must replace it"
            );
            Error::refused(Reason::GatewayCredentialRefused, why)
        }
        404 => broken(gateway, BrokenCode::Unimplemented, sentence),
        429 | 502..=504 => unreachable(gateway, &sentence),
        _ => broken(gateway, BrokenCode::Internal, sentence),
    }
}

/// Whether a front end that answers with this HTTP status has certainly not passed the request on.
pub(crate) fn is_rejected(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404)
}

/// Returns the error for a stream that the gateway has reset.
fn error_from_reset(gateway: &str, reason: ResetReason) -> Error {
    let sentence = format!("its stream was reset with HTTP/2 error {reason:?}");
    match reason {
        ResetReason::REFUSED_STREAM => unreachable(gateway, &sentence),
        ResetReason::CANCEL => broken(gateway, BrokenCode::Cancelled, sentence),
        ResetReason::ENHANCE_YOUR_CALM => broken(gateway, BrokenCode::ResourceExhausted, sentence),
        ResetReason::INADEQUATE_SECURITY => broken(gateway, BrokenCode::PermissionDenied, sentence),
        _ => broken(gateway, BrokenCode::Internal, sentence),
    }
}

fn broken(gateway: &str, code: BrokenCode, why: String) -> Error {
    Error::Gateway { gateway: gateway.to_owned(), refusal: GatewayRefusal::Broken(code), why }
}

#[cfg(test)]
#[path = "unreachable_tests.rs"]
mod tests;
