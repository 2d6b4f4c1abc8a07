//! Mails of webhooks, sent to a mail server in a process of its own, and to servers that cheat.

use serde_json::{Value, json};
use shoreguard::clock::Timestamp;
use shoreguard::net::names::Resolver;
use shoreguard::net::roots::{root_certificates, system_roots};
use shoreguard::resources::webhooks::channels::{Message, Outcome, Smtp, SmtpTls, Verdict, email};
use shoreguard::resources::webhooks::connections::SlotHolder;
use shoreguard::resources::webhooks::outbound::Outbound;
use shoreguard::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::limit;
use crate::support::mail::{MailKeys, MailServer};

const USER: &str = "robot";
const PASSWORD: &str = "a-secret-password";
const LOGIN: Option<(&str, &str)> = Some((USER, PASSWORD));

fn message() -> Message {
    let data =
        json!({ "approval": 7, "sandbox": "bäx\r\nBcc: eve@evil.example", "gateway": "edge" });
    Message {
        id: "msg_0123".to_owned(),
        event: "approval.pending".to_owned(),
        time: Timestamp::from_unix_micros(1_700_000_000_000_000),
        sequence: 7,
        data: data.as_object().unwrap().clone(),
        link: None,
    }
}

fn smtp(port: u16, tls: SmtpTls) -> Smtp {
    Smtp {
        host: "localhost".to_owned(),
        port,
        tls,
        login: Some((USER.to_owned(), Secret::new(PASSWORD))),
        from: "shoreguard@sg.example".to_owned(),
        to: vec!["ana@example.com".to_owned(), "ben@example.com".to_owned()],
    }
}

/// Returns connections that trust the CA of the test and may reach this host.
fn outbound(keys: &MailKeys) -> Outbound {
    let this_host = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let roots = root_certificates(Some(&keys.ca())).unwrap();
    Outbound::new(Resolver::system(), &this_host, roots).unwrap()
}

/// Sends a mail on a connection with a slot of its own.
async fn send(outbound: &Outbound, smtp: &Smtp) -> Outcome {
    let slot = outbound.connections().acquire(SlotHolder::Tests).await;
    email::send(outbound, &slot, smtp, &message()).await
}

/// Sends a mail through a server that refuses these steps. Returns the outcome, and what the server has accepted.
async fn send_to(
    tls: SmtpTls,
    login: Option<(&str, &str)>,
    refusals: &Value,
) -> (Outcome, Vec<Value>) {
    let keys = MailKeys::new();
    let server = MailServer::start(&keys, tls.as_str(), login, refusals);
    let smtp = Smtp {
        login: login.map(|_| (USER.to_owned(), Secret::new(PASSWORD))),
        ..smtp(server.port, tls)
    };
    let outcome = send(&outbound(&keys), &smtp).await;
    (outcome, server.stop())
}

fn assert_mail(mail: &Value) {
    assert_eq!(mail["sender"], "shoreguard@sg.example");
    let text = mail["text"].as_str().unwrap();
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nMessage-ID: <msg_0123@sg.example>\r\n"), "{head}");
    assert!(head.contains("\r\nAuto-Submitted: auto-generated\r\n"), "{head}");
    assert!(!head.contains("Bcc"), "{head}");
}

#[test]
fn a_mail_is_sent_under_starttls_with_a_login() {
    limit::block_on(async {
        let keys = MailKeys::new();
        let mut server = MailServer::start(&keys, "starttls", LOGIN, &json!({}));
        let (outbound, smtp) = (outbound(&keys), smtp(server.port, SmtpTls::Starttls));
        let mut texts = Vec::new();
        // e12: a repeated delivery has the same bytes.
        for _ in 0..2 {
            let outcome = send(&outbound, &smtp).await;
            assert_eq!(outcome, Outcome::delivered(250));
            let mail = server.next_mail();
            assert_mail(&mail);
            assert_eq!(mail["user"], USER);
            assert_eq!(mail["to"], json!(["ana@example.com", "ben@example.com"]));
            texts.push(mail["text"].clone());
        }
        assert_eq!(texts[0], texts[1]);
    });
}

#[test]
fn a_mail_is_sent_under_implicit_tls_and_without_a_login() {
    limit::block_on(async {
        for (tls, login) in
            [(SmtpTls::Implicit, LOGIN), (SmtpTls::Implicit, None), (SmtpTls::Starttls, None)]
        {
            let (outcome, mails) = send_to(tls, login, &json!({})).await;
            assert_eq!(outcome, Outcome::delivered(250));
            assert_eq!(mails.len(), 1);
            assert_mail(&mails[0]);
            assert_eq!(mails[0]["user"], login.map_or(Value::Null, |(user, _)| json!(user)));
        }
    });
}

#[test]
fn a_temporary_refusal_of_a_mail_is_retried_and_a_permanent_one_fails() {
    limit::block_on(async {
        for (refusals, verdict, code) in [
            (json!({ "MAIL": "451 later" }), Verdict::Retry, 451),
            (json!({ "MAIL": "553 no" }), Verdict::Failed, 553),
            (json!({ "ana@example.com": "450 later" }), Verdict::Retry, 450),
            (
                json!({ "ana@example.com": "550 no", "ben@example.com": "551 no" }),
                Verdict::Failed,
                550,
            ),
            (json!({ "DATA": "452 full" }), Verdict::Retry, 452),
            (json!({ "DATA": "554 no" }), Verdict::Failed, 554),
        ] {
            let (outcome, mails) = send_to(SmtpTls::Starttls, LOGIN, &refusals).await;
            assert_eq!((outcome.verdict, outcome.code), (verdict, Some(code)), "{refusals}");
            assert!(outcome.error.unwrap().contains(&code.to_string()), "{refusals}");
            assert_eq!(mails, Vec::<Value>::new(), "{refusals}");
        }
    });
}

#[test]
fn a_refused_recipient_does_not_stop_the_mail_to_the_others() {
    limit::block_on(async {
        let refusals = json!({ "ana@example.com": "550 no such user" });
        let (outcome, mails) = send_to(SmtpTls::Starttls, LOGIN, &refusals).await;
        assert_eq!((outcome.verdict, outcome.code), (Verdict::Delivered, Some(250)));
        let error = "the mail server refuses 1 of 2 recipients with 550";
        assert_eq!(outcome.error.as_deref(), Some(error));
        assert_eq!(mails[0]["to"], json!(["ben@example.com"]));
    });
}

#[test]
fn a_refused_login_to_a_mail_server_names_no_secret() {
    limit::block_on(async {
        let wrong = Some((USER, "another password"));
        let (outcome, mails) = send_to(SmtpTls::Starttls, wrong, &json!({})).await;
        assert_eq!((outcome.verdict, outcome.code), (Verdict::Failed, Some(535)));
        assert_eq!(outcome.error.as_deref(), Some("the mail server refuses the login with 535"));
        assert!(!format!("{outcome:?}").contains(PASSWORD));
        assert_eq!(mails, Vec::<Value>::new());
    });
}

#[test]
fn a_server_without_starttls_gets_no_mail() {
    limit::block_on(async {
        let keys = MailKeys::new();
        let server = MailServer::start(&keys, "none", None, &json!({}));
        for tls in [SmtpTls::Starttls, SmtpTls::Implicit] {
            // With `Implicit`, its greeting is not an answer of TLS.
            let outcome = send(&outbound(&keys), &smtp(server.port, tls)).await;
            assert_eq!((outcome.verdict, outcome.code), (Verdict::Retry, None), "{tls}");
        }
        assert_eq!(server.stop(), Vec::<Value>::new());
    });
}

/// Plays a server that sends these answers, one after each line. Returns the outcome, and what it has received.
async fn cheat(answers: &[&str]) -> (Outcome, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let keys = MailKeys::new();
    let (outbound, smtp) = (outbound(&keys), smtp(port, SmtpTls::Starttls));
    let played = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        for (at, answer) in answers.iter().enumerate() {
            stream.write_all(answer.as_bytes()).await.unwrap();
            if at + 1 < answers.len() {
                read_line(&mut stream, &mut received).await;
            }
        }
        // A reset ends the connection as well.
        let _ = stream.read_to_end(&mut received).await;
        received
    };
    tokio::join!(send(&outbound, &smtp), played)
}

async fn read_line(stream: &mut TcpStream, received: &mut Vec<u8>) {
    loop {
        let byte = stream.read_u8().await.unwrap();
        received.push(byte);
        if byte == b'\n' {
            return;
        }
    }
}

fn assert_no_secret(received: &[u8]) {
    let text = String::from_utf8_lossy(received);
    for secret in [USER, PASSWORD, "AUTH", "MAIL", "ana@example.com", "approval"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn a_stripped_starttls_is_refused_before_a_secret_is_sent() {
    limit::block_on(async {
        let answers = ["220 mail\r\n", "250-mail\r\n250 AUTH PLAIN LOGIN\r\n"];
        let (outcome, received) = cheat(&answers).await;
        assert_eq!((outcome.verdict, outcome.code), (Verdict::Retry, None));
        assert_eq!(outcome.error.as_deref(), Some("the mail server does not offer STARTTLS"));
        assert_eq!(String::from_utf8(received).unwrap(), "EHLO sg.example\r\n");
    });
}

#[test]
fn an_injected_answer_fails_the_handshake_before_a_secret_is_sent() {
    limit::block_on(async {
        // Sent at once: answers to the EHLO and the AUTH that would follow the handshake.
        let injected =
            "220 go\r\n250-mail\r\n250 AUTH PLAIN LOGIN\r\n235 ok\r\n250 ok\r\n250 ok\r\n";
        let answers = ["220 mail\r\n", "250-mail\r\n250 STARTTLS\r\n", injected];
        let (outcome, received) = cheat(&answers).await;
        assert_eq!((outcome.verdict, outcome.code), (Verdict::Retry, None));
        let error = "the TLS handshake with the mail server failed";
        assert_eq!(outcome.error.as_deref(), Some(error));
        assert!(received.starts_with(b"EHLO sg.example\r\nSTARTTLS\r\n"));
        assert_no_secret(&received);
    });
}

#[test]
fn a_server_that_cannot_prove_its_name_gets_no_login() {
    limit::block_on(async {
        let keys = MailKeys::new();
        let this_host = ["127.0.0.0/8".parse().unwrap()];
        for tls in [SmtpTls::Starttls, SmtpTls::Implicit] {
            let server = MailServer::start(&keys, tls.as_str(), LOGIN, &json!({}));
            // Its CA is not trusted.
            let stranger = Outbound::new(Resolver::system(), &this_host, system_roots()).unwrap();
            // Its certificate is for another name.
            let by_address = Smtp { host: "127.0.0.1".to_owned(), ..smtp(server.port, tls) };
            let (trusting, by_name) = (outbound(&keys), smtp(server.port, tls));
            for (outbound, smtp) in [(&stranger, &by_name), (&trusting, &by_address)] {
                let outcome = send(outbound, smtp).await;
                assert_eq!((outcome.verdict, outcome.code), (Verdict::Retry, None));
            }
            assert_eq!(server.stop(), Vec::<Value>::new());
        }
    });
}

#[test]
fn e14_a_mail_server_is_connected_to_only_at_an_allowed_address() {
    limit::block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = Outbound::new(Resolver::system(), &[], system_roots()).unwrap();
        for host in ["127.0.0.1", "127.0.0.2", "localhost", "::ffff:127.0.0.1", "0.0.0.0"] {
            for tls in [SmtpTls::Starttls, SmtpTls::Implicit] {
                let smtp = Smtp { host: host.to_owned(), ..smtp(port, tls) };
                let outcome = send(&closed, &smtp).await;
                let error = "the mail server has a forbidden address";
                assert_eq!(outcome.error.as_deref(), Some(error), "{host}");
            }
        }
        let waiting = listener.accept().map_err(|error| error.kind());
        assert_eq!(waiting.unwrap_err(), std::io::ErrorKind::WouldBlock, "no connection");
    });
}
