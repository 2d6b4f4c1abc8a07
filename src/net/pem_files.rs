//! Contents of the PEM files (RFC 7468) that the configuration names. An error says what the file is instead, and how
//! to convert it.

use std::fs;
use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::pem::{Error, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// First byte of every certificate and key in DER: an ASN.1 SEQUENCE.
const DER_SEQUENCE: u8 = 0x30;
const BEGIN: &[u8] = b"-----BEGIN ";
/// Labels of encrypted keys: PKCS #8 (RFC 7468, section 11), and the header of the older format (RFC 1421).
const ENCRYPTED: [&[u8]; 2] = [b"ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];

/// Returns the certificates of a file, at least one.
///
/// # Errors
/// A sentence without a subject, such as "is empty".
pub fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("cannot be parsed as PEM: {error}"))?;
    if found.is_empty() {
        return Err(missing("certificate", pem, "openssl x509 -inform der -in FILE"));
    }
    Ok(found)
}

/// Returns the private key of a file.
///
/// # Errors
/// As [`parse_certificates`]. The sentence repeats nothing of the file.
pub fn parse_private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if ENCRYPTED.iter().any(|label| contains(pem, label)) {
        let why = "is encrypted, and no configuration key exists for its passphrase: decrypt it with \
                   `openssl pkey -in FILE`, and let only the server's user read it";
        return Err(why.to_owned());
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        if matches!(error, Error::NoItemsFound) {
            return missing("private key", pem, "openssl pkey -inform der -in FILE");
        }
        "cannot be parsed as the PEM of a private key".to_owned()
    })
}

/// Returns the CAs of a file, at least one.
///
/// # Errors
/// As [`parse_certificates`].
pub fn parse_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in parse_certificates(pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("has a certificate that cannot be used as a CA: {error}"))?;
    }
    Ok(roots)
}

/// Reads a file and returns its CAs, at least one.
///
/// # Errors
/// As [`parse_certificates`].
pub fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let pem = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    parse_roots(&pem)
}

/// Says why a file without the wanted item has none.
fn missing(what: &str, bytes: &[u8], convert: &str) -> String {
    if bytes.is_empty() {
        return format!("is empty: it must have a {what} in PEM");
    }
    if bytes.first() == Some(&DER_SEQUENCE) && !contains(bytes, BEGIN) {
        return format!("is in DER, not in PEM: convert it with `{convert}`");
    }
    format!("has no {what} in PEM")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_the_expected_pem_is_refused_with_what_it_is() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (pem, der) = (made.cert.pem(), made.cert.der().to_vec());
        let key = made.signing_key.serialize_pem();
        assert_eq!(parse_certificates(pem.as_bytes()).unwrap().len(), 1);
        parse_private_key(key.as_bytes()).unwrap();
        let certificates = |bytes: &[u8]| parse_certificates(bytes).unwrap_err();
        assert!(certificates(b"").starts_with("is empty"));
        assert!(
            certificates(&der).contains("is in DER, not in PEM: convert it with `openssl x509")
        );
        assert_eq!(certificates(key.as_bytes()), "has no certificate in PEM");
        assert_eq!(certificates(b"hello"), "has no certificate in PEM");
        let keys = |bytes: &[u8]| parse_private_key(bytes).unwrap_err();
        assert_eq!(keys(pem.as_bytes()), "has no private key in PEM");
        assert!(keys(&made.signing_key.serialize_der()).contains("is in DER"));
        for encrypted in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            assert!(keys(encrypted.as_bytes()).starts_with("is encrypted"), "{encrypted}");
        }
    }
}
