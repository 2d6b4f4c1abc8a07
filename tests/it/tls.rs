//! TLS and client certificates, on the listener and towards a gateway.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use shoreguard::clock::Clock;
use shoreguard::config::{ClientIdentity, Config};
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{ClientAuth, Generation, Simulator, SimulatorOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::support::server::TestServer;
use crate::support::server::{Bearer, Caller, boot, config};
use crate::support::{DbLocation, limit};

pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn create_ca(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn sign_certificate(ca: &Issuer, sans: Vec<SanType>) -> (String, String) {
    sign_certificate_for(ca, sans, Duration::from_hours(24 * 365))
}

/// Signs a certificate that is valid for the given time.
pub(crate) fn sign_certificate_for(
    ca: &Issuer,
    sans: Vec<SanType>,
    life: Duration,
) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = sans;
    let now = u64::try_from(Clock::system().now().unix_seconds()).unwrap();
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now) + life;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

pub(crate) fn localhost() -> Vec<SanType> {
    vec![
        SanType::DnsName("localhost".try_into().unwrap()),
        SanType::IpAddress([127, 0, 0, 1].into()),
    ]
}

pub(crate) fn uri(text: &str) -> Vec<SanType> {
    vec![SanType::URI(text.try_into().unwrap())]
}

pub(crate) fn channel(port: u16, ca: &str, identity: Option<&(String, String)>) -> Channel {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
    if let Some((cert, key)) = identity {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    Endpoint::new(format!("https://127.0.0.1:{port}"))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect_lazy()
}

#[test]
fn t19_a_client_certificate_authenticates_its_configured_principal() {
    limit::block_on(async {
        let files = tempfile::tempdir().unwrap();
        let (servers, callers, strangers) =
            (create_ca("servers"), create_ca("callers"), create_ca("strangers"));
        let (cert, key) = sign_certificate(&servers, localhost());
        let path = |name: &str| files.path().join(name);
        std::fs::write(path("cert"), cert).unwrap();
        std::fs::write(path("key"), key).unwrap();
        std::fs::write(path("ca"), callers.pem()).unwrap();

        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let mut config: Config = config(&place, files.path(), |_| {});
        config.server.tls.cert_path = Some(path("cert"));
        config.server.tls.key_path = Some(path("key"));
        config.server.tls.client_ca_path = Some(path("ca"));
        config.server.tls.client_identities = vec![ClientIdentity {
            issuer: "CN=callers".to_owned(),
            san: "URI:spiffe://example/ci".to_owned(),
            principal: "service_principal:1".to_owned(),
        }];
        let (app, running) = boot(config).await;
        let port = running.address().port();
        let token = shoreguard::resources::auth::setup::ensure_token(&app).await.unwrap().unwrap();
        let caller = |identity: Option<&(String, String)>, token: Option<&str>| Caller {
            channel: channel(port, &servers.pem(), identity),
            bearer: Bearer(token.map(str::to_owned)),
        };
        let anonymous = caller(None, None);
        let (email, password) =
            ("admin@example.com".to_owned(), "correct horse battery".to_owned());
        let setup = pb::SetupRequest {
            setup_token: token.expose().to_owned(),
            email: email.clone(),
            password: password.clone(),
        };
        anonymous.auth().setup(setup).await.unwrap();
        let session = anonymous
            .auth()
            .login(pb::LoginRequest { email, password })
            .await
            .unwrap()
            .into_inner()
            .session_token;
        let admin = caller(None, Some(&session));
        let key = admin.create_key("ci", pb::Role::Operator).await;

        let ci = sign_certificate(&callers, uri("spiffe://example/ci"));
        let who = pb::GetCurrentIdentityRequest {};
        let seen =
            caller(Some(&ci), None).auth().get_current_identity(who).await.unwrap().into_inner();
        assert_eq!(seen.actor, "sp:ci");
        // The same principal twice is accepted, two different principals are not.
        caller(Some(&ci), Some(&key)).auth().get_current_identity(who).await.unwrap();
        let both = caller(Some(&ci), Some(&session)).auth().get_current_identity(who).await;
        assert_refused!(both, Unauthenticated, "CREDENTIAL_AMBIGUOUS");
        // A name with the same beginning, and a name signed by another authority.
        let near = sign_certificate(&callers, uri("spiffe://example/ci/other"));
        let refused = caller(Some(&near), None).auth().get_current_identity(who).await;
        assert_refused!(refused, Unauthenticated, "CREDENTIAL_MISSING");
        let foreign = sign_certificate(&strangers, uri("spiffe://example/ci"));
        let refused =
            caller(Some(&foreign), None).auth().get_current_identity(who).await.unwrap_err();
        // The handshake fails, so there is no response from the server. The client's error depends on which side closes
        // the connection first.
        assert_eq!(crate::support::server::reason(&refused), "", "{refused:?}");

        app.stop.cancel();
        running.stopped().await;
        app.drain().await;
    });
}

/// Sends a GET over HTTP/1.1 and TLS, offering `protocols`. Returns the negotiated protocol and the response.
async fn get_over_tls(port: u16, ca: &Issuer, protocols: &[&[u8]]) -> (Option<Vec<u8>>, String) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let mut socket = connector.connect(name, socket).await.unwrap();
    let agreed = socket.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let path = "/gateways/edge/.well-known/openid-configuration";
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer).await;
    (agreed, answer)
}

#[test]
fn both_http_versions_are_negotiated_over_tls() {
    limit::block_on(async {
        let files = tempfile::tempdir().unwrap();
        let servers = create_ca("servers");
        let (cert, key) = sign_certificate(&servers, localhost());
        let path = |name: &str| files.path().join(name);
        std::fs::write(path("cert"), cert).unwrap();
        std::fs::write(path("key"), key).unwrap();
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let mut config: Config = config(&place, files.path(), |_| {});
        config.server.tls.cert_path = Some(path("cert"));
        config.server.tls.key_path = Some(path("key"));
        let (app, running) = boot(config).await;
        let port = running.address().port();
        let (h1, h2): (&[u8], &[u8]) = (b"http/1.1", b"h2");
        for (says, agreed) in
            [(vec![h1], Some(h1)), (vec![h1, h2], Some(h2)), (vec![h2], Some(h2)), (vec![], None)]
        {
            let (got, answer) = get_over_tls(port, &servers, &says).await;
            assert_eq!(got.as_deref(), agreed);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        // gRPC calls still use HTTP/2.
        let anonymous =
            Caller { channel: channel(port, &servers.pem(), None), bearer: Bearer(None) };
        anonymous.auth().get_server_info(pb::GetServerInfoRequest {}).await.unwrap();
        app.stop.cancel();
        running.stopped().await;
        app.drain().await;
    });
}

/// Starts a gateway with a certificate of `servers`. It requires client certificates of `clients`.
pub(crate) async fn start_mtls_gateway(servers: &Issuer, clients: &Issuer) -> Simulator {
    let (cert, key) = sign_certificate(servers, localhost());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(clients.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = vec![rustls_pki_types::CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    let mut options = SimulatorOptions::new(Generation::V0_1);
    options.tls = Some(tls);
    options.client_auth = ClientAuth::Certificate;
    Simulator::start(options).await.unwrap()
}

server_tests! { a_gateway_is_reached_over_mutual_tls }

async fn a_gateway_is_reached_over_mutual_tls(sg: TestServer) {
    let (servers, clients) = (create_ca("gateways"), create_ca("clients"));
    let simulator = start_mtls_gateway(&servers, &clients).await;

    let (client_cert, client_key) = sign_certificate(&clients, uri("spiffe://example/shoreguard"));
    let request = pb::RegisterGatewayRequest {
        name: "secure".into(),
        endpoint: format!("localhost:{}", simulator.addr().port()),
        scheme: pb::GatewayScheme::Https.into(),
        ca_cert: servers.pem().into_bytes().into(),
        credentials: Some(pb::GatewayCredentials {
            client_cert: client_cert.into_bytes().into(),
            client_key: client_key.into_bytes().into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let admin = sg.admin();
    let stored = admin
        .gateways()
        .register_gateway(request.clone())
        .await
        .unwrap()
        .into_inner()
        .gateway
        .unwrap();
    assert_eq!(
        (stored.status(), stored.auth_mode()),
        (pb::GatewayStatus::Healthy, pb::GatewayAuthMode::Mtls)
    );
    assert!(stored.has_client_key);
    let user = shoreguard::pb::v0_1::openshell::v1::GetCurrentUserRequest {};
    admin.openshell_v0_1().get_current_user(user).await.unwrap();

    // It is not trusted if only the system's authorities are used.
    let untrusted = pb::RegisterGatewayRequest {
        name: "untrusted".into(),
        ca_cert: bytes::Bytes::new(),
        ..request.clone()
    };
    let stored =
        admin.gateways().register_gateway(untrusted).await.unwrap().into_inner().gateway.unwrap();
    assert_eq!(stored.status(), pb::GatewayStatus::Unreachable);
    let other = sign_certificate(&clients, uri("spiffe://example/other"));
    let mut mixed = request.credentials.clone().unwrap();
    mixed.client_key = other.1.into_bytes().into();
    let mixed =
        pb::RegisterGatewayRequest { name: "mixed".into(), credentials: Some(mixed), ..request };
    assert_refused!(
        admin.gateways().register_gateway(mixed).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    simulator.stop().await;
    sg.finish().await;
}
