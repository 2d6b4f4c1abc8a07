//! TLS of Shoreguard's own listener, and the contents of client certificates.
//!
//! A certificate identifies a caller only under the CA for callers; the configuration maps certificates to principals.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::access::authn::PeerCertificate;
use crate::clock::Timestamp;
use crate::config;
use crate::error::{Error, Reason};
use crate::net::{listener_tls, x509};
use crate::seal::join_parts;

/// TLS of the listener. Certificates are swapped at run time; established connections are kept.
#[derive(Debug)]
pub struct Tls {
    config: config::Tls,
    current: ArcSwap<LoadedTls>,
    /// Incremented when the CA for callers changes.
    callers: watch::Sender<u64>,
}

/// TLS files as read at one time.
pub(super) struct LoadedTls {
    pub(super) hashes: FileHashes,
    pub(super) expires_at: Option<Timestamp>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for LoadedTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedTls").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// SHA-256 of the contents of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHashes {
    /// Certificate and key.
    pub(super) own: [u8; 32],
    /// CA for callers.
    callers: [u8; 32],
}

/// Contents of the files.
pub(super) struct TlsFiles {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    ca: Option<Vec<u8>>,
}

impl TlsFiles {
    /// Returns the hashes of the contents.
    pub(super) fn hashes(&self) -> FileHashes {
        let ca = self.ca.as_deref().unwrap_or_default();
        FileHashes {
            own: Sha256::digest(join_parts(&[&self.cert, &self.key])).into(),
            callers: Sha256::digest(ca).into(),
        }
    }
}

fn unusable_file(what: &str, error: &impl std::fmt::Display) -> Error {
    Error::unavailable(Reason::Internal, format!("`{what}` cannot be used: {error}"))
}

/// A verified client certificate, and a notification of the end of its validity here.
#[derive(Debug)]
pub(super) struct VerifiedCertificate {
    /// Contents of the certificate.
    pub(super) certificate: PeerCertificate,
    changed: watch::Receiver<u64>,
}

impl VerifiedCertificate {
    /// Waits until the CA that verified the certificate is no longer the CA for callers (T14).
    pub(super) async fn wait_ca_changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Tls {
    /// Reads the certificate, the key and the CA for callers. Returns `None` if TLS is off.
    pub async fn load(config: &config::Tls) -> Result<Option<Self>, Error> {
        if !config.is_enabled() {
            return Ok(None);
        }
        let loaded = LoadedTls::from_files(&read_files(config).await?)?;
        let current = ArcSwap::from_pointee(loaded);
        Ok(Some(Self { config: config.clone(), current, callers: watch::channel(0).0 }))
    }

    /// Returns what is served now.
    pub(super) fn current(&self) -> Arc<LoadedTls> {
        self.current.load_full()
    }

    /// Reads the files again.
    pub(super) async fn read_files(&self) -> Result<TlsFiles, Error> {
        read_files(&self.config).await
    }

    /// Uses `served` for new connections. If the CA for callers differs, closes the connections with a client
    /// certificate.
    pub(super) fn swap(&self, served: LoadedTls) {
        let callers = served.hashes.callers;
        let previous = self.current.swap(Arc::new(served));
        if previous.hashes.callers != callers {
            self.callers.send_modify(|version| *version += 1);
        }
    }

    /// Performs the TLS handshake. Returns the client certificate with the stream, if the caller sent one.
    pub(super) async fn accept(
        &self,
        socket: TcpStream,
    ) -> std::io::Result<(TlsStream<TcpStream>, Option<VerifiedCertificate>)> {
        // Subscribes before the CA is used, so that a change in between is noticed.
        let changed = self.callers.subscribe();
        let acceptor = self.current.load().acceptor.clone();
        let stream = acceptor.accept(socket).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.and_then(|der| peer_certificate(der));
        Ok((stream, certificate.map(|certificate| VerifiedCertificate { certificate, changed })))
    }
}

impl LoadedTls {
    /// Builds the TLS configuration of files that belong together.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub(super) fn from_files(files: &TlsFiles) -> Result<Self, Error> {
        let config = listener_tls::server_config(&files.cert, &files.key, files.ca.as_deref())
            .map_err(|fault| Error::unavailable(Reason::Internal, fault.to_string()))?;
        let first = CertificateDer::from_pem_slice(&files.cert);
        let expires_at = first.ok().and_then(|der| x509::expiry(&der));
        Ok(Self {
            hashes: files.hashes(),
            expires_at,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }
}

async fn read_files(config: &config::Tls) -> Result<TlsFiles, Error> {
    let file = async |key: &str, path: &Path| {
        tokio::fs::read(path).await.map_err(|error| unusable_file(key, &error))
    };
    let (Some(cert), Some(key)) = (&config.cert_path, &config.key_path) else {
        return Err(Error::internal("TLS without files"));
    };
    Ok(TlsFiles {
        cert: file("server.tls.cert_path", cert).await?,
        key: file("server.tls.key_path", key).await?.into(),
        ca: match &config.client_ca_path {
            None => None,
            Some(path) => Some(file("server.tls.client_ca_path", path).await?),
        },
    })
}

/// Returns the issuer, names and expiry of a certificate, or `None` if it cannot be parsed.
fn peer_certificate(der: &[u8]) -> Option<PeerCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|san| san.value.general_names.as_slice()).unwrap_or_default();
    let names = names
        .iter()
        .filter_map(|name| {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "other kinds of names identify no caller"
            )]
            match name {
                GeneralName::DNSName(dns) => Some(format!("DNS:{dns}")),
                GeneralName::URI(uri) => Some(format!("URI:{uri}")),
                GeneralName::RFC822Name(email) => Some(format!("email:{email}")),
                _ => None,
            }
        })
        .collect();
    let ends_at = Timestamp::from_unix_seconds(certificate.validity().not_after.timestamp());
    Some(PeerCertificate { issuer: certificate.issuer().into(), names, ends_at })
}
