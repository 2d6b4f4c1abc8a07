//! Callers that are identified by client certificates.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use super::{OldClient, old};
use crate::{ClientAuth, Generation, Simulator, SimulatorOptions};

#[tokio::test]
async fn a_client_certificate_identifies_the_caller() {
    let authority = {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let issue = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &authority).unwrap(), key)
    };
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), ring.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let (certificate, key) = issue("localhost");
    let tls = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let options = SimulatorOptions {
        tls: Some(tls),
        client_auth: ClientAuth::Certificate,
        ..SimulatorOptions::new(Generation::V0_0)
    };
    let simulator = Simulator::start(options).await.unwrap();
    let connect = |identity: Option<Identity>| {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority.pem()))
            .domain_name("localhost");
        let tls = match identity {
            Some(identity) => tls.identity(identity),
            None => tls,
        };
        let address = format!("https://{}", simulator.addr());
        OldClient::new(
            Channel::from_shared(address).unwrap().tls_config(tls).unwrap().connect_lazy(),
        )
    };
    let (certificate, key) = issue("ana");
    let identity = Identity::from_pem(certificate.pem(), key.serialize_pem());
    let request = || old::GetCurrentUserRequest {};
    let user = connect(Some(identity)).get_current_user(request()).await.unwrap().into_inner();
    assert_eq!((user.subject.as_str(), user.identity_provider.as_str()), ("ana", "mtls"));
    let refused = connect(None).get_current_user(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    simulator.stop().await;
}
