//! Replacing the listener's certificate and the CA of client certificates while the server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls_pki_types::pem::PemObject;
use shoreguard::app::App;
use shoreguard::config::{ClientIdentity, Config};
use shoreguard::db::Engine;
use shoreguard::feed;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::auth::setup;
use shoreguard::server::listen::RunningServer;
use shoreguard::server::reload::TLS_RELOAD;
use shoreguard::workers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::dump;
use crate::support::server::{Bearer, Caller, boot_with, config};
use crate::support::{DbLocation, limit};
use crate::tls::{
    Issuer, channel, create_ca, localhost, sign_certificate, sign_certificate_for, uri,
};

const DAY: Duration = Duration::from_hours(24);

/// The files of a server, and its certificate authorities.
struct Files {
    folder: PathBuf,
    servers: Issuer,
    callers: Issuer,
}

impl Files {
    /// Replaces a file atomically, as `mv` does.
    fn put(&self, name: &str, content: &str) {
        let new = self.folder.join(format!("{name}.new"));
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, self.folder.join(name)).unwrap();
    }

    /// Writes a new certificate for the listener. Returns its bytes.
    fn serve(&self, life: Duration) -> Vec<u8> {
        let (cert, key) = sign_certificate_for(&self.servers, localhost(), life);
        self.put("cert", &cert);
        self.put("key", &key);
        CertificateDer::from_pem_slice(cert.as_bytes()).unwrap().to_vec()
    }
}

fn files(folder: &Path) -> Files {
    let (folder, servers) = (folder.to_owned(), create_ca("servers"));
    Files { folder, servers, callers: create_ca("callers") }
}

fn with_files(config: &mut Config, files: &Files) {
    let path = |name: &str| Some(files.folder.join(name));
    config.server.tls.cert_path = path("cert");
    config.server.tls.key_path = path("key");
    config.server.tls.client_ca_path = path("ca");
    config.server.tls.client_identities = vec![ClientIdentity {
        issuer: "CN=callers".to_owned(),
        san: "URI:spiffe://example/ci".to_owned(),
        principal: "service_principal:1".to_owned(),
    }];
}

/// A server that uses these files.
struct Server {
    app: Arc<App>,
    running: RunningServer,
    files: Files,
    place: DbLocation,
    folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        files.serve(DAY * 365);
        files.put("ca", &files.callers.pem());
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let mut config = config(&place, folder.path(), |_| {});
        with_files(&mut config, &files);
        // Only the test looks for new files.
        let follow = |app: &Arc<App>| {
            app.spawn(feed::follow(Arc::clone(app)));
        };
        let (app, running) = boot_with(config, follow).await;
        Self { app, running, files, place, folder }
    }

    fn port(&self) -> u16 {
        self.running.address().port()
    }

    fn caller(&self, identity: Option<&(String, String)>, bearer: Option<String>) -> Caller {
        let channel = channel(self.port(), &self.files.servers.pem(), identity);
        Caller { channel, bearer: Bearer(bearer) }
    }

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
fn on_sqlite<F: Future<Output = ()>>(test: impl FnOnce(Server) -> F) {
    limit::block_on(async { test(Server::start().await).await });
}

async fn look(app: &Arc<App>) -> usize {
    workers::run_once(app, &TLS_RELOAD).await.unwrap().unwrap().done
}

/// Opens a connection. Returns it with the certificate of the server.
async fn connect(port: u16, ca: &Issuer) -> (TlsStream<TcpStream>, Vec<u8>) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    (stream, shown)
}

/// Returns whether a connection still gets responses.
async fn answers(stream: &mut TlsStream<TcpStream>) -> bool {
    let asked = stream.write_all(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut answer = [0; 12];
    asked.is_ok() && stream.read_exact(&mut answer).await.is_ok() && &answer == b"HTTP/1.1 404"
}

async fn told(app: &App, name: &str) -> usize {
    dump::table(&app.db, "events").await.matches(name).count()
}

#[test]
fn a_new_certificate_is_loaded_and_an_invalid_one_is_refused() {
    on_sqlite(async |sg: Server| {
        let (app, files) = (Arc::clone(&sg.app), &sg.files);
        let (mut standing, first) = connect(sg.port(), &files.servers).await;
        assert_eq!(look(&app).await, 0, "nothing has changed");

        let second = files.serve(DAY * 365);
        assert_eq!(look(&app).await, 1);
        assert_ne!(first, second);
        assert_eq!(connect(sg.port(), &files.servers).await.1, second);
        assert!(answers(&mut standing).await, "an open connection stays open");
        assert_eq!(told(&app, "server.certificate_reloaded").await, 1);

        // First only one file of the pair is replaced; then the file is invalid; then the certificate has expired; then
        // the file is missing.
        let (cert, key) = sign_certificate(&files.servers, localhost());
        files.put("cert", &cert);
        assert_eq!(look(&app).await, 0);
        assert_eq!(look(&app).await, 0);
        assert_eq!(
            told(&app, "server.certificate_refused").await,
            1,
            "the refusal is reported once"
        );
        files.put("key", &key);
        assert_eq!(look(&app).await, 1, "now they fit");
        let third = connect(sg.port(), &files.servers).await.1;
        assert_ne!(third, second);
        files.put("cert", "no certificate");
        assert_eq!(look(&app).await, 0);
        files.serve(DAY);
        app.clock.advance(DAY * 2);
        assert_eq!(look(&app).await, 0, "it has ended");
        std::fs::remove_file(files.folder.join("cert")).unwrap();
        assert_eq!(look(&app).await, 0);
        assert_eq!(told(&app, "server.certificate_refused").await, 4);
        assert_eq!(connect(sg.port(), &files.servers).await.1, third);
        drop(standing);
        sg.finish().await;
    });
}

#[test]
fn t14_a_client_certificate_is_refused_after_its_ca_is_replaced() {
    on_sqlite(async |sg: Server| {
        sg.admin().await.create_key("ci", pb::Role::Viewer).await;
        feed::refresh(&sg.app).await.unwrap();
        let of =
            |ca: &Issuer| sg.caller(Some(&sign_certificate(ca, uri("spiffe://example/ci"))), None);
        let ci = of(&sg.files.callers);
        let watch = pb::WatchEventsRequest::default();
        let mut events = ci.events().watch_events(watch).await.unwrap().into_inner();
        let (mut standing, _) = connect(sg.port(), &sg.files.servers).await;

        let others = create_ca("callers");
        sg.files.put("ca", &others.pem());
        assert_eq!(look(&sg.app).await, 1);
        while let Ok(Some(_)) = events.message().await {}
        let who = pb::GetCurrentIdentityRequest {};
        let dead = ci.auth().get_current_identity(who).await;
        assert!(dead.is_err(), "callers no longer prove themselves with its CA");
        let seen = of(&others).auth().get_current_identity(who).await.unwrap().into_inner();
        assert_eq!(seen.actor, "sp:ci");
        assert!(answers(&mut standing).await, "a connection without a certificate stays open");
        drop(standing);
        sg.finish().await;
    });
}
