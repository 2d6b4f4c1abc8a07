//! The TLS settings of a connection.

use std::path::Path;

use base64::Engine as _;
use tonic::transport::{Certificate, ClientTlsConfig};

use super::super::CliError;
use crate::net::pem_files::parse_certificates;

/// Trusts only the given CA, or the CAs of the system by default.
pub(super) fn tls_config(ca: Option<&Path>) -> Result<ClientTlsConfig, CliError> {
    let config = ClientTlsConfig::new();
    let Some(path) = ca else {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            return Err(CliError::Usage(
                "this host has no CA certificates: name one with `--ca`".to_owned(),
            ));
        }
        return Ok(config
            .ca_certificates(found.certs.iter().map(|der| Certificate::from_pem(to_pem(der)))));
    };
    let pem = std::fs::read(path).map_err(|error| {
        CliError::Usage(format!("`{}` cannot be read: {error}", path.display()))
    })?;
    // Otherwise the error would be about the certificate of the server.
    parse_certificates(&pem)
        .map_err(|why| CliError::Usage(format!("`{}` {why}", path.display())))?;
    Ok(config.ca_certificate(Certificate::from_pem(pem)))
}

/// Encodes a certificate as PEM, the format that tonic requires.
fn to_pem(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}
