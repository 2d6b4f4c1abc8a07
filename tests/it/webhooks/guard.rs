//! Receivers that must not be connected to, at creation and at each connection.

use std::net::TcpListener;
use std::process::Stdio;

use shoreguard::config::Config;
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;

use super::receiver::Receiver;
use super::{allow_loopback, by_email, change, create, created, request, settings, update};
use crate::support::child::ChildSetup;
use crate::support::dns::{self, address_record};
use crate::support::server::TestServer;
use crate::support::{DbLocation, limit};

const HOST: &str = "hook.fleet.test";

/// The server may connect only to 127.0.0.2 on this host, and uses a DNS server of the test.
fn asking(config: &mut Config) {
    dns::use_dns_server(config, &[address_record(HOST, "127.0.0.2")]);
    config.webhooks.allowed_networks = vec!["127.0.0.2/32".parse().unwrap()];
}

sqlite_tests! {
    e14_only_public_addresses_are_accepted,
}

sqlite_tests! {
    tuned allow_loopback;
    e14_a_network_that_is_named_is_accepted,
}

sqlite_tests! {
    tuned asking;
    e14_a_name_that_moves_is_checked_at_each_connection,
    e14_a_receiver_without_tls_must_be_known_to_be_in_an_allowed_network,
}

const FORBIDDEN: [&str; 18] = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0xa9.0xfe.43518",
    "localhost.",
    "a.localhost",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
    "[fd00:ec2::254]",
];

/// Switches a requested webhook off. Only addresses of private networks show that these are refused, and only a public
/// address shows that it is accepted. A creation connects to none of them, and nothing is ever sent to a webhook that
/// is switched off, even if an address were accepted by mistake.
fn switched_off(asked: pb::CreateWebhookRequest) -> pb::CreateWebhookRequest {
    pb::CreateWebhookRequest { active: Some(false), ..asked }
}

async fn e14_only_public_addresses_are_accepted(sg: TestServer) {
    let admin = sg.admin();
    for host in FORBIDDEN {
        let by_url = switched_off(request(&format!("https://{host}/hook")));
        let refused = create(&admin, by_url).await;
        let refused = assert_refused!(refused, InvalidArgument, "ADDRESS_FORBIDDEN");
        assert!(refused.message().contains("`url`: "), "{refused:?}");
        assert!(refused.message().contains("allowed_networks"), "{refused:?}");
        let smtp_host = host.trim_matches(['[', ']']).to_owned();
        let by_mail = by_email(pb::WebhookEmailSettings { smtp_host, ..settings() });
        let refused = create(&admin, switched_off(by_mail)).await;
        let refused = assert_refused!(refused, InvalidArgument, "ADDRESS_FORBIDDEN");
        assert!(refused.message().contains("`email.smtp_host`: "), "{refused:?}");
    }
    let plain = create(&admin, switched_off(request("http://8.8.8.8/hook"))).await;
    let plain = assert_refused!(plain, InvalidArgument, "ADDRESS_FORBIDDEN");
    assert!(plain.message().contains("`url`: ") && plain.message().contains("https"), "{plain:?}");
    let id = created(&sg, switched_off(request("https://8.8.8.8/hook"))).await;
    let moved =
        pb::UpdateWebhookRequest { url: "https://10.0.0.1/".into(), ..change(id, &["url"]) };
    assert_refused!(update(&sg, moved).await, InvalidArgument, "ADDRESS_FORBIDDEN");
    sg.finish().await;
}

async fn e14_a_network_that_is_named_is_accepted(sg: TestServer) {
    let receiver = Receiver::start().await;
    let id = created(&sg, request(&receiver.url())).await;
    let test = pb::TestWebhookRequest { webhook_id: id, ..Default::default() };
    assert!(sg.admin().webhooks().test_webhook(test).await.unwrap().into_inner().delivered);
    let elsewhere = create(&sg.admin(), request("https://[::1]/hook")).await;
    assert_refused!(elsewhere, InvalidArgument, "ADDRESS_FORBIDDEN");
    sg.finish().await;
}

async fn e14_a_name_that_moves_is_checked_at_each_connection(sg: TestServer) {
    let mut dns = dns::take_dns_server();
    let receiver = Receiver::start_at("127.0.0.2:0".parse().unwrap()).await;
    let port = receiver.address.port();
    // The target of the attack: a service on the same port that only this host can reach.
    let inside = TcpListener::bind(("127.0.0.1", port)).unwrap();
    inside.set_nonblocking(true).unwrap();
    let webhook_id = created(&sg, request(&format!("http://{HOST}:{port}/hook"))).await;
    let tested = async || {
        let test = pb::TestWebhookRequest { webhook_id, ..Default::default() };
        sg.admin().webhooks().test_webhook(test).await.unwrap().into_inner()
    };
    assert!(tested().await.delivered);
    for moved in [&["127.0.0.1"][..], &["127.0.0.3"], &["127.0.0.2", "127.0.0.1"]] {
        let records: Vec<_> = moved.iter().map(|ip| address_record(HOST, ip)).collect();
        dns.serve(&records);
        let answer = tested().await;
        let error = answer.attempt.unwrap().error;
        assert_eq!(
            (answer.delivered, error.as_str()),
            (false, "the address must not be connected to")
        );
        let again = create(&sg.admin(), request(&format!("http://{HOST}:{port}/hook"))).await;
        assert_refused!(again, InvalidArgument, "ADDRESS_FORBIDDEN");
    }
    assert_eq!(receiver.received().len(), 1);
    let untouched = inside.accept().unwrap_err();
    assert_eq!(untouched.kind(), std::io::ErrorKind::WouldBlock, "the server has connected");
    sg.finish().await;
}

async fn e14_a_receiver_without_tls_must_be_known_to_be_in_an_allowed_network(sg: TestServer) {
    let _dns = dns::take_dns_server();
    let by_name = |url: &str| switched_off(request(url));
    created(&sg, by_name(&format!("http://{HOST}/hook"))).await;
    // The DNS server of the test does not know it.
    let refused = create(&sg.admin(), by_name("http://unknown.fleet.test/hook")).await;
    let refused = assert_refused!(refused, InvalidArgument, "ADDRESS_FORBIDDEN");
    assert!(refused.message().contains("cannot be resolved"), "{refused:?}");
    // With TLS, each connection proves the host.
    created(&sg, by_name("https://unknown.fleet.test/hook")).await;
    // Nor does it know these forms of addresses.
    for host in ["2130706433", "0x7f000001", "127.0.0.1.", "localhost."] {
        let refused = create(&sg.admin(), by_name(&format!("https://{host}/hook"))).await;
        assert_refused!(refused, InvalidArgument, "ADDRESS_FORBIDDEN");
    }
    sg.finish().await;
}

#[test]
fn e14_a_proxy_of_the_environment_is_not_used() {
    limit::block_on(async {
        let (place, key) = DbLocation::with_admin(Engine::Sqlite).await.unwrap();
        place.wait_closed().await;
        let setup = ChildSetup::new(&format!(
            "[database]\nurl = \"{}\"\n[keys]\nmaster_key = \"{}\"\n\
             [webhooks]\nallowed_networks = [\"127.0.0.0/8\"]",
            place.url(),
            "5a".repeat(32)
        ));
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        proxy.set_nonblocking(true).unwrap();
        let mut command = setup.command(&["serve"]);
        for scheme in ["http", "https", "all"] {
            let url = format!("http://{}", proxy.local_addr().unwrap());
            command.env(format!("{scheme}_proxy"), &url);
            command.env(format!("{}_PROXY", scheme.to_ascii_uppercase()), &url);
        }
        let log = std::fs::File::create(setup.log_path()).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        let child = setup.serve(command).await;
        let (admin, receiver) = (child.caller(Some(&key)), Receiver::start().await);
        let webhook_id =
            create(&admin, request(&receiver.url())).await.unwrap().webhook.unwrap().id;
        let test = pb::TestWebhookRequest { webhook_id, ..Default::default() };
        let tested = admin.webhooks().test_webhook(test).await.unwrap().into_inner();
        assert!(tested.delivered, "{tested:?}");
        assert_eq!(receiver.received().len(), 1);
        assert_eq!(child.stop().await.code(), Some(0));
        let unused = proxy.accept().unwrap_err();
        assert_eq!(unused.kind(), std::io::ErrorKind::WouldBlock, "the proxy was connected to");
    });
}
