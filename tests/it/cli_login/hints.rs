//! What the command line prints if it cannot connect: the cause, and what to try.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use shoreguard::db::Engine;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Home, wait};
use crate::commands::text;
use crate::support::child::reserve_address;
use crate::support::server::{TestServer, boot, config};
use crate::support::{DbLocation, limit};
use crate::tls::{Issuer, create_ca, localhost, sign_certificate};

sqlite_tests! {
    https_to_a_port_without_tls_is_explained,
}

/// Runs `whoami`, which must not reach the server. The CAs of the host are those in a file.
async fn explain(home: &Home, endpoint: &str, more: &[&str], cas: &str) -> String {
    let arguments = [&["whoami", "--endpoint", endpoint][..], more].concat();
    let mut command = home.command(&arguments);
    let done = wait(command.env("SSL_CERT_FILE", cas).spawn().unwrap()).await;
    assert_eq!(done.status.code(), Some(5), "{done:?}");
    let why = text(&done.stderr);
    assert!(why.contains("cannot be reached: ") && why.contains("\n  try: "), "{why}");
    why
}

/// Writes the certificate of a CA, and returns its path.
fn put(folder: &tempfile::TempDir, ca: &Issuer) -> String {
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, ca.pem()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_endpoint_without_a_server_is_explained() {
    limit::block_on(async {
        let reserved = reserve_address();
        let home = Home::of(format!("http://{}", reserved.address));
        let why = explain(&home, &home.endpoint, &[], "/nonexistent").await;
        assert!(why.contains("is the server running"), "{why}");
    });
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    limit::block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let ca = put(&folder, &create_ca("servers"));
        // The system accepts the connection, and nothing answers the handshake.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let home = Home::of(format!("https://{}", listener.local_addr().unwrap()));
        let more = ["--timeout", "1", "--ca", &ca];
        let why = explain(&home, &home.endpoint, &more, &ca).await;
        assert!(why.contains("no answer within 1 s"), "{why}");
    });
}

async fn https_to_a_port_without_tls_is_explained(sg: TestServer) {
    let (home, folder) = (Home::new(&sg), tempfile::tempdir().unwrap());
    let ca = put(&folder, &create_ca("servers"));
    let why = explain(&home, &format!("https://{}", sg.address), &["--ca", &ca], &ca).await;
    assert!(why.contains("does not use TLS on this port"), "{why}");
    sg.finish().await;
}

#[test]
fn a_private_ca_is_named_by_flag_or_context_and_http_to_tls_is_explained() {
    limit::block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let (servers, others) = (create_ca("servers"), tempfile::tempdir().unwrap());
        let (ca, other) = (put(&folder, &servers), put(&others, &create_ca("others")));
        let (cert, key) = sign_certificate(&servers, localhost());
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("cert"), cert).unwrap();
        std::fs::write(path("key"), key).unwrap();
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let mut config = config(&place, folder.path(), |_| {});
        config.server.tls.cert_path = Some(path("cert"));
        config.server.tls.key_path = Some(path("key"));
        let (app, running) = boot(config).await;
        let address = running.address();

        let home = Home::of(format!("https://{address}"));
        let why = explain(&home, &home.endpoint, &[], &other).await;
        assert!(why.contains("self-signed or of a private CA") && why.contains("--ca"), "{why}");
        let info =
            ["call", "--endpoint", home.endpoint.as_str(), "--ca", ca.as_str(), "GetServerInfo"];
        assert!(home.succeed(&info).await.contains("\"version\""));
        let add =
            ["context", "add", "tls", "--endpoint", home.endpoint.as_str(), "--ca", ca.as_str()];
        home.succeed(&add).await;
        assert!(home.succeed(&["call", "GetServerInfo"]).await.contains("\"version\""));

        let plain = format!("http://{address}");
        let why = explain(&home, &plain, &[], &other).await;
        assert!(why.contains(&format!("use `https://{address}`")), "{why}");

        app.stop.cancel();
        running.stopped().await;
        app.drain().await;
        drop(app);
        place.remove();
    });
}

/// Does TLS handshakes with a certificate, and nothing more.
async fn accept(cert: &str, key: &str) -> (String, JoinSet<()>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = acceptor.accept(socket).await;
        }
    });
    (endpoint, tasks)
}

#[test]
fn an_expired_certificate_and_one_of_another_name_are_explained() {
    limit::block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let issuer = create_ca("servers");
        let ca = put(&folder, &issuer);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = localhost();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let expired = (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem());
        let elsewhere = vec![SanType::DnsName("other.example".try_into().unwrap())];
        for ((cert, key), expected) in [
            (expired, "has expired"),
            (sign_certificate(&issuer, elsewhere), "the certificate is for another name"),
        ] {
            let (endpoint, _tasks) = accept(&cert, &key).await;
            let home = Home::of(endpoint);
            let why = explain(&home, &home.endpoint, &["--ca", &ca], &ca).await;
            assert!(why.contains(expected), "{why}");
        }
    });
}
