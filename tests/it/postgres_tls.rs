//! TLS to PostgreSQL: used if it is required, and never with a server that cannot prove its name.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use shoreguard::boot;
use shoreguard::config::Config;
use shoreguard::db::{Db, DbOptions};
use shoreguard::error::Error;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::limit;
use crate::support::postgres::Database;

/// First message of a PostgreSQL client that wants TLS: the length and the request code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Creates a certificate authority. Returns its PEM file, and an acceptor with a certificate of it for `localhost`.
fn authority(folder: &TempDir) -> (PathBuf, TlsAcceptor) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);

    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (file, TlsAcceptor::from(Arc::new(config)))
}

/// A proxy in front of the server's socket that accepts TLS or refuses it.
struct Door {
    port: u16,
    /// Whether anything other than the request for TLS was sent unencrypted.
    plain: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Door {
    async fn open(socket: PathBuf, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        let plain = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&plain);
        tasks.spawn(async move {
            let mut callers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                callers.spawn(serve(stream, socket.clone(), tls.clone(), Arc::clone(&seen)));
            }
        });
        Self { port, plain, _tasks: tasks }
    }

    fn options(&self, host: &str, database: &Database, roots: Option<PathBuf>) -> DbOptions {
        let (port, name) = (self.port, database.name());
        let url = format!("postgres://shoreguard@{host}:{port}/{name}?sslmode=verify-full");
        DbOptions { tls_roots: roots, ..DbOptions::new(url) }
    }
}

async fn serve(
    mut stream: TcpStream,
    socket: PathBuf,
    tls: Option<TlsAcceptor>,
    plain: Arc<AtomicBool>,
) {
    let mut first = [0; SSL_REQUEST.len()];
    stream.read_exact(&mut first).await.unwrap();
    plain.fetch_or(first != SSL_REQUEST, Ordering::SeqCst);
    let Some(tls) = tls else {
        stream.write_all(b"N").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        plain.fetch_or(!rest.is_empty(), Ordering::SeqCst);
        return;
    };
    stream.write_all(b"S").await.unwrap();
    // A client that rejects the certificate closes the connection.
    let Ok(mut stream) = tls.accept(stream).await else { return };
    let mut server = UnixStream::connect(socket).await.unwrap();
    let _ = copy_bidirectional(&mut stream, &mut server).await;
}

#[track_caller]
fn assert_refused(opened: Result<Db, Error>, because: &str) {
    match opened {
        Err(Error::Unavailable { why, .. }) => assert!(why.contains(because), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_postgres_server_is_accepted_only_with_a_trusted_ca_and_its_host_name() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        let folder = tempfile::tempdir().unwrap();
        let (roots, tls) = authority(&folder);
        let door = Door::open(database.socket(), Some(tls)).await;

        let db =
            Db::open(&door.options("localhost", &database, Some(roots.clone()))).await.unwrap();
        db.ping().await.unwrap();
        let other_name = door.options("127.0.0.1", &database, Some(roots));
        assert_refused(Db::open(&other_name).await, "certificate");
        let other_authority = door.options("localhost", &database, None);
        assert_refused(Db::open(&other_authority).await, "certificate");
        assert!(!door.plain.load(Ordering::SeqCst));
        database.drop_database();
    });
}

#[test]
fn a_private_ca_is_trusted_by_its_key_in_the_configuration_or_by_the_url() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        let folder = tempfile::tempdir().unwrap();
        let (roots, tls) = authority(&folder);
        let door = Door::open(database.socket(), Some(tls)).await;
        let (port, name, roots) = (door.port, database.name(), roots.display());
        let url = format!("postgres://shoreguard@localhost:{port}/{name}?sslmode=verify-full");
        for section in [
            format!("url = '{url}'\ntls_ca_path = '{roots}'"),
            format!("url = '{url}&sslrootcert={roots}'"),
        ] {
            let key = "5a".repeat(32);
            let text = format!("[keys]\nmaster_key = '{key}'\n[database]\n{section}");
            let config = Config::from_toml(&text).unwrap();
            Db::open(&boot::db_options(&config)).await.unwrap().ping().await.unwrap();
        }
        assert!(!door.plain.load(Ordering::SeqCst));
        database.drop_database();
    });
}

#[test]
fn a_postgres_server_without_tls_receives_no_data() {
    limit::block_on(async {
        let Some(database) = Database::create_migrated().await else { return };
        let door = Door::open(database.socket(), None).await;
        assert_refused(Db::open(&door.options("localhost", &database, None)).await, "TLS");
        assert!(!door.plain.load(Ordering::SeqCst));
        database.drop_database();
    });
}
