//! The TLS settings of the listener, made from the contents of its PEM files.
//!
//! Invariant: the check of the configuration and the listener use the same function, so that the listener rejects no
//! file that the check has accepted.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use super::pem_files::{parse_certificates, parse_private_key, parse_roots};

const CERT: &str = "server.tls.cert_path";
const KEY: &str = "server.tls.key_path";
const CLIENT_CA: &str = "server.tls.client_ca_path";

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// Key of the configuration that names the file.
    pub key: &'static str,
    /// What is wrong with the file, as a sentence without a subject.
    pub why: String,
}

impl FileFault {
    fn new(key: &'static str, why: impl Into<String>) -> Self {
        Self { key, why: why.into() }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.key, self.why)
    }
}

/// Returns every fault of these files. `None` is a file that is not configured or that cannot be read.
#[must_use]
pub fn find_faults(
    cert: Option<&[u8]>,
    key: Option<&[u8]>,
    client_ca: Option<&[u8]>,
) -> Vec<FileFault> {
    let found = [
        (CERT, cert.and_then(|pem| parse_certificates(pem).err())),
        (KEY, key.and_then(|pem| parse_private_key(pem).err())),
        (CLIENT_CA, client_ca.and_then(|pem| parse_roots(pem).err())),
    ];
    let faults: Vec<_> =
        found.into_iter().filter_map(|(key, why)| Some(FileFault::new(key, why?))).collect();
    match (cert, key) {
        (Some(cert), Some(key)) if faults.is_empty() => {
            server_config(cert, key, client_ca).err().into_iter().collect()
        }
        _ => faults,
    }
}

/// Builds the TLS settings of files that belong together.
///
/// # Errors
/// The first file that cannot be used.
pub fn server_config(
    cert: &[u8],
    key: &[u8],
    client_ca: Option<&[u8]>,
) -> Result<ServerConfig, FileFault> {
    let chain = parse_certificates(cert).map_err(|why| FileFault::new(CERT, why))?;
    let key = parse_private_key(key).map_err(|why| FileFault::new(KEY, why))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| FileFault::new(CERT, format!("cannot be used: {error}")))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => builder.with_client_cert_verifier(client_verifier(pem, provider)?),
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| certified_key_fault(&error))?;
    if client_ca.is_some() {
        // A resumed session carries the certificate of the first one without another verification, so it could continue
        // after the certificate has expired. Each connection must present its certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    // Calls use HTTP/2, which is preferred; tokens can also be requested with HTTP/1.1.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Client certificates are optional: people log in with a password, programs use a key.
fn client_verifier(
    pem: &[u8],
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, FileFault> {
    let roots = parse_roots(pem).map_err(|why| FileFault::new(CLIENT_CA, why))?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| FileFault::new(CLIENT_CA, format!("cannot be used: {error}")))
}

/// Names the file that rustls rejects: the pair is wrong, or one of both.
fn certified_key_fault(error: &rustls::Error) -> FileFault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls's enum is non-exhaustive")]
    match error {
        rustls::Error::InconsistentKeys(_) => {
            let why = format!(
                "is the key of another certificate than that in `{CERT}`: use the key that the certificate was \
                 requested with"
            );
            FileFault::new(KEY, why)
        }
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            FileFault::new(CERT, format!("cannot be used: {error}"))
        }
        _ => FileFault::new(KEY, format!("cannot be used: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn each_unusable_file_is_named_by_its_own_key() {
        let ((cert, key), (_, other)) = (pair(), pair());
        let found = |cert: &str, key: &str, ca: Option<&str>| -> Vec<&str> {
            let faults =
                find_faults(Some(cert.as_bytes()), Some(key.as_bytes()), ca.map(str::as_bytes));
            faults.iter().map(|fault| fault.key).collect()
        };
        assert!(found(&cert, &key, None).is_empty());
        assert!(found(&cert, &key, Some(&cert)).is_empty());
        assert_eq!(found(&cert, &other, None), [KEY]);
        assert_eq!(found(&key, &key, None), [CERT]);
        assert_eq!(found(&cert, &cert, None), [KEY]);
        assert_eq!(found(&cert, &key, Some("")), [CLIENT_CA]);
        assert_eq!(found("", "", Some("")), [CERT, KEY, CLIENT_CA]);
        let fault = server_config(cert.as_bytes(), other.as_bytes(), None).unwrap_err();
        assert!(fault.why.starts_with("is the key of another certificate"), "{fault}");
    }
}
