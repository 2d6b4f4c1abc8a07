//! Parses certificates in PEM and DER.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::clock::Timestamp;
use crate::error::Error;

/// Maximum size of a certificate or key, in bytes.
pub const PEM_BYTES_MAX: usize = 65_536;

/// Returns when a certificate expires, or `None` if it cannot be parsed.
#[must_use]
pub fn expiry(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(Timestamp::from_unix_seconds(certificate.validity().not_after.timestamp()))
}

/// Rejects a PEM text of more than [`PEM_BYTES_MAX`] bytes.
pub fn check_size(field: &str, pem: &[u8]) -> Result<(), Error> {
    if pem.len() > PEM_BYTES_MAX {
        let why = format!("must be at most {PEM_BYTES_MAX} bytes, got {}", pem.len());
        return Err(Error::invalid(field, why));
    }
    Ok(())
}

/// Parses the certificates of a PEM text, at least one.
pub fn parse_certificates(field: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    check_size(field, pem)?;
    let bad = || Error::invalid(field, "must be one or more certificates in PEM");
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| bad())?;
    let readable = |der: &CertificateDer<'_>| x509_parser::parse_x509_certificate(der).is_ok();
    if found.is_empty() || !found.iter().all(readable) {
        return Err(bad());
    }
    Ok(found)
}
