//! Sentences and codes for every way in which a gateway gives no gRPC response.

use super::*;
use crate::status::code_and_reason;

fn tls(error: rustls::Error) -> OpenError {
    OpenError::Connect(ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidData, error)))
}

fn certificate(fault: CertificateError) -> OpenError {
    tls(rustls::Error::InvalidCertificate(fault))
}

fn unconnected(kind: Option<io::ErrorKind>) -> OpenError {
    OpenError::Connect(ConnectError::Unconnected { kind, tried: "10.1.2.3:8080: no; ".to_owned() })
}

#[test]
fn an_unreachable_gateway_is_reported_with_the_cause_and_what_to_do() {
    let plaintext = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
    let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
    let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
    let table = [
        (unconnected(Some(io::ErrorKind::ConnectionRefused)), "was refused"),
        (unconnected(Some(io::ErrorKind::HostUnreachable)), "failed: host unreachable"),
        (unconnected(Some(io::ErrorKind::TimedOut)), "timed out"),
        (unconnected(None), "timed out"),
        (OpenError::Connect(ConnectError::Unresolved("x".to_owned())), "cannot be resolved"),
        (OpenError::Connect(ConnectError::TlsTimeout), "timed out"),
        (OpenError::Connect(ConnectError::Protocol), "ALPN `h2`"),
        (OpenError::Connect(ConnectError::Tls(eof)), "scheme to `http`"),
        (tls(plaintext), "plaintext: set the scheme to `http`"),
        (tls(alert), "auth mode `mtls`"),
        (certificate(CertificateError::UnknownIssuer), "unknown CA: set `ca_cert`"),
        (certificate(CertificateError::NotValidForName), "has another name"),
        (certificate(CertificateError::Expired), "has expired"),
        (certificate(CertificateError::NotValidYet), "not valid yet"),
        (certificate(CertificateError::Revoked), "the TLS handshake failed"),
        (OpenError::SpeaksTls, "in TLS: set the scheme to `https`"),
        (OpenError::SpeaksHttp1, "HTTP/1.1"),
        (OpenError::Closed, "scheme `https`"),
        (OpenError::Silent, "timed out"),
        (OpenError::FrontEnd(StatusCode::BAD_GATEWAY), "HTTP status 502 Bad Gateway"),
        (OpenError::Status(Code::Unavailable, "resting\u{1b}".to_owned()), "UNAVAILABLE: resting "),
        (OpenError::Broken("reset".to_owned()), "broke off: reset"),
    ];
    for (error, expected) in table {
        let log = error.to_string();
        let error = error.into_error("edge");
        assert_eq!(code_and_reason(&error), (Code::Unavailable, Reason::GatewayUnreachable));
        let shown = error.to_string();
        assert!(shown.starts_with("gateway `edge` cannot be reached: "), "{shown}");
        assert!(shown.contains(expected) && log.contains(expected), "{shown}");
        assert!(!shown.contains("10.1.2.3") && !shown.contains('\u{1b}'), "{shown}");
    }
}

#[test]
fn http_statuses_of_a_front_end_have_the_codes_of_grpc() {
    let refused = (Code::FailedPrecondition, Reason::GatewayCredentialRefused);
    let away = (Code::Unavailable, Reason::GatewayUnreachable);
    let table = [
        (302, (Code::Internal, Reason::GatewayRefused)),
        (400, (Code::Internal, Reason::GatewayRefused)),
        (401, refused),
        (403, refused),
        (404, (Code::Unimplemented, Reason::GatewayRefused)),
        (429, away),
        (500, (Code::Internal, Reason::GatewayRefused)),
        (502, away),
        (503, away),
        (504, away),
    ];
    for (status, expected) in table {
        let error = error_from_http_status("edge", StatusCode::from_u16(status).unwrap());
        assert_eq!(code_and_reason(&error), expected, "{status}");
        assert!(error.to_string().contains(&format!("HTTP status {status} ")), "{error}");
        assert!(error.to_string().contains("`edge`"), "{error}");
    }
}

#[test]
fn http2_errors_have_the_codes_of_grpc() {
    let table = [
        (ResetReason::NO_ERROR, Code::Internal),
        (ResetReason::PROTOCOL_ERROR, Code::Internal),
        (ResetReason::INTERNAL_ERROR, Code::Internal),
        (ResetReason::FLOW_CONTROL_ERROR, Code::Internal),
        (ResetReason::FRAME_SIZE_ERROR, Code::Internal),
        (ResetReason::REFUSED_STREAM, Code::Unavailable),
        (ResetReason::CANCEL, Code::Cancelled),
        (ResetReason::COMPRESSION_ERROR, Code::Internal),
        (ResetReason::CONNECT_ERROR, Code::Internal),
        (ResetReason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
        (ResetReason::INADEQUATE_SECURITY, Code::PermissionDenied),
        (ResetReason::HTTP_1_1_REQUIRED, Code::Internal),
    ];
    for (reason, code) in table {
        let error = error_from_reset("edge", reason);
        assert_eq!(code_and_reason(&error).0, code, "{reason:?}");
        assert!(error.to_string().contains(&format!("{reason:?}")), "{error}");
    }
}
