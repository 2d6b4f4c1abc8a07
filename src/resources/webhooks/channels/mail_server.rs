//! The dialog with a mail server, always under TLS.
//!
//! Invariants
//! - nothing secret is sent before the TLS handshake has proved the name of the server: before it, only `EHLO` and
//!   `STARTTLS` are sent;
//! - what follows the answer to `STARTTLS` in plaintext is not read as an answer: the answers before the handshake are
//!   read byte by byte, so that an injected one remains in the socket and fails the handshake. lettre's own `STARTTLS`
//!   would keep it in its buffer and accept it afterwards;
//! - e14: the socket is opened by [`Outbound`], after the guard.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp as lettre_smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{self, Data, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::client::TlsStream;
use tracing::warn;

use super::{Outcome, Smtp, SmtpTls, Verdict};
use crate::net::connect::{ConnectError, Protocol};
use crate::resources::webhooks::connections::{ReceiverStream, Slot};
use crate::resources::webhooks::outbound::Outbound;

/// Time for a connection, and for a TLS handshake.
const STEP_TIME: Duration = Duration::from_secs(10);
/// Time to say goodbye after the mail was accepted. The mail counts as delivered in any case.
const QUIT_TIME: Duration = Duration::from_millis(250);
/// Maximum length of an answer before the handshake, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Maximum length of all answers after the handshake, in bytes.
const SESSION_BYTES_MAX: usize = 256 * 1024;
/// What lettre reads first after `STARTTLS`: the real greeting was read before.
const GREETING: &[u8] = b"220 ready\r\n";

/// A mail to send.
#[derive(Debug)]
pub(super) struct Mail {
    /// Sender.
    pub(super) from: Address,
    /// Recipients.
    pub(super) to: Vec<Address>,
    /// Headers and body.
    pub(super) bytes: Vec<u8>,
}

/// Sends a mail. A temporary refusal (4xx) is retried, a permanent one (5xx) is not. At least one of the recipients must
/// be accepted, and none may be refused temporarily.
pub(super) async fn deliver(
    outbound: &Outbound,
    slot: &Arc<Slot>,
    smtp: &Smtp,
    mail: &Mail,
) -> Result<Outcome, Outcome> {
    let hello = client_id(mail.from.domain());
    let stream = Box::new(connect(outbound, slot, smtp, &hello).await?);
    let mut session = AsyncSmtpConnection::connect_with_transport(stream, &hello)
        .await
        .map_err(|error| refused("the connection", &error))?;
    if let Some((user, password)) = &smtp.login {
        let credentials = Credentials::new(user.clone(), password.expose().to_owned());
        let login = session.auth(DEFAULT_MECHANISMS, &credentials).await;
        login.map_err(|error| refused("the login", &error))?;
    }
    let outcome = transfer(&mut session, mail).await?;
    let _ = tokio::time::timeout(QUIT_TIME, session.quit()).await;
    Ok(outcome)
}

/// Returns the name with which the client introduces itself: the domain of the sender.
fn client_id(domain: &str) -> ClientId {
    let is_name = domain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    if is_name { ClientId::Domain(domain.to_owned()) } else { ClientId::default() }
}

async fn transfer(session: &mut AsyncSmtpConnection, mail: &Mail) -> Result<Outcome, Outcome> {
    let sender = commands::Mail::new(Some(mail.from.clone()), Vec::new());
    session.command(sender).await.map_err(|error| refused("the sender", &error))?;
    let mut refusals = Vec::new();
    for recipient in &mail.to {
        match session.command(Rcpt::new(recipient.clone(), Vec::new())).await {
            Ok(_) => {}
            Err(error) if error.is_permanent() => refusals.push(error),
            Err(error) => return Err(refused("a recipient", &error)),
        }
    }
    let (count, total) = (refusals.len(), mail.to.len());
    if let Some(first) = refusals.first().filter(|_| count == total) {
        return Err(refused("every recipient", first));
    }
    session.command(Data).await.map_err(|error| refused("the mail", &error))?;
    let answer = session.message(&mail.bytes).await;
    let answer = answer.map_err(|error| refused("the mail", &error))?;
    let mut outcome = Outcome::delivered(answer.code().into());
    if let Some(first) = refusals.first() {
        outcome.error = refused(&format!("{count} of {total} recipients"), first).error;
    }
    Ok(outcome)
}

/// Returns the outcome of a step that the mail server has refused, or that failed.
fn refused(what: &str, error: &lettre_smtp::Error) -> Outcome {
    match error.status().map(u16::from) {
        Some(code) => refused_with(what, code),
        None if error.is_client() => {
            let why = format!("the mail server does not support {what}");
            Outcome::not_delivered(Verdict::Failed, None, why)
        }
        None => broken(what),
    }
}

fn refused_with(what: &str, code: u16) -> Outcome {
    let verdict = if (500..600).contains(&code) { Verdict::Failed } else { Verdict::Retry };
    let why = format!("the mail server refuses {what} with {code}");
    Outcome::not_delivered(verdict, Some(code), why)
}

fn broken(what: &str) -> Outcome {
    let why = format!("the connection to the mail server failed during {what}");
    Outcome::not_delivered(Verdict::Retry, None, why)
}

/// Connects to the mail server and switches to TLS.
async fn connect(
    outbound: &Outbound,
    slot: &Arc<Slot>,
    smtp: &Smtp,
    hello: &ClientId,
) -> Result<Session, Outcome> {
    let host = smtp.host.as_str();
    let connected = outbound.connect(slot, (host, smtp.port), true, STEP_TIME).await;
    let tcp = connected.map_err(|error| not_connected(host, &error))?;
    let (tcp, greeting) = match smtp.tls {
        SmtpTls::Implicit => (tcp, None),
        SmtpTls::Starttls => (start_tls(tcp, &hello.to_string()).await?, Some(GREETING)),
    };
    let handshake = outbound.handshake(tcp, host, Protocol::Smtp, STEP_TIME).await;
    let stream = handshake.map_err(|error| not_connected(host, &error))?;
    Ok(Session { greeting: greeting.unwrap_or_default(), stream, left: SESSION_BYTES_MAX })
}

/// Returns the outcome of an attempt without a connection, and logs why. The outcome contains no address.
fn not_connected(host: &str, error: &ConnectError) -> Outcome {
    warn!(host, %error, "no secure connection to a mail server");
    let why = match error {
        ConnectError::Forbidden(_) => "the mail server has a forbidden address",
        ConnectError::Unresolved(_) => "the name of the mail server cannot be resolved",
        ConnectError::Unconnected { .. } => "the mail server accepts no connection",
        ConnectError::Tls(_) | ConnectError::TlsTimeout | ConnectError::Protocol => {
            "the TLS handshake with the mail server failed"
        }
    };
    Outcome::not_delivered(Verdict::Retry, None, why)
}

/// Reads the greeting, and asks for TLS. Returns the connection with nothing read beyond the answer.
async fn start_tls<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    hello: &str,
) -> Result<S, Outcome> {
    expect(&mut stream, 220, "the connection").await?;
    let offered = ask(&mut stream, &format!("EHLO {hello}"), 250).await?;
    if !offered.iter().any(|line| line.eq_ignore_ascii_case("STARTTLS")) {
        // Perhaps an attacker has removed it: nothing is sent without TLS.
        let why = "the mail server does not offer STARTTLS";
        return Err(Outcome::not_delivered(Verdict::Retry, None, why));
    }
    ask(&mut stream, "STARTTLS", 220).await?;
    Ok(stream)
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    command: &str,
    wanted: u16,
) -> Result<Vec<String>, Outcome> {
    let step = command.split(' ').next().unwrap_or_default();
    let line = format!("{command}\r\n");
    stream.write_all(line.as_bytes()).await.map_err(|_| broken(step))?;
    expect(stream, wanted, step).await
}

/// Reads an answer with this code. Returns the texts of its lines.
async fn expect<S: AsyncRead + Unpin>(
    stream: &mut S,
    wanted: u16,
    step: &str,
) -> Result<Vec<String>, Outcome> {
    let (code, lines) = read_answer(stream).await.map_err(|_| broken(step))?;
    if code == wanted { Ok(lines) } else { Err(refused_with(step, code)) }
}

async fn read_answer<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(u16, Vec<String>)> {
    let (mut lines, mut left, mut first) = (Vec::new(), ANSWER_BYTES_MAX, None);
    loop {
        let line = read_line(stream, &mut left).await?;
        let (code, is_last, text) = parse_line(&line).ok_or(io::ErrorKind::InvalidData)?;
        if *first.get_or_insert(code) != code {
            return Err(io::ErrorKind::InvalidData.into());
        }
        lines.push(text.to_owned());
        if is_last {
            return Ok((code, lines));
        }
    }
}

/// Reads a line byte by byte, so that nothing behind it is read.
async fn read_line<S: AsyncRead + Unpin>(stream: &mut S, left: &mut usize) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        *left = left.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
        line.push(stream.read_u8().await?);
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Returns the code of a line, whether it is the last one, and its text.
fn parse_line(line: &str) -> Option<(u16, bool, &str)> {
    let (code, rest) = line.split_at_checked(3)?;
    let code = code.bytes().all(|b| b.is_ascii_digit()).then(|| code.parse().ok())??;
    match rest.chars().next() {
        None => Some((code, true, "")),
        Some(' ') => Some((code, true, &rest[1..])),
        Some('-') => Some((code, false, &rest[1..])),
        Some(_) => None,
    }
}

/// A connection under TLS, for lettre: first it returns the greeting that was read before the handshake.
#[derive(Debug)]
struct Session {
    greeting: &'static [u8],
    stream: TlsStream<ReceiverStream>,
    left: usize,
}

impl AsyncTokioStream for Session {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().0.peer_addr()
    }
}

impl AsyncRead for Session {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { greeting, stream, left } = self.get_mut();
        if !greeting.is_empty() {
            let (now, later) = greeting.split_at(greeting.len().min(buffer.remaining()));
            buffer.put_slice(now);
            *greeting = later;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(stream).poll_read(cx, buffer);
        match left.checked_sub(buffer.filled().len() - before) {
            Some(now) => *left = now,
            // lettre reads a line without a limit.
            None => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        }
        polled
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a server that sends all of this at once. Returns what the client made of it and what it sent.
    async fn play(answers: &[u8]) -> (Result<Vec<u8>, Outcome>, String) {
        let (client, mut server) = tokio::io::duplex(ANSWER_BYTES_MAX + 1_024);
        server.write_all(answers).await.unwrap();
        server.shutdown().await.unwrap();
        let started = start_tls(client, "sg.example").await;
        let left = match started {
            Ok(mut stream) => {
                let mut left = Vec::new();
                stream.read_to_end(&mut left).await.unwrap();
                Ok(left)
            }
            Err(outcome) => Err(outcome),
        };
        let mut sent = String::new();
        server.read_to_string(&mut sent).await.unwrap();
        (left, sent)
    }

    #[tokio::test]
    async fn text_injected_after_starttls_is_not_read_as_an_answer() {
        let answers = b"220 a\r\n250-b\r\n250-STARTTLS\r\n250 HELP\r\n220 go\r\n235 injected\r\n";
        let (left, sent) = play(answers).await;
        assert_eq!(left.unwrap(), b"235 injected\r\n", "it remains for the handshake, which fails");
        assert_eq!(sent, "EHLO sg.example\r\nSTARTTLS\r\n");
    }

    #[tokio::test]
    async fn a_server_without_starttls_gets_nothing_but_a_greeting() {
        for offered in
            ["250 HELP\r\n", "250-STARTTLSX\r\n250 XSTARTTLS\r\n", "250-x\r\n250 AUTH\r\n"]
        {
            let (result, sent) = play(format!("220 a\r\n{offered}").as_bytes()).await;
            let outcome = result.unwrap_err();
            assert_eq!((outcome.verdict, outcome.code), (Verdict::Retry, None), "{offered}");
            assert_eq!(sent, "EHLO sg.example\r\n");
        }
    }

    #[tokio::test]
    async fn a_temporary_refusal_is_retried_and_a_permanent_one_is_not() {
        for (answers, verdict, code) in [
            ("421 busy\r\n", Verdict::Retry, Some(421)),
            ("554 go away\r\n", Verdict::Failed, Some(554)),
            ("220 a\r\n502 what\r\n", Verdict::Failed, Some(502)),
            ("220 a\r\n250 STARTTLS\r\n454 later\r\n", Verdict::Retry, Some(454)),
            ("220 a\r\n250 STARTTLS\r\n250 ok\r\n", Verdict::Retry, Some(250)),
            ("220 a\r\n", Verdict::Retry, None),
            ("", Verdict::Retry, None),
        ] {
            let outcome = play(answers.as_bytes()).await.0.unwrap_err();
            assert_eq!((outcome.verdict, outcome.code), (verdict, code), "{answers}");
        }
    }

    #[tokio::test]
    async fn a_malformed_or_endless_answer_is_refused() {
        let endless = format!("220 {}", "x".repeat(ANSWER_BYTES_MAX));
        let many = "220-x\r\n".repeat(ANSWER_BYTES_MAX / 7 + 1);
        for answers in
            ["+22 a\r\n", "220_a\r\n", "22\r\n", "220é\r\n", "220-a\r\n221 b\r\n", "é20 a\r\n"]
        {
            assert_eq!(play(answers.as_bytes()).await.0.unwrap_err().code, None, "{answers}");
        }
        for answers in [endless, many] {
            assert_eq!(play(answers.as_bytes()).await.0.unwrap_err().code, None);
        }
    }

    #[test]
    fn the_name_of_the_client_is_a_domain_or_an_address() {
        assert_eq!(client_id("sg.example").to_string(), "sg.example");
        assert_eq!(client_id("[::1]").to_string(), "[127.0.0.1]");
    }
}
