//! The CAs that certificates of other servers are verified with, and the TLS settings of the connections to them.
//!
//! The CAs of the system are read once per process: parsing hundreds of certificates takes many milliseconds.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::Error;

static SYSTEM_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    // Unreadable certificates are skipped; the others are still trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

/// Returns the CAs of the system, as they were when the process first needed them.
#[must_use]
pub fn system_roots() -> Arc<RootCertStore> {
    Arc::clone(&SYSTEM_ROOTS)
}

/// Begins the TLS settings of connections to other servers, whose certificates these CAs must have issued. The caller
/// decides about a certificate of its own.
///
/// # Errors
/// `Internal` if TLS cannot be set up.
pub fn client_tls(
    roots: impl Into<Arc<RootCertStore>>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?;
    Ok(builder.with_root_certificates(roots))
}

/// Returns the CAs of the system and, if given, those of a PEM file.
///
/// # Errors
/// `Invalid` if the file cannot be read or contains no certificate.
pub fn root_certificates(ca_path: Option<&Path>) -> Result<Arc<RootCertStore>, Error> {
    let system = system_roots();
    let Some(path) = ca_path else { return Ok(system) };
    let bad = || Error::invalid("ca_path", format!("`{}` holds no certificate", path.display()));
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|_| bad())?.collect();
    let own = read.ok().filter(|own| !own.is_empty()).ok_or_else(bad)?;
    let mut roots = RootCertStore::clone(&system);
    for certificate in own {
        roots.add(certificate).map_err(|_| bad())?;
    }
    Ok(Arc::new(roots))
}
