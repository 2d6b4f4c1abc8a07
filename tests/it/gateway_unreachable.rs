//! Why a gateway cannot be reached, in the response of its registration and in `last_error`.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::pem::PemObject;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Script, Simulator, SimulatorOptions, Times};

use crate::support::eventually;
use crate::support::server::TestServer;
use crate::tls::{Issuer, create_ca, localhost, sign_certificate};

/// Timeout of a probe: longer than a handshake takes on a busy machine.
const PROBE_TIME: Duration = Duration::from_secs(30);

/// Starts a gateway with a certificate and its key, both PEM.
async fn start_over_tls((cert, key): (String, String)) -> Simulator {
    let chain = vec![rustls_pki_types::CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let options = SimulatorOptions { tls: Some(tls), ..SimulatorOptions::new(Generation::V0_1) };
    Simulator::start(options).await.unwrap()
}

fn expired_certificate(ca: &Issuer) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = localhost();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

/// Registers a gateway on a port of 127.0.0.1, over TLS if it is given a CA. Checks the error.
async fn assert_error(sg: &TestServer, name: &str, port: u16, ca: Option<&Issuer>, error: &str) {
    let scheme = if ca.is_some() { pb::GatewayScheme::Https } else { pb::GatewayScheme::Http };
    let request = pb::RegisterGatewayRequest {
        name: name.to_owned(),
        endpoint: format!("127.0.0.1:{port}"),
        scheme: scheme.into(),
        ca_cert: ca.map(|ca| ca.pem().into_bytes().into()).unwrap_or_default(),
        ..Default::default()
    };
    let registered = sg.admin().gateways().register_gateway(request).await.unwrap();
    let registered = registered.into_inner().gateway.unwrap();
    assert_eq!(registered.status(), pb::GatewayStatus::Unreachable, "{registered:?}");
    let begin = format!("gateway `{name}` cannot be reached: ");
    let shown = &registered.last_error;
    assert!(shown.starts_with(&begin) && shown.contains(error), "{shown}");
    assert!(!shown.contains("127.0.0.1"), "the address is not repeated: {shown}");
    let test = pb::TestGatewayRequest { gateway: name.to_owned(), ..Default::default() };
    let tested = sg.admin().gateways().test_gateway(test).await.unwrap().into_inner();
    assert!(!tested.reachable && tested.error.contains(error), "{tested:?}");
}

sqlite_tests! {
    tuned |config| config.gateways.probe_timeout_seconds = PROBE_TIME.as_secs();
    an_unreachable_gateway_is_registered_with_the_cause_and_what_to_do,
}

async fn an_unreachable_gateway_is_registered_with_the_cause_and_what_to_do(sg: TestServer) {
    let (ca, stranger) = (create_ca("gateways"), create_ca("strangers"));
    let plain = Simulator::start(SimulatorOptions::new(Generation::V0_1)).await.unwrap();
    let over_tls = start_over_tls(sign_certificate(&ca, localhost())).await;
    let other_name = vec![SanType::DnsName("gateway.example".try_into().unwrap())];
    let renamed = start_over_tls(sign_certificate(&ca, other_name)).await;
    let expired = start_over_tls(expired_certificate(&ca)).await;
    let silent = Simulator::start(SimulatorOptions::new(Generation::V0_1)).await.unwrap();
    silent.script("Health", Script::Hang, Times::All);

    let port = |simulator: &Simulator| simulator.addr().port();
    assert_error(&sg, "closed", 1, None, "the connection was refused").await;
    let asked = || {
        let calls = silent.calls();
        calls
            .iter()
            .filter(|(path, _)| path.ends_with("/Health"))
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    // It is probed at its registration and by the test.
    let passing = async {
        for times in 1_u64..=2 {
            eventually("it is probed", || async { asked() >= times }).await;
            sg.app.clock.advance(PROBE_TIME);
        }
    };
    tokio::join!(assert_error(&sg, "silent", port(&silent), None, "timed out"), passing);
    assert_error(&sg, "tls-to-plaintext", port(&plain), Some(&ca), "set the scheme to `http`")
        .await;
    assert_error(&sg, "plaintext-to-tls", port(&over_tls), None, "the scheme").await;
    assert_error(&sg, "unknown-ca", port(&over_tls), Some(&stranger), "unknown CA").await;
    assert_error(&sg, "renamed", port(&renamed), Some(&ca), "has another name").await;
    assert_error(&sg, "expired", port(&expired), Some(&ca), "has expired").await;
    for simulator in [plain, over_tls, renamed, expired, silent] {
        simulator.stop().await;
    }
    sg.finish().await;
}
