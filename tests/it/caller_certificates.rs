//! Client certificates: the principals they identify, and their expiry.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::HandshakeKind;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use shoreguard::app::App;
use shoreguard::config::ClientIdentity;
use shoreguard::db::Engine;
use shoreguard::feed;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::auth::setup;
use shoreguard::server::listen::RunningServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::server::{Bearer, Caller, boot, config};
use crate::support::{DbLocation, limit};
use crate::tls::{Issuer, channel, create_ca, localhost, sign_certificate, sign_certificate_for};

const DAY: Duration = Duration::from_hours(24);
const WHO: pb::GetCurrentIdentityRequest = pb::GetCurrentIdentityRequest {};

/// A server that authenticates callers by their certificates.
struct Server {
    app: Arc<App>,
    running: RunningServer,
    servers: Issuer,
    callers: Issuer,
    place: DbLocation,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server that maps names in certificates to principals.
    async fn start(engine: Engine, identities: &[(&str, &str)]) -> Self {
        let identities = identities.iter().map(|(san, principal)| ("CN=callers", *san, *principal));
        let identities: Vec<_> = identities.collect();
        Self::start_with(engine, create_ca("callers"), "", &identities).await
    }

    /// Starts a server with a CA for callers, more of them in PEM, and the issuer, name and principal of certificates.
    async fn start_with(
        engine: Engine,
        callers: Issuer,
        more_cas: &str,
        identities: &[(&str, &str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let servers = create_ca("servers");
        let (cert, key) = sign_certificate(&servers, localhost());
        let put = |name: &str, content: String| -> Option<PathBuf> {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            Some(path)
        };
        let place = DbLocation::new(engine).await.unwrap();
        let mut config = config(&place, folder.path(), |_| {});
        config.server.tls.cert_path = put("cert", cert);
        config.server.tls.key_path = put("key", key);
        config.server.tls.client_ca_path = put("ca", format!("{}\n{more_cas}", callers.pem()));
        let identity = |(issuer, san, principal): &(&str, &str, &str)| ClientIdentity {
            issuer: (*issuer).to_owned(),
            san: (*san).to_owned(),
            principal: (*principal).to_owned(),
        };
        config.server.tls.client_identities = identities.iter().map(identity).collect();
        let (app, running) = boot(config).await;
        Self { app, running, servers, callers, place, folder }
    }

    fn port(&self) -> u16 {
        self.running.address().port()
    }

    fn caller(&self, identity: Option<&(String, String)>, bearer: Option<String>) -> Caller {
        let channel = channel(self.port(), &self.servers.pem(), identity);
        Caller { channel, bearer: Bearer(bearer) }
    }

    /// Sets up the first admin. The service principals that it creates have IDs from 1 on.
    async fn admin(&self) -> Caller {
        let token = setup::ensure_token(&self.app).await.unwrap().unwrap();
        let (email, password) =
            ("admin@example.com".to_owned(), "correct horse battery".to_owned());
        let anonymous = self.caller(None, None);
        let request = pb::SetupRequest {
            setup_token: token.expose().to_owned(),
            email: email.clone(),
            password: password.clone(),
        };
        anonymous.auth().setup(request).await.unwrap();
        let login = pb::LoginRequest { email, password };
        let session = anonymous.auth().login(login).await.unwrap().into_inner().session_token;
        self.caller(None, Some(session))
    }

    async fn finish(self) {
        self.app.stop.cancel();
        self.running.stopped().await;
        self.app.drain().await;
        drop((self.app, self.folder));
        self.place.remove();
    }
}

/// Runs a test on SQLite only, since certificates do not depend on the engine.
fn run<F: Future<Output = ()>>(identities: &[(&str, &str)], test: impl FnOnce(Server) -> F) {
    limit::block_on(async { test(Server::start(Engine::Sqlite, identities).await).await });
}

fn names(names: &[&str]) -> Vec<SanType> {
    names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect()
}

/// Creates a CA whose name has these parts, in the order of the certificate.
fn create_named_ca(parts: &[(DnType, &str)]) -> Issuer {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in parts {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

async fn who(caller: &Caller) -> Result<pb::GetCurrentIdentityResponse, tonic::Status> {
    Ok(caller.auth().get_current_identity(WHO).await?.into_inner())
}

#[test]
fn t14_an_expired_certificate_ends_calls_and_streams_of_its_connection() {
    run(&[("URI:spiffe://example/ci", "service_principal:1")], async |sg: Server| {
        let key = sg.admin().await.create_key("ci", pb::Role::Viewer).await;
        feed::refresh(&sg.app).await.unwrap();
        let certificate =
            sign_certificate_for(&sg.callers, names(&["spiffe://example/ci"]), DAY * 2);
        let ci = sg.caller(Some(&certificate), None);
        let both = Caller { channel: ci.channel.clone(), bearer: Bearer(Some(key.clone())) };
        assert_eq!(who(&ci).await.unwrap().actor, "sp:ci");
        let watch = pb::WatchEventsRequest::default;
        let mut events = ci.events().watch_events(watch()).await.unwrap().into_inner();
        let mut of_both = both.events().watch_events(watch()).await.unwrap().into_inner();

        sg.app.clock.advance(DAY * 2);
        feed::refresh(&sg.app).await.unwrap();
        assert_refused!(who(&ci).await, Unauthenticated, "CREDENTIAL_INVALID");
        assert_refused!(who(&both).await, Unauthenticated, "CREDENTIAL_INVALID");
        for stream in [&mut events, &mut of_both] {
            let last = loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("a stream ends with a status"),
                    Err(status) => break status,
                }
            };
            assert_eq!(last.code(), tonic::Code::Unauthenticated, "{last:?}");
        }
        let by_key = sg.caller(None, Some(key));
        assert_eq!(who(&by_key).await.unwrap().actor, "sp:ci", "the key has not ended");
        sg.finish().await;
    });
}

#[test]
fn t19_a_certificate_that_matches_two_principals_is_refused() {
    let (ci, cd) = ("URI:spiffe://example/ci", "URI:spiffe://example/cd");
    let (one, two) = ("service_principal:1", "service_principal:2");
    // In either order in the configuration.
    for identities in [[(ci, one), (cd, two)], [(cd, two), (ci, one)]] {
        run(&identities, async |sg: Server| {
            let admin = sg.admin().await;
            admin.create_key("ci", pb::Role::Admin).await;
            admin.create_key("cd", pb::Role::Viewer).await;
            feed::refresh(&sg.app).await.unwrap();
            for (given, actor) in
                [("spiffe://example/ci", "sp:ci"), ("spiffe://example/cd", "sp:cd")]
            {
                let certificate =
                    sign_certificate(&sg.callers, names(&[given, "spiffe://example/other"]));
                let seen = who(&sg.caller(Some(&certificate), None)).await.unwrap();
                assert_eq!(seen.actor, actor);
            }
            for given in [
                ["spiffe://example/ci", "spiffe://example/cd"],
                ["spiffe://example/cd", "spiffe://example/ci"],
            ] {
                let certificate = sign_certificate(&sg.callers, names(&given));
                let refused = who(&sg.caller(Some(&certificate), None)).await;
                assert_refused!(refused, Unauthenticated, "CREDENTIAL_AMBIGUOUS");
            }
            sg.finish().await;
        });
    }
    // Two names of the same principal are not ambiguous.
    run(&[(ci, one), (cd, one)], async |sg: Server| {
        sg.admin().await.create_key("ci", pb::Role::Viewer).await;
        feed::refresh(&sg.app).await.unwrap();
        let certificate =
            sign_certificate(&sg.callers, names(&["spiffe://example/ci", "spiffe://example/cd"]));
        let seen = who(&sg.caller(Some(&certificate), None)).await.unwrap();
        assert_eq!((seen.actor.as_str(), seen.principal.as_str()), ("sp:ci", one));
        sg.finish().await;
    });
}

mod t12_a_principal_that_is_created_again_does_not_inherit_a_certificate {
    use super::*;

    #[test]
    fn sqlite() {
        limit::block_on(created_again(Engine::Sqlite));
    }

    #[test]
    fn postgres() {
        limit::block_on(created_again(Engine::Postgres));
    }
}

async fn created_again(engine: Engine) {
    let identities = [("URI:spiffe://example/ci", "service_principal:1")];
    let sg = Server::start(engine, &identities).await;
    let admin = sg.admin().await;
    admin.create_key("ci", pb::Role::Viewer).await;
    feed::refresh(&sg.app).await.unwrap();
    let ci = sg.caller(Some(&sign_certificate(&sg.callers, names(&["spiffe://example/ci"]))), None);
    assert_eq!(who(&ci).await.unwrap().principal, "service_principal:1");
    let delete =
        pb::DeleteServicePrincipalRequest { service_principal: "ci".into(), ..Default::default() };
    admin.service_principals().delete_service_principal(delete).await.unwrap();
    assert_refused!(who(&ci).await, Unauthenticated, "CREDENTIAL_INVALID");
    let key = admin.create_key("ci", pb::Role::Admin).await;
    assert_refused!(who(&ci).await, Unauthenticated, "CREDENTIAL_INVALID");
    let anew = who(&sg.caller(None, Some(key))).await.unwrap();
    assert_eq!(anew.principal, "service_principal:2");
    sg.finish().await;
}

#[test]
fn t14_a_tls_session_is_not_resumed_on_another_connection() {
    run(&[("URI:spiffe://example/ci", "service_principal:1")], async |sg: Server| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(sg.servers.der().clone()).unwrap();
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let (cert, key) = sign_certificate(&sg.callers, names(&["spiffe://example/ci"]));
            let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            // With the default settings of a client: it stores every session that it can resume.
            let mut tls = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_client_auth_cert(vec![cert], key)
                .unwrap();
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            let connector = TlsConnector::from(Arc::new(tls));
            for _ in 0..3 {
                let socket = TcpStream::connect(("127.0.0.1", sg.port())).await.unwrap();
                let name = "localhost".try_into().unwrap();
                let mut stream = connector.connect(name, socket).await.unwrap();
                let kind = stream.get_ref().1.handshake_kind();
                assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
                // Messages that the server sends after its handshake, such as session tickets, arrive before this
                // response.
                let request =
                    b"GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
                stream.write_all(request).await.unwrap();
                let mut answer = String::new();
                let _ = stream.read_to_string(&mut answer).await;
                assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
            }
        }
        sg.finish().await;
    });
}

#[test]
fn t19_issuers_are_compared_by_structure_and_not_as_text() {
    const SAN: &str = "URI:spiffe://example/ci";
    limit::block_on(async {
        let (organization, common) = (DnType::OrganizationName, DnType::CommonName);
        let two_parts = create_named_ca(&[(organization.clone(), "Example"), (common, "callers")]);
        // Libraries print both names as `O=Example, CN=callers`.
        let one_part = create_named_ca(&[(organization.clone(), "Example, CN=callers")]);
        let escaped = create_named_ca(&[(organization, "Example, Inc.")]);
        let more = format!("{}\n{}", one_part.pem(), escaped.pem());
        let identities = [
            ("CN=callers,O=Example", SAN, "service_principal:1"),
            (r"O=Example\, Inc.", SAN, "service_principal:2"),
        ];
        let sg = Server::start_with(Engine::Sqlite, two_parts, &more, &identities).await;
        let admin = sg.admin().await;
        admin.create_key("ci", pb::Role::Viewer).await;
        admin.create_key("cd", pb::Role::Viewer).await;
        feed::refresh(&sg.app).await.unwrap();
        let shown = async |ca: &Issuer| {
            let certificate = sign_certificate(ca, names(&["spiffe://example/ci"]));
            who(&sg.caller(Some(&certificate), None)).await
        };
        assert_eq!(shown(&sg.callers).await.unwrap().actor, "sp:ci");
        assert_eq!(shown(&escaped).await.unwrap().actor, "sp:cd");
        assert_refused!(shown(&one_part).await, Unauthenticated, "CREDENTIAL_MISSING");
        sg.finish().await;
    });
}
