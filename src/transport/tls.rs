//! TLS of our own listener, and what a caller's certificate says.
//!
//! A certificate proves a caller only under the CA that is for callers; which one stands for whom is configured.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::access::authn::PeerCertificate;
use crate::config;
use crate::error::{Error, Reason};

/// How the listener speaks TLS.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn unusable(what: &str, error: &impl std::fmt::Display) -> Error {
    Error::unavailable(Reason::Internal, format!("`{what}` cannot be used: {error}"))
}

impl Tls {
    /// Reads certificate, key and the callers' CA; none where TLS is off.
    pub async fn load(config: &config::Tls) -> Result<Option<Self>, Error> {
        let (Some(cert_path), Some(key_path)) = (&config.cert_path, &config.key_path) else {
            return Ok(None);
        };
        let cert =
            tokio::fs::read(cert_path).await.map_err(|e| unusable("server.tls.cert_path", &e))?;
        let key =
            tokio::fs::read(key_path).await.map_err(|e| unusable("server.tls.key_path", &e))?;
        let ca = match &config.client_ca_path {
            None => None,
            Some(path) => Some(
                tokio::fs::read(path)
                    .await
                    .map_err(|e| unusable("server.tls.client_ca_path", &e))?,
            ),
        };
        let config = server_config(&cert, &key, ca.as_deref())?;
        Ok(Some(Self { acceptor: TlsAcceptor::from(Arc::new(config)) }))
    }

    /// The handshake; answers what the caller's certificate says, where it showed one.
    pub async fn accept(
        &self,
        socket: TcpStream,
    ) -> std::io::Result<(TlsStream<TcpStream>, Option<PeerCertificate>)> {
        let stream = self.acceptor.accept(socket).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.and_then(|der| peer_certificate(der));
        Ok((stream, certificate))
    }
}

fn server_config(cert: &[u8], key: &[u8], ca: Option<&[u8]>) -> Result<ServerConfig, Error> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<_, _>>()
        .map_err(|e| unusable("server.tls.cert_path", &e))?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|e| unusable("server.tls.key_path", &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?;
    let builder = match ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            for der in CertificateDer::pem_slice_iter(ca) {
                let der = der.map_err(|e| unusable("server.tls.client_ca_path", &e))?;
                roots.add(der).map_err(|e| unusable("server.tls.client_ca_path", &e))?;
            }
            // Optional: people log in with a password, programs come with a key.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|e| unusable("server.tls.client_ca_path", &e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|e| unusable("server.tls.cert_path", &e))?;
    // Calls come by HTTP/2, which is preferred; tokens are asked for by HTTP/1.1 too.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Issuer and names of a certificate; none where it can't be read.
fn peer_certificate(der: &[u8]) -> Option<PeerCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|san| san.value.general_names.as_slice()).unwrap_or_default();
    let names = names
        .iter()
        .filter_map(|name| {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "other kinds of names stand for nobody"
            )]
            match name {
                GeneralName::DNSName(dns) => Some(format!("DNS:{dns}")),
                GeneralName::URI(uri) => Some(format!("URI:{uri}")),
                GeneralName::RFC822Name(email) => Some(format!("email:{email}")),
                _ => None,
            }
        })
        .collect();
    Some(PeerCertificate { issuer: certificate.issuer().to_string(), names })
}
